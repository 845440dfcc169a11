"""`per_axis`: the check of a number for all spatial axes, or one for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.errors import InputError, SirenError


def per_axis(
    name: str,
    value: Any,
    dimensions: int,
    *,
    single: bool = True,
    zero: bool = False,
    error: type[SirenError] = InputError,
) -> npt.NDArray[np.float64]:
    """Return one finite, positive number for each spatial axis.

    Parameters
    ----------
    name
        Name of the argument, for messages.
    value
        A number, or one for each spatial axis.
    dimensions
        Number of spatial axes.
    single
        Whether a single number stands for all axes.
    zero
        Whether 0 is valid.
    error
        Class of the errors.

    Returns
    -------
    ndarray
        Array of shape (dimensions,), float64.

    Raises
    ------
    SirenError
        The value is not numeric, has the wrong length, or has a number out of range.

    Examples
    --------
    >>> from napari_siren.core.settings.per_axis import per_axis
    >>> per_axis("scale", 2, 3)
    array([2., 2., 2.])
    """
    alternative = ", or a single one for all axes" if single else ""
    advice = f"{dimensions} numbers are needed, one for each spatial axis{alternative}."
    try:
        numbers = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        raise error(f"{name}={value!r} is not numeric. {advice}") from None
    if numbers.shape != (dimensions,) and not (single and numbers.shape == (1,)):
        raise error(f"{name}={value!r} has {numbers.size} numbers. {advice}")
    if not (np.isfinite(numbers) & (numbers >= 0) & (zero | (numbers > 0))).all():
        limits = "finite and not negative" if zero else "positive and finite"
        raise error(f"{name}={value!r} is out of range. Every number must be {limits}.")
    return np.broadcast_to(numbers, (dimensions,)).copy()
