"""Tests of the panel for preset, scale or pixel size, and device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from napari_siren.core import device as device_module
from napari_siren.core.settings.presets import PRESET_NAMES
from napari_siren.errors import DeviceError
from napari_siren.ui.panels import fit_panel as fit_panel_module
from napari_siren.ui.panels.fit_panel import FitPanel


@pytest.fixture
def make_panel(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FitPanel]:
    """A function to make a panel on a machine with two GPUs. It waits for the list of devices."""
    monkeypatch.setattr(device_module, "available_devices", lambda: ["cuda:0", "cuda:1", "cpu"])

    def make(preset: str = "faithful", device: str = "auto") -> FitPanel:
        panel = FitPanel(preset, device)
        qtbot.addWidget(panel)
        qtbot.waitUntil(lambda: "cpu" in devices(panel))
        return panel

    return make


@pytest.fixture
def panel(make_panel: Callable[..., FitPanel]) -> FitPanel:
    return make_panel()


@pytest.fixture
def scales(panel: FitPanel) -> list[float]:
    """The scales emitted by the panel."""
    told: list[float] = []
    panel.scale_changed.connect(told.append)
    return told


def devices(panel: FitPanel) -> list[str]:
    return [panel.device_box.itemText(i) for i in range(panel.device_box.count())]


# ---- the preset ------------------------------------------------------------------------------------------


def test_all_presets_are_there(make_panel: Callable[..., FitPanel]) -> None:
    panel = make_panel("upscale")
    assert [panel.preset_box.itemText(i) for i in range(panel.preset_box.count())] == list(PRESET_NAMES)
    assert panel.preset_box.currentText() == "upscale"


def test_a_preset_that_is_chosen_is_told_and_one_that_is_shown_is_not(panel: FitPanel) -> None:
    told: list[str] = []
    panel.preset_chosen.connect(told.append)
    panel.show_preset("paper")
    assert panel.preset_box.currentText() == "paper"
    assert told == []
    panel.preset_box.setCurrentText("fast")
    assert told == ["fast"]


# ---- the scale -------------------------------------------------------------------------------------------


def test_the_scale_is_shown_as_a_pixel_size(panel: FitPanel, scales: list[float]) -> None:
    panel.show_pixel(0.35144, "µm", 100)
    assert panel.scale == 2
    assert panel.pixel_box.value() == pytest.approx(0.17572)
    assert panel.pixel_box.suffix() == " µm"
    assert scales == []
    panel.scale_slider.setValue(4)
    assert panel.pixel_box.value() == pytest.approx(0.08786)
    assert scales == [4]


def test_a_pixel_size_gives_the_scale(panel: FitPanel, scales: list[float]) -> None:
    panel.show_pixel(0.35144, "µm", 100)
    panel.pixel_box.setValue(0.1)
    assert panel.scale == pytest.approx(3.5144, abs=1e-4)
    assert scales == [panel.scale]
    # The typed number stays.
    assert panel.pixel_box.value() == pytest.approx(0.1, abs=1e-5)


def test_another_image_keeps_the_scale(panel: FitPanel, scales: list[float]) -> None:
    panel.show_pixel(0.3, "µm", 100)
    panel.pixel_box.setValue(0.1)
    scales.clear()
    panel.show_pixel(6.0, "nm", 100)
    assert panel.scale == 3
    assert panel.pixel_box.value() == 2
    assert scales == []


@pytest.mark.parametrize("pixel", [3.5e-7, 0.002, 1.0, 650.0, 2.5e6])
def test_a_pixel_of_any_size(panel: FitPanel, pixel: float) -> None:
    panel.show_pixel(pixel, "m", 100)
    for scale in (1, 1.5, 8):
        panel.scale_slider.setValue(scale)
        assert panel.pixel_box.value() == pytest.approx(pixel / scale, rel=1e-3)
    panel.pixel_box.setValue(pixel / 3)
    assert panel.scale == pytest.approx(3, rel=1e-3)
    panel.pixel_box.stepUp()
    assert 1 < panel.scale < 3


def test_the_scale_stays_within_its_bounds(panel: FitPanel) -> None:
    panel.show_pixel(2.0, "µm", 100)
    panel.pixel_box.setValue(100)
    assert panel.scale == 1
    panel.pixel_box.setValue(0.0001)
    assert panel.scale == 8


# ---- the device ------------------------------------------------------------------------------------------


def test_the_devices_of_the_machine_are_there(panel: FitPanel) -> None:
    assert devices(panel) == ["auto", "cuda:0", "cuda:1", "cpu"]
    assert panel.device == "auto"


def test_a_device_that_is_chosen_but_not_there_stays(make_panel: Callable[..., FitPanel]) -> None:
    panel = make_panel(device="cuda:7")
    assert devices(panel) == ["auto", "cuda:0", "cuda:1", "cpu", "cuda:7"]
    assert panel.device == "cuda:7"


@pytest.mark.parametrize("device", ["mps", "cuda:1"])
def test_a_remembered_device_is_shown_there_or_not(
    qtbot: Any, panel: FitPanel, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    panel.recall_device(device)
    assert panel.device == device
    assert devices(panel).count(device) == 1
    # The result is the same before the machine's devices are known.
    early = FitPanel("fast", "auto")
    qtbot.addWidget(early)
    early.recall_device(device)
    qtbot.waitUntil(lambda: "cpu" in devices(early))
    assert early.device == device
    assert devices(early).count(device) == 1


def test_it_says_why_there_are_no_devices(qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise DeviceError("PyTorch could not be loaded: no DLL.")

    monkeypatch.setattr(fit_panel_module, "load_torch", fail)
    panel = FitPanel("fast", "cpu")
    qtbot.addWidget(panel)
    qtbot.waitUntil(lambda: panel.estimate.text() == "PyTorch could not be loaded: no DLL.")
    assert panel.device == "cpu"


def test_the_width_is_another_way_to_set_the_scale(make_panel: Callable[..., FitPanel]) -> None:
    panel = make_panel("upscale")
    panel.show_pixel(0.5, "µm", 768)
    assert (panel.width_box.value(), panel.width_box.minimum(), panel.width_box.maximum()) == (1536, 768, 6144)
    panel.width_box.setValue(1920)
    assert (panel.scale, panel.pixel_box.value()) == (2.5, 0.2)
    panel.pixel_box.setValue(0.25)
    assert (panel.scale, panel.width_box.value()) == (2, 1536)
    for purpose in range(panel.purpose_box.count()):
        panel.purpose_box.setCurrentIndex(purpose)
        assert panel.width_box.isVisibleTo(panel) == panel.purpose.enlarges
