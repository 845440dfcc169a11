"""Tests of opening saved models in napari: kinds of files, resolution, position in the world, errors of bad files."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pytest
from driving import shown_viewer
from napari.components import ViewerModel
from napari.layers import Image
from napari.settings import get_plugin_settings
from qtpy.QtWidgets import QApplication, QDialogButtonBox
from safetensors.numpy import save_file
from waiting import LIMIT

import napari_siren as ns
from napari_siren import FitResult, InputError, StorageError
from napari_siren.ui.contributions.reader import get_reader, read_models
from napari_siren.ui.dialogs.scale import ScaleDialog

NO_LAYERS = [(None,)]


@pytest.fixture
def open_window(qtbot: Any, make_napari_viewer: Callable[..., Any]) -> Any:
    """A viewer with a visible window, as needed by the dialog."""
    return shown_viewer(qtbot, make_napari_viewer)


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[float | None], list[str]]:
    """A function to set the answer of all dialogs for a scale.

    None is Cancel. The function returns a list, to which the titles of the dialogs are added.
    """

    def arrange(scale: float | None) -> list[str]:
        asked = []

        def press(dialog: ScaleDialog) -> int:
            asked.append(dialog.windowTitle())
            assert dialog.parent() is napari.current_viewer().window._qt_window
            if scale is not None:
                dialog.scale_box.setValue(scale)
            kind = QDialogButtonBox.StandardButton
            dialog.buttons.button(kind.Cancel if scale is None else kind.Open).click()
            return dialog.result()

        monkeypatch.setattr(ScaleDialog, "exec", press)
        return asked

    return arrange


# ---- kinds of files ----------------------------------------------------------------------------------


def test_our_models_are_told_from_other_safetensors_files(model_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"weight": np.zeros(3)}, other, metadata={"format": "pt"})
    bare = tmp_path / "bare.safetensors"
    save_file({"weight": np.zeros(3)}, bare)
    assert get_reader(str(model_file)) is read_models
    assert get_reader([str(model_file), str(model_file)]) is read_models
    assert get_reader(str(other)) is None
    assert get_reader(str(bare)) is None
    assert get_reader([str(model_file), str(other)]) is None
    assert get_reader([]) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"short", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"[]", b"\x02" + b"\0" * 7 + b"{}", b"\x09" + b"\0" * 7 + b"{"],
)
def test_other_files_are_not_ours(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)
    assert get_reader(str(path)) is None


def test_folders_and_missing_files_are_not_ours(tmp_path: Path) -> None:
    assert get_reader(str(tmp_path)) is None
    assert get_reader(str(tmp_path / "none.safetensors")) is None


def test_telling_files_apart_needs_neither_qt_nor_torch(model_file: Path) -> None:
    assert importlib.util.find_spec("PyQt6"), "the test would prove nothing"
    code = (
        "import sys; from napari_siren.ui.contributions.reader import get_reader; "
        "print(get_reader(sys.argv[1]), *sys.modules)"
    )
    command = [sys.executable, "-c", code, str(model_file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT)
    assert done.stdout.startswith("<function read_models")
    assert not {"qtpy", "PyQt6", "torch"} & set(done.stdout.split())


# ---- opened layers -----------------------------------------------------------------------------------


def test_without_a_window_a_model_opens_at_the_original_resolution(model_file: Path, fitted: FitResult) -> None:
    [layer] = ViewerModel().open(model_file, plugin="napari-siren")
    assert isinstance(layer, Image)
    assert layer.rgb
    assert layer.name.startswith("saved")
    assert np.array_equal(layer.data, fitted.reconstruction)
    assert (layer.scale.tolist(), layer.translate.tolist()) == ([2, 3], [5, 7])
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 2


def test_napari_finds_the_reader_by_itself(model_file: Path) -> None:
    [layer] = ViewerModel().open([model_file], plugin=None)
    assert layer.source.reader_plugin == "napari-siren"


@pytest.mark.parametrize(("scale", "shape"), [("2", (48, 64, 3)), ("4", (96, 128, 3))])
def test_the_preferences_give_the_resolution(scale: str, shape: tuple[int, ...], model_file: Path) -> None:
    get_plugin_settings("napari-siren").models.open_scale = scale
    [layer] = ViewerModel().open(model_file, plugin="napari-siren")
    assert layer.data.shape == shape
    # The outer edges are the same: half a pixel beyond the centres of the first and last pixels.
    assert layer.extent.world + np.array([-0.5, 0.5])[:, None] * layer.scale == pytest.approx(
        np.array([[4.0, 5.5], [52.0, 101.5]])
    )


def test_several_files_open_together(model_file: Path, fitted: FitResult, tmp_path: Path) -> None:
    second = fitted.save(tmp_path / "second.safetensors")
    layers = ViewerModel().open([model_file, second], plugin="napari-siren", stack=True)
    assert [layer.name.split()[0] for layer in layers] == ["saved", "second"]


def test_a_window_asks_for_the_resolution(
    open_window: Any, model_file: Path, answer: Callable[[float | None], list[str]]
) -> None:
    asked = answer(1.5)
    [layer] = open_window.open(model_file, plugin="napari-siren")
    assert asked == ["Open saved"]
    assert layer.data.shape == (36, 48, 3)


def test_cancel_opens_nothing_and_is_no_error(
    open_window: Any, model_file: Path, answer: Callable[[float | None], list[str]]
) -> None:
    asked = answer(None)
    assert open_window.open([model_file, model_file], plugin=None) == []
    assert len(asked) == 2
    assert len(open_window.layers) == 0
    assert read_models(str(model_file)) == NO_LAYERS


def test_no_question_where_the_preferences_have_the_answer(
    open_window: Any, model_file: Path, answer: Callable[[float | None], list[str]]
) -> None:
    asked = answer(8)
    get_plugin_settings("napari-siren").models.open_scale = "2"
    [layer] = open_window.open(model_file, plugin="napari-siren")
    assert (layer.data.shape, asked) == ((48, 64, 3), [])


def test_a_window_that_is_not_shown_does_not_ask(
    viewer: Any, model_file: Path, answer: Callable[[float | None], list[str]]
) -> None:
    asked = answer(8)
    [layer] = viewer.open(model_file, plugin="napari-siren")
    assert (layer.data.shape, asked) == ((24, 32, 3), [])
    QApplication.processEvents()


# ---- bad files ---------------------------------------------------------------------------------------


def test_a_model_cut_short_is_told_of(model_file: Path) -> None:
    model_file.write_bytes(model_file.read_bytes()[:-100])
    with pytest.raises(StorageError, match=r"saved\.safetensors is not a complete napari-siren model"):
        ViewerModel().open(model_file, plugin="napari-siren")


def test_a_model_of_a_line_is_refused_in_words(tmp_path: Path) -> None:
    line = ns.fit(np.linspace(0, 1, 40, dtype=np.float32), axes="X", preset="fast", max_steps=1, engine="torch")
    path = line.save(tmp_path / "line.safetensors")
    with pytest.raises(InputError, match="model with one axis"):
        ViewerModel().open(path, plugin="napari-siren")


def test_a_render_too_large_for_memory_is_refused(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    get_plugin_settings("napari-siren").models.open_scale = "8"
    monkeypatch.setattr("napari_siren.core.training.plan.free_memory", lambda _: 10_000)
    with pytest.raises(InputError, match="too much for"):
        ViewerModel().open(model_file, plugin="napari-siren")
