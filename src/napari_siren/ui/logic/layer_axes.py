"""The axes of an image layer as the panel shows them: letters, axes in space, pixel sizes, units. No Qt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import pint

from napari_siren.core.image.axes import SPATIAL_AXES
from napari_siren.core.image.units import LENGTHS, in_one_unit, unit_symbol
from napari_siren.errors import InputError
from napari_siren.layers.reading import axis_kind, layer_labels

# Letters of the axes in the usual order: time, channels, and space.
LETTERS = "TC" + SPATIAL_AXES
# Labels of axes without a name: those of napari ("-3") and of xarray ("dim_0").
_UNNAMED = re.compile(r"-?\d+|dim_\d+")
# A unit is a single word. Expressions such as "2 um" or "m/s" are no unit of a pixel size.
_WORD = re.compile(r"[^\W\d_]+")


def axis_names(layer: Any) -> tuple[str, ...]:
    """Return the labels of the axes; the dimensions of an xarray.DataArray if the layer has only napari's labels."""
    level = layer.data[0] if layer.multiscale else layer.data
    return layer_labels(layer, level, tuple(layer.axis_labels))


def has_names(layer: Any) -> bool:
    """Return whether at least one axis of a layer has a name. napari numbers the axes of other layers."""
    return not all(_UNNAMED.fullmatch(name) for name in axis_names(layer))


def is_unlabelled_stack(layer: Any) -> bool:
    """Return whether a layer has three axes or more, and none of them has a name."""
    return layer.ndim > 2 and not has_names(layer)


def axis_letters(layer: Any) -> list[str]:
    """Return the letter of each axis: T, C, Z, Y or X, or an empty string if it is not known.

    The last two axes of a layer without names are Y and X.
    """
    if not has_names(layer):
        return [""] * (layer.ndim - 2) + ["Y", "X"]
    kinds = [axis_kind(name) for name in axis_names(layer)]
    return [kind if kind in set(LETTERS) else "" for kind in kinds]


def coordinates(layer: Any) -> list[int]:
    """Return the axes of a layer in space and time. An axis without a letter is one of them."""
    return [axis for axis, letter in enumerate(axis_letters(layer)) if letter != "C"]


def axes_in_space(layer: Any) -> list[int]:
    """Return the axes of a layer in space. Of a stack without names these are only the last two."""
    letters = axis_letters(layer)
    first = 0 if has_names(layer) else layer.ndim - 2
    return [axis for axis in range(first, layer.ndim) if letters[axis] not in ("T", "C")]


def pixel_sizes(layer: Any) -> list[float]:
    """Return the distance between pixel centres along each axis in space, without the sign of flipped axes."""
    return [abs(float(layer.scale[axis])) for axis in axes_in_space(layer)]


def is_anisotropic(layer: Any) -> bool:
    """Return whether the pixel size differs between the axes in space."""
    axes = axes_in_space(layer)
    same = in_one_unit(pixel_sizes(layer), [unit_symbol(str(layer.units[axis])) for axis in axes])
    sizes = pixel_sizes(layer) if same is None else same[0]
    return len(sizes) > 1 and max(sizes) > (1 + 1e-6) * min(sizes)


def unit_text(unit: Any) -> str:
    """Return the usual symbol of a unit of a layer, for example "µm" or "pixel"."""
    symbol = unit_symbol(str(unit))
    return "pixel" if symbol is None else symbol if symbol in LENGTHS else f"{unit:~P}"


def units_text(units: Sequence[Any]) -> str:
    """Return the common symbol of units, or all symbols if they differ."""
    texts = [unit_text(unit) for unit in units]
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)


def sizes_text(layer: Any, digits: int = 4) -> str:
    """Return the pixel size along each axis in space with its unit, for example "1 × 0.5 × 0.5 µm"."""
    units = [unit_text(layer.units[axis]) for axis in axes_in_space(layer)]
    sizes = [f"{size:.{digits}g}" for size in pixel_sizes(layer)]
    if len(set(units)) > 1:
        return " × ".join(f"{size} {unit}" for size, unit in zip(sizes, units, strict=True))
    return f"{' × '.join(sizes)} {units[0]}" if units else ""


def parse_unit(text: str) -> str:
    """Return the unit of a layer for a typed unit of length.

    Raises
    ------
    InputError
        The text is not a unit of length.

    Examples
    --------
    >>> parse_unit("um"), parse_unit("Nanometers"), parse_unit("px")
    ('µm', 'nm', 'pixel')
    """
    symbol = unit_symbol(text) if text.strip() else ""
    if symbol is None:
        return "pixel"
    if symbol not in LENGTHS:
        try:
            unit = pint.Unit(symbol) if _WORD.fullmatch(symbol) else None
        except pint.PintError:
            unit = None
        if unit is None or dict(unit.dimensionality) != {"[length]": 1}:
            raise InputError(f"“{text.strip()}” is not a unit of length. Choose pixel, nm, µm, mm or another unit.")
    return symbol


class LayerState(NamedTuple):
    """The properties of a layer in the panel, to compare them with later ones."""

    shapes: tuple[tuple[int, ...], ...]
    """Shape of each level."""
    dtype: str
    rgb: bool
    names: tuple[str, ...]
    scale: tuple[float, ...]
    units: tuple[str, ...]


def layer_state(layer: Any) -> LayerState:
    """Return the present state of a layer."""
    levels = list(layer.data) if layer.multiscale else [layer.data]
    return LayerState(
        tuple(tuple(level.shape) for level in levels),
        str(layer.dtype),
        bool(layer.rgb),
        axis_names(layer),
        tuple(layer.scale.tolist()),
        tuple(map(str, layer.units)),
    )
