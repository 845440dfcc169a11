"""Layers made from the result of a fit, as LayerDataTuples. Pure: no napari, no Qt."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.arrays import ArrayForm
from napari_siren.core.image.units import LENGTHS
from napari_siren.errors import InputError, StorageError
from napari_siren.layers.reading import Placement, plain_values
from napari_siren.layers.spec import LayerData, LayerSpec

if TYPE_CHECKING:
    from napari_siren.core.field.field import Derivative, Field
    from napari_siren.core.result import FitResult

ErrorKind = Literal["signed", "absolute"]

METADATA_KEY = "napari_siren"
"""Key of a layer's provenance in its metadata: config, seed, versions, metrics, …, as plain values."""
RESULT_KEY = "napari_siren_result"
"""Key of the `FitResult` in a layer's metadata."""

# Colormap of signed values: a convention of microscopy, and one of the diverging colormaps of napari.
_SIGNED_COLORMAP = "PiYG"
# Colormap of magnitudes, a sequential one of napari.
_MAGNITUDE_COLORMAP = "magma"
# Percentage of the magnitudes within the contrast limits.
_PERCENTILE = 99.9
# Smallest contrast limit of a map of errors, as a share of the image's range: 5 grey levels of 255.
_LEAST_SHARE = 0.02
# Memory in bytes of the inputs of an `ErrorModel`, for each value of a render.
_UNCERTAINTY_BYTES = 80
# Display settings of maps: napari's defaults instead of the image's settings.
_PLAIN_DISPLAY = {"blending": "translucent", "opacity": 1.0, "gamma": 1.0, "iso_threshold": None}


def with_layer(result: FitResult, spec: LayerSpec) -> FitResult:
    """Return a result with its layer in its provenance, to be saved with it."""
    return replace(result, provenance={**result.provenance, "layer": spec.as_provenance()})


def spec_of(result: FitResult, name: str | None = None) -> LayerSpec:
    """Return the spec of a result's layer: its position, axes and display.

    If the image was an array, the spec follows from its axes and spacing.

    Parameters
    ----------
    result
        Result of a fit, or a loaded one.
    name
        Name to use instead of the layer's own.

    Raises
    ------
    StorageError
        The model's record of its layer is damaged.
    """
    if "layer" in result.provenance:
        try:
            spec = LayerSpec.from_provenance(result.provenance["layer"])
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(
                f"the model's record of its layer cannot be read ({error!r}). Use napari_siren.load(path).render() for "
                "its pixels without their position."
            ) from None
    else:
        spec = _spec_of_array(result)
    return spec if name is None else replace(spec, name=name)


def _spec_of_array(result: FitResult) -> LayerSpec:
    """Return the spec of a result of an array or a file: at its position in the file, if it had one."""
    layout, provenance = result.field.layout, result.provenance
    form = ArrayForm.from_provenance(provenance) or ArrayForm(layout.axes)
    rgb = layout.channel_axis == len(layout.shape) - 1 and layout.channels in (3, 4)
    letters = form.axes.coordinates if rgb else form.axes
    sizes = dict(zip(layout.axes.coordinates, layout.spacing, strict=True))
    entries = dict(zip(layout.axes, layout.shape, strict=True))
    origin = dict(zip(layout.axes.spatial, provenance.get("details", {}).get("origin", ()), strict=False))
    unit, n = provenance.get("unit"), len(letters)
    placement = Placement(
        np.array([sizes.get(a, 1.0) for a in letters]),
        np.array([float(origin.get(a, 0.0)) for a in letters]),
        np.eye(n),
        np.eye(n),
        np.eye(n + 1),
        tuple(unit.replace("µ", "u") if unit in LENGTHS and a in sizes and a != "T" else "pixel" for a in letters),
        tuple(letter.lower() for letter in letters),
    )
    shape = tuple(entries.get(a, 1) for a in letters)
    return LayerSpec("SIREN", shape, layout.axes, form.singletons, rgb, placement, {}, layout.channels)


def reconstruction_layer(spec: LayerSpec, result: FitResult) -> LayerData:
    """Make the layer of the reconstruction, with the image's shape, dtype and display."""
    data = spec.within(result.reconstruction)
    return spec.like(data, "reconstruction", _metadata(spec, result, "reconstruction", 1.0))


def three_layers(
    spec: LayerSpec, result: FitResult, scale: float | Sequence[float], error: ErrorKind, label: str | None = None
) -> dict[str, LayerData]:
    """Return the three layers of a fit by their roles: reconstruction, upscaled, error.

    The parameters and errors are those of `upscaled_layer` and `error_layer`.
    """
    return {
        "reconstruction": reconstruction_layer(spec, result),
        "upscaled": upscaled_layer(spec, result, scale, label),
        "error": error_layer(spec, result, error),
    }


