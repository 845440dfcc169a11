"""Reading of napari image layers and similar objects: transforms, axes, units, display. It never imports napari."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import SPATIAL_AXES, Axes, check_axes, singleton_axes
from napari_siren.errors import InputError

# Axis labels of channels, in lower case.
_CHANNEL_LABELS = {"c", "ch", "channel", "channels"}
# Axis labels of time, in lower case.
_TIME_LABELS = {"t", "time", "frame", "frames"}

# Display settings of a layer, with napari's defaults.
_DISPLAY: dict[str, Any] = {
    "colormap": "gray",
    "contrast_limits": None,
    "blending": "translucent",
    "opacity": 1.0,
    "gamma": 1.0,
    "interpolation2d": "nearest",
    "interpolation3d": "linear",
    "rendering": "mip",
    "attenuation": 0.05,
    "iso_threshold": None,
}


@dataclass(frozen=True, eq=False)
class Placement:
    """The position of a layer's pixels in the world: world = affine(R·Sh·S·pixel + translate).

    Parameters
    ----------
    scale, translate
        Arrays of shape (n,), one entry for each axis of the layer. S is the diagonal matrix of `scale`, which may have
        negative entries.
    rotate, shear
        Matrices R and Sh, (n, n). `shear` is triangular with ones on its diagonal.
    affine
        Homogeneous matrix, (n + 1, n + 1).
    units, axis_labels
        One string for each axis.
    """

    scale: npt.NDArray[np.float64]
    translate: npt.NDArray[np.float64]
    rotate: npt.NDArray[np.float64]
    shear: npt.NDArray[np.float64]
    affine: npt.NDArray[np.float64]
    units: tuple[str, ...]
    axis_labels: tuple[str, ...]

    @classmethod
    def from_layer(cls, layer: Any, ndim: int) -> Placement:
        """Read the transforms of a layer. Missing attributes have napari's defaults.

        Parameters
        ----------
        layer
            Image layer, as in `fit_layer`.
        ndim
            Number of the layer's axes, without the colours of an RGB image.

        Raises
        ------
        InputError
            A transform does not have `ndim` axes, is not finite, or scales by zero.
        """
        scale = _numbers(layer, "scale", np.ones(ndim))
        if not scale.all():
            raise InputError(
                f"{layer_title(layer)} has scale {scale.tolist()}, but a scale cannot be 0. Set it to the pixel size."
            )
        return cls(
            scale,
            _numbers(layer, "translate", np.zeros(ndim)),
            _numbers(layer, "rotate", np.eye(ndim)),
            _shear(layer, ndim),
            _numbers(layer, "affine", np.eye(ndim + 1)),
            _strings(layer, "units", ("pixel",) * ndim),
            _strings(layer, "axis_labels", tuple(str(i) for i in range(-ndim, 0))),
        )

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any]) -> Placement:
        """Return the placement described by the output of `as_meta`."""
        scale, translate, rotate, shear, affine = (
            np.array(meta[name], dtype=np.float64) for name in ("scale", "translate", "rotate", "shear", "affine")
        )
        return cls(scale, translate, rotate, shear, affine, tuple(meta["units"]), tuple(meta["axis_labels"]))

    def resized(self, factors: Sequence[float]) -> Placement:
        """Return the placement of a grid of `factors` times as many pixels, with the same outer edges.

        Parameters
        ----------
        factors
            New pixels per old pixel, one for each axis.
        """
        inverse = 1 / np.asarray(factors, dtype=np.float64)
        # Centre of the first new pixel, in old data pixels.
        centre = (inverse - 1) / 2
        shift = self.rotate @ self.shear @ (self.scale * centre)
        return replace(self, scale=self.scale * inverse, translate=self.translate + shift)

    def shifted(self, start: Sequence[float]) -> Placement:
        """Return the placement of a part of the grid.

        Parameters
        ----------
        start
            Index of the new first pixel along each axis.
        """
        shift = self.rotate @ self.shear @ (self.scale * np.asarray(start, dtype=np.float64))
        return replace(self, translate=self.translate + shift)

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """Homogeneous matrix from data pixels to the world, (n + 1, n + 1)."""
        inner = np.eye(len(self.scale) + 1)
        inner[:-1, :-1] = self.rotate @ self.shear @ np.diag(self.scale)
        inner[:-1, -1] = self.translate
        return self.affine @ inner

    def as_meta(self) -> dict[str, Any]:
        """Return the keyword arguments of a napari layer, as lists and strings."""
        names = ("scale", "translate", "rotate", "shear", "affine")
        transforms = {name: getattr(self, name).tolist() for name in names}
        return {**transforms, "units": self.units, "axis_labels": self.axis_labels}


def attribute(layer: Any, name: str, default: Any) -> Any:
    """Return an attribute of a layer, or the default if it is absent or None."""
    value = getattr(layer, name, None)
    return default if value is None else value


def layer_name(layer: Any) -> str:
    """Return the name of a layer, or napari's default."""
    return str(attribute(layer, "name", "Image"))


