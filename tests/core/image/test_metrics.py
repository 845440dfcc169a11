"""PSNR, SSIM and the other metrics, against scikit-image and against their definitions."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import metrics as reference

from napari_siren.core.image.metrics import expected_rounded_mse, measure, peak_of, psnr_of
from napari_siren.core.image.samples import Samples

IMAGE = np.random.default_rng(0).integers(10, 200, (12, 11))


def with_errors(image: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    errors = np.random.default_rng(1).integers(-3, 4, image.shape)
    return (image + errors).astype(image.dtype)


@pytest.mark.parametrize(
    ("dtype", "peak"), [("uint8", 255), ("uint16", 189), ("int32", 189), ("float32", 189), ("bool", 1)]
)
def test_psnr_is_that_of_scikit_image_with_the_peak_of_the_dtype(dtype: str, peak: float) -> None:
    image = (IMAGE > 100) if dtype == "bool" else IMAGE.astype(dtype)
    found = ~image if dtype == "bool" else with_errors(image)
    if dtype != "bool":
        image[0, 0], image[0, 1] = 10, 199
    else:
        found[2:] = image[2:]
    metrics = measure(Samples.from_array(image), found)
    wide = image.astype(float), found.astype(float)
    assert peak_of(Samples.from_array(image)) == peak
    assert metrics.psnr == pytest.approx(reference.peak_signal_noise_ratio(*wide, data_range=peak))
    assert metrics.ssim == pytest.approx(reference.structural_similarity(*wide, data_range=peak))
    assert metrics.rmse == pytest.approx(math.sqrt(reference.mean_squared_error(*wide)))
    assert metrics.max_abs == np.abs(wide[0] - wide[1]).max()
    assert metrics.psnr_heldout is None


def test_ssim_takes_channels_as_scikit_image_does() -> None:
    image = np.stack([IMAGE, IMAGE[::-1], IMAGE[:, ::-1]], axis=-1).astype(np.uint8)
    found = with_errors(image)
    expected = reference.structural_similarity(image, found, data_range=255, channel_axis=-1)
    assert measure(Samples.from_array(image), found).ssim == pytest.approx(expected, rel=1e-6)


def test_an_exact_reconstruction_has_infinite_psnr() -> None:
    metrics = measure(Samples.from_array(IMAGE), IMAGE)
    assert (metrics.psnr, metrics.ssim, metrics.rmse, metrics.max_abs) == (math.inf, 1, 0, 0)


def test_a_constant_image_is_measured_with_a_peak_of_one() -> None:
    image = np.full((8, 8), 7.0)
    metrics = measure(Samples.from_array(image), image + 0.1)
    assert metrics.psnr == pytest.approx(20)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_psnr_does_not_depend_on_the_unit(factor: float) -> None:
    image, found = IMAGE.astype(float), with_errors(IMAGE).astype(float)
    expected = measure(Samples.from_array(image), found)
    scaled = measure(Samples.from_array(image * factor), found * factor)
    assert scaled.psnr == pytest.approx(expected.psnr)
    assert scaled.ssim == pytest.approx(expected.ssim)
    assert scaled.rmse == pytest.approx(expected.rmse * factor)


def test_missing_pixels_do_not_count() -> None:
    image, missing = IMAGE.astype(np.uint16), IMAGE % 5 == 0
    found = with_errors(image)
    spoilt, wrong = np.where(missing, 60_000, image), np.where(missing, 3, found)
    metrics = measure(Samples.from_array(spoilt, missing=missing), wrong)
    peak = np.ptp(image[~missing])
    expected = reference.peak_signal_noise_ratio(image[~missing], found[~missing], data_range=peak)
    assert metrics.psnr == pytest.approx(expected)
    assert metrics.max_abs == 3
    assert metrics.ssim is None


def test_heldout_psnr_is_over_the_pixels_held_out_alone() -> None:
    samples = Samples.from_array(IMAGE, heldout=0.2)
    found = np.where(samples.heldout, IMAGE + 10, IMAGE)
    metrics = measure(samples, found)
    assert metrics.psnr_heldout == pytest.approx(20 * math.log10(np.ptp(IMAGE) / 10))


def test_an_image_smaller_than_the_window_has_no_ssim() -> None:
    image = IMAGE[:6]
    assert measure(Samples.from_array(image), with_errors(image)).ssim is None


def test_psnr_of_nothing_wrong_and_of_everything_wrong() -> None:
    assert psnr_of(0, 255) == math.inf
    assert psnr_of(255**2, 255) == 0
    assert psnr_of(math.inf, 255) == -math.inf
    assert math.isnan(psnr_of(math.nan, 255))


@pytest.mark.parametrize("sigma", [0.02, 0.15, 0.3, 0.5, 1.0, 2.9, 3.1, 20])
def test_rounding_changes_the_error_as_in_a_simulation(sigma: float) -> None:
    rng = np.random.default_rng(0)
    rounded = np.rint(rng.normal(0, sigma, 400_000))
    simulated = np.square(rounded)
    four_sigma = 4 * simulated.std() / math.sqrt(len(simulated)) + 1e-12
    assert expected_rounded_mse(sigma**2) == pytest.approx(simulated.mean(), abs=four_sigma)


@given(st.floats(0, 30), st.floats(1e-6, 30))
def test_more_error_before_rounding_is_more_after(mse: float, more: float) -> None:
    assert 0 <= expected_rounded_mse(mse) <= expected_rounded_mse(mse + more) + 1e-12


def test_errors_of_many_places_are_rounded_each_on_its_own() -> None:
    several = np.array([[0.0, 0.1], [4.0, 100.0]])
    one_by_one = [[float(expected_rounded_mse(mse)) for mse in row] for row in several]
    np.testing.assert_array_equal(expected_rounded_mse(several), one_by_one)
