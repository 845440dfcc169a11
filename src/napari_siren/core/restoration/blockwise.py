"""`BlockRestorer`: super-resolution of a large image, block by block."""

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

from napari_siren.core.forward.operator import pixel_model
from napari_siren.core.image.samples import ImageLayout, Samples
from napari_siren.core.noise.level import above_texture, noise_level
from napari_siren.core.restoration.base import uses_bfloat16
from napari_siren.core.restoration.pretrained.plan import can_enlarge, enlarger
from napari_siren.core.restoration.pretrained.prediction import passes_for
from napari_siren.core.restoration.pretrained.restorer import PretrainedRestorer
from napari_siren.core.restoration.self_supervised.zero_shot import ZeroShotSuperResolution
from napari_siren.core.settings.config import FitConfig

# Side of a window in pixels, largest number of candidates, and number of windows that are chosen for the training.
_WINDOW, _CANDIDATES, _CHOSEN = 256, 64, 16
# Width of the margin around a block, in pixels. The prediction of a pixel depends on the pixels around it.
_MARGIN = 32
# The same for a pretrained network: the reach of its encoder, and that of back-projection.
_PRETRAINED_MARGIN = 48

Read = Callable[[Sequence[int], Sequence[int]], npt.NDArray[Any]]
"""Function that returns a box of the image, with the image's axes and all channels: (start, shape) -> array."""


@dataclass(frozen=True)
class Windows:
    """Representative windows of a large image.

    Parameters
    ----------
    chosen
        Windows with the most detail, (windows, channels, *shape), normalised.
    noise
        Standard deviation of the image's noise in normalised values, estimated from all candidates.
    """

    chosen: Tensor
    noise: float

    @classmethod
    def from_image(cls, read: Read, layout: ImageLayout) -> Windows:
        """Choose windows among evenly spread candidates.

        If the image is not larger than all chosen windows together, there is a single window, the whole image.

        Parameters
        ----------
        read
            Function that reads a box of the image.
        layout
            Layout of the image.
        """
        shape = layout.spatial_shape
        small = math.prod(shape) <= _CHOSEN * _WINDOW ** len(shape)
        sides = shape if small else tuple(min(n, _WINDOW) for n in shape)
        candidates = [Samples.from_part(read(start, sides), layout).values for start in _places(shape, sides)]
        # The detail of a window is its mean absolute difference between neighbouring pixels.
        detail = [sum(float(np.abs(np.diff(v, axis=a)).mean()) for a in range(1, v.ndim)) for v in candidates]
        best = sorted(np.argsort(detail)[::-1][:_CHOSEN])
        stacked = np.concatenate(candidates, axis=1)
        noise = noise_level(stacked, np.ones(stacked.shape[1:], dtype=np.bool_))
        return cls(torch.from_numpy(np.stack([candidates[i] for i in best])), noise)


class BlockRestorer:
    """A super-resolution network for any block of an image: a pretrained one, or one trained on windows of the image.

    Parameters
    ----------
    read, layout
        Function that reads a box of the image, and layout of the image.
    config, device, seed
        Settings, device and seed of the fit.
    """

    def __init__(self, read: Read, layout: ImageLayout, config: FitConfig, device: torch.device, seed: int) -> None:
        self.config, self._read, self._layout, self._device = config, read, layout, device
        self.observation = pixel_model(config, layout.spacing)
        self.detail = block_detail(config)
        windows = Windows.from_image(read, layout)
        self._network: ZeroShotSuperResolution | PretrainedRestorer
        if can_enlarge(layout, config):
            # The window with the most detail stands for the image in the choice of the weights.
            window = replace_shape(layout, windows.chosen.shape[2:])
            self._network = enlarger(Samples.from_values(windows.chosen[0].numpy(), window), config, device)
        else:
            self._network = ZeroShotSuperResolution(
                windows.chosen.to(device),
                self.observation,
                (float(self.detail), float(self.detail)),
                above_texture(windows.noise),
                seed,
                low_precision=uses_bfloat16(config, device),
                stages=self.detail.bit_length() - 1 or None,
            )

    def train(self, on_step: Callable[[int, int], object]) -> None:
        """Compute all steps of the training.

        Parameters
        ----------
        on_step
            Function to call after each step, with the number of steps done and the number of all steps.
        """
        steps = 0 if self._network.ready else self.config.task_steps
        for step in range(steps):
            self._network.step(step / steps)
            on_step(step + 1, steps)

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the state, on the CPU."""
        return self._network.state()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a state."""
        self._network.load(tensors)

    def samples(self, start: Sequence[int], fine: ImageLayout) -> Samples:
        """Predict a box of the finer grid.

        Parameters
        ----------
        start
            Index of the first sample of the box along each axis.
        fine
            Layout of the box as a separate image.
        """
        factor, stops = self.detail, [a + n for a, n in zip(start, fine.spatial_shape, strict=True)]
        margin = _PRETRAINED_MARGIN if isinstance(self._network, PretrainedRestorer) else _MARGIN
        low = [max(0, a // factor - margin) for a in start]
        high = [min(n, -(-b // factor) + margin) for b, n in zip(stops, self._layout.spatial_shape, strict=True)]
        shape = [b - a for a, b in zip(low, high, strict=True)]
        pixels = torch.from_numpy(Samples.from_part(self._read(low, shape), self._layout).values).to(self._device)
        prediction = self._predict([n * factor for n in shape], pixels).cpu().numpy()
        box = tuple(slice(a - b * factor, c - b * factor) for a, b, c in zip(start, low, stops, strict=True))
        values = np.ascontiguousarray(prediction[(slice(None), *box)])
        return Samples.from_values(values, replace(fine, dtype="float32"))

    def _predict(self, shape: Sequence[int], values: Tensor) -> Tensor:
        if isinstance(self._network, ZeroShotSuperResolution):
            return self._network.predict(shape, values=values)
        # The same number for every block, whatever its size.
        passes = passes_for(math.prod(self._layout.spatial_shape) * self.detail**2)
        return self._network.predict(shape, passes, values)


def replace_shape(layout: ImageLayout, spatial_shape: Sequence[int]) -> ImageLayout:
    """Return the layout of a part of an image, as a separate image."""
    return replace(layout, shape=layout.full_shape(spatial_shape))


def block_detail(config: FitConfig) -> int:
    """Return the number of samples per pixel for a prediction block by block: the next power of two.

    Images grow in stages by a factor of two. The samples of each stage then have the same positions in every block.
    """
    return 1 << math.ceil(math.log2(config.detail))


def _places(shape: Sequence[int], sides: Sequence[int]) -> list[tuple[int, ...]]:
    """Return the corners of evenly spread windows, at most `_CANDIDATES`."""
    counts = [max(1, n // side) for n, side in zip(shape, sides, strict=True)]
    while math.prod(counts) > _CANDIDATES:
        counts[int(np.argmax(counts))] -= 1
    along = [
        np.linspace(0, n - side, count).round().astype(int).tolist() if count > 1 else [(n - side) // 2]
        for n, side, count in zip(shape, sides, counts, strict=True)
    ]
    return list(product(*along))
