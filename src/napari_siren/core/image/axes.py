"""Letters of axes, and spacings: guessed where none are given, and checked; which of them are coordinates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_siren.errors import InputError

SPATIAL_AXES = "ZYX"
# For str.translate: takes out the letters of axes that are not in space.
NOT_SPACE = str.maketrans("", "", "TC")
_GUESSES = {1: "X", 2: "YX", 3: "ZYX", 4: "CZYX"}


def guess_axes(shape: tuple[int, ...]) -> str:
    """Guess the axes of an array: a last axis of 3 or 4 after two others is taken for colours.

    Parameters
    ----------
    shape
        Of the array. (y, x) is YX; (y, x, 3 or 4) is YXC; (z, y, x) is ZYX; (z, y, x, 3 or 4) is ZYXC, any
        other of four axes CZYX.

    Raises
    ------
    InputError
        No axes, or more than four.
    """
    if not 1 <= len(shape) <= 4:
        raise InputError(f"an image has 1 to 4 axes, this array has {len(shape)} (shape {shape}). Fit it in parts.")
    if len(shape) >= 3 and shape[-1] in (3, 4):
        return _GUESSES[len(shape) - 1] + "C"
    return _GUESSES[len(shape)]


def guess_series_axes(shape: tuple[int, ...]) -> str:
    """Guess the axes of a time series: the first is time, the others are guessed by `guess_axes`."""
    return f"T{guess_axes(shape[1:])}"


def check_axes(axes: str, shape: tuple[int, ...]) -> str:
    """Check a string of axes against a shape, and return it in upper case.

    Raises
    ------
    InputError
        Wrong length, unknown or repeated letters, or no spatial axis.
    """
    if not isinstance(axes, str):
        raise InputError(f'axes should be a string such as "YX" or "ZYXC", not {axes!r}.')
    upper = axes.upper()
    hint = "Use one letter an axis of Z, Y, X (space), C (channels) and T (time), for example axes='YXC'."
    if unknown := sorted(set(upper) - set(SPATIAL_AXES + "CT")):
        raise InputError(f"axes={axes!r} has {', '.join(map(repr, unknown))}, which is not known. {hint}")
    if len(set(upper)) != len(upper):
        raise InputError(f"axes={axes!r} names an axis twice. {hint}")
    if len(upper) != len(shape):
        raise InputError(f"axes={axes!r} names {len(upper)} axes, the image has {len(shape)} (shape {shape}). {hint}")
    if not set(upper) & set(SPATIAL_AXES):
        raise InputError(f"axes={axes!r} has no axis in space. {hint}")
    return upper


def check_coordinates(axes: str, coordinates: str | None) -> None:
    """Check that a field's coordinates are all axes but the channels, and that time was meant to be one of them.

    Parameters
    ----------
    axes
        Checked.
    coordinates
        The letters of the coordinates in any order; None is those of space.

    Raises
    ------
    InputError
        They are others, or there is time and nothing says what to do with it.
    """
    own = axes.replace("C", "")
    if coordinates is None:
        if "T" in axes:
            raise InputError(
                f"axes={axes!r} has time, T. Fit the frames one by one (fit_series; in a batch, each frame), join "
                'those of one scene (preset="burst"), or make time a coordinate of the field '
                f'(axes_as_coordinates="{own}").'
            )
    elif not isinstance(coordinates, str) or sorted(coordinates.upper()) != sorted(own):
        raise InputError(
            f"axes_as_coordinates={coordinates!r}: it should name all axes of axes={axes!r} but the channels, {own}."
        )


def coordinate_spacing(spacing: float | Sequence[float] | None, axes: str) -> tuple[float, ...]:
    """Return the spacing for each axis but the channels; time is counted in frames where it is that of space.

    Raises
    ------
    InputError
        See `check_spacing`.
    """
    letters = axes.replace("C", "")
    if "T" not in letters or (spacing is not None and np.size(spacing) == len(letters)):
        return check_spacing(spacing, len(letters))
    in_space = list(check_spacing(spacing, len(letters) - 1))
    in_space.insert(letters.index("T"), 1.0)
    return tuple(in_space)


def spacing_in_space(spacing: float | Sequence[float] | None, axes: str) -> float | Sequence[float] | None:
    """Leave out of a spacing the number for time, if there is one."""
    letters = axes.upper().replace("C", "")
    if spacing is None or np.size(spacing) != len(letters) or "T" not in letters or len(letters) == 1:
        return spacing
    numbers = list(np.atleast_1d(np.asarray(spacing)))
    del numbers[letters.index("T")]
    return numbers


def check_spacing(spacing: float | Sequence[float] | None, dimensions: int) -> tuple[float, ...]:
    """Return the spacing as one positive number for each spatial axis.

    Raises
    ------
    InputError
        Wrong length, not numbers, or not positive and finite.
    """
    if spacing is None:
        return (1.0,) * dimensions
    try:
        values = np.atleast_1d(np.asarray(spacing, dtype=np.float64))
    except (TypeError, ValueError):
        raise InputError(f"spacing should be a number or one for each spatial axis, not {spacing!r}.") from None
    if values.shape not in ((1,), (dimensions,)):
        raise InputError(
            f"spacing={spacing!r} has {values.size} numbers; give one, or {dimensions} (one for each spatial axis)."
        )
    if not (np.isfinite(values) & (values > 0)).all():
        raise InputError(f"spacing={spacing!r}: every spacing must be positive and finite.")
    return tuple(float(v) for v in np.broadcast_to(values, (dimensions,)))
