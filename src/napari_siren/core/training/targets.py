"""What the tiles are to learn: the image cut into tiles, weighted, and given each tile's own scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from napari_siren.core.config import FitConfig
from napari_siren.core.field.tiling import RenderGrid, Tiling
from napari_siren.core.image.metrics import expected_rounded_mse, peak_of
from napari_siren.core.image.noise import noise_level
from napari_siren.core.image.samples import Samples
from napari_siren.core.network.losses import Loss, ObservedLoss, SquaredLoss

# Standard deviation of a tile's targets once it has its own scale.
_SPREAD = 0.5
# A tile of which no pixel is further from its mean, in normalised values, is constant.
_NOTHING = 1e-6
_VARIATION_PER_NOISE = 0.1
_LEAST_VARIATION = 2e-3


@dataclass(frozen=True)
class Batch:
    """What a step sees of every tile.

    Parameters
    ----------
    x
        (1, inputs, samples): where the networks are evaluated.
    loss
        On these samples.
    inverse_share
        (tiles,): the weight of all pixels over that of those seen, 0 where none is seen.
    """

    x: Tensor
    loss: Loss
    inverse_share: Tensor


@dataclass(frozen=True)
class Targets:
    """The samples of every tile, and how its network's outputs become normalised values.

    Parameters
    ----------
    samples, tiling, config
        What they were made of.
    values
        (tiles, channels, pixels of a tile), in each tile's own scale.
    weight
        (tiles, pixels of a tile): the window, and 0 where a pixel is missing or held out.
    offset, scale
        (tiles, channels), (tiles, 1): normalised value = offset + scale * output.
    total
        Sum of the weights of all tiles, times the channels.
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
    def of(cls, samples: Samples, tiling: Tiling, config: FitConfig) -> Targets:
        """Cut, weigh and scale.

        The weights are the blending windows, so that the sum of the tiles' losses bounds the blended field's from above
        (Jensen's inequality) and each tile still learns alone.
        """
        used = samples.observed & ~samples.heldout
        values = torch.from_numpy(tiling.extract(filled(samples.values, used)))
        mask = torch.from_numpy(tiling.extract(used[np.newaxis].astype(np.float32))[:, 0])
        weight = torch.from_numpy(tiling.pixel_windows()) * mask
        offset = torch.zeros(values.shape[:2])
        scale = torch.ones(len(values), 1)
        if config.standardise:
            total = weight.sum(dim=1, keepdim=True)
            # A tile without a single pixel to learn from is the mean of what its nearest neighbours suggest.
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
        """Indices of the tiles that have something to learn, int64: a constant one is its own mean from the start."""
        if not self.config.standardise:
            return torch.arange(len(self.values))
        missed = (self.values * self.scale[:, :, None]).abs().amax(dim=1) * (self.weight > 0)
        return torch.nonzero(missed.amax(dim=1) > _NOTHING)[:, 0]

    def pick(self, tiles: Tensor) -> Targets:
        """Return those of some tiles."""
        values, weight, offset, scale = (t[tiles] for t in (self.values, self.weight, self.offset, self.scale))
        return replace(self, values=values, weight=weight, offset=offset, scale=scale)

    @property
    def coordinate_scale(self) -> tuple[float, ...]:
        """The networks' unit of length per pixel, for each axis."""
        if self.config.coordinates == "pixel":
            return (1.0,) * len(self.tiling.axes)
        return tuple(2 / max(1, axis.size - 1) for axis in self.tiling.axes)

    @property
    def coordinates(self) -> Tensor:
        """(1, dimensions, samples of a tile): where the networks are evaluated in a step, in their own units."""
        subsamples = self.config.subsamples if self.config.sees_area else 1
        local = torch.from_numpy(self.tiling.local_grid(subsamples))
        return (local * torch.tensor(self.coordinate_scale)[:, None])[None].contiguous()

    def batches(self, device: torch.device) -> tuple[Batch, ...]:
        """Return what the steps see in turn: together, every pixel once."""
        if self.config.sees_area:
            return (self._batch(self._observed_loss(device), slice(None), device),)
        if self.config.pixels_per_step == "all" or self.values.shape[2] == 1:
            return (self._batch(self._squared_loss(slice(None), device), slice(None), device),)
        colour = torch.from_numpy(np.indices(self.tiling.tile_shape).sum(axis=0).ravel() % 2)
        halves = [torch.nonzero(colour == k)[:, 0] for k in (0, 1)]
        return tuple(self._batch(self._squared_loss(half, device), half, device) for half in halves)

    def _batch(self, loss: Loss, samples: slice | Tensor, device: torch.device) -> Batch:
        total, seen = self.weight.sum(dim=1), self.weight[:, samples].sum(dim=1)
        inverse = torch.where(seen > 0, total / seen, 0.0)
        x = self.coordinates if self.config.sees_area else self.coordinates[:, :, samples]
        return Batch(x.contiguous().to(device), loss, inverse.to(device))

    def _squared_loss(self, samples: slice | Tensor, device: torch.device) -> SquaredLoss:
        values, weight = self.values[:, :, samples], self.weight[:, samples]
        return SquaredLoss(values.contiguous().to(device), weight.contiguous().to(device))

    def _observed_loss(self, device: torch.device) -> ObservedLoss:
        variation = self.config.total_variation
        if variation == "auto":
            variation = variation_for(noise_level(self.samples.values, self.samples.observed & ~self.samples.heldout))
        weights = torch.full((len(self.values),), float(variation), device=device) / self.scale[:, 0].to(device)
        data = self._squared_loss(slice(None), device)
        return ObservedLoss(data, self.tiling.tile_shape, self.config.subsamples, weights)

    def mean_square(self, losses: Tensor) -> Callable[[], float]:
        """Return what gives the mean squared error of the normalised values, from the loss of each tile.

        It waits for a GPU only when it is called.
        """
        square = (losses * self._square_scale_on(losses.device)).sum()
        return lambda: float(square) / self.total

    def expected_mse(self, losses: Tensor) -> float:
        """Mean squared error to expect of the reconstruction, rounded where it is integers, in the image's units."""
        layout = self.samples.format
        share = self.weight.sum(dim=1).double().numpy() * layout.channels / self.total
        square = losses.cpu().double().numpy() * self._square_scale.double().numpy() * self._unit_square
        mse = square / np.maximum(share * self.total, 1e-12)
        if np.issubdtype(self.samples.image.dtype, np.integer):
            mse = expected_rounded_mse(mse)
        return float((share * mse).sum())

    @cached_property
    def _unit_square(self) -> float:
        """Squared units of the image in one squared unit of normalised values (the mean over the channels)."""
        return float(np.mean(np.square(self.samples.format.scale)))

    @cached_property
    def peak(self) -> float:
        """Peak of the PSNR."""
        return peak_of(self.samples)

    @cached_property
    def grid(self) -> RenderGrid:
        """The image's own grid."""
        layout = self.samples.format
        return RenderGrid.of(layout.spatial_shape, layout.spacing)

    @cached_property
    def _square_scale(self) -> Tensor:
        return self.scale[:, 0].square()

    def _square_scale_on(self, device: torch.device) -> Tensor:
        """Return the squared scales on a device, where they are copied once."""
        if device not in self._copies:
            self._copies[device] = self._square_scale.to(device)
        return self._copies[device]

    @cached_property
    def _copies(self) -> dict[torch.device, Tensor]:
        return {}


def variation_for(noise: float) -> float:
    """Weight of the prior of total variation that suits an image's noise, in units of its normalised values."""
    return max(_LEAST_VARIATION, _VARIATION_PER_NOISE * noise)


def filled(values: npt.NDArray[np.float32], used: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Return pixels that are not used the value of the nearest that is; they weigh nothing, but must be finite."""
    if used.all():
        return values
    nearest = distance_transform_edt(~used, return_distances=False, return_indices=True)
    return values[(slice(None), *nearest)]
