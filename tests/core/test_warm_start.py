"""Warm starts: the settings for a fit after that of a similar image."""

from __future__ import annotations

import numpy as np
import pytest

import napari_siren as ns
from napari_siren import FitConfig
from napari_siren.core.warm_start import plan_warm_start, warm_config

IMAGE = np.random.default_rng(0).integers(0, 255, (16, 20), dtype=np.uint8)


@pytest.mark.parametrize(("same", "steps"), [(True, (34, 34)), (False, (34, 100))])
def test_a_warm_start_makes_a_third_of_the_steps(same: bool, steps: tuple[int, int]) -> None:
    warm = warm_config(FitConfig.preset("upscale", task_steps=100, max_steps=100), same)
    assert (warm.task_steps, warm.max_steps) == steps


def test_what_nothing_is_taken_of_takes_as_long() -> None:
    deblur = FitConfig.preset("deblur")
    assert warm_config(deblur, same=False) == deblur


def test_an_unlike_image_is_no_beginning() -> None:
    config = FitConfig.preset("faithful", max_steps=60)
    alike = ns.fit(IMAGE, config=config, device="cpu")
    assert plan_warm_start(IMAGE, config, None) == (config, None)
    assert plan_warm_start(IMAGE[::-1].copy(), config, alike) == (config, None)
    warm, start = plan_warm_start(IMAGE, config, alike)
    assert (warm, start) == (config, alike)


def test_a_constant_image_is_alike_to_none() -> None:
    config = FitConfig.preset("faithful", max_steps=3)
    flat = np.full_like(IMAGE, 7)
    assert plan_warm_start(flat, config, ns.fit(flat, config=config, device="cpu"))[1] is None
