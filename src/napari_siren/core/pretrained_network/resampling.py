"""Matrices for the resampling of one axis of an image, luminance, and PSNR."""

from __future__ import annotations

import math
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Red, green and blue, from 0 to 1, to luminance from 0 (black) to 1 (white): BT.601 as in MATLAB's rgb2ycbcr.
LUMA = (65.481 / 219, 128.553 / 219, 24.966 / 219)
# Values of rgb2ycbcr for luminance 0 and 1, of 255.
BLACK, WHITE = 16.0, 235.0

Array = npt.NDArray[np.float64]


def cubic(x: Array) -> Array:
    """Return the cubic convolution kernel of Keys with a = -0.5, as in MATLAB."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def linear(x: Array) -> Array:
    """Return the triangular kernel of linear interpolation."""
    weights: Array = np.maximum(0.0, 1 - np.abs(x))
    return weights


def overlap(x: Array, width: float) -> Array:
    """Return the overlap of a pixel with a box of a width in pixels, from the distance of their centres."""
    return np.clip(width / 2 + 0.5 - np.abs(x), 0, min(1.0, width))


@lru_cache(maxsize=256)
def coarser(inputs: int, outputs: int, margin: int = 0, kernel: str = "cubic") -> Tensor:
    """Return the weights of MATLAB's imresize for fewer pixels: the kernel is as wide as the coarse pixels.

    Parameters
    ----------
    inputs, outputs
        Number of pixels along the axis.
    margin
        Number of additional input pixels at either end. Beyond them the outermost pixel is repeated.
    kernel
        Name of the kernel: "cubic", as in imresize, or "box", the mean over the area of the coarse pixel.

    Returns
    -------
    Tensor
        Matrix (outputs, inputs + 2 margin), float32.
    """
    return _matrix(inputs, outputs, max(1.0, inputs / outputs), margin, kernel)


@lru_cache(maxsize=256)
def finer(inputs: int, outputs: int, kernel: str = "cubic") -> Tensor:
    """Return the weights of interpolation, (outputs, inputs); beyond the ends the outermost pixel is repeated."""
    return _matrix(inputs, outputs, 1.0, 0, kernel)


def finer_taps(
    inputs: int, outputs: int, start: int, stop: int, kernel: str = "cubic"
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return the nonzero entries of rows `start` to `stop` of `finer`, without the matrix.

    Parameters
    ----------
    inputs, outputs
        Number of pixels along the axis.
    start, stop
        Range of output pixels.
    kernel
        Name of the kernel: "cubic" or "linear".

    Returns
    -------
    tuple
        Input pixels and their weights, (stop - start, taps) each: 2 taps for "linear", 4 for "cubic". A pixel at an
        end of the axis may occur in several taps.
    """
    reach = {"cubic": 2, "linear": 1}[kernel]
    centres = _centres(inputs, outputs, start, stop)
    taps = np.floor(centres).astype(np.int64)[:, None] + np.arange(1 - reach, 1 + reach)
    weights = _KERNELS[kernel](centres[:, None] - taps)
    weights /= weights.sum(1, keepdims=True)
    return np.clip(taps, 0, inputs - 1), weights.astype(np.float32)


def _centres(inputs: int, outputs: int, start: int, stop: int) -> Array:
    """Return the centres of output pixels, in input pixels from the centre of the first."""
    return (np.arange(start, stop, dtype=np.float64) + 0.5) * (inputs / outputs) - 0.5


_KERNELS = {"cubic": cubic, "linear": linear}


def _matrix(inputs: int, outputs: int, width: float, margin: int, kernel: str) -> Tensor:
    centres = _centres(inputs, outputs, 0, outputs)
    reach = math.ceil(2 * width) + 1
    taps = np.floor(centres).astype(int)[:, None] + np.arange(-reach, reach + 1)
    steps = centres[:, None] - taps
    weights = overlap(steps, width) if kernel == "box" else _KERNELS[kernel](steps / width)
    weights /= weights.sum(1, keepdims=True)
    length = inputs + 2 * margin
    matrix = np.zeros((outputs, length))
    np.add.at(matrix, (np.arange(outputs)[:, None], np.clip(taps + margin, 0, length - 1)), weights)
    return torch.from_numpy(matrix.astype(np.float32))


@cache
def finer_on(device: torch.device, dtype: torch.dtype, inputs: int, outputs: int, kernel: str = "cubic") -> Tensor:
    """Return `finer` on a device, always the same tensor: a CUDA graph cannot copy one from the host's memory."""
    return finer(inputs, outputs, kernel).to(device, dtype)


def margin_of(scale: float) -> int:
    """Return the number of pixels beyond a crop with an influence in `coarser`."""
    return math.ceil(2 * scale) + 1


def apply(rows: Tensor, columns: Tensor, image: Tensor) -> Tensor:
    """Multiply each of the last two axes of an image by a matrix."""
    return rows @ image @ columns.T


def shrunk(rows: Tensor, columns: Tensor, image: Tensor) -> Tensor:
    """Make an image of 0 to 1 coarser as MATLAB does for 8 bits, with rounding after each axis."""
    return rounded(rounded(rows @ image) @ columns.T)


def rounded(image: Tensor) -> Tensor:
    """Round to the 256 values of 8 bits between 0 and 1, halves upwards."""
    return (image * 255 + 0.5001).floor().clamp(0, 255) / 255


def luminance(image: Tensor) -> Tensor:
    """Return the luminance, 0 to 1, of (…, 3, rows, columns) of the same range, or of a single channel of luminance."""
    if image.shape[-3] == 1:
        return image.squeeze(-3)
    red, green, blue = image.unbind(-3)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def decibels(result: Tensor, truth: Tensor, border: int, grey: bool = False) -> float:
    """Return the PSNR of luminance (rows, columns), 0 to 1, in dB, by the convention of the literature.

    Parameters
    ----------
    result, truth
        The images to compare.
    border
        Width of the border without influence, in pixels.
    grey
        Whether the PSNR is that of the values themselves, and not that of Y of YCbCr in 8 bits.
    """
    black, white = (0.0, 255.0) if grey else (BLACK, WHITE)
    y = [(black + (white - black) * image.double().clamp(-0.1, 1.1)).round().clamp(0, 255) for image in (result, truth)]
    inner = slice(border, -border if border else None)
    error = float((y[0] - y[1])[..., inner, inner].square().mean())
    return 10 * math.log10(255**2 / max(error, 1e-12))
