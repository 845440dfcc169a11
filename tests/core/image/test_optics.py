"""Tests of point spread functions for the numbers on an objective."""

from __future__ import annotations

import math
import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import jv

import napari_siren as ns
from napari_siren import ConfigError, InputError
from napari_siren.core.forward.operator import FWHM
from napari_siren.core.image.optics import objective_widths

OIL: dict[str, float] = {"numerical_aperture": 1.4, "wavelength": 520, "refractive_index": 1.515}
needs_psfmodels = pytest.mark.skipif(find_spec("psfmodels") is None, reason="psfmodels is not installed")


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


def width(profile: npt.NDArray[Any], step: float) -> float:
    """Return the full width at half maximum of a profile with a single maximum."""
    above = np.flatnonzero(profile >= profile.max() / 2)
    ends = [(above[0] - 1, above[0]), (above[-1] + 1, above[-1])]
    first, last = (np.interp(profile.max() / 2, profile[list(pair)], pair) for pair in ends)
    return float(last - first) * step


def richards_wolf(r: npt.NDArray[Any], z: float) -> npt.NDArray[Any]:
    """Return the light at r from the axis and z from the focus, without aberrations (Richards, Wolf 1959)."""
    index, number = OIL["refractive_index"], 2 * math.pi * OIL["refractive_index"] / OIL["wavelength"]
    half = math.asin(OIL["numerical_aperture"] / index) / 2
    nodes, weights = np.polynomial.legendre.leggauss(200)
    angles = half * (nodes + 1)
    wave = weights * np.sqrt(np.cos(angles)) * np.sin(angles) * np.exp(1j * number * z * np.cos(angles))
    x, cosine = number * np.multiply.outer(r, np.sin(angles)), np.cos(angles)
    parts = ((1 + cosine) * jv(0, x), 2**0.5 * np.sin(angles) * jv(1, x), (1 - cosine) * jv(2, x))
    return sum(np.abs((wave * part).sum(-1)) ** 2 for part in parts)  # type: ignore[return-value]


@needs_psfmodels
def test_the_widths_are_those_of_the_integral_of_richards_and_wolf() -> None:
    psf = ns.psf_from_objective((20, 13, 13), shape=(81, 51, 51), **OIL)
    across, along = np.arange(-400.0, 401), np.arange(-600.0, 601, 4)
    lateral = width(richards_wolf(np.abs(across), 0.0), 1)
    axial = width(np.array([richards_wolf(np.zeros(1), z)[0] for z in along]), 4)
    assert width(psf[40, 25], 13) == pytest.approx(lateral, rel=0.01)
    assert width(psf[:, 25, 25], 20) == pytest.approx(axial, rel=0.01)
    # The Gaussian approximation is similar.
    assert (axial, lateral) == pytest.approx(objective_widths(*OIL.values()), rel=0.15)


@needs_psfmodels
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


@needs_psfmodels
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


@needs_psfmodels
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


def test_without_psfmodels_the_error_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psfmodels", None)
    with pytest.raises(ConfigError, match=r'pip install "napari-siren\[psf\]"'):
        ns.psf_from_objective(65, **OIL)


def test_psfmodels_computes_in_units_of_the_wavelength(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def make_psf(z: npt.NDArray[Any], nx: int, **options: Any) -> npt.NDArray[Any]:
        calls.append((z, nx, options))
        return np.ones((len(z), nx, nx))

    monkeypatch.setitem(sys.modules, "psfmodels", SimpleNamespace(make_psf=make_psf))
    psf = ns.psf_from_objective((260, 65, 65), shape=(5, 9, 7), **OIL)
    np.testing.assert_allclose(psf, np.full((5, 9, 7), 1 / 315))
    [(heights, side, options)] = calls
    np.testing.assert_allclose(heights, [-1, -0.5, 0, 0.5, 1])
    assert side == 27
    assert options["dxy"] == pytest.approx(65 / 520 / 3)
    assert {options[name] for name in ("ns", "ni", "ni0", "ng", "ng0")} == {1.515}
