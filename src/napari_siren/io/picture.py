"""`Picture` and `ImageInfo`: an image from a file, with and without its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import Axes
from napari_siren.errors import InputError
from napari_siren.io.formats import format_of


@dataclass(frozen=True)
class Picture:
    """An image from a file.

    Parameters
    ----------
    array
        Pixels of the image. The pixels of OME-Zarr are a dask array; none of them has been read yet.
    axes
        One letter for each axis of the array: Z, Y, X, C or T. None if the file does not name them.
    spacing
        Distance between pixel centres along each spatial axis. None if the file does not give it.
    unit
        Unit of the spacing, such as "µm". None if the file does not give it.
    path
        Path of the file.
    channel_names
        One name for each channel. None if the file does not give them.
    """

    array: npt.NDArray[Any]
    axes: Axes | None
    spacing: tuple[float, ...] | None
    unit: str | None
    path: Path
    channel_names: tuple[str, ...] | None = None

    @property
    def frame(self) -> tuple[Axes, tuple[int, ...]]:
        """Axes and shape of a single frame: all axes but time. ("", ()) if the axes are not known.

        The field of a frame has these axes and this shape.
        """
        if self.axes is None:
            return Axes(), ()
        letters = self.axes.without("T")
        return letters, self.axes.pick(self.array.shape, letters)


@dataclass(frozen=True)
class ImageInfo:
    """Properties of the image in a file, without its pixels.

    Parameters
    ----------
    shape, dtype, axes
        Shape, name of the dtype and axes: of the image, or of each of its frames.
    spacing
        Distance between pixel centres, as in `Picture`.
    frames
        Number of frames. None if frames were not requested, or if the file has no time axis.
    interval
        Time between frames and its unit. None if the file does not give it.
    """

    shape: tuple[int, ...]
    dtype: str
    axes: Axes
    spacing: tuple[float, ...] | None = None
    frames: int | None = None
    interval: tuple[float, str] | None = None


class Codec(Protocol):
    """Reads and writes files of a format."""

    def matches(self, path: Path, start: bytes) -> bool:
        """Return whether a file has the format.

        Parameters
        ----------
        path
            Path of the file or folder.
        start
            First bytes of a file; b"" for a folder.
        """
        ...

    def read(self, path: Path, axes: str | None, frame: int | None) -> Picture:
        """Read an image; see `read_image`."""
        ...

    def inspect(self, path: Path, axes: str | None, each: bool) -> ImageInfo:
        """Return the properties of an image; see `inspect_image`."""
        ...

    def write(self, path: Path, picture: Picture, interval: tuple[float, str] | None) -> None:
        """Write a picture, with named axes; see `write_image`."""
        ...


def check_kind(path: Path, dtype: npt.DTypeLike, axes: str, shape: Sequence[int]) -> None:
    """Check whether the format of a file name can hold an image.

    Raises
    ------
    InputError
        The format cannot hold the image, or the suffix is not known.
    """
    kind, name = format_of(path), np.dtype(dtype).name
    if kind.holds is not None and picture_channels(axes, shape) not in kind.holds.get(name, ()):
        raise InputError(
            f"a {path.suffix.lower()} file cannot hold {name} of shape {tuple(shape)} (axes {axes}). Choose a name "
            "ending in .tif."
        )


def suffix_for(dtype: npt.DTypeLike, axes: str, shape: Sequence[int]) -> str:
    """Return the suffix for an image: ".png" for 8 bits, two dimensions and 1, 3 or 4 channels, else ".tif".

    Channels count as colours only if they are the last axis, as in photographs.
    """
    return ".png" if np.dtype(dtype) == np.uint8 and picture_channels(axes, shape) in (1, 3, 4) else ".tif"


def picture_channels(axes: str, shape: Sequence[int]) -> int | None:
    """Return the number of channels of a plain picture; None for any other image.

    A plain picture has two dimensions in space, followed by colours or nothing.
    """
    letters = Axes(axes)
    if len(shape) != len(letters) or len(letters.coordinates) != 2 or letters.channel not in (None, 2):
        return None
    return 1 if letters.channel is None else shape[-1]
