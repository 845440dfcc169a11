"""TIFF, OME-TIFF and ImageJ TIFF: pixels with their axes and physical pixel size, read and written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from napari_siren.core.image.axes import NOT_SPACE, SPATIAL_AXES, check_axes
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


@dataclass(frozen=True)
class TiffOutline:
    """What the first image of a TIFF file is, without its pixels.

    Parameters
    ----------
    shape, dtype, axes
        Of the image, or of each of its frames; axes of one entry are left out.
    spacing, unit, channel_names
        None where the file does not tell them.
    frames
        Number of frames; None where it was not to be taken frame by frame, or has no time.
    interval
        Time between frames and its unit, where the file tells it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: str
    spacing: tuple[float, ...] | None
    unit: str | None
    channel_names: tuple[str, ...] | None
    frames: int | None = None
    interval: tuple[float, str] | None = None


def read_tiff(path: Path, axes: str | None = None, frame: int | None = None) -> tuple[npt.NDArray[Any], TiffOutline]:
    """Read the first image of a TIFF file.

    Parameters
    ----------
    path
        The file.
    axes
        What to call the axes that have more than one entry, or all of them; None takes the file's word for it.
    frame
        Which frame of a time series to read, and no other; None reads all there is, which must have no time.

    Raises
    ------
    InputError
        The file is cut short, or has an axis that is neither space nor channels.
    """
    with tifffile.TiffFile(path) as file:
        outline, time = _outline(path, file, axes, each=frame is not None)
        series = file.series[0]
        array = series.asarray() if frame is None or time is None else _one_frame(file, series, time, frame)
    return array.reshape(outline.shape), outline


def outline_tiff(path: Path, axes: str | None = None, *, each: bool = False) -> TiffOutline:
    """Tell what the first image of a TIFF file is, or each of its frames; parameters and errors as of `read_tiff`."""
    with tifffile.TiffFile(path) as file:
        return _outline(path, file, axes, each)[0]


def write_tiff(
    path: Path,
    array: npt.NDArray[Any],
    axes: str,
    spacing: Sequence[float] | None,
    unit: str | None,
    *,
    ome: bool = False,
    channel_names: Sequence[str] | None = None,
    interval: tuple[float, str] | None = None,
) -> None:
    """Write a TIFF that ImageJ opens as it is, or an OME-TIFF where that cannot hold the data.

    Parameters
    ----------
    path
        Where to.
    array, axes, spacing, unit
        The image; the file's axes are in the order TZCYX, or TZYXC where the last are 3 or 4 colours.
    ome
        Whether it is to be an OME-TIFF in any case.
    channel_names, interval
        As in `TiffOutline`; only OME-TIFF holds them, names of channels that are not colours.
    """
    sizes = {} if spacing is None else dict(zip(axes.translate(NOT_SPACE), spacing, strict=True))
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
        metadata = {"axes": names, **_ome_metadata(sizes, unit)}
        if channel_names is not None and "C" in names:
            metadata["Channel"] = {"Name": list(channel_names)}
        if interval is not None and "T" in names:
            metadata |= {"TimeIncrement": interval[0], "TimeIncrementUnit": interval[1]}
        tifffile.imwrite(path, array, ome=True, metadata=metadata, **options, **_resolution(sizes, unit))
    else:
        metadata = {"axes": names, "pixel_size": sizes, "unit": unit}
        tifffile.imwrite(path, array, metadata=metadata, **options)


def _outline(path: Path, file: tifffile.TiffFile, axes: str | None, each: bool) -> tuple[TiffOutline, int | None]:
    """Tell what the first image is, and which axis of the file is its time."""
    if not len(file.series):
        raise InputError(f"{path} is a TIFF file without an image. Was it written to the end?")
    series = file.series[0]
    _check_whole(path, file, series)
    shape, found = series.shape, series.axes
    kept = [i for i, n in enumerate(shape) if n > 1 or (axes is not None and len(axes) == len(shape))]
    letters = "".join(found[i] for i in kept) if axes is None or len(axes) != len(kept) else axes.upper()
    time = kept[_time_axis(letters)] if each and _time_axis(letters) >= 0 else None
    inner = [i for i in kept if i != time]
    size = tuple(shape[i] for i in inner)
    # Axes are those of the file, or of a frame.
    given = (
        axes if axes is None or len(axes) != len(kept) else axes.upper().replace("T", "" if time is not None else "T")
    )
    own = "".join(a for i, a in zip(kept, letters, strict=True) if i != time)
    names = _name_axes(path, own, size) if given is None else check_axes(given, size)
    described = _ome_pixels(file.ome_metadata or "") if file.is_ome else {}
    channels = dict(zip(names, size, strict=True)).get("C", 1)
    return TiffOutline(
        size,
        series.dtype,
        names,
        *_spacing(names, _pixel_sizes(file)),
        _channel_names(described, channels),
        None if time is None else shape[time],
        _interval(described, file.imagej_metadata or {}),
    ), time


