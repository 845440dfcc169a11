"""From a fit to napari layers, as LayerDataTuples. Pure: no napari, no Qt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from napari_siren.errors import InputError, StorageError
from napari_siren.layers.reading import Placement, plain_values
from napari_siren.layers.spec import LayerData, LayerSpec

if TYPE_CHECKING:
    from napari_siren.core.field.field import Derivative
    from napari_siren.core.result import FitResult

ErrorKind = Literal["signed", "absolute"]

METADATA_KEY = "napari_siren"
"""Under it a layer's metadata say where the layer comes from: config, seed, versions, metrics, …, in plain values."""
RESULT_KEY = "napari_siren_result"
"""Under it they hold the `FitResult` itself."""

# The convention of microscopy for two signs, and one of the diverging colormaps in napari's own list.
_SIGNED_COLORMAP = "PiYG"
_MAGNITUDE_COLORMAP = "magma"
_PERCENTILE = 99.9
# What an `ErrorModel` looks at, for each value of a render.
_UNCERTAINTY_BYTES = 80
_PLAIN_DISPLAY = {"blending": "translucent", "opacity": 1.0, "gamma": 1.0, "iso_threshold": None}


def with_layer(result: FitResult, spec: LayerSpec) -> FitResult:
    """Return a result that knows the place of its layer, and keeps it when it is saved."""
    return replace(result, provenance={**result.provenance, "layer": spec.as_provenance()})


def spec_of(result: FitResult, name: str | None = None) -> LayerSpec:
    """Return the place of a result's layer; of one that was fitted to an array, what its axes and spacing tell.

    Parameters
    ----------
    result
        Of a fit, or loaded.
    name
        In place of the layer's own.

    Raises
    ------
    StorageError
        The model's record of its layer is damaged.
    """
    layout = result.field.format
    if "layer" in result.provenance:
        try:
            spec = LayerSpec.from_provenance(result.provenance["layer"])
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(
                f"the model's record of its layer cannot be read ({error!r}). napari_siren.load(path).render() still "
                "gives its pixels, without their place."
            ) from None
    else:
        rgb = layout.channel_axis == len(layout.shape) - 1 and layout.channels in (3, 4)
        shape = layout.shape[: len(layout.shape) - rgb]
        letters = layout.axes[: len(shape)]
        n, spacing = len(shape), iter(layout.spacing)
        placement = Placement(
            np.array([1.0 if letter == "C" else next(spacing) for letter in letters]),
            np.zeros(n),
            np.eye(n),
            np.eye(n),
            np.eye(n + 1),
            ("pixel",) * n,
            tuple(letter.lower() for letter in letters),
        )
        spec = LayerSpec("SIREN", shape, layout.axes, (), rgb, placement, {}, layout.channels)
    return spec if name is None else replace(spec, name=name)


def reconstruction_layer(spec: LayerSpec, result: FitResult) -> LayerData:
    """Make the layer of the reconstruction: the image's shape, dtype and display."""
    data = spec.within(result.reconstruction)
    return spec.like(data, "reconstruction", _metadata(spec, result, "reconstruction", 1.0))


def upscaled_layer(spec: LayerSpec, result: FitResult, scale: float | Sequence[float]) -> LayerData:
    """Make the layer of a render at another resolution: the image's dtype and display.

    Parameters
    ----------
    spec, result
        Of a fit.
    scale
        As in `fit_layer`. Where that gives no whole number of pixels, the nearest one is laid over the image from
        edge to edge.

    Raises
    ------
    InputError
        A bad scale, or a render that would not fit into memory.
    """
    layout = result.field.format
    rendered = result.render(shape=render_shape(spec, scale, layout.channels * np.dtype(layout.dtype).itemsize))
    data = spec.within(rendered)
    return spec.like(data, scale_label(scale), _metadata(spec, result, "upscaled", scale))


def error_layer(spec: LayerSpec, result: FitResult, kind: ErrorKind = "signed") -> LayerData:
    """Make the layer of the error, float32: the mean over the colours of an RGB image, alpha left out.

    Parameters
    ----------
    spec, result
        Of a fit, not loaded.
    kind
        "signed" is reconstruction - image, shown by a diverging colormap in limits symmetric about 0 that hold 99.9 %
        of it; "absolute" is its magnitude. Neither is visible at first.

    Raises
    ------
    InputError
        An unknown kind, or a result that was loaded from a file and so has no image.
    """
    check_error_kind(kind)
    error = _grey(spec, result.error if kind == "signed" else np.abs(result.error))
    label, display = ("error", _signed) if kind == "signed" else ("absolute error", _magnitude)
    # Hidden at first, or it would hide the others.
    return spec.like(error, label, _metadata(spec, result, "error", 1.0), visible=False, **display(error))


