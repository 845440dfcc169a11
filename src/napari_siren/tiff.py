"""TIFF, OME-TIFF and ImageJ TIFF: pixels with their axes and physical pixel size, read and written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from napari_siren.core.image import SPATIAL_AXES, check_axes
from napari_siren.errors import InputError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# Lengths in µm, by the names that OME knows them by.
_LENGTHS = {"pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "µm": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "in": 2.54e4}
_OTHER_NAMES = {
    **dict.fromkeys(("um", "μm", "micron", "microns", "micrometer", "micrometre"), "µm"),
    **dict.fromkeys(("nanometer", "nanometre"), "nm"),
    **dict.fromkeys(("millimeter", "millimetre"), "mm"),
    **dict.fromkeys(("angstrom", "a"), "Å"),
    "inch": "in",
}
_NO_UNIT = ("", "pixel", "pixels", "reference frame")
_UNNAMED_AXES = "QI"
_OME_TYPES = ("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")
# The first also for colours.
_IMAGEJ_TYPES = ("uint8", "uint16", "float32")
# ImageJ's own TIFF has offsets of 32 bits.
_IMAGEJ_BYTES = 4_000_000_000

Sizes = Mapping[str, tuple[float, str | None]]


def read_tiff(
    path: Path, axes: str | None = None
) -> tuple[npt.NDArray[Any], str, tuple[float, ...] | None, str | None]:
    """Read the first image of a TIFF file.

    Parameters
    ----------
    path
        The file.
    axes
        What to call the axes that have more than one entry, or all of them; None takes the file's word for it.

    Returns
    -------
    array, axes, spacing, unit
        Without axes of one entry; spacing and unit are None where the file does not tell them.

    Raises
    ------
    InputError
        The file is cut short, or has an axis that is neither space nor channels.
    """
    with tifffile.TiffFile(path) as file:
        if not len(file.series):
            raise InputError(f"{path} is a TIFF file without an image. Was it written to the end?")
        series = file.series[0]
        _check_whole(path, file, series)
        array, found, sizes = series.asarray(), series.axes, _pixel_sizes(file)
    if axes is None or len(axes) != array.ndim:
        kept = [i for i, n in enumerate(array.shape) if n > 1]
        found = "".join(found[i] for i in kept)
        array = array.squeeze()
    names = _name_axes(path, found, array.shape) if axes is None else check_axes(axes, array.shape)
    return array, names, *_spacing(names, sizes)


def write_tiff(
    path: Path,
    array: npt.NDArray[Any],
    axes: str,
    spacing: Sequence[float] | None,
    unit: str | None,
    *,
    ome: bool = False,
) -> None:
    """Write a TIFF that ImageJ opens as it is, or an OME-TIFF where that cannot hold the data.

    Parameters
    ----------
    path
        Where to.
    array, axes, spacing, unit
        The image; the file's axes are in the order ZCYX, or ZYXC where the last are 3 or 4 colours.
    ome
        Whether it is to be an OME-TIFF in any case.
    """
    sizes = {} if spacing is None else dict(zip(axes.replace("C", ""), spacing, strict=True))
    array, names = _in_order(_as_stored(array), axes)
    colours = names.endswith("S")
    options: dict[str, Any] = {"photometric": "rgb" if colours else "minisblack"}
    name = array.dtype.name
    fits = name in (_IMAGEJ_TYPES[:1] if colours else _IMAGEJ_TYPES) and array.nbytes < _IMAGEJ_BYTES
    # ImageJ's resolution is a fraction of two integers of 32 bits.
    fits = fits and "X" in axes and all(1e-6 < size < 1e6 for size in sizes.values())
    if fits and not ome:
        metadata: dict[str, Any] = {"axes": names} | ({"unit": _escape(unit)} if unit and sizes else {})
        if sizes:
            metadata |= {"spacing": sizes["Z"]} if "Z" in sizes else {}
            options["resolution"] = (1 / sizes.get("X", 1.0), 1 / sizes.get("Y", 1.0))
        tifffile.imwrite(path, array, imagej=True, metadata=metadata, **options)
    elif name in _OME_TYPES:
        length = unit if unit in _LENGTHS else "reference frame"
        metadata = {f"PhysicalSize{a}": size for a, size in sizes.items()}
        metadata |= {f"PhysicalSize{a}Unit": length for a in sizes}
        tifffile.imwrite(path, array, ome=True, metadata={"axes": names, **metadata}, **options)
    else:
        metadata = {"axes": names, "pixel_size": sizes, "unit": unit}
        tifffile.imwrite(path, array, metadata=metadata, **options)


def _check_whole(path: Path, file: tifffile.TiffFile, series: Any) -> None:
    """Refuse a file that lost planes; tifffile would give those that are left, or zeros."""
    promised = (file.imagej_metadata or {}).get("images", 1) if file.is_imagej else 1
    planes = math.prod(series.shape) // max(1, math.prod(series.keyframe.shape))
    if planes < promised or any(page is None for page in series.pages):
        raise InputError(f"{path} is cut short: planes are missing that it should have. Copy it anew.")


def _name_axes(path: Path, found: str, shape: tuple[int, ...]) -> str:
    """Give the file's axes in our letters: samples are channels, and one axis without a name is Z."""
    names = found if "C" in found else found.replace("S", "C")
    unnamed = [a for a in names if a in _UNNAMED_AXES]
    if len(unnamed) == 1 and "Z" not in names:
        names = names.replace(unnamed[0], "Z")
    strange = [f"{a} ({n} entries)" for a, n in zip(names, shape, strict=True) if a not in SPATIAL_AXES + "C"]
    if strange:
        time = " Save the frames of a time series one by one and fit each" if "T" in names else " Save parts of it"
        raise InputError(
            f"{path} has the axes {found}, of which {' and '.join(strange)} is neither space (Z, Y, X) nor channels "
            f"(C).{time}, or say with axes what to take its axes for: one letter for each of {shape}."
        )
    return names


