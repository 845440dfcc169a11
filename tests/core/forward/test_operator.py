"""Forward operators: sums, borders and adjoints, against Pillow, NumPy and SciPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.signal import fftconvolve
from torch import Tensor

from napari_siren.core.forward import operator
from napari_siren.core.forward.kernels import profile_weights
from napari_siren.core.forward.operator import FWHM, SEPARATION_ERROR, ForwardOperator
from napari_siren.errors import ConfigError, InputError

SIZES = st.integers(1, 30)


def bell(shape: tuple[int, ...], slant: float = 0.0) -> np.ndarray:
    """Return a Gaussian PSF centred in its array. It is not separable with a slant."""
    offsets = np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij")
    squares = sum(o.astype(float) ** 2 for o in offsets) + slant * offsets[0] * offsets[-1]
    return np.exp(-squares / 4)


MAKERS: dict[str, Callable[[int], ForwardOperator]] = {
    "point": lambda d: ForwardOperator.from_kind("point", d),
    "box": lambda d: ForwardOperator.from_kind("box", d),
    "bicubic": lambda d: ForwardOperator.from_kind("bicubic", d),
    "gaussian": lambda d: ForwardOperator.from_kind("gaussian", d, psf_width=1.7),
    "gaussian at points": lambda d: ForwardOperator.from_kind("gaussian", d, psf_width=3.0, area=False),
    "measured": lambda d: ForwardOperator.from_kind("measured", d, psf=bell((5,) * d)),
    "measured finely": lambda d: ForwardOperator.from_kind("measured", d, psf=bell((7,) * d), psf_spacing=0.4),
    "measured, slanted": lambda d: ForwardOperator.from_kind("measured", d, psf=bell((5,) * d, 0.0 if d == 1 else 0.8)),
}
OBSERVATIONS = st.builds(lambda name, d: MAKERS[name](d), st.sampled_from(sorted(MAKERS)), st.integers(1, 3))
SEPARABLE = st.builds(lambda name: MAKERS[name](1), st.sampled_from(sorted(MAKERS)))


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def shapes(data: st.DataObject, dimensions: int, most: int = 9) -> tuple[tuple[int, ...], tuple[int, ...]]:
    sizes = st.tuples(*[st.integers(1, most)] * dimensions)
    return data.draw(sizes), data.draw(sizes)


# ---- every kind of observation -----------------------------------------------------------------------


@given(SEPARABLE, SIZES, SIZES)
def test_rows_sum_to_one(observation: ForwardOperator, fine: int, pixels: int) -> None:
    matrix = observation.matrix(0, fine, pixels)
    assert matrix.shape == (pixels, fine)
    assert matrix.dtype == torch.float32
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(pixels), atol=2e-6, rtol=0)


@given(OBSERVATIONS, st.data(), st.floats(-1e3, 1e3))
def test_a_constant_stays(observation: ForwardOperator, data: st.DataObject, value: float) -> None:
    fine, pixels = shapes(data, observation.dimensions)
    seen = observation(torch.full((2, *fine), value, dtype=torch.float64), pixels)
    torch.testing.assert_close(seen, torch.full((2, *pixels), value, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@given(OBSERVATIONS, st.data())
def test_the_adjoint_is_the_adjoint(observation: ForwardOperator, data: st.DataObject) -> None:
    fine, pixels = shapes(data, observation.dimensions)
    x, y = random(2, *fine, seed=1), random(2, *pixels, seed=2)
    there, back = observation(x, pixels), observation.adjoint(y, fine)
    assert there.shape == y.shape
    assert back.shape == x.shape
    torch.testing.assert_close((there * y).sum(), (x * back).sum(), rtol=1e-10, atol=1e-12)


@given(OBSERVATIONS, st.data())
def test_the_adjoint_is_the_gradient(observation: ForwardOperator, data: st.DataObject) -> None:
    fine, pixels = shapes(data, observation.dimensions, most=6)
    x, y = random(*fine).requires_grad_(), random(*pixels, seed=3)
    (gradient,) = torch.autograd.grad((observation(x, pixels) * y).sum(), x)
    torch.testing.assert_close(gradient, observation.adjoint(y, fine))


@given(OBSERVATIONS, st.data())
def test_a_flipped_image_is_seen_flipped(observation: ForwardOperator, data: st.DataObject) -> None:
    fine, pixels = shapes(data, observation.dimensions)
    x, axes = random(*fine), tuple(range(observation.dimensions))
    torch.testing.assert_close(observation(x.flip(axes), pixels), observation(x, pixels).flip(axes))


@given(SEPARABLE, SIZES, SIZES)
def test_the_matrix_is_the_map(observation: ForwardOperator, fine: int, pixels: int) -> None:
    x = random(3, fine, dtype=torch.float32)
    expected = x @ observation.matrix(0, fine, pixels).T
    torch.testing.assert_close(observation(x, (pixels,)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(MAKERS))
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_and_device_are_kept(name: str, dtype: torch.dtype) -> None:
    observation = MAKERS[name](2)
    for device in ("cpu", "meta"):
        x = torch.ones(2, 8, 6, dtype=dtype, device=device)
        there, back = observation(x, (4, 3)), observation.adjoint(x, (9, 9))
        assert (there.dtype, there.device, there.shape) == (dtype, x.device, (2, 4, 3))
        assert (back.dtype, back.device, back.shape) == (dtype, x.device, (2, 9, 9))


@pytest.mark.parametrize("kind", ["point", "box", "bicubic"])
@given(n=SIZES)
def test_without_a_change_of_scale_it_is_the_identity(kind: Any, n: int) -> None:
    assert torch.equal(ForwardOperator.from_kind(kind, 1).matrix(0, n, n), torch.eye(n))


@pytest.mark.parametrize("name", sorted(MAKERS))
def test_axes_are_seen_each_by_itself(name: str) -> None:
    x = random(1, 12).expand(9, 12)
    along = MAKERS[name](1)(x[0], (5,))
    if name != "measured, slanted":
        torch.testing.assert_close(MAKERS[name](2)(x, (4, 5)), along.expand(4, 5))


# ---- each kind ---------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(0, 4))
def test_a_point_takes_the_sample_that_is_there(pixels: int, half: int) -> None:
    x = random(pixels * (2 * half + 1))
    taken = x[half :: 2 * half + 1]
    torch.testing.assert_close(ForwardOperator.from_kind("point", 1)(x, (pixels,)), taken, rtol=1e-12, atol=0)


def test_a_point_between_samples_is_interpolated() -> None:
    position = (torch.arange(40, dtype=torch.float64) + 0.5) / 2
    seen = ForwardOperator.from_kind("point", 1)(position**2, (20,))
    torch.testing.assert_close(seen[1:-1], (torch.arange(20, dtype=torch.float64) + 0.5)[1:-1] ** 2)


@given(st.integers(1, 3), st.data())
def test_a_box_keeps_the_total(dimensions: int, data: st.DataObject) -> None:
    fine, pixels = shapes(data, dimensions)
    x = random(*fine)
    torch.testing.assert_close(ForwardOperator.from_kind("box", dimensions)(x, pixels).mean(), x.mean())


@given(SIZES, st.integers(1, 10), st.integers(1, 4))
def test_a_box_of_boxes_is_a_box(fine: int, pixels: int, split: int) -> None:
    box, x = ForwardOperator.from_kind("box", 1), random(fine)
    torch.testing.assert_close(box(box(x, (pixels * split,)), (pixels,)), box(x, (pixels,)))


def test_a_box_is_the_mean_of_whole_blocks() -> None:
    x = random(3, 12, 8)
    blocks = x.reshape(3, 4, 3, 4, 2).mean(dim=(2, 4))
    torch.testing.assert_close(ForwardOperator.from_kind("box", 2)(x, (4, 4)), blocks)


@given(st.tuples(SIZES, SIZES), st.tuples(SIZES, SIZES))
def test_bicubic_is_that_of_pillow(fine: tuple[int, int], pixels: tuple[int, int]) -> None:
    x = random(*fine, dtype=torch.float32) * 255
    resized = Image.fromarray(x.numpy()).resize(pixels[::-1], Image.Resampling.BICUBIC)
    np.testing.assert_allclose(
        ForwardOperator.from_kind("bicubic", 2)(x, pixels).numpy(), np.asarray(resized), atol=2e-4
    )


@pytest.mark.parametrize("area", [True, False])
@pytest.mark.parametrize("fine", [41, 164, 1000])
def test_the_width_of_a_gaussian_is_its_full_width_at_half_maximum(area: bool, fine: int) -> None:
    """The variances of a convolution add: those of the Gaussian, the pixel's area, and the cell of a fine sample."""
    matrix = ForwardOperator.from_kind("gaussian", 1, psf_width=4.0, area=area).matrix(0, fine, 41).double()
    x = (torch.arange(fine) + 0.5) * 41 / fine - 20.5
    variance = (matrix[20] * x**2).sum()
    assert variance == pytest.approx((4 / FWHM) ** 2 + area / 12 + (41 / fine) ** 2 / 12, rel=1e-4)
    if not area and fine == 1000:
        narrow = matrix[20] > matrix[20].max() / 2
        assert narrow.sum() * 41 / fine == pytest.approx(4, abs=2 * 41 / fine)


