"""Noise and compression by cameras: simulated noise, the map of its standard deviation, and JPEG of luminance.

The variance at a signal s is a + b s: photons give b, reading noise and all Gaussian noise give a. Signals are
luminance from 0 (black) to 1 (white), or the values of a micrograph with a range of about 0 to 1.

The map for the networks is the standard deviation sqrt(max(0, a + b max(0, g))), pixel by pixel. Here g is the noisy
image after a Gaussian filter: sigma 1.5 pixels, 9 taps an axis (normalised), outermost pixels repeated beyond the
ends. It is `scipy.ndimage.gaussian_filter(noisy, 1.5, mode="nearest", radius=4)`.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.pretrained_network.resampling import apply

Array = npt.NDArray[np.float64]

# Standard deviation and radius of the filter of the map, in pixels.
SIGMA, RADIUS = 1.5, 4
# Least variance at white of simulated photons: that of a tenth of a grey level.
_LEAST = 1e-7
# Luminance table of the JPEG standard (Annex K). libjpeg scales it by the quality.
TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)


def add_noise(signal: Tensor, a: Tensor, b: Tensor, *, multiplied: Tensor | None = None) -> Tensor:
    """Return a noisy signal, (images, rows, columns), of the variance a + b signal.

    Parameters
    ----------
    signal
        The signal, not below 0.
    a, b
        Parameters of the noise, (images,).
    multiplied
        Images whose photons pass an electron multiplier (1, and 0 for the others), (images,). It doubles the variance
        of photons, so there are half as many. None is no image.
    """
    gain = b.clamp(min=_LEAST)[:, None, None]
    if multiplied is not None:
        gain = gain / (1 + multiplied[:, None, None])
    photons = torch.poisson(signal.clamp(min=0) / gain)
    if multiplied is not None:
        photons = torch.where(multiplied[:, None, None] > 0, _multiplied(photons), photons)
    return photons * gain + torch.randn_like(signal) * a.sqrt()[:, None, None]


def _multiplied(photons: Tensor) -> Tensor:
    """Return random numbers of the gamma distribution whose shapes are whole numbers (Wilson and Hilferty 1931)."""
    count = photons.clamp(min=1)
    root = 1 - 1 / (9 * count) + torch.randn_like(count) / (3 * count.sqrt())
    return torch.where(photons > 0, count * root.clamp(min=0) ** 3, 0)


def noise_of(signal: Tensor, offset: Tensor, gain: Tensor, least: Tensor) -> Tensor:
    """Return noise of the variance max(least, offset + gain signal), for signals that may be below 0.

    The variance gain signal is that of photons, and the rest is Gaussian.

    Parameters
    ----------
    signal
        The signal, (images, rows, columns).
    offset, gain, least
        Numbers for each image, (images,).
    """
    offset, gain, least = (values[:, None, None] for values in (offset, gain, least))
    variance = (offset + gain * signal).maximum(least).clamp(min=0)
    photons = (gain * signal).clamp(min=0).minimum(variance)
    unit = gain.clamp(min=_LEAST)
    rate = photons / unit.square()
    return unit * (torch.poisson(rate) - rate) + (variance - photons).sqrt() * torch.randn_like(signal)


def deviation(noisy: Tensor, a: Tensor, b: Tensor, least: Tensor | None = None) -> Tensor:
    """Return the map of the noise's standard deviation for noisy images (images, rows, columns).

    Parameters
    ----------
    noisy
        The images.
    a, b
        Variance at a signal of 0, and its increase with the signal, (images,) each.
    least
        Smallest variance, (images,). None is 0.
    """
    rows, columns = (filter_on(noisy.device, n) for n in noisy.shape[1:])
    smooth = apply(rows, columns, noisy).clamp(min=0)
    variance = (a[:, None, None] + b[:, None, None] * smooth).clamp(min=0)
    return variance.sqrt() if least is None else variance.maximum(least[:, None, None]).sqrt()


@cache
def filter_on(device: torch.device, length: int) -> Tensor:
    """Return the matrix (length, length) of the map's filter, always the same tensor, as CUDA graphs need it."""
    steps = np.arange(-RADIUS, RADIUS + 1)
    weights = np.exp(-0.5 * (steps / SIGMA) ** 2)
    matrix = np.zeros((length, length))
    pixels = np.clip(np.arange(length)[:, None] + steps, 0, length - 1)
    np.add.at(matrix, (np.arange(length)[:, None], pixels), weights / weights.sum())
    return torch.from_numpy(matrix.astype(np.float32)).to(device)


