"""`BlindSpot`: denoising by a network trained to predict pixels from the pixels around them.

The noise of a pixel is independent of the noise of other pixels. The best prediction of a hidden pixel is therefore the
scene without noise (Batson and Royer 2019, arXiv 1901.11365; Krull, Buchholz and Jug 2019, arXiv 1811.10980). No other
image is used, and the noise need not be known. If the residual of the prediction exceeds the noise, the pixel itself is
blended in.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

from napari_siren.core.image.filling import interpolated
from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.model import NoiseModel
from napari_siren.core.noise.shared import is_strongly_shared, models_of_shared_noise
from napari_siren.core.restoration.base import Restoration, uses_bfloat16
from napari_siren.core.restoration.pretrained.plan import plan_denoising
from napari_siren.core.restoration.self_supervised.restorer import SelfSupervisedRestorer
from napari_siren.core.settings.config import FitConfig

# Inputs of the network: weighted means of the pixels that are not hidden. The weights are Gaussians with these standard
# deviations in pixels. The second line is for the slices before and after, in which no pixel is hidden.
_WIDTHS = (0.5, 1.0, 2.0, 4.0)
_WIDTHS_BESIDE = (0.5, 2.0)
# Share of the pixels that are predicted in training, and number of parts that are predicted in turn. With more parts
# fewer pixels are hidden at once: the prediction uses more pixels, and takes longer.
_HIDDEN, _PARTS = 0.25, 8
# The same if neighbours share much of their noise. The neighbours of a predicted pixel are hidden too.
_HIDDEN_APART, _PARTS_APART, _REACH = 0.04, 24, 2
# Largest side of the part of an image in a step, in pixels.
_CROP = 64
# Smallest number of rows and of columns.
LEAST_SIDE = 16
# Standard deviation, in pixels, of the neighbourhood in which a prediction is compared with the pixels.
_NEIGHBOURHOOD = 3.0
# Mean squared residual in such a neighbourhood, in multiples of the noise variance: below the first it may be chance,
# above the second it is not. The mean of squared noise scatters by an eighth, and photon noise has rare large values.
_CHANCE, _NO_CHANCE = 1.5, 3.0
# Smallest sum of weights to divide by.
_LEAST_WEIGHT = 1e-4
# Smallest noise variance of normalised values, about that of rounding.
_LEAST_VARIANCE = 1e-6


def plan(samples: Samples, config: FitConfig, frames: npt.NDArray[np.float32] | None = None) -> Restoration | None:
    """Plan the denoising of an image or stack.

    Parameters
    ----------
    samples
        The image. It needs two or three spatial axes, and `LEAST_SIDE` rows and columns or more.
    config
        The settings.
    frames
        Not used.
    """
    if (pretrained := plan_denoising(samples, config)) is not None:
        return pretrained
    sizes = samples.layout.spatial_shape
    if len(sizes) < 2 or min(sizes[-2:]) < LEAST_SIDE:
        return None

    def create(device: torch.device, seed: int) -> BlindSpot:
        values, low_precision = torch.from_numpy(interpolated(samples)).to(device), uses_bfloat16(config, device)
        models, shared = models_of_shared_noise(samples, config), is_strongly_shared(samples, config)
        return BlindSpot(values, models, seed, low_precision, shared)

    return Restoration(sizes, BlindSpot, create)


class BlindSpot(SelfSupervisedRestorer):
    """A denoising network, trained on one image or on the slices of one stack.

    Parameters
    ----------
    values
        Image, (channels, rows, columns) or (channels, slices, rows, columns), float32, normalised to about [-1, 1].
    noise
        Noise model of each channel.
    seed, low_precision
        Seed, and whether to compute in bfloat16, as in `SelfSupervisedRestorer`.
    shared
        Whether neighbouring pixels share much of their noise. The neighbours of a predicted pixel are then hidden as
        well (Broaddus et al. 2020, doi 10.1109/ISBIWorkshops50223.2020.9153336).
    """

    rates = (0.01, 1e-3)
    default_passes = 4
    # The squared error leads to the mean. The mean of noise is 0, but its median need not be.
    squared = True

    def __init__(
        self,
        values: Tensor,
        noise: Sequence[NoiseModel],
        seed: int = 0,
        low_precision: bool = False,
        shared: bool = False,
    ) -> None:
        self._noise = noise
        self._reach = _REACH if shared else 0
        self._share, self._parts = (_HIDDEN_APART, _PARTS_APART) if shared else (_HIDDEN, _PARTS)
        self._stack = values if values.ndim == 4 else values[:, None]
        self._flat = values.ndim == 3
        self.inputs_per_channel = len(_WIDTHS) + (2 * len(_WIDTHS_BESIDE) if self._stack.shape[1] > 1 else 0)
        self._kernels = {width: _gaussian(width).to(values.device) for width in (*_WIDTHS, *_WIDTHS_BESIDE)}
        self._plain = self._best_width(np.random.default_rng(seed))
        super().__init__(len(values), values.device, seed, low_precision)

    def pair(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Hide random pixels. Return the network's correction of their neighbours' mean, and the true correction."""
        part = self._part(rng)
        predicted = self._draw(rng, part.shape[2:])
        plain, details = self._guess(part, self._hidden(predicted))
        # Pixels with more noise contain less information, and have less weight.
        trust = self._trust(plain)[:, predicted]
        return trust * details[:, predicted], trust * (part[:, self._middle(part)] - plain)[:, predicted]

    @torch.no_grad()
    def predict(self, shape: Sequence[int], passes: int = 4) -> Tensor:
        """Return the image without noise.

        Parameters
        ----------
        shape
            Spatial shape of the image.
        passes
            Number of predictions of all pixels to average. Each hides other pixels, and turns the image.

        Returns
        -------
        Tensor
            Denoised image, (channels, *shape), normalised as the image.
        """
        predictions = torch.stack([self._predict_slice(i, passes) for i in range(self._stack.shape[1])], dim=1)
        values = _with_own_pixels(predictions.cpu().numpy(), self._stack.cpu().numpy(), self._noise)
        denoised = torch.from_numpy(values).to(self.device)
        return denoised[:, 0] if self._flat else denoised

    def denoise(self, values: Tensor) -> Tensor:
        """Denoise another image, or the slices of another stack, with the network of this one."""
        other = copy.copy(self)
        other._stack = (values if values.ndim == 4 else values[:, None]).to(self._stack)
        return other.predict(values.shape[1:])

    def _predict_slice(self, number: int, passes: int) -> Tensor:
        """Predict all pixels of a slice, (channels, rows, columns)."""
        rng = np.random.default_rng((self._seed, number))
        around = self._around(number)
        total = torch.zeros_like(around[:, 0])
        for _ in range(passes):
            parts = torch.from_numpy(rng.integers(self._parts, size=around.shape[2:])).to(self.device)
            for i in range(self._parts):
                self.cancellation.check()
                turns, predicted = i % 4, parts == i
                hidden = torch.rot90(self._hidden(predicted), turns, (0, 1))
                plain, details = self._guess(torch.rot90(around, turns, (2, 3)), hidden)
                total += torch.rot90(plain + details, -turns, (1, 2)) * predicted
        return total / passes

    def _guess(self, part: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Return the neighbours' mean, and the network's correction of it, each (channels, rows, columns)."""
        middle, visible = part[:, self._middle(part)], (~hidden).float()[None]
        means = [
            self._blurred(middle * visible, width) / self._blurred(visible, width).clamp_min(_LEAST_WEIGHT)
            for width in _WIDTHS
        ]
        plain = means[self._plain]
        inputs = [plain, *((a - b) * 2 for a, b in pairwise(means))]
        if part.shape[1] > 1:
            beside = [part[:, 0], part[:, -1]]
            inputs += [self._even(values, width) - plain for values in beside for width in _WIDTHS_BESIDE]
        with self.precision():
            features = self.network.encode(torch.cat(inputs)[None].contiguous())
            positions = [np.arange(n, dtype=np.float64) for n in hidden.shape]
            return plain, self.decode(features, (positions[0], positions[1]), (1.0, 1.0))[0]

    def _draw(self, rng: np.random.Generator, shape: Sequence[int]) -> Tensor:
        """Return a mask of random pixels to predict, (rows, columns)."""
        return torch.from_numpy(rng.random(tuple(shape)) < self._share).to(self._stack.device)

    def _hidden(self, predicted: Tensor) -> Tensor:
        """Return the mask of the pixels to hide, (rows, columns)."""
        if self._reach == 0:
            return predicted
        side = 2 * self._reach + 1
        return functional.max_pool2d(predicted.float()[None], side, stride=1, padding=self._reach)[0] > 0

    def _trust(self, signal: Tensor) -> Tensor:
        """Return the weights of pixels, (channels, rows, columns).

        They are the inverse of the noise's standard deviation, divided by the mean of this inverse.
        """
        variance = torch.stack([model.variance(values) for model, values in zip(self._noise, signal, strict=True)])
        trust = variance.clamp_min(_LEAST_VARIANCE).rsqrt()
        return trust / trust.mean()

    def _part(self, rng: np.random.Generator) -> Tensor:
        """Crop a random part, randomly flipped and turned: (channels, 1 or 3 slices, rows, columns)."""
        around = self._around(int(rng.integers(self._stack.shape[1])))
        sides = [min(n, _CROP) for n in around.shape[2:]]
        top, left = (int(rng.integers(n - side + 1)) for n, side in zip(around.shape[2:], sides, strict=True))
        part = torch.rot90(around[:, :, top : top + sides[0], left : left + sides[1]], int(rng.integers(4)), (2, 3))
        if rng.random() < 0.5:
            part = part.flip(3)
        return part.flip(1) if rng.random() < 0.5 else part

    def _around(self, number: int) -> Tensor:
        """Return a slice and its two neighbours; at the ends, the only neighbour twice."""
        last = self._stack.shape[1] - 1
        if last == 0:
            return self._stack
        beside = [abs(number - 1), number, last - abs(last - number - 1)]
        return self._stack[:, beside]

    @staticmethod
    def _middle(part: Tensor) -> int:
        return part.shape[1] // 2

    def _best_width(self, rng: np.random.Generator) -> int:
        """Return the index of the best of the means as a prediction of hidden pixels, for the plain estimate."""
        values = self._stack[:, self._stack.shape[1] // 2]
        predicted = self._draw(rng, values.shape[1:])
        visible = (~self._hidden(predicted)).float()[None]
        means = [
            self._blurred(values * visible, w) / self._blurred(visible, w).clamp_min(_LEAST_WEIGHT) for w in _WIDTHS
        ]
        return int(np.argmin([float((mean - values)[:, predicted].square().mean()) for mean in means]))

    def _blurred(self, values: Tensor, width: float) -> Tensor:
        """Blur values, (channels, rows, columns), with zeros beyond the edges."""
        kernel, reach = self._kernels[width], len(self._kernels[width]) // 2
        rows = functional.conv2d(values[:, None], kernel.view(1, 1, -1, 1), padding=(reach, 0))
        return functional.conv2d(rows, kernel.view(1, 1, 1, -1), padding=(0, reach))[:, 0]

    def _even(self, values: Tensor, width: float) -> Tensor:
        """Blur values, (channels, rows, columns), without the zeros beyond the edges."""
        return self._blurred(values, width) / self._blurred(torch.ones_like(values[:1]), width)


def _gaussian(width: float) -> Tensor:
    positions = torch.arange(-max(1, round(3 * width)), max(1, round(3 * width)) + 1)
    weights = torch.exp(-0.5 * (positions / width).square())
    return weights / weights.sum()


def _with_own_pixels(
    predictions: npt.NDArray[np.float32], values: npt.NDArray[np.float32], models: Sequence[NoiseModel]
) -> npt.NDArray[np.float32]:
    """Blend the pixels into their predictions, as far as the residuals exceed the noise.

    The prediction has an error of variance v, and the pixel has noise of variance n. They are independent. The best
    combination is then the prediction plus v / (v + n) of the residual. v + n is the mean squared residual around every
    pixel, and n is the variance of the `NoiseModel`. Residuals that may be chance are not blended in.
    """
    residuals = values - predictions
    squares = np.stack([gaussian_filter(np.square(r), (0, *(_NEIGHBOURHOOD,) * 2), mode="nearest") for r in residuals])
    noise = np.stack([model.variance(channel) for model, channel in zip(models, predictions, strict=True)])
    ratio = squares / np.maximum(noise, 1e-12)
    certainty = np.clip((ratio - _CHANCE) / (_NO_CHANCE - _CHANCE), 0, 1)
    share = certainty * np.clip(1 - 1 / np.maximum(ratio, 1e-12), 0, 1)
    blended: npt.NDArray[np.float32] = (predictions + share * residuals).astype(np.float32)
    return blended
