"""The linear match: against a regression by NumPy, missing pixels, channels, units and constants."""

from __future__ import annotations

import numpy as np
import pytest

from napari_siren.core.image.linear_match import LinearMatch
from napari_siren.core.image.samples import Samples

RNG = np.random.default_rng(0)
IMAGE = RNG.normal(100, 20, (20, 24))
PREDICTION = 0.4 * IMAGE + 30 + RNG.normal(0, 3, IMAGE.shape)


def test_it_is_the_line_of_least_squares() -> None:
    match = LinearMatch.from_prediction(Samples.from_array(IMAGE), PREDICTION)
    slope, intercept = np.polyfit(PREDICTION.ravel(), IMAGE.ravel(), 1)
    assert match.slope == pytest.approx((slope,))
    assert match.intercept == pytest.approx((intercept,))
    assert match.rse == pytest.approx(np.sqrt(np.square(slope * PREDICTION + intercept - IMAGE).mean()))
    assert match.rsp == pytest.approx(np.corrcoef(IMAGE.ravel(), PREDICTION.ravel())[0, 1])


@pytest.mark.parametrize(("factor", "offset"), [(1e-30, 0), (3, 70), (1e30, 0), (-2, 5)])
def test_a_change_of_intensities_is_matched(factor: float, offset: float) -> None:
    expected = LinearMatch.from_prediction(Samples.from_array(IMAGE), PREDICTION)
    changed = LinearMatch.from_prediction(Samples.from_array(IMAGE), factor * PREDICTION + offset)
    assert changed.rse == pytest.approx(expected.rse)
    assert changed.rsp == pytest.approx(np.sign(factor) * expected.rsp)
    scaled = LinearMatch.from_prediction(Samples.from_array(abs(factor) * IMAGE), PREDICTION)
    assert scaled.rse == pytest.approx(abs(factor) * expected.rse)


def test_channels_have_their_own_lines() -> None:
    image = np.stack([IMAGE, IMAGE.T.reshape(IMAGE.shape)], axis=-1)
    other = np.stack([2 * image[..., 0], 5 - image[..., 1]], axis=-1)
    match = LinearMatch.from_prediction(Samples.from_array(image, "YXC"), other)
    assert match.slope == pytest.approx((0.5, -1))
    assert match.rsp == pytest.approx(0)
    assert match.rse == pytest.approx(0, abs=1e-9)
    noisy = LinearMatch.from_prediction(Samples.from_array(image, "YXC"), np.stack([PREDICTION, image[..., 1]], -1))
    single = LinearMatch.from_prediction(Samples.from_array(IMAGE), PREDICTION)
    assert noisy.rse == pytest.approx(single.rse / np.sqrt(2))
    assert noisy.rsp == pytest.approx((single.rsp + 1) / 2)


def test_missing_pixels_do_not_count() -> None:
    missing = RNG.random(IMAGE.shape) < 0.2
    spoilt = np.where(missing, 1e6, IMAGE)
    match = LinearMatch.from_prediction(
        Samples.from_array(spoilt, missing=missing), np.where(missing, -1e6, PREDICTION)
    )
    assert match.rsp == pytest.approx(np.corrcoef(IMAGE[~missing], PREDICTION[~missing])[0, 1])


@pytest.mark.parametrize("level", [0.0, 0.1, 7.0, 1e12])
def test_a_constant_has_no_correlation(level: float) -> None:
    flat = np.full(IMAGE.shape, level)
    match = LinearMatch.from_prediction(Samples.from_array(IMAGE), flat)
    assert (match.slope, match.rsp) == ((0.0,), None)
    assert match.rse == pytest.approx(IMAGE.std())
    match = LinearMatch.from_prediction(Samples.from_array(flat), PREDICTION)
    assert (match.rse, match.rsp) == (0.0, None)
