"""Tests of the panel in a real viewer, used like by a person: fits of every kind of layer, and their results."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import platformdirs
import pytest
from driving import (
    ENDLESS,
    anything_alive,
    assert_same_corners,
    begin_fit,
    click,
    draw_again,
    fit,
    notified,
    open_panel,
    press_close,
    shown_viewer,
    tiny,
    wait_all_ended,
    wait_for,
    wait_rendered,
)
from napari import settings
from napari.components import ViewerModel
from napari.layers import Image
from napari.utils import progress
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_siren import FitConfig
from napari_siren.layers.outputs import METADATA_KEY, RESULT_KEY
from napari_siren.ui.session import SessionState
from napari_siren.ui.widget import SirenWidget
from napari_siren.ui.widgets.setting_editors import Editor

# napari warns of every rotated stack that it shows in slices.
pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")


def noise(*shape: int, dtype: Any = np.uint8, most: int = 255) -> Any:
    return np.random.default_rng(0).integers(0, most, shape).astype(dtype)


def photo(viewer: Any, name: str = "photo") -> Image:
    return viewer.add_image(noise(12, 16, 3), rgb=True, name=name)


def stack(viewer: Any, **more: Any) -> Image:
    return viewer.add_image(
        noise(4, 10, 12, dtype=np.uint16, most=4000),
        name="stack",
        scale=(2, 0.5, 0.25),
        translate=(10, -3, 4),
        units=("um", "um", "um"),
        axis_labels=("z", "y", "x"),
        colormap="magma",
        contrast_limits=(100, 3000),
        **more,
    )


def names(layers: Any) -> list[str]:
    return [layer.name for layer in layers]


def provenance(layer: Image) -> Any:
    return layer.metadata[METADATA_KEY]


def expand(panel: SirenWidget, section: str) -> None:
    panel.sections[section].expand(animate=False)


# ---- every kind of layer ------------------------------------------------------------------------------


def assert_three_layers(viewer: Any, source: Image, layers: list[Image], scale: float = 2) -> None:
    """Check the three layers of a fit of a whole layer."""
    reconstruction, upscaled, error = layers
    assert names(layers) == [f"{source.name} [{label}]" for label in ("reconstruction", f"x{scale:g}", "error")]
    assert viewer.layers.selection == {upscaled}
    # The result replaces the image, if it covers all of it.
    assert [layer.visible for layer in layers] == [False, True, False]
    data = source.data[0] if source.multiscale else source.data
    assert reconstruction.data.dtype == upscaled.data.dtype == data.dtype
    assert reconstruction.data.shape == data.shape
    assert error.data.dtype == np.float32
    for layer in layers:
        assert_same_corners(source, layer)
        assert layer.units == source.units
        assert layer.axis_labels == source.axis_labels
        assert layer.metadata[RESULT_KEY] is reconstruction.metadata[RESULT_KEY]
        json.dumps(provenance(layer), allow_nan=False)
    assert [provenance(layer)["role"] for layer in layers] == ["reconstruction", "upscaled", "error"]
    for layer in layers[:2]:
        assert layer.contrast_limits == source.contrast_limits
        assert layer.colormap == source.colormap
        assert layer.rgb == source.rgb


def test_a_photo(viewer: Any, qtbot: Any) -> None:
    source, panel = photo(viewer), open_panel(viewer)
    layers = fit(qtbot, panel)
    assert_three_layers(viewer, source, layers)
    reconstruction, upscaled, error = layers
    assert upscaled.data.shape == (24, 32, 3)
    assert error.data.shape == (12, 16)
    assert not error.rgb
    wanted = (reconstruction.data.astype(float) - source.data).mean(axis=-1)
    np.testing.assert_allclose(error.data, wanted, rtol=1e-5, atol=1e-5)
    assert provenance(upscaled)["scale"] == [2.0, 2.0]
    assert provenance(upscaled)["history"]["stopped"] == "max_steps"
    assert panel.run_panel.status.text().startswith("Done, 5 steps in")


def test_a_stack(viewer: Any, qtbot: Any) -> None:
    source, panel = stack(viewer), open_panel(viewer)
    layers = fit(qtbot, panel)
    assert_three_layers(viewer, source, layers)
    assert layers[1].data.shape == (8, 20, 24)
    assert layers[0].metadata[RESULT_KEY].field.layout.spacing == (2, 0.5, 0.25)


def test_a_time_series(viewer: Any, qtbot: Any) -> None:
    source = viewer.add_image(noise(5, 10, 12), name="film", axis_labels=("t", "y", "x"), scale=(3, 1, 1))
    panel = open_panel(viewer)
    viewer.dims.set_current_step(0, 3)
    # The default is a single frame.
    assert panel.source_panel.extent_box.currentText() == "This slice"
    frame = fit(qtbot, panel)
    assert [layer.data.shape for layer in frame] == [(1, 10, 12), (1, 20, 24), (1, 10, 12)]
    for layer in frame:
        np.testing.assert_allclose(layer.extent.world[:, 0], [9, 9])
    assert np.array_equal(frame[0].data[0] - frame[2].data[0], source.data[3])

    panel.source_panel.extent_box.setCurrentText("The whole stack")
    whole = fit(qtbot, panel)
    # No frames are added in between.
    assert [layer.data.shape for layer in whole] == [(5, 10, 12), (5, 20, 24), (5, 10, 12)]
    for layer in whole:
        assert_same_corners(source, layer)
    assert panel.source_panel.extent_box.currentText() == "The whole stack"


def test_a_photo_with_alpha(viewer: Any, qtbot: Any) -> None:
    image = noise(12, 16, 4)
    image[..., 3] = 200
    source = viewer.add_image(image, rgb=True, name="cut-out")
    layers = fit(qtbot, open_panel(viewer))
    assert_three_layers(viewer, source, layers)
    assert (layers[0].data[..., 3] == 200).all()
    assert (layers[1].data[..., 3] == 200).all()


def test_a_series_of_stacks(viewer: Any, qtbot: Any) -> None:
    source = viewer.add_image(noise(3, 4, 8, 10), name="4d", axis_labels=("t", "z", "y", "x"), scale=(7, 2, 1, 1))
    panel = open_panel(viewer)
    viewer.dims.set_current_step(0, 1)
    assert panel.source_panel.extent_box.currentText() == "This stack"
    layers = fit(qtbot, panel)
    assert [layer.data.shape for layer in layers] == [(1, 4, 8, 10), (1, 8, 16, 20), (1, 4, 8, 10)]
    np.testing.assert_array_equal(layers[0].data - layers[2].data, source.data[1:2])
    np.testing.assert_allclose(layers[1].extent.world[:, 0], [7, 7])

    panel.source_panel.extent_box.setCurrentText("This slice")
    viewer.dims.set_point(1, 4.0)
    layers = fit(qtbot, panel)
    assert [layer.data.shape for layer in layers] == [(1, 1, 8, 10), (1, 1, 16, 20), (1, 1, 8, 10)]
    np.testing.assert_array_equal(layers[0].data - layers[2].data, source.data[1:2, 2:3])


def test_a_multiscale_layer(viewer: Any, qtbot: Any) -> None:
    large = noise(24, 32)
    source = viewer.add_image([large, large[::2, ::2]], name="pyramid", multiscale=True, scale=(0.5, 0.5))
    panel = open_panel(viewer)
    level_box = panel.source_panel.level_box
    assert [level_box.itemText(i) for i in range(level_box.count())] == ["0: 24 × 32", "1: 12 × 16"]
    assert_three_layers(viewer, source, fit(qtbot, panel))
    level_box.setCurrentIndex(1)
    layers = fit(qtbot, panel)
    assert [layer.data.shape for layer in layers] == [(12, 16), (24, 32), (12, 16)]
    for layer in layers:
        assert_same_corners(source, layer)
    assert level_box.currentIndex() == 1


def test_a_lazy_layer(viewer: Any, qtbot: Any) -> None:
    read = []

    def plane(block_info: Any = None) -> Any:
        read.append(block_info[None]["chunk-location"][0])
        return noise(1, 10, 12)

    lazy = dask.array.map_blocks(plane, chunks=((1,) * 6, 10, 12), dtype=np.uint8)
    source = viewer.add_image(lazy, name="lazy", axis_labels=("z", "y", "x"), contrast_limits=(0, 255))
    panel = open_panel(viewer)
    assert_three_layers(viewer, source, fit(qtbot, panel))
    panel.source_panel.extent_box.setCurrentText("This slice")
    viewer.dims.set_point(0, 4.0)
    wait_all_ended(qtbot)
    read.clear()
    layers = fit(qtbot, panel)
    assert layers[0].data.shape == (1, 10, 12)
    assert set(read) == {4}


def test_dims_in_another_order(viewer: Any, qtbot: Any) -> None:
    source, panel = stack(viewer), open_panel(viewer)
    viewer.dims.order = (2, 0, 1)
    viewer.dims.set_current_step(2, 7)
    assert_three_layers(viewer, source, fit(qtbot, panel))
    # The slice on the canvas is perpendicular to x.
    panel.source_panel.extent_box.setCurrentText("This slice")
    layers = fit(qtbot, panel)
    assert [layer.data.shape for layer in layers] == [(4, 10, 1), (8, 20, 1), (4, 10, 1)]
    np.testing.assert_array_equal(layers[0].data - layers[2].data, source.data[..., 7:8])


def test_turned_and_sheared_layers(viewer: Any, qtbot: Any) -> None:
    source = stack(viewer, rotate=(10, 20, 30), shear=(0.1, 0, 0.2))
    panel = open_panel(viewer)
    assert_three_layers(viewer, source, fit(qtbot, panel))


def test_values_that_are_not_numbers(viewer: Any, qtbot: Any) -> None:
    image = noise(12, 16, dtype=np.float32)
    image[3, 4] = np.nan
    layer, panel = viewer.add_image(image, name="holes", contrast_limits=(0, 255)), open_panel(viewer)
    with notified() as errors:
        click(qtbot, panel.run_panel.fit_button)
        wait_for(qtbot, panel, SessionState.IDLE)
    [message] = errors
    assert "not finite" in message
    assert "region" in message
    assert panel.run_panel.status.text() == message
    assert len(viewer.layers) == 1
    box = panel.source_panel.nan_box
    assert f"Tick “{box.text()}”" in message
    box.click()
    filled = fit(qtbot, panel)
    assert_three_layers(viewer, layer, filled)
    for made in filled:
        assert np.isfinite(made.data).all()
    click(qtbot, panel.result_panel.code_button)
    assert "fill_nan=True" in QApplication.clipboard().text()
    layer.data = np.nan_to_num(image)
    assert not box.isVisibleTo(panel)
    fit(qtbot, panel)
    assert "fill_nan" not in panel.session.code


def test_pixels_that_became_nan_in_place(viewer: Any, qtbot: Any) -> None:
    layer = viewer.add_image(noise(12, 16, dtype=np.float32), name="holes", contrast_limits=(0, 255))
    panel = open_panel(viewer)
    box = panel.source_panel.nan_box
    assert not box.isVisibleTo(panel)
    layer.data[3, 4] = np.nan
    with notified() as errors:
        click(qtbot, panel.run_panel.fit_button)
        wait_for(qtbot, panel, SessionState.IDLE)
    assert box.text() in errors[0]
    box.click()
    assert_three_layers(viewer, layer, fit(qtbot, panel))


# ---- the layer ----------------------------------------------------------------------------------------


def test_the_panel_follows_the_selected_image(viewer: Any, qtbot: Any) -> None:
    first, second = photo(viewer, "first"), photo(viewer, "second")
    panel = open_panel(viewer)
    assert panel.source_panel.layer is second
    viewer.layers.selection = {first}
    assert panel.source_panel.layer is first
    assert names(fit(qtbot, panel))[0] == "first [reconstruction]"
    first.name = "renamed"
    assert panel.source_panel.layer_box.currentText() == "renamed"


def test_other_layers_are_explained(viewer: Any, qtbot: Any) -> None:
    image = photo(viewer)
    panel = open_panel(viewer)
    hint = panel.source_panel.hint
    assert not hint.isVisibleTo(panel)
    for add, kind in ((viewer.add_points, "Points"), (viewer.add_shapes, "Shapes")):
        viewer.layers.selection.active = add(name=f"my {kind}")
        assert hint.isVisibleTo(panel)
        assert hint.text() == f"“my {kind}” is a {kind} layer. Only an Image layer can be fitted."
        assert panel.source_panel.layer is image
        assert panel.run_panel.fit_button.isEnabled()
    viewer.layers.selection.active = image
    assert not hint.isVisibleTo(panel)


def test_without_an_image_there_is_nothing_to_fit(viewer: Any, qtbot: Any) -> None:
    panel = open_panel(viewer)
    assert not panel.run_panel.fit_button.isEnabled()
    viewer.add_points(name="dots")
    assert not panel.run_panel.fit_button.isEnabled()
    layer = photo(viewer)
    assert panel.run_panel.fit_button.isEnabled()
    viewer.layers.remove(layer)
    assert not panel.run_panel.fit_button.isEnabled()
    with notified() as errors:
        panel.start()
    assert "no image layer" in errors[0]


# ---- a running fit ------------------------------------------------------------------------------------


def test_the_picture_changes_while_it_is_learned(viewer: Any, qtbot: Any) -> None:
    source, panel = photo(viewer), open_panel(viewer, max_steps=ENDLESS)
    pictures: list[Any] = []

    def look(update: Any) -> None:
        if update.preview is not None:
            pictures.append(viewer.layers["photo [reconstruction]"].data.copy())

    panel.session.updated.connect(look)
    begin_fit(qtbot, panel, previews=3)
    assert names(viewer.layers) == ["photo", "photo [reconstruction]"]
    assert viewer.layers.selection == {source}
    assert_same_corners(source, viewer.layers[1])
    assert not np.array_equal(pictures[0], pictures[-1])
    assert panel.run_panel.status.text().startswith("Fitting: step ")
    assert panel.run_panel.bar.value() > 0
    assert not panel.source_panel.isEnabled()
    assert not panel.fit_panel.isEnabled()
    steps, losses, _ = panel.curve.points
    assert steps[0] == 1
    assert len(steps) == len(losses) > 3


def test_the_layer_that_is_worked_in_stays_selected(viewer: Any, qtbot: Any) -> None:
    photo(viewer)
    panel = open_panel(viewer, max_steps=ENDLESS)
    begin_fit(qtbot, panel)
    labels = viewer.add_labels(noise(12, 16), name="being painted")
    click(qtbot, panel.run_panel.stop_button)
    wait_for(qtbot, panel, SessionState.IDLE)
    assert len(viewer.layers) == 5
    assert viewer.layers.selection == {labels}


def test_pause_resume_stop_and_keep(viewer: Any, qtbot: Any) -> None:
    photo(viewer)
    panel = open_panel(viewer, max_steps=ENDLESS)
    run = panel.run_panel
    updates: list[Any] = []
    panel.session.updated.connect(updates.append)
    begin_fit(qtbot, panel)
    click(qtbot, run.pause_button)
    qtbot.waitUntil(lambda: updates[-1].paused)
    assert run.pause_button.text() == "Resume"
    assert run.status.text().startswith("Paused at step")
    paused_at = updates[-1].progress.step
    assert panel.session.state is SessionState.PAUSED

    click(qtbot, run.pause_button)
    assert run.pause_button.text() == "Pause"
    qtbot.waitUntil(lambda: updates[-1].progress.step > paused_at)
    # The fit took no step during the pause. Otherwise there would be an update of a pause at that step, too.
    assert [update.progress.step for update in updates if update.paused] == [paused_at]
    click(qtbot, run.stop_button)
    assert not run.stop_button.isEnabled()
    wait_for(qtbot, panel, SessionState.IDLE)
    assert run.status.text().startswith("Stopped and kept, ")
    layers = viewer.layers[1:]
    assert names(layers) == ["photo [reconstruction]", "photo [x2]", "photo [error]"]
    assert {provenance(layer)["history"]["stopped"] for layer in layers} == {"asked"}
    assert provenance(layers[0])["history"]["steps"] > paused_at


def test_stop_while_paused(viewer: Any, qtbot: Any) -> None:
    photo(viewer)
    panel = open_panel(viewer, max_steps=ENDLESS)
    begin_fit(qtbot, panel)
    click(qtbot, panel.run_panel.pause_button)
    click(qtbot, panel.run_panel.stop_button)
    wait_for(qtbot, panel, SessionState.IDLE)
    assert len(viewer.layers) == 4
    wait_all_ended(qtbot)


def test_stop_before_the_first_step(viewer: Any, qtbot: Any) -> None:
    photo(viewer)
    panel = open_panel(viewer, max_steps=ENDLESS)
    click(qtbot, panel.run_panel.fit_button)
    click(qtbot, panel.run_panel.stop_button)
    wait_for(qtbot, panel, SessionState.IDLE)
    assert len(viewer.layers) == 4
    assert panel.session.result.history.stopped == "asked"


def test_continue_adds_steps_to_the_same_layers(viewer: Any, qtbot: Any) -> None:
    source, panel = photo(viewer), open_panel(viewer)
    layers = fit(qtbot, panel)
    first = panel.session.result
    before, kept = [layer.data for layer in layers], [layer.data.copy() for layer in layers]
    box = panel.run_panel.more_box
    box.setFocus()
    box.selectAll()
    qtbot.keyClicks(box, "30")
    qtbot.keyClick(box, Qt.Key.Key_Return)
    assert box.value() == 30
    click(qtbot, panel.run_panel.continue_button)
    wait_for(qtbot, panel, SessionState.IDLE)
    assert list(viewer.layers) == [source, *layers]
    assert panel.session.result.history.step[-1] == 35
    assert {provenance(layer)["history"]["steps"] for layer in layers} == {35}
    assert panel.curve.points[0][-1] == 35
    for layer, data in zip(layers, kept, strict=True):
        assert not np.array_equal(layer.data, data)
    # The earlier fit still has its own pixels.
    for data, copy in zip(before, kept, strict=True):
        np.testing.assert_array_equal(data, copy)
    assert first.history.step[-1] == 5


def test_a_continued_fit_that_is_called_off_leaves_the_first(viewer: Any, qtbot: Any) -> None:
    photo(viewer)
    panel = open_panel(viewer)
    layers = fit(qtbot, panel)
    kept = layers[0].data.copy()
    panel.run_panel.more_box.setValue(ENDLESS)
    seen: list[Any] = []
    panel.session.updated.connect(seen.append)
    click(qtbot, panel.run_panel.continue_button)
    qtbot.waitUntil(lambda: not np.array_equal(layers[0].data, kept))
    # napari does the same with the workers of a window that it closes.
    panel.session._worker.quit()
    wait_for(qtbot, panel, SessionState.IDLE)
    assert names(viewer.layers[1:]) == names(layers)
    np.testing.assert_array_equal(layers[0].data, kept)
    assert panel.session.result is layers[0].metadata[RESULT_KEY]
    assert panel.run_panel.continue_button.isEnabled()


# ---- results ------------------------------------------------------------------------------------------


def test_the_scale_is_rendered_anew_without_a_fit(viewer: Any, qtbot: Any) -> None:
    source, panel = stack(viewer), open_panel(viewer)
    layers = fit(qtbot, panel)
    upscaled = layers[1]
    slider, pixel_box = panel.fit_panel.scale_slider, panel.fit_panel.pixel_box
    assert pixel_box.value() == 0.125
    assert pixel_box.suffix() == " µm"
    # The scale is that of the next fit, until the result is drawn again. Only the last of several requests counts.
    slider.setValue(3)
    wait_rendered(qtbot, panel)
    assert upscaled.data.shape == (8, 20, 24)
    for scale in (1.5, 3, 2.5):
        draw_again(panel, scale)
    wait_rendered(qtbot, panel)
    assert upscaled.data.shape == (10, 25, 30)
    assert upscaled.name == "stack [x2.5]"
    assert provenance(upscaled)["scale"] == [2.5, 2.5, 2.5]
    assert_same_corners(source, upscaled)
    result = panel.session.result
    np.testing.assert_array_equal(upscaled.data, result.render(shape=(10, 25, 30)))

    pixel_box.setFocus()
    pixel_box.selectAll()
    qtbot.keyClicks(pixel_box, "0.0625")
    qtbot.keyClick(pixel_box, Qt.Key.Key_Return)
    assert slider.value() == 4
    draw_again(panel)
    wait_rendered(qtbot, panel)
    assert upscaled.data.shape == (16, 40, 48)
    assert_same_corners(source, upscaled)
    assert list(viewer.layers) == [source, *layers]
    assert panel.session.result is result
    assert viewer.layers.selection == {upscaled}


def test_cubic_voxels(viewer: Any, qtbot: Any) -> None:
    image = np.random.default_rng(0).integers(0, 999, (4, 10, 12), dtype=np.uint16)
    about = {"scale": (1, 0.25, 0.25), "translate": (5, 1, 2), "units": ("um",) * 3, "axis_labels": ("z", "y", "x")}
    source = viewer.add_image(image, name="stack", **about)
    panel = open_panel(viewer)
    box = panel.fit_panel.isotropic_box
    assert box.isVisibleTo(panel)
    panel.fit_panel.scale_slider.setValue(1)
    box.setChecked(True)
    assert "scale=(4.0, 1.0, 1.0)" in panel.requests.code()
    upscaled = fit(qtbot, panel)[1]
    assert upscaled.data.shape == (16, 10, 12)
    assert_same_corners(source, upscaled)
    np.testing.assert_allclose(upscaled.scale, 0.25)
    box.setChecked(False)
    draw_again(panel)
    wait_rendered(qtbot, panel)
    assert upscaled.data.shape == image.shape
    # For an image with square pixels the choice is hidden.
    photo(viewer)
    assert not box.isVisibleTo(panel)


def test_the_code_has_the_call_that_makes_the_psf(viewer: Any) -> None:
    viewer.add_image(np.zeros((12, 16)), name="cells", scale=(0.1, 0.1), units=("um", "um"))
    panel = open_panel(viewer)
    panel.set_config(FitConfig.preset("deblur"))
    panel.blur_panel.use_objective(1.2, 1.33, 520)
    code = panel.requests.code()
    assert "    psf=ns.psf_from_objective([100.0, 100.0], numerical_aperture=1.2, " in code
    assert len(code) < 1000


def test_a_burst_lies_over_all_frames(viewer: Any, qtbot: Any) -> None:
    scene = np.random.default_rng(0).normal(size=(40, 44)).cumsum(0).cumsum(1)
    frames = np.stack([scene[k : k + 32, :36].reshape(16, 2, 18, 2).mean((1, 3)) for k in (0, 1, 3)])
    source = viewer.add_image(frames, name="burst", scale=(9, 0.5, 0.5), axis_labels=("t", "y", "x"))
    panel = open_panel(viewer)
    panel.set_config(FitConfig.preset("burst", task_steps=20, max_steps=9))
    assert panel.source_panel.extent_box.currentText() == "The whole stack"
    panel.source_panel.extent_box.setCurrentText("This slice")
    # A single slice has no frames to combine.
    with notified() as errors:
        click(qtbot, panel.run_panel.fit_button)
        wait_for(qtbot, panel, SessionState.IDLE)
        wait_all_ended(qtbot)
    assert errors[0].startswith("“burst” has no frames of a time series here.")
    panel.source_panel.extent_box.setCurrentText("The whole stack")
    before = list(viewer.layers)
    fit(qtbot, panel)
    layers = [layer for layer in viewer.layers if layer not in before]
    assert [layer.data.shape for layer in layers] == [(1, 16, 18), (1, 32, 36), (1, 16, 18)]
    assert_same_corners(source, layers[1])
    assert len(panel.session.result.provenance["drifts"]) == 3


def test_a_layer_that_was_moved_stays_where_it_is(viewer: Any, qtbot: Any) -> None:
    photo(viewer)
    panel = open_panel(viewer)
    upscaled = fit(qtbot, panel)[1]
    upscaled.translate = np.add(upscaled.translate, [100, 50])
    before = upscaled.extent.world + np.array([-0.5, 0.5])[:, None] * upscaled.scale
    draw_again(panel, 3)
    wait_rendered(qtbot, panel)
    assert upscaled.data.shape == (36, 48, 3)
    np.testing.assert_allclose(upscaled.extent.world + np.array([-0.5, 0.5])[:, None] * upscaled.scale, before)


def test_an_upscaled_layer_that_was_deleted_comes_back(viewer: Any, qtbot: Any) -> None:
    source, panel = photo(viewer), open_panel(viewer)
    viewer.layers.remove(fit(qtbot, panel)[1])
    draw_again(panel, 4)
    wait_rendered(qtbot, panel)
    assert names(viewer.layers) == ["photo", "photo [reconstruction]", "photo [error]", "photo [x4]"]
    assert_same_corners(source, viewer.layers["photo [x4]"])


def test_the_error_signed_or_absolute(viewer: Any, qtbot: Any) -> None:
    photo(viewer)
    panel = open_panel(viewer)
    error = fit(qtbot, panel)[2]
    signed = error.data
    assert (error.colormap.name, error.contrast_limits[0]) == ("PiYG", -error.contrast_limits[1])
    panel.result_panel.error_box.setCurrentText("absolute")
    wait_rendered(qtbot, panel)
    assert (error.name, error.colormap.name, error.contrast_limits[0]) == ("photo [absolute error]", "magma", 0)
    assert (error.data >= 0).all()
    panel.result_panel.error_box.setCurrentText("signed")
    wait_rendered(qtbot, panel)
    np.testing.assert_array_equal(error.data, signed)
    assert len(viewer.layers) == 4


def test_uncertainty(viewer: Any, qtbot: Any) -> None:
    source, panel = stack(viewer), open_panel(viewer)
    expand(panel, "results")
    fit(qtbot, panel)
    click(qtbot, panel.result_panel.uncertainty_button)
    wait_rendered(qtbot, panel)
    layer = viewer.layers[-1]
    [upscaled] = [other for other in viewer.layers if other.name.endswith("[x2]")]
    assert layer.name == "stack [uncertainty x2]"
    assert layer.colorbar.visible
    assert panel.run_panel.status.text().startswith("Expected error of the result: typically ")
    assert layer.data.shape == upscaled.data.shape
    assert (layer.data > 0).any()
    assert_same_corners(source, layer)


def test_uncertainty_can_be_cancelled(viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(spec: Any, result: Any, scale: Any, report: Any) -> Any:
        while True:
            report(0.25)
            time.sleep(0.001)

    monkeypatch.setattr("napari_siren.ui.session.uncertainty_layer", endless)
    stack(viewer)
    panel = open_panel(viewer)
    expand(panel, "results")
    fit(qtbot, panel)
    run, before = panel.run_panel, list(viewer.layers)
    assert not run.stop_button.isEnabled()
    click(qtbot, panel.result_panel.uncertainty_button)
    qtbot.waitUntil(lambda: run.stop_button.text() == "Cancel" and run.bar.value() == 25)
    assert run.status.text().startswith("Estimating the errors: 25%; about ")
    assert not panel.result_panel.uncertainty_button.isEnabled()
    [bar] = progress._all_instances
    assert (bar.desc, bar.n) == ("SIREN: uncertainty", 25)
    click(qtbot, run.stop_button)
    wait_rendered(qtbot, panel)
    assert run.status.text() == "Cancelled. The result is unchanged."
    assert (run.stop_button.text(), run.stop_button.isEnabled()) == ("Stop and keep", False)
    assert panel.result_panel.uncertainty_button.isEnabled()
    assert list(viewer.layers) == before
    assert not progress._all_instances


def test_several_layers_in_one_go(viewer: Any, qtbot: Any) -> None:
    sources = [photo(viewer, name) for name in ("first", "second", "third")]
    panel = open_panel(viewer)
    viewer.layers.selection = set(sources)
    assert panel.run_panel.fit_button.text().endswith(": 3 layers")
    assert panel.source_panel.hint.text().startswith("3 images are selected.")
    texts: list[str] = []
    panel.session.message.connect(texts.append)
    layers = fit(qtbot, panel)
    assert [sum(layer.name.startswith(source.name) for layer in layers) for source in sources] == [3, 3, 3]
    assert {layer.name for layer in viewer.layers.selection} == {f"{source.name} [x2]" for source in sources}
    for number in (1, 2, 3):
        assert any(text.startswith(f"{number} of 3. ") for text in texts)
    assert panel.session.layers is not None
    assert panel.session.layers.source is sources[2]


def test_several_layers_are_stopped_at_once(viewer: Any, qtbot: Any) -> None:
    sources = [photo(viewer, name) for name in ("first", "second")]
    panel = open_panel(viewer, max_steps=ENDLESS)
    viewer.layers.selection = set(sources)
    begin_fit(qtbot, panel)
    click(qtbot, panel.run_panel.stop_button)
    wait_for(qtbot, panel, SessionState.IDLE)
    assert len(viewer.layers) == 5


def test_earlier_results_are_kept_on_request(viewer: Any, qtbot: Any) -> None:
    photo(viewer)
    panel = open_panel(viewer)
    expand(panel, "results")
    fit(qtbot, panel)
    fit(qtbot, panel)
    assert len(viewer.layers) == 4
    panel.result_panel.keep_box.setChecked(True)
    fit(qtbot, panel)
    assert len(viewer.layers) == 7


def test_a_result_has_its_own_code_and_goes_on_when_it_is_selected(viewer: Any, qtbot: Any) -> None:
    first, second = photo(viewer, "first"), photo(viewer, "second")
    panel = open_panel(viewer)
    expand(panel, "results")
    viewer.layers.selection = {first}
    results = fit(qtbot, panel)
    viewer.layers.selection = {second}
    panel.set_config(tiny(max_steps=7))
    fit(qtbot, panel)
    click(qtbot, panel.result_panel.code_button)
    assert 'viewer.layers["second"]' in QApplication.clipboard().text()
    viewer.layers.selection = {results[1]}
    assert panel.result_panel.name.text() == "first [x2], made just now"
    click(qtbot, panel.result_panel.code_button)
    code = QApplication.clipboard().text()
    assert 'viewer.layers["first"]' in code
    assert "max_steps=5" in code
    before = results[0].data.copy()
    panel.run_panel.more_box.setValue(3)
    click(qtbot, panel.run_panel.continue_button)
    wait_for(qtbot, panel, SessionState.IDLE)
    assert panel.session.result.history.step[-1] == 8
    assert (results[0].data != before).any()


def test_derivatives(viewer: Any, qtbot: Any) -> None:
    source, panel = stack(viewer), open_panel(viewer)
    expand(panel, "results")
    fit(qtbot, panel)
    click(qtbot, panel.result_panel.gradient_button)
    wait_rendered(qtbot, panel)
    click(qtbot, panel.result_panel.laplacian_button)
    wait_rendered(qtbot, panel)
    gradient, laplacian = viewer.layers[-2:]
    assert names([gradient, laplacian]) == ["stack [gradient magnitude x2]", "stack [laplacian x2]"]
    result = panel.session.result
    np.testing.assert_array_equal(gradient.data, result.render(2, derivative="gradient_magnitude"))
    np.testing.assert_array_equal(laplacian.data, result.render(2, derivative="laplacian"))
    for layer in (gradient, laplacian):
        assert layer.visible
        assert_same_corners(source, layer)
        assert layer.units == source.units
    # A second click renders the same layer again.
    click(qtbot, panel.result_panel.laplacian_button)
    wait_rendered(qtbot, panel)
    assert len(viewer.layers) == 6
    assert viewer.layers.selection == {viewer.layers["stack [x2]"]}


def test_a_model_that_is_opened_is_taken_up(viewer: Any, qtbot: Any, model_file: Path) -> None:
    panel = open_panel(viewer)
    expand(panel, "results")
    results = panel.result_panel
    assert not results.gradient_button.isEnabled()
    [layer] = viewer.open(model_file, plugin="napari-siren")
    assert results.gradient_button.isEnabled()
    assert results.model_button.isEnabled()
    assert not panel.run_panel.continue_button.isEnabled()
    assert "Model of saved" in panel.run_panel.status.text()
    assert panel.curve.points[0] == layer.metadata[RESULT_KEY].history.step
    layer.translate = (100, 200)
    draw_again(panel, 3)
    wait_rendered(qtbot, panel)
    assert list(viewer.layers) == [layer]
    assert layer.data.shape == (72, 96, 3)
    np.testing.assert_allclose(layer.data_to_world((-0.5, -0.5)), (99, 198.5))
    assert layer.name == "saved [x3]"
    viewer.layers.selection.active = layer
    click(qtbot, results.gradient_button)
    wait_rendered(qtbot, panel)
    assert_same_corners(layer, viewer.layers[-1])
    # An opened model has no image for a comparison. The choice then shows no error map and no error message.
    with notified() as errors:
        results.error_box.setCurrentText("absolute")
        wait_rendered(qtbot, panel)
    assert not errors
    assert len(viewer.layers) == 2


def test_a_model_that_is_there_already_is_taken_up(viewer: Any, qtbot: Any, model_file: Path) -> None:
    viewer.open(model_file, plugin="napari-siren")
    panel = open_panel(viewer)
    assert panel.result_panel.model_button.isEnabled()
    assert panel.curve.points[0] == panel.session.result.history.step


def test_an_earlier_fit_is_taken_up_with_all_its_layers(viewer: Any, qtbot: Any) -> None:
    first, panel = photo(viewer, "first"), open_panel(viewer)
    old = fit(qtbot, panel)
    photo(viewer, "second")
    panel.set_config(tiny(max_steps=8))
    fit(qtbot, panel)
    assert panel.curve.points[0] == list(range(1, 9))
    viewer.layers.selection.active = old[0]
    assert panel.session.result is old[0].metadata[RESULT_KEY]
    assert panel.curve.points[0] == list(range(1, 6))
    draw_again(panel, 3)
    panel.result_panel.error_box.setCurrentText("absolute")
    wait_rendered(qtbot, panel)
    assert len(viewer.layers) == 8
    assert names(old) == ["first [reconstruction]", "first [x3]", "first [absolute error]"]
    assert_same_corners(first, old[1])
    # The next fit is of the chosen image, not of the selected layer, which a fit has made.
    assert panel.source_panel.layer.name == "second"


# ---- regions ------------------------------------------------------------------------------------------


def choose_region(panel: SirenWidget, text: str) -> None:
    box = panel.source_panel.region_box
    assert box.findText(text) >= 0, [box.itemText(i) for i in range(box.count())]
    box.setCurrentText(text)


def assert_is_part(source: Image, layers: list[Image], box: tuple[slice, ...]) -> None:
    """Check the pixels and the position of layers of a box of the source."""
    part = source.data[box]
    assert [layer.data.shape for layer in layers[::2]] == [part.shape] * 2
    first = [edge.start - 0.5 for edge in box]
    last = [edge.stop - 0.5 for edge in box]
    for layer in layers:
        np.testing.assert_allclose(layer.data_to_world([-0.5] * layer.ndim), source.data_to_world(first))
        end = np.array(layer.data.shape[: layer.ndim]) - 0.5
        np.testing.assert_allclose(layer.data_to_world(end), source.data_to_world(last))


def test_a_rectangle_of_a_shapes_layer(viewer: Any, qtbot: Any) -> None:
    source = viewer.add_image(noise(20, 24), name="plain", scale=(0.5, 2), translate=(7, 9))
    panel = open_panel(viewer)
    corners = np.array([[3.6, 4.6], [3.6, 15.4], [11.4, 15.4], [11.4, 4.6]])
    marks = viewer.add_shapes([corners * (0.5, 2) + (7, 9)], shape_type="rectangle", name="here")
    choose_region(panel, "Shapes: here")
    layers = fit(qtbot, panel)
    assert_is_part(source, layers, np.s_[4:12, 5:16])
    np.testing.assert_array_equal(layers[0].data - layers[2].data, source.data[4:12, 5:16])
    marks.data = []
    with notified() as errors:
        click(qtbot, panel.run_panel.fit_button)
    assert "has no rectangle" in errors[0]
    viewer.layers.remove(marks)
    assert panel.source_panel.region_box.currentText() == "The whole image"


def test_what_is_labelled(viewer: Any, qtbot: Any) -> None:
    source, panel = stack(viewer), open_panel(viewer)
    labels = np.zeros((4, 10, 12), np.uint8)
    labels[1:3, 2:8, 3:9] = 1
    labels[1, 2:4, 3:5] = 0
    marks = viewer.add_labels(labels, scale=source.scale, translate=source.translate, units=source.units, name="cell")
    choose_region(panel, "Labels: cell")
    layers = fit(qtbot, panel)
    assert_is_part(source, layers, np.s_[1:3, 2:8, 3:9])
    inside = marks.data[1:3, 2:8, 3:9] != 0
    assert not layers[0].data[~inside].any()
    np.testing.assert_array_equal((layers[0].data - layers[2].data)[inside], source.data[1:3, 2:8, 3:9][inside])


def test_what_is_in_view(make_napari_viewer: Callable[..., Any], qtbot: Any) -> None:
    viewer = shown_viewer(qtbot, make_napari_viewer)
    source = viewer.add_image(noise(40, 60), name="large", scale=(2, 2))
    panel = open_panel(viewer)
    qtbot.waitUntil(panel.isVisible)
    choose_region(panel, "What is in view")
    viewer.scene.camera.center = (40, 60)
    viewer.scene.camera.zoom = 40
    sizes: list[Any] = []
    panel.session.changed.connect(lambda: sizes.append(viewer.canvas.size))
    layers = fit(qtbot, panel)
    # This is the size of the canvas at the start of the fit. The dock makes it smaller once Qt has laid it out.
    high, wide = np.array(sizes[0]) / 40
    box = tuple(
        slice(int(np.floor((centre - side / 2) / 2 + 0.5)), int(np.ceil((centre + side / 2) / 2 + 0.5)))
        for centre, side in ((40, high), (60, wide))
    )
    assert box[0].start > 0
    assert_is_part(source, layers, box)
    np.testing.assert_array_equal(layers[0].data - layers[2].data, source.data[box])
    shown: dict[str, Any] = {}
    exec(copied(qtbot, panel), shown)
    np.testing.assert_array_equal(shown["fitted"].layer_data[0][0], layers[0].data)


# ---- settings -----------------------------------------------------------------------------------------


def editor(panel: SirenWidget, name: str) -> Editor:
    return panel.settings_form.findChild(Editor, name)


def type_number(qtbot: Any, box: Any, text: str) -> None:
    box.setFocus()
    box.selectAll()
    qtbot.keyClicks(box, text)
    qtbot.keyClick(box, Qt.Key.Key_Return)


def test_what_is_set_is_what_is_fitted(viewer: Any, qtbot: Any) -> None:
    photo(viewer)
    panel = open_panel(viewer)
    expand(panel, "settings")
    panel.fit_panel.preset_box.setCurrentText("upscale")
    for name, text in (("hidden_features", "5"), ("hidden_layers", "1"), ("max_steps", "3"), ("overlap", "1.5")):
        type_number(qtbot, editor(panel, name).number, text)
    editor(panel, "engine").combo.setCurrentText("torch")
    editor(panel, "standardise").box.click()
    type_number(qtbot, panel.settings_panel.seed_box, "77")
    devices = panel.fit_panel.device_box
    qtbot.waitUntil(lambda: devices.findText("cpu") >= 0)
    devices.setCurrentText("cpu")
    fit(qtbot, panel)
    result = panel.session.result
    assert result.config == FitConfig.preset(
        "upscale", hidden_features=5, hidden_layers=1, max_steps=3, overlap=1.5, engine="torch", standardise=False
    )
    assert result.provenance["seed"] == 77
    assert panel.session.job.request.device == "cpu"
    assert provenance(viewer.layers[-1])["config"] == result.config.model_dump(mode="json")


def test_settings_that_do_not_go_together(viewer: Any, qtbot: Any) -> None:
    photo(viewer)
    panel = open_panel(viewer)
    expand(panel, "settings")
    tv = editor(panel, "total_variation")
    tv.combo.setCurrentText("value")
    type_number(qtbot, tv.number, "0.1")
    with notified() as errors:
        click(qtbot, panel.run_panel.fit_button)
    assert errors == [panel.run_panel.status.text()]
    assert 'observation="box"' in errors[0]
    assert panel.session.state is SessionState.IDLE
    assert len(viewer.layers) == 1
    editor(panel, "observation").combo.setCurrentText("box")
    assert fit(qtbot, panel)


def reopened(viewer: Any, panel: SirenWidget, qtbot: Any) -> SirenWidget:
    """Close the panel by its x, open a new one, and return it."""
    click(qtbot, panel.parent().title.close_button)
    _, again = viewer.window.add_plugin_dock_widget("napari-siren", "SIREN")
    assert again is not panel
    return again


def test_settings_are_remembered(viewer: Any, qtbot: Any) -> None:
    photo(viewer)
    panel = open_panel(viewer)
    panel.fit_panel.scale_slider.setValue(3.5)
    panel.result_panel.error_box.setCurrentText("absolute")
    panel.fit_panel.recall_device("cpu")
    expand(panel, "results")
    panel.sections["curve"].collapse(animate=False)
    fit(qtbot, panel)
    again = reopened(viewer, panel, qtbot)
    assert again.settings_form.config() == tiny()
    assert again.fit_panel.preset_box.currentText() == "fast"
    assert (again.fit_panel.scale, again.fit_panel.device) == (3.5, "cpu")
    assert again.result_panel.error_kind == "absolute"
    assert {name: section.isExpanded() for name, section in again.sections.items()} == {
        "settings": False,
        "curve": False,
        "results": True,
    }
    # A new choice in the preferences takes precedence over the last session.
    settings.get_plugin_settings("napari-siren").fitting.preset = "deblur"
    again = reopened(viewer, again, qtbot)
    assert again.settings_form.config() == FitConfig.preset("deblur")
    assert again.fit_panel.scale == 3.5


GOOD = {
    "preferences": ["upscale", "auto"],
    "preset": "fast",
    "settings": {"max_steps": 7},
    "scale": 3,
    "device": "cpu",
    "error": "absolute",
    "sections": {"settings": True, "curve": True, "results": True},
}


DAMAGED = [
    "{",
    "[1, 2]",
    json.dumps(GOOD | {"settings": {"max_stepz": 3}}),
    json.dumps(GOOD | {"settings": {"max_steps": -3}}),
    json.dumps(GOOD | {"settings": ["max_steps"]}),
    json.dumps(GOOD | {"preset": ["fast"]}),
    json.dumps(GOOD | {"scale": float("inf")}),
    json.dumps(GOOD | {"scale": float("nan")}),
    json.dumps(GOOD | {"scale": None}),
    json.dumps(GOOD | {"device": {}}),
    json.dumps(GOOD | {"error": 5}),
    json.dumps(GOOD | {"error": "squared"}),
    json.dumps(GOOD | {"sections": [True]}),
    json.dumps(GOOD | {"preferences": 3}),
]


def test_a_damaged_memory_does_no_harm(qtbot: Any) -> None:
    path = platformdirs.user_config_path("napari-siren") / "last-session.json"
    path.parent.mkdir(parents=True)
    model = ViewerModel()
    model.add_layer(Image(noise(8, 8)))
    for content in (json.dumps(GOOD), *DAMAGED):
        path.write_text(content)
        panel = SirenWidget(model)
        qtbot.addWidget(panel)
        request = panel.requests.request()
        assert 1 <= request.scale <= 8, content
        assert request.error in ("signed", "absolute"), content
        if content not in DAMAGED:
            assert (request.config.max_steps, request.scale, request.device) == (7, 3, "cpu")
    wait_all_ended(qtbot)


def test_the_preferences_are_used(viewer: Any, qtbot: Any) -> None:
    chosen = settings.get_plugin_settings("napari-siren")
    chosen.fitting.preset, chosen.fitting.device, chosen.display.preview_rate = "upscale", "cpu", 7.5
    _, panel = viewer.window.add_plugin_dock_widget("napari-siren", "SIREN")
    photo(viewer)
    request = panel.requests.request()
    assert request.config == FitConfig.preset("upscale")
    assert panel.fit_panel.preset_box.currentText() == "upscale"
    assert (request.device, request.preview_rate) == ("cpu", 7.5)
    chosen.display.preview_rate = 2
    assert panel.requests.request().preview_rate == 2


# ---- exports ------------------------------------------------------------------------------------------


def copied(qtbot: Any, panel: SirenWidget) -> str:
    expand(panel, "settings")
    click(qtbot, panel.settings_panel.code_button)
    assert panel.run_panel.status.text() == "The code is on the clipboard."
    return QApplication.clipboard().text()


@pytest.mark.parametrize("what", ["all", "slice", "shapes", "labels", "level"])
def test_the_code_does_the_same(viewer: Any, qtbot: Any, what: str) -> None:
    if what == "level":
        large = noise(24, 32)
        source = viewer.add_image([large, large[::2, ::2]], name="pyramid", multiscale=True)
    else:
        source = stack(viewer)
    panel = open_panel(viewer)
    panel.settings_panel.seed_box.setValue(5)
    panel.fit_panel.scale_slider.setValue(1.5)
    panel.result_panel.error_box.setCurrentText("absolute")
    if what == "level":
        panel.source_panel.level_box.setCurrentIndex(1)
    if what == "slice":
        panel.source_panel.extent_box.setCurrentText("This slice")
        viewer.dims.set_point(0, 12)
    placed = {"scale": source.scale[-2:], "translate": source.translate[-2:], "units": source.units[-2:]}
    if what == "shapes":
        viewer.add_shapes([[[1, 2], [1, 7], [8, 7], [8, 2]]], shape_type="ellipse", name="it's here", **placed)
        choose_region(panel, "Shapes: it's here")
    if what == "labels":
        labels = np.zeros((10, 12), np.uint8)
        labels[3:7, 2:9] = 2
        viewer.add_labels(labels, name="cell", **placed)
        choose_region(panel, "Labels: cell")
    code = copied(qtbot, panel)
    layers = fit(qtbot, panel)
    shown: dict[str, Any] = {}
    exec(code, shown)
    again = shown["fitted"]
    assert [meta["name"] for _, meta, _ in again.layer_data] == names(layers)
    assert viewer.layers[-3:] == list(again.layers)
    for ours, theirs in zip(layers, again.layers, strict=True):
        np.testing.assert_array_equal(ours.data, theirs.data)
        np.testing.assert_allclose(ours.extent.world, theirs.extent.world)
        assert ours.colormap == theirs.colormap
        # The panel hides the reconstruction below its result.
        assert ours.visible == (theirs.visible and "reconstruction" not in ours.name)
        assert {k: v for k, v in provenance(ours).items() if k != "history"} == {
            k: v for k, v in provenance(theirs).items() if k != "history"
        }


# ---- closing ------------------------------------------------------------------------------------------


def assert_fits_again(viewer: Any, qtbot: Any) -> None:
    wait_all_ended(qtbot)
    photo(viewer, "again")
    assert len(fit(qtbot, open_panel(viewer))) == 3
    wait_all_ended(qtbot)


def test_the_panel_closed_in_the_middle(viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source, panel = photo(viewer), open_panel(viewer, max_steps=ENDLESS)
    begin_fit(qtbot, panel)
    press_close(panel, monkeypatch, "Discard")
    wait_all_ended(qtbot)
    assert list(viewer.layers) == [source]
    assert panel.session.result is None
    # The panel is disconnected from the viewer.
    viewer.theme = "light"
    viewer.layers.selection.active = None
    source.name = "other"
    viewer.layers.remove(source)
    assert_fits_again(viewer, qtbot)


def test_the_panel_closed_while_paused(viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source, panel = photo(viewer), open_panel(viewer, max_steps=ENDLESS)
    begin_fit(qtbot, panel)
    click(qtbot, panel.run_panel.pause_button)
    press_close(panel, monkeypatch, "Discard")
    assert list(viewer.layers) == [source]
    assert_fits_again(viewer, qtbot)


def test_the_panel_closed_while_it_renders(viewer: Any, qtbot: Any) -> None:
    photo(viewer)
    panel = open_panel(viewer)
    layers = fit(qtbot, panel)
    draw_again(panel, 5)
    draw_again(panel, 6)
    click(qtbot, panel.parent().title.close_button)
    wait_all_ended(qtbot)
    assert names(viewer.layers[1:]) == names(layers)
    assert_fits_again(viewer, qtbot)


def test_the_panel_hidden_in_the_middle(make_napari_viewer: Callable[..., Any], qtbot: Any) -> None:
    viewer = shown_viewer(qtbot, make_napari_viewer)
    photo(viewer)
    panel = open_panel(viewer, max_steps=ENDLESS)
    qtbot.waitUntil(panel.isVisible)
    begin_fit(qtbot, panel)
    click(qtbot, panel.parent().title.hide_button)
    assert not panel.isVisible()
    steps: list[int] = []
    panel.session.updated.connect(lambda update: steps.append(update.progress.step))
    qtbot.waitUntil(lambda: len(steps) >= 2)
    # The menu shows the panel again.
    assert open_panel(viewer) is panel
    panel.parent().show()
    click(qtbot, panel.run_panel.stop_button)
    wait_for(qtbot, panel, SessionState.IDLE)
    assert len(viewer.layers) == 4
    assert_fits_again(viewer, qtbot)


@pytest.mark.parametrize("alone", [True, False])
def test_the_viewer_closed_in_the_middle(make_napari_viewer: Callable[..., Any], qtbot: Any, alone: bool) -> None:
    viewer = make_napari_viewer()
    photo(viewer)
    panel = open_panel(viewer, max_steps=ENDLESS)
    # With two viewers, napari ends only the work in the newer one.
    other = None if alone else make_napari_viewer()
    begin_fit(qtbot, panel)
    assert anything_alive()
    viewer.close()
    wait_all_ended(qtbot)
    assert_fits_again(other or make_napari_viewer(), qtbot)


def test_work_called_off_by_napari(viewer: Any, qtbot: Any) -> None:
    """Check a cancellation by napari.

    When a window is closed by its x, napari cancels all work, also that of a panel in another window.
    """
    source, panel = photo(viewer), open_panel(viewer, max_steps=ENDLESS)
    begin_fit(qtbot, panel)
    click(qtbot, panel.run_panel.pause_button)
    viewer.window._task_status_manager.cancel_all()
    wait_for(qtbot, panel, SessionState.IDLE)
    assert list(viewer.layers) == [source]
    assert panel.run_panel.status.text() == "Nothing was fitted."
    assert_fits_again(viewer, qtbot)


@pytest.mark.parametrize("which", ["source", "reconstruction", "all"])
def test_layers_removed_in_the_middle(viewer: Any, qtbot: Any, which: str) -> None:
    source, panel = photo(viewer), open_panel(viewer, max_steps=ENDLESS)
    begin_fit(qtbot, panel)
    if which == "all":
        viewer.layers.clear()
    else:
        viewer.layers.remove(source if which == "source" else viewer.layers["photo [reconstruction]"])
    steps: list[int] = []
    panel.session.updated.connect(lambda update: steps.append(update.progress.step))
    qtbot.waitUntil(lambda: len(steps) >= 2)
    # Deleted layers do not come back during the fit.
    assert len(viewer.layers) == (0 if which == "all" else 1)
    click(qtbot, panel.run_panel.stop_button)
    wait_for(qtbot, panel, SessionState.IDLE)
    kept = ["photo"] if which == "reconstruction" else []
    assert sorted(names(viewer.layers)) == sorted([*kept, "photo [reconstruction]", "photo [x2]", "photo [error]"])
    assert_fits_again(viewer, qtbot)
