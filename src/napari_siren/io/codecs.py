"""Codecs of OME-Zarr, TIFF and NPY."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import Axes, check_axes, guess_axes, singleton_axes
from napari_siren.io.colours import lost_colours
from napari_siren.io.details import Details
from napari_siren.io.picture import ImageInfo, Picture, Request
from napari_siren.io.tiff.read import MAGIC, inspect_tiff, read_tiff
from napari_siren.io.tiff.write import TiffWriting
from napari_siren.io.zarr.group import is_zarr
from napari_siren.io.zarr.ome_zarr import ZarrImage, open_ome_zarr, write_ome_zarr

# First bytes of an NPY file (the NPY format of NumPy).
_NPY_MAGIC = b"\x93NUMPY"


class ZarrCodec:
    """OME-Zarr: a folder."""

    def matches(self, path: Path, start: bytes) -> bool:
        """Return whether a folder has the format."""
        return is_zarr(path)

    def read(self, path: Path, request: Request) -> Picture:
        """Open an image lazily; see `Codec`."""
        return open_zarr(path, request)

    def inspect(self, path: Path, request: Request, each: bool) -> ImageInfo:
        """Return the properties of an image; see `Codec`."""
        whole = open_ome_zarr(path, request.level, request.scene)
        time = _time_of(whole, request.axes) if each else None
        image = open_zarr(path, replace(request, frame=0 if each else None))
        frames = None if time is None else whole.array.shape[time]
        return ImageInfo(image.array.shape, image.array.dtype.name, image.axes or Axes(), image.spacing, frames)

    def write(self, path: Path, picture: Picture, interval: tuple[float, str] | None) -> None:
        """Write a picture; see `Codec`."""
        description = (picture.axes or "", picture.spacing, picture.unit, picture.channel_names)
        write_ome_zarr(path, picture.array, *description, details=picture.details)

    def losses(self, picture: Picture, interval: tuple[float, str] | None) -> list[str]:
        """Return the losses in a folder; see `Codec`."""
        details = picture.details
        lost = {
            "the lookup tables of ImageJ": details.luts is not None and details.colours is None,
            "the ICC profile": details.profile is not None,
            "the resolution of the print": details.dpi is not None,
            "the time between frames": interval is not None and "T" in (picture.axes or ""),
            **lost_colours(details, None),
        }
        return [name for name, is_lost in lost.items() if is_lost]


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

    def read(self, path: Path, request: Request) -> Picture:
        """Read an image; see `Codec`."""
        return read_tiff(path, request)

    def inspect(self, path: Path, request: Request, each: bool) -> ImageInfo:
        """Return the properties of an image; see `Codec`."""
        return inspect_tiff(path, request, each=each)

    def write(self, path: Path, picture: Picture, interval: tuple[float, str] | None) -> None:
        """Write a picture; see `Codec`."""
        TiffWriting.from_picture(picture, interval, self.ome).write(path)

    def losses(self, picture: Picture, interval: tuple[float, str] | None) -> list[str]:
        """Return the losses in a file; see `Codec`."""
        return TiffWriting.from_picture(picture, interval, self.ome).losses()


class NpyCodec:
    """NPY: an array without axes or spacing."""

    def matches(self, path: Path, start: bytes) -> bool:
        """Return whether a file has the format."""
        return start.startswith(_NPY_MAGIC)

    def read(self, path: Path, request: Request) -> Picture:
        """Read an array; see `Codec`. Its axes are unknown unless they are given."""
        array = np.load(path, mmap_mode="r" if request.lazily else None, allow_pickle=False)
        axes = check_axes(request.axes, array.shape) if request.axes else None
        return Picture(array, axes, None, None, path)

    def inspect(self, path: Path, request: Request, each: bool) -> ImageInfo:
        """Return the properties of an array; see `Codec`."""
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        axes = check_axes(request.axes or guess_axes(array.shape), array.shape)
        kept = [i for i in range(array.ndim) if i not in singleton_axes(axes, array.shape)]
        letters = Axes("".join(axes[i] for i in kept))
        return ImageInfo(tuple(array.shape[i] for i in kept), array.dtype.name, letters)

    def write(self, path: Path, picture: Picture, interval: tuple[float, str] | None) -> None:
        """Write an array; see `Codec`."""
        with path.open("wb") as file:
            np.save(file, _with_all_axes(picture), allow_pickle=False)

    def losses(self, picture: Picture, interval: tuple[float, str] | None) -> list[str]:
        """Return the losses in a file; see `Codec`."""
        details = replace(picture.details, file_axes="", has_alpha=False)
        return [] if details == Details() and picture.spacing is None else ["the metadata"]


def _with_all_axes(picture: Picture) -> npt.NDArray[Any]:
    """Return the pixels with the axes of one entry of the file, if they are the other axes of the picture."""
    axes, full = picture.axes or Axes(), picture.details.file_axes
    if "".join(letter for letter in full if letter in axes) != axes or picture.array.ndim != len(axes):
        return picture.array
    return np.expand_dims(picture.array, tuple(i for i, letter in enumerate(full) if letter not in axes))


def open_zarr(path: str | Path, request: Request) -> Picture:
    """Open an OME-Zarr image lazily.

    Parameters
    ----------
    path
        Path or remote address of the image.
    request
        Axes, frame, scene and level to read, as in `read_image`.

    Raises
    ------
    InputError
        The same errors as those of `read_image`, or there is no such level.
    """
    image = open_ome_zarr(path, request.level, request.scene)
    array, names = image.array, request.axes or image.axes
    time = None if request.frame is None else _time_of(image, request.axes)
    if time is not None:
        array = array[(slice(None),) * time + (request.frame,)]
        names = names if len(names) == array.ndim else names[:time] + names[time + 1 :]
    axes = check_axes(names, array.shape)
    return Picture(
        array,
        axes,
        image.spacing,
        image.unit,
        Path(path),
        image.channel_names,
        image.details,
        image.notes,
        levels=len(image.levels),
    )


def _time_of(image: ZarrImage, axes: str | None) -> int | None:
    """Return the position of the time axis, or None if there is none.

    The given axes are those of the file or of a single frame. In the latter case the file's own axes are used.
    """
    return Axes(axes.upper()).time if axes is not None and len(axes) == image.array.ndim else image.axes.time
