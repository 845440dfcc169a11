"""`PretrainedRestorer`: super-resolution and denoising by networks that were trained on other images.

The networks are those of `core.pretraining`. They see one component of the image at a time: the luminance of
photographs, or each channel of other images.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from napari_siren.core.forward.back_projection import back_project
from napari_siren.core.forward.operator import ForwardOperator
from napari_siren.core.image.noise import NoiseModel
from napari_siren.core.image.samples import ImageLayout
from napari_siren.core.pretraining.camera import RADIUS, SIGMA
from napari_siren.core.pretraining.network import restore
from napari_siren.core.restoration.pretrained.components import Components
from napari_siren.core.restoration.pretrained.weights import Weights
from napari_siren.core.restoration.zero_shot import FLIPS, Flip
from napari_siren.errors import StorageError

# Largest scale of the training. Larger scales take several stages.
_LARGEST_STAGE = 4.0
# Number of passes for results of up to so many pixels.
_PASSES = ((1 << 22, 8), (1 << 23, 4))
# Smallest standard deviation of the noise that is added to a smaller copy, in normalised values.
_LEAST_NOISE = 0.004


class PretrainedRestorer:
    """A restorer without steps: its network is ready.

    Parameters
    ----------
    values
        Image, (channels, rows, columns), float32, normalised.
    layout
        Layout of the image.
    weights
        The network and its origin.
    noise
        Noise model of each channel of `values`.
    operator
        Forward operator of the pixels, for super-resolution. None denoises the image on its own grid.
    residual
        Standard deviation of the noise in normalised values, to which a render agrees with the pixels.
    low_precision
        Whether the convolutions are in bfloat16.
    """

    default_passes: ClassVar[int] = len(FLIPS)
    whole_image: ClassVar[bool] = False

    def __init__(
        self,
        values: Tensor,
        layout: ImageLayout,
        weights: Weights,
        noise: Sequence[NoiseModel],
        operator: ForwardOperator | None = None,
        residual: float = 0.0,
        low_precision: bool = False,
    ) -> None:
        self.finished = True
        self.weights = weights
        self._values, self._operator, self._residual, self._noise = values, operator, residual, noise
        self._components = Components(layout, weights.absolute)
        # A copy: `to` would move the network of other fits too.
        self._network = copy.deepcopy(weights.network).to(values.device)
        self._dtype = torch.bfloat16 if low_precision else torch.float32
        self._interpolation = ForwardOperator.from_kind("point", 2)

    @property
    def enlarges(self) -> bool:
        """Whether it is for super-resolution."""
        return self._operator is not None

    def step(self, done: float) -> float:
        """Return 0: there is nothing to train."""
        return 0.0

    @torch.no_grad()
    def predict(self, shape: Sequence[int], passes: int | None = None, values: Tensor | None = None) -> Tensor:
        """Return the restored image on a grid, (channels, *shape), normalised.

        Parameters
        ----------
        shape
            Rows and columns of the grid.
        passes
            Number of flipped and rotated images whose predictions are averaged, 1 to 8. None is 8, and less for large
            results: it gains 0.1 dB.
        values
            Another image with the same layout of channels and the same normalisation, (channels, rows, columns).
            None is the image itself.
        """
        image = self._values if values is None else values
        passes = passes_for(math.prod(shape)) if passes is None else passes
        if self._operator is None:
            return self._denoised(image, passes)
        fine = image
        sizes = list(zip(image.shape[1:], shape, strict=True))
        stages = max(1, math.ceil(math.log(max(m / n for n, m in sizes), _LARGEST_STAGE) - 1e-9))
        for stage in range(1, stages + 1):
            rows, columns = (round(n * (m / n) ** (stage / stages)) for n, m in sizes)
            fine = self._enlarged(fine, (rows, columns), passes if stage == stages else 1)
            fine = back_project(fine, image, self._operator, self._residual)
        return fine

    @torch.no_grad()
    def smaller_copy(self, shape: Sequence[int]) -> Tensor:
        """Return the image as observed with fewer pixels, (channels, *shape), with the same noise."""
        assert self._operator is not None
        copy = self._operator(self._values, shape)
        noise = np.random.default_rng(0).standard_normal(copy.shape, dtype=np.float32)
        return copy + max(_LEAST_NOISE, self._residual) * torch.from_numpy(noise).to(copy)

    @torch.no_grad()
    def risk(self) -> float:
        """Return an unbiased estimate of the mean squared error of a denoised image, in squared normalised values.

        It is Stein's unbiased risk estimate for Gaussian noise, with a divergence by finite differences (Ramani, Blu
        and Unser 2008, doi 10.1109/TIP.2008.2001404).
        """
        variance = torch.stack([m.variance(v) for m, v in zip(self._noise, self._values, strict=True)])
        generator = np.random.default_rng(0)
        direction = torch.from_numpy(generator.standard_normal(self._values.shape, dtype=np.float32)).to(self._values)
        step = 0.1 * variance.mean().sqrt().clamp_min(1e-4)
        prediction = self._denoised(self._values, 1)
        change = (self._denoised(self._values + step * direction, 1) - prediction) / step
        divergence = (variance * direction * change).mean()
        return float((prediction - self._values).square().mean() - variance.mean() + 2 * divergence)

    def state(self) -> dict[str, Tensor]:
        """Return the hash of the weights, as the state."""
        return {"weights": torch.frombuffer(bytearray(bytes.fromhex(self.weights.sha256)), dtype=torch.uint8)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Check that a state belongs to the same weights.

        Raises
        ------
        KeyError
            The state has no hash of weights.
        StorageError
            The weights have changed.
        """
        if not torch.equal(tensors["weights"], self.state()["weights"]):
            raise StorageError(
                "the saved state was made with other pretrained weights. Start the fit anew, or set pretrained to the "
                "file of those weights."
            )

    def warm_start(self, tensors: Mapping[str, Tensor]) -> None:
        """Ignore other images: the network does not change."""

    def extra_metadata(self) -> dict[str, Any]:
        """Return the name and the hash of the weights."""
        return {"pretrained": self.weights.metadata()}

    def _enlarged(self, values: Tensor, size: tuple[int, int], passes: int) -> Tensor:
        """Return the image on a finer grid: the network's first component, and interpolation for the others."""
        fine = self._interpolation(values, size)
        components, variances = self._components.split(values), self._variances(values)
        if len(components) > 1 and self._components.are_colours:
            details = self._restored(components[0], variances[0], size, passes) - self._components.split(fine)[0]
            return fine + self._components.as_grey(details)
        restored = [self._restored(c, v, size, passes) for c, v in zip(components, variances, strict=True)]
        return self._components.join(torch.stack(restored))

    def _denoised(self, values: Tensor, passes: int) -> Tensor:
        components, variances = self._components.split(values), self._variances(values)
        size = (values.shape[1], values.shape[2])
        restored = [self._restored(c, v, size, passes) for c, v in zip(components, variances, strict=True)]
        return self._components.join(torch.stack(restored))

    def _restored(self, component: Tensor, variance: Tensor, size: tuple[int, int], passes: int) -> Tensor:
        """Return a component on a grid, the mean over flipped and rotated images."""
        inputs = torch.stack([component, variance.clamp_min(0).sqrt(), torch.zeros_like(component)])
        inputs = inputs[: self._network.shape.inputs]
        total = torch.zeros(size, device=component.device)
        for flip in FLIPS[:passes]:
            turned = (size[1], size[0]) if flip.turned else size
            total += flip.back(self._run(flip, inputs, turned))
        return total / min(passes, len(FLIPS))

    def _run(self, flip: Flip, inputs: Tensor, size: tuple[int, int]) -> Tensor:
        return restore(self._network, flip(inputs)[None].contiguous(), size, self._dtype)[0]

    def _variances(self, values: Tensor) -> Tensor:
        """Return the noise variance of each component, at the smoothed signal: (components, rows, columns)."""
        if self._network.shape.inputs == 1:  # it does not see the noise
            return torch.zeros_like(values)
        smooth = [
            gaussian_filter(channel, SIGMA, mode="nearest", radius=RADIUS) for channel in values.cpu().float().numpy()
        ]
        channels: list[npt.NDArray[np.float32]] = [
            np.asarray(model.variance(signal), np.float32) for model, signal in zip(self._noise, smooth, strict=True)
        ]
        return self._components.variances(torch.from_numpy(np.stack(channels)).to(values))


def passes_for(pixels: int) -> int:
    """Return the number of flipped and rotated images to average, for a result with a number of pixels."""
    return next((passes for most, passes in _PASSES if pixels <= most), 1)
