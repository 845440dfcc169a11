"""Tests of the ways to say what the blur is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from driving import notified
from napari.components import ViewerModel

import napari_siren as ns
from napari_siren import FitConfig
from napari_siren.layers.spec import LayerSpec
from napari_siren.ui.panels.blur_panel import BlurPanel


@pytest.fixture
def model() -> ViewerModel:
    viewer = ViewerModel()
    viewer.add_image(np.zeros((4, 8, 8)), name="cells", scale=(0.5, 0.1, 0.1), units=("um",) * 3)
    return viewer


@pytest.fixture
def panel(model: ViewerModel, qtbot: Any) -> Any:
    widget = BlurPanel(model, lambda: LayerSpec.from_layer(model.layers[0]))
    qtbot.addWidget(widget)
    widget.settings = []
    widget.texts = []
    widget.chosen.connect(widget.settings.append)
    widget.message.connect(widget.texts.append)
    return widget


def bead(*shape: int) -> Any:
    image = np.zeros(shape)
    image[tuple(n // 2 for n in shape)] = 9
    return image


@pytest.mark.parametrize(("confocal", "name"), [(True, "a confocal"), (False, "a widefield")])
def test_the_objective(panel: Any, monkeypatch: pytest.MonkeyPatch, confocal: bool, name: str) -> None:
    answers = {"aperture": 1.4, "index": 1.515, "wavelength": 520.0, "confocal": confocal}
    monkeypatch.setattr("napari_siren.ui.panels.blur_panel.request_values", lambda *_, **__: answers)
    panel.objective_button.click()
    [settings] = panel.settings
    expected = ns.psf_from_objective(
        (0.5, 0.1, 0.1), numerical_aperture=1.4, wavelength=0.52, refractive_index=1.515, confocal=confocal
    )
    np.testing.assert_allclose(settings["psf"], expected, atol=1e-12)
    shape = " × ".join(map(str, expected.shape))
    assert panel.texts == [f"The blur is that of {name} microscope, NA 1.4, {shape} pixels."]
    FitConfig.preset("deblur").override(**settings)


def made_by(code: Any, model: ViewerModel) -> Any:
    return eval(code, {"ns": ns, "viewer": model})


def test_the_code_makes_the_psf(panel: Any, model: ViewerModel, tmp_path: Path) -> None:
    panel.use_objective(1.2, 1.33, 520, confocal=True)
    psf = panel.settings[-1]["psf"]
    kept = FitConfig.preset("deblur").override(**panel.settings[-1]).psf
    code = panel.code_of(kept)
    assert code.startswith("ns.psf_from_objective(")
    np.testing.assert_array_equal(made_by(code, model), psf)
    assert panel.code_of(psf[1:]) is None
    model.add_image(bead(5, 7, 7), name="bead", scale=(0.5, 0.1, 0.1))
    panel.use_layer(model.layers["bead"])
    assert panel.code_of(psf) is None
    bead_psf = panel.settings[-1]["psf"]
    assert panel.code_of(bead_psf) == 'ns.psf_from_bead(viewer.layers["bead"].data)'
    np.testing.assert_array_equal(made_by(panel.code_of(bead_psf), model), bead_psf)
    np.save(tmp_path / "bead.npy", bead(5, 7, 7))
    panel.use_file(str(tmp_path / "bead.npy"))
    # A file may move, so the numbers themselves are in the code.
    assert panel.code_of(panel.settings[-1]["psf"]) is None


def test_numbers_that_no_objective_has_are_refused(panel: Any) -> None:
    with notified() as errors:
        panel.use_objective(1.4, 1.33, 520)
    assert "is not below the refractive index" in errors[0]
    assert panel.settings == []


def test_the_objective_needs_a_unit(panel: Any, model: ViewerModel) -> None:
    model.layers[0].units = ("pixel",) * 3
    with notified() as errors:
        panel.use_objective(1.4, 1.515, 520)
    assert panel.settings == []
    assert errors[0].startswith("the pixel size of “cells” has no unit of length.")


def test_a_bead_in_a_layer_and_in_a_file(panel: Any, model: ViewerModel, tmp_path: Path) -> None:
    model.add_image(bead(5, 7, 7), name="bead", scale=(0.5, 0.1, 0.1))
    panel._list_beads()
    texts = [action.text() for action in panel._menu.actions()]
    assert texts == ["cells", "bead", "", "File…"]
    panel._menu.actions()[1].trigger()
    np.save(tmp_path / "bead.npy", bead(5, 7, 7))
    panel.use_file(str(tmp_path / "bead.npy"))
    assert panel.texts == [f"The blur is “{name}”, 5 × 7 × 7 pixels." for name in ("bead", "bead.npy")]
    for settings in panel.settings:
        config = FitConfig.preset("deblur").override(**settings)
        assert np.asarray(config.psf).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("data", "scale", "message"),
    [
        (bead(7, 7), (0.1, 0.1), "has 2 axes, and the image has 3 in space"),
        (bead(5, 7, 7), (0.2, 0.1, 0.1), "are not as large as those of the image (0.5 × 0.1 × 0.1)"),
        (np.zeros((5, 7, 7)), (0.5, 0.1, 0.1), "no spot"),
    ],
)
def test_what_is_no_bead_is_refused(panel: Any, model: ViewerModel, data: Any, scale: Any, message: str) -> None:
    layer = model.add_image(data, name="bead", scale=scale)
    with notified() as errors:
        panel.use_layer(layer)
    assert message in errors[0]
    assert panel.settings == []
