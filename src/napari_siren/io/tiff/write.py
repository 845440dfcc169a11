"""Writing of TIFF, OME-TIFF and ImageJ TIFF."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from napari_siren.core.image.axes import Axes
from napari_siren.core.image.units import LENGTHS
from napari_siren.io.colours import lost_colours, profile_to_write
from napari_siren.io.details import lut_array, lut_of_colour
from napari_siren.io.picture import Picture

# Dtypes of pixels in OME-TIFF: those of OME without complex numbers.
_OME_TYPES = ("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")
# Dtypes of ImageJ. Colours need the first.
_IMAGEJ_TYPES = ("uint8", "uint16", "float32")
# Largest image in bytes for ImageJ's own TIFF, which has offsets of 32 bits.
_IMAGEJ_BYTES = 4_000_000_000
# Largest image in bytes for a TIFF with offsets of 32 bits.
_CLASSIC_BYTES = 4_200_000_000


@dataclass(frozen=True)
class TiffWriting:
    """A picture in the order and the form of a TIFF file.

    Parameters
    ----------
    array, names
        Pixels and axes in the order of TIFF. Colours are named S.
    sizes
        Pixel size by the letter of the axis, as far as it is known.
    picture
        The picture.
    interval
        Time between frames and its unit, or None.
    ome
        Whether to write an OME-TIFF even if ImageJ's format can hold the picture.
    """

    array: npt.NDArray[Any]
    names: str
    sizes: Mapping[str, float]
    picture: Picture
    interval: tuple[float, str] | None
    ome: bool

    @classmethod
    def from_picture(cls, picture: Picture, interval: tuple[float, str] | None, ome: bool) -> TiffWriting:
        """Prepare a picture. The axes of the file have the order TZCYX, or TZYXC if the last axis holds colours."""
        axes = picture.axes or Axes()
        sizes = {} if picture.spacing is None else dict(zip(axes.spatial, picture.spacing, strict=True))
        known = {a: size for a, size in sizes.items() if a not in picture.details.guessed}
        array, names = _in_order(_as_stored(picture.array), axes, picture.details.has_alpha)
        return cls(array, names, known, picture, interval, ome)

    @property
    def form(self) -> str:
        """Form of the file: "imagej", "ome" or "plain".

        ImageJ cannot hold the names of channels, nor an alpha channel.
        """
        name, colours = self.array.dtype.name, self.names.endswith("S")
        fits = name in (_IMAGEJ_TYPES[:1] if colours else _IMAGEJ_TYPES) and self.array.nbytes < _IMAGEJ_BYTES
        # ImageJ stores the resolution as a fraction of two 32-bit integers.
        fits = fits and "X" in (self.picture.axes or "") and all(1e-6 < size < 1e6 for size in self.sizes.values())
        fits = fits and not (self._names or (colours and self.array.shape[-1] == 2))
        if fits and not self.ome:
            return "imagej"
        return "ome" if name in _OME_TYPES else "plain"

    def write(self, path: Path) -> None:
        """Write the file."""
        options: dict[str, Any] = {"photometric": "rgb" if self.names.endswith("S") else "minisblack"}
        if self.names.endswith("S") and self.array.shape[-1] == 2:
            options = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
        details = self.picture.details
        if self._profile is not None:
            options["iccprofile"] = self._profile
        if details.dpi is not None and not self.sizes:
            options |= {"resolution": details.dpi, "resolutionunit": "INCH"}
        if self.form == "imagej":
            metadata, own = self._imagej()
            tifffile.imwrite(path, self.array, imagej=True, metadata=metadata, **{**options, **own})
        elif self.form == "ome":
            options |= _resolution(self.sizes, self.picture.unit)
            tifffile.imwrite(path, self.array, ome=True, metadata=self._ome(), **options)
        else:
            metadata = {"axes": self.names, "pixel_size": self.sizes, "unit": self.picture.unit}
            tifffile.imwrite(path, self.array, metadata=metadata, bigtiff=self.array.nbytes > _CLASSIC_BYTES, **options)

    def losses(self) -> list[str]:
        """Return the names of the metadata without a place in the file."""
        details, form = self.picture.details, self.form
        lost = {
            "the names of the channels": self._names is not None and form == "plain",
            "the lookup tables of ImageJ": details.luts is not None and details.colours is None and form != "imagej",
            "the colours of the channels": details.colours is not None and form == "plain",
            "the displayed range": details.ranges is not None and form != "imagej",
            "the position": self._origin is not None and details.has_position and form != "ome",
            **lost_colours(details, self._profile),
        }
        return [name for name, is_lost in lost.items() if is_lost]

    @property
    def _profile(self) -> bytes | None:
        return profile_to_write(self.picture.details, self.array.shape[-1] if self.names.endswith("S") else 1)

    @property
    def _names(self) -> tuple[str, ...] | None:
        """Names of the channels. Colours have none."""
        return None if self.names.endswith("S") else self.picture.channel_names

    @property
    def _origin(self) -> Mapping[str, float] | None:
        """Position by the letter of the axis. A shift of less than a pixel is that of a finer grid, and is left out."""
        origin, axes = self.picture.details.origin, (self.picture.axes or Axes()).spatial
        if origin is None or self.picture.unit not in LENGTHS:
            return None
        placed = dict(zip(axes, origin, strict=True))
        return placed if any(abs(placed[a]) >= size for a, size in self.sizes.items()) else None

    def _imagej(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the metadata of ImageJ, and the options to write it."""
        details, options = self.picture.details, dict[str, Any]()
        unit = self.picture.unit
        metadata: dict[str, Any] = {"axes": self.names} | ({"unit": _escape(unit)} if unit and self.sizes else {})
        if self.sizes:
            metadata |= {"spacing": self.sizes["Z"]} if "Z" in self.sizes else {}
            options["resolution"] = (1 / self.sizes.get("X", 1.0), 1 / self.sizes.get("Y", 1.0))
        if self.interval is not None and "T" in self.names and self.interval[1] == "s":
            metadata["finterval"] = self.interval[0]
        luts = details.luts or (details.colours and tuple(map(lut_of_colour, details.colours))) or ()
        channels = self.array.shape[self.names.index("C")] if "C" in self.names else 1
        if "C" in self.names and len(luts) == channels:
            metadata |= {"LUTs": [lut_array(lut) for lut in luts], "mode": "composite"}
        elif len(luts) == channels == 1 and self.array.dtype == np.uint8 and not self.names.endswith("S"):
            options |= {"photometric": "palette", "colormap": lut_array(luts[0]).astype(np.uint16) * 257}
        elif len(luts) == channels == 1:
            metadata["LUTs"] = [lut_array(luts[0])]
        if details.ranges is not None and len(details.ranges) == channels and not self.names.endswith("S"):
            metadata["Ranges"] = tuple(value for limits in details.ranges for value in limits)
            metadata |= dict(zip(("min", "max"), details.ranges[0], strict=True))
        return metadata, options

    def _ome(self) -> dict[str, Any]:
        """Return the metadata of OME."""
        details, unit = self.picture.details, self.picture.unit
        metadata: dict[str, Any] = {"axes": self.names, **_ome_sizes(self.sizes, unit)}
        channel: dict[str, Any] = {}
        if self._names is not None:
            channel["Name"] = list(self._names) if "C" in self.names else self._names[0]
        if details.colours is not None and not self.names.endswith("S"):
            colours = [_signed((int(colour, 16) << 8) | 0xFF) for colour in details.colours]
            channel["Color"] = colours if "C" in self.names else colours[0]
        if channel:
            metadata["Channel"] = channel
        if self.interval is not None and "T" in self.names:
            metadata |= {"TimeIncrement": self.interval[0], "TimeIncrementUnit": self.interval[1]}
        if self._origin is not None:
            planes = math.prod(n for n, a in zip(self.array.shape, self.names, strict=True) if a not in "YXS")
            plane = {f"Position{a}": [value] * planes for a, value in self._origin.items()}
            metadata["Plane"] = plane | {f"Position{a}Unit": [unit] * planes for a in self._origin}
        return metadata


