"""`ResultLayers`: the layers of one fit in a viewer, from the first preview to the last re-rendering."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from napari_siren.layers.outputs import METADATA_KEY
from napari_siren.layers.reading import Placement
from napari_siren.layers.spec import LayerData, LayerSpec
from napari_siren.ui.logic.previews import Preview, box_slices

_PREVIEW = "reconstruction"


class ResultLayers:
    """The layers of a fit in a viewer, by their roles: reconstruction, upscaled, error.

    Parameters
    ----------
    viewer
        Of napari.
    source
        The layer that is fitted.
    spec
        Its pixels that are.
    layers
        Those that are there already, by their roles.
    """

    def __init__(self, viewer: Any, source: Any, spec: LayerSpec, layers: Mapping[str, Any] | None = None) -> None:
        self.viewer, self.source, self.spec = viewer, source, spec
        self._layers: dict[str, Any] = dict(layers or {})
        # The pixels that previews may be written into, and those of a fit that is gone on with.
        self._own: Any = None
        self._before: Any = None

    def get(self, role: str) -> Any | None:
        """Return the layer of a role, while it is in the viewer."""
        layer = self._layers.get(role)
        return layer if layer is not None and layer in self.viewer.layers else None

    def placed(self) -> LayerSpec:
        """Return the spec where its layers are now, since the user may have moved them."""
        layers = [layer for role in (_PREVIEW, *self._layers) if (layer := self.get(role)) is not None]
        return self.spec.placed_as(layers[0]) if layers else self.spec

    def show_preview(self, preview: Preview) -> None:
        """Show a part of the reconstruction, as it is now."""
        layer = self.get(_PREVIEW)
        if layer is None:
            if _PREVIEW in self._layers:  # deleted while the fit goes on: not wanted
                return
            # Marked as made by a fit at once: it is not to be picked as the next image.
            self._add(_PREVIEW, self.spec.like(preview.data, _PREVIEW, {METADATA_KEY: {"role": _PREVIEW}}))
            self._own = self._layers[_PREVIEW].data
            return
        if layer.data is not self._own:
            # The pixels of a fit that is gone on with are its result's, and are not to be written over.
            self._before = layer.data
            layer.data = self._own = layer.data.copy()
        layer.data[box_slices(preview.box, self.spec)] = np.expand_dims(preview.data, self.spec.held)
        layer.refresh(thumbnail=False, highlight=False, extent=False)

    def show(self, layers: dict[str, LayerData]) -> None:
        """Show what a fit gave, in the layers that are there or else in new ones."""
        self._own = self._before = None
        for role, layer_data in layers.items():
            self.replace(role, layer_data)

    def replace(self, role: str, layer_data: LayerData, displayed: bool = False) -> None:
        """Return the layer of a role other pixels over the same piece of the world; a new layer where there is none.

        Parameters
        ----------
        role
            Of the layer.
        layer_data
            The new pixels, and what goes with them.
        displayed
            Whether the colormap and limits are to change too.
        """
        layer = self.get(role)
        if layer is None:
            self._add(role, layer_data)
            return
        data, meta, _ = layer_data
        # From where the layer is now, since the user may have moved it.
        ratio = [new / old for new, old in zip(data.shape, layer.data.shape, strict=False)][: layer.ndim]
        placement = Placement.of(layer, layer.ndim).resized(ratio)
        layer.data = data
        layer.scale, layer.translate = placement.scale, placement.translate
        layer.metadata = meta["metadata"]
        layer.name = meta["name"]
        if displayed:
            layer.colormap, layer.contrast_limits = meta["colormap"], meta["contrast_limits"]

    def take_back(self) -> None:
        """Take away what a fit that was called off has shown; where it went on from another, that one's comes back."""
        layer = self.get(_PREVIEW)
        if self._before is not None:
            if layer is not None:
                layer.data = self._before
        elif self._own is not None:
            if layer is not None:
                self.viewer.layers.remove(layer)
            self._layers.pop(_PREVIEW, None)
        self._own = self._before = None

    def _add(self, role: str, layer_data: LayerData) -> None:
        data, meta, _ = layer_data
        selected = set(self.viewer.layers.selection)
        self._layers[role] = self.viewer.add_image(data, **meta)
        if not selected and self.source in self.viewer.layers:
            selected = {self.source}
        if selected:
            # Not the new layer: the user may be at work in another one.
            self.viewer.layers.selection = selected
