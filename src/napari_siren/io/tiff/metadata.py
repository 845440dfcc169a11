"""Metadata of TIFF, OME-TIFF and ImageJ TIFF: pixel sizes, channels, colours, position and time."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tifffile

from napari_siren.core.image.axes import SPATIAL_AXES, Axes
from napari_siren.core.image.units import LENGTHS, unit_symbol
from napari_siren.io.details import colour_of_lut
from napari_siren.io.sizes import Sizes, converted

# Resolution in pixels per inch from which a plain TIFF shows a specimen under a microscope, not a page: above that of
# scanners (4800 on the bed, and up to 5000 for film).
_MICROSCOPE_DPI = 5000
# Inches and centimetres in µm, by the number of the unit of a resolution in TIFF.
_RESOLUTION_UNITS = {2: LENGTHS["in"], 3: LENGTHS["cm"]}


def pixel_sizes(file: tifffile.TiffFile, ome: Mapping[str, Any]) -> Sizes:
    """Return the pixel size and its unit along the axes, as far as a file gives them.

    Parameters
    ----------
    file
        The file.
    ome
        The entry "Pixels" of the OME metadata, or an empty mapping.
    """
    if file.is_ome:
        return _ome_sizes(ome)
    tags = file.pages.first.tags
    dpi = _dpi(tags)
    if file.is_imagej and ("unit" in (file.imagej_metadata or {}) or dpi is None or min(dpi) < _MICROSCOPE_DPI):
        return _imagej_sizes(file.imagej_metadata or {}, tags)
    metadata = (file.shaped_metadata or ({},))[0]
    sizes = metadata.get("pixel_size") or {}
    if sizes:
        return {a: (float(size), metadata.get("unit")) for a, size in sizes.items()}
    if file.is_lsm:
        voxel = file.lsm_metadata or {}
        return {a: (1e6 * float(voxel[f"VoxelSize{a}"]), "µm") for a in SPATIAL_AXES if voxel.get(f"VoxelSize{a}")}
    if file.is_svs:
        microns = re.search(r"MPP\s*=\s*([0-9.]+)", file.pages.first.description)
        return {} if microns is None else {a: (float(microns[1]), "µm") for a in "YX"}
    if dpi is None or min(dpi) < _MICROSCOPE_DPI:
        return {}
    return {a: (LENGTHS["in"] / n, "µm") for a, n in zip("XY", dpi, strict=True)}


def print_resolution(file: tifffile.TiffFile) -> tuple[float, float] | None:
    """Return the resolution of the print in pixels per inch, along X and Y; None if the file gives none."""
    if file.is_ome or (file.is_imagej and "unit" in (file.imagej_metadata or {})):
        return None
    dpi = _dpi(file.pages.first.tags)
    return None if dpi is None or min(dpi) >= _MICROSCOPE_DPI else dpi


def ome_image(xml: str, number: int = 0) -> Mapping[str, Any]:
    """Return the entry of an image in OME metadata."""
    images = tifffile.xml2dict(xml).get("OME", {}).get("Image", {})
    entries = images if isinstance(images, list) else [images]
    image: Mapping[str, Any] = entries[min(number, len(entries) - 1)]
    return image


def ome_channels(pixels: Mapping[str, Any], channels: int) -> list[Mapping[str, Any]]:
    """Return the entries of the channels, or none if their number differs."""
    entries = pixels.get("Channel", ())
    listed = list(entries) if isinstance(entries, list | tuple) else [entries]
    return listed if len(listed) == channels else []


def ome_names(pixels: Mapping[str, Any], channels: int) -> tuple[str, ...] | None:
    """Return the names of the channels, or None if they are not all given."""
    names = [entry.get("Name") for entry in ome_channels(pixels, channels)]
    return tuple(map(str, names)) if names and all(names) else None


def ome_colours(pixels: Mapping[str, Any], channels: int) -> tuple[str, ...] | None:
    """Return the colours of the channels as hexadecimal digits, or None if no channel has one."""
    colours = [entry.get("Color") for entry in ome_channels(pixels, channels)]
    if all(colour is None for colour in colours):
        return None
    # A colour is a signed number of 32 bits: red, green, blue, alpha. White is the default.
    return tuple(f"{(int(-1 if colour is None else colour) & 0xFFFFFFFF) >> 8:06X}" for colour in colours)


def ome_origin(pixels: Mapping[str, Any], axes: str, unit: str | None) -> tuple[float, ...] | None:
    """Return the position of the first plane along the spatial axes, in a unit, or None if it is not given."""
    planes = pixels.get("Plane", {})
    first = planes[0] if isinstance(planes, list) and planes else planes
    if not isinstance(first, Mapping) or not any(f"Position{a}" in first for a in Axes(axes).spatial):
        return None
    values = []
    for a in Axes(axes).spatial:
        own = unit_symbol(str(first.get(f"Position{a}Unit", "reference frame")))
        value = float(first.get(f"Position{a}", 0.0))
        position = value if own == unit else converted(value, own, unit)
        if position is None:
            return None
        values.append(position)
    return tuple(values)


def imagej_luts(metadata: Mapping[str, Any], page: Any, channels: int) -> tuple[bytes, ...] | None:
    """Return the lookup tables of the channels: those of ImageJ, or the palette of a single channel."""
    tables = metadata.get("LUTs", ())
    # tifffile returns the only entry of a list by itself.
    tables = [tables] if np.shape(tables) == (3, 256) else tables
    if len(tables) == channels and all(np.shape(table) == (3, 256) for table in tables):
        return tuple(np.asarray(table, dtype=np.uint8).tobytes() for table in tables)
    if channels == 1 and page.colormap is not None and page.colormap.shape == (3, 256):
        return ((page.colormap >> 8).astype(np.uint8).tobytes(),)
    return None


def imagej_ranges(metadata: Mapping[str, Any], channels: int) -> tuple[tuple[float, float], ...] | None:
    """Return the displayed range of each channel, or None."""
    flat = [float(value) for value in metadata.get("Ranges") or ()]
    if len(flat) == 2 * channels:
        return tuple(zip(flat[::2], flat[1::2], strict=True))
    if channels == 1 and "min" in metadata and "max" in metadata:
        return ((float(metadata["min"]), float(metadata["max"])),)
    return None


def imagej_names(metadata: Mapping[str, Any], channels: int, planes: int) -> tuple[str, ...] | None:
    """Return the labels of the slices as the names of the channels, if every slice is a channel."""
    labels = metadata.get("Labels", ())
    labels = [labels] if isinstance(labels, str) else list(labels)
    return tuple(map(str, labels)) if len(labels) == channels == planes > 1 and all(labels) else None


def colours_of_luts(luts: Sequence[bytes] | None) -> tuple[str, ...] | None:
    """Return the colours of lookup tables from black to a colour, or None for other tables."""
    colours = [colour_of_lut(lut) for lut in luts or ()]
    return tuple(c for c in colours if c is not None) if colours and None not in colours else None


def interval_of(pixels: Mapping[str, Any], imagej: Mapping[str, Any]) -> tuple[float, str] | None:
    """Return the time between frames and its unit, or None."""
    if "TimeIncrement" in pixels:
        return float(pixels["TimeIncrement"]), str(pixels.get("TimeIncrementUnit", "s"))
    seconds = float(imagej.get("finterval", 0))
    return (seconds, "s") if 0 < seconds < math.inf else None


def left_out(file: tifffile.TiffFile) -> list[str]:
    """Return notes on the omitted contents of a file."""
    imagej = file.imagej_metadata or {}
    parts = {
        "ImageJ's regions of interest": bool({"ROI", "Overlays"} & set(imagej)),
        "ImageJ's notes (Info, Properties)": bool({"Info", "Properties"} & set(imagej)),
    }
    if file.is_ome:
        entries = tifffile.xml2dict(file.ome_metadata or "").get("OME", {})
        parts |= {
            "the regions of interest and annotations of OME": bool({"ROI", "StructuredAnnotations"} & set(entries))
        }
    notes = [f"{name} are not carried over" for name, is_there in parts.items() if is_there]
    if len(file.series) > 1:
        notes.append(f"the file has {len(file.series)} images; only one is read")
    return notes


def _ome_sizes(pixels: Mapping[str, Any]) -> Sizes:
    return {
        axis: (float(pixels[f"PhysicalSize{axis}"]), unit_symbol(str(pixels.get(f"PhysicalSize{axis}Unit", "µm"))))
        for axis in SPATIAL_AXES
        if f"PhysicalSize{axis}" in pixels
    }


def _imagej_sizes(metadata: Mapping[str, Any], tags: Any) -> Sizes:
    """Return the pixel sizes as ImageJ reads them: from the resolution in pixels per unit, 1 by default."""
    unit = unit_symbol(str(metadata.get("unit", "")))
    # Without a unit of ImageJ, a resolution in inches or centimetres is one for printing, and is ignored.
    in_print = "unit" not in metadata and tags.get("ResolutionUnit") and tags["ResolutionUnit"].value in (2, 3)
    sizes = {"Z": (float(metadata.get("spacing", 1.0)), _imagej_unit(metadata, "zunit", unit))}
    for axis, name in (("Y", "YResolution"), ("X", "XResolution")):
        pixels, units = tags[name].value if name in tags and not in_print else (1, 1)
        sizes[axis] = (units / pixels if pixels else math.nan, _imagej_unit(metadata, f"{axis.lower()}unit", unit))
    return sizes


def _imagej_unit(metadata: Mapping[str, Any], name: str, unit: str | None) -> str | None:
    """Return the unit of an axis. ImageJ stores it if it differs from that of X."""
    return unit_symbol(str(metadata[name])) if name in metadata else unit


def _dpi(tags: Any) -> tuple[float, float] | None:
    """Return the resolution in pixels per inch, along X and Y, or None if it is not valid."""
    unit = tags["ResolutionUnit"].value if "ResolutionUnit" in tags else 2
    if unit not in _RESOLUTION_UNITS or not {"XResolution", "YResolution"} <= {tag.name for tag in tags}:
        return None
    fractions = [tags[name].value for name in ("XResolution", "YResolution")]
    if any(len(fraction) != 2 or 0 in fraction for fraction in fractions):
        return None
    x, y = (pixels / count * LENGTHS["in"] / _RESOLUTION_UNITS[unit] for pixels, count in fractions)
    # A resolution of 1 is that of programs that do not know it.
    return (x, y) if min(x, y) > 2.6 else None
