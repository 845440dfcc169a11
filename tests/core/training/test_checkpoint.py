"""Fingerprints: the fits that may be continued from a state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydantic_core import to_json

from napari_siren.core.image.samples import Samples
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.checkpoint import Checkpoint, check_fingerprint, fingerprint
from napari_siren.errors import InputError

IMAGE = np.random.default_rng(0).random((8, 9), dtype=np.float32)
SAMPLES = Samples.from_array(IMAGE)
CONFIG = FitConfig.preset("upscale", pretrained=None, task_steps=7)
STATE = Checkpoint(3, 1.0, 0, 0.1, fingerprint(SAMPLES, CONFIG), {})


@pytest.mark.parametrize(
    "change",
    [{"max_steps": 999}, {"max_seconds": 3.0}, {"engine": "torch"}, {"threads": 2}, {"precision": "float32"}],
    ids=str,
)
def test_limits_and_resources_may_differ(change: dict[str, Any]) -> None:
    check_fingerprint(STATE, SAMPLES, CONFIG.override(**change))


@pytest.mark.parametrize("change", [{"task_steps": 8}, {"hidden_features": 16}, {"averaging": 0.5}], ids=str)
def test_other_settings_may_not(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="max_steps, memory_fraction"):
        check_fingerprint(STATE, SAMPLES, CONFIG.override(**change))


def test_the_image_may_not_differ() -> None:
    other = IMAGE.copy()
    other[3, 4] += 0.001
    with pytest.raises(InputError, match="another image"):
        check_fingerprint(STATE, Samples.from_array(other), CONFIG)
    with pytest.raises(InputError, match="another image"):
        check_fingerprint(STATE, SAMPLES, CONFIG, np.zeros((2, 1, 8, 9), np.float32))


def test_a_state_of_an_earlier_version() -> None:
    # From a file of version 2, with the same image and settings.
    earlier = "6a96dbbcaad116d877fdcb03e99fcd506bd62ce68d20afea3c342de0cfa23dcc"
    check_fingerprint(replace(STATE, fingerprint=earlier), SAMPLES, CONFIG)
    with pytest.raises(InputError, match="other settings"):
        check_fingerprint(replace(STATE, fingerprint=earlier), SAMPLES, CONFIG.override(pretrained="auto"))
    assert b'"cross_scale_steps":7,"blind_spot_steps":0,' in to_json(CONFIG.earlier_settings())
