"""`fit_layer`: the fit of a napari layer, and three new layers over it. Pure: no napari, no Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from napari_siren.core.options import FitOptions, copy_options
from napari_siren.errors import InputError
from napari_siren.layers.outputs import (
    ErrorKind,
    check_error_kind,
    check_scale,
    three_layers,
    with_layer,
)
from napari_siren.layers.series import LayerSeries
from napari_siren.layers.series_fit import SeriesFit
from napari_siren.layers.spec import LayerData, LayerSpec

if TYPE_CHECKING:
    from napari_siren.core.result import FitResult


@dataclass(frozen=True, eq=False)
class LayerFit:
    """The result of `fit_layer`.

    Parameters
    ----------
    result
        Result of the fit: field, metrics, history, `render` and `save`. If entries were fitted one by one, it is that
        of the first.
    layer_data
        Three LayerDataTuples: reconstruction, upscaled, error. ``viewer.add_image(data, **meta)`` adds one.
    layers
        Layers added to the viewer. Empty if there is no viewer.
    results
        Results of all entries of a layer with more than three axes in space and time, in the order of the axes, without
        the state to continue from. Of other layers it is the only result.
    """

    result: FitResult
    layer_data: tuple[LayerData, ...] = field(repr=False)
    layers: tuple[Any, ...] = ()
    results: tuple[FitResult, ...] = field(default=(), repr=False)


def fit_layer(
    layer: Any,
    scale: float | Sequence[float] = 2,
    *,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    viewer: Any = None,
    region: Any = None,
    plane: Sequence[int | None] | None = None,
    level: int = 0,
    error: ErrorKind = "signed",
    fill_nan: bool = False,
    one_by_one: Sequence[int] | None = None,
    **options: Unpack[FitOptions],
) -> LayerFit:
    """Fit a field to a napari image layer, and make three layers exactly over it.

    Parameters
    ----------
    layer
        A `napari.layers.Image`, or any object with the same attributes: data and, if they differ from napari's
        defaults, name, rgb, multiscale, scale, translate, rotate (a matrix), shear, affine, units,
        axis_labels, colormap, contrast_limits, blending, opacity, gamma and so on. It may have channels: the colours of
        an RGB layer, or an axis labelled "c" or "channel". An axis labelled "t" or "time" is a coordinate of the field
        like those of space, so that neighbouring frames share their content. With the preset "burst" its frames are
        joined to one scene, which lies over all frames. Of more than three axes in space and time, the entries along
        the further ones are fitted one by one (see `one_by_one`), as frames in `fit_series`. The further ones are first
        axes with other labels (such as a position), then time, then the first axes. Of dask and zarr arrays, only the
        part to fit is read.
    scale
        Scale of the upscaled layer in output pixels per pixel: a number for all axes in space, or one number for each
        axis in space and time.
    axes, spacing
        Axes and spacing of the part to fit, instead of those of the layer.
    viewer
        A napari viewer, or a `ViewerModel`, to add the layers to. With a viewer, call `fit_layer` in the main thread.
    region
        Part of the layer to fit. None is the whole layer. Otherwise one of: (start, stop) in pixels, or None, for
        each of its axes; a Shapes layer (its rectangles, ellipses and polygons; only the selected ones if any are
        selected); a Labels layer (all labels other than 0); a boolean array of the layer's shape or of its last
        axes. The new layers are as large as the box around the region, and 0 outside of the region.
    plane
        An index for each axis of the layer to hold fixed, None for the axes to fit: ``(12, None, None)`` is slice 12
        of a stack.
    level
        Index of the level of a multiscale layer; 0 is the largest.
    error
        Kind of the error layer: "signed" or "absolute".
    fill_nan
        Whether NaN and infinite values are missing pixels, which the field fills in. Otherwise they are an error.
    one_by_one
        Positions of the layer's axes whose entries are fitted one by one: ``(0,)`` for each image of a stack by itself.
        None are the axes beyond three in space and time.
    **options
        Any other argument of `fit`.

    Returns
    -------
    LayerFit
        The result of the fit, the layers as LayerDataTuples, and the layers added to the viewer.

    Raises
    ------
    InputError
        The layer is not an image. The scale is invalid, the region has no pixel, or the image cannot be fitted. The
        layers would not fit into memory.
    SirenError
        The same errors as those of `fit`.

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
    from napari_siren.core.series.entries import settings_of
    from napari_siren.core.settings.config import detail_for

    series = LayerSeries.from_layer(layer, axes, region, plane, level, fill_nan, one_by_one)
    if options.get("missing") is not None and (series.axes or series.first.missing is not None):
        raise InputError(
            "missing= can only be used with a region that is a box, of up to three axes in space and time. Give as "
            "region a boolean array, False for pixels outside or missing."
        )
    if settings_of(options).joins_frames:
        if series.has_time:
            raise InputError("a burst has one or two axes in space beside time. Hold the other axes fixed with plane.")
        series = series.mapped(LayerSpec.joined)
    scale = series.first.fitted_scale(scale)
    # Check before the fit what could fail only after it.
    check_error_kind(error)
    _check_viewer(viewer, series.first)
    if options.get("config") is None:
        options = {"detail": detail_for(scale), **options}
    if series.axes:
        results, layer_data = _fit_entries(series, scale, spacing, error, options)
    else:
        results, layer_data = _fit_whole(series.first, scale, spacing, error, options)
    new_layers = () if viewer is None else tuple(viewer.add_image(data, **meta) for data, meta, _ in layer_data)
    return LayerFit(results[0], layer_data, new_layers, results)


