"""TIFF, OME-TIFF and ImageJ TIFF: reading of pixels with their axes, pixel size and other metadata."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from napari_siren.core.image.axes import SPATIAL_AXES, Axes, check_axes
from napari_siren.errors import InputError
from napari_siren.io.details import Details
from napari_siren.io.picture import ImageInfo, Picture, Request
from napari_siren.io.pillow import PillowCodec
from napari_siren.io.sizes import Sizes, spacing_of
from napari_siren.io.tiff import metadata
from napari_siren.io.tiff.pixels import PixelConversion, has_georeference, mask_page, missing_pixels, nodata_of

# First bytes of TIFF and BigTIFF files in both byte orders.
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Letters of tifffile for axes without a name: other axes (Q) and sequences of images (I).
_UNNAMED_AXES = "QI"


@dataclass(frozen=True)
class _Outline:
    """Properties of an image of a TIFF file, without its pixels.

    Parameters
    ----------
    file_axes, file_shape
        Axes and shape of the pixels, in the letters of tifffile.
    kept
        Positions of the axes that are kept, of these; the others have one entry.
    axes, shape, dtype
        Axes, shape and dtype of the picture, or of each of its frames.
    time
        Position of the time axis in the file if frames were requested, or None.
    frames
        Number of frames, or None.
    conversion
        Conversion of the samples.
    """

    file_axes: str
    file_shape: tuple[int, ...]
    kept: tuple[int, ...]
    axes: Axes
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    time: int | None
    frames: int | None
    conversion: PixelConversion


def read_tiff(path: Path, request: Request) -> Picture:
    """Read an image of a TIFF file.

    Parameters
    ----------
    path
        Path of the file.
    request
        Axes, frame, scene and level to read, as in `read_image`. The axes are those with more than one entry, or all
        axes. If it allows it, the pixels stay in the file: tifffile's zarr store reads them by parts.

    Raises
    ------
    InputError
        The file is cut short, or has an axis other than space, channels and time.
    """
    with tifffile.TiffFile(path) as file:
        number, series = _series(path, file, request)
        outline = _outline(path, file, series, request, each=request.frame is not None)
        lazily = request.lazily and outline.conversion.is_lazy and request.frame is None
        samples = _lazy(path, file, number, series) if lazily else _samples(file, series, outline, request.frame)
        if samples is None:
            picture = _without_nodata(PillowCodec(".tif").read(path, request), series, outline)
            return _with_metadata(picture, file, number, series, outline)
        samples_axes = "".join(a for i, a in enumerate(series.axes) if i != outline.time)
        pixels, profile, notes = outline.conversion(samples, samples_axes)
        missing = _missing(path, file, series, samples, samples_axes, outline)
        if missing is not None and not lazily:
            notes.append(f"{int(missing.sum())} pixels without data are missing, and are filled in")
        picture = Picture(
            pixels.reshape(outline.shape),
            outline.axes,
            None,
            None,
            path,
            details=Details(profile=profile),
            notes=tuple(notes),
            missing=missing,
        )
        return _with_metadata(picture, file, number, series, outline)


def inspect_tiff(path: Path, request: Request, *, each: bool = False) -> ImageInfo:
    """Return the properties of an image of a TIFF file, or of each of its frames if `each` is True.

    The other parameters and the errors are those of `read_tiff`.
    """
    with tifffile.TiffFile(path) as file:
        number, series = _series(path, file, request)
        outline = _outline(path, file, series, request, each)
        ome = _ome_pixels(file, number)
        spacing, *_ = spacing_of(outline.axes, _sizes(file, ome, number, series, outline))
        interval = metadata.interval_of(ome, file.imagej_metadata or {})
        return ImageInfo(outline.shape, outline.dtype.name, outline.axes, spacing, outline.frames, interval)


def _series(path: Path, file: tifffile.TiffFile, request: Request) -> tuple[int, Any]:
    """Return the number of an image of the file, and a level of its pyramid."""
    names, scene = [series.name for series in file.series], request.scene
    if not names:
        raise InputError(f"{path} is a TIFF file without an image. Copy or write it again.")
    number = names.index(scene) if isinstance(scene, str) and scene in names else scene or 0
    if not isinstance(number, int) or not 0 <= number < len(names):
        raise InputError(
            f"{path} has no image {scene!r}. Choose a number from 0 to {len(names) - 1}, or one of {names}."
        )
    levels = _levels(file.series[number])
    if not -len(levels) <= request.level < len(levels):
        raise InputError(f"{path} has no level {request.level}. Choose one from 0 to {len(levels) - 1}.")
    return number, levels[request.level]


def _levels(series: Any) -> list[Any]:
    """Return the levels of an image's pyramid, the finest first. Levels of other axes or dtypes are left out."""
    levels = [series]
    for level in series.levels[1:]:
        same = (level.axes, level.dtype) == (series.axes, series.dtype)
        sizes = list(zip(level.shape, levels[-1].shape, strict=False))
        if not same or tuple(level.shape) == tuple(levels[-1].shape) or not all(1 < m <= n or m == n for m, n in sizes):
            break
        levels.append(level)
    return levels


