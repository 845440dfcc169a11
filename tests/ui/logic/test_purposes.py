"""The purposes: each has its preset and its words, and existing settings."""

from __future__ import annotations

import pytest

from napari_siren import FitConfig
from napari_siren.core.settings.presets import PRESETS
from napari_siren.ui.logic.purposes import PURPOSES, purpose_for, purpose_of, result_label
from napari_siren.ui.logic.setting_names import GROUPS


def test_the_first_purpose_is_to_enlarge() -> None:
    assert PURPOSES[0].title == "Enlarge"


@pytest.mark.parametrize("purpose", PURPOSES, ids=lambda purpose: purpose.name)
def test_each_has_a_sentence_and_existing_settings(purpose) -> None:  # type: ignore[no-untyped-def]
    assert purpose.sentence.endswith(".")
    assert purpose.sentence[0].isupper()
    assert set(purpose.settings) <= set(FitConfig.model_fields)
    assert purpose_of(purpose.name) is purpose
    assert FitConfig.preset(purpose.preset).name == purpose.preset


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_each_preset_belongs_to_a_purpose(preset) -> None:  # type: ignore[no-untyped-def]
    wanted = {"upscale": "enlarge", "denoise": "denoise", "deblur": "deblur", "burst": "burst"}
    assert purpose_for(preset.name).name == wanted.get(preset.name, "memorise")


def test_cubic_voxels_are_a_purpose_of_their_own() -> None:
    assert purpose_for("upscale", isotropic=True).name == "isotropic"
    assert purpose_for("denoise", isotropic=True).name == "denoise"


@pytest.mark.parametrize(
    ("preset", "scale", "isotropic", "label"),
    [
        ("upscale", "x4", False, "enlarged x4"),
        ("upscale", "x1", False, "enlarged"),
        ("upscale", "x4,1,1", True, "isotropic x4,1,1"),
        ("denoise", "x1", False, "denoised"),
        ("deblur", "x1", False, "deblurred"),
        ("deblur", "x2", False, "deblurred x2"),
        ("burst", "x3", False, "joined x3"),
        ("faithful", "x2", False, "x2"),
        ("fast", "x1", False, "x1"),
    ],
)
def test_names_of_results(preset: str, scale: str, isotropic: bool, label: str) -> None:
    assert result_label(FitConfig.preset(preset), scale, isotropic) == label


def test_every_setting_has_a_name_for_people() -> None:
    titles = [title for group in GROUPS.values() for title in group.items()]
    assert {name for name, _ in titles} == set(FitConfig.model_fields) - {"name", "psf"}
    assert len({title for _, title in titles}) == len(titles)
