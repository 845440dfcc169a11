"""Open images and write them: TIFF, OME-TIFF, ImageJ TIFF, NPY, OME-Zarr, and what Pillow knows (PNG, JPEG, …)."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt

from napari_siren.core.atomic import check_folder_free, check_writable, written_aside
from napari_siren.core.image.axes import check_axes, guess_axes
from napari_siren.errors import InputError, SirenError
from napari_siren.io.ome_zarr import ZarrImage, is_zarr, open_ome_zarr, write_ome_zarr
from napari_siren.io.tiff import MAGIC, outline_tiff, read_tiff, write_tiff

# What each kind of file can hold: numbers of channels for each dtype, in two dimensions; None is anything.
_HOLDS: dict[str, dict[str, tuple[int, ...]] | None] = {
    ".png": {"uint8": (1, 3, 4), "uint16": (1,), "bool": (1,)},
    ".jpg": {"uint8": (1, 3)},
    ".jpeg": {"uint8": (1, 3)},
    ".tif": None,
    ".tiff": None,
    ".npy": None,
    ".zarr": None,
}
_NPY_MAGIC = b"\x93NUMPY"
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# Modes of Pillow whose channels are not red, green and blue.
_OTHER_COLOURS = ("CMYK", "YCbCr", "LAB", "HSV")


@dataclass(frozen=True)
class Picture:
    """An image from a file.

    Parameters
    ----------
    array
        The pixels; those of OME-Zarr as a dask array, of which nothing is read yet.
    axes
        One letter for each axis of the array, of Z, Y, X, C and T; None where the file does not tell.
    spacing
        Distance between pixel centres along each spatial axis; None where the file does not tell.
    unit
        Of the spacing, such as "µm"; None where the file does not tell.
    path
        The file.
    channel_names
        One for each channel; None where the file does not tell.
    """

    array: npt.NDArray[Any]
    axes: str | None
    spacing: tuple[float, ...] | None
    unit: str | None
    path: Path
    channel_names: tuple[str, ...] | None = None

    @property
    def frame(self) -> tuple[str, tuple[int, ...]]:
        """Axes and shape of a single frame, which are those of the field; ("", ()) where the axes are not known."""
        pairs = [(a, n) for a, n in zip(self.axes or "", self.array.shape, strict=False) if a != "T"]
        return "".join(a for a, _ in pairs), tuple(n for _, n in pairs)


@dataclass(frozen=True)
class Outline:
    """What a file holds, told without reading its pixels.

    Parameters
    ----------
    shape, dtype, axes
        Of the image, or of each of its frames.
    spacing
        As in `Picture`.
    frames
        Number of frames where they were asked for; None where the file has no time.
    interval
        Time between frames and its unit; None where the file does not tell.
    """

    shape: tuple[int, ...]
    dtype: str
    axes: str
    spacing: tuple[float, ...] | None = None
    frames: int | None = None
    interval: tuple[float, str] | None = None


def sample_path() -> Path:
    """Path of the photograph that comes with the package, 768 x 512 RGB."""
    return Path(str(importlib.resources.files("napari_siren"))) / "samples" / "kodim23.png"


def read_image(path: str | Path, axes: str | None = None, frame: int | None = None) -> Picture:
    """Read an image; of a file with several, the first.

    Parameters
    ----------
    path
        TIFF, OME-TIFF, ImageJ TIFF, NPY, OME-Zarr (its finest level; see `open_zarr`), PNG, JPEG, WebP, BMP and others
        that Pillow reads; told by its content.
    axes
        What to take its axes for, one letter each, in place of what the file says.
    frame
        Of a time series (TIFF, OME-Zarr), which frame to read, and no other.

    Raises
    ------
    InputError
        There is no such file, it is not an image, or it has axes beside space and channels.
    """
    path = Path(path)
    if is_zarr(path):
        return open_zarr(path, axes, frame=frame)
    with _as_input_errors(path):
        start = _first_bytes(path)
        if start.startswith(MAGIC):
            array, told = read_tiff(path, axes, frame)
            return Picture(array, told.axes, told.spacing, told.unit, path, told.channel_names)
        if start.startswith(_NPY_MAGIC):
            array = np.load(path, allow_pickle=False)
            return Picture(array, axes and check_axes(axes, array.shape), None, None, path)
        with _opened_by_pillow(path, start) as (file, colours):
            array = file.read(index=0, rotate=True, mode=colours)
        names = check_axes(axes or "YXC"[: array.ndim], array.shape)
        return Picture(array, names, None, None, path)


def outline_image(path: str | Path, axes: str | None = None, *, each: bool = False) -> Outline:
    """Tell what an image is, without reading its pixels where its kind allows that.

    Parameters
    ----------
    path, axes
        As in `read_image`.
    each
        Whether to tell of the frames of a time series, in place of the whole.

    Raises
    ------
    InputError
        As `read_image`; content that is damaged further on comes to light only when it is read.
    """
    path = Path(path)
    if is_zarr(path):
        whole = open_ome_zarr(path)
        time = _time_of(whole, axes) if each else -1
        image = open_zarr(path, axes, frame=0 if each else None)
        frames = None if time < 0 else whole.array.shape[time]
        return Outline(image.array.shape, image.array.dtype.name, image.axes or "", image.spacing, frames)
    with _as_input_errors(path):
        start = _first_bytes(path)
        if start.startswith(MAGIC):
            told = outline_tiff(path, axes, each=each)
            return Outline(told.shape, told.dtype.name, told.axes, told.spacing, told.frames, told.interval)
        if start.startswith(_NPY_MAGIC):
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            return Outline(array.shape, array.dtype.name, check_axes(axes or guess_axes(array.shape), array.shape))
        with _opened_by_pillow(path, start) as (file, colours):
            told = file.properties(index=0)
        shape = (*told.shape[:2], 3) if colours else told.shape
        return Outline(shape, told.dtype.name, check_axes(axes or "YXC"[: len(shape)], shape))


@contextmanager
def _as_input_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except SirenError:
        raise
    except MemoryError:
        raise InputError(f"{path} does not fit into memory. Cut out the part to fit, and save that.") from None
    # Decoders raise all kinds of exceptions on content that they did not expect.
    except Exception as error:
        hint = " Install it with: pip install imagecodecs." if "imagecodecs" in str(error) else ""
        raise InputError(f"{path} cannot be read as an image: {error or type(error).__name__}.{hint}") from error


def open_zarr(path: str | Path, axes: str | None = None, level: int = 0, frame: int | None = None) -> Picture:
    """Open an OME-Zarr image lazily.

    Parameters
    ----------
    path, axes
        As in `read_image`.
    level
        Of the pyramid: 0 is the finest.
    frame
        Of a time series, which frame; None takes all there is.

    Raises
    ------
    InputError
        As `read_image`, or there is no such level.
    """
    image = open_ome_zarr(path, level)
    array, names, time = image.array, axes or image.axes, -1 if frame is None else _time_of(image, axes)
    if time >= 0:
        array = array[(slice(None),) * time + (frame,)]
        names = names if len(names) == array.ndim else names[:time] + names[time + 1 :]
    names = check_axes(names, array.shape)
    return Picture(array, names, image.spacing, image.unit, Path(path), image.channel_names)


def _time_of(image: ZarrImage, axes: str | None) -> int:
    """Find the axis of time; axes that were given are those of the file, or of a frame."""
    return (axes if axes is not None and len(axes) == image.array.ndim else image.axes).upper().find("T")


def write_image(
    path: str | Path,
    array: npt.NDArray[Any],
    axes: str,
    spacing: Sequence[float] | None = None,
    unit: str | None = None,
    channel_names: Sequence[str] | None = None,
    interval: tuple[float, str] | None = None,
) -> Path:
    """Write an image, aside first and then moved into place. The name's ending tells the kind of file.

    Parameters
    ----------
    path
        .png, .jpg, .tif (ImageJ's kind where it can hold the data, else OME-TIFF), .ome.tif, .npy, .ome.zarr.
    array, axes, spacing, unit
        As in `Picture`; only TIFF and OME-Zarr hold spacing, unit and T, an axis of frames. .npy takes any array, and
        no axes.
    channel_names, interval
        As in `Picture` and `Outline`; only OME-TIFF holds both, OME-Zarr the first.

    Raises
    ------
    InputError
        That kind of file cannot hold this image.
    StorageError
        The file cannot be written.
    """
    path = Path(path)
    check_kind(path, array.dtype, axes, array.shape)
    kind = path.suffix.lower()
    if kind == ".zarr":
        return write_ome_zarr(path, array, axes, spacing, unit, channel_names)
    with written_aside(path) as aside:
        if kind == ".npy":
            with aside.open("wb") as file:
                np.save(file, array, allow_pickle=False)
        elif _HOLDS[kind] is None:
            ome = ".ome" in [s.lower() for s in path.suffixes]
            write_tiff(aside, array, axes, spacing, unit, ome=ome, channel_names=channel_names, interval=interval)
        else:
            options: dict[str, Any] = {} if kind == ".png" else {"quality": 95}
            iio.imwrite(aside, _as_plane(array, axes), plugin="pillow", extension=kind, **options)
    return path


def suffix_for(dtype: npt.DTypeLike, axes: str, shape: Sequence[int]) -> str:
    """Return the ending for an image: ".png" for 8 bits, two dimensions and 1, 3 or 4 channels, else ".tif".

    Colours count as such where they are the last axis, as in photographs.
    """
    return ".png" if np.dtype(dtype) == np.uint8 and _channels(axes, shape) in (1, 3, 4) else ".tif"


def check_kind(path: Path, dtype: npt.DTypeLike, axes: str, shape: Sequence[int]) -> None:
    """Check that the kind of file that a name stands for can hold an image.

    Raises
    ------
    InputError
        It cannot, or the name's ending is not known.
    """
    kind, name = path.suffix.lower(), np.dtype(dtype).name
    if kind not in _HOLDS:
        raise InputError(f"{path.name}: the name should end in one of {', '.join(_HOLDS)}.")
    holds = _HOLDS[kind]
    if holds is not None and _channels(axes, shape) not in holds.get(name, ()):
        raise InputError(
            f"a {kind} file cannot hold {name} of shape {tuple(shape)} (axes {axes}). Choose a name ending in .tif."
        )


def check_target(path: Path, dtype: npt.DTypeLike, axes: str, shape: Sequence[int]) -> None:
    """Check, before the work, that `write_image` will succeed.

    Raises
    ------
    InputError, StorageError
        It would not.
    """
    check_kind(path, dtype, axes, shape)
    if path.suffix.lower() == ".zarr":
        check_folder_free(path, is_zarr)
    else:
        check_writable(path)


def _first_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise InputError(f"{path} is a folder, and no OME-Zarr image; give the file of an image.")
    try:
        with path.open("rb") as file:
            start = file.read(32)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}. Is its name right?") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}.") from None
    if not start:
        raise InputError(f"{path} is empty.")
    return start


@contextmanager
def _opened_by_pillow(path: Path, start: bytes) -> Iterator[tuple[Any, str | None]]:
    """Return the file of a picture, and the colours to turn it into where its own are others than red, green, blue."""
    # Pillow would cut such colours down to 8 bits without a word.
    if start.startswith(_PNG_MAGIC) and len(start) > 25 and start[24] == 16 and start[25] in (2, 4, 6):
        raise InputError(f"{path} has colours of 16 bits, which are not read from PNG. Save it as TIFF.")
    try:
        file: Any = iio.imopen(path, "r", plugin="pillow")
    except OSError:
        raise InputError(
            f"{path} is not an image of a known kind (TIFF, NPY, PNG, JPEG, WebP, BMP, …). Save it as TIFF or PNG."
        ) from None
    with file:
        frames = file.properties(index=...).n_images or 1
        if frames > 1:
            raise InputError(f"{path} has {frames} frames. Save the one to fit as an image of its own.")
        yield file, "RGB" if file.metadata(index=0).get("mode") in _OTHER_COLOURS else None


def _channels(axes: str, shape: Sequence[int]) -> int | None:
    """Count the channels of a plain picture, two dimensions and then colours; None for another image."""
    spatial = axes.removesuffix("C")
    if len(shape) != len(axes) or len(spatial) != 2 or "C" in spatial:
        return None
    return shape[-1] if axes.endswith("C") else 1


def _as_plane(array: npt.NDArray[Any], axes: str) -> npt.NDArray[Any]:
    """Rows first, and without an axis for a single channel."""
    array = array if axes.removesuffix("C") in ("ZY", "ZX", "YX") else array.swapaxes(0, 1)
    return np.ascontiguousarray(array[..., 0] if axes.endswith("C") and array.shape[-1] == 1 else array)
