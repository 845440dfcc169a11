"""Casts of values to a dtype by rounding and clipping, without wrap-around."""

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
        Floating array of any shape.
    dtype
        Boolean (values of 0.5 and more become True), integer (values are rounded and clipped to its range), or floating
        (values are clipped to its range).
    """
    if dtype == np.bool_:
        return values >= 0.5
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        rounded = np.rint(values.astype(np.float64))
        # The largest 64-bit integers have no exact float. Clipping below them keeps the cast from wrapping around.
        top = min(float(limits.max), np.nextafter(float(limits.max), 0.0)) if limits.bits == 64 else float(limits.max)
        return np.clip(rounded, float(limits.min), top).astype(dtype)
    bounds = np.finfo(check_dtype(dtype))
    clipped: npt.NDArray[Any] = np.clip(values, bounds.min, bounds.max).astype(dtype)
    return clipped


def check_dtype(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Return a dtype after checking that values can be cast to it.

    Raises
    ------
    InputError
        The dtype does not exist, or it is not boolean, integer or floating.
    """
    try:
        target = np.dtype(dtype)
    except TypeError:
        raise InputError(f"there is no dtype {dtype!r}. Use a boolean, integer or floating dtype.") from None
    if target.kind not in "buif":
        raise InputError(f"values cannot be cast to {target}. Use a boolean, integer or floating dtype.")
    return target
