"""The classical rivals in upscaling, and the antialiased bicubic by which the small images were made.

Images are uint8, (rows, columns) or (rows, columns, channels); sample k of a pixel grid lies at k + 0.5.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy.ndimage import zoom

Interpolator = Callable[[np.ndarray, int], np.ndarray]

# Of Keys' cubic (1981): what MATLAB's imresize and Pillow use, and the super-resolution sets were made with.
KEYS = -0.5
# Parameter of the cubic in OpenCV's INTER_CUBIC.
OPENCV = -0.75


def nearest(low: np.ndarray, scale: int) -> np.ndarray:
    return low.repeat(scale, axis=0).repeat(scale, axis=1)


def bicubic(low: np.ndarray, scale: int) -> np.ndarray:
    return _by_pillow(low, scale, Image.Resampling.BICUBIC)


def lanczos(low: np.ndarray, scale: int) -> np.ndarray:
    return _by_pillow(low, scale, Image.Resampling.LANCZOS)


def cubic_spline(low: np.ndarray, scale: int) -> np.ndarray:
    """Interpolate by the cubic spline through the pixels' centres, mirrored at the borders."""
    fine = [
        zoom(channel, scale, order=3, mode="grid-mirror", grid_mode=True)
        for channel in channels_first(low.astype(np.float64))
    ]
    return to_bytes(channels_as(low, np.stack(fine)))


def shrink(high: np.ndarray, scale: int) -> np.ndarray:
    """See an image through the forward model: (channels, rows, columns), floating, not rounded."""
    rows, columns = (shrink_matrix(n // scale, scale) for n in high.shape[:2])
    seen: np.ndarray = rows @ channels_first(high.astype(np.float64)) @ columns.T
    return seen


def decimate(high: np.ndarray, scale: int) -> np.ndarray:
    """Reduce an image without antialiasing, as `cv2.resize` with INTER_CUBIC does.

    The result is (channels, rows, columns), floating, not rounded.
    """
    rows, columns = (_cubic_matrix(n // scale, scale, 1, OPENCV) for n in high.shape[:2])
    reduced: np.ndarray = rows @ channels_first(high.astype(np.float64)) @ columns.T
    return reduced


def shrink_matrix(size: int, scale: int) -> np.ndarray:
    """Give the antialiased bicubic along one axis, (size, size * scale), each row of which sums to one.

    The cubic is stretched by the scale, and the image goes on as it is at its borders. So were the sets made: once
    their large images are rounded after the rows as well as after the columns, this gives every pixel at x3 exactly,
    and at x2 and x4 all but the ties of the rounding.
    """
    return _cubic_matrix(size, scale, scale, KEYS)


def channels_first(image: np.ndarray) -> np.ndarray:
    """Give (channels, rows, columns); a grey image has one channel."""
    return image[np.newaxis] if image.ndim == 2 else np.moveaxis(image, 2, 0)


def channels_as(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Give (channels, rows, columns) the order of axes of an image, grey or in colours."""
    return values[0] if image.ndim == 2 else np.ascontiguousarray(np.moveaxis(values, 0, 2))


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Round and clip to uint8."""
    rounded: np.ndarray = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded


def _cubic_matrix(size: int, scale: int, width: int, parameter: float) -> np.ndarray:
    """Return the cubic of a width in fine pixels along one axis, (size, size * scale)."""
    centres = (np.arange(size) + 0.5) * scale - 0.5
    first = np.floor(centres - 2 * width).astype(np.int64)
    taps = first[:, np.newaxis] + np.arange(4 * width + 2)
    weights = _keys((taps - centres[:, np.newaxis]) / width, parameter)
    matrix = np.zeros((size, size * scale))
    np.add.at(matrix, (np.arange(size)[:, np.newaxis], np.clip(taps, 0, size * scale - 1)), weights)
    matrix /= matrix.sum(axis=1, keepdims=True)
    return matrix


def _keys(x: np.ndarray, parameter: float) -> np.ndarray:
    x = np.abs(x)
    near = (parameter + 2) * x**3 - (parameter + 3) * x**2 + 1
    far = parameter * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _by_pillow(low: np.ndarray, scale: int, kernel: Image.Resampling) -> np.ndarray:
    rows, columns = low.shape[:2]
    return np.asarray(Image.fromarray(low).resize((columns * scale, rows * scale), kernel))
