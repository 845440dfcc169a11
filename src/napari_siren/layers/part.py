"""`LayerPart`: the part of a layer to fit, with unread pixels. It never imports napari."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import SPATIAL_AXES, Axes
from napari_siren.errors import InputError
from napari_siren.layers.reading import (
    Placement,
    attribute,
    axis_kind,
    check_is_image,
    given_axes,
    is_rgb,
    layer_labels,
    layer_title,
    one_entry_axes,
    read_axes,
    to_array,
)
from napari_siren.layers.region import Region


@dataclass(frozen=True, eq=False)
class LayerPart:
    """A part of a layer: its region, its position and its pixels, which are not read yet.

    Parameters
    ----------
    layer
        The layer.
    data
        Pixels of its level, with colours; they may be lazy.
    rgb
        Whether the last axis of the data is colours.
    placement
        Position of all pixels of the level in the world.
    labels
        Label of each axis, without colours.
    region
        Box of the part, with its mask, and the axes with a fixed index. Axes of one entry are among these.
    """

    layer: Any
    data: Any
    rgb: bool
    placement: Placement
    labels: tuple[str, ...]
    region: Region

    @classmethod
    def from_layer(
        cls, layer: Any, axes: str | None, region: Any, plane: Sequence[int | None] | None, level: int
    ) -> LayerPart:
        """Return the part of a layer for the arguments of `fit_layer`. The errors are those of `LayerSpec.from_layer`.

        The letters of the axes are checked by `letters`.
        """
        check_is_image(layer)
        levels = list(layer.data) if attribute(layer, "multiscale", False) else [layer.data]
        if not (isinstance(level, int | np.integer) and 0 <= level < len(levels)):
            raise InputError(f"{layer_title(layer)} has no level {level!r}. Choose one from 0 to {len(levels) - 1}.")
        lazy = levels[level] if hasattr(levels[level], "shape") else to_array(levels[level], layer)
        whole = tuple(lazy.shape)
        rgb = is_rgb(layer, whole, axes)
        shape = whole[: len(whole) - rgb]
        placement = Placement.from_layer(layer, len(shape))
        if level:
            placement = placement.resized([n / m for n, m in zip(shape, levels[0].shape, strict=False)])
        part = Region.from_layer(region, plane, shape, placement, layer_title(layer))
        labels = layer_labels(layer, lazy, placement.axis_labels)
        part = replace(part, held=tuple(sorted((*part.held, *one_entry_axes(labels, axes, part.shape, part.held)))))
        return cls(layer, lazy, rgb, placement, labels, part)

    def letters(self, axes: str | None) -> Axes:
        """Return the letters of the axes to fit. The parameter and the errors are those of `LayerSpec.from_layer`."""
        whole, held = tuple(self.data.shape), self.region.held
        if axes is None:
            return read_axes(self.layer, self.labels, whole, self.rgb, held)
        return given_axes(axes, whole, held)

    def read(self, fill_nan: bool) -> npt.NDArray[np.generic]:
        """Read the pixels into memory."""
        region, shape = self.region, tuple(self.data.shape[: len(self.region.box)])
        whole = region.shape == shape and not region.held
        return to_array(self.data if whole else self.data[region.slices], self.layer, fill_nan)

    def further_axes(self, one_by_one: Sequence[int] | None = None) -> tuple[int, ...]:
        """Return the positions of the axes whose entries are fitted one by one.

        Parameters
        ----------
        one_by_one
            Axes to choose, or None for those beyond three in space and time: axes with a label other than z, y, x and
            time, then time, then the first ones.

        Raises
        ------
        InputError
            An axis to choose does not exist, has a fixed index, or is channels; or no axis would be left.
        """
        if one_by_one is not None:
            return self._checked_axes(one_by_one)
        kinds = {i: axis_kind(label) for i, label in enumerate(self.labels) if i not in self.region.held}
        coordinates = [i for i, kind in kinds.items() if kind != "C"]
        rank = {i: 2 if kinds[i] in SPATIAL_AXES else 1 if kinds[i] == "T" else 0 for i in coordinates}
        # The order of axes with the same rank is kept.
        ranked = sorted(coordinates, key=rank.__getitem__)
        return tuple(sorted(ranked[: max(0, len(coordinates) - len(SPATIAL_AXES))]))

    def _checked_axes(self, one_by_one: Sequence[int]) -> tuple[int, ...]:
        chosen = sorted(one_by_one)
        if not chosen:
            return ()
        free = [i for i, label in enumerate(self.labels) if i not in self.region.held and axis_kind(label) != "C"]
        # Axes of one entry already have a fixed index.
        single = [i for i in self.region.held if self.data.shape[i] == 1]
        if len(set(chosen)) < len(chosen) or not set(chosen) <= {*free, *single} or set(free) <= set(chosen):
            raise InputError(
                f"one_by_one={tuple(one_by_one)} is invalid. Give positions of axes in space and time that plane does "
                f"not hold fixed, and leave at least one: {layer_title(self.layer)} has {tuple(free)}."
            )
        return tuple(i for i in chosen if i in free)
