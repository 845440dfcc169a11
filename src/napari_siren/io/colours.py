"""Colours: conversion to RGB, and ICC profiles, by Pillow and its colour management."""

from __future__ import annotations

import io
import struct
from functools import cache
from typing import Any

from PIL import Image, ImageCms

from napari_siren.io.details import Details

# Date in the profile of sRGB, that of the original by HP and Microsoft. The present date would make two equal images
# different files.
_SRGB_DATE = struct.pack(">6H", 1998, 2, 9, 6, 49, 0)


def to_rgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None, list[str]]:
    """Convert an image with other colours than red, green and blue.

    Parameters
    ----------
    image
        Image of the mode "CMYK", "YCbCr", "LAB" or "HSV".
    profile
        ICC profile of its colours, or None.

    Returns
    -------
    tuple
        Image of the mode "RGB", the ICC profile of its colours, and notes on the conversion.
    """
    if image.mode == "YCbCr":
        # The profile describes the RGB colours that YCbCr stands for.
        return image.convert("RGB"), profile, []
    if profile is not None:
        managed = _managed(image, profile)
        if managed is not None:
            return managed, srgb_profile(), [f"the {image.mode} colours were converted to sRGB by their ICC profile"]
    return image.convert("RGB"), None, [f"the {image.mode} colours were converted to RGB"]


@cache
def srgb_profile() -> bytes:
    """Return the ICC profile of sRGB."""
    profile = bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # The bytes from 24 to 36 are the date.
    return profile[:24] + _SRGB_DATE + profile[36:]


def profile_to_write(details: Details, channels: int) -> bytes | None:
    """Return the ICC profile for a file: that of the image, or that of sRGB if the image was marked as sRGB."""
    if details.profile is None and details.srgb is not None and channels >= 3:
        return srgb_profile()
    return details.profile


def lost_colours(details: Details, profile: bytes | None) -> dict[str, bool]:
    """Return the names of the colour data of a PNG file, and whether another file with this profile lacks them."""
    is_lost, is_srgb = profile is None, details.srgb is not None
    return {
        "the mark of sRGB": is_lost and is_srgb,
        "the gamma of the file": is_lost and details.gamma is not None and not is_srgb,
        "the primaries of the file": is_lost and details.chromaticities is not None and not is_srgb,
    }


def suits(profile: bytes, channels: int) -> bool:
    """Return whether a profile is for grey values (1 or 2 channels) or for RGB colours (3 or 4 channels)."""
    try:
        space = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space.strip()
    except (OSError, ImageCms.PyCMSError):
        return False
    return bool(space == ("GRAY" if channels < 3 else "RGB"))


def _managed(image: Any, profile: bytes) -> Image.Image | None:
    """Return the image in sRGB, or None if the profile is damaged or for other colours."""
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, own, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (OSError, ImageCms.PyCMSError, ValueError):
        return None
