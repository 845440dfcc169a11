"""Letters of axes and spacings: defaults, checks, and the choice of the coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from napari_siren.core.settings.per_axis import per_axis
from napari_siren.errors import InputError

# Letters of the spatial axes, in the usual order of an array.
SPATIAL_AXES = "ZYX"

_Entry = TypeVar("_Entry")


class Axes(str):
    """Letters of the axes of an array, one for each axis: Z, Y and X in space, C for channels, T for time.

    It is a `str` in every respect.

    Examples
    --------
    >>> axes = Axes("TYXC")
    >>> axes.spatial, axes.coordinates, axes.channel, axes.time
    ('YX', 'TYX', 3, 0)
    """

    __slots__ = ()

    @property
    def spatial(self) -> Axes:
        """The spatial axes."""
        return self.without("T").without("C")

    @property
    def coordinates(self) -> Axes:
        """All axes except the channels."""
        return self.without("C")

    @property
    def channel(self) -> int | None:
        """Position of the channels, or None."""
        return self.index("C") if "C" in self else None

    @property
    def time(self) -> int | None:
        """Position of time, or None."""
        return self.index("T") if "T" in self else None

    def without(self, letter: str) -> Axes:
        """Return the axes without one of them."""
        return Axes(self.replace(letter, ""))

    def pick(self, values: Sequence[_Entry], letters: str | None = None) -> tuple[_Entry, ...]:
        """Return the entries of some axes, in the order of the array.

        Parameters
        ----------
        values
            One entry for each axis, for example the shape of the array.
        letters
            Letters of the axes. None stands for all except the channels.
        """
        chosen = self.coordinates if letters is None else letters
        return tuple(value for axis, value in zip(self, values, strict=True) if axis in chosen)

    def with_channel(self, values: Sequence[_Entry], entry: _Entry) -> tuple[_Entry, ...]:
        """Return one entry for each axis: those of the coordinates, and `entry` for the channels, if there are any."""
        return tuple(values) if self.channel is None else (*values[: self.channel], entry, *values[self.channel :])

    def to_channels_first(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view of an array of these axes as (channels, *coordinates)."""
        return array[np.newaxis] if self.channel is None else np.moveaxis(array, self.channel, 0)

    def from_channels_first(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view of values of shape (channels, *coordinates) as an array of these axes."""
        return values[0] if self.channel is None else np.moveaxis(values, 0, self.channel)


# Guess for each number of axes, if there are no colours. Five axes are those of OME.
_GUESSES = {1: "X", 2: "YX", 3: "ZYX", 4: "CZYX", 5: "TCZYX"}


def guess_axes(shape: tuple[int, ...]) -> Axes:
    """Guess the axes of an array from its shape.

    A last axis of 3 or 4 entries holds colours if there are at least two axes before it.

    Parameters
    ----------
    shape
        Shape of the array. (x,) is X; (y, x) is YX; (y, x, 3 or 4) is YXC; (z, y, x) is ZYX; (z, y, x, 3 or 4) is
        ZYXC. Any other shape of four axes is CZYX. Five axes with an axis of one entry are TCZYX, or TZYXC.

    Returns
    -------
    Axes
        One letter for each axis.

    Raises
    ------
    InputError
        The array has no axes, or more than four, or five without an axis of one entry.
    """
    if not 1 <= len(shape) <= 5 or (len(shape) == 5 and 1 not in shape):
        raise InputError(f"an image has 1 to 4 axes, but this array has {len(shape)} (shape {shape}). Fit it in parts.")
    if len(shape) >= 3 and shape[-1] in (3, 4):
        return Axes("TZYXC" if len(shape) == 5 else _GUESSES[len(shape) - 1] + "C")
    return Axes(_GUESSES[len(shape)])


def notes_on_guess(axes: str) -> list[str]:
    """Return a note on guessed axes if they may be others: the first axis of a stack may be channels or frames."""
    if len(axes) < 3 or axes == "YXC":
        return []
    return [f"the axes {axes} were guessed from the shape of the image; set axes if they are wrong"]


def singleton_axes(axes: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the positions of the axes of one entry to leave out of a fit.

    They are a time axis, and spatial axes beyond two. A single slice of a stack is fitted as a plane, and a row of
    pixels stays an image of two axes. An axis of channels is never left out.

    Parameters
    ----------
    axes, shape
        Axes and shape of the array.

    Examples
    --------
    >>> singleton_axes("TCZYX", (1, 1, 1, 48, 64)), singleton_axes("ZYX", (25, 1, 64)), singleton_axes("YX", (1, 64))
    ((0, 2), (1,), ())
    """
    ones = [i for i, n in enumerate(shape) if n == 1]
    spatial = [i for i, letter in enumerate(axes) if letter in SPATIAL_AXES]
    beyond = [i for i in spatial if i in ones][: max(0, len(spatial) - 2)]
    return tuple(sorted([i for i in ones if axes[i] == "T" and spatial] + beyond))


def guess_series_axes(shape: tuple[int, ...]) -> Axes:
    """Guess the axes of a time series: the first is time, and `guess_axes` guesses the others."""
    return Axes(f"T{guess_axes(shape[1:])}")


def check_axes(axes: str, shape: tuple[int, ...]) -> Axes:
    """Check a string of axes against a shape, and return it in upper case.

    Raises
    ------
    InputError
        The string has the wrong length, unknown or repeated letters, or no spatial axis.
    """
    if not isinstance(axes, str):
        raise InputError(f'axes should be a string, not {axes!r}. Examples are "YX" and "ZYXC".')
    upper = axes.upper()
    hint = "Use one letter for each axis: Z, Y, X (space), C (channels) or T (time), for example axes='YXC'."
    if unknown := sorted(set(upper) - set(SPATIAL_AXES + "CT")):
        raise InputError(f"axes={axes!r} has unknown letters: {', '.join(map(repr, unknown))}. {hint}")
    if len(set(upper)) != len(upper):
        raise InputError(f"axes={axes!r} names an axis twice. {hint}")
    if len(upper) != len(shape):
        raise InputError(
            f"axes={axes!r} names {len(upper)} axes, but the image has {len(shape)} (shape {shape}). {hint}"
        )
    if not set(upper) & set(SPATIAL_AXES):
        raise InputError(f"axes={axes!r} has no spatial axis. {hint}")
    return Axes(upper)


def check_coordinates(axes: str, coordinates: str | None) -> None:
    """Check the coordinates of a field: all axes except the channels, and time only if it was requested.

    Parameters
    ----------
    axes
        Letters of the image's axes, already checked by `check_axes`.
    coordinates
        Letters of the coordinates in any order. None stands for the spatial axes.

    Raises
    ------
    InputError
        The letters differ from the axes, or there is a time axis and `coordinates` is None.
    """
    own = Axes(axes).coordinates
    if coordinates is None:
        if own.time is not None:
            raise InputError(
                f"axes={axes!r} has a time axis, T. Fit the frames one by one (fit_series; in a batch, each frame), "
                'join the frames of one scene (preset="burst"), or make time a coordinate of the field '
                f'(axes_as_coordinates="{own}").'
            )
    elif not isinstance(coordinates, str) or sorted(coordinates.upper()) != sorted(own):
        raise InputError(
            f"axes_as_coordinates={coordinates!r} does not fit axes={axes!r}. It should name all axes except the "
            f"channels: {own}."
        )


def coordinate_spacing(spacing: float | Sequence[float] | None, axes: str) -> tuple[float, ...]:
    """Return the spacing for each axis except the channels.

    If the spacing has no number for time, time is counted in frames: its spacing is 1.

    Raises
    ------
    InputError
        The same errors as those of `check_spacing`.
    """
    letters = Axes(axes).coordinates
    time = letters.time
    if time is None or (spacing is not None and np.size(spacing) == len(letters)):
        return check_spacing(spacing, len(letters))
    numbers = check_spacing(spacing, len(letters) - 1)
    return (*numbers[:time], 1.0, *numbers[time:])


def spacing_in_space(spacing: float | Sequence[float] | None, axes: str) -> float | Sequence[float] | None:
    """Return the spacing without the number for time, if there is one."""
    letters = Axes(axes.upper()).coordinates
    if spacing is None or np.size(spacing) != len(letters) or letters.time is None or len(letters) == 1:
        return spacing
    return list(letters.pick(np.atleast_1d(np.asarray(spacing)).tolist(), letters.spatial))


def cubic_scale(spacing: float | Sequence[float] | None, axes: str) -> list[float]:
    """Return the output pixels per pixel, for each spatial axis, that make all pixels as large as the smallest side.

    Raises
    ------
    InputError
        The spacing is unknown, or the same along all axes.

    Examples
    --------
    >>> cubic_scale((1.0, 0.25, 0.25), "ZYX")
    [4.0, 1.0, 1.0]
    """
    in_space = spacing_in_space(spacing, axes)
    sizes = [] if in_space is None else [float(size) for size in np.atleast_1d(in_space)]
    if len(set(sizes)) < 2:
        known = "is unknown" if not sizes else f"is {sizes[0]:g} along all axes already"
        raise InputError(
            f"the pixel size {known}. Give one for each spatial axis as the spacing, such as 0.5, 0.1, 0.1."
        )
    return [size / min(sizes) for size in sizes]


def check_spacing(spacing: float | Sequence[float] | None, dimensions: int) -> tuple[float, ...]:
    """Return the spacing as one positive number for each spatial axis. None is 1 along each.

    Raises
    ------
    InputError
        The spacing has the wrong length, is not numeric, or is not positive and finite.
    """
    return (1.0,) * dimensions if spacing is None else tuple(per_axis("spacing", spacing, dimensions).tolist())
