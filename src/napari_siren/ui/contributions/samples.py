"""The images under *File > Open Sample > napari-siren*."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_siren.core.image.axes import Axes
from napari_siren.io.images import read_image, sample_path
from napari_siren.io.picture import Picture
from napari_siren.layers.spec import LayerData

# Width and height of the small photo in pixels.
_SMALL = 32
# Percentiles for the contrast limits. napari would use the brightest voxel as the limit, and the cell would be dark.
_CONTRAST_PERCENTILES = (1, 99.9)


def kodak23() -> list[LayerData]:
    """Return the photo of two macaws in the package: 768 x 512, uint8 RGB."""
    return [_layer(read_image(sample_path()), "macaws")]


def small_photo() -> list[LayerData]:
    """Return the middle of the photo of the macaws as 32 x 32 pixels, uint8 RGB. Its fit takes a few seconds."""
    from skimage import transform

    resize: Any = transform.resize
    photo = read_image(sample_path()).array
    side = min(photo.shape[:2])
    top, left = ((n - side) // 2 for n in photo.shape[:2])
    square = photo[top : top + side, left : left + side]
    small = resize(square, (_SMALL, _SMALL), anti_aliasing=True, preserve_range=True)
    picture = Picture(np.rint(small).astype(np.uint8), Axes("YXC"), None, None, sample_path())
    return [_layer(picture, f"photo {_SMALL} x {_SMALL}")]


def confocal_stack() -> list[LayerData]:
    """Return a confocal stack of a Golgi apparatus: 25 x 137 x 147, uint16, voxel 0.388 x 0.351 x 0.351 um."""
    picture = read_image(sample_path().with_name("golgi.ome.tif"))
    low, high = np.percentile(picture.array, _CONTRAST_PERCENTILES)
    return [_layer(picture, "golgi", contrast_limits=[float(low), float(high)])]


def _layer(picture: Picture, name: str, **display: Any) -> LayerData:
    axes = (picture.axes or "").lower().removesuffix("c")
    meta = {
        "name": name,
        "rgb": picture.axes == "YXC",
        "scale": picture.spacing or (1.0,) * len(axes),
        "units": ((picture.unit or "pixel").replace("µ", "u"),) * len(axes),
        "axis_labels": tuple(axes),
        **display,
    }
    return picture.array, meta, "image"
