"""`Targets`: the data of a fit: the image cut into tiles, with weights, each tile normalised by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from napari_siren.core.field.tiling import RenderGrid, Tiling
from napari_siren.core.image.filling import filled
from napari_siren.core.image.metrics import expected_rounded_mse, peak_of
from napari_siren.core.image.samples import Samples
from napari_siren.core.network.losses import Loss, ObservedLoss, SquaredLoss
from napari_siren.core.noise.level import noise_level
from napari_siren.core.settings.config import FitConfig

# Standard deviation of a tile's targets after its normalisation.
_SPREAD = 0.5
# Largest difference between the pixels of a constant tile and their mean, in normalised values.
_NOTHING = 1e-6
# Automatic weight of the total variation: its ratio to the standard deviation of the noise, and its smallest value.
_VARIATION_PER_NOISE = 0.1
_LEAST_VARIATION = 2e-3


@dataclass(frozen=True)
class Batch:
    """The data of every tile for one step.

    Parameters
    ----------
    x
        Input coordinates of the networks, (1, inputs, samples).
    loss
        Loss on these samples.
    inverse_share
        Total weight of all pixels of a tile over that of the pixels of the step, (tiles,); 0 if the step has none.
    """

    x: Tensor
    loss: Loss
    inverse_share: Tensor


@dataclass(frozen=True)
class Targets:
    """The pixels of every tile, and the conversion of network outputs to normalised values.

    Parameters
    ----------
    samples, tiling, config
        Image, tiles and settings.
    values
        Pixels in each tile's own scale, (tiles, channels, pixels of a tile).
    weight
        Weights, (tiles, pixels of a tile): the blending window, and 0 if a pixel is missing or held out.
    offset, scale
        Normalisation of each tile, (tiles, channels) and (tiles, 1): normalised value = offset + scale * output.
    total
        Sum of the weights of all tiles, times the number of channels.
    """

    samples: Samples
    tiling: Tiling
    config: FitConfig
    values: Tensor
    weight: Tensor
    offset: Tensor
    scale: Tensor
    total: float

    @classmethod
    def from_samples(cls, samples: Samples, tiling: Tiling, config: FitConfig) -> Targets:
        """Cut an image into tiles, and compute weights and scales.

        The weights are the blending windows. The sum of the tiles' losses is then an upper bound of the loss of the
        blended field (Jensen's inequality), although each tile is trained separately.
        """
        used = samples.used
        values = torch.from_numpy(tiling.extract(filled(samples.values, used)))
        mask = torch.from_numpy(tiling.extract(used[np.newaxis].astype(np.float32))[:, 0])
        weight = torch.from_numpy(tiling.pixel_windows()) * mask
        offset = torch.zeros(values.shape[:2])
        scale = torch.ones(len(values), 1)
        if config.standardise:
            total = weight.sum(dim=1, keepdim=True)
            # A tile without any pixel to fit is the mean of the values that were filled in from the nearest pixels.
            share = torch.where(total > 0, weight / total.clamp(min=1e-12), 1 / weight.shape[1])
            offset = (values * share[:, None]).sum(dim=2)
            values -= offset[:, :, None]
            spread = (values.square().mean(dim=1) * share).sum(dim=1, keepdim=True).sqrt()
            scale = torch.where(spread > 1e-9, spread / _SPREAD, 1.0)
            values /= scale[:, :, None]
        weights = max(1e-12, float(weight.sum(dtype=torch.float64))) * values.shape[1]
        return cls(samples, tiling, config, values, weight, offset, scale, weights)

    @cached_property
    def busy(self) -> Tensor:
        """Indices of the tiles to train, int64. A constant tile is left out: it equals its mean from the start."""
        if not self.config.standardise:
            return torch.arange(len(self.values))
        deviation = (self.values * self.scale[:, :, None]).abs().amax(dim=1) * (self.weight > 0)
        return torch.nonzero(deviation.amax(dim=1) > _NOTHING)[:, 0]

    def pick(self, tiles: Tensor) -> Targets:
        """Return the targets of some tiles, given their indices."""
        values, weight, offset, scale = (t[tiles] for t in (self.values, self.weight, self.offset, self.scale))
        return replace(self, values=values, weight=weight, offset=offset, scale=scale)

    @property
    def coordinate_scale(self) -> tuple[float, ...]:
        """Length of a pixel along each axis, in the unit of the networks' coordinates."""
        if self.config.coordinates == "pixel":
            return (1.0,) * len(self.tiling.axes)
        return tuple(2 / max(1, axis.size - 1) for axis in self.tiling.axes)

    @property
    def coordinates(self) -> Tensor:
        """Input coordinates of the networks for all samples of a tile, (1, dimensions, samples of a tile)."""
        subsamples = self.config.subsamples if self.config.sees_area else 1
        local = torch.from_numpy(self.tiling.local_grid(subsamples))
        return (local * torch.tensor(self.coordinate_scale)[:, None])[None].contiguous()

    def batches(self, device: torch.device) -> tuple[Batch, ...]:
        """Return the batches of consecutive steps, in turn. Together they have every pixel once."""
        if self.config.sees_area:
            return (self._batch(self._observed_loss(device), slice(None), device),)
        if self.config.pixels_per_step == "all" or self.values.shape[2] == 1:
            return (self._batch(self._squared_loss(slice(None), device), slice(None), device),)
        colour = torch.from_numpy(np.indices(self.tiling.tile_shape).sum(axis=0).ravel() % 2)
        halves = [torch.nonzero(colour == k)[:, 0] for k in (0, 1)]
        return tuple(self._batch(self._squared_loss(half, device), half, device) for half in halves)

    def _batch(self, loss: Loss, samples: slice | Tensor, device: torch.device) -> Batch:
        total, used = self.weight.sum(dim=1), self.weight[:, samples].sum(dim=1)
        inverse = torch.where(used > 0, total / used, 0.0)
        x = self.coordinates if self.config.sees_area else self.coordinates[:, :, samples]
        return Batch(x.contiguous().to(device), loss, inverse.to(device))

    def _squared_loss(self, samples: slice | Tensor, device: torch.device) -> SquaredLoss:
        values, weight = self.values[:, :, samples], self.weight[:, samples]
        return SquaredLoss(values.contiguous().to(device), weight.contiguous().to(device))

    def _observed_loss(self, device: torch.device) -> ObservedLoss:
        variation = self.config.total_variation
        if variation == "auto":
            variation = variation_for(noise_level(self.samples.values, self.samples.used))
        weights = torch.full((len(self.values),), float(variation), device=device) / self.scale[:, 0].to(device)
        data = self._squared_loss(slice(None), device)
        return ObservedLoss(data, self.tiling.tile_shape, self.config.subsamples, weights)

    def mean_square(self, losses: Tensor) -> Callable[[], float]:
        """Return a function for the mean squared error of the normalised values.

        The function waits for the GPU only when it is called.

        Parameters
        ----------
        losses
            Loss of each tile, (tiles,).
        """
        square = (losses * self._square_scale_on(losses.device)).sum()
        return lambda: float(square) / self.total

    def expected_mse(self, losses: Tensor) -> float:
        """Return the expected mean squared error of the reconstruction, in squared units of the image.

        For an image of integers it includes the rounding.
        """
        layout = self.samples.layout
        share = self.weight.sum(dim=1).double().numpy() * layout.channels / self.total
        square = losses.cpu().double().numpy() * self._square_scale.double().numpy() * self._unit_square
        mse = square / np.maximum(share * self.total, 1e-12)
        if np.issubdtype(self.samples.image.dtype, np.integer):
            mse = expected_rounded_mse(mse)
        return float((share * mse).sum())

    @cached_property
    def _unit_square(self) -> float:
        """Squared unit of normalised values, in squared units of the image: the mean over the channels."""
        return float(np.mean(np.square(self.samples.layout.scale)))

    @cached_property
    def peak(self) -> float:
        """Peak value for the PSNR."""
        return peak_of(self.samples)

    @cached_property
    def grid(self) -> RenderGrid:
        """Pixel grid of the image."""
        return RenderGrid.from_layout(self.samples.layout)

    @cached_property
    def _square_scale(self) -> Tensor:
        return self.scale[:, 0].square()

    def _square_scale_on(self, device: torch.device) -> Tensor:
        """Return the squared scales on a device. They are copied only once."""
        if device not in self._copies:
            self._copies[device] = self._square_scale.to(device)
        return self._copies[device]

    @cached_property
    def _copies(self) -> dict[torch.device, Tensor]:
        return {}


def variation_for(noise: float) -> float:
    """Return the weight of the total variation for a standard deviation of the noise, in normalised values."""
    return max(_LEAST_VARIATION, _VARIATION_PER_NOISE * noise)
