"""Tests of saving and loading by file dialogs and the clipboard."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.layers import Image
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication, QFileDialog, QMessageBox, QWidget

import napari_siren as ns
from napari_siren.errors import InputError
from napari_siren.io.images import read_image
from napari_siren.layers.outputs import METADATA_KEY, spec_of, upscaled_layer
from napari_siren.ui.export import ExportActions
from napari_siren.ui.logic.image_file import default_name
from napari_siren.ui.panels.run_panel import RunPanel
from napari_siren.ui.panels.settings_form import SettingsForm

CONFIG = ns.FitConfig.preset("upscale", max_steps=77, target_psnr=41.5)


class Panel(QWidget):
    """A stand-in for the dock widget, with the parts needed by the exports."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.session = SimpleNamespace(result=result)
        self.settings_form, self.run_panel = SettingsForm(self), RunPanel(self)
        self.settings_form.set_config(CONFIG)
        self.set_config = self.settings_form.set_config
        self.error: ns.SirenError | None = None
        self.layer: Any = None
        self.original: Any = None

    def code(self) -> str:
        if self.error is not None:
            raise self.error
        return "import napari\n# µ"

    @property
    def said(self) -> str:
        return str(self.run_panel.status.text())


@pytest.fixture
def panel(fitted: ns.FitResult, qtbot: Any) -> Panel:
    widget = Panel(fitted)
    qtbot.addWidget(widget)
    return widget


@pytest.fixture
def export(panel: Panel) -> ExportActions:
    actions = ExportActions(
        panel,
        lambda: panel.session.result,
        panel.settings_form.config,
        lambda: panel.layer,
        lambda: panel.original,
    )
    actions.message.connect(panel.run_panel.say)
    actions.settings_loaded.connect(panel.set_config)
    return actions


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Set the user's choice in the next file dialogs. An empty name is "Cancel"."""

    def choose(name: Any) -> None:
        for dialog in ("getSaveFileName", "getOpenFileName"):
            monkeypatch.setattr(QFileDialog, dialog, lambda *arguments: (str(name), ""))

    choose("")
    return choose


@pytest.fixture
def notes() -> Callable[[], list[str]]:
    """A function for the notifications of this test so far."""
    before = len(notification_manager.records)
    return lambda: [note.message for note in notification_manager.records[before:]]


def unwritable(tmp_path: Path) -> list[Path]:
    """Return paths in a missing folder and below a file. Not even an administrator can write there."""
    (tmp_path / "file").touch()
    return [tmp_path / "missing" / "name", tmp_path / "file" / "name"]


# ---- the model -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "written"),
    [("cells", "cells.safetensors"), ("a.b", "a.b.safetensors"), ("C.SafeTensors", "C.SafeTensors")],
)
def test_the_model_is_written(
    qtbot: Any, panel: Panel, export: ExportActions, answer: Any, tmp_path: Path, name: str, written: str
) -> None:
    answer(tmp_path / name)
    export.save_model()
    qtbot.waitUntil(lambda: panel.said == f"Saved {written}.")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [written]
    loaded = ns.load(tmp_path / written)
    np.testing.assert_array_equal(loaded.reconstruction, panel.session.result.reconstruction)


def test_where_the_model_cannot_be_written_it_is_said(
    qtbot: Any, panel: Panel, export: ExportActions, answer: Any, notes: Any, tmp_path: Path
) -> None:
    for i, path in enumerate(unwritable(tmp_path)):
        answer(path)
        export.save_model()
        qtbot.waitUntil(lambda i=i: len(notes()) == i + 1)
        assert notes()[-1] == panel.said
        assert panel.said.startswith(f"cannot write {path}.safetensors")


def test_without_a_fit_nobody_is_asked_for_a_file(
    panel: Panel, export: ExportActions, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel.session.result = None
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: pytest.fail("asked"))
    export.save_model()
    assert panel.said == ""


# ---- the image -------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, str]]]:
    """Set the name and the filter that the user chooses, and collect the proposals and the filters of the dialogs."""

    def choose(name: Any, kind: str = "") -> list[tuple[str, str]]:
        dialogs: list[tuple[str, str]] = []

        def dialog(parent: Any, title: str, proposal: str, filters: str) -> tuple[str, str]:
            dialogs.append((proposal, filters))
            chosen = next((entry for entry in filters.split(";;") if kind and entry.startswith(kind)), "")
            return (str(proposal if name is None else name), chosen)

        monkeypatch.setattr(QFileDialog, "getSaveFileName", dialog)
        return dialogs

    return choose


