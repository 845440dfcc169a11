"""Noise2VST (Herbreteau and Unser 2025, arXiv 2407.17399) with the pretrained networks of the package.

A denoiser for white noise of one known level is frozen. Before it, an increasing, piecewise linear transform of the
grey levels stabilises the variance of the noise. After it, the inverse of the transform, plus a line that corrects the
bias of the inverse, leads back to grey levels. The transform and the line are learned from the noisy image alone: of
each 4 x 4 pixels the transform of one is replaced by the mean of its four neighbours, and the squared error between the
prediction and the noisy value of these pixels is minimised.

The knots, the masks, the crops and Adam's rates are the authors'. They take 2,000 steps and FFDNet or DRUNet. Here the
network is the one of `NETWORKS` with the smaller error of the masked pixels.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from napari_siren.core.pretrained_network.network import PretrainedNetwork, restore
from napari_siren.core.restoration.flips import FLIPS
from napari_siren.core.restoration.pretrained.weights import DENOISE, MICROSCOPE, package_weights

NETWORKS = (DENOISE, MICROSCOPE)
STEPS = (100, 300)
KNOTS = 128
# Standard deviation of the noise for which the frozen network is asked, in the range 0 to 1 of its input.
LEVEL = 25 / 255
# One masked pixel in so many, along each axis.
STRIDE = 4
# Number and side of the crops of a step.
CROPS, SIDE = 4, 64
# Adam's rate, and its factor after each third of the steps.
RATE, DECAY = 1e-2, 0.1
# Number of masks for the error of the masked pixels, and largest side of the part of the image on which it is measured.
_TRIALS, _TRIAL_SIDE = 4, 256


class Stabiliser(nn.Module):
    """An increasing, piecewise linear transform of 0 to 1, and its inverse with a correction.

    The knots are equidistant; the first and the last segment go on beyond them. At first it is the identity.
    """

    def __init__(self, knots: int = KNOTS) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(1))
        # Logarithms of the slopes of the segments: any values give an increasing transform.
        self.log_slopes = nn.Parameter(torch.zeros(knots - 1))
        # Offset and slope of the line that is added to the inverse.
        self.line = nn.Parameter(torch.zeros(2))

    def forward(self, values: Tensor) -> Tensor:
        """Return the transform of grey levels."""
        heights, slopes = self._heights(), self.log_slopes.exp()
        segment = (values.detach() * len(slopes)).long().clamp(0, len(slopes) - 1)
        return heights[segment] + slopes[segment] * (values - segment / len(slopes))

    def inverse(self, values: Tensor) -> Tensor:
        """Return grey levels for transformed ones: the algebraic inverse plus the line."""
        heights, slopes = self._heights(), self.log_slopes.exp()
        # `values` may have any strides, and the search wants others.
        segment = torch.searchsorted(heights.detach(), values.detach().contiguous(), right=True) - 1
        segment = segment.clamp(0, len(slopes) - 1)
        levels = segment / len(slopes) + (values - heights[segment]) / slopes[segment]
        return levels + self.line[0] + self.line[1] * values

    def _heights(self) -> Tensor:
        """Return the transform at the knots."""
        rises = self.log_slopes.exp() / len(self.log_slopes)
        return torch.cat([self.start, self.start + rises.cumsum(0)])


@dataclass(frozen=True)
class Fitted:
    """A learned transform for an image in 0 to 1, and a frozen network.

    Parameters
    ----------
    name, network
        Name of the weights, and the network.
    stabiliser
        The transform.
    error
        Mean squared error of the masked pixels.
    """

    name: str
    network: PretrainedNetwork
    stabiliser: Stabiliser
    error: float

    @torch.no_grad()
    def denoised(self, image: Tensor) -> Tensor:
        """Return the denoised image; the network's outputs for flipped and rotated images are averaged, as in ours."""
        inputs = _with_level(self.stabiliser(image)[None])[0]
        rows, columns = image.shape
        outputs = []
        for flip in FLIPS:
            size = (columns, rows) if flip.turned else (rows, columns)
            outputs.append(flip.back(restore(self.network, flip(inputs)[None].contiguous(), size)[0]))
        return self.stabiliser.inverse(torch.stack(outputs).mean(0))


