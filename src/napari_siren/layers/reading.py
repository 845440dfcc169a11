"""Reading a napari image layer, or what looks like one: transforms, axes, units, display. It never imports napari."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import SPATIAL_AXES, check_axes
from napari_siren.errors import InputError

_CHANNEL_LABELS = {"c", "ch", "channel", "channels"}
_TIME_LABELS = {"t", "time", "frame", "frames"}

# What a layer shows that has not said otherwise.
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
    """Where a layer's pixels are in the world: world = affine(R·Sh·S·pixel + translate).

    Parameters
    ----------
    scale, translate
        (n,), one entry for each axis of the layer; S is the diagonal matrix of `scale`, perhaps negative.
    rotate, shear
        (n, n), R and Sh; `shear` is triangular with ones on its diagonal.
    affine
        (n + 1, n + 1), homogeneous.
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
    def of(cls, layer: Any, ndim: int) -> Placement:
        """Read a layer's transforms; what it lacks is as napari has it.

        Parameters
        ----------
        layer
            As `fit_layer` takes it.
        ndim
            Number of the layer's axes, the colours of an RGB image not counted.

        Raises
        ------
        InputError
            A transform is not of `ndim` axes, not finite, or scales by zero.
        """
        scale = _numbers(layer, "scale", np.ones(ndim))
        if not scale.all():
            raise InputError(f"{layer_title(layer)} has scale {scale.tolist()}; the scale of an axis cannot be 0.")
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
        """Read what `as_meta` gave."""
        scale, translate, rotate, shear, affine = (
            np.array(meta[name], dtype=np.float64) for name in ("scale", "translate", "rotate", "shear", "affine")
        )
        return cls(scale, translate, rotate, shear, affine, tuple(meta["units"]), tuple(meta["axis_labels"]))

    def resized(self, factors: Sequence[float]) -> Placement:
        """Place a grid of `factors` times as many pixels where the old one was, outer edge on outer edge.

        Parameters
        ----------
        factors
            New pixels per old pixel, one for each axis.
        """
        inverse = 1 / np.asarray(factors, dtype=np.float64)
        # The centre of the first new pixel, in old data pixels.
        centre = (inverse - 1) / 2
        shift = self.rotate @ self.shear @ (self.scale * centre)
        return replace(self, scale=self.scale * inverse, translate=self.translate + shift)

    def shifted(self, start: Sequence[float]) -> Placement:
        """Place a part of the grid.

        Parameters
        ----------
        start
            The pixel that becomes the first one, for each axis.
        """
        shift = self.rotate @ self.shear @ (self.scale * np.asarray(start, dtype=np.float64))
        return replace(self, translate=self.translate + shift)

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """(n + 1, n + 1), homogeneous: data pixels to world."""
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
    """Return an attribute, or the default where it is absent or None."""
    value = getattr(layer, name, None)
    return default if value is None else value


def layer_name(layer: Any) -> str:
    """Return the layer's name, or napari's default."""
    return str(attribute(layer, "name", "Image"))


def layer_title(layer: Any) -> str:
    """Name the layer in a message."""
    return f"layer {layer_name(layer)!r}"


def check_is_image(layer: Any) -> None:
    """Refuse arrays and the other types of napari layers."""
    if isinstance(layer, np.ndarray) or not hasattr(layer, "data"):
        raise InputError(f"a napari image layer is needed, not a {type(layer).__name__}. For an array use fit(array).")
    kinds = layer_kinds(layer)
    if kinds and "Image" not in kinds:
        raise InputError(
            f"{layer_title(layer)} is a {layer.__class__.__name__} layer; a field is fitted to an Image layer. "
            "Select one, or add the pixels that you mean with viewer.add_image(array)."
        )


def layer_kinds(layer: Any) -> list[str]:
    """Name the types of napari layers that a layer is of; none for other objects. napari need not be there."""
    # Not its type, which may be that of a proxy: napari gives such to plugins.
    return [kind.__name__ for kind in layer.__class__.__mro__ if kind.__module__.startswith("napari.layers")]


def to_array(data: Any, layer: Any) -> npt.NDArray[np.generic]:
    """Read the data, lazy or not, into memory."""
    try:
        return np.asarray(data)
    except ValueError as error:
        raise InputError(f"the data of {layer_title(layer)} is not an array of numbers: {error}.") from None


