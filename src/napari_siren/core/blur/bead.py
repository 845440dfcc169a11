"""`psf_from_bead`: the PSF in the image of a bead."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from napari_siren.errors import InputError

# Largest distance from the centre of a PSF in pixels. A larger PSF takes more time, and its edge is mostly noise.
_REACH = 32
# Standard deviation in pixels of the Gaussian that is applied before a bead is searched, against noise.
_SMOOTHING = 1.0
# Smallest height of a bead above the noise of the smoothed image. Of 10^6 values of noise, the largest is near 5.
_CONTRAST = 8
# Height above that noise down to which light belongs to the bead. The noise beyond is left out: all its positive values
# together would outweigh the bead.
_TAIL = 3
# Shares of the bead's height: of the core, which is centred, and of other beads, which limit the box.
_CORE, _OTHERS = 0.5, 0.2
# Standard deviation of a normal distribution with a median absolute deviation of 1.
_DEVIATION = 1.4826


def psf_from_bead(image: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Make a PSF from the image of a bead: centred, without background, with the sum 1.

    The brightest bead is used. The background is the median of the pixels at the edge of the image. The bead is moved
    by a fraction of a pixel, by cubic splines, so that the centroid of its core is at the middle of a pixel.

    Parameters
    ----------
    image
        Image of a bead that is smaller than the resolution, with the pixels of the image to restore. It may have an
        even size, noise and other beads.

    Returns
    -------
    ndarray
        PSF, with an odd number of pixels along each axis. The bead is in the middle. The box ends where the bead is as
        dark as the noise, halfway to the next bead, at the edge of the image, or 32 pixels from the centre.

    Raises
    ------
    InputError
        The image has values that are not finite, or no bead stands out of the noise, or the bead touches the edge.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.full((9, 12), 100.0)
    >>> image[4, 7] = 160
    >>> psf = psf_from_bead(image)
    >>> psf.shape, round(float(psf[4, 4]), 6)
    ((9, 9), 1.0)
    """
    try:
        values = np.asarray(image, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("the bead image is not an array of numbers. Choose another image.") from None
    if values.ndim == 0 or values.size == 0 or not np.isfinite(values).all():
        raise InputError("the bead image has no pixels, or values that are not finite. Choose another image.")
    rounding = 1e-9 * float(np.abs(values).max())
    values = values - np.median(_edge(values))
    smooth = ndimage.gaussian_filter(values, _SMOOTHING)
    noise = _DEVIATION * float(np.median(np.abs(_edge(smooth) - np.median(_edge(smooth)))))
    height = float(smooth.max())
    if not height > max(_CONTRAST * noise, rounding):
        raise InputError(
            "the bead image has no spot that stands out of the noise. Choose an image of one bead, or average several."
        )
    core = _spot(smooth > _CORE * height, smooth)
    if any(_edge(core, axis).any() for axis, n in enumerate(core.shape) if n > 1):
        raise InputError("the bead is at the edge of its image. Crop the image so that the bead is in the middle.")
    centre = np.array(ndimage.center_of_mass(np.where(core, smooth - _CORE * height, 0)))
    bead = _spot(smooth > _TAIL * noise, smooth)
    middle = np.round(centre).astype(np.int64)
    reach = np.minimum(_extent(bead, middle), _room(smooth, middle, height))
    # The box is moved with a margin of one pixel, if there is one.
    start = np.maximum(middle - reach - 1, 0)
    outer = tuple(slice(s, m + r + 2) for s, m, r in zip(start, middle, reach, strict=True))
    light = np.where(ndimage.binary_dilation(bead[outer]), values[outer], 0)
    moved = ndimage.shift(light, middle - centre, mode="nearest")
    psf = np.maximum(moved[tuple(slice(m - r, m + r + 1) for m, r in zip(middle - start, reach, strict=True))], 0)
    normalised: npt.NDArray[np.float64] = psf / psf.sum()
    return normalised


def _edge(values: npt.NDArray[Any], axis: int | None = None) -> npt.NDArray[Any]:
    """Return the values at both ends of an axis, or of all axes."""
    axes = range(values.ndim) if axis is None else (axis,)
    return np.concatenate([np.take(values, [0, -1], axis=a).ravel() for a in axes])


def _spot(mask: npt.NDArray[np.bool_], smooth: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return the connected part of a mask around the largest value."""
    labels, _ = ndimage.label(mask)
    spot: npt.NDArray[np.bool_] = labels == labels.flat[smooth.argmax()]
    return spot


def _room(smooth: npt.NDArray[Any], middle: npt.NDArray[np.int64], height: float) -> list[int]:
    """Return the largest reach of a box along each axis: to the edge of the image, and halfway to other beads."""
    room = [min(m, n - 1 - m, _REACH) for m, n in zip(middle.tolist(), smooth.shape, strict=True)]
    labels, count = ndimage.label(smooth > _OTHERS * height)
    others = [n for n in range(1, count + 1) if n != labels.flat[smooth.argmax()]]
    for peak in ndimage.maximum_position(smooth, labels, others) if others else []:
        distances = np.abs(np.array(peak) - middle)
        axis = int(distances.argmax())
        room[axis] = min(room[axis], int(distances[axis]) // 2)
    return room


def _extent(bead: npt.NDArray[np.bool_], middle: npt.NDArray[np.int64]) -> list[int]:
    """Return the distance from the middle to just outside the bead along each axis."""
    distances = np.abs(np.argwhere(bead) - middle).max(axis=0) + 1
    return [int(distance) for distance in distances]
