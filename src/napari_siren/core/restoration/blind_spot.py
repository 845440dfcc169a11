"""`BlindSpot`: learns to tell pixels from those around them, and so what an image is without its noise.

The noise of a pixel says nothing of that of others, so that the best guess at a hidden pixel is that of the scene alone
(Batson and Royer 2019, arXiv 1901.11365; Krull, Buchholz, Jug 2019, arXiv 1811.10980). No other image has a part in it,
and the noise need not be known. What the pixel itself says is put to the guess where the guess is found to miss by more
than noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from napari_siren.core.image.noise import NoiseModel
from napari_siren.core.restoration.self_supervised import Learner

# What the network sees around a pixel: means of those that are not hidden under Gaussians of these standard deviations,
# in pixels; in the slices before and after, in which nothing is hidden, of those of the second line.
_WIDTHS = (0.5, 1.0, 2.0, 4.0)
_WIDTHS_BESIDE = (0.5, 2.0)
# Share of the pixels hidden in training, and in how many parts they are when the network is asked: the fewer are hidden
# the more there is to go by, and the longer it takes.
_HIDDEN, _PARTS = 0.25, 8
_CROP = 64
# Standard deviation, in pixels, of the neighbourhood in which a guess is compared with the pixels.
_NEIGHBOURHOOD = 3.0
# Where it misses by less than so many times the variance of the noise it may be chance, by more than the second it is
# none: squares of noise, in such a neighbourhood, scatter by an eighth, and photon noise has rare large values.
_CHANCE, _NO_CHANCE = 1.5, 3.0
_LEAST_WEIGHT = 1e-4
# Of normalised values: what rounding alone may leave.
_LEAST_VARIANCE = 1e-6


class BlindSpot(Learner):
    """A network that is trained on one image, or on the slices of one stack.

    Parameters
    ----------
    values
        (channels, rows, columns) or (channels, slices, rows, columns), float32, normalised to about [-1, 1].
    noise
        Of the pixels of each channel.
    seed, rough
        As in `Learner`.
    """

    rates = (0.01, 1e-3)
    # The mean of noise is 0, its median need not be.
    squared = True

    def __init__(self, values: Tensor, noise: Sequence[NoiseModel], seed: int = 0, rough: bool = False) -> None:
        self._noise = noise
        self._stack = values if values.ndim == 4 else values[:, None]
        self._flat = values.ndim == 3
        self.looks = len(_WIDTHS) + (2 * len(_WIDTHS_BESIDE) if self._stack.shape[1] > 1 else 0)
        self._kernels = {width: _gaussian(width).to(values.device) for width in (*_WIDTHS, *_WIDTHS_BESIDE)}
        self._plain = self._best_width(np.random.default_rng(seed))
        super().__init__(len(values), values.device, seed, rough)

    def pair(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Hide pixels of a part drawn at random, and return what the network adds to their neighbours' mean."""
        part = self._part(rng)
        hidden = torch.from_numpy(rng.random(part.shape[2:]) < _HIDDEN).to(self.device)
        plain, added = self._guess(part, hidden)
        # Where there is more noise a pixel says less of what the network should be.
        trust = self._trust(plain)[:, hidden]
        return trust * added[:, hidden], trust * (part[:, self._middle(part)] - plain)[:, hidden]

    @torch.no_grad()
    def predict(self, shape: Sequence[int], flips: int = 4) -> Tensor:
        """Tell what the image is without noise.

        Parameters
        ----------
        shape
            That of the image.
        flips
            How often all pixels are guessed, differently hidden and turned; the mean is taken.

        Returns
        -------
        Tensor
            (channels, *shape), normalised as the image.
        """
        told = torch.stack([self._told(number, flips) for number in range(self._stack.shape[1])], dim=1)
        values = _with_own_pixels(told.cpu().numpy(), self._stack.cpu().numpy(), self._noise)
        found = torch.from_numpy(values).to(self.device)
        return found[:, 0] if self._flat else found

    def _told(self, number: int, flips: int) -> Tensor:
        """Guess all pixels of a slice, (channels, rows, columns)."""
        rng = np.random.default_rng((self._seed, number))
        around = self._around(number)
        total = torch.zeros_like(around[:, 0])
        for _ in range(flips):
            parts = torch.from_numpy(rng.integers(_PARTS, size=around.shape[2:])).to(self.device)
            for i in range(_PARTS):
                turns, hidden = i % 4, parts == i
                plain, added = self._guess(torch.rot90(around, turns, (2, 3)), torch.rot90(hidden, turns, (0, 1)))
                total += torch.rot90(plain + added, -turns, (1, 2)) * hidden
        return total / flips

    def _guess(self, part: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the neighbours' mean, and what the network adds to it: each (channels, rows, columns)."""
        middle, seen = part[:, self._middle(part)], (~hidden).float()[None]
        means = [
            self._blurred(middle * seen, width) / self._blurred(seen, width).clamp_min(_LEAST_WEIGHT)
            for width in _WIDTHS
        ]
        plain = means[self._plain]
        looks = [plain, *((a - b) * 2 for a, b in pairwise(means))]
        if part.shape[1] > 1:
            beside = [part[:, 0], part[:, -1]]
            looks += [self._even(values, width) - plain for values in beside for width in _WIDTHS_BESIDE]
        with self.precision():
            features = self.network.encode(torch.cat(looks)[None].contiguous())
            places = [np.arange(n, dtype=np.float64) for n in hidden.shape]
            return plain, self.told(features, (places[0], places[1]), (1.0, 1.0))[0]

    def _trust(self, signal: Tensor) -> Tensor:
        """Return one over the noise's standard deviation, over the mean of that, for (channels, rows, columns)."""
        variance = torch.stack([model.variance(values) for model, values in zip(self._noise, signal, strict=True)])
        trust = variance.clamp_min(_LEAST_VARIANCE).rsqrt()
        return trust / trust.mean()

    def _part(self, rng: np.random.Generator) -> Tensor:
        """Cut a part out, flipped and turned at random: (channels, 1 or 3 slices, rows, columns)."""
        around = self._around(int(rng.integers(self._stack.shape[1])))
        sides = [min(n, _CROP) for n in around.shape[2:]]
        top, left = (int(rng.integers(n - side + 1)) for n, side in zip(around.shape[2:], sides, strict=True))
        part = torch.rot90(around[:, :, top : top + sides[0], left : left + sides[1]], int(rng.integers(4)), (2, 3))
        if rng.random() < 0.5:
            part = part.flip(3)
        return part.flip(1) if rng.random() < 0.5 else part

    def _around(self, number: int) -> Tensor:
        """Return a slice and those before and after it; at the ends, the one that is there for both."""
        last = self._stack.shape[1] - 1
        if last == 0:
            return self._stack
        beside = [abs(number - 1), number, last - abs(last - number - 1)]
        return self._stack[:, beside]

    @staticmethod
    def _middle(part: Tensor) -> int:
        return part.shape[1] // 2

    def _best_width(self, rng: np.random.Generator) -> int:
        """Return which of the means tells hidden pixels best: what the network starts from."""
        values = self._stack[:, self._stack.shape[1] // 2]
        hidden = torch.from_numpy(rng.random(values.shape[1:]) < _HIDDEN).to(values.device)
        seen = (~hidden).float()[None]
        means = [self._blurred(values * seen, w) / self._blurred(seen, w).clamp_min(_LEAST_WEIGHT) for w in _WIDTHS]
        return int(np.argmin([float((mean - values)[:, hidden].square().mean()) for mean in means]))

    def _blurred(self, values: Tensor, width: float) -> Tensor:
        """Blur (channels, rows, columns), with zeros beyond."""
        kernel, reach = self._kernels[width], len(self._kernels[width]) // 2
        rows = functional.conv2d(values[:, None], kernel.view(1, 1, -1, 1), padding=(reach, 0))
        return functional.conv2d(rows, kernel.view(1, 1, 1, -1), padding=(0, reach))[:, 0]

    def _even(self, values: Tensor, width: float) -> Tensor:
        return self._blurred(values, width) / self._blurred(torch.ones_like(values[:1]), width)


def _gaussian(width: float) -> Tensor:
    places = torch.arange(-max(1, round(3 * width)), max(1, round(3 * width)) + 1)
    weights = torch.exp(-0.5 * (places / width).square())
    return weights / weights.sum()


def _with_own_pixels(
    told: npt.NDArray[np.float32], values: npt.NDArray[np.float32], models: Sequence[NoiseModel]
) -> npt.NDArray[np.float32]:
    """Put to a guess what the pixels say themselves, as far as it misses by more than their noise.

    Of two independent estimates, the guess with an error of variance v and the pixel with one of n, the best is the
    guess and v / (v + n) of the difference; where that is not chance. v + n is seen around every pixel, n is that of
    the `NoiseModel`.
    """
    missed = values - told
    seen = np.stack([gaussian_filter(np.square(m), (0, *(_NEIGHBOURHOOD,) * 2), mode="nearest") for m in missed])
    noise = np.stack([model.variance(channel) for model, channel in zip(models, told, strict=True)])
    ratio = seen / np.maximum(noise, 1e-12)
    certain = np.clip((ratio - _CHANCE) / (_NO_CHANCE - _CHANCE), 0, 1)
    share = certain * np.clip(1 - 1 / np.maximum(ratio, 1e-12), 0, 1)
    found: npt.NDArray[np.float32] = (told + share * missed).astype(np.float32)
    return found
