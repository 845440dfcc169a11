"""`PretrainedModel` and `Prediction`: the application of a pretrained network to images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from napari_siren.core.clock import Cancellation
from napari_siren.core.degradation.camera import RADIUS, SIGMA
from napari_siren.core.forward.back_projection import back_project
from napari_siren.core.forward.operator import ForwardOperator
from napari_siren.core.noise.model import NoiseModel
from napari_siren.core.pretrained_network.network import PretrainedNetwork, restore
from napari_siren.core.restoration.flips import FLIPS, Flip
from napari_siren.core.restoration.pretrained.components import Components

# Largest scale of the training. Larger scales take several stages.
_LARGEST_STAGE = 4.0
# Number of passes for results of up to so many pixels; then one. To denoise a picture with 4 passes instead of 8 costs
# 0.01 dB, with 2 passes 0.03 dB.
_PASSES = ((1 << 22, len(FLIPS)), (1 << 23, 4))
_DENOISING_PASSES = ((1 << 17, len(FLIPS)), (1 << 20, 4), (1 << 22, 2))
_INTERPOLATION = ForwardOperator.from_kind("point", 2)


def passes_for(pixels: int, denoised_picture: bool = False) -> int:
    """Return the number of flipped and rotated images to average.

    Parameters
    ----------
    pixels
        Number of pixels of the result.
    denoised_picture
        Whether the result is a denoised picture. Otherwise it is an enlarged picture, or a denoised stack.
    """
    table = _DENOISING_PASSES if denoised_picture else _PASSES
    return next((passes for most, passes in table if pixels <= most), 1)


@dataclass(frozen=True, eq=False)
class PretrainedModel:
    """A pretrained network with everything it needs to know about a kind of image.

    Parameters
    ----------
    network
        The network, on the device of the images.
    components
        The components of an image that the network sees.
    noise
        Noise model of each channel.
    operator
        Forward operator of the pixels, for super-resolution. None denoises an image on its own grid.
    residual
        Standard deviation of the noise in normalised values, to which a render agrees with the pixels.
    dtype
        Dtype of the convolutions.
    cancellation
        Request to end the computation.
    """

    network: PretrainedNetwork
    components: Components
    noise: Sequence[NoiseModel]
    operator: ForwardOperator | None
    residual: float
    dtype: torch.dtype
    cancellation: Cancellation

    def inputs(self, values: Tensor, beside: Sequence[Tensor] = ()) -> Tensor:
        """Return the inputs of the network for an image, (components, inputs, rows, columns).

        Super-resolution of colours restores only the first component. The others are interpolated.

        Parameters
        ----------
        values
            The image, (channels, rows, columns), normalised.
        beside
            Images before and after it, for networks for stacks.
        """
        parts, variances = self.components.split(values), self._variances(values)
        if self.operator is not None and self.components.are_colours:
            parts, variances = parts[:1], variances[:1]
        others = [self.components.split(image) for image in beside] or [torch.zeros_like(parts)]
        maps = torch.stack([parts, variances.clamp_min(0).sqrt(), *others], dim=1)
        return maps[:, : self.network.shape.inputs]

    def restored(self, inputs: Tensor, size: tuple[int, int], flip: Flip) -> Tensor:
        """Return the restored components on a grid, from a flipped or rotated image."""
        turned = (size[1], size[0]) if flip.turned else size
        images = [
            restore(self.network, flip(part)[None].contiguous(), turned, self.dtype, check=self.cancellation.check)
            for part in inputs
        ]
        return torch.stack([flip.back(image[0]) for image in images])

    def joined(self, components: Tensor, image: Tensor) -> Tensor:
        """Return the channels for restored components of an image."""
        if self.operator is None or not self.components.are_colours:
            return self.components.join(components)
        luminance = self.components.split(image)[0]
        details = components[0] - _INTERPOLATION(luminance, components.shape[1:])
        fine = _INTERPOLATION(image, components.shape[1:])
        for channel, share in zip(fine, self.components.per_luminance, strict=True):
            channel.add_(details, alpha=share)
        return fine

    def deviation(self, values: Tensor) -> float | Tensor:
        """Return the standard deviation of the noise for `back_project`: of each pixel for noisy micrographs."""
        if self.components.absolute or self.residual == 0:
            return self.residual
        return self._variances_of_channels(values).clamp_min(0).sqrt()

    def _variances(self, values: Tensor) -> Tensor:
        """Return the noise variance of each component, at the smoothed signal: (components, rows, columns)."""
        if self.network.shape.inputs == 1:  # it does not see the noise
            return torch.zeros_like(values)
        return self.components.variances(self._variances_of_channels(values))

    def _variances_of_channels(self, values: Tensor) -> Tensor:
        smooth = [
            gaussian_filter(channel, SIGMA, mode="nearest", radius=RADIUS) for channel in values.cpu().float().numpy()
        ]
        channels: list[npt.NDArray[np.float32]] = [
            np.asarray(model.variance(signal), np.float32) for model, signal in zip(self.noise, smooth, strict=True)
        ]
        return torch.from_numpy(np.stack(channels)).to(values)


class Prediction:
    """The restored image on a grid: the mean of the network's outputs for flipped and rotated images.

    Parameters
    ----------
    model
        The network and its image model.
    image
        The image, (channels, rows, columns), normalised.
    shape
        Rows and columns of the grid. Scales above 4 take several stages; each enlarges the result of the last.
    """

    def __init__(self, model: PretrainedModel, image: Tensor, shape: Sequence[int]) -> None:
        self.shape = (int(shape[0]), int(shape[1]))
        self.passes = 0
        self._model, self._image = model, image
        # Image and network inputs of the last stage, and sum of the outputs so far.
        self._source = image
        self._inputs: Tensor | None = None
        self._total: Tensor | None = None

    def add_pass(self) -> None:
        """Add the output for another flip."""
        if self._inputs is None:
            self._source = self._earlier_stages()
            self._inputs = self._model.inputs(self._source)
        output = self._model.restored(self._inputs, self.shape, FLIPS[self.passes])
        self._total = output if self._total is None else self._total.add_(output)
        self.passes += 1

    def residual(self) -> float:
        """Return the mean squared difference of the network's components at the pixels, before back-projection."""
        assert self._total is not None
        assert self._inputs is not None
        fine, operator, components = self._total / self.passes, self._model.operator, self._inputs[:, 0]
        observed = fine if operator is None else operator(fine, components.shape[1:])
        return float((observed - components).square().mean())

    def after(self, passes: int) -> Tensor:
        """Return the restored image after at least some passes, (channels, *shape), consistent with the pixels."""
        while self.passes < passes:
            self.add_pass()
        assert self._total is not None
        return self._consistent(self._model.joined(self._total / self.passes, self._source))

    def _consistent(self, fine: Tensor) -> Tensor:
        operator = self._model.operator
        return (
            fine if operator is None else back_project(fine, self._image, operator, self._model.deviation(self._image))
        )

    def _earlier_stages(self) -> Tensor:
        sizes = list(zip(self._image.shape[1:], self.shape, strict=True))
        stages = max(1, math.ceil(math.log(max(m / n for n, m in sizes), _LARGEST_STAGE) - 1e-9))
        fine = self._image
        for stage in range(1, stages):
            rows, columns = (round(n * (m / n) ** (stage / stages)) for n, m in sizes)
            outputs = self._model.restored(self._model.inputs(fine), (rows, columns), FLIPS[0])
            fine = self._consistent(self._model.joined(outputs, fine))
        return fine
