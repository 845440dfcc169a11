"""The rings of a spectrum: the identity of the checkerboard, and the correlation of equal planes."""

from __future__ import annotations

import numpy as np
import pytest

from napari_siren.core.resolution.rings import Rings


@pytest.mark.parametrize("shape", [(48, 64), (49, 63)])
def test_equal_planes_correlate_fully(shape: tuple[int, int]) -> None:
    planes = np.random.default_rng(0).normal(size=(2, *shape))
    rings = Rings.from_plane(shape, (1, 1), split=False)
    np.testing.assert_allclose(rings.correlation(planes, planes), 1)
    np.testing.assert_allclose(rings.correlation(planes, -planes), -1)


def test_halves_compare_each_frequency_with_its_alias() -> None:
    n = 64
    y, x = np.indices((n, n))
    rings = Rings.from_plane((n, n), (1, 1), split=True)
    wave = np.cos(2 * np.pi * (8 * y + 4 * x) / n)
    at = round(np.hypot(8, 4)) - round(rings.frequency[0] * n)
    assert rings.correlation(wave[np.newaxis], wave[np.newaxis])[at] > 0.9
    alias = wave * (-1.0) ** (y + x)
    assert rings.correlation(alias[np.newaxis], alias[np.newaxis])[at] < -0.9


def test_rings_are_within_the_measured_frequencies() -> None:
    for split, highest in ((True, 0.45), (False, 0.5)):
        rings = Rings.from_plane((100, 150), (0.5, 0.5), split=split)
        assert rings.frequency[-1] < highest / 0.5
        assert rings.frequency[0] == pytest.approx(2 / (100 * 0.5))
        assert (rings.count > 0).all()
