"""Poisson's equation on the pixel grid: adjoints, eigenvectors, exact solutions, membranes."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import laplace

from napari_siren.core.preprocessing.poisson import Derivatives, Stencil, potential, solve

STENCILS = get_args(Stencil)
shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=9)


@st.composite
def operators(draw: Any) -> Derivatives:
    """Draw any stencil on any grid of one to three axes."""
    shape = draw(shapes)
    spacing = draw(st.tuples(*(st.floats(0.1, 10) for _ in shape)))
    return Derivatives(draw(st.sampled_from(STENCILS)), shape, spacing)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def without_mean(image: np.ndarray) -> np.ndarray:
    return image - image.mean(axis=tuple(range(1, image.ndim)), keepdims=True)


# ---- derivatives -----------------------------------------------------------------------------------------------------


@given(operators(), st.integers(1, 3))
def test_the_adjoint_is_the_transpose(operator: Derivatives, channels: int) -> None:
    image, slopes = noise(channels, *operator.shape), noise(len(operator.shape), channels, *operator.shape, seed=1)
    there, back = np.vdot(operator.gradient(image), slopes), np.vdot(image, operator.adjoint(slopes))
    assert there == pytest.approx(back, rel=1e-10, abs=1e-10 / min(operator.spacing))


@given(operators())
def test_cosines_are_eigenvectors(operator: Derivatives) -> None:
    wave = tuple(int(k) for k in np.random.default_rng(0).integers(0, operator.shape))
    image = np.ones((1, *operator.shape))
    for axis, (k, n) in enumerate(zip(wave, operator.shape, strict=True), start=1):
        along = np.cos(np.pi * k * (np.arange(n) + 0.5) / n)
        image = image * along.reshape([-1 if i == axis else 1 for i in range(image.ndim)])
    found = operator.laplacian(image)
    np.testing.assert_allclose(found, -operator.symbol[wave] * image, atol=1e-9 * operator.symbol.max() + 1e-12)


@given(operators())
def test_a_constant_has_no_gradient(operator: Derivatives) -> None:
    flat = operator.gradient(np.full((2, *operator.shape), 7.0))
    np.testing.assert_allclose(flat, 0, atol=1e-10 / min(operator.spacing))


def test_forward_and_central_are_those_of_numpy() -> None:
    image, spacing = noise(1, 6, 7, 5), (2.0, 0.5, 3.0)
    inner = (slice(None), slice(1, -1), slice(1, -1), slice(1, -1))
    for axis, step in enumerate(spacing):
        forward = Derivatives("forward", image.shape[1:], spacing).gradient(image)[axis]
        wanted = np.diff(image, axis=axis + 1, append=np.take(image, [-1], axis=axis + 1)) / step
        np.testing.assert_allclose(forward, wanted)
        central = Derivatives("central", image.shape[1:], spacing).gradient(image)[axis]
        np.testing.assert_allclose(central[inner], np.gradient(image, step, axis=axis + 1)[inner])


def test_the_exact_derivative_is_that_of_the_cosine_series() -> None:
    x = np.arange(40) + 0.5
    image = np.cos(np.pi * 3 * x / 40)[np.newaxis]
    found = Derivatives("exact", (40,), (0.5,)).gradient(image)[0]
    np.testing.assert_allclose(found[0], -np.pi * 3 / 20 * np.sin(np.pi * 3 * x / 40), atol=1e-12)


def test_the_laplacian_is_that_of_scipy() -> None:
    image = noise(2, 8, 9)
    found = Derivatives("forward", (8, 9), (1.0, 1.0)).laplacian(image)
    np.testing.assert_allclose(found, [laplace(channel, mode="reflect") for channel in image], atol=1e-12)


# ---- solutions -------------------------------------------------------------------------------------------------------


@given(operators(), st.integers(1, 3))
def test_an_image_comes_back_from_its_gradient(operator: Derivatives, channels: int) -> None:
    image = noise(channels, *operator.shape)
    np.testing.assert_allclose(potential(operator, operator.gradient(image)), without_mean(image), atol=1e-7)


@given(operators())
def test_an_image_comes_back_from_its_laplacian(operator: Derivatives) -> None:
    image = noise(2, *operator.shape)
    np.testing.assert_allclose(solve(operator, -operator.laplacian(image)), without_mean(image), atol=1e-7)


@given(operators(), st.integers(0, 100))
def test_known_pixels_are_kept_and_the_rest_comes_back(operator: Derivatives, seed: int) -> None:
    image = noise(2, *operator.shape)
    known = np.where(np.random.default_rng(seed).random(image.shape) < 0.3, image, np.nan)
    known[:, *(0,) * (image.ndim - 1)] = image[:, *(0,) * (image.ndim - 1)]
    found = potential(operator, operator.gradient(image), known=known)
    kept = ~np.isnan(known)
    assert (found[kept] == image[kept]).all()
    np.testing.assert_allclose(found, image, atol=1e-3 * np.abs(image).max())


def test_least_squares_where_no_image_has_the_gradient() -> None:
    operator = Derivatives("forward", (9, 7), (1.0, 2.0))
    slopes = noise(2, 1, 9, 7)
    found = potential(operator, slopes)
    # The residual is orthogonal to the gradient of every image.
    np.testing.assert_allclose(operator.adjoint(slopes - operator.gradient(found)), 0, atol=1e-10)


def test_a_hole_is_spanned_by_a_membrane() -> None:
    operator = Derivatives("forward", (24, 24), (1.0, 1.0))
    rows, columns = np.mgrid[:24, :24] * 1.0
    # The membrane over a hole in a plane is the plane, whatever the data in the hole.
    plane = (2 * rows - 3 * columns)[np.newaxis]
    hole = (abs(rows - 11) < 5) & (abs(columns - 12) < 4)
    slopes = operator.gradient(plane)
    slopes[..., hole] = np.nan
    np.testing.assert_allclose(potential(operator, slopes, hole), without_mean(plane), atol=0.01)


def test_known_pixels_alone_are_joined_by_a_membrane() -> None:
    known = np.full((1, 11), np.nan)
    known[0, [0, 10]] = 5.0, 25.0
    found = solve(Derivatives("forward", (11,), (1.0,)), np.zeros((1, 11)), known=known)
    np.testing.assert_allclose(found[0], np.linspace(5, 25, 11), atol=1e-5)


def test_a_channel_of_which_nothing_is_known_has_mean_0() -> None:
    known = np.full((2, 8, 8), np.nan)
    known[0, 3, 3] = 5.0
    # No image has this Laplacian, because it does not sum to 0.
    found = solve(Derivatives("forward", (8, 8), (1.0, 1.0)), noise(2, 8, 8) + 1, known=known)
    assert found[0, 3, 3] == 5
    assert found[1].mean() == pytest.approx(0, abs=1e-10)
    assert np.isfinite(found).all()


def test_what_is_wholly_known_stays() -> None:
    known = noise(1, 4, 5)
    assert (solve(Derivatives("central", (4, 5), (1.0, 1.0)), noise(1, 4, 5, seed=1), known=known) == known).all()