def _fit_whole(
    spec: LayerSpec,
    scale: float | Sequence[float],
    spacing: float | Sequence[float] | None,
    error: ErrorKind,
    options: FitOptions,
) -> tuple[tuple[FitResult, ...], tuple[LayerData, ...]]:
    """Fit a layer as a whole, and make its three layers."""
    from napari_siren.core.fit import fit

    spec = spec.loaded()
    missing = options.get("missing")
    if spec.masked is not None and missing is not None:
        options = {**options, "missing": np.logical_or(spec.masked, missing)}
    check_scale(spec, scale)
    result = with_layer(fit(**copy_options(options, **_arguments(spec, spacing, options))), spec)
    return (result,), tuple(three_layers(spec, result, scale, error).values())


def _fit_entries(
    series: LayerSeries,
    scale: float | Sequence[float],
    spacing: float | Sequence[float] | None,
    error: ErrorKind,
    options: FitOptions,
) -> tuple[tuple[FitResult, ...], tuple[LayerData, ...]]:
    """Fit the entries of a layer one by one, and make its three layers."""
    from napari_siren.core.series.entries import fit_entries, settings_of, shared_arguments

    fits = SeriesFit(series, scale, error)
    entries = fits.entries(lambda spec: _arguments(spec, spacing, options))
    done = fit_entries(entries, len(series.indices), settings_of(options), shared_arguments(options))
    # The state to continue from needs several times as much memory as the image.
    results = tuple(fits.add(result).without_state() for result in done)
    return results, tuple(fits.layers.values())


def _arguments(spec: LayerSpec, spacing: float | Sequence[float] | None, options: FitOptions) -> dict[str, Any]:
    """Return the arguments of the fit of a layer. The options of the call come before those of the layer."""
    given = {"missing": options["missing"]} if "missing" in options else {}
    given |= {"axes_as_coordinates": options["axes_as_coordinates"]} if "axes_as_coordinates" in options else {}
    return {**spec.fit_arguments(), **({} if spacing is None else {"spacing": spacing}), **given}


def _check_viewer(viewer: Any, spec: LayerSpec) -> None:
    if viewer is None:
        return
    if not hasattr(viewer, "add_image"):
        raise InputError(f"viewer is of type {type(viewer).__name__}. It should be a napari viewer or None.")
    if len(spec.shape) < 2:
        raise InputError(
            "napari cannot show an image of one axis. Leave viewer out, or use an image of two axes or more."
        )
