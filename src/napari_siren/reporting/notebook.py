"""`result_html`, `series_html`: results in a notebook, with pictures, figures and the course of the fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from napari_siren.core.result import FitResult
from napari_siren.core.series.fit import SeriesResult
from napari_siren.reporting.thumbnails import thumbnails

# Scale of the enlarged detail.
_SCALE = 2
# Size of the curve, in pixels, and most points in it.
_WIDTH, _HEIGHT, _POINTS = 192, 96, 200
_CAPTIONS = {
    "image": "image",
    "detail": "detail of the image",
    "upscaled": f"the same, rendered at x{_SCALE}",
    "error": "error (red: too high)",
}


def result_html(result: FitResult) -> str:
    """Return HTML with the pictures of a result, its metrics, its notes, and the PSNR over the steps.

    A result that was loaded from a file has no image, and therefore no pictures.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> from napari_siren.reporting.notebook import result_html
    >>> result_html(ns.fit(np.eye(24, dtype=np.float32), max_steps=5))[:5]
    '<div>'
    """
    figures = [] if result.samples is None else _pictures(result)
    curve = _curve(result.history.psnr)
    if curve:
        figures.append(_figure(curve, "PSNR in dB over the steps"))
    notes = "".join(f"<li>{escape(str(note))}</li>" for note in result.provenance.get("notes", ()))
    row = "".join(figures)
    summary = f"<p><code>{escape(repr(result))}</code></p>"
    return f"<div>{summary}<div style='display:flex;flex-wrap:wrap;gap:8px'>{row}</div><ul>{notes}</ul></div>"


def series_html(series: SeriesResult) -> str:
    """Return HTML with the first, the middle and the last part of a series, and the PSNR over all parts.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> from napari_siren.reporting.notebook import series_html
    >>> series = ns.fit_series(np.stack([np.eye(24, dtype=np.float32)] * 2), axes="TYX", max_steps=5)
    >>> series_html(series).count("<figure")
    11
    """
    parts = [(f"parts[{i}][{j}]", part) for i, frame in enumerate(series.parts) for j, part in enumerate(frame)]
    shown = [parts[i] for i in sorted({0, len(parts) // 2, len(parts) - 1})]
    summary = f"<p><code>{escape(repr(series))}</code></p>"
    curve = _curve([part.metrics.psnr for _, part in parts])
    course = _figure(curve, "PSNR in dB over the parts") if curve else ""
    rows = "".join(f"<p><code>{name}</code></p>{result_html(part)}" for name, part in shown)
    return f"<div>{summary}{course}{rows}</div>"


def _pictures(result: FitResult) -> list[str]:
    pictures = thumbnails(result.as_fitted(), _SCALE)
    return [
        _figure(f"<img src='{pictures[name]}' alt='{caption}'>", caption)
        for name, caption in _CAPTIONS.items()
        if name in pictures
    ]


def _figure(content: str, caption: str) -> str:
    return f"<figure style='margin:0'>{content}<figcaption>{caption}</figcaption></figure>"


def _curve(values: Sequence[float]) -> str:
    """Return an SVG of a curve with its smallest and largest value, or an empty string without two finite values."""
    stride = max(1, len(values) // _POINTS)
    points = [(i, v) for i, v in enumerate(values) if math.isfinite(v) and (i % stride == 0 or i == len(values) - 1)]
    if len(points) < 2:
        return ""
    low, high = min(v for _, v in points), max(v for _, v in points)
    last, span = points[-1][0], max(high - low, 1e-9)
    line = " ".join(f"{_WIDTH * i / last:.1f},{_HEIGHT * (1 - (v - low) / span):.1f}" for i, v in points)
    labels = (
        f"<text x='2' y='10' font-size='10'>{high:.1f}</text><text x='2' y='{_HEIGHT}' font-size='10'>{low:.1f}</text>"
    )
    return (
        f"<svg width='{_WIDTH}' height='{_HEIGHT}' role='img' fill='currentColor'>"
        f"<polyline points='{line}' fill='none' stroke='currentColor'/>{labels}</svg>"
    )
