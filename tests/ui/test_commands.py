"""The entries of Layers > Transform > SIREN, chosen in a real viewer's menu, and run as commands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from driving import (
    ENDLESS,
    assert_same_corners,
    begin_fit,
    click,
    fit,
    notified,
    open_panel,
    tiny,
    wait_all_ended,
    wait_for,
    wait_rendered,
)
from magicgui.widgets.bases import DialogWidget
from napari._app_model import get_app_model
from napari.layers import Image

from napari_siren import FitConfig
from napari_siren.layers import METADATA_KEY, RESULT_KEY
from napari_siren.ui import commands
from napari_siren.ui.session import State
from napari_siren.ui.widget import SirenWidget

FIT = "SIREN: fit this layer"
UPSCALE = "SIREN: upscale this layer…"
GRADIENT = "SIREN: gradient magnitude of the fitted field"
LAPLACIAN = "SIREN: Laplacian of the fitted field"


def entries(viewer: Any) -> dict[str, Any]:
    """What Layers > Transform > SIREN shows now."""
    menu = viewer.window.layers_menu
    menu.aboutToShow.emit()
    for title in ("Transform", "SIREN"):
        [menu] = [action.menu() for action in menu.actions() if action.text().replace("&", "") == title]
        menu.aboutToShow.emit()
    return {action.text().removesuffix(" (napari-siren)"): action for action in menu.actions() if action.text()}


def choose(viewer: Any, entry: str) -> None:
    action = entries(viewer)[entry]
    assert action.isEnabled()
    action.trigger()


def panel_of(viewer: Any) -> SirenWidget:
    [panel] = [widget for widget in viewer.window.dock_widgets.values() if isinstance(widget, SirenWidget)]
    return panel


def photo(viewer: Any, name: str) -> Image:
    image = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    return viewer.add_image(image, rgb=True, name=name)


def roles(viewer: Any) -> list[tuple[str, str]]:
    return [(layer.name.partition(" [")[0], layer.metadata[METADATA_KEY]["role"]) for layer in viewer.layers[1:]]


def test_the_entries_are_for_images(viewer: Any) -> None:
    def enabled() -> list[str]:
        return [entry for entry, action in entries(viewer).items() if action.isEnabled()]

    assert set(entries(viewer)) == {"SIREN", FIT, UPSCALE, GRADIENT, LAPLACIAN}
    assert enabled() == ["SIREN"]
    viewer.add_points(name="dots")
    assert enabled() == ["SIREN"]
    photo(viewer, "photo")
    assert enabled() == ["SIREN", FIT, UPSCALE, GRADIENT, LAPLACIAN]


def test_the_panel_opens_once(viewer: Any) -> None:
    for _ in range(2):
        choose(viewer, "SIREN")
        panel_of(viewer)


def test_fit(viewer: Any, qtbot: Any) -> None:
    first, second = photo(viewer, "first"), photo(viewer, "second")
    viewer.layers.selection.active = first
    # With the panel closed: it opens, and shows what it does.
    choose(viewer, FIT)
    panel = panel_of(viewer)
    assert panel.session.state is State.FITTING
    click(qtbot, panel.run_panel.stop_button)
    wait_for(qtbot, panel, State.IDLE)
    assert [layer.name for layer in viewer.layers[2:]] == ["first [reconstruction]", "first [x2]", "first [error]"]
    # The active layer, even one that was made by a fit, which the panel does not pick by itself.
    viewer.layers.remove(second)
    viewer.layers.selection.active = viewer.layers["first [x2]"]
    assert panel.source_panel.layer is first
    panel.set_config(tiny())
    choose(viewer, FIT)
    wait_for(qtbot, panel, State.IDLE)
    assert viewer.layers[-1].name == "first [x2] [error]"


def test_upscale(viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = photo(viewer, "photo")
    panel = open_panel(viewer)
    asked: list[Any] = []

    def answer(questions: Any, title: str, parent: Any) -> Any:
        asked.append((title, list(questions)))
        return answers.pop(0)

    answers = [None, {"scale": 3.0, "preset": "fast"}]
    monkeypatch.setattr(commands, "request_values", answer)
    choose(viewer, UPSCALE)
    assert asked == [("Upscale the layer", ["scale", "preset"])]
    assert panel.session.request is None
    choose(viewer, UPSCALE)
    wait_for(qtbot, panel, State.IDLE)
    assert panel.session.result.config.name == "fast"
    assert panel.fit_panel.scale == 3
    assert viewer.layers["photo [x3]"].data.shape == (36, 48, 3)
    assert_same_corners(source, viewer.layers["photo [x3]"])


def test_the_questions_of_upscale(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(viewer, "photo")
    panel = open_panel(viewer)
    shown: list[Any] = []

    def accept(dialog: DialogWidget) -> bool:
        # In the style of napari, and before its window.
        assert dialog.native.parent() is panel
        shown.append(dialog.asdict())
        dialog["scale"].value = 1.5
        return True

    monkeypatch.setattr(DialogWidget, "exec", accept)
    started: list[Any] = []
    monkeypatch.setattr(panel, "start", lambda: started.append(panel.request()))
    choose(viewer, UPSCALE)
    assert shown == [{"scale": 2.0, "preset": "upscale"}]
    [request] = started
    assert (request.scale, request.config) == (1.5, FitConfig.preset("upscale"))


def test_derivatives(viewer: Any, qtbot: Any) -> None:
    source = photo(viewer, "photo")
    panel = open_panel(viewer)
    with notified() as errors:
        choose(viewer, GRADIENT)
    assert errors == ["the derivatives are those of a fitted field: fit this layer first, then ask again."]
    layers = fit(qtbot, panel)
    # Of the image that was fitted, or of any layer that the fit gave.
    choose(viewer, GRADIENT)
    wait_rendered(qtbot, panel)
    viewer.layers.selection.active = layers[1]
    choose(viewer, LAPLACIAN)
    wait_rendered(qtbot, panel)
    assert [role for _, role in roles(viewer)][3:] == ["gradient_magnitude", "laplacian"]
    for layer in viewer.layers[-2:]:
        assert_same_corners(source, layer)
        assert layer.metadata[RESULT_KEY] is layers[0].metadata[RESULT_KEY]
    # Of an image that was not.
    photo(viewer, "other")
    with notified() as errors:
        choose(viewer, LAPLACIAN)
    assert "fit this layer first" in errors[0]


def test_derivatives_of_an_opened_model(viewer: Any, qtbot: Any, model_file: Any) -> None:
    [layer] = viewer.open(model_file, plugin="napari-siren")
    choose(viewer, LAPLACIAN)
    wait_rendered(qtbot, panel_of(viewer))
    assert viewer.layers[-1].name == "saved [laplacian]"
    assert_same_corners(layer, viewer.layers[-1])


def run(command: str) -> None:
    """As by the command palette, or a key, which may not know what is active."""
    get_app_model().commands.execute_command(f"napari-siren.{command}").result()


def test_one_fit_at_a_time(viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "request_values", lambda *_, **__: pytest.fail("no question that has no answer"))
    photo(viewer, "photo")
    panel = open_panel(viewer, max_steps=ENDLESS)
    begin_fit(qtbot, panel)
    steps = list(panel.curve.points[0])
    for command in ("fit", "upscale", "gradient_magnitude", "laplacian"):
        with notified() as errors:
            run(command)
        assert errors == ["a fit is going on already: wait for its end, or press “Stop and keep” in the panel."]
    assert panel.session.state is State.FITTING
    assert panel.curve.points[0][: len(steps)] == steps
    click(qtbot, panel.run_panel.stop_button)
    wait_for(qtbot, panel, State.IDLE)
    wait_all_ended(qtbot)


def test_without_an_image(viewer: Any) -> None:
    photo(viewer, "photo")
    viewer.add_points(name="dots")
    for command in ("fit", "upscale"):
        with notified() as errors:
            run(command)
        assert errors == ["select an Image layer in the layer list first: a field is fitted to an image."]