def upscaled_layer(
    spec: LayerSpec, result: FitResult, scale: float | Sequence[float], label: str | None = None
) -> LayerData:
    """Make the layer of a render at another resolution, with the image's dtype and display.

    Parameters
    ----------
    spec, result
        Spec of the layer, and result of its fit.
    scale
        Scale, as in `fit_layer`. If it gives no whole number of pixels, the nearest whole number is used, and its
        pixels cover the image from edge to edge.
    label
        Text in brackets in the name of the layer; None is the scale.

    Raises
    ------
    InputError
        The scale is invalid, or the render would not fit into memory.
    """
    layout = result.field.layout
    rendered = result.render(shape=render_shape(spec, scale, layout.channels * np.dtype(layout.dtype).itemsize))
    data = spec.within(rendered)
    display = _wider_limits(spec, data) if _removes_blur(result) else {}
    label = scale_label(scale) if label is None else label
    return spec.like(data, label, _metadata(spec, result, "upscaled", scale), **display)


def draft_layer(spec: LayerSpec, field: Field, scale: float | Sequence[float], label: str) -> LayerData:
    """Make the layer of an unfinished result, as `upscaled_layer` does for a finished one."""
    from napari_siren.core.field.tiling import RenderGrid

    data = spec.within(field.render(RenderGrid.from_layout(field.layout, shape=spec.scaled_shape(scale))))
    return spec.like(data, label, {METADATA_KEY: {"role": "upscaled"}})


def error_layer(spec: LayerSpec, result: FitResult, kind: ErrorKind = "signed") -> LayerData:
    """Make the layer of the error, float32. For an RGB image it is the mean over the colours without alpha.

    Parameters
    ----------
    spec, result
        Spec of the layer, and result of its fit. The result may not be a loaded one.
    kind
        "signed" is reconstruction - image. It has a diverging colormap, and limits symmetric about 0 around 99.9 % of
        the values, or around 2 % of the image's range if this is more. "absolute" is the magnitude of the error. The
        layer is hidden at first.

    Raises
    ------
    InputError
        The kind is unknown, or the result was loaded from a file and has no image.
    """
    check_error_kind(kind)
    error = _grey(spec, result.error if kind == "signed" else np.abs(result.error))
    label, display = ("error", _signed) if kind == "signed" else ("absolute error", _magnitude)
    limits = display(error, _least_limit(result))
    metadata = _metadata(spec, result, "error", 1.0, error)
    # A visible error layer would cover the other layers.
    return spec.like(error, label, metadata, visible=False, **limits)


def derivative_layer(
    spec: LayerSpec, result: FitResult, derivative: Derivative, scale: float | Sequence[float] = 1
) -> LayerData:
    """Make the layer of a derivative of the field: exact, float32, in the image's units per world unit.

    Parameters
    ----------
    spec, result
        Spec of the layer, and result of its fit or a loaded one.
    derivative
        "gradient_magnitude", or "laplacian" (per squared world unit). For an RGB image it is the mean over the colours
        without alpha.
    scale
        Scale, as in `fit_layer`.
    """
    shape = render_shape(spec, scale, result.field.layout.channels * np.dtype(np.float32).itemsize)
    rendered = result.render(shape=shape, derivative=derivative)
    values = spec.within(_grey(spec, rendered))
    display = _signed if derivative == "laplacian" else _magnitude
    label = derivative.replace("_", " ") + ("" if scale == 1 else f" {scale_label(scale)}")
    return spec.like(values, label, _metadata(spec, result, derivative, scale), **display(values))


def uncertainty_layer(
    spec: LayerSpec,
    result: FitResult,
    scale: float | Sequence[float],
    on_progress: Callable[[float], None] | None = None,
) -> LayerData:
    """Make the layer of the expected error of the upscaled layer: float32, in the image's units.

    Parameters
    ----------
    spec, result
        Spec of the layer, and result of its fit. The result may not be a loaded one. For an RGB image the error is the
        mean over the colours without alpha.
    scale
        Scale, as in `fit_layer`.
    on_progress
        The same as for `FitResult.uncertainty`.

    Raises
    ------
    InputError
        The scale is invalid, the result was loaded from a file, or the render would not fit into memory.
    """
    shape = render_shape(spec, scale, result.field.layout.channels * _UNCERTAINTY_BYTES)
    factors = [new / old for new, old in zip(shape, spec.coordinate_shape, strict=True)]
    values = spec.within(_grey(spec, result.uncertainty(factors, on_progress)))
    label = f"uncertainty {scale_label(scale)}"
    metadata = _metadata(spec, result, "uncertainty", scale, values)
    return spec.like(values, label, metadata, **_magnitude(values, _least_limit(result)))


