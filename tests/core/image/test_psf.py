"""Tests of point spread functions from an objective and from a bead."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from napari_siren import InputError
from napari_siren.core.forward.operator import FWHM
from napari_siren.core.image.psf import bead_psf, objective_widths


def test_the_widths_of_a_small_aperture_are_the_paraxial_ones() -> None:
    aperture, wavelength, index = 0.05, 500.0, 1.33
    axial, lateral = objective_widths(aperture, wavelength, index)
    number = 2 * math.pi / wavelength
    assert lateral == pytest.approx(FWHM * math.sqrt(2) / (number * aperture), rel=1e-3)
    assert axial == pytest.approx(FWHM * 2 * math.sqrt(6) * index / (number * aperture**2), rel=2e-3)


@pytest.mark.parametrize(("aperture", "index"), [(0.75, 1.0), (1.2, 1.33), (1.4, 1.515)])
def test_the_widths_are_near_those_of_textbooks(aperture: float, index: float) -> None:
    axial, lateral = objective_widths(aperture, 520, index)
    assert lateral == pytest.approx(0.51 * 520 / aperture, rel=0.05)
    assert axial == pytest.approx(0.88 * 520 / (index - math.sqrt(index**2 - aperture**2)), rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 520, 1.5), "numerical aperture is 0"),
        ((1.4, math.nan, 1.5), "wavelength is nan"),
        ((1.4, 520, 1.33), "not below the refractive index"),
    ],
)
def test_wrong_numbers_are_refused(arguments: tuple[float, float, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        objective_widths(*arguments)


def test_a_bead_is_centred_without_its_background() -> None:
    z, y, x = np.indices((9, 21, 25))
    true = np.exp(-((z - 4) ** 2 + (y - 9) ** 2 + (x - 14) ** 2) / 8)
    psf = bead_psf(1000 + 500 * true + np.random.default_rng(0).normal(0, 2, true.shape))
    assert psf.shape == (9, 19, 21)
    assert psf.sum() == pytest.approx(1)
    assert np.unravel_index(psf.argmax(), psf.shape) == (4, 9, 10)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((8, 8), 5.0), "no spot"),
        (np.zeros((0, 4)), "no pixels"),
        (np.array([[1.0, np.nan]]), "not finite"),
        (np.pad(np.ones((1, 1)), ((0, 8), (4, 4))), "at the edge"),
    ],
)
def test_an_image_without_a_bead_is_refused(image: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        bead_psf(image)