def _ome_sizes(sizes: Mapping[str, float], unit: str | None) -> dict[str, Any]:
    length = unit if unit in LENGTHS else "reference frame"
    named: dict[str, Any] = {f"PhysicalSize{a}": size for a, size in sizes.items()}
    return named | {f"PhysicalSize{a}Unit": length for a in sizes}


def _resolution(sizes: Mapping[str, float], unit: str | None) -> dict[str, Any]:
    """Return the pixel size as tags of plain TIFF, for programs without support for OME."""
    if unit not in LENGTHS or not {"X", "Y"} <= set(sizes):
        return {}
    per_cm = tuple(LENGTHS["cm"] / (LENGTHS[unit or ""] * sizes[a]) for a in "XY")
    # The tag stores a fraction of two 32-bit integers.
    return {"resolution": per_cm, "resolutionunit": "CENTIMETER"} if all(1e-6 < n < 1e9 for n in per_cm) else {}


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number


def _escape(unit: str) -> str:
    return "".join(c if c.isascii() else f"\\u{ord(c):04X}" for c in unit)


def _as_stored(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert floats of other widths to the nearest width of TIFF readers: float32 or float64."""
    if array.dtype.kind != "f" or array.dtype.itemsize in (4, 8):
        return array
    return array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64)


def _in_order(array: npt.NDArray[Any], axes: str, has_alpha: bool) -> tuple[npt.NDArray[Any], str]:
    """Return the array and its axes in the order of TIFF, always including Y and X. Colours are named S."""
    counts = (2, 3, 4) if has_alpha else (3, 4)
    colours = axes.endswith("C") and array.shape[-1] in counts and array.ndim > 2 and array.dtype != np.bool_
    order = [a for a in ("TZYXC" if colours else "TZCYX") if a in axes]
    array = array.transpose([axes.index(a) for a in order])
    for axis in "XY":
        if axis not in order:
            position = len(order) if axis == "X" else order.index("X")
            position -= colours and axis == "X"
            order.insert(position, axis)
            array = np.expand_dims(array, position)
    return np.ascontiguousarray(array), "".join(order).replace("C", "S" if colours else "C")
