"""What the menus and the command palette do: each opens the panel, if it is not open, and has it do one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import napari
from magicgui.widgets import request_values

from napari_siren.core.config import FitConfig
from napari_siren.errors import InputError
from napari_siren.layers.edits import blend_edit, even_edit
from napari_siren.layers.outputs import RESULT_KEY
from napari_siren.layers.reading import layer_kinds
from napari_siren.ui.background import notify
from napari_siren.ui.logic.viewport import shown_slice
from napari_siren.ui.session import State

if TYPE_CHECKING:
    from napari_siren.core.field.field import Derivative
    from napari_siren.ui.widget import SirenWidget

_SCALES: dict[str, Any] = {
    "annotation": Annotated[float, {"min": 1.0, "max": 8.0, "step": 0.5}],
    "label": "Scale",
    "options": {"value": 2.0, "tooltip": "Output pixels for each pixel, along each axis."},
}
_PRESETS: dict[str, Any] = {
    # Those that make a layer larger.
    "annotation": Literal["upscale", "faithful", "fast"],
    "label": "Preset",
    "options": {"value": "upscale", "tooltip": "upscale is the sharpest, faithful the closest to the image's pixels."},
}
_MIXED: dict[str, Any] = {
    "annotation": bool,
    "label": "Keep the stronger edges of the two",
    "options": {"value": False, "tooltip": "For things with holes, or of glass."},
}


def open_panel(viewer: napari.Viewer) -> SirenWidget:
    """Return the panel of a viewer, opened and shown."""
    dock, panel = viewer.window.add_plugin_dock_widget("napari-siren", "SIREN")
    dock.show()
    dock.raise_()
    return panel


def fit_layer(viewer: napari.Viewer) -> None:
    """Fit the active layer with the settings that the panel shows."""
    panel = _idle_panel(viewer)
    if panel is not None and _pick_active(panel):
        panel.start()


def upscale_layer(viewer: napari.Viewer) -> None:
    """Ask for a scale and a preset, and fit the active layer with them."""
    panel = _idle_panel(viewer)
    if panel is None or not _pick_active(panel):
        return
    values = request_values({"scale": _SCALES, "preset": _PRESETS}, title="Upscale the layer", parent=panel)
    if values is not None:
        panel.set_config(FitConfig.preset(values["preset"]))
        panel.fit_panel.scale_slider.setValue(values["scale"])
        panel.start()


def even_layer(viewer: napari.Viewer) -> None:
    """Even out the illumination of the active layer: of what of it the panel shows."""
    panel = _idle_panel(viewer)
    if panel is not None and _pick_active(panel):
        panel.start(lambda: even_edit(panel.source_panel.source().spec()))


def blend_layer(viewer: napari.Viewer) -> None:
    """Ask into which layer the active one is to be blended, and what of it; do so where it lies."""
    panel = _idle_panel(viewer)
    if panel is None or not _pick_active(panel):
        return
    picture = panel.viewer.layers.selection.active
    targets = [layer for layer in panel.viewer.layers if "Image" in layer_kinds(layer) and layer is not picture]
    masks = [layer for layer in panel.viewer.layers if {"Shapes", "Labels"} & set(layer_kinds(layer))]
    if not (targets and masks):
        lacking = "add a Shapes or Labels layer that marks what of it is put in" if targets else "open that image, too"
        notify(InputError(f"a picture is blended into another image: {lacking}."))
        return
    questions = {
        "target": _choice("Into", targets[::-1], "The image that it is put into, where it lies over it."),
        "mask": _choice("What is marked in", masks[::-1], "The shapes or labels around what is put in."),
        "mixed": _MIXED,
    }
    answers = request_values(questions, title=f"Blend {picture.name}", parent=panel)
    if answers is None:
        return
    target = answers["target"]
    mode: Literal["source", "mixed"] = "mixed" if answers["mixed"] else "source"
    panel.source_panel.pick(target)
    mine, its = (shown_slice(panel.viewer, layer) for layer in (picture, target))
    panel.start(lambda: blend_edit(picture, target, answers["mask"], mine, its, mode))


def add_gradient_magnitude(viewer: napari.Viewer) -> None:
    """Add the gradient magnitude of the active layer's model."""
    _add_derivative(viewer, "gradient_magnitude")


def add_laplacian(viewer: napari.Viewer) -> None:
    """Add the Laplacian of the active layer's model."""
    _add_derivative(viewer, "laplacian")


def _choice(label: str, layers: list[Any], tooltip: str) -> dict[str, Any]:
    choices = [(layer.name, layer) for layer in layers]
    return {"widget_type": "ComboBox", "label": label, "options": {"choices": choices, "tooltip": tooltip}}


def _idle_panel(viewer: napari.Viewer) -> SirenWidget | None:
    """Return the panel, unless it is at a fit already: then say so."""
    panel = open_panel(viewer)
    if panel.session.state is State.IDLE:
        return panel
    notify(InputError("a fit is going on already: wait for its end, or press “Stop and keep” in the panel."))
    return None


def _pick_active(panel: SirenWidget) -> bool:
    """Pick the active layer for the next fit, one that comes from a fit included; say so if it is no image."""
    there = panel.source_panel.pick(panel.viewer.layers.selection.active)
    if not there:
        notify(InputError("select an Image layer in the layer list first: a field is fitted to an image."))
    return there


def _add_derivative(viewer: napari.Viewer, derivative: Derivative) -> None:
    panel = _idle_panel(viewer)
    if panel is None:
        return
    session, layer = panel.session, panel.viewer.layers.selection.active
    if layer is not None and RESULT_KEY in layer.metadata:
        session.adopt(layer)
    elif session.layers is None or session.result is None or session.layers.source is not layer:
        notify(InputError("the derivatives are those of a fitted field: fit this layer first, then ask again."))
        return
    session.show_derivative(derivative)
