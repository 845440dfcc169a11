"""`Details`: metadata of an image file that a fit does not use, and that its result keeps."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

# Entries of a lookup table of ImageJ: red, green and blue for each of 256 grey levels.
LUT_SIZE = 3 * 256
# Largest deviation of a lookup table from a ramp from black to a colour, in grey levels: rounding, and one to spare.
_RAMP_TOLERANCE = 2.0


@dataclass(frozen=True)
class Details:
    """Metadata of an image file. Every field is None or empty if the file does not give it.

    Parameters
    ----------
    file_axes
        Axes of the file, including those of one entry, which `Picture.axes` leaves out.
    colours
        Colour of each channel as six hexadecimal digits.
    luts
        Lookup table of each channel as 768 bytes: 256 of red, of green and of blue.
    ranges
        Displayed range of values of each channel.
    origin
        Position of the centre of the first pixel along each spatial axis, in the unit of the spacing.
    guessed
        Letters of the spatial axes with a guessed spacing, which is not written to files.
    profile
        ICC profile of the colours.
    dpi
        Resolution of the print in pixels per inch, along X and Y.
    gamma, chromaticities, srgb
        Colours of a PNG file without a profile: exponent of the encoding of the values; x and y of white, red, green
        and blue; rendering intent of sRGB, 0 to 3. None if the file does not give them.
    interval
        Time between frames and its unit.
    has_alpha
        Whether the last channel is an alpha channel.
    shift
        Part of the origin that comes from a finer grid alone: the edge of the image has not moved.
    """

    file_axes: str = ""
    colours: tuple[str, ...] | None = None
    luts: tuple[bytes, ...] | None = None
    ranges: tuple[tuple[float, float], ...] | None = None
    origin: tuple[float, ...] | None = None
    guessed: str = ""
    profile: bytes | None = None
    dpi: tuple[float, float] | None = None
    gamma: float | None = None
    chromaticities: tuple[float, ...] | None = None
    srgb: int | None = None
    interval: tuple[float, str] | None = None
    has_alpha: bool = False
    shift: tuple[float, ...] | None = None

    @property
    def has_position(self) -> bool:
        """Whether the image is not at zero. The shift of a finer grid does not count."""
        return self.origin is not None and self.origin != (self.shift or (0.0,) * len(self.origin))

    def resampled(
        self,
        axes: str,
        spacing: Sequence[float] | None,
        step: Sequence[float],
        start: Sequence[float] | None = None,
    ) -> Details:
        """Return the details of a render over the same image.

        Parameters
        ----------
        axes
            Letters of the spatial axes.
        spacing
            Spacing of the image along them; None if it is not known.
        step
            Size of the pixels of the render, in pixels of the image.
        start
            Edge of the first pixel of the render, in pixels of the image. None is 0.
        """
        origin = shift = None
        if spacing is not None:
            zeros = (0.0,) * len(step)
            edges = start or zeros
            # The centre of the first pixel of the image is at half a pixel from its edge.
            grids = list(zip(spacing, edges, step, strict=True))
            origin = tuple(o + s * (a + d / 2 - 0.5) for o, (s, a, d) in zip(self.origin or zeros, grids, strict=True))
            shift = tuple(o + s * (d / 2 - 0.5) for o, (s, _, d) in zip(self.shift or zeros, grids, strict=True))
        dpi = None
        if self.dpi is not None and {"X", "Y"} <= set(axes):
            dpi = (self.dpi[0] / step[axes.index("X")], self.dpi[1] / step[axes.index("Y")])
        return replace(self, origin=origin, shift=shift, dpi=dpi)

    def as_json(self) -> dict[str, Any]:
        """Return the non-empty fields, as plain values."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {name: _as_plain(value) for name, (value, empty) in values.items() if value != empty}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Details:
        """Return the details from the output of `as_json`. Unknown entries are ignored."""
        known = {name: _from_plain(values[name]) for name in (field.name for field in fields(cls)) if name in values}
        return cls(**known)


def colour_of_lut(lut: bytes) -> str | None:
    """Return the colour of a lookup table that is a ramp from black to a colour, or None for any other table."""
    table = np.frombuffer(lut, dtype=np.uint8).reshape(3, 256).astype(np.float64)
    ramp = table[:, -1:] * np.linspace(0, 1, 256)
    if np.abs(table - ramp).max() > _RAMP_TOLERANCE:
        return None
    return "".join(f"{int(value):02X}" for value in table[:, -1])


def lut_of_colour(colour: str) -> bytes:
    """Return the lookup table that is a ramp from black to a colour."""
    top = np.frombuffer(bytes.fromhex(colour), dtype=np.uint8).astype(np.float64)
    return np.rint(top[:, None] * np.linspace(0, 1, 256)).astype(np.uint8).tobytes()


def lut_array(lut: bytes) -> npt.NDArray[np.uint8]:
    """Return a lookup table as an array, (3, 256)."""
    return np.frombuffer(lut, dtype=np.uint8).reshape(3, 256)


def _as_plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    return [_as_plain(entry) for entry in value] if isinstance(value, tuple) else value


def _from_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return base64.b64decode(value["base64"])
    return tuple(_from_plain(entry) for entry in value) if isinstance(value, list | tuple) else value
