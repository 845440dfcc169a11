"""Codecs of OME-Zarr, TIFF and NPY."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_siren.core.image.axes import Axes, check_axes, guess_axes
from napari_siren.io.ome_zarr import ZarrImage, is_zarr, open_ome_zarr, write_ome_zarr
from napari_siren.io.picture import ImageInfo, Picture
from napari_siren.io.tiff import MAGIC, inspect_tiff, read_tiff, write_tiff

# First bytes of an NPY file (the NPY format of NumPy).
_NPY_MAGIC = b"\x93NUMPY"


class ZarrCodec:
    """OME-Zarr: a folder."""

    def matches(self, path: Path, start: bytes) -> bool:
        """Return whether a folder has the format."""
        return is_zarr(path)

    def read(self, path: Path, axes: str | None, frame: int | None) -> Picture:
        """Open an image lazily; see `Codec`."""
        return open_zarr(path, axes, frame=frame)

    def inspect(self, path: Path, axes: str | None, each: bool) -> ImageInfo:
        """Return the properties of an image; see `Codec`."""
        whole = open_ome_zarr(path)
        time = _time_of(whole, axes) if each else None
        image = open_zarr(path, axes, frame=0 if each else None)
        frames = None if time is None else whole.array.shape[time]
        return ImageInfo(image.array.shape, image.array.dtype.name, image.axes or Axes(), image.spacing, frames)

    def write(self, path: Path, picture: Picture, interval: tuple[float, str] | None) -> None:
        """Write a picture; see `Codec`."""
        write_ome_zarr(path, picture.array, picture.axes or "", picture.spacing, picture.unit, picture.channel_names)


@dataclass(frozen=True)
class TiffCodec:
    """TIFF: ImageJ's if it can hold the image, else OME-TIFF.

    Parameters
    ----------
    ome
        Whether to write an OME-TIFF always.
    """

    ome: bool = False

    def matches(self, path: Path, start: bytes) -> bool:
        """Return whether a file has the format."""
        return start.startswith(MAGIC)

    def read(self, path: Path, axes: str | None, frame: int | None) -> Picture:
        """Read an image; see `Codec`."""
        array, info = read_tiff(path, axes, frame)
        return Picture(array, info.axes, info.spacing, info.unit, path, info.channel_names)

    def inspect(self, path: Path, axes: str | None, each: bool) -> ImageInfo:
        """Return the properties of an image; see `Codec`."""
        info = inspect_tiff(path, axes, each=each)
        return ImageInfo(info.shape, info.dtype.name, info.axes, info.spacing, info.frames, info.interval)

    def write(self, path: Path, picture: Picture, interval: tuple[float, str] | None) -> None:
        """Write a picture; see `Codec`."""
        where = (picture.axes or "", picture.spacing, picture.unit)
        write_tiff(path, picture.array, *where, ome=self.ome, channel_names=picture.channel_names, interval=interval)


class NpyCodec:
    """NPY: an array without axes or spacing."""

    def matches(self, path: Path, start: bytes) -> bool:
        """Return whether a file has the format."""
        return start.startswith(_NPY_MAGIC)

    def read(self, path: Path, axes: str | None, frame: int | None) -> Picture:
        """Read an array; see `Codec`. Its axes are unknown unless they are given."""
        array = np.load(path, allow_pickle=False)
        return Picture(array, check_axes(axes, array.shape) if axes else None, None, None, path)

    def inspect(self, path: Path, axes: str | None, each: bool) -> ImageInfo:
        """Return the properties of an array; see `Codec`."""
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return ImageInfo(array.shape, array.dtype.name, check_axes(axes or guess_axes(array.shape), array.shape))

    def write(self, path: Path, picture: Picture, interval: tuple[float, str] | None) -> None:
        """Write an array; see `Codec`."""
        with path.open("wb") as file:
            np.save(file, picture.array, allow_pickle=False)


def open_zarr(path: str | Path, axes: str | None = None, level: int = 0, frame: int | None = None) -> Picture:
    """Open an OME-Zarr image lazily.

    Parameters
    ----------
    path, axes
        Path and axes of the image, as in `read_image`.
    level
        Index of the level in the pyramid; 0 is the finest.
    frame
        Index of the frame of a time series. None takes all frames.

    Raises
    ------
    InputError
        The same errors as those of `read_image`, or there is no such level.
    """
    image = open_ome_zarr(path, level)
    array, names, time = image.array, axes or image.axes, None if frame is None else _time_of(image, axes)
    if time is not None:
        array = array[(slice(None),) * time + (frame,)]
        names = names if len(names) == array.ndim else names[:time] + names[time + 1 :]
    return Picture(array, check_axes(names, array.shape), image.spacing, image.unit, Path(path), image.channel_names)


def _time_of(image: ZarrImage, axes: str | None) -> int | None:
    """Return the position of the time axis, or None if there is none.

    The given axes are those of the file or of a single frame. In the latter case the file's own axes are used.
    """
    return Axes(axes.upper()).time if axes is not None and len(axes) == image.array.ndim else image.axes.time