def is_rgb(layer: Any, shape: tuple[int, ...], axes: str | None) -> bool:
    """Tell whether the last axis is colours; refuse what contradicts itself."""
    colours = len(shape) > 1 and shape[-1] in (3, 4)
    said = attribute(layer, "rgb", None)
    if said is None:
        return colours and (len(shape) > 2 if axes is None else axes.endswith("C"))
    if said and not colours:
        raise InputError(f"{layer_title(layer)} is RGB; its last axis should then have 3 or 4 entries (shape {shape}).")
    if said and axes is not None and not axes.endswith("C"):
        raise InputError(f"{layer_title(layer)} is RGB, so that its last axis is C; axes={axes!r} says otherwise.")
    return bool(said)


def read_axes(layer: Any, labels: Sequence[str], shape: tuple[int, ...], rgb: bool, held: Sequence[int] = ()) -> str:
    """Tell the axes that are fitted by their labels, where these are known; space is else Z, Y, X, the last of them.

    Parameters
    ----------
    layer
        For messages.
    labels
        Of the layer's axes.
    shape
        Of its data.
    rgb
        Whether a last axis is colours.
    held
        Axes of which a single index is fitted; they have no letter.
    """
    kinds = [axis_kind(label) for i, label in enumerate(labels) if i not in held]
    if kinds.count("T") > 1:
        # Which of them is time cannot be told.
        kinds = ["" if kind == "T" else kind for kind in kinds]
    if kinds.count("C") + rgb > 1:
        raise InputError(
            f"{layer_title(layer)} has more than one axis of channels (shape {shape}). Take one channel of it."
        )
    coordinates = [kind for kind in kinds if kind != "C"]
    if len(coordinates) > len(SPATIAL_AXES):
        raise InputError(
            f"{layer_title(layer)} has {len(coordinates)} axes (shape {shape}), a field three in space and time at "
            "most. Take one frame or channel of it, for example plane=(0, None, None, None); or, "
            'if an axis is channels to be fitted together, say so with axes="CZYX".'
        )
    if not coordinates or coordinates == ["T"]:
        raise InputError(f"{layer_title(layer)} has no axis in space (axis_labels {tuple(labels)}).")
    in_space = [kind for kind in coordinates if kind != "T"]
    if len(set(in_space)) < len(in_space) or not set(in_space) <= set(SPATIAL_AXES):
        in_space = list(SPATIAL_AXES[-len(in_space) :])
    letters = iter(in_space)
    return "".join(kind if kind in ("C", "T") else next(letters) for kind in kinds) + "C" * rgb


def given_axes(axes: str, shape: tuple[int, ...], held: Sequence[int] = ()) -> str:
    """Check axes that were given, one letter for each axis of the data, and return those that are fitted.

    Raises
    ------
    InputError
        Wrong length, unknown or repeated letters, or no axis in space.
    """
    if not isinstance(axes, str) or len(axes) != len(shape):
        check_axes(axes, shape)
    fitted = "".join(letter for i, letter in enumerate(axes.upper()) if i not in held)
    return check_axes(fitted, tuple(n for i, n in enumerate(shape) if i not in held))


def axis_kind(label: str) -> str:
    """Return what a label says of an axis: "C" for channels, "T" for time, else itself in upper case."""
    plain = label.strip().lower()
    if plain in _CHANNEL_LABELS:
        return "C"
    return "T" if plain in _TIME_LABELS else plain.upper()


def _numbers(layer: Any, name: str, default: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Read an attribute of finite numbers, as many as its default has, into an array of its own."""
    value = attribute(layer, name, default)
    try:
        array = np.array(getattr(value, "affine_matrix", value), dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{layer_title(layer)} has {name} {value!r}, which is not numbers.") from None
    if array.shape != default.shape or not np.isfinite(array).all():
        raise InputError(
            f"{layer_title(layer)} has {name} {array.tolist()}; it should be finite, of shape {default.shape}."
        )
    return array


def _shear(layer: Any, ndim: int) -> npt.NDArray[np.float64]:
    """Read the shear as a matrix; napari gives an upper triangular one as the vector of its entries."""
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
        raise InputError(
            f"{layer_title(layer)} has {name} {strings}; it should have {len(default)}, one for each axis."
        )
    return strings


def read_display(layer: Any, rgb: bool) -> dict[str, Any]:
    """Return how the layer is shown, as plain values."""
    display = {name: plain_values(attribute(layer, name, default)) for name, default in _DISPLAY.items()}
    if rgb:
        display["contrast_limits"] = None
    if display["interpolation2d"] == "custom":
        # Its kernel belongs to the original's pixels.
        display["interpolation2d"] = _DISPLAY["interpolation2d"]
    return display


def plain_values(value: Any) -> Any:
    """Turn a value into what JSON knows: napari's models (a colormap) into dicts, infinity into "inf"."""
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
