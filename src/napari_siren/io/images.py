"""Reading and writing of images: the front door to the file formats.

The formats are TIFF, OME-TIFF, ImageJ TIFF, NPY, OME-Zarr, and Pillow's (PNG, JPEG, ...).
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy.typing as npt

from napari_siren.core.atomic import atomic_write, check_folder_free, check_writable
from napari_siren.core.image.axes import Axes
from napari_siren.errors import InputError, SirenError
from napari_siren.io.codecs import NpyCodec, TiffCodec, ZarrCodec
from napari_siren.io.formats import FormatName, format_of
from napari_siren.io.ome_zarr import is_zarr
from napari_siren.io.picture import Codec, ImageInfo, Picture, check_kind
from napari_siren.io.pillow import PillowCodec

# Codec of each format. The first one that matches a file reads it; Pillow's come last, since they match every file.
CODECS: dict[FormatName, Codec] = {
    "ome.zarr": ZarrCodec(),
    "tif": TiffCodec(),
    "ome.tif": TiffCodec(ome=True),
    "npy": NpyCodec(),
    "png": PillowCodec(".png"),
    "jpg": PillowCodec(".jpg"),
}


def sample_path() -> Path:
    """Return the path of the sample photograph of the package: 768 x 512 pixels, RGB."""
    return Path(str(importlib.resources.files("napari_siren"))) / "samples" / "kodim23.png"


def read_image(path: str | Path, axes: str | None = None, frame: int | None = None) -> Picture:
    """Read an image. If a TIFF or OME-Zarr file has several, read the first.

    Parameters
    ----------
    path
        Path of the image: TIFF, OME-TIFF, ImageJ TIFF, NPY, OME-Zarr (its finest level), PNG, JPEG, WebP, BMP, or
        another format of Pillow. The content of the file decides the format, not its name.
    axes
        Letters to use instead of the file's axes, one for each axis. None uses the axes of the file.
    frame
        Index of the only frame to read from a time series (TIFF, OME-Zarr). None reads the whole image.

    Raises
    ------
    InputError
        There is no such file, it is not an image, or it has axes other than space, channels and time.
    """
    path = Path(path)
    with _as_input_errors(path):
        return _codec_of(path).read(path, axes, frame)


def inspect_image(path: str | Path, axes: str | None = None, *, each: bool = False) -> ImageInfo:
    """Return the properties of an image, without reading its pixels if its format allows it.

    Parameters
    ----------
    path, axes
        Path and axes of the image, as in `read_image`.
    each
        Whether to return the properties of each frame of a time series instead of the whole series.

    Raises
    ------
    InputError
        The same errors as those of `read_image`. Damage further on in the file is noticed only when it is read.
    """
    path = Path(path)
    with _as_input_errors(path):
        return _codec_of(path).inspect(path, axes, each)


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
    path = Path(path)
    check_kind(path, array.dtype, axes, array.shape)
    kind = format_of(path)
    picture = Picture(array, Axes(axes), None if spacing is None else tuple(spacing), unit, path, _names(channel_names))
    if kind.is_folder:
        # A folder is written block by block, and moved into place by its codec.
        CODECS[kind.name].write(path, picture, interval)
    else:
        with atomic_write(path) as temporary_path:
            CODECS[kind.name].write(temporary_path, picture, interval)
    return path


def check_target(path: Path, dtype: npt.DTypeLike, axes: str, shape: Sequence[int]) -> None:
    """Check in advance whether `write_image` can write an image.

    Raises
    ------
    InputError, StorageError
        `write_image` would fail with the same error.
    """
    check_kind(path, dtype, axes, shape)
    if format_of(path).is_folder:
        check_folder_free(path, is_zarr)
    else:
        check_writable(path)


def _codec_of(path: Path) -> Codec:
    start = b"" if is_zarr(path) else _first_bytes(path)
    return next(codec for codec in CODECS.values() if codec.matches(path, start))


def _names(channel_names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if channel_names is None else tuple(channel_names)


@contextmanager
def _as_input_errors(path: Path) -> Iterator[None]:
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
