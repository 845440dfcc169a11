"""The list of presets is the only one: help texts, manifest and docstrings agree with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import napari_siren as ns
from napari_siren.cli import app as cli
from napari_siren.core.settings.presets import PRESET_NAMES, PRESETS, preset_help


def test_every_name_has_one_preset() -> None:
    assert [preset.name for preset in PRESETS] == list(PRESET_NAMES)


@pytest.mark.parametrize("preset", PRESETS, ids=PRESET_NAMES)
def test_a_preset_names_settings_and_is_described(preset: object) -> None:
    assert isinstance(preset, type(PRESETS[0]))
    config = ns.FitConfig.preset(preset.name)
    assert {name: getattr(config, name) for name in preset.fields} == dict(preset.fields)
    assert preset.summary[0].islower()
    assert not preset.summary.endswith(".")
    assert preset.tip.endswith(".")


def test_the_default_comes_first_in_help() -> None:
    assert preset_help("upscale", without=["paper"]).startswith("upscale sharpens")
    assert "paper" not in preset_help("upscale", without=["paper"])


@pytest.mark.parametrize("command", ["fit", "upscale", "batch"])
def test_help_names_them_all(command: str) -> None:
    text = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200"}).output
    assert all(preset.name in text for preset in PRESETS)


def test_the_manifest_offers_them_all() -> None:
    manifest = yaml.safe_load((Path(ns.__file__).parent / "napari.yaml").read_text(encoding="utf-8"))
    fitting = manifest["contributions"]["configurations"]["fitting"]["properties"]
    assert tuple(fitting["preset"]["enum"]) == PRESET_NAMES


def test_the_docstring_of_fit_names_them_all() -> None:
    assert all(f'"{name}"' in str(ns.fit.__doc__) for name in PRESET_NAMES)
