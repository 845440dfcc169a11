"""`fit_layer`: from a napari layer to three that lie over it. Pure: no napari, no Qt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_siren.errors import InputError
from napari_siren.layers.outputs import (
    ErrorKind,
    check_error_kind,
    check_scale,
    error_layer,
    reconstruction_layer,
    upscaled_layer,
    with_layer,
)
from napari_siren.layers.spec import LayerData, LayerSpec

if TYPE_CHECKING:
    from napari_siren.core.result import FitResult


@dataclass(frozen=True, eq=False)
class LayerFit:
    """What `fit_layer` gives back.

    Parameters
    ----------
    result
        The fit: field, metrics, history, render and save.
    layer_data
        Three LayerDataTuples: reconstruction, upscaled, error. ``viewer.add_image(data, **meta)`` adds one.
    layers
        The layers added, where a viewer was given; else empty.
    """

    result: FitResult
    layer_data: tuple[LayerData, ...] = field(repr=False)
    layers: tuple[Any, ...] = ()


def fit_layer(
    layer: Any,
    scale: float | Sequence[float] = 2,
    preset: str | None = None,
    viewer: Any = None,
    region: Any = None,
    plane: Sequence[int | None] | None = None,
    level: int = 0,
    error: ErrorKind = "signed",
    **options: Any,
) -> LayerFit:
    """Fit a field to a napari image layer, and make three layers that lie exactly over it.

    Parameters
    ----------
    layer
        A `napari.layers.Image`, or any object with such attributes: data, and, where they are not napari's
        defaults, name, rgb, multiscale, scale, translate, rotate (a matrix), shear, affine, units,
        axis_labels, colormap, contrast_limits, blending, opacity, gamma and so on. One to three axes in
        space and time, and channels: the colours of an RGB layer, or an axis labelled "c" or "channel". An axis
        labelled "t" or "time" is a coordinate of the field like those of space, so that neighbouring frames share
        what they show; with the preset "burst" its frames are joined to one scene, which lies over the first. Of
        dask and zarr arrays what is fitted is read.
    scale
        Of the upscaled layer: output pixels per pixel, a number for all axes in space, or one for each axis in space
        and time.
    preset
        "faithful", "upscale", "denoise", "deblur", "burst", "fast" or "paper"; None is "faithful".
    viewer
        A napari viewer, or a `ViewerModel`, to add the layers to; if given, call this in the main thread.
    region
        What of the layer to fit: (start, stop) in pixels, or None, for each of its axes; or a Shapes layer (its
        rectangles, ellipses and polygons, of those selected if any are); or a Labels layer (all that is not 0); or a
        boolean array of the layer's shape or of its last axes. None is all of it. The layers made are as large as the
        box around the region, and 0 outside of it.
    plane
        An index for each of the layer's axes of which only that is fitted, None for the others: ``(12, None, None)``
        is slice 12 of a stack.
    level
        Of a multiscale layer; 0 is the largest.
    error
        "signed" or "absolute".
    **options
        Any other argument of `fit`. The spacing is the layer's scale, if not given; `axes` overrides what the
        layer tells of its axes.

    Returns
    -------
    LayerFit
        The result of the fit, the layers as LayerDataTuples, and those added to the viewer.

    Raises
    ------
    InputError
        Not an image layer, more than three axes in space and time, a bad scale, a region without a pixel, or an image
        that cannot be fitted.
    SirenError
        As `fit` does.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> from types import SimpleNamespace
    >>> layer = SimpleNamespace(data=np.eye(24, dtype=np.float32), name="line", scale=(0.1, 0.1))
    >>> fitted = ns.fit_layer(layer, scale=4, max_steps=20)
    >>> for data, meta, _ in fitted.layer_data:
    ...     print(meta["name"], data.shape, meta["scale"])
    line [reconstruction] (24, 24) [0.1, 0.1]
    line [x4] (96, 96) [0.025, 0.025]
    line [error] (24, 24) [0.1, 0.1]
    """
    from napari_siren.core.config import detail_for
    from napari_siren.core.fit import fit

    spec = LayerSpec.of(layer, options.pop("axes", None), region, plane, level)
    if spec.missing is not None and options.get("missing") is not None:
        raise InputError(
            "missing= goes with a region that is a box. Give as region a boolean array that is False where a pixel is "
            "outside or missing."
        )
    if _joins(preset, options):
        spec = spec.joined()
    # What would fail at the end should not come to light only after the fit.
    check_scale(spec, scale)
    check_error_kind(error)
    _check_viewer(viewer, spec)
    if options.get("config") is None:
        options = {"detail": detail_for(scale), **options}
    result = fit(**{**spec.fit_arguments(), "preset": preset or "faithful", **options})
    result = with_layer(result, spec)
    layer_data = (
        reconstruction_layer(spec, result),
        upscaled_layer(spec, result, scale),
        error_layer(spec, result, error),
    )
    added = () if viewer is None else tuple(viewer.add_image(data, **meta) for data, meta, _ in layer_data)
    return LayerFit(result, layer_data, added)


def _joins(preset: str | None, options: Mapping[str, Any]) -> bool:
    """Tell whether frames are to be joined."""
    from napari_siren.core.config import FitConfig

    config = options.get("config") or FitConfig.preset(preset or "faithful")
    return bool(options.get("burst_steps", config.burst_steps))


def _check_viewer(viewer: Any, spec: LayerSpec) -> None:
    if viewer is None:
        return
    if not hasattr(viewer, "add_image"):
        raise InputError(f"viewer should be a napari viewer, or None, not a {type(viewer).__name__}.")
    if len(spec.shape) < 2:
        raise InputError("napari shows images of two axes or more, not of one; leave viewer out.")
