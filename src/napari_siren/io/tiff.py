"""TIFF, OME-TIFF and ImageJ TIFF: reading and writing of pixels with their axes and physical pixel size."""

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

from napari_siren.core.image.axes import SPATIAL_AXES, Axes, check_axes
from napari_siren.errors import InputError

# First bytes of TIFF and BigTIFF files in both byte orders.
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# Units of length in µm, by their symbols in OME.
_LENGTHS = {"pm": 1e-6, "Å": 1e-4, "nm": 1e-3, "µm": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "in": 2.54e4}
# Symbols of units by their other names in files, in lower case.
_OTHER_NAMES = {
    **dict.fromkeys(("um", "μm", "micron", "microns", "micrometer", "micrometre"), "µm"),
    **dict.fromkeys(("nanometer", "nanometre"), "nm"),
    **dict.fromkeys(("millimeter", "millimetre"), "mm"),
    **dict.fromkeys(("angstrom", "a"), "Å"),
    "inch": "in",
}
# Names that stand for a pixel size without a unit of length.
_NO_UNIT = ("", "pixel", "pixels", "reference frame")
# Letters of tifffile for axes without a name: other axes (Q) and sequences of images (I).
_UNNAMED_AXES = "QI"
# Dtypes of pixels in OME-TIFF: those of OME without complex numbers.
_OME_TYPES = ("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64")
# Dtypes of ImageJ. Colours need the first.
_IMAGEJ_TYPES = ("uint8", "uint16", "float32")
# Largest image in bytes for ImageJ's own TIFF, which has offsets of 32 bits.
_IMAGEJ_BYTES = 4_000_000_000

# Pixel size and its unit, by the letter of the axis.
Sizes = Mapping[str, tuple[float, str | None]]


