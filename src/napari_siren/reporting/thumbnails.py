"""Thumbnails of a fit as data URIs: the image, a detail of it and of its render, and the error."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from napari_siren.core.result import FitResult
from napari_siren.reporting.views import (
    Aspect,
    View,
    as_shown,
    busiest_window,
    error_colours,
    error_limit,
    limits_of,
    observed_image,
    samples_of,
)

# Length of the longer side, in pixels.
_SIDE = 192
# Quality of the WebP compression, from 0 to 100.
_QUALITY = 75


def thumbnails(result: FitResult, scale: float | Sequence[float]) -> dict[str, str]:
    """Return the thumbnails "image", "detail" (highest contrast), "upscaled" (the same of a render) and "error".

    Parameters
    ----------
    result
        Result of a fit, with its image.
    scale
        Scale of the render.

    Returns
    -------
    dict
        WebP images as data URIs by name, with 192 pixels along the longer side.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> from napari_siren.reporting.thumbnails import thumbnails
    >>> result = ns.fit(np.eye(24, dtype=np.float32), max_steps=5)
    >>> {name: uri[:16] for name, uri in thumbnails(result, 2).items()}["error"]
    'data:image/webp;'
    """
    samples = samples_of(result)
    view = View(samples.layout)
    image = view.picture(observed_image(samples))
    limits = limits_of(view, image)
    rows, columns = busiest_window(image)
    magnified = view.magnification(float(np.max(scale)))
    part = view.picture(result.render(scale=magnified, region=view.window(rows, columns)))
    mean = view.plane(result.error).mean(axis=0)
    limit = error_limit(mean)
    pictures = {
        "image": as_shown(image, limits),
        "detail": as_shown(image[:, slice(*rows), slice(*columns)], limits),
        "upscaled": as_shown(part, limits),
        "error": error_colours(mean / limit),
    }
    return {name: _as_uri(picture, view.aspect) for name, picture in pictures.items()}


def _as_uri(picture: npt.NDArray[np.float64], aspect: Aspect) -> str:
    """Encode values between 0 and 1; a small picture is enlarged with visible pixels, a large one is reduced."""
    width = picture.shape[1]
    # A line of pixels is drawn as a band.
    height = width / 4 if aspect == "auto" else picture.shape[0] * aspect
    factor = _SIDE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    image = Image.fromarray(np.round(255 * picture).astype(np.uint8))
    resampling = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX
    buffer = BytesIO()
    image.resize(size, resampling).save(buffer, "WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
