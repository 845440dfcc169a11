"""The blur estimate: exact scenes, photos, and images without enough information."""

from __future__ import annotations

from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import napari_siren as ns
from napari_siren.core.blur import estimate
from napari_siren.core.blur.estimate import estimate_blur
from napari_siren.errors import InputError
from napari_siren.io.images import sample_path


def scene(
    shape: tuple[int, ...], sigmas: tuple[float, ...], spacing: tuple[float, ...] | None = None, seed: int = 0
) -> np.ndarray:
    """Return a random scene, blurred and averaged over pixels, (1, *shape). Its power falls as f^-2."""
    grids = np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij")
    squares = sum((f / s) ** 2 for f, s in zip(grids, spacing or (1.0,) * len(shape), strict=True))
    squares[(0,) * len(shape)] = np.inf
    amplitude = squares**-0.5
    for f, sigma in zip(grids, sigmas, strict=True):
        amplitude = amplitude * np.exp(-2 * (np.pi * sigma * f) ** 2) * np.sinc(f)
    noise = np.random.default_rng(seed).normal(size=shape)
    values = np.fft.ifftn(np.fft.fftn(noise) * amplitude).real
    return (values / values.std())[np.newaxis]


@pytest.mark.parametrize(
    ("shape", "sigmas"),
    [
        ((200, 160), (1.0, 1.0)),
        ((200, 160), (0.7, 2.5)),
        ((96, 96), (3.0, 1.5)),
        ((40, 64, 64), (1.0, 2.0, 2.0)),
    ],
)
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_a_scene_that_follows_the_law_is_measured(
    shape: tuple[int, ...], sigmas: tuple[float, ...], noise: float
) -> None:
    values = scene(shape, sigmas) + np.random.default_rng(1).normal(0, noise, shape)
    assert estimate_blur(values) == pytest.approx(sigmas, rel=0.12)


@pytest.mark.parametrize("sigma", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_a_blurred_photo_is_measured(sigma: float, noise: float) -> None:
    photo = iio.imread(sample_path())[::2, ::2].mean(axis=2) / 255
    values = gaussian_filter(photo, sigma) + np.random.default_rng(0).normal(0, noise, photo.shape)
    assert np.mean(estimate_blur(values[np.newaxis])) == pytest.approx(sigma, rel=0.2)


def test_a_sharp_photo_has_little_blur() -> None:
    photo = iio.imread(sample_path())[:256, :256]
    assert max(estimate_blur(np.moveaxis(photo, 2, 0))) < 0.8


def test_an_anisotropic_stack_is_measured_in_its_own_pixels() -> None:
    spacing = (4.0, 1.0, 1.0)
    values = scene((48, 64, 64), (0.8, 2.0, 2.0), spacing)
    assert estimate_blur(values, spacing) == pytest.approx((0.8, 2.0, 2.0), rel=0.15)


@pytest.mark.parametrize(("factor", "offset"), [(1e-20, 0), (1e20, 0), (3, 100)])
def test_the_unit_does_not_matter(factor: float, offset: float) -> None:
    values = scene((80, 80), (1.0, 1.5))
    assert estimate_blur(values * factor + offset) == pytest.approx(estimate_blur(values), rel=1e-4)


def test_channels_are_looked_at_together() -> None:
    values = np.concatenate([scene((64, 64), (1.5, 1.5), seed=i) for i in range(6)])
    together = np.abs(np.array(estimate_blur(values)) - 1.5).max()
    alone = [np.abs(np.array(estimate_blur(v[np.newaxis])) - 1.5).max() for v in values]
    assert together < np.mean(alone)


@pytest.mark.parametrize("shape", [(1, 128, 128), (3, 40, 50), (1, 20, 30, 40)])
def test_noise_alone_is_not_blurred(shape: tuple[int, ...]) -> None:
    noise = np.random.default_rng(0).normal(size=shape)
    assert estimate_blur(noise) == (0.0,) * (len(shape) - 1)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e8])
def test_a_constant_image_has_none(value: float) -> None:
    assert estimate_blur(np.full((2, 40, 40), value, np.float32)) == (0.0, 0.0)


def test_axes_too_short_to_tell_have_none() -> None:
    values = np.stack([scene((80, 80), (1.5, 1.5), seed=i)[0] for i in range(4)])[np.newaxis]
    thin, *others = estimate_blur(values)
    assert thin == 0
    assert others == pytest.approx([1.5, 1.5], rel=0.1)
    assert estimate_blur(values[:, 0, :8, :8]) == (0.0, 0.0)


def test_of_a_large_image_the_middle_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    values = scene((100, 240), (1.5, 1.5))
    monkeypatch.setattr(estimate, "_MOST_VALUES", 100 * 120)
    middle = estimate_blur(values[:, :, 60:180])
    values[:, :, :60] = values[:, :, 180:] = 7
    assert estimate_blur(values) == middle


@pytest.mark.parametrize(
    ("values", "spacing"),
    [
        (np.ones(20), None),
        (np.ones((1, 0, 20)), None),
        (np.full((1, 20, 20), np.nan), None),
        (np.ones((1, 20, 20)), (1.0,)),
        (np.ones((1, 20, 20)), (1.0, -1.0)),
        (np.ones((1, 20, 20)), (1.0, np.nan)),
    ],
)
def test_what_cannot_be_is_refused(values: np.ndarray, spacing: tuple[float, ...] | None) -> None:
    with pytest.raises(InputError):
        estimate_blur(values, spacing)


@pytest.mark.parametrize(
    ("spacing", "width", "message"),
    [
        (0.1, 190.0, r"psf_width=190.0 would be 1.9e\+03 pixels, and the longest side of the image has 24"),
        ((1.0, 0.1), (1.0, 5.0), r"would be 50 pixels.*Give the width in the unit of the spacing"),
    ],
)
def test_a_width_in_another_unit_is_refused(spacing: Any, width: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ns.fit(np.eye(20, 24), spacing=spacing, preset="deblur", psf_width=width)
