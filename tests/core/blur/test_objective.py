"""Tests of point spread functions for the numbers on an objective."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import napari_siren as ns
from napari_siren import InputError
from napari_siren.core.blur.objective import objective_widths
from napari_siren.core.forward.operator import FWHM

OIL: dict[str, float] = {"numerical_aperture": 1.4, "wavelength": 520, "refractive_index": 1.515}


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
        (("1.4", 520, 1.5), "numerical aperture is '1.4'"),
        ((1.4, None, 1.5), "wavelength is None"),
        ((0.5, 520, 0.8), "refractive index is 0.8. Give that of the immersion"),
        ((1.4, 520, 15.15), "refractive index is 15.15. Give that of the immersion"),
    ],
)
def test_wrong_numbers_are_refused(arguments: tuple[Any, Any, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        objective_widths(*arguments)


def width(profile: npt.NDArray[Any], step: float) -> float:
    """Return the full width at half maximum of a profile with a single maximum."""
    above = np.flatnonzero(profile >= profile.max() / 2)
    ends = [(above[0] - 1, above[0]), (above[-1] + 1, above[-1])]
    first, last = (np.interp(profile.max() / 2, profile[list(pair)], pair) for pair in ends)
    return float(last - first) * step


def test_the_widths_are_those_of_another_program() -> None:
    """psfmodels 0.3.3 (GPL-3.0) has 210 nm and 507 nm for finely sampled pixels, and 215 nm for pixels of 65 nm."""
    fine = ns.psf_from_objective((20, 13, 13), shape=(81, 51, 51), **OIL)
    lateral, axial = width(fine[40, 25], 13), width(fine[:, 25, 25], 20)
    assert lateral == pytest.approx(210, rel=0.01)
    assert axial == pytest.approx(507, rel=0.01)
    coarse = ns.psf_from_objective((200, 65, 65), shape=(21, 21, 21), **OIL)
    assert width(coarse[10, 10], 65) == pytest.approx(215, rel=0.01)
    # The Gaussian approximation is similar.
    assert (axial, lateral) == pytest.approx(objective_widths(*OIL.values()), rel=0.15)


def test_a_small_aperture_has_an_airy_pattern() -> None:
    """Born and Wolf: zeros at 0.61, 1.12 and 1.62 wavelengths / aperture, and the light within them."""
    step = 500 / 0.1 / 50
    psf = ns.psf_from_objective(step, numerical_aperture=0.1, wavelength=500, refractive_index=1, shape=(401, 401))
    row = psf[200, 200:]
    minima = [i for i in range(1, 95) if row[i] < row[i - 1] and row[i] < row[i + 1]]
    np.testing.assert_allclose(minima, [30.5, 56, 81], atol=1)
    radii = np.hypot(*np.meshgrid(*[np.arange(401) - 200] * 2))
    within = [psf[radii <= zero].sum() for zero in (30.5, 56)]
    assert within[0] / within[1] == pytest.approx(0.838 / 0.910, abs=0.01)


def test_light_far_from_the_focus_is_computed_with_enough_nodes() -> None:
    # All slices of a widefield stack have the same light, as far as it is within them.
    air = {"numerical_aperture": 0.5, "wavelength": 520, "refractive_index": 1}
    psf = ns.psf_from_objective((4000, 400, 400), shape=(9, 131, 131), **air)
    light = psf.sum(axis=(1, 2))
    np.testing.assert_allclose(light, light[4], rtol=0.05)


@pytest.mark.parametrize("confocal", [False, True])
@pytest.mark.parametrize("spacing", [65, (65, 65), (200, 65, 65)])
def test_a_psf_is_centred_and_has_the_sum_1(spacing: Any, confocal: bool) -> None:
    psf = ns.psf_from_objective(spacing, confocal=confocal, **OIL)
    assert psf.ndim == (3 if np.size(spacing) == 3 else 2)
    assert all(n % 2 for n in psf.shape)
    assert max(psf.shape) <= 65
    assert psf.sum() == pytest.approx(1)
    assert psf.min() >= 0
    assert np.unravel_index(psf.argmax(), psf.shape) == tuple(n // 2 for n in psf.shape)
    np.testing.assert_allclose(psf, np.flip(psf), atol=1e-9)
    larger = ns.psf_from_objective(spacing, confocal=confocal, shape=(*psf.shape[:-2], 65, 65), **OIL)
    inside = tuple(slice((n - m) // 2, (n + m) // 2) for n, m in zip(larger.shape, psf.shape, strict=True))
    assert larger[inside].sum() >= 0.99
    np.testing.assert_allclose(psf, larger[inside] / larger[inside].sum(), rtol=1e-6, atol=1e-12)


def test_a_confocal_psf_is_smaller() -> None:
    widefield, confocal = (
        ns.psf_from_objective((50, 20, 20), confocal=confocal, shape=(21, 121, 121), **OIL)
        for confocal in (False, True)
    )
    assert 0.7 < width(confocal[10, 60], 20) / width(widefield[10, 60], 20) < 1
    assert 0.6 < width(confocal[:, 60, 60], 50) / width(widefield[:, 60, 60], 50) < 0.9
    # Only a widefield microscope has as much light in each slice.
    assert widefield[0].sum() > 0.8 * widefield[10].sum()
    assert confocal[0].sum() < 0.2 * confocal[10].sum()


def test_the_unit_does_not_matter() -> None:
    in_micrometres = {**OIL, "wavelength": 0.52}
    np.testing.assert_allclose(
        ns.psf_from_objective((0.2, 0.065, 0.065), **in_micrometres), ns.psf_from_objective((200, 65, 65), **OIL)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spacing": 0.065}, "Give the spacing and the wavelength in the same unit"),
        ({"spacing": 65000}, "in the same unit"),
        ({"spacing": (2e5, 65, 65)}, "the height of the PSF would be 0.00258 slices"),
        ({"spacing": (0.2, 65, 65)}, "Give the spacing along z in the same unit"),
        ({"spacing": (65, 70)}, "not square"),
        ({"spacing": (1, 200, 65, 65)}, "has 4 numbers"),
        ({"spacing": (-200, 65, 65)}, "out of range"),
        ({"numerical_aperture": 1.6}, "not below the refractive index"),
        ({"wavelength": -1}, "wavelength is -1"),
        ({"shape": (32, 33)}, "Give 2 odd numbers"),
        ({"shape": (5, 33, 33)}, "Give 2 odd numbers"),
        ({"shape": 33}, "Give 2 odd numbers"),
    ],
)
def test_a_psf_for_wrong_numbers_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ns.psf_from_objective(**{"spacing": 65, **OIL, **arguments})