def _outline(path: Path, file: tifffile.TiffFile, series: Any, request: Request, each: bool) -> _Outline:
    """Return the properties of an image."""
    _check_whole(path, file, series)
    conversion = PixelConversion.from_page(series.keyframe, series.dtype, bool(file.is_imagej or file.is_ome))
    file_axes, shape, dtype = conversion.outline(series.axes, series.shape)
    axes = request.axes
    kept = _kept_axes(file_axes, shape, axes)
    letters = "".join(file_axes[i] for i in kept) if axes is None or len(axes) != len(kept) else axes.upper()
    time = kept[_time_axis(letters)] if each and _time_axis(letters) >= 0 else None
    frame_axes = [i for i in kept if i != time]
    size = tuple(shape[i] for i in frame_axes)
    # The axes of the caller are those of the file or of a frame.
    given = (
        axes if axes is None or len(axes) != len(kept) else axes.upper().replace("T", "" if time is not None else "T")
    )
    own = "".join(a for i, a in zip(kept, letters, strict=True) if i != time)
    names = _name_axes(path, own, size) if given is None else check_axes(given, size)
    frames = None if time is None else shape[time]
    position = None if time is None else series.axes.index(file_axes[time])
    return _Outline(file_axes, shape, tuple(frame_axes), names, size, dtype, position, frames, conversion)


def _kept_axes(axes: str, shape: tuple[int, ...], given: str | None) -> list[int]:
    """Return the positions of the axes with more than one entry, and of X and Y if there would be no plane."""
    if given is not None and len(given) == len(shape):
        return list(range(len(shape)))
    kept = [i for i, n in enumerate(shape) if n > 1]
    for letter in "XY":
        in_space = sum(axes[i] in SPATIAL_AXES + _UNNAMED_AXES for i in kept)
        if in_space < 2 and letter in axes and axes.index(letter) not in kept:
            kept.append(axes.index(letter))
    return sorted(kept)


def _samples(file: tifffile.TiffFile, series: Any, outline: _Outline, frame: int | None) -> npt.NDArray[Any] | None:
    """Read the samples of an image or of a frame. None leaves a picture to Pillow, which has more decoders."""
    try:
        if frame is None or outline.time is None:
            return np.asarray(series.asarray())
        shape = [n for i, n in enumerate(series.shape) if i != outline.time]
        return _one_frame(file, series, outline.time, frame).reshape(shape)
    except (ValueError, NotImplementedError, KeyError, ImportError) as error:
        is_decoder = isinstance(error, NotImplementedError) or "imagecodecs" in str(error)
        # Pillow reads the planes of a file as frames, and colours of 16 bits not at all.
        grey = series.keyframe.samplesperpixel == 1 and outline.dtype in (np.bool_, np.uint16, np.float32)
        known = (outline.dtype == np.uint8 or grey) and not (file.is_ome or file.is_imagej)
        is_finest = any(series is other for other in file.series)
        if is_decoder and is_finest and len(file.pages) == 1 and known:
            return None
        raise


