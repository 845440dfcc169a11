"""Values far outside the range of an image, such as hot pixels of a camera."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import label

from napari_siren.core.image.filling import interpolated
from napari_siren.core.image.samples import Samples

# Normalised values beyond it are outliers. Of all values of an image, 99.8 % lie between -1 and 1. Measured with one
# such pixel in noise, a photograph and a micrograph: at 20, the RMS error within 7 pixels is 1.1 to 2.9 times as large
# as without it, and that of the other pixels up to 1.6 times. At 5, the latter is at most 1.1 times as large. No value
# of 140 photographs and micrographs was beyond 4.
_LIMIT = 20
# Pixels of a group have values beyond the lower limit and touch, also at a corner. A group of more than 3 pixels to the
# power of the number of axes shows the shape of a spot, which tiles follow better: measured for Gaussian spots with
# standard deviations of 1.2 and 2 pixels, at twice the resolution.
_LOWER_LIMIT, _LARGEST_SIDE = 5, 3
# Number of values for each outlier that can be kept apart from the tiles. More of them are a part of the picture.
_VALUES_PER_OUTLIER = 1000


def far_values(samples: Samples) -> npt.NDArray[np.bool_]:
    """Return the mask of the outliers among the values to fit, bool, (channels, *spatial)."""
    return (np.abs(samples.values) > _LIMIT) & samples.used


def pixels_apart(samples: Samples, far: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_] | None:
    """Return the mask of the pixels to keep apart from the tiles, bool, (*spatial).

    They are the pixels with an outlier in any channel, alone or in a small group. It is None if there are none, or too
    many.

    Parameters
    ----------
    samples
        Samples of the image.
    far
        Mask of the outliers, see `far_values`.
    """
    if not far.any():
        return None
    high = (np.abs(samples.values) > _LOWER_LIMIT).any(axis=0)
    groups, _ = label(high, np.ones((3,) * high.ndim))
    apart: npt.NDArray[np.bool_] = far.any(axis=0) & (np.bincount(groups.ravel())[groups] <= _LARGEST_SIDE**high.ndim)
    return apart if 0 < int((far & apart).sum()) <= max(1, far.size // _VALUES_PER_OUTLIER) else None


def without_pixels(samples: Samples, apart: npt.NDArray[np.bool_]) -> Samples:
    """Return the samples with the values of some pixels interpolated from the pixels around them.

    Parameters
    ----------
    samples
        Samples of the image.
    apart
        Mask of these pixels, bool, (*spatial).
    """
    values = samples.values.copy()
    values[:, apart] = interpolated(replace(samples, observed=samples.observed & ~apart))[:, apart]
    return replace(samples, values=values)


def exact_values(samples: Samples, apart: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the normalised values of some pixels, float64, (pixels, channels), in the order of `np.nonzero`.

    `Samples.values` are float32, which has too few digits for outliers of 32-bit integers.
    """
    layout = samples.layout
    offset, scale = np.array(layout.offset), np.array(layout.scale)
    values = layout.to_channels_first(samples.image)[:, apart].T.astype(np.float64)
    exact: npt.NDArray[np.float64] = (values - offset) / np.where(scale > 0, scale, 1.0)
    return exact


def outlier_notes(far: npt.NDArray[np.bool_], apart: npt.NDArray[np.bool_] | None) -> Iterator[str]:
    """Yield notes on the outliers of an image.

    The error of a fit is relative to the largest contrast in a tile. An outlier in a tile therefore raises the error
    around it.

    Parameters
    ----------
    far
        Mask of the outliers, see `far_values`.
    apart
        Mask of the pixels that are kept apart from the tiles, or None.

    Examples
    --------
    >>> import numpy as np
    >>> far = np.eye(3, dtype=bool)[:1, None]
    >>> next(outlier_notes(far, far[0]))
    '1 value is far outside the range of the others; it is kept exactly, apart from the tiles'
    """
    kept = 0 if apart is None else int((far & apart).sum())
    if kept:
        they = "it is" if kept == 1 else "they are"
        yield f"{_values(kept)} far outside the range of the others; {they} kept exactly, apart from the tiles"
    if others := int(far.sum()) - kept:
        yield (
            f"{_values(others)} far outside the range of the others, and the error around is larger; mark such pixels "
            "as missing to fit the others well"
        )


def _values(count: int) -> str:
    return "1 value is" if count == 1 else f"{count} values are"
