"""Tests of batches from the panel in a real viewer: folders, files, layers, bad files, stop, continuation, results."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import platformdirs
import psutil
import pytest
from batching import photos
from driving import (
    ENDLESS,
    assert_same_corners,
    click,
    fit,
    notified,
    open_panel,
    wait_all_ended,
    wait_for,
)
from napari.layers import Image
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QTreeWidgetItem

from napari_siren.batch.plan import FORMAT_CHOICES
from napari_siren.io.images import inspect_image, read_image, write_image
from napari_siren.ui.panels.batch_form import FORMATS
from napari_siren.ui.panels.batch_panel import BatchPanel, BatchState
from napari_siren.ui.session import SessionState
from napari_siren.ui.widget import SirenWidget

# napari warns of every rotated stack that it shows in slices.
pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")


def open_batch(viewer: Any, scheduler: str | None = None, **settings: Any) -> BatchPanel:
    """Open the panel at the tab of the batch. It uses the settings of the other tab: those of a tiny fit."""
    panel = open_panel(viewer, **settings)
    panel.tabs.setCurrentIndex(1)
    form = panel.batch_panel.form
    form.preset_box.setCurrentText("as in the tab Fit")
    form.workers_box.setValue(1)
    if scheduler is not None:
        form.place_box.setCurrentText("A Dask cluster")
        form.scheduler_edit.setText(scheduler)
    return panel.batch_panel


def ended(qtbot: Any, batch: BatchPanel) -> None:
    qtbot.waitUntil(lambda: batch.state is BatchState.IDLE)


def run(qtbot: Any, batch: BatchPanel) -> list[str]:
    """Press Start, wait for the end, and return the errors shown by napari."""
    with notified() as errors:
        click(qtbot, batch.start_button)
        ended(qtbot, batch)
    with pytest.raises(ValueError, match="No clients found"):
        distributed.default_client()
    return errors


def row(batch: BatchPanel, name: str) -> QTreeWidgetItem:
    rows = [batch.list.topLevelItem(i) for i in range(batch.list.topLevelItemCount())]
    [found] = [row for row in rows if row.text(0) == name]
    return found


def rows(batch: BatchPanel) -> dict[str, str]:
    """Return the state of each image in the list."""
    found = [batch.list.topLevelItem(i) for i in range(batch.list.topLevelItemCount())]
    return {row.text(0): row.text(1) for row in found}


def choose_folder(batch: BatchPanel, folder: Path, out: Path | None = None) -> None:
    batch.form.source_box.setCurrentText("A folder")
    batch.form.folder.set_text(str(folder))
    if out is not None:
        batch.form.out.set_text(str(out))


def choose_layers(batch: BatchPanel, out: Path, *layers: Any) -> None:
    batch.form.source_box.setCurrentText("The selected layers")
    batch.viewer.layers.selection = set(layers)
    batch.form.out.set_text(str(out))


# ---- folders and files --------------------------------------------------------------------------------------


def test_a_folder_with_a_bad_file(
    viewer: Any, qtbot: Any, tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "plate [1]", 3)
    (tmp_path / "plate [1]" / "01.png").write_bytes(b"no image")
    batch = open_batch(viewer, scheduler)
    choose_folder(batch, tmp_path / "plate [1]")
    # The default is a folder beside the images.
    out = tmp_path / "plate [1]_upscaled"
    assert batch.form.out.text == str(out)
    assert not batch.report_button.isEnabled()
    [error] = run(qtbot, batch)
    assert error.startswith("01 failed: 01.png is not an image of a known kind")
    assert batch.status.text() == "Finished: 2 done, 1 failed"
    told = rows(batch)
    assert list(told) == ["01", "00.png", "02.png"]
    assert told["01"].startswith("failed: 01.png is not")
    assert all(told[name].startswith("done, ") and told[name].endswith(" dB") for name in ("00.png", "02.png"))
    assert read_image(out / "02.png").array.shape == (40, 48, 3)

    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: bool(opened.append(url.toLocalFile())))
    with notified() as errors:
        click(qtbot, batch.report_button)
    assert opened == [str(out / "report.html")]
    # No browser is available in the tests.
    assert errors == [f"the browser could not be opened. Open the report yourself: {out / 'report.html'}."]

    assert not batch.result_button.isEnabled()
    batch.list.setCurrentItem(row(batch, "01"))
    assert not batch.result_button.isEnabled()
    batch.list.itemDoubleClicked.emit(row(batch, "01"), 0)
    batch.list.setCurrentItem(row(batch, "02.png"))
    click(qtbot, batch.result_button)
    qtbot.waitUntil(lambda: len(viewer.layers) == 1)
    [layer] = viewer.layers
    assert layer.name == "02 [x2]"
    assert layer.rgb
    original = Image(read_image(tmp_path / "plate [1]" / "02.png").array, rgb=True)
    assert_same_corners(original, layer)
    np.testing.assert_array_equal(layer.data, read_image(out / "02.png").array)
    (out / "00.png").unlink()
    with notified() as errors:
        batch.list.itemDoubleClicked.emit(row(batch, "00.png"), 0)
        wait_all_ended(qtbot)
        qtbot.waitUntil(lambda: "there is no file" in batch.status.text())
    assert len(errors) == 1


def test_it_goes_on_where_it_was(viewer: Any, qtbot: Any, tmp_path: Path, scheduler: str) -> None:
    photos(tmp_path / "in", 2)
    (tmp_path / "in" / "bad.tif").write_bytes(b"no image")
    batch = open_batch(viewer, scheduler)
    choose_folder(batch, tmp_path / "in", tmp_path / "out")
    batch.form.pattern_edit.setText("*.png")
    assert run(qtbot, batch) == []
    assert batch.status.text() == "Finished: 2 done"
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
    photos(tmp_path / "in", 3)
    assert run(qtbot, batch) == []
    # The images were written again with the same contents.
    assert batch.status.text() == "Finished: 3 done"
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in before} == before
    assert run(qtbot, batch) == []
    assert batch.status.text() == "Finished: 3 done before"
    assert rows(batch).keys() == {"00.png", "01.png", "02.png"}
    batch.form.pattern_edit.setText("")
    [error] = run(qtbot, batch)
    assert error.startswith("bad failed: bad.tif ")
    assert batch.status.text() == "Finished: 1 failed, 3 done before"


def test_files_as_ome_zarr(
    viewer: Any, qtbot: Any, tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = [str(path) for path in photos(tmp_path / "in", 3)[:2]]
    monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: (chosen, ""))
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(tmp_path / "out"))
    batch = open_batch(viewer, scheduler)
    batch.form.source_box.setCurrentText("Files")
    click(qtbot, batch.form.files_button)
    assert batch.form.files_button.text() == "2 images…"
    assert batch.form.out.text == str(tmp_path / "in_upscaled")
    click(qtbot, batch.form.out.button)
    batch.form.format_box.setCurrentText("OME-Zarr")
    batch.form.scale_box.setValue(1.5)
    assert run(qtbot, batch) == []
    assert sorted(path.name for path in (tmp_path / "out").glob("*.zarr")) == ["00.ome.zarr", "01.ome.zarr"]
    batch.list.itemDoubleClicked.emit(row(batch, "00.ome.zarr"), 0)
    qtbot.waitUntil(lambda: len(viewer.layers) == 1)
    assert viewer.layers[0].data.shape == (30, 36, 3)
    assert viewer.layers[0].rgb
    np.testing.assert_allclose(viewer.layers[0].scale, 2 / 3)


def test_a_film_in_a_file(viewer: Any, qtbot: Any, tmp_path: Path, scheduler: str) -> None:
    frames = np.random.default_rng(0).integers(0, 4000, (3, 2, 12, 16), dtype=np.uint16)
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "film.ome.tif", frames, "TCYX", (0.2, 0.1), "µm")
    batch = open_batch(viewer, scheduler)
    choose_folder(batch, tmp_path / "in", tmp_path / "out")
    batch.form.frames_box.setChecked(True)
    assert run(qtbot, batch) == []
    assert rows(batch).keys() == {"film.ome.tif", *(f"film.ome.tif#{i}" for i in range(3))}
    batch.list.itemDoubleClicked.emit(row(batch, "film.ome.tif#1"), 0)
    qtbot.waitUntil(lambda: len(viewer.layers) == 1)
    [layer] = viewer.layers
    assert (layer.data.shape, layer.axis_labels) == ((3, 2, 24, 32), ("t", "c", "y", "x"))
    np.testing.assert_allclose(layer.scale, (1, 1, 0.1, 0.05))
    np.testing.assert_allclose(layer.translate, (0, 0, -0.05, -0.025))
    assert [f"{unit:~}" for unit in layer.units] == ["pixel", "pixel", "µm", "µm"]


# ---- NaN and notes --------------------------------------------------------------------------------------------


def test_nan_are_filled_in_by_a_tick(viewer: Any, qtbot: Any, tmp_path: Path, scheduler: str) -> None:
    pixels = np.random.default_rng(0).normal(size=(12, 16)).astype(np.float32)
    pixels[3, 4] = np.nan
    write_image(tmp_path / "in.tif", pixels, "YX")
    layer = viewer.add_image(pixels, name="layer", contrast_limits=(-3, 3))
    batch, out = open_batch(viewer, scheduler), tmp_path / "out"
    box = batch.form.nan_box
    choose_folder(batch, tmp_path, out)
    batch.form.pattern_edit.setText("in.tif")
    [error] = run(qtbot, batch)
    assert error.endswith(f"the image has 1 NaN value. Tick “{box.text()}”.")
    assert f"Tick “{box.text()}”" in row(batch, "in.ome.tif").toolTip(1)
    box.click()
    assert run(qtbot, batch) == []
    choose_layers(batch, out, layer)
    assert run(qtbot, batch) == []
    for name in ("in.ome.tif", "layer.ome.tif"):
        assert np.isfinite(read_image(out / name).array).all()


def test_other_results_are_replaced_by_a_tick(viewer: Any, qtbot: Any, tmp_path: Path, scheduler: str) -> None:
    photos(tmp_path / "in", 1)
    batch, out = open_batch(viewer, scheduler), tmp_path / "out"
    choose_folder(batch, tmp_path / "in", out)
    assert run(qtbot, batch) == []
    batch.form.scale_box.setValue(3)
    [error] = run(qtbot, batch)
    assert "00.png was made with other settings" in error
    assert error.endswith(f"Choose another folder, or tick “{batch.form.replace_box.text()}”.")
    assert batch.status.text() == error
    assert inspect_image(out / "00.png").shape[:2] == (40, 48)
    batch.form.replace_box.click()
    assert run(qtbot, batch) == []
    assert inspect_image(out / "00.png").shape[:2] == (60, 72)
    # A dangerous choice is made anew in each session.
    assert not any("replace" in name for name in batch.form.values())


def test_notes_are_shown(viewer: Any, qtbot: Any, tmp_path: Path, scheduler: str) -> None:
    photos(tmp_path / "in", 1)
    # The axes of an array in a file without metadata are guessed.
    np.save(tmp_path / "in" / "stack.npy", np.random.default_rng(0).normal(size=(5, 12, 16)).astype(np.float32))
    batch = open_batch(viewer, scheduler)
    choose_folder(batch, tmp_path / "in", tmp_path / "out")
    for state in ("done", "done before"):
        assert run(qtbot, batch) == []
        assert batch.status.text().startswith(f"Finished: 2 {state}. 1 image with notes: see the list")
        noted, plain = row(batch, "stack.ome.tif"), row(batch, "00.png")
        entry = noted.data(0, Qt.ItemDataRole.UserRole)
        assert any("axes" in note for note in entry.notes)
        lines = ["stack.ome.tif", *(f"Note: {note}" for note in entry.notes)]
        assert [noted.toolTip(column).splitlines() for column in (0, 1)] == [lines, lines]
        spoken = noted.data(1, Qt.ItemDataRole.AccessibleTextRole)
        assert spoken.startswith(noted.text(1))
        assert all(note in spoken for note in entry.notes)
        assert not noted.icon(1).isNull()
        assert plain.icon(1).isNull()
        assert plain.toolTip(1) == "00.png"


# ---- layers -------------------------------------------------------------------------------------------------


def test_the_selected_layers(viewer: Any, qtbot: Any, tmp_path: Path, scheduler: str) -> None:
    noise = np.random.default_rng(0)
    stack = viewer.add_image(
        noise.integers(0, 4000, (4, 10, 12), dtype=np.uint16),
        name="a/b",
        scale=(2, 0.5, -0.25),
        translate=(10, -3, 4),
        rotate=(20, 0, 0),
        units=("um",) * 3,
        axis_labels=("z", "y", "x"),
        colormap="magma",
        contrast_limits=(100, 3000),
    )
    channels = viewer.add_image(
        noise.normal(size=(2, 9, 11)).astype(np.float32), name="A:b", axis_labels=("c", "y", "x")
    )
    photo = viewer.add_image(noise.integers(0, 255, (12, 16, 3), dtype=np.uint8), rgb=True, name="photo")
    viewer.add_image(noise.normal(size=(8, 8)), name="not selected")
    shapes = viewer.add_shapes([[[1, 1], [1, 6], [5, 6], [5, 1]]], name="no image")
    batch, out = open_batch(viewer, scheduler), tmp_path / "out"
    choose_layers(batch, out, stack, channels, photo, shapes)
    assert batch.form.layers_label.text() == "3: a/b, A:b, photo"
    assert run(qtbot, batch) == []
    assert rows(batch).keys() == {"a_b.ome.tif", "A_b 2.ome.tif", "photo.png"}
    assert sorted(path.name for path in out.glob("*.*")) == [
        ".batch",
        "A_b 2.ome.tif",
        "a_b.ome.tif",
        "manifest.jsonl",
        "photo.png",
        "report.html",
    ]
    written = read_image(out / "a_b.ome.tif")
    assert (written.axes, written.spacing, written.unit) == ("ZYX", (1.0, 0.25, 0.125), "µm")
    for name, layer in (("a_b.ome.tif", stack), ("A_b 2.ome.tif", channels), ("photo.png", photo)):
        before = len(viewer.layers)
        batch.list.itemDoubleClicked.emit(row(batch, name), 0)
        qtbot.waitUntil(lambda before=before: len(viewer.layers) == before + 1)
        made = viewer.layers[-1]
        assert made.name == f"{layer.name} [x2]"
        assert_same_corners(layer, made)
        assert (made.rgb, made.units, made.axis_labels) == (layer.rgb, layer.units, layer.axis_labels)
    assert viewer.layers["a/b [x2]"].contrast_limits == [100, 3000]
    # The temporary copies of the layers have been deleted. Nevertheless no layer is fitted again.
    assert not list((out / ".batch").glob("layers-*"))
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*.tif")}
    choose_layers(batch, out, stack, channels, photo)
    assert run(qtbot, batch) == []
    assert batch.status.text() == "Finished: 3 done"
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_layers_with_time(viewer: Any, qtbot: Any, tmp_path: Path, scheduler: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 2, 1, 9), dtype=np.uint8)
    film = viewer.add_image(
        pixels, name="film", scale=(5, 2, 1, 1), axis_labels=("t", "z", "y", "x"), units=("s", "um", "um", "um")
    )
    batch, out = open_batch(viewer, scheduler), tmp_path / "out"
    choose_layers(batch, out, film)
    [error] = run(qtbot, batch)
    assert error == batch.status.text()
    assert "Tick “Each frame" in error
    batch.form.frames_box.setChecked(True)
    assert run(qtbot, batch) == []
    told = inspect_image(out / "film.ome.tif", each=True)
    assert (told.frames, told.axes, told.interval) == (3, "ZX", (5.0, "s"))
    batch.list.itemDoubleClicked.emit(row(batch, "film.ome.tif"), 0)
    qtbot.waitUntil(lambda: len(viewer.layers) == 2)
    assert viewer.layers[1].data.shape == (3, 4, 1, 18)
    assert_same_corners(film, viewer.layers[1])


def test_a_layer_that_cannot_be_taken(viewer: Any, qtbot: Any, tmp_path: Path) -> None:
    layer = viewer.add_image(np.zeros((2, 2, 2, 4, 4)), name="five axes")
    batch = open_batch(viewer)
    choose_layers(batch, tmp_path / "out", layer)
    [error] = run(qtbot, batch)
    assert "five axes" in error


# ---- stopping -----------------------------------------------------------------------------------------------


def begin(qtbot: Any, batch: BatchPanel, done: int) -> None:
    """Press Start, and wait until `done` images are done and another one is being fitted."""
    click(qtbot, batch.start_button)

    def there() -> bool:
        told = list(rows(batch).values())
        return sum(text.startswith("done") for text in told) >= done and any("fitting" in text for text in told)

    qtbot.waitUntil(there)
    assert batch.state is BatchState.RUNNING


Holder = Callable[..., threading.Event]


def test_a_stop_and_going_on(viewer: Any, qtbot: Any, tmp_path: Path, scheduler: str, hold_fits: Holder) -> None:
    photos(tmp_path / "in", 7)
    batch = open_batch(viewer, scheduler)
    choose_folder(batch, tmp_path / "in", tmp_path / "out")
    go_on = hold_fits(but=1)
    begin(qtbot, batch, done=1)
    assert batch.status.text().startswith("Fitting: ")
    assert not batch.form.isEnabled()
    assert not batch.start_button.isEnabled()
    click(qtbot, batch.stop_button)
    assert batch.status.text() == "Stopping; the finished results stay…"
    ended(qtbot, batch)
    assert batch.status.text().startswith("Stopped: ")
    assert batch.status.text().endswith(" left to do. Press Start to continue")
    assert "stopped" in rows(batch).values()
    report = batch.outcome.report
    assert (len(report.done), len(report.planned)) == (1, 6)
    assert "left to do" in report.path.read_text()
    written = {entry.output: (tmp_path / "out" / entry.output).stat().st_mtime_ns for entry in report.done}
    go_on.set()
    assert run(qtbot, batch) == []
    assert set(rows(batch)) == {f"{i:02d}.png" for i in range(7)}
    assert batch.outcome.report.planned == ()
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in written} == written


@pytest.mark.slow
def test_processes_that_are_stopped(viewer: Any, qtbot: Any, tmp_path: Path) -> None:
    photos(tmp_path / "in", 2)
    batch = open_batch(viewer, max_steps=ENDLESS)
    choose_folder(batch, tmp_path / "in", tmp_path / "out")
    begin(qtbot, batch, done=0)
    click(qtbot, batch.stop_button)
    ended(qtbot, batch)
    assert batch.status.text() == "Stopped: 2 left to do. Press Start to continue"
    wait_all_ended(qtbot)
    workers = [p for p in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]
    assert workers == []


def test_the_panel_closed_in_the_middle(
    viewer: Any, qtbot: Any, tmp_path: Path, scheduler: str, hold_fits: Holder
) -> None:
    photos(tmp_path / "in", 6)
    batch = open_batch(viewer, scheduler)
    choose_folder(batch, tmp_path / "in", tmp_path / "out")
    go_on = hold_fits()
    begin(qtbot, batch, done=0)
    panel = viewer.window._dock_widgets["SIREN (napari-siren)"]
    click(qtbot, panel.title.close_button)
    wait_all_ended(qtbot)
    assert batch.state is BatchState.IDLE
    # The panel is disconnected from the viewer.
    viewer.add_image(np.zeros((8, 8)))
    go_on.set()
    again = open_batch(viewer, scheduler, max_steps=3)
    choose_folder(again, tmp_path / "in", tmp_path / "out")
    assert run(qtbot, again) == []
    assert again.status.text() == "Finished: 6 done"


def test_the_viewer_closed_in_the_middle(
    make_napari_viewer: Callable[..., Any], qtbot: Any, tmp_path: Path, scheduler: str, hold_fits: Holder
) -> None:
    photos(tmp_path / "in", 6)
    viewer = make_napari_viewer()
    batch = open_batch(viewer, scheduler)
    choose_folder(batch, tmp_path / "in", tmp_path / "out")
    hold_fits()
    begin(qtbot, batch, done=0)
    viewer.close()
    wait_all_ended(qtbot)
    assert not list((tmp_path / "out").glob("*.png"))


def test_a_fit_goes_on_beside_a_batch(
    viewer: Any, qtbot: Any, tmp_path: Path, scheduler: str, hold_fits: Holder
) -> None:
    photos(tmp_path / "in", 4)
    viewer.add_image(np.random.default_rng(0).normal(size=(8, 8)))
    batch = open_batch(viewer, scheduler)
    choose_folder(batch, tmp_path / "in", tmp_path / "out")
    hold_fits()
    pool = QThreadPool.globalInstance()
    most = pool.maxThreadCount()
    pool.setMaxThreadCount(1)
    try:
        begin(qtbot, batch, done=0)
        panel: SirenWidget = batch.window().findChild(SirenWidget)
        panel.tabs.setCurrentIndex(0)
        assert len(fit(qtbot, panel)) == 3
        assert batch.state is BatchState.RUNNING
        batch.stop()
        ended(qtbot, batch)
        wait_for(qtbot, panel, SessionState.IDLE)
    finally:
        pool.setMaxThreadCount(most)
    assert pool.activeThreadCount() == 0


# ---- the form -----------------------------------------------------------------------------------------------


def test_what_is_lacking_is_told(viewer: Any, qtbot: Any, tmp_path: Path) -> None:
    batch = open_batch(viewer)
    form = batch.form
    told = []
    for change in (
        lambda: form.source_box.setCurrentText("Files"),
        lambda: form.source_box.setCurrentText("The selected layers"),
        lambda: form.source_box.setCurrentText("A folder"),
        lambda: form.folder.set_text(str(tmp_path / "nothing")),
        lambda: form.out.set_text(""),
        lambda: form.out.set_text(str(tmp_path / "out")),
        lambda: form.place_box.setCurrentText("A Dask cluster"),
    ):
        change()
        errors = run(qtbot, batch)
        assert errors == [batch.status.text()]
        told += errors
    assert [text[:38] for text in told] == [
        "there are no images. Choose their file",
        "no Image layer is selected. Select one",
        "there is no folder with images. Choose",
        "there is no file or folder " + str(tmp_path)[:11],
        "there is no folder for the results. Ch",
        "there is no file or folder " + str(tmp_path)[:11],
        "there is no address of the cluster's s",
    ]
    photos(tmp_path / "nothing", 1)
    form.scheduler_edit.setText("nonsense://x")
    [error] = run(qtbot, batch)
    assert "there is no Dask scheduler at nonsense://x" in error
    assert not batch.report_button.isEnabled()


def test_settings_of_the_other_tab_or_a_preset(viewer: Any, tmp_path: Path) -> None:
    batch = open_batch(viewer, max_steps=7)
    choose_folder(batch, tmp_path)
    batch.window().findChild(SirenWidget).settings_panel.seed_box.setValue(5)
    options = batch.form.request().options
    assert {
        name: options[name] for name in ("preset", "max_steps", "seed", "device", "workers", "frames", "format")
    } == {
        "preset": "fast",
        "max_steps": 7,
        "seed": 5,
        "device": "auto",
        "workers": 1,
        "frames": "whole",
        "format": "auto",
    }
    batch.form.preset_box.setCurrentText("denoise")
    batch.form.workers_box.setValue(0)
    assert batch.form.request().options == {
        "scale": 2.0,
        "preset": "denoise",
        "workers": None,
        "scheduler": None,
        "frames": "whole",
        "fill_nan": False,
        "overwrite": False,
        "format": "auto",
    }
    assert set(FORMATS) == set(FORMAT_CHOICES)


def test_it_is_remembered(viewer: Any, qtbot: Any, tmp_path: Path, scheduler: str) -> None:
    photos(tmp_path / "in", 1)
    viewer.add_image(np.zeros((8, 8)))
    batch = open_batch(viewer, scheduler)
    choose_folder(batch, tmp_path / "in", tmp_path / "out")
    batch.form.pattern_edit.setText("*.png")
    batch.form.scale_box.setValue(1.5)
    batch.form.format_box.setCurrentText("OME-TIFF")
    batch.form.nan_box.click()
    run(qtbot, batch)
    kept = batch.form.values()
    # A fit stores its own settings. The stored settings of the batch stay.
    panel = batch.window().findChild(SirenWidget)
    panel.tabs.setCurrentIndex(0)
    fit(qtbot, panel)
    click(qtbot, panel.parent().title.close_button)
    _, again = viewer.window.add_plugin_dock_widget("napari-siren", "SIREN")
    assert again is not panel
    assert again.batch_panel.form.values() == kept
    assert again.fit_panel.preset_box.currentText() == "fast"


@pytest.mark.parametrize(
    "damage",
    [3, {"folder": 5}, {"scale": "x"}, {"scale": float("nan")}, {"workers": 1e30}, {"each": None}, {"fill_nan": 3.5}],
)
def test_a_damaged_memory_does_no_harm(viewer: Any, damage: Any) -> None:
    whole = open_batch(viewer).form.values()
    path = platformdirs.user_config_path("napari-siren") / "last-session.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"batch": damage if damage == 3 else {**whole, **damage}}))
    again = BatchPanel(viewer, dict)
    assert 0.1 <= again.form.values()["scale"] <= 16
    again.close_down()


def test_the_window_of_a_laptop_has_room(viewer: Any) -> None:
    batch = open_batch(viewer)
    panel = batch.window().findChild(SirenWidget)
    tabs = panel.tabs.tabBar().sizeHint().height()
    for source in ("A folder", "Files", "The selected layers"):
        batch.form.source_box.setCurrentText(source)
        assert batch.minimumSizeHint().height() + tabs <= panel.sizeHint().height() == 660
        assert batch.minimumSizeHint().width() <= panel.sizeHint().width()