# ---- physical pixel size ---------------------------------------------------------------------------------


def _pixel_sizes(file: tifffile.TiffFile) -> Sizes:
    """Size of a pixel along each axis that the file tells one for, with its unit."""
    if file.is_ome:
        return _ome_sizes(file.ome_metadata or "")
    if file.is_imagej:
        return _imagej_sizes(file.imagej_metadata or {}, file.pages.first.tags)
    own = (file.shaped_metadata or ({},))[0]
    sizes = own.get("pixel_size") or {}
    return {a: (float(size), own.get("unit")) for a, size in sizes.items()}


def _ome_sizes(xml: str) -> Sizes:
    image = tifffile.xml2dict(xml).get("OME", {}).get("Image", {})
    pixels = (image[0] if isinstance(image, list) else image).get("Pixels", {})
    return {
        axis: (float(pixels[f"PhysicalSize{axis}"]), _unit(str(pixels.get(f"PhysicalSize{axis}Unit", "µm"))))
        for axis in SPATIAL_AXES
        if f"PhysicalSize{axis}" in pixels
    }


def _imagej_sizes(metadata: Mapping[str, Any], tags: Any) -> Sizes:
    """As ImageJ reads them: resolution in pixels per unit, 1 where nothing is said."""
    unit = _unit(str(metadata.get("unit", "")))
    in_print = "unit" not in metadata and tags.get("ResolutionUnit") and tags["ResolutionUnit"].value in (2, 3)
    sizes = {"Z": (float(metadata.get("spacing", 1.0)), unit)}
    for axis, name in (("Y", "YResolution"), ("X", "XResolution")):
        pixels, units = tags[name].value if name in tags and not in_print else (1, 1)
        sizes[axis] = (units / pixels if pixels else math.nan, unit)
    return sizes


def _spacing(axes: str, sizes: Sizes) -> tuple[tuple[float, ...] | None, str | None]:
    """Give the sizes along the spatial axes in one unit, or None where one of them is missing or makes no sense."""
    known = [sizes[a] for a in axes if a in sizes]
    if len(known) < sum(a in SPATIAL_AXES for a in axes) or not known:
        return None, None
    values, units = [abs(value) for value, _ in known], [unit for _, unit in known]
    unit = units[-1]
    if len(set(units)) > 1:
        # Lengths that cannot be compared say nothing of the shape of a voxel.
        values = [
            v * _LENGTHS.get(u or "", math.nan) / _LENGTHS.get(unit or "", math.nan)
            for v, u in zip(values, units, strict=True)
        ]
    if not all(0 < v < math.inf for v in values) or (unit is None and set(values) == {1.0}):
        return None, None
    return tuple(values), unit


def _unit(text: str) -> str | None:
    """Give the usual name of a unit; ImageJ writes µ as an escape."""
    plain = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text).strip()
    return None if plain.lower() in _NO_UNIT else _OTHER_NAMES.get(plain.lower(), plain)


def _escape(unit: str) -> str:
    return "".join(c if c.isascii() else f"\\u{ord(c):04X}" for c in unit)


# ---- what is stored --------------------------------------------------------------------------------------


def _as_stored(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Floats of other widths as the next that TIFF readers know."""
    if array.dtype.kind != "f" or array.dtype.itemsize in (4, 8):
        return array
    return array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64)


def _in_order(array: npt.NDArray[Any], axes: str) -> tuple[npt.NDArray[Any], str]:
    """Bring the axes into the order of TIFF, Y and X always among them; colours are called S."""
    colours = axes.endswith("C") and array.shape[-1] in (3, 4) and array.ndim > 2 and array.dtype != np.bool_
    order = [a for a in ("ZYXC" if colours else "ZCYX") if a in axes]
    array = array.transpose([axes.index(a) for a in order])
    for axis in "XY":
        if axis not in order:
            place = len(order) if axis == "X" else order.index("X")
            place -= colours and axis == "X"
            order.insert(place, axis)
            array = np.expand_dims(array, place)
    return np.ascontiguousarray(array), "".join(order).replace("C", "S" if colours else "C")