def derivative_layer(
    spec: LayerSpec, result: FitResult, derivative: Derivative, scale: float | Sequence[float] = 1
) -> LayerData:
    """Make the layer of a derivative of the field: exact, float32, in the image's units per world unit.

    Parameters
    ----------
    spec, result
        Of a fit, or loaded.
    derivative
        "gradient_magnitude", or "laplacian" (per squared world unit). Of an RGB image the mean over the colours, alpha
        left out.
    scale
        As in `fit_layer`.
    """
    shape = render_shape(spec, scale, result.field.format.channels * np.dtype(np.float32).itemsize)
    rendered = result.render(shape=shape, derivative=derivative)
    values = spec.within(_grey(spec, rendered))
    display = _signed if derivative == "laplacian" else _magnitude
    label = derivative.replace("_", " ") + ("" if scale == 1 else f" {scale_label(scale)}")
    return spec.like(values, label, _metadata(spec, result, derivative, scale), **display(values))


def uncertainty_layer(spec: LayerSpec, result: FitResult, scale: float | Sequence[float]) -> LayerData:
    """Make the layer of the error to be expected of the upscaled layer, float32, in the image's units.

    Parameters
    ----------
    spec, result
        Of a fit, not loaded. Of an RGB image the mean over the colours, alpha left out.
    scale
        As in `fit_layer`.

    Raises
    ------
    InputError
        A bad scale, a result that was loaded from a file, or a render that would not fit into memory.
    """
    shape = render_shape(spec, scale, result.field.format.channels * _UNCERTAINTY_BYTES)
    factors = [new / old for new, old in zip(shape, spec.coordinate_shape, strict=True)]
    values = spec.within(_grey(spec, result.uncertainty(factors)))
    label = f"uncertainty {scale_label(scale)}"
    return spec.like(values, label, _metadata(spec, result, "uncertainty", scale), **_magnitude(values))


def model_layer(result: FitResult, scale: float | Sequence[float] = 1, name: str | None = None) -> LayerData:
    """Make a layer of a model that was loaded, where the layer was that it was fitted to.

    Parameters
    ----------
    result
        As `load` gives it.
    scale
        As in `fit_layer`.
    name
        In place of the original layer's.
    """
    return upscaled_layer(spec_of(result, name), result, scale)


def check_scale(spec: LayerSpec, scale: float | Sequence[float]) -> None:
    """Check before a fit that its upscaled layer can be made.

    Raises
    ------
    InputError
        A bad scale, or a render that would not fit into memory.
    """
    if spec.data is not None:
        render_shape(spec, scale, spec.data.nbytes / max(1, math.prod(spec.coordinate_shape)))


def render_shape(spec: LayerSpec, scale: float | Sequence[float], bytes_per_point: float) -> tuple[int, ...]:
    """Return the number of pixels of a render along each coordinate; see `check_scale`."""
    from napari_siren.core.training.plan import check_size

    shape = spec.scaled_shape(scale)
    check_size(shape, bytes_per_point)
    return shape


def scale_label(scale: float | Sequence[float]) -> str:
    """Name a scale: x2, or x2,1.5."""
    numbers = [f"{value:g}" for value in np.atleast_1d(np.asarray(scale, dtype=np.float64))]
    return "x" + (numbers[0] if len(set(numbers)) == 1 else ",".join(numbers))


def check_error_kind(kind: str) -> None:
    """Refuse what is no kind of error map."""
    if kind not in get_args(ErrorKind):
        raise InputError(f'error={kind!r}: it is "signed" or "absolute".')


def _grey(spec: LayerSpec, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the mean over the colours of an RGB image, alpha left out."""
    return values[..., :3].mean(axis=-1, dtype=values.dtype) if spec.rgb else values


def _signed(values: npt.NDArray[Any]) -> dict[str, Any]:
    limit = _limit(values)
    return {**_PLAIN_DISPLAY, "colormap": _SIGNED_COLORMAP, "contrast_limits": [-limit, limit]}


def _magnitude(values: npt.NDArray[Any]) -> dict[str, Any]:
    return {**_PLAIN_DISPLAY, "colormap": _MAGNITUDE_COLORMAP, "contrast_limits": [0.0, _limit(values)]}


def _limit(values: npt.NDArray[Any]) -> float:
    magnitude = np.abs(values)
    return float(np.percentile(magnitude, _PERCENTILE)) or float(magnitude.max()) or 1.0


def _metadata(spec: LayerSpec, result: FitResult, role: str, scale: float | Sequence[float]) -> dict[str, Any]:
    shape = spec.coordinate_shape
    factors = [new / old for new, old in zip(spec.scaled_shape(scale), shape, strict=True)]
    return {METADATA_KEY: {**_provenance(result), "role": role, "scale": factors}, RESULT_KEY: result}


def _provenance(result: FitResult) -> dict[str, Any]:
    """Return what tells where a layer comes from, in values that JSON knows."""
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
