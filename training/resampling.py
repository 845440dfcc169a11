"""Matrices that make an axis of an image coarser or finer, and luminance."""

from __future__ import annotations

import math
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor

# Red, green and blue, from 0 to 1, to luminance from 0 (black) to 1 (white): BT.601 as MATLAB's rgb2ycbcr.
LUMA = (65.481 / 219, 128.553 / 219, 24.966 / 219)
# The same luminance as rgb2ycbcr gives it, of 255.
BLACK, WHITE = 16.0, 235.0


def cubic(x: np.ndarray) -> np.ndarray:
    """Give Keys' kernel with a = -0.5, which is MATLAB's."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def linear(x: np.ndarray) -> np.ndarray:
    """Give the triangle."""
    return np.maximum(0.0, 1 - np.abs(x))


@lru_cache(maxsize=256)
def coarser(inputs: int, outputs: int, margin: int = 0) -> Tensor:
    """Weights of MATLAB's imresize to fewer pixels: the kernel is as wide as the pixels that are wanted.

    Parameters
    ----------
    inputs, outputs
        Number of pixels along the axis.
    margin
        So many more pixels are there at either end; beyond all of them everything is as it is there.

    Returns
    -------
    Tensor
        (outputs, inputs + 2 margin), float32.
    """
    return _matrix(inputs, outputs, max(1.0, inputs / outputs), margin, "cubic")


@lru_cache(maxsize=256)
def finer(inputs: int, outputs: int, kernel: str = "cubic") -> Tensor:
    """Weights of interpolation to more pixels, (outputs, inputs); beyond the last pixel all is as it is there."""
    return _matrix(inputs, outputs, 1.0, 0, kernel)


def _matrix(inputs: int, outputs: int, width: float, margin: int, kernel: str) -> Tensor:
    scale = inputs / outputs
    centres = (np.arange(outputs) + 0.5) * scale - 0.5
    reach = math.ceil(2 * width) + 1
    taps = np.floor(centres).astype(int)[:, None] + np.arange(-reach, reach + 1)
    shape = cubic if kernel == "cubic" else linear
    weights = shape((centres[:, None] - taps) / width)
    weights /= weights.sum(1, keepdims=True)
    length = inputs + 2 * margin
    matrix = np.zeros((outputs, length))
    np.add.at(matrix, (np.arange(outputs)[:, None], np.clip(taps + margin, 0, length - 1)), weights)
    return torch.from_numpy(matrix.astype(np.float32))


@cache
def finer_on(device: torch.device, dtype: torch.dtype, inputs: int, outputs: int, kernel: str = "cubic") -> Tensor:
    """Give `finer` on a device, the same tensor each time: a CUDA graph can make none out of the host's memory."""
    return finer(inputs, outputs, kernel).to(device, dtype)


def margin_of(scale: float) -> int:
    """How many pixels `coarser` needs beyond a crop, so as not to see where it ends."""
    return math.ceil(2 * scale) + 1


def apply(rows: Tensor, columns: Tensor, image: Tensor) -> Tensor:
    """Apply a matrix to each of the last two axes of an image."""
    return rows @ image @ columns.T


def shrunk(rows: Tensor, columns: Tensor, image: Tensor) -> Tensor:
    """Make an image of 0 to 1 coarser as MATLAB does one of 8 bits, which it rounds after each axis."""
    return rounded(rounded(rows @ image) @ columns.T)


def rounded(image: Tensor) -> Tensor:
    """Round to the 256 values that 8 bits can hold between 0 and 1, halves upwards."""
    return (image * 255 + 0.5001).floor().clamp(0, 255) / 255


def luminance(image: Tensor) -> Tensor:
    """Luminance, 0 to 1, of (…, 3, rows, columns) of the same range: (…, rows, columns)."""
    red, green, blue = image.unbind(-3)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def decibels(found: Tensor, true: Tensor, border: int, grey: bool = False) -> float:
    """PSNR as the literature gives it, of luminance (rows, columns), 0 to 1.

    It is that of Y of YCbCr in 8 bits, without a border, or of the values themselves where an image is grey.
    """
    black, white = (0.0, 255.0) if grey else (BLACK, WHITE)
    y = [(black + (white - black) * image.double().clamp(-0.1, 1.1)).round().clamp(0, 255) for image in (found, true)]
    inner = slice(border, -border if border else None)
    error = float((y[0] - y[1])[..., inner, inner].square().mean())
    return 10 * math.log10(255**2 / max(error, 1e-12))