def test_a_gaussian_of_no_width_is_a_box() -> None:
    x = random(13)
    assert torch.equal(
        ForwardOperator.from_kind("gaussian", 1, psf_width=0)(x, (5,)), ForwardOperator.from_kind("box", 1)(x, (5,))
    )


def test_lengths_may_be_physical_and_differ_between_axes() -> None:
    x = random(10, 20, 20)
    physical = ForwardOperator.from_kind("gaussian", 3, spacing=(0.5, 0.1, 0.1), psf_width=(1.0, 0.3, 0.3))
    in_pixels = ForwardOperator.from_kind("gaussian", 3, psf_width=(2.0, 3.0, 3.0))
    torch.testing.assert_close(physical(x, (5, 10, 10)), in_pixels(x, (5, 10, 10)))
    kernel = bell((3, 5, 5))
    finely = ForwardOperator.from_kind("measured", 3, psf=kernel, spacing=(0.5, 0.1, 0.1), psf_spacing=0.05)
    in_pixels = ForwardOperator.from_kind("measured", 3, psf=kernel, psf_spacing=(0.1, 0.5, 0.5))
    torch.testing.assert_close(finely(x, (5, 10, 10)), in_pixels(x, (5, 10, 10)))


@pytest.mark.parametrize("shape", [(5,), (4,), (5, 3), (4, 6), (3, 4, 5)])
def test_a_measured_psf_is_a_convolution(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    psf = rng.random(shape) + 4 * bell(shape)
    image = rng.random((12, 11, 10)[: len(shape)])
    inside = tuple(slice(n // 2, n // 2 + m) for n, m in zip(shape, image.shape, strict=True))
    expected = fftconvolve(image, psf)[inside] / fftconvolve(np.ones_like(image), psf)[inside]
    seen = ForwardOperator.from_kind("measured", len(shape), psf=psf)(torch.from_numpy(image), image.shape)
    np.testing.assert_allclose(seen.numpy(), expected, atol=3 * SEPARATION_ERROR)


def test_a_measured_psf_takes_as_few_terms_as_it_needs() -> None:
    assert len(ForwardOperator.from_kind("measured", 3, psf=bell((5, 7, 7))).terms) == 1
    two = bell((7, 7), 0.7) + bell((7, 7), -0.7)
    noisy = two + 1e-6 * np.random.default_rng(0).random((7, 7))
    assert 1 < len(ForwardOperator.from_kind("measured", 2, psf=noisy).terms) < 7


@pytest.mark.parametrize("spacing", [0.25, 0.5])
def test_a_finely_measured_gaussian_is_the_gaussian(spacing: float) -> None:
    offsets = (np.arange(61) - 30) * spacing
    measured = ForwardOperator.from_kind("measured", 1, psf=np.exp(-(offsets**2) / 2), psf_spacing=spacing)
    computed = ForwardOperator.from_kind("gaussian", 1, psf_width=FWHM, area=False)
    x = random(120)
    torch.testing.assert_close(measured(x, (30,)), computed(x, (30,)), atol=2e-3, rtol=0)


# ---- errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("gausian", {}, "did you mean 'gaussian'"),
        ("lanczos", {}, "Use one of: point, box"),
        ("gaussian", {}, "psf_width"),
        ("gaussian", {"psf_width": -1}, "not negative"),
        ("gaussian", {"psf_width": np.nan}, "finite"),
        ("gaussian", {"psf_width": "wide"}, "psf_width='wide'"),
        ("gaussian", {"psf_width": (1, 2, 3)}, "one for each spatial axis"),
        ("gaussian", {"psf_width": 1, "spacing": 0}, "spacing=0"),
        ("gaussian", {"psf_width": 0, "area": False}, "area=False"),
        ("gaussian", {"psf_width": 1, "area": (True, True, False)}, "area="),
        ("gaussian", {"psf_width": 1, "area": 0.5}, "area=0.5"),
        ("box", {"psf_width": 1}, 'only for the observation "gaussian"'),
        ("box", {"area": False}, 'only for the observation "gaussian"'),
        ("gaussian", {"psf_width": 1, "psf": np.ones((3, 3))}, 'only for the observation "measured"'),
        ("bicubic", {"psf_spacing": 1}, 'only for the observation "measured"'),
        ("measured", {}, "needs psf"),
        ("measured", {"psf": np.ones((3, 3)), "psf_spacing": -1}, "psf_spacing=-1"),
    ],
)
def test_settings_that_cannot_be_are_refused(kind: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ForwardOperator.from_kind(kind, 2, **settings)


@pytest.mark.parametrize(
    ("psf", "message"),
    [
        (np.ones(3), "2 axes are needed"),
        (np.ones((3, 0)), "2 axes are needed"),
        (np.zeros((3, 3)), "positive sum"),
        (-np.ones((3, 3)), "positive sum"),
        (np.full((3, 3), np.nan), "not finite"),
        ([["a", "b"]], "not an array of numbers"),
    ],
)
def test_a_psf_that_cannot_be_is_refused(psf: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ForwardOperator.from_kind("measured", 2, psf=psf)


def test_a_psf_that_sees_past_the_image_is_refused() -> None:
    psf = np.zeros(21)
    psf[0] = 1
    observation = ForwardOperator.from_kind("measured", 1, psf=psf)
    with pytest.raises(InputError, match="Centre the PSF"):
        observation(random(8), (8,))
    with pytest.raises(InputError, match="Centre the PSF"):
        observation.matrix(0, 8, 8)


def test_what_is_not_separable_has_no_matrix() -> None:
    with pytest.raises(InputError, match="not separable"):
        ForwardOperator.from_kind("measured", 2, psf=bell((5, 5), 0.8)).matrix(0, 8, 4)


@pytest.mark.parametrize("shape", [(4,), (4, 0), (4, 2.5), (4, 4, 4)])
def test_a_shape_that_cannot_be_is_refused(shape: Any) -> None:
    box = ForwardOperator.from_kind("box", 2)
    with pytest.raises(InputError, match="2 whole numbers"):
        box(random(8, 8), shape)
    with pytest.raises(InputError, match="2 whole numbers"):
        box.adjoint(random(8, 8), shape)


@pytest.mark.parametrize("values", [torch.ones(8, 8, dtype=torch.int32), torch.ones(8), torch.ones(8, 0)])
def test_values_that_cannot_be_seen_are_refused(values: Tensor) -> None:
    with pytest.raises(InputError):
        ForwardOperator.from_kind("box", 2)(values, (4, 4))


@pytest.mark.parametrize("name", ["point", "bicubic", "gaussian", "measured"])
@pytest.mark.parametrize(("fine", "pixels"), [((31, 20), (70, 9)), ((40, 6), (13, 6)), ((9, 600), (9, 41))], ids=str)
def test_large_axes_are_the_same_without_a_matrix(
    monkeypatch: pytest.MonkeyPatch, name: str, fine: tuple[int, int], pixels: tuple[int, int]
) -> None:
    values = random(2, *fine).requires_grad_()
    expected = MAKERS[name](2)(values, pixels)
    monkeypatch.setattr(operator, "_DENSE", 10)
    monkeypatch.setattr(operator, "_BAND_ROWS", 16)
    banded = MAKERS[name](2)(values, pixels)
    torch.testing.assert_close(banded, expected, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(banded.square().sum(), values)
    (wanted,) = torch.autograd.grad(expected.square().sum(), values)
    torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("psf_width", [(0.0, 3.0), (2.5, 40.0)])
def test_the_kernel_is_the_response_to_a_point(psf_width: tuple[float, float]) -> None:
    observation = ForwardOperator.from_kind("gaussian", 2, psf_width=psf_width)
    kernel = observation.kernel()
    point = torch.zeros(1, *kernel.shape, dtype=torch.float64)
    point[0, kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
    columns = [profile_weights(p, n, n)[:, n // 2] for p, n in zip(observation.terms[0], kernel.shape, strict=True)]
    expected = columns[0][:, None] * columns[1]
    torch.testing.assert_close(kernel.double(), expected / expected.sum(), rtol=1e-6, atol=1e-12)
