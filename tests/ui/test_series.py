"""Frames, slices and stacks one by one, from the panel to the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from driving import ENDLESS, click, notified, open_panel, run, wait_for
from placements import assert_same_corners
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_siren import FitConfig
from napari_siren.io.images import read_image
from napari_siren.layers.outputs import METADATA_KEY, RESULT_KEY
from napari_siren.ui.session import SessionState
from napari_siren.ui.tasks import fit as fit_task


def noise(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)


def test_the_frames_of_a_film(viewer: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = viewer.add_image(noise(5, 10, 12), name="film", axis_labels=("t", "y", "x"), scale=(3, 0.5, 0.5))
    panel = open_panel(viewer)
    panel.source_panel.extent_box.choose("each")
    grown: list[int] = []
    texts: list[str] = []
    panel.session.updated.connect(lambda u: grown.append(len(u.layers["error"][0])) if u.layers else None)
    panel.session.message.connect(texts.append)
    reconstruction, upscaled, error = run(qtbot, panel)
    assert grown == [1, 2, 3, 4, 5]
    assert any(text.startswith("5 of 5. Fitting: step ") for text in texts)
    assert panel.run_panel.status.text().startswith("Done: 5 one by one in ")
    assert [layer.data.shape for layer in (reconstruction, upscaled, error)] == [(5, 10, 12), (5, 20, 24), (5, 10, 12)]
    for layer in (reconstruction, upscaled, error):
        assert_same_corners(source, layer)
    np.testing.assert_array_equal(reconstruction.data - error.data, source.data)
    assert RESULT_KEY not in upscaled.metadata
    assert len(upscaled.metadata[METADATA_KEY]["entries"]) == 5
    assert panel.session.pair() == (source, upscaled)
    assert panel.viewer.layers.selection == {upscaled}
    # The buttons of one result have no meaning here.
    results = panel.result_panel
    assert not results.again_button.isEnabled()
    assert not results.model_button.isEnabled()
    click(qtbot, results.code_button)
    assert "one_by_one=(0,)" in QApplication.clipboard().text()
    path = tmp_path / "film.ome.tif"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), "OME-TIFF (*.ome.tif *.tif)"))
    click(qtbot, results.save_button)
    qtbot.waitUntil(lambda: panel.run_panel.status.text().startswith("Saved: film.ome.tif"))
    written = read_image(path)
    assert written.axes == "TYX"
    np.testing.assert_array_equal(written.array, upscaled.data)


def test_each_frame_is_that_of_the_function(viewer: Any, qtbot: Any) -> None:
    import napari_siren as ns

    source = viewer.add_image(noise(2, 3, 8, 10), name="stacks", axis_labels=("t", "z", "y", "x"))
    panel = open_panel(viewer)
    panel.source_panel.extent_box.choose("each")
    layers = run(qtbot, panel)
    config = panel.settings_form.config().override(detail=2)
    for layer, (data, meta, _) in zip(layers, ns.fit_layer(source, config=config).layer_data, strict=True):
        np.testing.assert_array_equal(layer.data, data)
        assert layer.name == meta["name"]
        np.testing.assert_array_equal(layer.contrast_limits, meta["contrast_limits"])


def test_contrast_limits_of_the_user_stay(viewer: Any, qtbot: Any) -> None:
    viewer.add_image(noise(3, 10, 12), name="film", axis_labels=("t", "y", "x"))
    panel = open_panel(viewer)
    panel.source_panel.extent_box.choose("each")

    def change(update: Any) -> None:
        if update.layers is not None and len(update.layers["error"][0]) == 1:
            panel.session.layers.get("error").contrast_limits = (-1, 1)

    panel.session.updated.connect(change)
    *_, error = run(qtbot, panel)
    assert error.contrast_limits == [-1, 1]


def test_a_file_of_stacks(viewer: Any, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    viewer.add_image(noise(2, 3, 8, 10), name="stacks", axis_labels=("t", "z", "y", "x"), scale=(1, 2, 1, 1))
    panel = open_panel(viewer)
    panel.source_panel.extent_box.choose("each")
    _, upscaled, _ = run(qtbot, panel)
    path = tmp_path / "stacks.ome.zarr"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), "OME-Zarr (*.ome.zarr)"))
    click(qtbot, panel.result_panel.save_button)
    qtbot.waitUntil(lambda: panel.run_panel.status.text().startswith("Saved: stacks.ome.zarr"))
    written = read_image(path)
    assert (written.axes, written.spacing) == ("TZYX", (1, 0.5, 0.5))
    np.testing.assert_array_equal(written.array, upscaled.data)


def test_a_file_has_no_place_for_a_position(viewer: Any, qtbot: Any) -> None:
    viewer.add_image(noise(2, 3, 8, 10), name="plate", axis_labels=("p", "z", "y", "x"))
    panel = open_panel(viewer)
    panel.source_panel.extent_box.choose("each")
    run(qtbot, panel)
    with notified() as errors:
        click(qtbot, panel.result_panel.save_button)
    [message] = errors
    assert "has the axes p, z, y, x" in message


def test_bursts_one_by_one(viewer: Any, qtbot: Any) -> None:
    source = viewer.add_image(noise(2, 3, 16, 16), name="bursts", axis_labels=("p", "t", "y", "x"))
    panel = open_panel(viewer)
    panel.set_config(FitConfig.preset("burst", task_steps=2, max_steps=2))
    panel.source_panel.extent_box.choose("each")
    _, joined, _ = run(qtbot, panel)
    assert joined.data.shape == (2, 1, 32, 32)
    assert_same_corners(source, joined)


def test_a_stop_keeps_the_frames_before(viewer: Any, qtbot: Any) -> None:
    source = viewer.add_image(noise(50, 10, 12), name="film", axis_labels=("t", "y", "x"), scale=(3, 1, 1))
    panel = open_panel(viewer)
    panel.source_panel.extent_box.choose("each")
    panel.session.updated.connect(lambda u: panel.session.stop() if u.progress.entry == 2 else None)
    reconstruction, upscaled, error = run(qtbot, panel)
    done = len(reconstruction.data)
    assert 3 <= done < 50
    kept = f"Stopped and kept: the first {done} of 50"
    early = upscaled.metadata[METADATA_KEY]["entries"][-1]["history"]["stopped"] == "asked"
    text = f"{kept} are there, the last one with fewer steps" if early else f"{kept} are done"
    assert panel.run_panel.status.text() == text
    # The layers end at the last frame, so that the image is seen after it.
    assert upscaled.data.shape == (done, 20, 24)
    np.testing.assert_allclose(upscaled.extent.world[:, 0], [0, 3 * (done - 1)])
    np.testing.assert_array_equal(reconstruction.data - error.data, source.data[:done])


def test_an_error_keeps_the_frames_before(viewer: Any, qtbot: Any) -> None:
    frames = noise(3, 10, 12).astype(np.float32)
    frames[2, 4, 5] = np.nan
    source = viewer.add_image(frames, name="film", axis_labels=("t", "y", "x"), contrast_limits=(0, 255))
    panel = open_panel(viewer)
    panel.source_panel.extent_box.choose("each")
    with notified() as errors:
        reconstruction, upscaled, _ = run(qtbot, panel)
    [message] = errors
    assert "not finite" in message
    assert panel.run_panel.status.text() == f"The first 2 of 3 are done. The next one failed: {message}"
    assert (len(reconstruction.data), len(upscaled.data)) == (2, 2)
    # An error at the first frame leaves nothing.
    source.data = frames[::-1].copy()
    viewer.layers.remove(reconstruction)
    viewer.layers.remove(upscaled)
    before = len(viewer.layers)
    with notified() as errors:
        assert run(qtbot, panel) == []
    assert "not finite" in errors[0]
    assert len(viewer.layers) == before


def test_a_pause_holds_the_frames(viewer: Any, qtbot: Any) -> None:
    viewer.add_image(noise(3, 10, 12), axis_labels=("t", "y", "x"))
    # Short fits might end before the pause.
    panel = open_panel(viewer, max_steps=ENDLESS)
    panel.source_panel.extent_box.choose("each")
    status = panel.run_panel.status
    click(qtbot, panel.run_panel.fit_button)
    panel.session.pause()
    qtbot.waitUntil(lambda: status.text().startswith("1 of 3. Paused at step"))
    panel.session.resume()
    qtbot.waitUntil(lambda: status.text().startswith("1 of 3. Fitting"))
    panel.session.stop()
    wait_for(qtbot, panel, SessionState.IDLE)
    assert status.text() == "Stopped and kept: the first 1 of 3 are there, the last one with fewer steps"


def test_the_time_of_all_frames_is_estimated(viewer: Any, qtbot: Any) -> None:
    viewer.add_image(noise(7, 10, 12), axis_labels=("t", "y", "x"))
    panel = open_panel(viewer)
    panel.source_panel.extent_box.choose("each")
    qtbot.waitUntil(lambda: " for 7, " in panel.fit_panel.estimate.text())


def test_closing_ends_the_frames(viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: list[Any] = []
    original = fit_task._fit_series

    def watched(*arguments: Any) -> Any:
        outcome = yield from original(*arguments)
        outcomes.append(outcome)
        return outcome

    monkeypatch.setattr(fit_task, "_fit_series", watched)
    viewer.add_image(noise(500, 10, 12), axis_labels=("t", "y", "x"))
    panel = open_panel(viewer)
    panel.source_panel.extent_box.choose("each")
    click(qtbot, panel.run_panel.fit_button)
    qtbot.waitUntil(lambda: len(viewer.layers) > 1)
    panel.close_down()
    qtbot.waitUntil(lambda: len(outcomes) == 1)
    assert (outcomes[0].layers, outcomes[0].error) == (None, None)
