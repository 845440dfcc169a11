"""Reading and writing of images: the front door to the file formats.

The formats are TIFF, OME-TIFF, ImageJ TIFF, NPY, OME-Zarr, Pillow's (PNG, JPEG, ...), and by bioio those of
microscopes.
"""

from __future__ import annotations

import importlib.resources
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from napari_siren.core.image.axes import Axes
from napari_siren.core.storage.atomic import atomic_write, check_folder_free, check_writable
from napari_siren.errors import InputError, SirenError
from napari_siren.io.codecs import NpyCodec, TiffCodec, ZarrCodec, open_zarr
from napari_siren.io.formats import FormatName, format_of
from napari_siren.io.lazy import import_zarr
from napari_siren.io.microscopes import MicroscopeCodec
from napari_siren.io.picture import Codec, ImageInfo, Picture, Request, check_kind
from napari_siren.io.pillow import PillowCodec
from napari_siren.io.remote import address_of, downloaded, has_remote, is_remote
from napari_siren.io.zarr.group import MARKS, is_zarr

_LOG = logging.getLogger("napari_siren")

# Codec of each format. The first one that matches a file reads it; Pillow's come last, since they match every file.
CODECS: dict[FormatName, Codec] = {
    "ome.zarr": ZarrCodec(),
    "tif": TiffCodec(),
    "ome.tif": TiffCodec(ome=True),
    "npy": NpyCodec(),
    "png": PillowCodec(".png"),
    "jpg": PillowCodec(".jpg"),
}
# Codec of files with no own codec.
_MICROSCOPES = MicroscopeCodec()


def sample_path() -> Path:
    """Return the path of the sample photograph of the package: 768 x 512 pixels, RGB."""
    return Path(str(importlib.resources.files("napari_siren"))) / "samples" / "kodim23.png"


def read_image(
    path: str | Path,
    axes: str | None = None,
    frame: int | None = None,
    *,
    scene: int | str | None = None,
    level: int = 0,
    lazily: bool = False,
) -> Picture:
    """Read an image. If a file has several, read the first.

    What is assumed, converted or left out is logged in one line, and is in the `notes` of the picture.

    Parameters
    ----------
    path
        Path of the image, or its address (https://, s3://, …): TIFF, OME-TIFF, ImageJ TIFF, NPY, OME-Zarr (its finest
        level), PNG, JPEG, WebP, BMP, or another format of Pillow; with the extra "formats", CZI, LIF, ND2 and other
        formats of microscopes. The content of the file decides the format, not its name.
    axes
        Letters to use instead of the file's axes, one for each axis. None uses the axes of the file.
    frame
        Index of the only frame to read from a time series (TIFF, OME-Zarr). None reads the whole image.
    scene
        Number or name of one of several images in the file. None is the first.
    level
        Index of the level of a pyramid (OME-Zarr, TIFF); 0 is the finest.
    lazily
        Whether the pixels may stay in the file, as a dask array that reads them by parts. The pixels of OME-Zarr always
        stay in their folder.

    Raises
    ------
    InputError
        There is no such file, it is not an image, or it has axes other than space, channels and time.
    """
    picture = _read(path, Request(axes, frame, scene, level, lazily))
    if picture.notes:
        _LOG.warning("%s: %s", picture.path.name, "; ".join(picture.notes))
    return picture


def read_pyramid(path: str | Path) -> tuple[Picture, ...]:
    """Read all levels of an image, the finest first. Their pixels may stay in the file, as in `read_image`."""
    finest = read_image(path, lazily=True)
    coarser = (_read(path, Request(level=level, lazily=True)) for level in range(1, finest.levels))
    return (finest, *coarser)


def inspect_image(path: str | Path, axes: str | None = None, *, each: bool = False) -> ImageInfo:
    """Return the properties of an image, without reading its pixels if its format allows it.

    Parameters
    ----------
    path, axes
        Path or address of the image, and its axes, as in `read_image`.
    each
        Whether to return the properties of each frame of a time series instead of the whole series.

    Raises
    ------
    InputError
        The same errors as those of `read_image`. Damage further on in the file is noticed only when it is read.
    """
    request = Request(axes)
    if is_remote(path):
        address = address_of(path)
        with _as_input_errors(address):
            if has_remote(address, *MARKS):
                return CODECS["ome.zarr"].inspect(Path(address), request, each)
        with downloaded(address) as copy, _as_input_errors(copy):
            return _codec_of(copy).inspect(copy, request, each)
    path = Path(path)
    with _as_input_errors(path):
        return _codec_of(path).inspect(path, request, each)