def denoise(image: np.ndarray, steps: int, seed: int = 0) -> tuple[np.ndarray, dict[str, float]]:
    """Denoise an image by Noise2VST.

    Parameters
    ----------
    image
        Image, (rows, columns).
    steps
        Number of training steps.
    seed
        Seed of the crops and the masks.

    Returns
    -------
    tuple
        The result, float64, in the units of the image, and the error of the masked pixels with each network. The
        network with the smaller one is used.
    """
    low, span = float(image.min()), float(np.ptp(image)) or 1.0
    values = torch.from_numpy((image.astype(np.float64) - low) / span).float()
    results = [fitted(values, name, steps, seed) for name in NETWORKS]
    best = min(results, key=lambda result: result.error)
    return low + span * best.denoised(values).double().numpy(), {result.name: result.error for result in results}


def fitted(image: Tensor, name: str, steps: int, seed: int) -> Fitted:
    """Learn the transform for an image, (rows, columns) in 0 to 1, and weights of the package."""
    network = copy.deepcopy(package_weights(name).network).requires_grad_(False)
    stabiliser = Stabiliser()
    optimizer = torch.optim.Adam(stabiliser.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, max(1, math.ceil(steps / 3)), DECAY)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        masked_error(stabiliser, network, _crops(image, rng), *rng.integers(STRIDE, size=2)).backward()
        optimizer.step()
        schedule.step()
    return Fitted(name, network, stabiliser, _trial(stabiliser, network, image))


def masked_error(stabiliser: Stabiliser, network: PretrainedNetwork, images: Tensor, row: int, column: int) -> Tensor:
    """Return the mean squared error of the masked pixels.

    Parameters
    ----------
    stabiliser, network
        The transform and the frozen network.
    images
        Images, (images, rows, columns).
    row, column
        Row and column of the first masked pixel, less than `STRIDE`.
    """
    masked = (..., slice(row, None, STRIDE), slice(column, None, STRIDE))
    stable = stabiliser(images)
    mask = torch.zeros_like(images, dtype=torch.bool)
    mask[masked] = True
    inputs = _with_level(torch.where(mask, _neighbours(stable), stable))
    restored = network(inputs, (images.shape[1], images.shape[2]))
    return functional.mse_loss(stabiliser.inverse(restored[masked]), images[masked])


@torch.no_grad()
def _trial(stabiliser: Stabiliser, network: PretrainedNetwork, image: Tensor) -> float:
    """Return the error of the masked pixels in the middle of the image, for fixed masks."""
    starts = [max(0, (n - _TRIAL_SIDE) // 2) for n in image.shape]
    middle = image[tuple(slice(start, start + _TRIAL_SIDE) for start in starts)]
    errors = [masked_error(stabiliser, network, middle[None], k, k) for k in range(_TRIALS)]
    return float(torch.stack(errors).mean())


def _crops(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Return random crops, flipped and rotated: (crops, side, side)."""
    crops, side = [], min(SIDE, *image.shape)
    for flip in rng.integers(len(FLIPS), size=CROPS):
        row, column = (int(rng.integers(n - side + 1)) for n in image.shape)
        crops.append(FLIPS[flip](image[row : row + side, column : column + side]))
    return torch.stack(crops)


def _neighbours(images: Tensor) -> Tensor:
    """Return the mean of the four neighbours of each pixel; images are mirrored at their ends."""
    padded = functional.pad(images[:, None], (1, 1, 1, 1), mode="reflect")[:, 0]
    vertical = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1]
    return (vertical + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]) / 4


def _with_level(images: Tensor) -> Tensor:
    """Return images and a map of the constant noise level: (images, 2, rows, columns)."""
    return torch.stack([images, torch.full_like(images, LEVEL)], dim=1)
