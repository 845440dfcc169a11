"""Tests of the PSF of a bead."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from napari_siren import InputError, psf_from_bead


def bell(shape: tuple[int, ...], centre: tuple[float, ...], sigma: float) -> npt.NDArray[np.float64]:
    """Return a Gaussian with the height 1."""
    offsets = (i - c for i, c in zip(np.indices(shape), centre, strict=True))
    return np.asarray(np.exp(-sum(np.square(offset) for offset in offsets) / (2 * sigma**2)))


def error(psf: npt.NDArray[np.float64], sigma: float) -> float:
    """Return the error of a PSF relative to a Gaussian in the middle."""
    shape = tuple(n + 20 for n in psf.shape)
    truth = bell(shape, tuple(n // 2 for n in shape), sigma)
    truth /= truth.sum()
    return float(np.linalg.norm(np.pad(psf, 10) - truth) / np.linalg.norm(truth))


@pytest.mark.parametrize(
    ("shape", "centre", "noise", "limit"),
    [
        ((64, 80), (30.3, 41.6), 0, 0.02),
        ((64, 80), (35.5, 38.5), 2, 0.06),
        ((20, 64, 80), (9.3, 30.4, 41.7), 2, 0.1),
        ((64,), (30.4,), 0, 0.02),
    ],
)
def test_a_bead_is_centred_without_background_and_noise(
    shape: tuple[int, ...], centre: tuple[float, ...], noise: float, limit: float
) -> None:
    image = 100 + 200 * bell(shape, centre, 1.4) + np.random.default_rng(0).normal(0, noise, shape)
    psf = psf_from_bead(image)
    assert all(n % 2 for n in psf.shape)
    assert psf.sum() == pytest.approx(1)
    assert psf.min() >= 0
    assert np.unravel_index(psf.argmax(), psf.shape) == tuple(n // 2 for n in psf.shape)
    assert error(psf, 1.4) < limit


def test_the_brightest_of_several_beads_is_used() -> None:
    beads = (
        bell((64, 80), (30.3, 30.7), 1.4) + 0.7 * bell((64, 80), (40, 45), 1.4) + 0.5 * bell((64, 80), (20, 20), 1.4)
    )
    noise = np.random.default_rng(0).normal(0, 2, beads.shape)
    assert error(psf_from_bead(100 + 200 * beads + noise), 1.4) < 0.06
    near = bell((64, 80), (30.3, 30.7), 1.4) + 0.7 * bell((64, 80), (30, 41), 1.4)
    psf = psf_from_bead(near)
    assert psf.shape[1] == 11
    assert error(psf, 1.4) < 0.02


def test_integers_keep_their_sign() -> None:
    image = np.round(100 + 200 * bell((31, 32), (15, 15), 2)).astype(np.uint8)
    np.testing.assert_array_equal(psf_from_bead(image), psf_from_bead(image.astype(float)))


@pytest.mark.parametrize("shape", [(7, 7), (64, 80), (8, 32, 32)])
def test_noise_is_no_bead(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="no spot that stands out of the noise"):
        psf_from_bead(np.random.default_rng(0).normal(100, 5, shape))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((8, 8), 5.1), "no spot"),
        (np.zeros((0, 4)), "no pixels"),
        (5, "no pixels"),
        ([["a"]], "not an array of numbers"),
        (np.array([[1.0, np.nan]]), "not finite"),
        (np.pad(np.ones((1, 1)), ((0, 8), (4, 4))), "at the edge"),
        (bell((40, 40), (1.5, 20), 2), "at the edge"),
    ],
)
def test_an_image_without_a_bead_is_refused(image: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        psf_from_bead(image)