def layer_title(layer: Any) -> str:
    """Return the name of a layer for a message."""
    return f"layer {layer_name(layer)!r}"


def check_is_image(layer: Any) -> None:
    """Raise an InputError for arrays and for other types of napari layers."""
    if isinstance(layer, np.ndarray) or not hasattr(layer, "data"):
        raise InputError(f"a napari image layer is needed, not a {type(layer).__name__}. For an array use fit(array).")
    kinds = layer_kinds(layer)
    if kinds and "Image" not in kinds:
        raise InputError(
            f"{layer_title(layer)} is a {layer.__class__.__name__} layer; only an Image layer can be fitted. "
            "Select one, or add the pixels with viewer.add_image(array)."
        )


def layer_labels(layer: Any, data: Any, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return the labels of the axes; the dimensions of an xarray.DataArray if the layer has only the default labels."""
    dims = tuple(map(str, getattr(data, "dims", ())))[: len(labels)]
    default = all(label.lstrip("-").isdigit() for label in labels)
    return dims if default and len(dims) == len(labels) and attribute(layer, "axis_labels", None) != dims else labels


def layer_kinds(layer: Any) -> list[str]:
    """Return the names of the napari layer types of an object; none for other objects. napari need not be installed."""
    # Plugins may receive a proxy of the layer from napari. type(layer) would be the type of the proxy.
    return [kind.__name__ for kind in layer.__class__.__mro__ if kind.__module__.startswith("napari.layers")]


def to_array(data: Any, layer: Any, fill_nan: bool = False) -> npt.NDArray[np.generic]:
    """Read the data of a layer, lazy or not, into memory. Masked arrays keep their mask.

    With `fill_nan`, the NaN and infinite values are masked, too.
    """
    try:
        # A dask array of masked arrays would lose its mask in a conversion.
        pixels = data.compute() if hasattr(data, "compute") and hasattr(data, "dask") else data
        array = pixels if isinstance(pixels, np.ma.MaskedArray) else np.asarray(pixels)
    except ValueError as error:
        raise InputError(
            f"the data of {layer_title(layer)} is not an array of numbers: {error}. Give a regular array."
        ) from None
    if not fill_nan or array.dtype.kind != "f":
        return array
    values = np.ma.getdata(array)
    return np.ma.MaskedArray(values, mask=np.ma.getmaskarray(array) | ~np.isfinite(values))


def mask_of(data: Any) -> npt.NDArray[np.bool_] | None:
    """Return the mask of a masked array, True for missing pixels; None if no pixel is masked."""
    if not isinstance(data, np.ma.MaskedArray):
        return None
    mask: npt.NDArray[np.bool_] = np.ma.getmaskarray(data)
    return mask if mask.any() else None


def one_entry_axes(
    labels: Sequence[str], axes: str | None, shape: Sequence[int], held: Sequence[int] = ()
) -> tuple[int, ...]:
    """Return the positions of the axes of one entry to leave out of a fit; see `singleton_axes`.

    Parameters
    ----------
    labels
        Labels of the layer's axes.
    axes
        Letters that were given instead of the labels, one for each axis of the data, or None.
    shape
        Number of pixels along each of the layer's axes.
    held
        Positions of the axes with a fixed index.
    """
    kinds = list(axes.upper()) if isinstance(axes, str) else [axis_kind(label) for label in labels]
    # The letters of the spatial axes do not matter here.
    letters = [kind if kind in ("C", "T") else "X" for kind in kinds]
    fitted = [i for i in range(min(len(shape), len(letters))) if i not in held]
    chosen = singleton_axes("".join(letters[i] for i in fitted), [shape[i] for i in fitted])
    return tuple(fitted[i] for i in chosen)


def is_rgb(layer: Any, shape: tuple[int, ...], axes: str | None) -> bool:
    """Return whether the last axis is colours. Raise an InputError if `rgb`, shape and axes contradict each other."""
    colours = len(shape) > 1 and shape[-1] in (3, 4)
    rgb = attribute(layer, "rgb", None)
    if rgb is None:
        return colours and (len(shape) > 2 if axes is None else axes.endswith("C"))
    if rgb and not colours:
        raise InputError(
            f"{layer_title(layer)} is RGB, but has shape {shape}. Its last axis should have 3 or 4 entries."
        )
    if rgb and axes is not None and not axes.endswith("C"):
        raise InputError(
            f"{layer_title(layer)} is RGB, so that its last axis is C, unlike axes={axes!r}. Correct axes, or leave "
            "it out."
        )
    return bool(rgb)


def read_axes(layer: Any, labels: Sequence[str], shape: tuple[int, ...], rgb: bool, held: Sequence[int] = ()) -> Axes:
    """Return the letters of the axes to fit, from their labels.

    If the labels of the spatial axes are not all known, these axes are Z, Y, X in this order; of fewer than three, the
    last ones.

    Parameters
    ----------
    layer
        Layer to name in messages.
    labels
        Labels of the layer's axes.
    shape
        Shape of the layer's data.
    rgb
        Whether the last axis of the data is colours.
    held
        Positions of the axes with a fixed index. They have no letter.

    Raises
    ------
    InputError
        There are several axes of channels, more than three axes in space and time, or no spatial axis.
    """
    kinds = [axis_kind(label) for i, label in enumerate(labels) if i not in held]
    if kinds.count("T") > 1:
        # It is not known which of them is time.
        kinds = ["" if kind == "T" else kind for kind in kinds]
    if kinds.count("C") + rgb > 1:
        raise InputError(
            f"{layer_title(layer)} has more than one axis of channels (shape {shape}). Take one channel of it."
        )
    coordinates = [kind for kind in kinds if kind != "C"]
    if len(coordinates) > len(SPATIAL_AXES):
        raise InputError(
            f"{layer_title(layer)} has {len(coordinates)} axes in space and time (shape {shape}), but a field has at "
            "most three. Take one frame or channel of it, for example plane=(0, None, None, None). Or name an axis of "
            'channels to fit together, for example axes="CZYX".'
        )
    if not coordinates or coordinates == ["T"]:
        raise InputError(
            f"{layer_title(layer)} has no spatial axis to fit (axis_labels {tuple(labels)}). Change its axis_labels, "
            "or the plane."
        )
    spatial = [kind for kind in coordinates if kind != "T"]
    if len(set(spatial)) < len(spatial) or not set(spatial) <= set(SPATIAL_AXES):
        spatial = list(SPATIAL_AXES[-len(spatial) :])
    letters = iter(spatial)
    return Axes("".join(kind if kind in ("C", "T") else next(letters) for kind in kinds) + "C" * rgb)


def given_axes(axes: str, shape: tuple[int, ...], held: Sequence[int] = ()) -> Axes:
    """Check given axes, one letter for each axis of the data, and return the letters of the axes to fit.

    Raises
    ------
    InputError
        The axes have the wrong length, unknown or repeated letters, or no spatial axis.
    """
    if not isinstance(axes, str) or len(axes) != len(shape):
        check_axes(axes, shape)
    fitted = "".join(letter for i, letter in enumerate(axes.upper()) if i not in held)
    return check_axes(fitted, tuple(n for i, n in enumerate(shape) if i not in held))


def axis_kind(label: str) -> str:
    """Return the letter for the label of an axis: "C" for channels, "T" for time, else the label in upper case."""
    plain = label.strip().lower()
    if plain in _CHANNEL_LABELS:
        return "C"
    return "T" if plain in _TIME_LABELS else plain.upper()


def _numbers(layer: Any, name: str, default: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Read an attribute of finite numbers into a new array, which has the shape of the default."""
    value = attribute(layer, name, default)
    try:
        array = np.array(getattr(value, "affine_matrix", value), dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(
            f"{layer_title(layer)} has {name} {value!r}, which is not numeric. Give numbers of shape {default.shape}."
        ) from None
    if array.shape != default.shape or not np.isfinite(array).all():
        raise InputError(
            f"{layer_title(layer)} has {name} {array.tolist()}. Give finite numbers of shape {default.shape}."
        )
    return array


def _shear(layer: Any, ndim: int) -> npt.NDArray[np.float64]:
    """Read the shear as a matrix. napari stores an upper triangular matrix as the vector of its entries."""
    matrix = np.eye(ndim)
    above = np.triu_indices(ndim, 1)
    if np.ndim(attribute(layer, "shear", ())) == 2:
        return _numbers(layer, "shear", matrix)
    matrix[above] = _numbers(layer, "shear", np.zeros(len(above[0])))
    return matrix


def _strings(layer: Any, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    value = attribute(layer, name, default)
    strings = (value,) * len(default) if isinstance(value, str) else tuple(map(str, value))
    if len(strings) != len(default):
        raise InputError(f"{layer_title(layer)} has {name} {strings}. Give {len(default)} strings, one for each axis.")
    return strings


def read_display(layer: Any, rgb: bool) -> dict[str, Any]:
    """Return the display settings of a layer as plain values."""
    display = {name: plain_values(attribute(layer, name, default)) for name, default in _DISPLAY.items()}
    if rgb:
        display["contrast_limits"] = None
    if display["interpolation2d"] == "custom":
        # A custom kernel suits only the pixels of the original.
        display["interpolation2d"] = _DISPLAY["interpolation2d"]
    return display


def plain_values(value: Any) -> Any:
    """Convert a value to JSON values: napari's models (a colormap) to dicts, infinity to "inf"."""
    dump = getattr(value, "model_dump", None) or getattr(value, "dict", None)
    if callable(dump):
        value = dump()
    if isinstance(value, Enum):
        return plain_values(value.value)
    if isinstance(value, np.ndarray | np.generic):
        return plain_values(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain_values(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
