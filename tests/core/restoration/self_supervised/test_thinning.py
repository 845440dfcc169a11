"""Thinning of rows: weights of slices and of splines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_siren.core.restoration.self_supervised.thinning import (
    Thinning,
    gaussian_weights,
    row_weights,
    spline_weights,
)


@pytest.mark.parametrize("thick", [False, True])
def test_a_thinned_ramp_has_the_values_at_its_rows(thick: bool) -> None:
    thinning = Thinning(24, 6, 4.0, thick, first=1.5, sigma=0.0)
    ramp = np.arange(24.0)
    np.testing.assert_allclose(thinning.reduction @ ramp, 1.5 + 4 * np.arange(6))
    np.testing.assert_allclose(thinning.blur @ ramp, 1.5 + 4 * thinning.positions)
    # The rows at both ends are less than half a distance outside.
    assert len(thinning.positions) == 24
    assert thinning.noise_share == pytest.approx(0.25 if thick else 0.5)


def test_a_drawn_thinning_stays_within_the_rows() -> None:
    for seed in range(20):
        thinning = Thinning.draw(np.random.default_rng(seed), 31, 10, 3.0, thick=False)
        assert thinning.first >= 0
        assert thinning.first + 9 * 3.0 <= 30
        assert 0 <= thinning.sigma <= 1.8


@given(st.integers(8, 60), st.floats(1.2, 6), st.booleans())
def testrow_weights_a_constant_are_the_constant(rows: int, ratio: float, thick: bool) -> None:
    count = max(1, int(rows / ratio))
    centres = (ratio - 1) / 2 + ratio * np.arange(count)
    weights = row_weights(rows, centres, ratio if thick else 0.0) @ gaussian_weights(rows, 0.4 * ratio)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert (weights >= 0).all()


@given(st.integers(2, 20), st.floats(0, 1))
def test_splines_pass_through_the_slices_and_keep_lines(count: int, share: float) -> None:
    places = np.arange(count)
    np.testing.assert_allclose(spline_weights(count, places), np.eye(count), atol=1e-9)
    between = np.array([share * (count - 1)])
    np.testing.assert_allclose(spline_weights(count, between) @ places, between, atol=1e-9)