def _time_axis(letters: str) -> int:
    """Find the axis of time: T, or the only one without a name; -1 where there is none."""
    unnamed = [a for a in letters if a in _UNNAMED_AXES]
    return letters.find("T") if "T" in letters or len(unnamed) != 1 else letters.index(unnamed[0])


def _one_frame(file: tifffile.TiffFile, series: Any, time: int, frame: int) -> npt.NDArray[Any]:
    """Read one frame, and as little else as the file's layout allows."""
    pages, frames = len(series.pages), series.shape[time]
    if series.dataoffset is None and math.prod(series.shape[:time]) == 1 and pages % frames == 0:
        count = pages // frames
        return np.asarray(file.asarray(key=slice(frame * count, (frame + 1) * count), series=0))
    whole = series.asarray(out="memmap" if series.dataoffset is not None else None)
    return np.array(whole[(slice(None),) * time + (frame,)])


def _check_whole(path: Path, file: tifffile.TiffFile, series: Any) -> None:
    """Refuse a file that lost planes; tifffile would give those that are left, or zeros."""
    promised = (file.imagej_metadata or {}).get("images", 1) if file.is_imagej else 1
    planes = math.prod(series.shape) // max(1, math.prod(series.keyframe.shape))
    if planes < promised or any(page is None for page in series.pages):
        raise InputError(f"{path} is cut short: planes are missing that it should have. Copy it anew.")


def _name_axes(path: Path, found: str, shape: tuple[int, ...]) -> str:
    """Return the file's axes in our letters: samples are channels, and one axis without a name is Z."""
    names = found if "C" in found else found.replace("S", "C")
    unnamed = [a for a in names if a in _UNNAMED_AXES]
    if len(unnamed) == 1 and "Z" not in names:
        names = names.replace(unnamed[0], "Z")
    strange = [f"{a} ({n} entries)" for a, n in zip(names, shape, strict=True) if a not in SPATIAL_AXES + "CT"]
    if strange:
        raise InputError(
            f"{path} has the axes {found}, of which {' and '.join(strange)} is neither space (Z, Y, X), channels (C), "
            f"nor time (T). Save parts of it, or say with axes what to take its axes for: a letter for each of {shape}."
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


def _ome_pixels(xml: str) -> Mapping[str, Any]:
    image = tifffile.xml2dict(xml).get("OME", {}).get("Image", {})
    pixels: Mapping[str, Any] = (image[0] if isinstance(image, list) else image).get("Pixels", {})
    return pixels


def _ome_sizes(xml: str) -> Sizes:
    pixels = _ome_pixels(xml)
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


def _ome_metadata(sizes: Mapping[str, float], unit: str | None) -> dict[str, Any]:
    length = unit if unit in _LENGTHS else "reference frame"
    named: dict[str, Any] = {f"PhysicalSize{a}": size for a, size in sizes.items()}
    return named | {f"PhysicalSize{a}Unit": length for a in sizes}


def _resolution(sizes: Mapping[str, float], unit: str | None) -> dict[str, Any]:
    """Return the pixel size in the words of plain TIFF too, which programs read that know no OME."""
    if unit not in _LENGTHS or not {"X", "Y"} <= set(sizes):
        return {}
    per_cm = tuple(_LENGTHS["cm"] / (_LENGTHS[unit] * sizes[a]) for a in "XY")
    # A fraction of two integers of 32 bits.
    return {"resolution": per_cm, "resolutionunit": "CENTIMETER"} if all(1e-6 < n < 1e9 for n in per_cm) else {}


def _channel_names(pixels: Mapping[str, Any], channels: int) -> tuple[str, ...] | None:
    found = pixels.get("Channel", ())
    names = [channel.get("Name") for channel in (found if isinstance(found, list | tuple) else [found])]
    return tuple(map(str, names)) if len(names) == channels > 1 and all(names) else None


def _interval(pixels: Mapping[str, Any], imagej: Mapping[str, Any]) -> tuple[float, str] | None:
    if "TimeIncrement" in pixels:
        return float(pixels["TimeIncrement"]), str(pixels.get("TimeIncrementUnit", "s"))
    seconds = float(imagej.get("finterval", 0))
    return (seconds, "s") if 0 < seconds < math.inf else None


def _spacing(axes: str, sizes: Sizes) -> tuple[tuple[float, ...] | None, str | None]:
    """Return the sizes along the spatial axes in one unit, or None where one of them is missing or makes no sense."""
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
    """Return the usual name of a unit; ImageJ writes µ as an escape."""
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
    order = [a for a in ("TZYXC" if colours else "TZCYX") if a in axes]
    array = array.transpose([axes.index(a) for a in order])
    for axis in "XY":
        if axis not in order:
            place = len(order) if axis == "X" else order.index("X")
            place -= colours and axis == "X"
            order.insert(place, axis)
            array = np.expand_dims(array, place)
    return np.ascontiguousarray(array), "".join(order).replace("C", "S" if colours else "C")
