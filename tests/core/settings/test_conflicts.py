"""Settings that exclude each other: one error whose remedies work, whatever else was set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_siren as ns
from napari_siren.core.settings.presets import PRESET_NAMES
from napari_siren.errors import ConfigError

PSF = ((1.0, 2.0), (3.0, 4.0))
VALUES: dict[str, list[Any]] = {
    "observation": ["point", "box", "bicubic", "gaussian", "measured"],
    "psf_width": [None, 2.0, "auto"],
    "psf": [PSF],
    "total_variation": [0.0, 0.1, "auto"],
    "task": [None, "super-resolution", "denoise", "deconvolution", "burst"],
    "task_steps": [0, 5],
    "tile": ["auto", "whole", 16],
    "coordinates": ["pixel", "unit"],
}
SINGLE = [{name: value} for name, values in VALUES.items() for value in values]
PAIRS = [{**one, **other} for one, other in combinations(SINGLE, 2) if one.keys() != other.keys()]
WITHOUT_TASK = {"task": None, "task_steps": 0}
# Text of an error, and the changes that it offers.
REMEDIES: dict[str, list[dict[str, Any]]] = {
    'such as observation="box"': [{"observation": "box"}, WITHOUT_TASK],
    "A blur is needed": [{"observation": "gaussian", "psf_width": 2.0}, {"observation": "measured", "psf": PSF}],
    "which psf_width is for": [{"observation": "gaussian"}, WITHOUT_TASK],
    "which psf is for": [{"observation": "measured"}, WITHOUT_TASK],
    "describe the blur twice": [
        {"observation": "measured", "psf_width": None},
        {"observation": "gaussian", "psf": None},
    ],
    'psf_width is only for observation="gaussian"': [{"observation": "gaussian"}, {"psf_width": None}],
    'psf is only for observation="measured"': [{"observation": "measured"}, {"psf": None}],
    'Set psf_width to a number or "auto".': [{"psf_width": 3.0}, {"psf_width": "auto"}],
    'Set psf_width to a number or "auto" instead of psf': [
        {"psf_width": 3.0, "psf": None},
        {"observation": "measured"},
    ],
    "Set psf to an array.": [{"psf": PSF}],
    "Set psf to an array instead of psf_width": [{"psf": PSF, "psf_width": None}, {"observation": "gaussian"}],
    "total_variation needs samples": [{"observation": "box"}, {"total_variation": 0.0}],
    "needs a task.": [{"task": "denoise"}, {"task_steps": 0}],
    'coordinates="unit" needs tile="whole"': [{"tile": "whole"}, {"coordinates": "pixel"}],
}


def follow(make: Callable[..., object], fields: Mapping[str, Any], changed: Mapping[str, Any]) -> int:
    """Follow every remedy of every error until there is none, and return the number of errors.

    A remedy that takes back an earlier one fails the test.
    """
    error = error_of(make, fields)
    if error is None:
        return 0
    offered = [changes for text, changes in REMEDIES.items() if text in error]
    assert offered, error
    count = 1
    for choice in product(*offered):
        change = {name: value for part in choice for name, value in part.items()}
        again = {name for name in change.keys() & changed.keys() if change[name] != changed[name]}
        assert not again, f"{fields}: {error}"
        count += follow(make, {**fields, **change}, {**changed, **change})
    return count


def error_of(make: Callable[..., object], fields: Mapping[str, Any]) -> str | None:
    try:
        make(**fields)
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_no_remedy_of_an_error_leads_to_an_error_that_takes_it_back(preset: str) -> None:
    def of_preset(**fields: Any) -> ns.FitConfig:
        return ns.FitConfig.preset(preset, **fields)

    assert sum(follow(of_preset, fields, {}) for fields in (*SINGLE, *PAIRS)) > 100
    assert sum(follow(ns.FitConfig.preset(preset).override, fields, {}) for fields in (*SINGLE, *PAIRS)) > 100


@pytest.mark.parametrize(
    ("preset", "fields", "adapted"),
    [
        ("deblur", {"observation": "box", "task": None}, {"psf_width": None, "task_steps": 0}),
        ("deblur", {"observation": "point", "task_steps": 0}, {"psf_width": None}),
        ("deblur", {"psf": PSF}, {"observation": "measured", "psf_width": None}),
        ("deblur", {"psf": PSF, "observation": "measured"}, {"psf_width": None}),
        ("upscale", {"observation": "point", "task": None}, {"total_variation": 0.0, "task_steps": 0}),
        ("upscale", {"task": None}, {"task_steps": 0, "total_variation": "auto"}),
        ("upscale", {"observation": "box"}, {"total_variation": "auto", "task_steps": 2000}),
        ("burst", {"task": None}, {"task_steps": 0, "observation": "box"}),
    ],
    ids=str,
)
def test_values_of_a_preset_follow_the_settings_that_were_given(
    preset: str, fields: dict[str, Any], adapted: dict[str, Any]
) -> None:
    config = ns.FitConfig.preset(preset, **fields)
    expected = {**fields, **adapted}
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("preset", "fields"),
    [
        ("upscale", {"observation": "point", "task": None, "total_variation": 0.1}),
        ("upscale", {"task": None, "task_steps": 9}),
        ("deblur", {"psf": PSF, "psf_width": 2.0}),
        ("faithful", {"observation": "box", "psf_width": 2.0}),
    ],
    ids=str,
)
def test_a_setting_that_was_given_is_not_changed(preset: str, fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ns.FitConfig.preset(preset, **fields)


@pytest.mark.parametrize("fields", [{}, {"total_variation": 0.0}, {"pretrained": None}], ids=str)
def test_upscaling_of_point_samples_is_one_error(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"super-resolution.*observation='point'.*box.*task=None") as caught:
        ns.upscale(np.eye(16, dtype=np.float32), 2, observation="point", **fields)
    assert "total_variation" not in str(caught.value)


def test_upscaling_of_point_samples_without_the_task() -> None:
    image = np.eye(16, dtype=np.float32)
    assert ns.upscale(image, 2, observation="point", task=None, max_steps=2).shape == (32, 32)


@pytest.mark.parametrize(
    ("fields", "text", "remedy"),
    [
        ({"preset": "paper"}, 'tile="auto" and coordinates="pixel"', {"tile": "auto", "coordinates": "pixel"}),
        ({"heldout": 0.1}, "Leave it out", {"heldout": 0.0}),
        ({"max_seconds": 1.0}, "max_steps instead", {"max_seconds": None, "max_steps": 2}),
    ],
    ids=str,
)
def test_the_remedies_for_fits_by_blocks(
    tmp_path: Path, fields: dict[str, Any], text: str, remedy: dict[str, Any]
) -> None:
    small = {"hidden_features": 6, "hidden_layers": 2, "max_steps": 2}
    with pytest.raises(ConfigError, match=text):
        ns.fit_blocks(np.eye(16), tmp_path / "x.ome.zarr", **{**small, **fields})
    assert ns.fit_blocks(np.eye(16), tmp_path / "x.ome.zarr", **{**small, **fields, **remedy}).shape == (32, 32)
