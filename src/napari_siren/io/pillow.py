"""Photographs in the formats of Pillow: PNG, JPEG, and others that are only read."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from napari_siren.core.image.axes import Axes, check_axes
from napari_siren.errors import InputError
from napari_siren.io.colours import lost_colours, profile_to_write, suits, to_rgb
from napari_siren.io.details import Details
from napari_siren.io.picture import ImageInfo, Picture, Request

# First bytes of a PNG file (the PNG specification).
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
# Modes of Pillow for 16 bits of one channel.
_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
# Formats with further pictures beside the first: previews, gain maps, layers, sizes. They are no frames of a film.
_FIRST_ONLY = ("MPO", "PSD", "ICO", "ICNS")
# Tags of EXIF: orientation, width and height.
_ORIENTATION, _SIZES = 0x0112, (0x0100, 0x0101)
# Orientations with rows and columns exchanged.
_EXCHANGED = (5, 6, 7, 8)
# Memory of a decoded picture relative to its pixels: Pillow's copy and NumPy's copy.
_COPIES = 2
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

    def read(self, path: Path, request: Request) -> Picture:
        """Read an image; see `Codec`."""
        with _opened(path) as image:
            notes, mode, deep = [*_notes_on(image)], _mode_of(image), _is_deep(image)
            upright = ImageOps.exif_transpose(image)
            profile = image.info.get("icc_profile")
            pixels, profile, converted = _converted(upright, mode, profile)
            array, missing = np.asarray(pixels), _missing(image, upright)
            details = _details(image, profile, mode)
        array = np.clip(array, 0, 65535).astype(np.uint16) if deep else array.copy()
        if details.profile is not None and not suits(details.profile, array.shape[-1] if array.ndim == 3 else 1):
            details = replace(details, profile=None)
        axes = check_axes(request.axes or "YXC"[: array.ndim], array.shape)
        return Picture(array, axes, None, None, path, None, details, (*notes, *converted), missing)

    def inspect(self, path: Path, request: Request, each: bool) -> ImageInfo:
        """Return the properties of an image; see `Codec`."""
        with _opened(path) as image:
            size = image.size if _orientation(image) in _EXCHANGED else image.size[::-1]
            mode = _mode_of(image)
            sample = Image.new(mode, (1, 1))
            dtype = "uint16" if _is_deep(image) else np.asarray(sample).dtype.name
        shape = (*size, *np.asarray(sample).shape[2:])
        axes = check_axes(request.axes or "YXC"[: len(shape)], shape)
        return ImageInfo(shape, dtype, axes, has_alpha=mode in ("LA", "RGBA"))

    def write(self, path: Path, picture: Picture, interval: tuple[float, str] | None) -> None:
        """Write a picture; see `Codec`."""
        details, options = picture.details, dict[str, Any]()
        profile = self._profile(picture)
        if profile is not None:
            options["icc_profile"] = profile
        if details.dpi is not None:
            options["dpi"] = details.dpi
        if self.extension == ".png":
            options |= {"pnginfo": _png_chunks(details)}
        else:
            options |= {"quality": _QUALITY}
        plane = Image.fromarray(_as_plane(picture.array, picture.axes or Axes()))
        plane.save(path, format="PNG" if self.extension == ".png" else "JPEG", **options)

    def losses(self, picture: Picture, interval: tuple[float, str] | None) -> list[str]:
        """Return the losses in a file; see `Codec`."""
        details = picture.details
        lost = {
            "the pixel size": picture.spacing is not None,
            "the names of the channels": picture.channel_names is not None,
            "the colours of the channels": details.colours is not None or details.luts is not None,
            "the displayed range": details.ranges is not None,
            "the position": details.has_position,
        }
        if self.extension != ".png":
            lost |= lost_colours(details, self._profile(picture))
        return [name for name, is_lost in lost.items() if is_lost]

    def _profile(self, picture: Picture) -> bytes | None:
        """Return the ICC profile to write. PNG has its own mark of sRGB."""
        if self.extension == ".png":
            return picture.details.profile
        is_colour = (picture.axes or Axes()).endswith("C")
        return profile_to_write(picture.details, picture.array.shape[-1] if is_colour else 1)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield the opened image of a file, at its first picture.

    Raises
    ------
    InputError
        The file is no image that Pillow reads, has several frames, or is larger than the free memory.
    """
    with path.open("rb") as binary:
        start = binary.read(32)
    # Pillow reduces 16-bit colours to 8 bits without a warning. Bytes 24 and 25 are the bit depth and the colour type.
    if start.startswith(_PNG_MAGIC) and len(start) > 25 and start[24] == 16 and start[25] in (2, 4, 6):
        raise InputError(f"{path} is a PNG file with 16-bit colours, which cannot be read. Save it as TIFF.")
    # Pillow refuses large images, as they could be small hostile files. Free memory is the better limit.
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        image = Image.open(path)
    except UnidentifiedImageError:
        raise InputError(
            f"{path} is not an image of a known kind (TIFF, NPY, PNG, JPEG, WebP, BMP, …). Save it as TIFF or PNG."
        ) from None
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    with image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format not in _FIRST_ONLY and not getattr(image, "default_image", False):
            raise InputError(f"{path} has {frames} frames. Save the frame to fit as a separate image.")
        needed = _COPIES * math.prod(image.size) * max(1, len(image.getbands()))
        if needed > psutil.virtual_memory().available:
            raise InputError(
                f"{path} has {image.size[0]} x {image.size[1]} pixels, which do not fit into the free memory. "
                "Save the part to fit as a file of its own."
            )
        yield image


