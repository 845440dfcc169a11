"""What the menus and the command palette do: each opens the panel, if it is not open, and has it do one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import napari
from magicgui.widgets import request_values

from napari_siren.core.config import FitConfig
from napari_siren.errors import InputError
from napari_siren.layers import RESULT_KEY
from napari_siren.ui.background import notify

if TYPE_CHECKING:
    from napari_siren.core.field import Derivative
    from napari_siren.ui.widget import SirenWidget

_SCALES: dict[str, Any] = {
    "annotation": Annotated[float, {"min": 1.0, "max": 8.0, "step": 0.5}],
    "label": "Scale",
    "options": {"value": 2.0, "tooltip": "Output pixels for each pixel, along each axis."},
}
_PRESETS: dict[str, Any] = {
    "annotation": Literal["upscale", "faithful", "fast"],
    "label": "Preset",
    "options": {"value": "upscale", "tooltip": "upscale is the sharpest, faithful the closest to the image's pixels."},
}


def open_panel(viewer: napari.Viewer) -> SirenWidget:
    """Give the panel of a viewer, opened and shown."""
    dock, panel = viewer.window.add_plugin_dock_widget("napari-siren", "SIREN")
    dock.show()
    return panel


def fit_layer(viewer: napari.Viewer) -> None:
    """Fit the active layer with the settings that the panel shows."""
    open_panel(viewer).start()


def upscale_layer(viewer: napari.Viewer) -> None:
    """Ask for a scale and a preset, and fit the active layer with them."""
    values = request_values({"scale": _SCALES, "preset": _PRESETS}, title="Upscale the layer")
    if values is not None:
        panel = open_panel(viewer)
        panel.set_config(FitConfig.preset(values["preset"]))
        panel.fit_panel.scale_slider.setValue(values["scale"])
        panel.start()


def add_gradient_magnitude(viewer: napari.Viewer) -> None:
    """Add the gradient magnitude of the active layer's model."""
    _add_derivative(viewer, "gradient_magnitude")


def add_laplacian(viewer: napari.Viewer) -> None:
    """Add the Laplacian of the active layer's model."""
    _add_derivative(viewer, "laplacian")


def _add_derivative(viewer: napari.Viewer, derivative: Derivative) -> None:
    panel, layer = open_panel(viewer), viewer.layers.selection.active
    session = panel.session
    if layer is not None and RESULT_KEY in layer.metadata:
        session.adopt(layer)
    elif session.layers is None or session.result is None or session.layers.source is not layer:
        notify(InputError("the derivatives are those of a fitted field: fit this layer first, then ask again."))
        return
    session.show_derivative(derivative)
