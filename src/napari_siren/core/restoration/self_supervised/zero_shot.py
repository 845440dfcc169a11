"""`ZeroShotSuperResolution`: super-resolution by a network trained on the image alone.

A copy of the image (the target) and its observation at a lower resolution (the source) are a training pair with a known
truth. The network is trained to predict the target from the source. It is then applied one scale further up (Glasner,
Bagon and Irani 2009; Shocher, Cohen and Irani 2018, arXiv 1712.06087). No other image is used. For large scales the
image grows in stages: the prediction of one stage is used for the training of the next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.forward.back_projection import back_project
from napari_siren.core.forward.operator import ForwardOperator
from napari_siren.core.restoration.flips import FLIPS, Flip
from napari_siren.core.restoration.self_supervised.restorer import SelfSupervisedRestorer

# Side of the source of a step, and width of the margin around it, in pixels. The margin is computed and cut off: all
# remaining pixels were observed with all their neighbours.
_CROP, _MARGIN = 48, 3
# Sides of the copies for the pairs, relative to the image, and the probability of the image itself as the target.
_COPIES = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
_ITSELF = 0.2
# Smallest side and smallest number of pixels of an image. With less, a pair is smaller than the receptive field of the
# network, and there is too little to train on: tiles alone are better up to about 32 x 32.
LEAST_SIDE, LEAST_PIXELS = 16, 1500
# Smallest side of a copy, and of a source.
_LEAST_PAIR = 6
# Largest scale of a single stage. For larger scales, the largest scale of each of several stages.
_SINGLE_STAGE, _LARGEST_STAGE = 2.0, 1.75
# Share of the training before the image grows for the first time.
_FIRST_GROWTH = 0.6
# Smallest standard deviation of the noise that is added to a source, in normalised values. It prevents a dependence on
# the last digit of a pixel.
_LEAST_NOISE = 0.004
# Largest number of samples to predict at once.
_BLOCK_SAMPLES = 1 << 16


class ZeroShotSuperResolution(SelfSupervisedRestorer):
    """A super-resolution network, trained on one image.

    Parameters
    ----------
    values
        Image, (channels, rows, columns), float32, normalised to about [-1, 1], with `LEAST_SIDE` rows and columns or
        more. Images with fewer than `LEAST_PIXELS` are better fitted by tiles alone. For an image that is too large for
        memory, some windows of it, (windows, channels, rows, columns).
    observation
        Forward operator of the image's pixels. Smaller copies of the image are made with it.
    scale
        Number of samples per pixel along each axis, 1 or more.
    noise
        Standard deviation of the image's noise, in units of `values`.
    seed
        Seed of the initial parameters and of the pairs.
    low_precision
        Whether to compute in bfloat16 if this does not reduce the quality.
    stages
        Number of stages in which the image grows. None depends on the scale.
    """

    replaced = True
    default_passes = len(FLIPS)

    def __init__(
        self,
        values: Tensor,
        observation: ForwardOperator,
        scale: tuple[float, float],
        noise: float = 0.0,
        seed: int = 0,
        low_precision: bool = False,
        stages: int | None = None,
    ) -> None:
        self._windows = values if values.ndim == 4 else values[None]
        self.values, self.observation, self.scale, self.noise = self._windows[0], observation, scale, noise
        self._interpolation = ForwardOperator.from_kind("point", 2)
        # Axes with different scales are not exchanged.
        self._flips = FLIPS if scale[0] == scale[1] else tuple(flip for flip in FLIPS if not flip.turned)
        self._stages = stages or _stage_count(max(scale))
        self._ratio = [total ** (1 / self._stages) for total in scale]
        self._set_grown(self._windows, 0)
        super().__init__(len(self.values), values.device, seed, low_precision)

    def step(self, done: float) -> float:
        """Compute one step, after any growth that is due. See `SelfSupervisedRestorer.step`."""
        self._grow(done)
        return super().step(done)

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the state, on the CPU."""
        grown = self._grown.detach().to("cpu", copy=True)
        return {**super().state(), "stages": torch.tensor(self._grown_stages), "grown": grown}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a state, of the same image and settings.

        Raises
        ------
        KeyError
            A tensor is missing.
        """
        super().load(tensors)
        self._set_grown(tensors["grown"].to(self.device), int(tensors["stages"]))

    def predict(self, shape: Sequence[int], passes: int = len(FLIPS), values: Tensor | None = None) -> Tensor:
        """Predict an image on a finer grid of the same extent.

        Parameters
        ----------
        shape
            Number of rows and columns of the grid.
        passes
            Number of predictions to average, of flipped and turned images. More are better and take longer.
        values
            Another image, (channels, rows, columns), with the same observation model and normalisation. None is the
            image of the training.

        Returns
        -------
        Tensor
            Prediction, (channels, *shape), normalised as `values`.
        """
        grown, image, stages = values, values, self._stages
        if grown is None or image is None:
            grown, image, stages = self._grown[0], self.values, self._stages - self._grown_stages
        start = grown.shape[1:]
        for stage in range(1, stages):
            sizes = [round(n * (m / n) ** (stage / stages)) for n, m in zip(start, shape, strict=True)]
            grown = self._stage(grown, image, sizes)
        return self._stage(grown, image, shape, passes)

    @torch.no_grad()
    def smaller_copy(self, shape: Sequence[int]) -> Tensor:
        """Return a smaller observation of the image with the same noise, (channels, *shape)."""
        copy = self.observation(self.values, shape)
        noise = np.random.default_rng(self._seed).standard_normal(copy.shape, dtype=np.float32)
        return copy + self._source_noise() * torch.from_numpy(noise).to(copy)

    # ---- training ------------------------------------------------------------------------------------

    def pair(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return the network's correction of the interpolated source of a random pair, and the true correction."""
        copies = self._copies[0 if len(self._copies) == 1 else rng.integers(len(self._copies))]
        target = copies[0] if rng.random() < _ITSELF else copies[rng.integers(len(copies))]
        pixels, window = self._pair_sizes(target, rng)
        start = [int(rng.integers(n - size + 1)) for n, size in zip(target.shape[1:], window, strict=True)]
        target = target[:, start[0] : start[0] + window[0], start[1] : start[1] + window[1]]
        source = self.observation(target, pixels)
        source = source + self._source_noise() * torch.from_numpy(
            rng.standard_normal(source.shape, dtype=np.float32)
        ).to(source)
        sizes = [n / size for n, size in zip(pixels, window, strict=True)]
        inner, positions = zip(*(_inner(n, size) for n, size in zip(pixels, window, strict=True)), strict=True)
        details = (target - self._interpolation(source, window))[:, inner[0][1], inner[1][1]]
        source = source[:, inner[0][0], inner[1][0]]
        flip = self._flips[rng.integers(len(self._flips))]
        for axis in flip.axes:
            positions = tuple(source.shape[i + 1] - 1 - p[::-1] if i == axis else p for i, p in enumerate(positions))
        if flip.turned:
            positions, sizes = positions[::-1], sizes[::-1]
        with self.precision():
            features = self.network.encode(flip(source)[None].contiguous())
            prediction = self.decode(features, (positions[0], positions[1]), (sizes[0], sizes[1]))
        return prediction, flip(details)[None]

    def _pair_sizes(self, target: Tensor, rng: np.random.Generator) -> tuple[tuple[int, int], tuple[int, int]]:
        """Draw the number of pixels of a source along each axis, and the number of pixels of its target."""
        pixels, window = [], []
        for n, ratio in zip(target.shape[1:], self._ratio, strict=True):
            scale = min(ratio, n / _LEAST_PAIR)
            pixels.append(max(1, min(_CROP + 2 * _MARGIN, int(n / scale))))
            window.append(min(n, round(scale * pixels[-1])))
        return (pixels[0], pixels[1]), (window[0], window[1])

    def _source_noise(self) -> float:
        """Return the standard deviation of the noise to add to a source."""
        return max(_LEAST_NOISE, self.noise)

    def _grow(self, done: float) -> None:
        """Grow the image by all due stages, after a share of the training."""
        while self._grown_stages < self._stages - 1 and done >= self._next_growth():
            sizes = [round(n * ratio) for n, ratio in zip(self._grown.shape[2:], self._ratio, strict=True)]
            larger = [self._stage(grown, image, sizes) for grown, image in zip(self._grown, self._windows, strict=True)]
            self._set_grown(torch.stack(larger), self._grown_stages + 1)

    def _next_growth(self) -> float:
        """Return the share of the training before the next growth of the image."""
        return _FIRST_GROWTH + (1 - _FIRST_GROWTH) * self._grown_stages / (self._stages - 1)

    def _set_grown(self, grown: Tensor, stages: int) -> None:
        """Continue the training on the image, or its windows, after a number of stages: (windows, channels, …)."""
        self._grown, self._grown_stages = grown, stages
        shape = grown.shape[2:]
        smaller = ([max(_LEAST_PAIR, round(share * n)) for n in shape] for share in _COPIES)
        copies = [list(grown), *(list(self.observation(grown, sizes)) for sizes in smaller)]
        if stages:
            copies.append(list(self._windows))
        self._copies = list(zip(*copies, strict=True))

    # ---- prediction ----------------------------------------------------------------------------------

    @torch.no_grad()
    def _stage(self, grown: Tensor, image: Tensor, shape: Sequence[int], passes: int = len(FLIPS)) -> Tensor:
        """Predict an image on a finer grid in one stage, from its prediction in the last stage."""
        size = (shape[0], shape[1])
        chosen = self._flips[:passes]
        details = sum(flip.back(self._details(flip(grown), _turned(size, flip))) for flip in chosen)
        fine = self._interpolation(grown, size) + details / len(chosen)
        return back_project(fine, image, self.observation, self.noise)

    def _details(self, values: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return the network's correction of an interpolated image, computed strip by strip."""
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
            strips.append(self.decode(features, (down - low, across), sizes)[0])
        return torch.cat(strips, dim=1)


def _stage_count(scale: float) -> int:
    """Return the number of stages for a scale."""
    return 1 if scale <= _SINGLE_STAGE else math.ceil(math.log(scale) / math.log(_LARGEST_STAGE))


def _inner(pixels: int, window: int) -> tuple[tuple[slice, slice], npt.NDArray[np.float64]]:
    """Return the inner part of a pair along an axis, without the margin.

    Parameters
    ----------
    pixels, window
        Number of the source's pixels, and number of the target's pixels that they cover.

    Returns
    -------
    slices : tuple of slice
        The source's pixels inside the margin, and the target's pixels inside these.
    positions : ndarray
        float64: centres of the target's pixels, in pixels from the centre of the first pixel of the source.
    """
    margin = _MARGIN if pixels >= _CROP else 0
    per_pixel = window / pixels
    inside = slice(math.ceil(margin * per_pixel), math.floor((pixels - margin) * per_pixel))
    positions = (np.arange(inside.start, inside.stop, dtype=np.float64) + 0.5) / per_pixel - 0.5 - margin
    return (slice(margin, pixels - margin), inside), positions


def _turned(shape: Sequence[int], flip: Flip) -> tuple[int, int]:
    return (shape[1], shape[0]) if flip.turned else (shape[0], shape[1])