def upscaled(fitted: ns.FitResult, scale: float = 2) -> Image:
    data, meta, _ = upscaled_layer(spec_of(fitted), fitted, scale)
    return Image(data, **meta)


def made(role: str, preset: str, factors: Any, name: str = "cells", **options: Any) -> Image:
    """Return a layer with the metadata of a fit."""
    entries = {"role": role, "scale": factors, "config": {"name": preset}, "layer": {"name": name}}
    options = {"name": f"{name} [{role}] [1]", "metadata": {METADATA_KEY: entries}, **options}
    return Image(np.zeros((2,) * max(2, np.size(factors)), dtype=np.uint8), **options)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (made("upscaled", "upscale", [4.0, 4.0], "photo"), "photo_x4.tif"),
        (made("upscaled", "upscale", [1.5, 1.5]), "cells_x1.5.tif"),
        (made("upscaled", "upscale", [1.0, 1.0]), "cells_x1.tif"),
        (made("upscaled", "denoise", [1.0, 1.0]), "cells_denoised.tif"),
        (made("upscaled", "deblur", [2.0, 2.0]), "cells_deblurred_x2.tif"),
        (made("upscaled", "upscale", [8.0, 2.0, 2.0], scale=(0.1, 0.1, 0.1)), "cells_isotropic.tif"),
        (made("upscaled", "upscale", [1.0, 2.0, 2.0], scale=(3, 0.1, 0.1)), "cells_x1-2-2.tif"),
        (made("reconstruction", "faithful", 1.0), "cells_reconstruction.tif"),
        (made("gradient_magnitude", "faithful", [2.0, 2.0]), "cells_gradient-magnitude_x2.tif"),
        (made("upscaled", "upscale", [2.0, 2.0], "photo.ome.tif"), "photo_x2.tif"),
        (made("upscaled", "upscale", [2.0, 2.0], 'a/b:c*"d"?'), "a_b_c__d___x2.tif"),
        (made("upscaled", "upscale", [2.0, 2.0], "con"), "_con_x2.tif"),
        (made("upscaled", "upscale", [2.0, 2.0], " .. "), "image_x2.tif"),
        (made("upscaled", "upscale", [2.0, 2.0], "µ" * 300), "µ" * 60 + "_x2.tif"),
        (made("upscaled", "upscale", [2.0, 2.0], name="mine [x2]"), "mine_x2.tif"),
        (Image(np.zeros((2, 2)), name="plain"), "plain.tif"),
    ],
)
def test_the_proposed_name_has_source_purpose_and_scale(layer: Image, name: str) -> None:
    assert default_name(layer) == name


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".ome.zarr"])
def test_an_image_keeps_its_pixels_axes_and_pixel_size(
    qtbot: Any, panel: Panel, export: ExportActions, asked: Any, tmp_path: Path, fitted: ns.FitResult, suffix: str
) -> None:
    panel.layer = upscaled(fitted)
    path = tmp_path / f"big{suffix}"
    asked(path)
    export.save_image()
    qtbot.waitUntil(lambda: panel.said.startswith("Saved"))
    assert panel.said.startswith(f"Saved: big{suffix} (64 × 48 pixels, ")
    assert panel.said.endswith(" kB)")
    picture = read_image(path)
    order = "YXC" if picture.axes == "YXC" else "CYX"
    assert picture.axes == order
    pixels = np.asarray(picture.array)
    np.testing.assert_array_equal(pixels if order == "YXC" else np.moveaxis(pixels, 0, -1), panel.layer.data)
    assert picture.spacing == pytest.approx((1, 1.5))
    assert picture.unit == "µm"
    # The centre of the first pixel: the image begins at (5, 7) with pixels of 2 x 3 µm.
    assert picture.details.origin == pytest.approx((4.5, 6.25))
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name.startswith((".", "big"))) == [path.name]