def _lazy(path: Path, file: tifffile.TiffFile, number: int, series: Any) -> Any:
    """Return the samples as a dask array. It reads them from the file by parts."""
    from napari_siren.io.lazy import array_of_store, array_of_values

    if series.dataoffset is not None:
        return array_of_values(series.asarray(out="memmap"))
    level = next(i for i, other in enumerate(file.series[number].levels) if other is series)
    # The store keeps the file open.
    return array_of_store(path, tifffile.imread(path, aszarr=True, series=number, level=level))


def _missing(path: Path, file: tifffile.TiffFile, series: Any, samples: Any, axes: str, outline: _Outline) -> Any:
    """Return the pixels without data over the coordinates: missing in any channel is missing. None without any."""
    place, coordinates = outline.conversion.place, outline.axes.pick(outline.shape)
    mask = missing_pixels(samples, nodata_of(series.keyframe))
    if mask is None:
        mask = _masked(path, file, series, lazily=not isinstance(samples, np.ndarray))
        plane = None if mask is None else place(mask, "YX")
        return None if plane is None or plane.size != math.prod(coordinates) else plane.reshape(coordinates)
    placed = place(mask, axes)
    if placed.size == math.prod(coordinates):
        return placed.reshape(coordinates)
    channel = outline.axes.channel
    whole = placed.reshape(outline.shape)
    return whole if channel is None else np.any(whole, axis=channel, keepdims=False)


def _masked(path: Path, file: tifffile.TiffFile, series: Any, lazily: bool) -> Any:
    """Return the pixels without data by the transparency mask of the file, (Y, X); None without any."""
    from napari_siren.io.lazy import array_of_store

    page = mask_page(file, series.keyframe.shape[:2])
    if page is None:
        return None
    if lazily:
        return array_of_store(path, tifffile.imread(path, aszarr=True, key=page)) == 0
    mask = np.asarray(file.pages[page].asarray()) == 0
    return mask if mask.any() else None


def _without_nodata(picture: Picture, series: Any, outline: _Outline) -> Picture:
    """Return a picture of Pillow with the pixels of the nodata value of GDAL among its missing pixels."""
    mask = missing_pixels(picture.array, nodata_of(series.keyframe))
    if mask is None:
        return picture
    if outline.conversion.interpretation != "RGB":
        raise InputError(f"{picture.path} needs a decoder. Install it with: pip install imagecodecs.")
    missing = np.any(mask, axis=-1, keepdims=False) if (picture.axes or Axes()).endswith("C") else mask
    note = f"{int(missing.sum())} pixels without data are missing, and are filled in"
    return replace(picture, missing=missing, notes=(*picture.notes, note))


def _with_metadata(picture: Picture, file: tifffile.TiffFile, number: int, series: Any, outline: _Outline) -> Picture:
    """Return a picture with the metadata of the file."""
    ome, imagej = _ome_pixels(file, number), file.imagej_metadata or {}
    axes = picture.axes or outline.axes
    spacing, unit, guessed, notes = spacing_of(axes, _sizes(file, ome, number, series, outline))
    channels = 1 if axes.channel is None else picture.array.shape[axes.channel]
    names = metadata.ome_names(ome, channels) or metadata.imagej_names(imagej, channels, len(series.pages))
    index_is_value = bool(file.is_imagej or file.is_ome)
    luts = metadata.imagej_luts(imagej, series.keyframe, channels) if index_is_value else None
    dpi = metadata.print_resolution(file) or picture.details.dpi
    if has_georeference(series.keyframe):
        notes.append("the place on the map (GeoTIFF) is not carried over")
    known = replace(
        picture.details,
        file_axes=_full_axes(outline) if len(outline.kept) < len(outline.file_axes) else "",
        colours=metadata.ome_colours(ome, channels) or metadata.colours_of_luts(luts),
        luts=luts,
        ranges=metadata.imagej_ranges(imagej, channels),
        origin=metadata.ome_origin(ome, axes, unit),
        guessed=guessed,
        dpi=dpi[::-1] if dpi is not None and outline.conversion.exchanges else dpi,
        interval=metadata.interval_of(ome, imagej),
        has_alpha=picture.details.has_alpha or (outline.conversion.alpha is not None and axes.endswith("C")),
    )
    all_notes = (*picture.notes, *notes, *metadata.left_out(file))
    levels = len(_levels(file.series[number]))
    known_picture = replace(picture, spacing=spacing, unit=unit, channel_names=names, levels=levels)
    return replace(known_picture, details=known, notes=all_notes)


