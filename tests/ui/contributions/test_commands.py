"""Tests of the entries of Layers > Transform > SIREN, chosen in a real viewer's menu, and run as commands."""

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
from napari_siren.layers.outputs import METADATA_KEY, RESULT_KEY
from napari_siren.ui.contributions import commands
from napari_siren.ui.session import SessionState
from napari_siren.ui.widget import SirenWidget

FIT = "SIREN: fit this layer"
UPSCALE = "SIREN: enlarge this layer (upscale, super-resolution)…"
DENOISE, DEBLUR = "SIREN: remove noise (denoise)", "SIREN: remove blur (deblur, deconvolution)"
EVEN = "SIREN: flatten illumination"
BLEND = "SIREN: blend into another layer…"
GRADIENT = "SIREN: gradient magnitude of the fitted field"
LAPLACIAN = "SIREN: Laplacian of the fitted field"


def entries(viewer: Any) -> dict[str, Any]:
    """Return the present entries of Layers > Transform > SIREN."""
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

    assert set(entries(viewer)) == {"SIREN", FIT, UPSCALE, DENOISE, DEBLUR, EVEN, BLEND, GRADIENT, LAPLACIAN}
    assert enabled() == ["SIREN"]
    viewer.add_points(name="dots")
    assert enabled() == ["SIREN"]
    photo(viewer, "photo")
    assert enabled() == ["SIREN", FIT, UPSCALE, DENOISE, DEBLUR, EVEN, BLEND, GRADIENT, LAPLACIAN]


def test_the_panel_opens_once(viewer: Any) -> None:
    for _ in range(2):
        choose(viewer, "SIREN")
        panel_of(viewer)


def test_fit(viewer: Any, qtbot: Any) -> None:
    first, second = photo(viewer, "first"), photo(viewer, "second")
    viewer.layers.selection.active = first
    # The panel is closed. The command opens it and starts the fit in it.
    choose(viewer, FIT)
    panel = panel_of(viewer)
    assert panel.session.job is not None
    wait_for(qtbot, panel, SessionState.IDLE)
    assert [layer.name for layer in viewer.layers] == [
        "first",
        "first [enlarged x2]",
        "first [reconstruction]",
        "first [error]",
        "second",
    ]
    # The command fits the active layer, even one made by a fit, which the panel does not choose by itself.
    viewer.layers.remove(second)
    viewer.layers.selection.active = viewer.layers["first [enlarged x2]"]
    assert panel.source_panel.layer is first
    panel.set_config(tiny())
    choose(viewer, FIT)
    wait_for(qtbot, panel, SessionState.IDLE)
    assert "first [enlarged x2] [error]" in viewer.layers


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
    assert panel.session.job is None
    choose(viewer, UPSCALE)
    wait_for(qtbot, panel, SessionState.IDLE)
    assert panel.session.result.config.name == "fast"
    assert panel.fit_panel.scale == 3
    assert viewer.layers["photo [x3]"].data.shape == (36, 48, 3)
    assert_same_corners(source, viewer.layers["photo [x3]"])


