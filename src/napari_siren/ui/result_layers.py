"""`ResultLayers`: the layers of one fit in a viewer, from the first preview to the last re-rendering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from napari_siren.layers.outputs import METADATA_KEY
from napari_siren.layers.reading import Placement
from napari_siren.layers.spec import LayerData, LayerSpec
from napari_siren.ui.logic.previews import Preview, box_slices

# Role of the layer with the previews.
_PREVIEW = "reconstruction"
# Roles of the layers with a colour bar.
_MAPS = ("error", "uncertainty", "gradient_magnitude", "laplacian")


class ResultLayers:
    """The layers of a fit in a viewer, by their roles: reconstruction, upscaled, error.

    Parameters
    ----------
    viewer
        napari's viewer.
    source
        The fitted layer.
    spec
        Description of the fitted pixels of `source`.
    layers
        Existing layers of the fit, by their roles.
    keep
        Whether layers of earlier fits with the same names are kept.
    """

    def __init__(
        self, viewer: Any, source: Any, spec: LayerSpec, layers: Mapping[str, Any] | None = None, keep: bool = False
    ) -> None:
        self.viewer, self.source, self.spec = viewer, source, spec
        self._layers: dict[str, Any] = dict(layers or {})
        self._keep = keep
        # The array that previews are written into.
        self._own: Any = None
        # The pixels of the earlier result, if the fit continues one.
        self._before: Any = None
        # The layer of the unfinished result.
        self._draft: Any = None
        # Contrast limits of the layers of entries, by their roles, as they were set here.
        self._limits: dict[str, Any] = {}

    def get(self, role: str) -> Any | None:
        """Return the layer of a role, or None if it is not in the viewer."""
        layer = self._layers.get(role)
        return layer if layer is not None and layer in self.viewer.layers else None

    def placed(self) -> LayerSpec:
        """Return the spec with the present placement of its layers, since the user may have moved them."""
        layers = [layer for role in (_PREVIEW, *self._layers) if (layer := self.get(role)) is not None]
        return self.spec.placed_as(layers[0]) if layers else self.spec

    def show_preview(self, preview: Preview) -> None:
        """Show a preview in the layer of the reconstruction, or in a new one."""
        layer = self.get(_PREVIEW)
        if layer is None:
            if _PREVIEW in self._layers:  # the user has deleted the layer during the fit
                return
            # The layer is marked as made by a fit at once, so that it is not picked as the next image.
            self._add(_PREVIEW, self.spec.like(preview.data, _PREVIEW, {METADATA_KEY: {"role": _PREVIEW}}))
            self._own = self._layers[_PREVIEW].data
            return
        if layer.data is not self._own:
            # The pixels belong to the result that this fit continues: previews must not overwrite them.
            self._before = layer.data
            layer.data = self._own = layer.data.copy()
        layer.data[box_slices(preview.box, self.spec)] = np.expand_dims(preview.data, self.spec.held)
        layer.refresh(thumbnail=False, highlight=False, extent=False)

    def show_draft(self, layer_data: LayerData) -> None:
        """Show the unfinished result, unless the fit continues an earlier one."""
        if self.get("upscaled") is None and "upscaled" not in self._layers:
            self._add("upscaled", layer_data)
            self._draft = self._layers["upscaled"]

    def show(self, layers: dict[str, LayerData]) -> None:
        """Show the layers of a finished fit, in the existing layers or in new ones.

        Layers of an earlier fit of the same image with the same names are removed, unless they are kept.
        """
        self._own = self._before = self._draft = None
        if not self._keep:
            self._remove_earlier([meta["name"] for _, meta, _ in layers.values()])
        for role, layer_data in layers.items():
            self.replace(role, layer_data)
        self._present()

    def show_entries(self, layers: Mapping[str, LayerData], last: bool = False) -> None:
        """Show the layers of the entries so far. The layers grow at their end with each entry.

        Parameters
        ----------
        layers
            LayerDataTuples by their roles.
        last
            Whether no further entries follow.
        """
        if not self._layers and not self._keep:
            self._remove_earlier([meta["name"] for _, meta, _ in layers.values()])
        for role, layer_data in layers.items():
            data, meta, _ = layer_data
            if role not in self._layers:
                self._add(role, layer_data)
            elif (layer := self.get(role)) is not None:
                layer.data, layer.metadata = data, meta["metadata"]
                # Limits that the user has changed stay.
                if list(layer.contrast_limits) == self._limits[role]:
                    layer.contrast_limits = meta["contrast_limits"]
            self._limits[role] = meta.get("contrast_limits")
        if last:
            self._present()

    def replace(self, role: str, layer_data: LayerData, displayed: bool = False) -> None:
        """Replace the pixels of the layer of a role, over the same part of the world, or add a new layer.

        Parameters
        ----------
        role
            Role of the layer.
        layer_data
            LayerDataTuple with the new pixels.
        displayed
            Whether the colormap and the contrast limits change, too.
        """
        layer = self.get(role)
        if layer is None:
            self._add(role, layer_data)
            return
        data, meta, _ = layer_data
        # The present placement of the layer counts, since the user may have moved it.
        ratio = [new / old for new, old in zip(data.shape, layer.data.shape, strict=False)][: layer.ndim]
        placement = Placement.from_layer(layer, layer.ndim).resized(ratio)
        layer.data = data
        layer.scale, layer.translate = placement.scale, placement.translate
        layer.metadata = meta["metadata"]
        layer.name = meta["name"]
        if displayed:
            layer.colormap, layer.contrast_limits = meta["colormap"], meta["contrast_limits"]

    def rollback(self) -> None:
        """Remove the previews of a cancelled fit. If it continued an earlier fit, the earlier pixels are restored."""
        layer = self.get(_PREVIEW)
        if self._before is not None:
            if layer is not None:
                layer.data = self._before
        elif self._own is not None:
            if layer is not None:
                self.viewer.layers.remove(layer)
            self._layers.pop(_PREVIEW, None)
        self._own = self._before = None
        if self._draft is not None:
            self._layers.pop("upscaled", None)
            if self._draft in self.viewer.layers:
                self.viewer.layers.remove(self._draft)
            self._draft = None

    @property
    def deleted(self) -> bool:
        """Whether there were layers, and none of them is in the viewer any more."""
        return bool(self._layers) and not any(layer in self.viewer.layers for layer in self._layers.values())

    def pair(self) -> tuple[Any, Any] | None:
        """Return the original and the result to compare, or None if one of them is not in the viewer."""
        result = self.get("upscaled") or self.get(_PREVIEW)
        original = self.source if self.source in self.viewer.layers else None
        return None if result is None or original is None or result is original else (original, result)

    def _remove_earlier(self, names: Sequence[str]) -> None:
        own = list(self._layers.values())
        for layer in list(self.viewer.layers):
            if layer.name in names and METADATA_KEY in layer.metadata and layer not in own:
                self.viewer.layers.remove(layer)

    def _earlier(self) -> list[Any]:
        """Return the results of earlier fits of the same image."""
        own, begin = list(self._layers.values()), f"{self.spec.name} ["
        return [
            layer
            for layer in self.viewer.layers
            if METADATA_KEY in layer.metadata and layer.name.startswith(begin) and layer not in own
        ]

    def _present(self) -> None:
        """Select the result, and hide the layers that it replaces."""
        result, reconstruction = self.get("upscaled"), self.get(_PREVIEW)
        if result is None:
            return
        if reconstruction is not None:
            reconstruction.visible = False
        if self.source in self.viewer.layers and self.source is not result and _covers(result, self.source):
            self.source.visible = False
        # The user may be at work in another layer. If several images are done, all results are selected in the end.
        selected, own = set(self.viewer.layers.selection), {self.source, *self._earlier(), *self._layers.values()}
        if selected & own or not selected:
            self.viewer.layers.selection = selected - own | {result}

    def _add(self, role: str, layer_data: LayerData) -> None:
        data, meta, _ = layer_data
        selected = set(self.viewer.layers.selection)
        layer = self._layers[role] = self.viewer.add_image(data, **meta)
        if role in _MAPS:
            layer.colorbar.visible = True
        if self.source in self.viewer.layers:
            # Directly above the image and all of its results, so that other channels stay visible.
            above = [self.source, *self._earlier(), *(other for other in self._layers.values() if other is not layer)]
            last = max(self.viewer.layers.index(other) for other in above if other in self.viewer.layers)
            self.viewer.layers.move(self.viewer.layers.index(layer), last + 1)
        if not selected and self.source in self.viewer.layers:
            selected = {self.source}
        if selected:
            # napari has selected the new layer. The user may be at work in another one.
            self.viewer.layers.selection = selected


def _covers(result: Any, source: Any) -> bool:
    """Return whether a result lies over the whole of an image."""
    if result.ndim != source.ndim:
        return False
    sizes = np.abs(np.diff(source.extent.world, axis=0)).max()
    # The centres of the outermost pixels differ by less than a pixel.
    margin = np.abs(source.scale) + 1e-6 * sizes
    return bool((np.abs(result.extent.world - source.extent.world) <= margin).all())
