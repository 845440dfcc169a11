"""`CrossScale`: learns from an image's own smaller copies what lies between pixels, and tells it of the image itself.

A copy of the image and what is seen of it at a lower resolution are a pair for which the truth is known. A network that
has learned to go from the one to the other is then asked one scale further up (Glasner, Bagon, Irani 2009; Shocher,
Cohen, Irani 2018, arXiv 1712.06087). No other image has a part in it. Where the scale is large the image grows in
stages: what was told of it at one size is learned from for the next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.forward.back_projection import make_consistent
from napari_siren.core.forward.operator import Observation
from napari_siren.core.restoration.self_supervised import Learner

# Pixels along each side of what a step sees, and of the margin that is made with it and cut off, so that no pixel in
# it was made without its neighbours.
_CROP, _MARGIN = 48, 3
# Sides of the copies that pairs are made of, over the image's; the image itself is taken this share of the time.
_COPIES = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
_ITSELF = 0.2
# Below them a pair has fewer pixels than the network sees, and an image has too little to learn from: tiles alone are
# better up to about 32 x 32.
LEAST_SIDE, LEAST_PIXELS = 16, 1500
_LEAST_PAIR = 6
# Up to the first scale there is one stage; beyond it as many as make each no larger than the second.
_SINGLE_STAGE, _LARGEST_STAGE = 2.0, 1.75
# Share of the training after which the image grows for the first time.
_FIRST_GROWTH = 0.6
# Added to what the network sees, so that it does not lean on the last digit of a pixel.
_LEAST_NOISE = 0.004
_BLOCK_SAMPLES = 1 << 16


@dataclass(frozen=True)
class Flip:
    """One of the eight ways to flip and turn an image.

    Parameters
    ----------
    axes
        Those that are reversed, before the turn.
    turned
        Whether rows and columns are exchanged.
    """

    axes: tuple[int, ...]
    turned: bool

    def __call__(self, image: Tensor) -> Tensor:
        """Flip and turn the last two axes."""
        flipped = image.flip([axis - 2 for axis in self.axes])
        return flipped.mT if self.turned else flipped

    def back(self, image: Tensor) -> Tensor:
        """Undo it."""
        return (image.mT if self.turned else image).flip([axis - 2 for axis in self.axes])


FLIPS = tuple(Flip(axes, turned) for turned in (False, True) for axes in ((), (0,), (1,), (0, 1)))


class CrossScale(Learner):
    """A network that is trained on one image.

    Parameters
    ----------
    values
        (channels, rows, columns), float32, normalised to about [-1, 1]; `LEAST_SIDE` rows and columns or more. Those of
        fewer than `LEAST_PIXELS` are better left to tiles. Of an image too large for memory, some windows of it:
        (windows, channels, rows, columns).
    observation
        How a pixel sees the field: what a smaller copy of the image is made with.
    scale
        Samples per pixel that are wanted, one number for each axis, 1 or more.
    noise
        Standard deviation of the image's noise, in units of `values`.
    seed
        Of the random start and of the pairs.
    rough
        Whether to calculate in bfloat16 where it does no harm.
    stages
        In how many stages to grow; None is as many as suit the scale.
    """

    replaced = True

    def __init__(
        self,
        values: Tensor,
        observation: Observation,
        scale: tuple[float, float],
        noise: float = 0.0,
        seed: int = 0,
        rough: bool = False,
        stages: int | None = None,
    ) -> None:
        self._windows = values if values.ndim == 4 else values[None]
        self.values, self.observation, self.scale, self.noise = self._windows[0], observation, scale, noise
        self._interpolation = Observation.of("point", 2)
        # Axes that are stretched unequally are not exchanged.
        self._flips = FLIPS if scale[0] == scale[1] else tuple(flip for flip in FLIPS if not flip.turned)
        self._stages = stages or _stage_count(max(scale))
        self._ratio = [total ** (1 / self._stages) for total in scale]
        self._set_grown(self._windows, 0)
        super().__init__(len(self.values), values.device, seed, rough)

    def step(self, done: float) -> float:
        """Take a step on a pair, when a share of the training is done; give the mean squared error on it."""
        self._grow(done)
        return super().step(done)

    def state(self) -> dict[str, Tensor]:
        """Return a copy, on the CPU, of what is needed to go on."""
        grown = self._grown.detach().to("cpu", copy=True)
        return {**super().state(), "stages": torch.tensor(self._grown_stages), "grown": grown}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from where another one with the same image and settings was; KeyError where something is not there."""
        super().load(tensors)
        self._set_grown(tensors["grown"].to(self.device), int(tensors["stages"]))

    def predict(self, shape: Sequence[int], flips: int = len(FLIPS), values: Tensor | None = None) -> Tensor:
        """Tell what the image, or another one, is on a finer grid of the same extent.

        Parameters
        ----------
        shape
            Rows and columns of the grid.
        flips
            Of how many flipped and turned images the mean is taken: more is better and takes longer.
        values
            (channels, rows, columns) of another image that was seen and normalised alike; None is the image.

        Returns
        -------
        Tensor
            (channels, *shape), normalised as `values`.
        """
        now, image, stages = values, values, self._stages
        if now is None or image is None:
            now, image, stages = self._grown[0], self.values, self._stages - self._grown_stages
        start = now.shape[1:]
        for stage in range(1, stages):
            sizes = [round(n * (m / n) ** (stage / stages)) for n, m in zip(start, shape, strict=True)]
            now = self._stage(now, image, sizes)
        return self._stage(now, image, shape, flips)

    @torch.no_grad()
    def smaller_copy(self, shape: Sequence[int]) -> Tensor:
        """Return what would be seen of the image with fewer pixels, as noisy as it is: (channels, *shape)."""
        copy = self.observation(self.values, shape)
        noise = np.random.default_rng(self._seed).standard_normal(copy.shape, dtype=np.float32)
        return copy + self._son_noise() * torch.from_numpy(noise).to(copy)

    # ---- training ------------------------------------------------------------------------------------

    def pair(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return what the network finds of a pair drawn at random, and what it should find."""
        copies = self._copies[0 if len(self._copies) == 1 else rng.integers(len(self._copies))]
        father = copies[0] if rng.random() < _ITSELF else copies[rng.integers(len(copies))]
        pixels, window = self._pair_sizes(father, rng)
        start = [int(rng.integers(n - size + 1)) for n, size in zip(father.shape[1:], window, strict=True)]
        father = father[:, start[0] : start[0] + window[0], start[1] : start[1] + window[1]]
        son = self.observation(father, pixels)
        son = son + self._son_noise() * torch.from_numpy(rng.standard_normal(son.shape, dtype=np.float32)).to(son)
        sizes = [n / size for n, size in zip(pixels, window, strict=True)]
        inner, positions = zip(*(_inner(n, size) for n, size in zip(pixels, window, strict=True)), strict=True)
        details = (father - self._interpolation(son, window))[:, inner[0][1], inner[1][1]]
        son = son[:, inner[0][0], inner[1][0]]
        flip = self._flips[rng.integers(len(self._flips))]
        for axis in flip.axes:
            positions = tuple(son.shape[i + 1] - 1 - p[::-1] if i == axis else p for i, p in enumerate(positions))
        if flip.turned:
            positions, sizes = positions[::-1], sizes[::-1]
        with self.precision():
            features = self.network.encode(flip(son)[None].contiguous())
            found = self.told(features, (positions[0], positions[1]), (sizes[0], sizes[1]))
        return found, flip(details)[None]

    def _pair_sizes(self, father: Tensor, rng: np.random.Generator) -> tuple[tuple[int, int], tuple[int, int]]:
        """Draw how many pixels the son has, and how many of the father they are."""
        pixels, window = [], []
        for n, ratio in zip(father.shape[1:], self._ratio, strict=True):
            scale = min(ratio, n / _LEAST_PAIR)
            pixels.append(max(1, min(_CROP + 2 * _MARGIN, int(n / scale))))
            window.append(min(n, round(scale * pixels[-1])))
        return (pixels[0], pixels[1]), (window[0], window[1])

    def _son_noise(self) -> float:
        return max(_LEAST_NOISE, self.noise)

    def _grow(self, done: float) -> None:
        """Take the stages that are due when a share of the training is done."""
        while self._grown_stages < self._stages - 1 and done >= self._next_growth():
            sizes = [round(n * ratio) for n, ratio in zip(self._grown.shape[2:], self._ratio, strict=True)]
            told = [self._stage(now, image, sizes) for now, image in zip(self._grown, self._windows, strict=True)]
            self._set_grown(torch.stack(told), self._grown_stages + 1)

    def _next_growth(self) -> float:
        """Share of the training after which the image is to grow again."""
        return _FIRST_GROWTH + (1 - _FIRST_GROWTH) * self._grown_stages / (self._stages - 1)

    def _set_grown(self, grown: Tensor, stages: int) -> None:
        """Learn from now on from the image, or its windows, as told in so many stages: (windows, channels, …)."""
        self._grown, self._grown_stages = grown, stages
        shape = grown.shape[2:]
        smaller = ([max(_LEAST_PAIR, round(share * n)) for n in shape] for share in _COPIES)
        copies = [list(grown), *(list(self.observation(grown, sizes)) for sizes in smaller)]
        if stages:
            copies.append(list(self._windows))
        self._copies = list(zip(*copies, strict=True))

    # ---- telling -------------------------------------------------------------------------------------

    @torch.no_grad()
    def _stage(self, now: Tensor, image: Tensor, shape: Sequence[int], flips: int = len(FLIPS)) -> Tensor:
        """Tell in one stage what an image is on a finer grid than that on which it was told until now."""
        size = (shape[0], shape[1])
        chosen = self._flips[:flips]
        details = sum(flip.back(self._details(flip(now), _turned(size, flip))) for flip in chosen)
        fine = self._interpolation(now, size) + details / len(chosen)
        return make_consistent(fine, image, self.observation, self.noise)

    def _details(self, values: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return what is to be added to the interpolation of an image, strip by strip."""
        rows, columns = values.shape[1:]
        sizes = (rows / shape[0], columns / shape[1])
        across = (np.arange(shape[1], dtype=np.float64) + 0.5) * sizes[1] - 0.5
        strips = []
        strip = max(1, _BLOCK_SAMPLES // shape[1])
        for first in range(0, shape[0], strip):
            down = (np.arange(first, min(shape[0], first + strip), dtype=np.float64) + 0.5) * sizes[0] - 0.5
            low = max(0, math.floor(down[0]) - self.network.reach)
            high = min(rows, math.floor(down[-1]) + 2 + self.network.reach)
            features = self.network.encode(values[None, :, low:high].contiguous())
            strips.append(self.told(features, (down - low, across), sizes)[0])
        return torch.cat(strips, dim=1)


def _stage_count(scale: float) -> int:
    """Return the number of stages in which an image grows."""
    return 1 if scale <= _SINGLE_STAGE else math.ceil(math.log(scale) / math.log(_LARGEST_STAGE))


def _inner(pixels: int, window: int) -> tuple[tuple[slice, slice], npt.NDArray[np.float64]]:
    """Cut off the margin of a son, and return the father's pixels within what is left, with their positions in it."""
    margin = _MARGIN if pixels >= _CROP else 0
    per_pixel = window / pixels
    inside = slice(math.ceil(margin * per_pixel), math.floor((pixels - margin) * per_pixel))
    positions = (np.arange(inside.start, inside.stop, dtype=np.float64) + 0.5) / per_pixel - 0.5 - margin
    return (slice(margin, pixels - margin), inside), positions


def _turned(shape: Sequence[int], flip: Flip) -> tuple[int, int]:
    return (shape[1], shape[0]) if flip.turned else (shape[0], shape[1])