def test_every_tiff_is_an_ome_tiff_with_channel_names_and_time(
    qtbot: Any, panel: Panel, export: ExportActions, asked: Any, tmp_path: Path
) -> None:
    data = np.random.default_rng(0).integers(0, 999, (4, 2, 12, 16), dtype=np.uint16)
    panel.layer = Image(
        data,
        axis_labels=("t", "c", "y", "x"),
        scale=(0.5, 1, 0.25, 0.25),
        units=("s", "pixel", "um", "um"),
        metadata={METADATA_KEY: {"channel_names": ["nuclei", "golgi"]}},
    )
    dialogs = asked(tmp_path / "series.tif")
    export.save_image()
    qtbot.waitUntil(lambda: panel.said.startswith("Saved"))
    assert "(16 × 12 pixels, 4 frames, 2 channels, " in panel.said
    assert "PNG" not in dialogs[0][1]
    with tifffile.TiffFile(tmp_path / "series.tif") as file:
        assert file.is_ome
        assert file.series[0].axes == "TCYX"
        description = str(file.ome_metadata)
    for text in ('PhysicalSizeX="0.25"', 'TimeIncrement="0.5"', 'Name="nuclei"', 'Name="golgi"'):
        assert text in description
    picture = read_image(tmp_path / "series.tif")
    np.testing.assert_array_equal(picture.array, data)
    assert (picture.axes, picture.spacing, picture.unit) == ("TCYX", (0.25, 0.25), "µm")
    assert picture.channel_names == ("nuclei", "golgi")


@pytest.mark.parametrize(
    ("name", "kind", "written"),
    [
        ("big", "", "big.tif"),
        ("big", "OME-Zarr", "big.ome.zarr"),
        ("big.tif", "OME-Zarr", "big.ome.zarr"),
        ("big.png", "", "big.png"),
        ("big.ome.tif", "PNG", "big.png"),
        ("big.v2", "PNG", "big.v2.png"),
        ("BIG.TIF", "", "BIG.TIF"),
    ],
)
def test_the_suffix_follows_the_name_and_the_filter(
    qtbot: Any,
    panel: Panel,
    export: ExportActions,
    asked: Any,
    tmp_path: Path,
    fitted: ns.FitResult,
    name: str,
    kind: str,
    written: str,
) -> None:
    panel.layer = upscaled(fitted)
    asked(tmp_path / name, kind)
    export.save_image()
    qtbot.waitUntil(lambda: panel.said.startswith(f"Saved: {written} ("))
    assert (tmp_path / written).exists()
    assert read_image(tmp_path / written).array.size == panel.layer.data.size


def test_a_name_is_proposed_in_the_folder_of_the_original(
    panel: Panel, export: ExportActions, asked: Any, tmp_path: Path, fitted: ns.FitResult
) -> None:
    panel.layer = upscaled(fitted)
    dialogs = asked("")
    export.save_image()
    assert Path(dialogs[0][0]).name == "cells_x2.tif"
    assert dialogs[0][1] == "OME-TIFF (*.ome.tif *.tif);;OME-Zarr (*.ome.zarr);;PNG (*.png)"
    panel.original = SimpleNamespace(source=SimpleNamespace(path=str(tmp_path / "cells.png"), sample=None))
    export.save_image()
    assert Path(dialogs[1][0]).parent == tmp_path
    # Neither an address nor the folder of a plugin is a place to save at.
    for source in (
        SimpleNamespace(path="https://example.org/a.tif", sample=None),
        SimpleNamespace(path=str(tmp_path / "a.png"), sample=("napari", "cells")),
        SimpleNamespace(path=None, sample=None),
    ):
        panel.original = SimpleNamespace(source=source)
        export.save_image()
        assert Path(dialogs[-1][0]).parent not in (tmp_path, Path())
    assert panel.said == ""


@pytest.mark.parametrize("agreed", [False, True])
def test_an_image_that_only_the_suffix_names_is_not_replaced_unasked(
    qtbot: Any,
    panel: Panel,
    export: ExportActions,
    asked: Any,
    tmp_path: Path,
    fitted: ns.FitResult,
    monkeypatch: pytest.MonkeyPatch,
    agreed: bool,
) -> None:
    panel.layer = upscaled(fitted)
    path = tmp_path / "big.tif"
    path.write_text("old")
    button = QMessageBox.StandardButton.Yes if agreed else QMessageBox.StandardButton.No
    monkeypatch.setattr(QMessageBox, "question", lambda *_: button)
    asked(tmp_path / "big")
    export.save_image()
    if agreed:
        qtbot.waitUntil(lambda: panel.said.startswith("Saved"))
    assert (path.read_bytes() != b"old") == agreed
    # The file dialog has already asked whether to replace this name.
    monkeypatch.setattr(QMessageBox, "question", lambda *_: pytest.fail("asked twice"))
    asked(path)
    export.save_image()
    qtbot.waitUntil(lambda: panel.said.startswith("Saved"))