@dataclass(frozen=True)
class TiffInfo:
    """Properties of the first image of a TIFF file, without its pixels.

    Parameters
    ----------
    shape, dtype, axes
        Shape, dtype and axes of the image, or of each of its frames. Axes of one entry are left out.
    spacing, unit, channel_names
        Distance between pixel centres, its unit, and the names of the channels. None if the file does not give them.
    frames
        Number of frames. None if frames were not requested, or if the file has no time axis.
    interval
        Time between frames and its unit. None if the file does not give it.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: Axes
    spacing: tuple[float, ...] | None
    unit: str | None
    channel_names: tuple[str, ...] | None
    frames: int | None = None
    interval: tuple[float, str] | None = None


def read_tiff(path: Path, axes: str | None = None, frame: int | None = None) -> tuple[npt.NDArray[Any], TiffInfo]:
    """Read the first image of a TIFF file.

    Parameters
    ----------
    path
        Path of the file.
    axes
        Letters for the axes with more than one entry, or for all axes. None uses the axes of the file.
    frame
        Index of the only frame to read from a time series. None reads the whole image, including time.

    Raises
    ------
    InputError
        The file is cut short, or has an axis other than space, channels and time.
    """
    with tifffile.TiffFile(path) as file:
        outline, time = _outline(path, file, axes, each=frame is not None)
        series = file.series[0]
        array = series.asarray() if frame is None or time is None else _one_frame(file, series, time, frame)
    return array.reshape(outline.shape), outline


def inspect_tiff(path: Path, axes: str | None = None, *, each: bool = False) -> TiffInfo:
    """Return the properties of the first image of a TIFF file, or of each of its frames if `each` is True.

    The other parameters and the errors are those of `read_tiff`.
    """
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
    """Write an ImageJ TIFF, or an OME-TIFF if ImageJ's format cannot hold the data.

    An image of a dtype unknown to OME becomes a plain TIFF, with axes and pixel size in tifffile's own metadata.

    Parameters
    ----------
    path
        Path of the file.
    array, axes, spacing, unit
        Pixels, axes, distance between pixel centres and its unit. The axes of the file have the order TZCYX, or TZYXC
        if the last axis holds 3 or 4 colours.
    ome
        Whether to write an OME-TIFF even if ImageJ's format can hold the data.
    channel_names, interval
        Names of the channels, and time between frames, as in `TiffInfo`. Only OME-TIFF stores them. Names of
        colours are not stored.
    """
    sizes = {} if spacing is None else dict(zip(Axes(axes).spatial, spacing, strict=True))
    array, names = _in_order(_as_stored(array), axes)
    colours = names.endswith("S")
    options: dict[str, Any] = {"photometric": "rgb" if colours else "minisblack"}
    name = array.dtype.name
    fits = name in (_IMAGEJ_TYPES[:1] if colours else _IMAGEJ_TYPES) and array.nbytes < _IMAGEJ_BYTES
    # ImageJ stores the resolution as a fraction of two 32-bit integers.
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


def _outline(path: Path, file: tifffile.TiffFile, axes: str | None, each: bool) -> tuple[TiffInfo, int | None]:
    """Return the properties of the first image, and the position of the time axis in the file."""
    if not len(file.series):
        raise InputError(f"{path} is a TIFF file without an image. Copy or write it again.")
    series = file.series[0]
    _check_whole(path, file, series)
    shape, file_axes = series.shape, series.axes
    kept_axes = [i for i, n in enumerate(shape) if n > 1 or (axes is not None and len(axes) == len(shape))]
    letters = "".join(file_axes[i] for i in kept_axes) if axes is None or len(axes) != len(kept_axes) else axes.upper()
    time = kept_axes[_time_axis(letters)] if each and _time_axis(letters) >= 0 else None
    frame_axes = [i for i in kept_axes if i != time]
    size = tuple(shape[i] for i in frame_axes)
    # The axes of the caller are those of the file or of a frame.
    frame_letters = (
        axes
        if axes is None or len(axes) != len(kept_axes)
        else axes.upper().replace("T", "" if time is not None else "T")
    )
    own_letters = "".join(a for i, a in zip(kept_axes, letters, strict=True) if i != time)
    names = _name_axes(path, own_letters, size) if frame_letters is None else check_axes(frame_letters, size)
    ome_pixels = _ome_pixels(file.ome_metadata or "") if file.is_ome else {}
    channels = dict(zip(names, size, strict=True)).get("C", 1)
    return TiffInfo(
        size,
        series.dtype,
        names,
        *_spacing(names, _pixel_sizes(file)),
        _channel_names(ome_pixels, channels),
        None if time is None else shape[time],
        _interval(ome_pixels, file.imagej_metadata or {}),
    ), time


def _time_axis(letters: str) -> int:
    """Return the position of the time axis: T, or the only axis without a name; -1 if there is none."""
    unnamed = [a for a in letters if a in _UNNAMED_AXES]
    return letters.find("T") if "T" in letters or len(unnamed) != 1 else letters.index(unnamed[0])


def _one_frame(file: tifffile.TiffFile, series: Any, time: int, frame: int) -> npt.NDArray[Any]:
    """Read one frame, and as little else as the layout of the file allows."""
    pages, frames = len(series.pages), series.shape[time]
    if series.dataoffset is None and math.prod(series.shape[:time]) == 1 and pages % frames == 0:
        count = pages // frames
        return np.asarray(file.asarray(key=slice(frame * count, (frame + 1) * count), series=0))
    whole = series.asarray(out="memmap" if series.dataoffset is not None else None)
    return np.array(whole[(slice(None),) * time + (frame,)])


def _check_whole(path: Path, file: tifffile.TiffFile, series: Any) -> None:
    """Raise an InputError if planes of the file are missing. tifffile would return the other planes, or zeros."""
    image_count = (file.imagej_metadata or {}).get("images", 1) if file.is_imagej else 1
    planes = math.prod(series.shape) // max(1, math.prod(series.keyframe.shape))
    if planes < image_count or any(page is None for page in series.pages):
        raise InputError(f"{path} is cut short: planes are missing. Copy or write it again.")


def _name_axes(path: Path, file_axes: str, shape: tuple[int, ...]) -> Axes:
    """Return the axes of the file in our letters. Samples become C, and a single axis without a name becomes Z."""
    names = file_axes if "C" in file_axes else file_axes.replace("S", "C")
    unnamed = [a for a in names if a in _UNNAMED_AXES]
    if len(unnamed) == 1 and "Z" not in names:
        names = names.replace(unnamed[0], "Z")
    unknown = [f"{a} ({n} entries)" for a, n in zip(names, shape, strict=True) if a not in SPATIAL_AXES + "CT"]
    if unknown:
        raise InputError(
            f"{path} has the axes {file_axes}, but {' and '.join(unknown)} is neither space (Z, Y, X), channels (C), "
            f"nor time (T). Save parts of it, or name its axes with `axes`: one letter for each of {shape}."
        )
    return Axes(names)


# ---- physical pixel size ---------------------------------------------------------------------------------


def _pixel_sizes(file: tifffile.TiffFile) -> Sizes:
    """Return the pixel size and its unit along the axes, as far as the file gives them."""
    if file.is_ome:
        return _ome_sizes(file.ome_metadata or "")
    if file.is_imagej:
        return _imagej_sizes(file.imagej_metadata or {}, file.pages.first.tags)
    metadata = (file.shaped_metadata or ({},))[0]
    sizes = metadata.get("pixel_size") or {}
    return {a: (float(size), metadata.get("unit")) for a, size in sizes.items()}


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
    """Return the pixel sizes as ImageJ reads them: from the resolution in pixels per unit, 1 by default."""
    unit = _unit(str(metadata.get("unit", "")))
    # Without a unit of ImageJ, a resolution in inches or centimetres is one for printing, and is ignored.
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
    """Return the pixel size as tags of plain TIFF, for programs without support for OME."""
    if unit not in _LENGTHS or not {"X", "Y"} <= set(sizes):
        return {}
    per_cm = tuple(_LENGTHS["cm"] / (_LENGTHS[unit] * sizes[a]) for a in "XY")
    # The tag stores a fraction of two 32-bit integers.
    return {"resolution": per_cm, "resolutionunit": "CENTIMETER"} if all(1e-6 < n < 1e9 for n in per_cm) else {}


def _channel_names(pixels: Mapping[str, Any], channels: int) -> tuple[str, ...] | None:
    channel = pixels.get("Channel", ())
    names = [entry.get("Name") for entry in (channel if isinstance(channel, list | tuple) else [channel])]
    return tuple(map(str, names)) if len(names) == channels > 1 and all(names) else None


def _interval(pixels: Mapping[str, Any], imagej: Mapping[str, Any]) -> tuple[float, str] | None:
    if "TimeIncrement" in pixels:
        return float(pixels["TimeIncrement"]), str(pixels.get("TimeIncrementUnit", "s"))
    seconds = float(imagej.get("finterval", 0))
    return (seconds, "s") if 0 < seconds < math.inf else None


def _spacing(axes: str, sizes: Sizes) -> tuple[tuple[float, ...] | None, str | None]:
    """Return the sizes along the spatial axes in one unit, or None if one of them is missing or invalid."""
    known = [sizes[a] for a in axes if a in sizes]
    if len(known) < sum(a in SPATIAL_AXES for a in axes) or not known:
        return None, None
    values, units = [abs(value) for value, _ in known], [unit for _, unit in known]
    unit = units[-1]
    if len(set(units)) > 1:
        # Units without a known length become NaN: the shape of the voxel is then unknown.
        values = [
            v * _LENGTHS.get(u or "", math.nan) / _LENGTHS.get(unit or "", math.nan)
            for v, u in zip(values, units, strict=True)
        ]
    if not all(0 < v < math.inf for v in values) or (unit is None and set(values) == {1.0}):
        return None, None
    return tuple(values), unit


def _unit(text: str) -> str | None:
    """Return the usual symbol of a unit; None for pixels. ImageJ writes µ as an escape sequence."""
    plain = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text).strip()
    return None if plain.lower() in _NO_UNIT else _OTHER_NAMES.get(plain.lower(), plain)


def _escape(unit: str) -> str:
    return "".join(c if c.isascii() else f"\\u{ord(c):04X}" for c in unit)


# ---- pixels to store -------------------------------------------------------------------------------------


def _as_stored(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert floats of other widths to the nearest width of TIFF readers: float32 or float64."""
    if array.dtype.kind != "f" or array.dtype.itemsize in (4, 8):
        return array
    return array.astype(np.float32 if array.dtype.itemsize < 4 else np.float64)


def _in_order(array: npt.NDArray[Any], axes: str) -> tuple[npt.NDArray[Any], str]:
    """Return the array and its axes in the order of TIFF, always including Y and X. Colours are named S."""
    colours = axes.endswith("C") and array.shape[-1] in (3, 4) and array.ndim > 2 and array.dtype != np.bool_
    order = [a for a in ("TZYXC" if colours else "TZCYX") if a in axes]
    array = array.transpose([axes.index(a) for a in order])
    for axis in "XY":
        if axis not in order:
            position = len(order) if axis == "X" else order.index("X")
            position -= colours and axis == "X"
            order.insert(position, axis)
            array = np.expand_dims(array, position)
    return np.ascontiguousarray(array), "".join(order).replace("C", "S" if colours else "C")
