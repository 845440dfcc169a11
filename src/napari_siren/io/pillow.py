"""Photographs in the formats of Pillow: PNG, JPEG, and others that are only read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import Axes, check_axes
from napari_siren.errors import InputError
from napari_siren.io.picture import ImageInfo, Picture

# First bytes of a PNG file (the PNG specification).
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# Colour modes of Pillow with other channels than red, green and blue.
_OTHER_COLOURS = ("CMYK", "YCbCr", "LAB", "HSV")
# Quality of JPEG files.
_QUALITY = 95


@dataclass(frozen=True)
class PillowCodec:
    """Reads every format of Pillow, and writes one.

    Parameters
    ----------
    extension
        Suffix of the format to write.
    """

    extension: str

    def matches(self, path: Path, start: bytes) -> bool:
        """Return True: Pillow itself recognises its formats."""
        return bool(start)

    def read(self, path: Path, axes: str | None, frame: int | None) -> Picture:
        """Read an image; see `Codec`."""
        with _opened(path) as (file, colours):
            array = file.read(index=0, rotate=True, mode=colours)
        return Picture(array, check_axes(axes or "YXC"[: array.ndim], array.shape), None, None, path)

    def inspect(self, path: Path, axes: str | None, each: bool) -> ImageInfo:
        """Return the properties of an image; see `Codec`."""
        with _opened(path) as (file, colours):
            properties = file.properties(index=0)
        shape = (*properties.shape[:2], 3) if colours else properties.shape
        return ImageInfo(shape, properties.dtype.name, check_axes(axes or "YXC"[: len(shape)], shape))

    def write(self, path: Path, picture: Picture, interval: tuple[float, str] | None) -> None:
        """Write a picture; see `Codec`."""
        options: dict[str, Any] = {} if self.extension == ".png" else {"quality": _QUALITY}
        plane = _as_plane(picture.array, picture.axes or Axes())
        iio.imwrite(path, plane, plugin="pillow", extension=self.extension, **options)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, str | None]]:
    """Yield the opened file of a picture, and the colour mode to convert it to.

    The mode is "RGB" if the picture has other colours than red, green and blue, else None.
    """
    with path.open("rb") as binary:
        start = binary.read(32)
    # Pillow reduces 16-bit colours to 8 bits without a warning. Bytes 24 and 25 are the bit depth and the colour type.
    if start.startswith(_PNG_MAGIC) and len(start) > 25 and start[24] == 16 and start[25] in (2, 4, 6):
        raise InputError(f"{path} is a PNG file with 16-bit colours, which cannot be read. Save it as TIFF.")
    try:
        file: Any = iio.imopen(path, "r", plugin="pillow")
    except OSError:
        raise InputError(
            f"{path} is not an image of a known kind (TIFF, NPY, PNG, JPEG, WebP, BMP, …). Save it as TIFF or PNG."
        ) from None
    with file:
        frames = file.properties(index=...).n_images or 1
        if frames > 1:
            raise InputError(f"{path} has {frames} frames. Save the frame to fit as a separate image.")
        yield file, "RGB" if file.metadata(index=0).get("mode") in _OTHER_COLOURS else None


def _as_plane(array: npt.NDArray[Any], axes: Axes) -> npt.NDArray[Any]:
    """Return a picture with its rows first, and without the axis of a single channel."""
    array = array if axes.coordinates in ("ZY", "ZX", "YX") else array.swapaxes(0, 1)
    return np.ascontiguousarray(array[..., 0] if axes.endswith("C") and array.shape[-1] == 1 else array)
