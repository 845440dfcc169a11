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
import torch
from torch import Tensor

from napari_siren.core.clock import Cancellation
from napari_siren.core.forward.operator import ForwardOperator
from napari_siren.core.image.noise import NoiseModel
from napari_siren.core.image.samples import ImageLayout
from napari_siren.core.restoration.pretrained.components import Components
from napari_siren.core.restoration.pretrained.prediction import Prediction, PretrainedModel, passes_for
from napari_siren.core.restoration.pretrained.weights import Weights
from napari_siren.errors import StorageError

# Smallest standard deviation of the noise that is added to a smaller copy, in normalised values.
_LEAST_NOISE = 0.004


class PretrainedRestorer:
    """A restorer with a ready network. Each step is a pass: the network's output for another flipped image.

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
    shape
        Rows and columns of the restored image. None is the shape of the image.
    """

    # The passes of the steps are not repeated.
    default_passes: ClassVar[int] = 1
    whole_image: ClassVar[bool] = True
    ready: ClassVar[bool] = True

    def __init__(
        self,
        values: Tensor,
        layout: ImageLayout,
        weights: Weights,
        noise: Sequence[NoiseModel],
        operator: ForwardOperator | None = None,
        residual: float = 0.0,
        low_precision: bool = False,
        shape: Sequence[int] | None = None,
    ) -> None:
        self.weights = weights
        self.cancellation = Cancellation()
        self._values = values
        # A copy: `to` would move the network of other fits too.
        network = copy.deepcopy(weights.network).to(values.device)
        dtype = torch.bfloat16 if low_precision else torch.float32
        components = Components(layout, weights.absolute)
        self._model = PretrainedModel(network, components, noise, operator, residual, dtype, self.cancellation)
        self._prediction = Prediction(self._model, values, shape or values.shape[1:])
        # Number of passes of an earlier session.
        self._earlier_passes = 0

    @property
    def enlarges(self) -> bool:
        """Whether it is for super-resolution."""
        return self._model.operator is not None

    @property
    def finished(self) -> bool:
        """Whether all passes are done."""
        return self._prediction.passes >= passes_for(math.prod(self._prediction.shape))

    @torch.no_grad()
    def step(self, done: float) -> float:
        """Compute a pass, and return the mean squared difference of the image and its prediction."""
        passes = max(self._prediction.passes, self._earlier_passes) + 1
        while self._prediction.passes < passes:
            self._prediction.add_pass()
        fine, operator = self._prediction.mean(), self._model.operator
        observed = fine if operator is None else operator(fine, self._values.shape[1:])
        return float((observed - self._values).square().mean())

    @torch.no_grad()
    def predict(self, shape: Sequence[int], passes: int | None = None, values: Tensor | None = None) -> Tensor:
        """Return the restored image on a grid, (channels, *shape), normalised.

        Parameters
        ----------
        shape
            Rows and columns of the grid.
        passes
            Number of flipped and rotated images whose predictions are averaged, 1 to 8. None is 8, and less for large
            results: it gains 0.1 dB. The passes of earlier steps are used if there are more.
        values
            Another image with the same layout of channels and the same normalisation, (channels, rows, columns).
            None is the image itself.
        """
        passes = passes_for(math.prod(shape)) if passes is None else passes
        if values is None and tuple(shape) == self._prediction.shape:
            return self._prediction.after(max(passes, self._earlier_passes))
        return Prediction(self._model, self._values if values is None else values, shape).after(passes)

    @torch.no_grad()
    def smaller_copy(self, shape: Sequence[int]) -> Tensor:
        """Return the image as observed with fewer pixels, (channels, *shape), with the same noise."""
        operator = self._model.operator
        assert operator is not None
        copy = operator(self._values, shape)
        noise = np.random.default_rng(0).standard_normal(copy.shape, dtype=np.float32)
        return copy + max(_LEAST_NOISE, self._model.residual) * torch.from_numpy(noise).to(copy)

    @torch.no_grad()
    def risk(self) -> float:
        """Return an unbiased estimate of the mean squared error of a denoised image, in squared normalised values.

        It is Stein's unbiased risk estimate for Gaussian noise, with a divergence by finite differences (Ramani, Blu
        and Unser 2008, doi 10.1109/TIP.2008.2001404).
        """
        values, shape = self._values, self._values.shape[1:]
        variance = torch.stack([m.variance(v) for m, v in zip(self._model.noise, values, strict=True)])
        generator = np.random.default_rng(0)
        direction = torch.from_numpy(generator.standard_normal(values.shape, dtype=np.float32)).to(values)
        step = 0.1 * variance.mean().sqrt().clamp_min(1e-4)
        prediction, moved = (self.predict(shape, 1, image) for image in (values, values + step * direction))
        divergence = (variance * direction * (moved - prediction) / step).mean()
        return float((prediction - values).square().mean() - variance.mean() + 2 * divergence)

    def state(self) -> dict[str, Tensor]:
        """Return the hash of the weights, and the number of passes."""
        digest = torch.frombuffer(bytearray(bytes.fromhex(self.weights.sha256)), dtype=torch.uint8)
        return {"weights": digest, "passes": torch.tensor(max(self._prediction.passes, self._earlier_passes))}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a state. It has to belong to the same weights.

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
        self._earlier_passes = int(tensors["passes"]) if "passes" in tensors else 0

    def warm_start(self, tensors: Mapping[str, Tensor]) -> None:
        """Ignore other images: the network does not change."""

    def extra_metadata(self) -> dict[str, Any]:
        """Return the name and the hash of the weights."""
        return {"pretrained": self.weights.metadata()}