def test_the_questions_of_upscale(viewer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(viewer, "photo")
    panel = open_panel(viewer)
    shown: list[Any] = []

    def accept(dialog: DialogWidget) -> bool:
        # The panel as its parent gives the dialog napari's style, and its place in front of the window.
        assert dialog.native.parent() is panel
        shown.append(dialog.asdict())
        dialog["scale"].value = 1.5
        return True

    monkeypatch.setattr(DialogWidget, "exec", accept)
    started: list[Any] = []
    monkeypatch.setattr(panel, "start", lambda: started.append(panel.requests.request()))
    choose(viewer, UPSCALE)
    assert shown == [{"scale": 2.0, "preset": "upscale"}]
    [request] = started
    assert (request.scale, request.config) == (1.5, FitConfig.preset("upscale"))


def test_even(viewer: Any, qtbot: Any) -> None:
    image = (np.random.default_rng(0).integers(50, 99, (30, 40)) * np.linspace(0.5, 1.5, 40)).astype(np.uint16)
    source = viewer.add_image(image, name="cells", scale=(0.5, 0.5), translate=(3, 4), units=("um", "um"))
    panel, states = open_panel(viewer), []
    # Such a fit may end before the choice has been handled: napari handles events while it draws its progress bar.
    panel.session.changed.connect(lambda: states.append(panel.session.state))
    choose(viewer, EVEN)
    assert SessionState.FITTING in states
    wait_for(qtbot, panel, SessionState.IDLE)
    [even] = viewer.layers[1:]
    assert even.name == "cells, flattened [reconstruction]"
    assert_same_corners(source, even)
    halves = even.data[:, :20].mean() / even.data[:, 20:].mean()
    assert abs(1 - halves) < 0.5 * abs(1 - image[:, :20].mean() / image[:, 20:].mean())
    assert even.metadata[METADATA_KEY]["flattened"]["multiplicative"] is True
    # It is a fit like any other: it can be continued, and rendered at another scale.
    panel.session.go_on(3)
    wait_for(qtbot, panel, SessionState.IDLE)
    panel.session.rescale(2)
    wait_rendered(qtbot, panel)
    assert [layer.name for layer in viewer.layers[1:]] == ["cells, flattened [reconstruction]", "cells, flattened [x2]"]


def test_what_cannot_be_evened_is_told(viewer: Any, qtbot: Any) -> None:
    viewer.add_image(np.full((12, 12), np.nan), name="nothing")
    panel = open_panel(viewer)
    with notified() as errors:
        choose(viewer, EVEN)
        wait_for(qtbot, panel, SessionState.IDLE)
    assert "not finite" in errors[0]
    assert len(viewer.layers) == 1


def test_nan_are_filled_in_by_flattening_and_blending(viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).uniform(1, 2, (20, 24)).astype(np.float32)
    pixels[3, 4] = np.nan
    holes = viewer.add_image(pixels, name="holes", contrast_limits=(1, 2))
    panel = open_panel(viewer)
    panel.source_panel.nan_box.click()
    choose(viewer, EVEN)
    wait_for(qtbot, panel, SessionState.IDLE)
    boat = viewer.add_image(np.ones((6, 6), np.float32), name="boat", translate=(8, 8))
    mask = viewer.add_shapes([[[9, 9], [9, 12], [12, 12], [12, 9]]], name="mask")
    viewer.layers.selection.active = boat
    monkeypatch.setattr(commands, "request_values", lambda *_, **__: {"target": holes, "mask": mask, "mixed": False})
    choose(viewer, BLEND)
    wait_for(qtbot, panel, SessionState.IDLE)
    for name in ("holes, flattened [reconstruction]", "holes, with boat [reconstruction]"):
        assert np.isfinite(viewer.layers[name].data).all()


@pytest.fixture
def scene(viewer: Any) -> Any:
    """A viewer with a picture over a sea, shapes around its middle, and the picture selected."""
    sea = np.full((30, 40, 3), 100, np.uint8)
    boat = np.full((12, 14, 3), 20, np.uint8)
    boat[4:8, 5:9] = 90
    viewer.add_image(sea, rgb=True, name="sea", scale=(2, 2))
    picture = viewer.add_image(boat, rgb=True, name="boat", scale=(2, 2), translate=(20, 40))
    viewer.add_shapes([[[22, 42], [22, 64], [40, 64], [40, 42]]], name="mask")
    viewer.layers.selection.active = picture
    return viewer


def test_blend(scene: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = open_panel(scene)
    answers = {"target": scene.layers["sea"], "mask": scene.layers["mask"], "mixed": False}
    given: list[Any] = [None, answers]
    monkeypatch.setattr(commands, "request_values", lambda *_, **__: given.pop(0))
    choose(scene, BLEND)
    assert panel.session.job is None
    choose(scene, BLEND)
    # Such a fit may end before the choice has been handled.
    assert panel.session.job is not None
    wait_for(qtbot, panel, SessionState.IDLE)
    blended = scene.layers["sea, with boat [reconstruction]"]
    assert len(scene.layers) == 4
    assert_same_corners(scene.layers["sea"], blended)
    fitted = blended.metadata[RESULT_KEY].samples.image
    assert fitted[16, 27] == pytest.approx(170, abs=10)
    assert (fitted[:10] == 100).all()
    assert blended.metadata[METADATA_KEY]["blended"] == {"mode": "source", "at": [10, 20]}


def test_the_questions_of_blend(scene: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = open_panel(scene)
    scene.add_labels(np.ones((30, 40), int), name="all of it", scale=(2, 2))
    scene.layers.selection.active = scene.layers["boat"]
    shown: list[Any] = []

    def accept(dialog: DialogWidget) -> bool:
        assert dialog.native.parent() is panel
        shown.append({name: str(value) for name, value in dialog.asdict().items()})
        dialog["mixed"].value = True
        return True

    monkeypatch.setattr(DialogWidget, "exec", accept)
    choose(scene, BLEND)
    assert shown == [{"target": "sea", "mask": "all of it", "mixed": "False"}]
    wait_for(qtbot, panel, SessionState.IDLE)
    assert scene.layers["sea, with boat [reconstruction]"].metadata[METADATA_KEY]["blended"]["mode"] == "mixed"


def test_what_blend_lacks_is_told(scene: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    panel = open_panel(scene)
    answers = {"target": scene.layers["sea"], "mask": scene.layers["mask"], "mixed": False}
    monkeypatch.setattr(commands, "request_values", lambda *_, **__: answers)
    scene.layers["boat"].translate = (500, 500)
    with notified() as errors:
        choose(scene, BLEND)
    assert "no pixel of layer 'boat' lies over layer 'sea'" in errors[0]
    assert panel.session.state is SessionState.IDLE
    monkeypatch.setattr(commands, "request_values", lambda *_, **__: pytest.fail("no question that has no answer"))
    for gone, said in (("mask", "a Shapes or Labels layer"), ("sea", "Open that image, too")):
        scene.layers.remove(gone)
        scene.layers.selection.active = scene.layers["boat"]
        with notified() as errors:
            choose(scene, BLEND)
        assert said in errors[0]


def test_derivatives(viewer: Any, qtbot: Any) -> None:
    source = photo(viewer, "photo")
    panel = open_panel(viewer)
    with notified() as errors:
        choose(viewer, GRADIENT)
    assert errors == ["this layer has no fit, and derivatives are computed from a fit. Fit this layer first."]
    layers = fit(qtbot, panel)
    # The active layer may be the fitted image, or any layer of the fit.
    choose(viewer, GRADIENT)
    wait_rendered(qtbot, panel)
    viewer.layers.selection.active = layers[1]
    choose(viewer, LAPLACIAN)
    wait_rendered(qtbot, panel)
    assert [role for _, role in roles(viewer)][3:] == ["gradient_magnitude", "laplacian"]
    for layer in viewer.layers[-2:]:
        assert_same_corners(source, layer)
        assert layer.metadata[RESULT_KEY] is layers[0].metadata[RESULT_KEY]
    # This image has not been fitted.
    photo(viewer, "other")
    with notified() as errors:
        choose(viewer, LAPLACIAN)
    assert "Fit this layer first" in errors[0]


def test_derivatives_of_an_opened_model(viewer: Any, qtbot: Any, model_file: Any) -> None:
    [layer] = viewer.open(model_file, plugin="napari-siren")
    choose(viewer, LAPLACIAN)
    wait_rendered(qtbot, panel_of(viewer))
    assert viewer.layers[-1].name == "saved [laplacian]"
    assert_same_corners(layer, viewer.layers[-1])


def run(command: str) -> None:
    """Run a command in the same way as the command palette or a key: without a check of the active layer."""
    get_app_model().commands.execute_command(f"napari-siren.{command}").result()


def test_one_fit_at_a_time(viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "request_values", lambda *_, **__: pytest.fail("no question that has no answer"))
    photo(viewer, "photo")
    panel = open_panel(viewer, max_steps=ENDLESS)
    begin_fit(qtbot, panel)
    steps = list(panel.curve.points[0])
    for command in ("fit", "upscale", "denoise", "deblur", "flatten", "blend", "gradient_magnitude", "laplacian"):
        with notified() as errors:
            run(command)
        assert errors == ["a fit is already running. Wait for its end, or press “Stop and keep” in the panel."]
    assert panel.session.state is SessionState.FITTING
    assert panel.curve.points[0][: len(steps)] == steps
    click(qtbot, panel.run_panel.stop_button)
    wait_for(qtbot, panel, SessionState.IDLE)
    wait_all_ended(qtbot)


def test_without_an_image(viewer: Any) -> None:
    photo(viewer, "photo")
    viewer.add_points(name="dots")
    for command in ("fit", "upscale", "denoise", "deblur", "flatten", "blend"):
        with notified() as errors:
            run(command)
        assert errors == ["no Image layer is selected. Select one in the layer list."]
