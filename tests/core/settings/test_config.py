"""Settings: presets, checks, and error messages with the remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_siren.core.settings.config import FitConfig
from napari_siren.core.settings.presets import PRESET_NAMES
from napari_siren.errors import ConfigError, SirenError


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_a_preset_survives_json(name: str, tmp_path: Path) -> None:
    config = FitConfig.preset(name, max_steps=7)
    path = tmp_path / "settings.json"
    path.write_text(config.model_dump_json(), encoding="utf-8")
    assert FitConfig.from_file(path) == config
    assert (config.name, config.max_steps) == (name, 7)


def test_the_paper_preset_is_the_original_experiment() -> None:
    config = FitConfig.preset("paper")
    network = (config.tile, config.hidden_layers, config.hidden_features, config.omega_0, config.coordinates)
    assert network == ("whole", 5, 256, 30, "unit")
    optimiser = (config.optimizer, config.learning_rate, config.beta1, config.beta2, config.schedule)
    assert optimiser == ("adam", 1e-4, 0.9, 0.999, "constant")
    assert (config.max_steps, config.value_range, config.averaging) == (15_000, "full", 0)
    assert (config.observation, config.total_variation, config.heldout) == ("point", 0, 0)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        FitConfig().tile = 8


def test_override_checks_anew_and_leaves_the_original() -> None:
    config = FitConfig.preset("upscale")
    assert config.override(max_steps=3).max_steps == 3
    assert config.override(max_steps=3).observation == config.observation == "bicubic"
    assert config.max_steps != 3
    with pytest.raises(ConfigError, match="max_steps"):
        config.override(max_steps=0)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("max_step", "max_steps"),
        ("hidden_feature", "hidden_features"),
        ("learningrate", "learning_rate"),
        ("target_psrn", "target_psnr"),
        ("optimiser", "optimizer"),
    ],
)
def test_an_unknown_setting_gets_the_nearest_right_name(wrong: str, right: str) -> None:
    with pytest.raises(ConfigError, match=f"'{wrong}'.*did you mean '{right}'"):
        FitConfig(**{wrong: 1})


def test_a_setting_like_no_other_gets_no_guess() -> None:
    with pytest.raises(ConfigError, match=r"there is no setting 'zzz'\.$"):
        FitConfig(zzz=1)


def test_every_wrong_setting_is_named_at_once() -> None:
    with pytest.raises(ConfigError, match=r"band: .*\(got -1\)") as caught:
        FitConfig(max_step=3, band=-1)
    assert "max_steps" in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"tile": 3},
        {"tile": "wide"},
        {"tile": 8.5},
        {"parameters_per_value": 0},
        {"overlap": 0.1},
        {"hidden_layers": 0},
        {"hidden_features": 0},
        {"band": float("nan")},
        {"omega_0": 0},
        {"total_variation": -1},
        {"total_variation": float("nan")},
        {"total_variation": "some"},
        {"learning_rate": 0},
        {"beta1": 1},
        {"max_steps": 0},
        {"max_steps": 2.5},
        {"max_seconds": 0},
        {"max_seconds": float("nan")},
        {"target_psnr": -3},
        {"heldout": 0.6},
        {"heldout": -0.1},
        {"value_range": "narrow"},
        {"engine": "fast"},
        {"threads": 0},
        {"max_memory": 0},
        {"memory_fraction": 1},
        {"optimizer": "sgd"},
        {"name": "slow"},
        {"coordinates": "unit", "tile": 8},
        {"total_variation": 0.1, "observation": "point"},
    ],
    ids=repr,
)
def test_a_value_out_of_range_is_refused_by_name(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        FitConfig(**fields)


@pytest.mark.parametrize(
    ("name", "hint"), [("fathful", "did you mean 'faithful'"), ("zzz", "Use one of: faithful"), (None, "faithful")]
)
def test_an_unknown_preset_is_refused_with_those_there_are(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        FitConfig.preset(name)


@pytest.mark.parametrize("text", ["{", "[1]", '{"max_step": 3}', '{"max_steps": "many"}', ""])
def test_a_file_that_holds_no_settings_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        FitConfig.from_file(path)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError):
        FitConfig.from_file(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        FitConfig.from_file(tmp_path / "nowhere.json")


def test_a_model_of_before_pretrained_networks_has_none(tmp_path: Path) -> None:
    config = FitConfig.preset("upscale")
    fields = config.described()
    assert FitConfig.from_saved(fields) == config
    del fields["pretrained"]
    assert FitConfig.from_saved(fields) == config.override(pretrained=None)
    # A file of settings may have a few settings only; the others have their defaults.
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"name": "upscale"}), encoding="utf-8")
    assert FitConfig.from_file(path) == config


def test_every_field_is_documented() -> None:
    undocumented = [name for name, field in FitConfig.model_fields.items() if not field.description]
    assert not undocumented
    json.dumps(FitConfig.model_json_schema())


def test_errors_of_settings_are_errors_of_the_package() -> None:
    assert issubclass(ConfigError, SirenError)
    assert issubclass(ConfigError, ValueError)
