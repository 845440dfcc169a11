"""Patches of an image: the line of the noise variance over the brightness, and the parts."""

from __future__ import annotations

import numpy as np
import pytest

from napari_siren.core.noise.patches import LEAST, Patches

ROWS, COLUMNS = np.mgrid[:120, :140]
SCENE = 0.6 * np.sin(ROWS / 20) * np.cos(COLUMNS / 15)


def test_the_line_is_that_of_photon_noise() -> None:
    rng = np.random.default_rng(0)
    noisy = SCENE + np.sqrt(0.002 * (SCENE + 1)) * rng.standard_normal(SCENE.shape)
    slope, offset = Patches.from_values(noisy[np.newaxis].astype(np.float32)).line()
    assert slope == pytest.approx(0.002, rel=0.25)
    assert offset == pytest.approx(0.002, rel=0.25)


def test_a_part_of_one_brightness_has_a_level_line() -> None:
    """It has no warning either; warnings are errors here."""
    level = np.full(LEAST, 0.25)
    scatter = np.random.default_rng(0).chisquare(30, LEAST) / 30
    slope, offset = Patches(scatter, level, np.zeros(LEAST, dtype=np.intp)).line()
    assert slope == 0
    assert 0.5 < offset < 1.2


def test_each_part_is_spread_over_the_image() -> None:
    noisy = (SCENE + 0.05 * np.random.default_rng(0).standard_normal(SCENE.shape)).astype(np.float32)
    patches = Patches.from_values(noisy[np.newaxis])
    parts = list(patches.by_parts())
    assert len(parts) >= 4
    assert sum(len(part.level) for part in parts) <= len(patches.level)
    assert all(np.ptp(part.level) > 0.3 * np.ptp(patches.level) for part in parts)
