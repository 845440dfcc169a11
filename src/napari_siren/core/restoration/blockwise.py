"""Upscaling block by block: one `CrossScale` learns from windows of a large image, and tells each block of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.config import FitConfig
from napari_siren.core.engines import has_bfloat16
from napari_siren.core.forward.operator import pixel_model
from napari_siren.core.image.noise import above_texture, noise_level
from napari_siren.core.image.samples import ImageFormat, Samples
from napari_siren.core.restoration.super_resolution import CrossScale

# Pixels along each side of a window, how many of them are looked at, and how many are learned from.
_WINDOW, _CANDIDATES, _CHOSEN = 256, 64, 16
# Pixels around a block that are told with it: what is told of a pixel depends on those about it.
_MARGIN = 32

Read = Callable[[Sequence[int], Sequence[int]], npt.NDArray[Any]]
"""Gives a box of the image, in its axes and with all channels: (start, shape) -> array."""


@dataclass(frozen=True)
class Windows:
    """Places of a large image that stand for the whole.

    Parameters
    ----------
    chosen
        (windows, channels, *shape), normalised: those with the most detail.
    noise
        Standard deviation of the image's noise, normalised, estimated from all that were looked at.
    """

    chosen: Tensor
    noise: float

    @classmethod
    def of(cls, read: Read, layout: ImageFormat) -> Windows:
        """Look at places that are evenly spread, or at all of an image that is not larger than what is chosen."""
        shape = layout.spatial_shape
        few = math.prod(shape) <= _CHOSEN * _WINDOW ** len(shape)
        sides = shape if few else tuple(min(n, _WINDOW) for n in shape)
        seen = [Samples.of_part(read(start, sides), layout).values for start in _places(shape, sides)]
        # Most detail: what differs most from its neighbours.
        detail = [sum(float(np.abs(np.diff(v, axis=a)).mean()) for a in range(1, v.ndim)) for v in seen]
        best = sorted(np.argsort(detail)[::-1][:_CHOSEN])
        stacked = np.concatenate(seen, axis=1)
        noise = noise_level(stacked, np.ones(stacked.shape[1:], dtype=np.bool_))
        return cls(torch.from_numpy(np.stack([seen[i] for i in best])), noise)


class BlockTeacher:
    """A network that learned from windows of an image, and tells of any block of it what lies between its pixels.

    Parameters
    ----------
    read, layout
        The image.
    config, device, seed
        Of the fit.
    """

    def __init__(self, read: Read, layout: ImageFormat, config: FitConfig, device: torch.device, seed: int) -> None:
        self.config, self._read, self._layout, self._device = config, read, layout, device
        self.observation = pixel_model(config, layout.spacing)
        self.detail = block_detail(config)
        windows = Windows.of(read, layout)
        self._network = CrossScale(
            windows.chosen.to(device),
            self.observation,
            (float(self.detail), float(self.detail)),
            above_texture(windows.noise),
            seed,
            rough=config.precision == "auto" and has_bfloat16(device),
            stages=self.detail.bit_length() - 1 or None,
        )

    def learn(self, on_step: Callable[[int, int], object]) -> None:
        """Take all steps; `on_step` is told how many are done, and of how many."""
        steps = self.config.cross_scale_steps
        for step in range(steps):
            self._network.step(step / steps)
            on_step(step + 1, steps)

    def state(self) -> dict[str, Tensor]:
        """Return a copy, on the CPU, of what was learned."""
        return self._network.state()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what another one has learned."""
        self._network.load(tensors)

    def samples(self, start: Sequence[int], fine: ImageFormat) -> Samples:
        """Tell of a box of the finer grid.

        Parameters
        ----------
        start
            Its first sample along each axis.
        fine
            Of the box as an image of its own.
        """
        factor, stops = self.detail, [a + n for a, n in zip(start, fine.spatial_shape, strict=True)]
        low = [max(0, a // factor - _MARGIN) for a in start]
        high = [min(n, -(-b // factor) + _MARGIN) for b, n in zip(stops, self._layout.spatial_shape, strict=True)]
        shape = [b - a for a, b in zip(low, high, strict=True)]
        seen = torch.from_numpy(Samples.of_part(self._read(low, shape), self._layout).values).to(self._device)
        told = self._network.predict([n * factor for n in shape], values=seen).cpu().numpy()
        cut = tuple(slice(a - b * factor, c - b * factor) for a, b, c in zip(start, low, stops, strict=True))
        values = np.ascontiguousarray(told[(slice(None), *cut)])
        return Samples.of_values(values, replace(fine, dtype="float32"))


def block_detail(config: FitConfig) -> int:
    """Return the samples per pixel that are learned block by block: the next power of two.

    It grows in stages of two, so that the samples of each stage lie at the same places whatever the block.
    """
    return 1 << math.ceil(math.log2(config.detail))


def _places(shape: Sequence[int], sides: Sequence[int]) -> list[tuple[int, ...]]:
    """Corners of windows that are evenly spread, not too many of them."""
    counts = [max(1, n // side) for n, side in zip(shape, sides, strict=True)]
    while math.prod(counts) > _CANDIDATES:
        counts[int(np.argmax(counts))] -= 1
    along = [
        np.linspace(0, n - side, count).round().astype(int).tolist() if count > 1 else [(n - side) // 2]
        for n, side, count in zip(shape, sides, counts, strict=True)
    ]
    return list(product(*along))
