"""`ExtentBox`: choice of the slices and frames of a stack to fit."""

from __future__ import annotations

from typing import Any, Literal

from qtpy.QtCore import QSignalBlocker

from napari_siren.ui.logic.layer_axes import axis_letters, coordinates
from napari_siren.ui.logic.viewport import shown_axes, shown_plane
from napari_siren.ui.widgets.boxes import NarrowBox

Extent = Literal["slice", "stack", "each"]

# Largest number of axes in space and time that a fit can have.
_MAX_COORDINATES = 3


class ExtentBox(NarrowBox):
    """The choice of an extent: the shown slice, the stack, or all slices or stacks one by one.

    Parameters
    ----------
    viewer
        napari's viewer.
    """

    def __init__(self, viewer: Any) -> None:
        super().__init__(
            "Extent",
            "Fit only the slice that is shown, or the whole stack, in which neighbouring slices help each other. One "
            "by one: every slice, frame or stack is fitted by itself, for example the images of a list.",
        )
        self.viewer = viewer

    @property
    def extent(self) -> Extent:
        """The chosen extent."""
        extent: Extent = self.currentData() or "slice"
        return extent

    def list_extents(self, layer: Any) -> bool:
        """List the extents of a layer, and choose the usual one. Return whether there are several."""
        letters = [] if layer is None else axis_letters(layer)
        in_field = [] if layer is None else coordinates(layer)
        several_stacks = len(in_field) > _MAX_COORDINATES
        entries = "stacks" if several_stacks else "frames" if "T" in letters else "slices"
        with QSignalBlocker(self):
            self.clear()
            self.addItem("This slice", "slice")
            self.addItem("This stack" if several_stacks else "The whole stack", "stack")
            self.addItem(f"All {entries}, one by one", "each")
            # Anything may happen between two frames. And a fit uses the neighbours of a slice only if these are known
            # to be slices.
            self.choose("slice" if ("T" in letters and not several_stacks) or "" in letters else "stack")
        return len(in_field) > 2

    def choose(self, extent: Extent) -> None:
        """Choose an extent."""
        self.setCurrentIndex(self.findData(extent))

    def plane(self, layer: Any, level: int) -> tuple[int | None, ...]:
        """Return the shown index along each axis outside of the extent, and None along the other axes.

        Of slices, frames or stacks one by one, it is the shown one.

        Parameters
        ----------
        layer, level
            The image layer, and its level.
        """
        displayed, position = shown_axes(self.viewer, layer), shown_plane(self.viewer, layer, level)
        in_field = coordinates(layer)
        fitted = [axis for axis in in_field if axis in displayed]
        if self.extent == "stack" or (self.extent == "each" and len(in_field) > _MAX_COORDINATES):
            hidden = [axis for axis in in_field if axis not in displayed]
            room = _MAX_COORDINATES - len(fitted)
            fitted += hidden[len(hidden) - room :] if room < len(hidden) else hidden
        return tuple(position[axis] if axis in in_field and axis not in fitted else None for axis in range(layer.ndim))