def test_where_an_image_cannot_be_written_it_is_said(
    qtbot: Any, panel: Panel, export: ExportActions, asked: Any, notes: Any, tmp_path: Path, fitted: ns.FitResult
) -> None:
    panel.layer = upscaled(fitted)
    for i, path in enumerate(unwritable(tmp_path)):
        asked(path)
        export.save_image()
        qtbot.waitUntil(lambda i=i: len(notes()) == i + 1)
        assert notes()[-1] == panel.said
        assert panel.said.startswith(f"cannot write {path}.tif")


def test_without_a_result_no_image_is_asked_for(panel: Panel, export: ExportActions, asked: Any) -> None:
    dialogs = asked("")
    export.save_image()
    assert (panel.said, dialogs) == ("", [])


# ---- the settings ----------------------------------------------------------------------------------------


def test_settings_come_back_as_they_were_saved(
    panel: Panel, export: ExportActions, answer: Any, notes: Any, tmp_path: Path
) -> None:
    answer(tmp_path / "mine")
    export.save_settings()
    assert panel.said == "Saved mine.json."
    assert ns.FitConfig.from_file(tmp_path / "mine.json") == CONFIG
    panel.set_config(ns.FitConfig())
    answer(tmp_path / "mine.json")
    export.load_settings()
    assert panel.settings_form.config() == CONFIG
    assert panel.said == "Loaded the settings of mine.json."
    assert notes() == []


@pytest.mark.parametrize("agreed", [False, True])
def test_a_file_that_only_the_suffix_names_is_not_replaced_unasked(
    panel: Panel, export: ExportActions, answer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agreed: bool
) -> None:
    path = tmp_path / "mine.json"
    path.write_text("{}")
    button = QMessageBox.StandardButton.Yes if agreed else QMessageBox.StandardButton.No
    monkeypatch.setattr(QMessageBox, "question", lambda *_: button)
    answer(tmp_path / "mine")
    export.save_settings()
    assert (path.read_text() != "{}") == agreed
    assert (panel.said == "Saved mine.json.") == agreed
    # The file dialog has already asked whether to replace this name.
    monkeypatch.setattr(QMessageBox, "question", lambda *_: pytest.fail("asked twice"))
    answer(path)
    export.save_settings()
    assert ns.FitConfig.from_file(path) == CONFIG


def test_where_settings_cannot_be_written_it_is_said(
    panel: Panel, export: ExportActions, answer: Any, notes: Any, tmp_path: Path
) -> None:
    for i, path in enumerate(unwritable(tmp_path)):
        answer(path)
        export.save_settings()
        assert len(notes()) == i + 1
        assert notes()[-1] == panel.said
        assert panel.said.startswith(f"cannot write {path}.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read settings"),
        ("no JSON", "is not a JSON file of settings"),
        (json.dumps([1]), "not an object"),
        (json.dumps({"max_stepz": 5}), "did you mean 'max_steps'"),
        (json.dumps({"max_steps": -5}), "max_steps: "),
        (json.dumps({"name": "best"}), "there is no preset 'best'"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_words(
    panel: Panel, export: ExportActions, answer: Any, notes: Any, tmp_path: Path, content: str | None, message: str
) -> None:
    path = tmp_path / "odd.json"
    if content is not None:
        path.write_text(content)
    answer(path)
    export.load_settings()
    assert notes() == [panel.said]
    assert message in panel.said
    assert panel.settings_form.config() == CONFIG


# ---- dialogs that are cancelled, and the clipboard -------------------------------------------------------


@pytest.mark.parametrize("action", ["save_model", "save_settings", "load_settings"])
def test_a_dialog_that_is_cancelled_does_nothing(
    panel: Panel,
    export: ExportActions,
    answer: Any,
    notes: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    action: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    getattr(export, action)()
    assert sorted(tmp_path.rglob("*")) == before
    assert (panel.said, notes()) == ("", [])
    assert panel.settings_form.config() == CONFIG


def test_the_code_is_put_on_the_clipboard(panel: Panel, export: ExportActions, notes: Any) -> None:
    QApplication.clipboard().setText("something else")
    export.copy_code(panel.code)
    assert QApplication.clipboard().text() == panel.code()
    assert panel.said == "The code is on the clipboard."
    panel.error = InputError("there is no image layer to fit.")
    QApplication.clipboard().setText("something else")
    export.copy_code(panel.code)
    assert QApplication.clipboard().text() == "something else"
    assert notes() == [panel.said] == ["there is no image layer to fit."]
