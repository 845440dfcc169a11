"""The commands of the menus and of the command palette. Each opens the panel if needed, and starts one action in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import napari
from magicgui.widgets import request_values

from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import InputError
from napari_siren.layers.edits import blend_edit, flatten_edit
from napari_siren.layers.outputs import RESULT_KEY
from napari_siren.layers.reading import layer_kinds
from napari_siren.ui.background import notify
from napari_siren.ui.logic.viewport import shown_slice
from napari_siren.ui.session import SessionState

if TYPE_CHECKING:
    from napari_siren.core.field.field import Derivative
    from napari_siren.ui.widget import SirenWidget

# Question for the scale, for magicgui's `request_values`.
_SCALES: dict[str, Any] = {
    "annotation": Annotated[float, {"min": 1.0, "max": 8.0, "step": 0.5}],
    "label": "Scale",
    "options": {"value": 2.0, "tooltip": "Number of output pixels for each pixel, along each axis."},
}
# Question for the preset.
_PRESETS: dict[str, Any] = {
    # Only the presets for enlarging a layer.
    "annotation": Literal["upscale", "faithful", "fast"],
    "label": "Preset",
    "options": {
        "value": "upscale",
        "tooltip": "upscale gives the sharpest result; faithful is the closest to the image's pixels; fast takes the "
        "least time.",
    },
}
# Question for the mode "mixed" of blending.
_MIXED: dict[str, Any] = {
    "annotation": bool,
    "label": "Keep the stronger edges of the two images",
    "options": {"value": False, "tooltip": "Useful for objects with holes, and for transparent objects."},
}


def open_panel(viewer: napari.Viewer) -> SirenWidget:
    """Open and show the panel of a viewer, and return it."""
    dock, panel = viewer.window.add_plugin_dock_widget("napari-siren", "SIREN")
    dock.show()
    dock.raise_()
    return panel


def fit_layer(viewer: napari.Viewer) -> None:
    """Fit the active layer with the settings of the panel."""
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


def denoise_layer(viewer: napari.Viewer) -> None:
    """Remove the noise of the active layer."""
    _start_purpose(viewer, "denoise")


def deblur_layer(viewer: napari.Viewer) -> None:
    """Remove the blur of the active layer."""
    _start_purpose(viewer, "deblur")


def flatten_layer(viewer: napari.Viewer) -> None:
    """Flatten the illumination of the active layer, in the region and extent of the panel."""
    panel = _idle_panel(viewer)
    if panel is not None and _pick_active(panel):
        panel.start(lambda: flatten_edit(panel.source_panel.source().spec()))


def blend_layer(viewer: napari.Viewer) -> None:
    """Blend a part of the active layer into another layer, at the present position of the two layers.

    A dialog asks for the other layer, and for the Shapes or Labels layer that marks the part.
    """
    panel = _idle_panel(viewer)
    if panel is None or not _pick_active(panel):
        return
    picture = panel.viewer.layers.selection.active
    targets = [layer for layer in panel.viewer.layers if "Image" in layer_kinds(layer) and layer is not picture]
    masks = [layer for layer in panel.viewer.layers if {"Shapes", "Labels"} & set(layer_kinds(layer))]
    if not (targets and masks):
        if targets:
            message = "no part of the picture is marked. Add a Shapes or Labels layer that marks the part to insert."
        else:
            message = "there is no image to blend the picture into. Open that image, too."
        notify(InputError(message))
        return
    questions = {
        "target": _choice("Into", targets[::-1], "The other image. The picture keeps its position over it."),
        "mask": _choice("Marked in", masks[::-1], "The layer with shapes or labels around the part to insert."),
        "mixed": _MIXED,
    }
    answers = request_values(questions, title=f"Blend {picture.name}", parent=panel)
    if answers is None:
        return
    target = answers["target"]
    mode: Literal["source", "mixed"] = "mixed" if answers["mixed"] else "source"
    panel.source_panel.pick(target)
    picture_slice, target_slice = (shown_slice(panel.viewer, layer) for layer in (picture, target))
    fill_nan = panel.source_panel.fill_nan
    panel.start(lambda: blend_edit(picture, target, answers["mask"], picture_slice, target_slice, mode, fill_nan))


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
    """Return the panel if no fit is running, or else show an error and return None."""
    panel = open_panel(viewer)
    if panel.session.state is SessionState.IDLE:
        return panel
    notify(InputError("a fit is already running. Wait for its end, or press “Stop and keep” in the panel."))
    return None


def _start_purpose(viewer: napari.Viewer, preset: str) -> None:
    panel = _idle_panel(viewer)
    if panel is not None and _pick_active(panel):
        panel.set_config(FitConfig.preset(preset))
        panel.start()


def _pick_active(panel: SirenWidget) -> bool:
    """Choose the active layer for the next fit, and return whether this is possible.

    A layer of a fit is possible, too. If the active layer is not an image layer, an error is shown.
    """
    is_image = panel.source_panel.pick(panel.viewer.layers.selection.active)
    if not is_image:
        notify(InputError("no Image layer is selected. Select one in the layer list."))
    return is_image


def _add_derivative(viewer: napari.Viewer, derivative: Derivative) -> None:
    panel = _idle_panel(viewer)
    if panel is None:
        return
    session, layer = panel.session, panel.viewer.layers.selection.active
    if layer is not None and RESULT_KEY in layer.metadata:
        session.adopt(layer)
    elif session.layers is None or session.result is None or session.layers.source is not layer:
        notify(InputError("this layer has no fit, and derivatives are computed from a fit. Fit this layer first."))
        return
    session.show_derivative(derivative)