def gaussians(sigma: Tensor, outputs: int, margin: int, shift: Tensor | None = None) -> Tensor:
    """Return matrices (images, outputs, outputs + 2 margin) of Gaussian filters, one sigma and shift for each image."""
    device = sigma.device
    steps = torch.arange(outputs + 2 * margin, device=device) - torch.arange(outputs, device=device)[:, None] - margin
    steps = steps if shift is None else steps + shift[:, None, None]
    weights = (-0.5 * (steps / sigma[:, None, None]).square()).exp()
    return weights / weights.sum(2, keepdim=True)


def draw_cameras(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Return a and b of cameras, (count,) each: Gaussian noise for half of them, photons and reading for the others.

    Gaussian: sigma 0 to 60 grey levels of 255, as 60 u^2 for u evenly from 0 to 1. Photons: from 20 to 2000 at white,
    evenly in their logarithm, with 0 to 5 electrons of reading noise.
    """
    gaussian = rng.random(count) < 0.5
    sigma = 60 / 255 * rng.random(count) ** 2
    photons = draw_logarithmic(rng, count, 20, 2000)
    reading = rng.uniform(0, 5, count) / photons
    return np.where(gaussian, sigma, reading) ** 2, np.where(gaussian, 0.0, 1 / photons)


def draw_logarithmic(rng: np.random.Generator, count: int, low: float, high: float) -> Array:
    """Return numbers (count,) from low to high, with evenly distributed logarithms."""
    return np.exp(rng.uniform(np.log(low), np.log(high), count))


def jpeg_tables(quality: Tensor, device: torch.device) -> Tensor:
    """Return libjpeg's luminance tables for qualities from 1 to 100: (images,) -> (images, 8, 8)."""
    quality = quality.round().clamp(1, 100)
    scale = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    return ((_table_on(device) * scale[:, None, None] + 50) / 100).floor().clamp(1, 255)


def jpeg(image: Tensor, quality: Tensor) -> Tensor:
    """Compress images by JPEG, and return the decompressed images.

    Parameters
    ----------
    image
        Images (images, rows, columns): rows and columns are multiples of 8, values whole grey levels divided by 255.
    quality
        Quality of each image, (images,), 1 to 100.
    """
    height, width = image.shape[1:]
    rows, columns = (_cosines_on(image.device, n) for n in (height, width))
    table = jpeg_tables(quality, image.device).repeat(1, height // 8, width // 8)
    coefficients = rows @ (image * 255 - 128) @ columns.T
    levels = rows.T @ (_quantised(coefficients, table) * table) @ columns + 128
    return levels.round().clamp(0, 255) / 255


def shifted_jpeg(image: Tensor, quality: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Compress images as `jpeg` does, with the first blocks up to 7 pixels outside of the image.

    Parameters
    ----------
    image, quality
        Images and qualities, as for `jpeg`.
    down, right
        Number of rows and columns of the first blocks outside of the image, (images,) each, from 0 to 7. There the
        outermost pixels are repeated, as libjpeg does at an image's other ends.
    """
    height, width = image.shape[1:]
    rows, columns = _window(down, height), _window(right, width)
    padded = jpeg(rows[0] @ image @ columns[0].mT, quality)
    return rows[1] @ padded @ columns[1].mT


def _quantised(coefficients: Tensor, table: Tensor) -> Tensor:
    """Return whole multiples of the table. libjpeg has coefficients to an eighth, and rounds halves away from zero."""
    eighths = (8 * coefficients).round()
    return ((eighths.abs() + 4 * table) / (8 * table)).floor() * eighths.sign()


def _window(before: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return matrices to pad an axis by repeating its ends, and to remove the padding."""
    device = before.device
    inner, outer = torch.arange(length, device=device), torch.arange(length + 8, device=device)
    pixels = outer - before[:, None]
    pad = (pixels.clamp(0, length - 1)[:, :, None] == inner).float()
    cut = (pixels[:, None, :] == inner[:, None]).float()
    return pad, cut


@cache
def _table_on(device: torch.device) -> Tensor:
    return torch.tensor(TABLE, dtype=torch.float32).to(device)


@cache
def _cosines_on(device: torch.device, length: int) -> Tensor:
    """Return the matrix (length, length) of the cosine transform of each 8 pixels."""
    order, pixel = np.arange(8)[:, None], np.arange(8)
    block = np.cos((2 * pixel + 1) * order * math.pi / 16) * np.where(order, 0.5, math.sqrt(1 / 8))
    return torch.from_numpy(np.kron(np.eye(length // 8), block).astype(np.float32)).to(device)