def write_image(
    path: str | Path,
    array: npt.NDArray[Any],
    axes: str,
    spacing: Sequence[float] | None = None,
    unit: str | None = None,
    channel_names: Sequence[str] | None = None,
    interval: tuple[float, str] | None = None,
) -> Path:
    """Write an image to a file. The suffix of the name sets the kind of file.

    The file is written under a temporary name, and then moved into place.

    Parameters
    ----------
    path
        Path of the file: .png, .jpg, .tif (ImageJ TIFF if it can hold the data, else OME-TIFF), .ome.tif, .npy or
        .ome.zarr.
    array, axes, spacing, unit
        Image, as in `Picture`. Only TIFF and OME-Zarr store spacing, unit and T, the axis of frames. .npy stores any
        array, but no axes.
    channel_names, interval
        Names of the channels as in `Picture`, and time between frames as in `ImageInfo`. OME-TIFF stores both,
        OME-Zarr stores the names only, and other files store neither.

    Raises
    ------
    InputError
        The kind of file cannot hold the image.
    StorageError
        The file cannot be written.
    """
    names = None if channel_names is None else tuple(channel_names)
    known = None if spacing is None else tuple(spacing)
    return write_picture(path, Picture(array, Axes(axes), known, unit, Path(path), names), interval)


def write_picture(path: str | Path, picture: Picture, interval: tuple[float, str] | None = None) -> Path:
    """Write a picture with all its metadata that the kind of file can hold. The others are logged in one line.

    Parameters
    ----------
    path
        Path of the file, as in `write_image`.
    picture
        Picture with named axes; see `Picture.resampled`.
    interval
        Time between frames and its unit. None uses that of the picture.

    Raises
    ------
    InputError, StorageError
        The errors of `write_image`.
    """
    path, axes = Path(path), picture.axes or Axes()
    check_kind(path, picture.array.dtype, axes, picture.array.shape)
    kind = format_of(path)
    interval = picture.details.interval if interval is None else interval
    for note in loss_notes(path, picture, interval):
        _LOG.warning("%s", note)
    if kind.is_folder:
        # A folder is written block by block, and moved into place by its codec.
        CODECS[kind.name].write(path, picture, interval)
    else:
        with atomic_write(path) as temporary_path:
            CODECS[kind.name].write(temporary_path, picture, interval)
    return path


def loss_notes(
    path: Path, picture: Picture, interval: tuple[float, str] | None = None, kind: FormatName | None = None
) -> list[str]:
    """Return a sentence on the metadata of a picture that the kind of file cannot hold, if there is any.

    The kind is that of the file name by default.
    """
    lost = CODECS[kind or format_of(path).name].losses(picture, interval)
    return [f"{path.name} cannot hold {' and '.join(lost)} of the image"] if lost else []


def check_target(path: Path, dtype: npt.DTypeLike, axes: str, shape: Sequence[int]) -> None:
    """Check in advance whether `write_image` can write an image.

    Raises
    ------
    InputError, StorageError
        `write_image` would fail with the same error.
    """
    check_kind(path, dtype, axes, shape)
    if format_of(path).is_folder:
        import_zarr("zarr")
        check_folder_free(path, is_zarr)
    else:
        check_writable(path)


def _codec_of(path: Path) -> Codec:
    start = b"" if is_zarr(path) else _first_bytes(path)
    if start and _MICROSCOPES.matches(path, start):
        return _MICROSCOPES
    return next(codec for codec in CODECS.values() if codec.matches(path, start))


def _read(path: str | Path, request: Request) -> Picture:
    if is_remote(path):
        picture = _read_remote(address_of(path), request)
    else:
        path = Path(path)
        with _as_input_errors(path):
            picture = _codec_of(path).read(path, request)
    if not -picture.levels <= request.level < picture.levels:
        raise InputError(f"{path} has no level {request.level}: it is no pyramid. Use level 0.")
    return picture


def _read_remote(address: str, request: Request) -> Picture:
    """Read an image at a remote address: OME-Zarr by parts, and other files by a temporary copy."""
    with _as_input_errors(address):
        if has_remote(address, *MARKS):
            return open_zarr(address, request)
    with downloaded(address) as copy, _as_input_errors(copy):
        # The copy does not stay.
        picture = _codec_of(copy).read(copy, replace(request, lazily=False))
        return replace(picture, path=Path(address))


@contextmanager
def _as_input_errors(path: Path | str) -> Iterator[None]:
    try:
        yield
    except SirenError:
        raise
    except MemoryError:
        raise InputError(f"{path} does not fit into memory. Save the part to fit as a file of its own.") from None
    # Decoders raise many kinds of exceptions on unexpected content.
    except Exception as error:
        hint = " Install the decoder with: pip install imagecodecs." if "imagecodecs" in str(error) else ""
        raise InputError(f"{path} cannot be read as an image: {error or type(error).__name__}.{hint}") from error


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(f"{path} is a folder, but no OME-Zarr image. Give the path of an image file.")
    try:
        with path.open("rb") as file:
            start = file.read(32)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}. Check its name.") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}. Check its permissions.") from None
    if not start:
        raise InputError(f"{path} is empty. Choose another file.")
    return start
