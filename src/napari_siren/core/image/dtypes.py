"""Values cast to the dtype that is asked for: rounded and clipped, never wrapped around."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.errors import InputError


def cast_values(values: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Round and clip floating values to a dtype's range.

    Parameters
    ----------
    values
        Any shape, floating.
    dtype
        Boolean (values of 0.5 and more are True), integer (rounded, clipped to its range), or floating (clipped
        to its range).
    """
    if dtype == np.bool_:
        return values >= 0.5
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        rounded = np.rint(values.astype(np.float64))
        # The largest 64-bit integers have no exact float: clip below them, so that the cast cannot wrap around.
        top = min(float(limits.max), np.nextafter(float(limits.max), 0.0)) if limits.bits == 64 else float(limits.max)
        return np.clip(rounded, float(limits.min), top).astype(dtype)
    bounds = np.finfo(check_dtype(dtype))
    clipped: npt.NDArray[Any] = np.clip(values, bounds.min, bounds.max).astype(dtype)
    return clipped


def check_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return the dtype of a name, where values can be given as it.

    Raises
    ------
    InputError
        There is no such dtype, or it is not boolean, integer or floating.
    """
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        raise InputError(f"there is no dtype {dtype!r}; use a boolean, integer or floating one.") from None
    if wanted.kind not in "buif":
        raise InputError(f"values cannot be given as {wanted}; use a boolean, integer or floating dtype.")
    return wanted
