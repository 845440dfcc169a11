"""Conversion of other colours to RGB, by Pillow and its colour management."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image, ImageCms


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


def srgb_profile() -> bytes:
    """Return the ICC profile of sRGB."""
    return bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())


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