def _full_axes(outline: _Outline) -> str:
    """Return the axes of the file in our letters if they are all known, else nothing."""
    letters = outline.file_axes.replace("S", "" if "C" in outline.file_axes else "C")
    return letters if set(letters) <= set(SPATIAL_AXES + "CT") and len(set(letters)) == len(letters) else ""


def _sizes(file: tifffile.TiffFile, ome: Mapping[str, Any], number: int, series: Any, outline: _Outline) -> Sizes:
    """Return the pixel sizes along the axes of the upright image, at a level of its pyramid."""
    ratios = zip(series.axes, file.series[number].shape, series.shape, strict=False)
    factors = {a: n / m for a, n, m in ratios if n != m}
    sizes = {a: (v * factors.get(a, 1), unit) for a, (v, unit) in metadata.pixel_sizes(file, ome).items()}
    if outline.conversion.exchanges:
        exchanged = {"X": "Y", "Y": "X"}
        sizes = {exchanged.get(a, a): size for a, size in sizes.items()}
    return sizes


def _ome_pixels(file: tifffile.TiffFile, number: int) -> Mapping[str, Any]:
    """Return the entry "Pixels" of an image in OME metadata; an empty mapping for other files."""
    if not file.is_ome:
        return {}
    pixels: Mapping[str, Any] = metadata.ome_image(file.ome_metadata or "", number).get("Pixels", {})
    return pixels


def _time_axis(letters: str) -> int:
    """Return the position of the time axis: T, or the only axis without a name; -1 if there is none."""
    unnamed = [a for a in letters if a in _UNNAMED_AXES]
    return letters.find("T") if "T" in letters or len(unnamed) != 1 else letters.index(unnamed[0])


def _one_frame(file: tifffile.TiffFile, series: Any, time: int, frame: int) -> npt.NDArray[Any]:
    """Read one frame, and as little else as the layout of the file allows."""
    pages, frames = len(series.pages), series.shape[time]
    if series.dataoffset is None and math.prod(series.shape[:time]) == 1 and pages % frames == 0:
        count = pages // frames
        return np.asarray(file.asarray(key=slice(frame * count, (frame + 1) * count), series=series))
    whole = series.asarray(out="memmap" if series.dataoffset is not None else None)
    return np.array(whole[(slice(None),) * time + (frame,)])


def _check_whole(path: Path, file: tifffile.TiffFile, series: Any) -> None:
    """Raise an InputError if planes of the file are missing. tifffile would return the other planes, or zeros."""
    image_count = (file.imagej_metadata or {}).get("images", 1) if file.is_imagej else 1
    planes = math.prod(series.shape) // max(1, math.prod(series.keyframe.shape))
    if planes < image_count or any(page is None for page in series.pages):
        raise InputError(f"{path} is cut short: planes are missing. Copy or write it again.")
    # tifffile fills missing strips and tiles with zeros: a damaged width would make a large image of them.
    expected, stored = math.prod(series.keyframe.chunked), len(series.keyframe.dataoffsets)
    if stored < expected:
        raise InputError(f"{path} has {stored} of its {expected} strips or tiles. Copy or write it again.")


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