def _mode_of(image: Any) -> str:
    """Return the mode of Pillow for the array: grey, grey and alpha, RGB, RGBA, 1 bit, 16 or 32 bits."""
    mode = str(image.mode)
    if mode in ("1", "L") and image.has_transparency_data:
        return "LA"
    if mode in ("1", "L", "LA", "RGBA", "I", "F") or mode in _DEEP_MODES:
        return mode
    if mode == "La":
        return "LA"
    return "RGBA" if image.has_transparency_data or mode in ("PA", "RGBa") else "RGB"


def _is_deep(image: Any) -> bool:
    """Return whether an image has 16 bits that Pillow holds in 32: PGM with more than 255 grey levels."""
    return bool(image.format == "PPM" and image.mode == "I")


def _converted(image: Any, mode: str, profile: bytes | None) -> tuple[Any, bytes | None, list[str]]:
    """Return an image in a mode, the profile of its colours, and notes on the conversion."""
    if image.mode == mode or mode not in ("RGB", "RGBA"):
        return (image if image.mode == mode else image.convert(mode)), profile, []
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        return to_rgb(image, profile)
    return image.convert(mode), profile, []


def _missing(image: Any, upright: Any) -> npt.NDArray[np.bool_] | None:
    """Return the pixels with the transparent value of an image with 16 or 32 bits, which has no alpha channel."""
    value = image.info.get("transparency")
    if not isinstance(value, int) or image.mode not in ("I", "F", *_DEEP_MODES):
        return None
    mask: npt.NDArray[np.bool_] = np.asarray(upright) == value
    return mask if mask.any() else None


def _orientation(image: Any) -> int:
    return int(image.getexif().get(_ORIENTATION, 1))


def _notes_on(image: Any) -> Iterator[str]:
    """Yield notes on conversions and omissions in the reading of an image."""
    if getattr(image, "n_frames", 1) > 1:
        yield "the file has further pictures, which are left out"
    if _orientation(image) not in (0, 1):
        yield "the picture was turned upright, according to its orientation"
    if set(image.getexif()) - {_ORIENTATION, *_SIZES}:
        yield "the data of the camera (EXIF) are not carried over"
    if image.format == "PNG" and b"cICP" in _png_header(Path(image.filename)):
        yield "the code points of the colours (cICP) are not carried over"


def _png_header(path: Path) -> set[bytes]:
    """Return the names of the chunks of a PNG file before its pixels. Pillow skips some of them."""
    names = set[bytes]()
    with path.open("rb") as binary:
        binary.seek(len(_PNG_MAGIC))
        while len(head := binary.read(8)) == 8 and head[4:] != b"IDAT":
            names.add(head[4:])
            binary.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)  # the content and its checksum
    return names


def _details(image: Any, profile: bytes | None, mode: str) -> Details:
    dpi = image.info.get("dpi")
    if dpi is not None:
        x, y = (float(value) for value in dpi)
        dpi = (y, x) if _orientation(image) in _EXCHANGED else (x, y)
        dpi = dpi if min(dpi) > 0 and max(dpi) < math.inf else None
    details = Details(profile=profile or None, dpi=dpi, has_alpha=mode in ("LA", "RGBA"))
    if profile:
        return details
    gamma, intent = image.info.get("gamma"), image.info.get("srgb")
    return replace(
        details,
        gamma=None if gamma is None else float(gamma),
        chromaticities=image.info.get("chromaticity"),
        srgb=intent if intent in range(4) else None,
    )


def _png_chunks(details: Details) -> PngImagePlugin.PngInfo:
    """Return the chunks of a PNG file for the details without an option of Pillow."""
    chunks = PngImagePlugin.PngInfo()
    if details.gamma is not None:
        chunks.add(b"gAMA", _png_numbers(details.gamma))
    if details.chromaticities is not None:
        chunks.add(b"cHRM", _png_numbers(*details.chromaticities))
    if details.srgb is not None:
        chunks.add(b"sRGB", bytes([details.srgb]))
    return chunks


def _png_numbers(*values: float) -> bytes:
    """Return numbers as the PNG specification stores them: times 100,000."""
    return struct.pack(f">{len(values)}I", *(round(value * 100_000) for value in values))


def _as_plane(array: npt.NDArray[Any], axes: Axes) -> npt.NDArray[Any]:
    """Return a picture with its rows first, and without the axis of a single channel."""
    array = array if axes.coordinates in ("ZY", "ZX", "YX") else array.swapaxes(0, 1)
    return np.ascontiguousarray(array[..., 0] if axes.endswith("C") and array.shape[-1] == 1 else array)