def model_layer(result: FitResult, scale: float | Sequence[float] = 1, name: str | None = None) -> LayerData:
    """Make a layer of a loaded model at the position of its original layer.

    Parameters
    ----------
    result
        Result returned by `load`.
    scale
        Scale, as in `fit_layer`.
    name
        Name to use instead of that of the original layer.
    """
    return upscaled_layer(spec_of(result, name), result.as_fitted(), scale)


def check_scale(spec: LayerSpec, scale: float | Sequence[float]) -> None:
    """Check before a fit whether its upscaled layer can be made.

    Raises
    ------
    InputError
        The scale is invalid, or the render would not fit into memory.
    """
    if spec.data is not None:
        render_shape(spec, scale, spec.data.nbytes / max(1, math.prod(spec.coordinate_shape)))


def render_shape(spec: LayerSpec, scale: float | Sequence[float], bytes_per_point: float) -> tuple[int, ...]:
    """Return the number of pixels of a render along each coordinate. The errors are those of `check_scale`."""
    from napari_siren.core.training.plan import check_size

    shape = spec.scaled_shape(scale)
    check_size(shape, bytes_per_point)
    return shape


def scale_label(scale: float | Sequence[float]) -> str:
    """Return the label of a scale, such as x2 or x2,1.5."""
    numbers = [f"{value:g}" for value in np.atleast_1d(np.asarray(scale, dtype=np.float64))]
    return "x" + (numbers[0] if len(set(numbers)) == 1 else ",".join(numbers))


def check_error_kind(kind: str) -> None:
    """Raise an InputError for an unknown kind of error layer."""
    if kind not in get_args(ErrorKind):
        raise InputError(f'error={kind!r} is unknown. Use "signed" or "absolute".')


def _grey(spec: LayerSpec, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the mean over the colours of an RGB image without alpha; other images as they are."""
    return values[..., :3].mean(axis=-1, dtype=values.dtype) if spec.rgb else values


def _least_limit(result: FitResult) -> float:
    """Return the smallest contrast limit of a map of errors, so that small errors look small."""
    return _LEAST_SHARE * 2 * float(np.max(np.abs(result.field.layout.scale)))


def _signed(values: npt.NDArray[Any], least: float = 0.0) -> dict[str, Any]:
    limit = max(_limit(values), least)
    return {**_PLAIN_DISPLAY, "colormap": _SIGNED_COLORMAP, "contrast_limits": [-limit, limit]}


def _magnitude(values: npt.NDArray[Any], least: float = 0.0) -> dict[str, Any]:
    limits = [0.0, max(_limit(values), least)]
    return {**_PLAIN_DISPLAY, "colormap": _MAGNITUDE_COLORMAP, "contrast_limits": limits}


def _removes_blur(result: FitResult) -> bool:
    task = result.config.restoration
    return task is not None and task.removes == "blur"


def _wider_limits(spec: LayerSpec, values: npt.NDArray[Any]) -> dict[str, Any]:
    """Return the contrast limits of a sharper image: its light is in fewer pixels, which are brighter."""
    limits = spec.display.get("contrast_limits")
    if spec.rgb or limits is None:
        return {}
    return {"contrast_limits": [float(limits[0]), max(float(limits[1]), float(np.percentile(values, _PERCENTILE)))]}


def _limit(values: npt.NDArray[Any]) -> float:
    magnitude = np.abs(values)
    return float(np.percentile(magnitude, _PERCENTILE)) or float(magnitude.max()) or 1.0


def _metadata(
    spec: LayerSpec,
    result: FitResult,
    role: str,
    scale: float | Sequence[float],
    errors: npt.NDArray[Any] | None = None,
) -> dict[str, Any]:
    """Return the metadata of a layer. A map of errors also has its mean and its largest absolute value."""
    shape = spec.coordinate_shape
    factors = [new / old for new, old in zip(spec.scaled_shape(scale), shape, strict=True)]
    about = {**_provenance(result), "role": role, "scale": factors}
    if errors is not None:
        magnitude = np.abs(errors)
        about |= {"mean_error": float(magnitude.mean()), "largest_error": float(magnitude.max())}
    return {METADATA_KEY: about, RESULT_KEY: result}


def _provenance(result: FitResult) -> dict[str, Any]:
    """Return the provenance of a layer as JSON values."""
    history = result.history
    provenance: dict[str, Any] = plain_values(
        {
            "config": result.config.model_dump(mode="json"),
            "metrics": result.metrics.as_dict(),
            "history": {
                "stopped": history.stopped,
                "seconds": history.seconds[-1] if history.seconds else 0.0,
                "steps": history.step[-1] if history.step else 0,
            },
            **result.provenance,
        }
    )
    return provenance
