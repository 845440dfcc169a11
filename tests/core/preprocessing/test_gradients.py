"""Derivatives as data: their images, and fits to these."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import laplace

import napari_siren as ns
from napari_siren.core.preprocessing.gradients import Supervision
from napari_siren.core.preprocessing.poisson import Derivatives

SMALL = {"hidden_features": 8, "hidden_layers": 1, "engine": "torch"}
shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=2, max_side=9)


def forward(image: np.ndarray, spacing: tuple[float, ...] | None = None) -> np.ndarray:
    """Return differences to the next pixel along each axis, with 99 at the last pixel, which is ignored."""
    steps = spacing or (1.0,) * image.ndim
    slopes = [np.diff(image, axis=axis, append=np.nan) / step for axis, step in enumerate(steps)]
    return np.nan_to_num(np.stack(slopes), nan=99.0)


def scene(*shape: int) -> np.ndarray:
    """Return a random scene of many wavelengths, with mean 40."""
    image = np.random.default_rng(0).normal(size=shape)
    for axis in range(len(shape)):
        image = np.cumsum(image, axis=axis)
    return image - image.mean() + 40


# ---- from derivatives to the image -----------------------------------------------------------------------------------


@given(shapes, st.data())
def test_an_image_comes_back_from_the_gradient_of_numpy(shape: tuple[int, ...], data: Any) -> None:
    image, spacing = scene(*shape), data.draw(st.tuples(*(st.floats(0.1, 10) for _ in shape)))
    parts = np.gradient(image, *spacing)
    gradient = np.stack(parts) if len(shape) > 1 else parts[np.newaxis]
    axes = "ZYX"[-len(shape) :]
    found = Supervision("gradient", "central", mean=image.mean()).prepare(gradient, axes, spacing)
    np.testing.assert_allclose(found.image, image, rtol=1e-4, atol=1e-4)
    assert found.provenance["supervision"]["residual"] < 1e-10


@given(shapes, st.data())
def test_an_image_comes_back_from_forward_differences(shape: tuple[int, ...], data: Any) -> None:
    image, spacing = scene(*shape), data.draw(st.tuples(*(st.floats(0.1, 10) for _ in shape)))
    told = Supervision("gradient", "forward", mean=image.mean())
    found = told.prepare(forward(image, spacing), "ZYX"[-len(shape) :], spacing)
    np.testing.assert_allclose(found.image, image, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stencil", ["forward", "central", "exact"])
@pytest.mark.parametrize(
    ("shape", "spacing"), [((60,), (0.2,)), ((20, 30), (1.0, 1.0)), ((6, 12, 14), (4.0, 0.5, 0.5))]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_how_a_gradient_was_taken_is_told_from_it(
    stencil: str, shape: tuple[int, ...], spacing: tuple[float, ...], dtype: type
) -> None:
    image = scene(*shape)
    if stencil == "exact":
        gradient = Derivatives("exact", shape, spacing).gradient(image[np.newaxis])[:, 0]
    elif stencil == "forward":
        gradient = forward(image, spacing)
    else:
        gradient = np.stack(np.gradient(image, *spacing)).reshape(len(shape), *shape)
    # The choice is also right if some pixels are missing.
    missing = np.zeros(shape, bool)
    missing[..., :2] = True
    for where in (None, missing) if len(shape) > 1 else (None,):
        found = Supervision("gradient").prepare(gradient.astype(dtype), "ZYX"[-len(shape) :], spacing, where)
        assert found.provenance["supervision"]["stencil"] == stencil


def test_of_a_part_of_a_line_the_way_of_numpy_is_taken() -> None:
    image = scene(40)
    missing = np.arange(40) < 3
    found = Supervision("gradient").prepare(np.gradient(image)[np.newaxis], missing=missing)
    assert found.provenance["supervision"]["stencil"] == "central"
    np.testing.assert_allclose(np.diff(found.image)[4:], np.diff(image)[4:], atol=0.05)


@pytest.mark.parametrize("axes", ["YXC", "CYX", "YCX"])
def test_channels_lie_where_the_axes_say(axes: str) -> None:
    image = np.stack([scene(12, 10), scene(12, 10) ** 2, np.full((12, 10), 7.0)])
    means = image.mean(axis=(1, 2))
    slopes = np.stack(np.gradient(image, axis=(1, 2)))
    place = axes.index("C")
    found = Supervision("gradient", mean=means).prepare(np.moveaxis(slopes, 1, place + 1), axes)
    np.testing.assert_allclose(found.image, np.moveaxis(image, 0, place), rtol=1e-4, atol=1e-4)


def test_the_gradient_that_a_field_renders_is_exact_enough(smooth: npt.NDArray[np.float32]) -> None:
    result = ns.fit(smooth, preset="fast", spacing=0.5, **SMALL)
    gradient = result.render(derivative="gradient")
    found = Supervision("gradient", mean=smooth.mean()).prepare(gradient, spacing=0.5)
    assert np.abs(found.image - result.reconstruction).max() < 4


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 0.5)])
def test_an_image_comes_back_from_its_laplacian(spacing: tuple[float, ...]) -> None:
    image = scene(20, 16)
    told = Supervision("laplacian", mean=image.mean())
    found = told.prepare(laplace(image) / spacing[0] ** 2, spacing=spacing)
    np.testing.assert_allclose(found.image, image, rtol=1e-4, atol=1e-4)


def test_integers_are_numbers_too() -> None:
    image = np.random.default_rng(0).integers(0, 255, (12, 10, 3))
    slopes = np.stack([np.diff(image, axis=axis, append=np.take(image, [-1], axis)) for axis in (0, 1)])
    mean = image.mean(axis=(0, 1))
    found = Supervision("gradient", mean=mean).prepare(slopes.astype(np.int16))
    np.testing.assert_allclose(found.image, image, atol=1e-3)


@pytest.mark.parametrize("kind", ["gradient", "laplacian"])
def test_known_pixels_set_the_constant(kind: Any) -> None:
    image = scene(16, 16)
    data = np.stack(np.gradient(image)) if kind == "gradient" else laplace(image)
    known = np.ma.masked_array(image, mask=np.ones(image.shape, bool))
    known.mask[3, 4:6] = False
    for given_known in (known, known.filled(np.nan)):
        found = Supervision(kind, known=given_known, mean=1e6).prepare(data).image
        np.testing.assert_allclose(found, image, rtol=1e-4, atol=1e-3)


def test_a_channel_of_which_nothing_is_known_has_the_mean() -> None:
    image = np.stack([scene(16, 16), scene(16, 16)[::-1]])
    known = np.full(image.shape, np.nan)
    known[0, 2, 2] = image[0, 2, 2]
    gradient = np.stack(np.gradient(image, axis=(1, 2)))
    found = Supervision("gradient", known=known, mean=image[1].mean()).prepare(gradient, "CYX").image
    np.testing.assert_allclose(found, image, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", ["gradient", "laplacian"])
def test_what_is_missing_is_spanned(kind: Any) -> None:
    rows, columns = np.mgrid[:20, :24] * 1.0
    image = 3 * rows - 2 * columns
    data = np.stack(np.gradient(image)) if kind == "gradient" else laplace(image)
    hole = np.zeros(image.shape, bool)
    hole[6:12, 8:14] = True
    data[..., hole] = np.nan
    masked = np.ma.masked_invalid(data)
    for given_data, missing in ((data, hole), (masked, None)):
        found = Supervision(kind, mean=image.mean()).prepare(given_data, missing=missing)
        np.testing.assert_allclose(found.image, image, atol=0.05)
        assert found.missing is None


def test_nothing_but_a_constant() -> None:
    found = Supervision("gradient", mean=(3, 4)).prepare(np.zeros((2, 2, 8, 8)), "CYX")
    assert (found.image == np.array([3, 4])[:, None, None]).all()
    assert found.provenance["supervision"]["residual"] == 0
    assert (np.asarray(Supervision("laplacian").prepare(np.zeros((8, 8))).image) == 0).all()


def test_what_no_image_explains_is_told() -> None:
    curl = np.stack(np.mgrid[-8:8, -8:8][::-1] * np.array([-1, 1])[:, None, None])
    assert Supervision("gradient").prepare(curl).provenance["supervision"]["residual"] > 0.9


# ---- fits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gradient", "laplacian"])
def test_a_field_is_fitted_to_what_was_found(kind: Any, smooth: npt.NDArray[np.float32]) -> None:
    data = np.stack(np.gradient(smooth)) if kind == "gradient" else laplace(smooth)
    told = Supervision(kind, mean=float(smooth.mean()))
    result = ns.fit(data, supervision=told, preset="fast", max_steps=100)
    assert result.metrics.psnr > 35
    assert np.abs(result.reconstruction - smooth).max() < 15
    assert result.provenance["supervision"]["kind"] == kind


def test_a_word_is_enough(smooth: npt.NDArray[np.float32]) -> None:
    result = ns.fit(np.stack(np.gradient(smooth)), supervision="gradient", preset="fast", **SMALL)
    assert result.reconstruction.mean() == pytest.approx(0, abs=5)
    assert np.corrcoef(result.reconstruction.ravel(), smooth.ravel())[0, 1] > 0.9


def test_the_receipt_is_saved(tmp_path: Any, smooth: npt.NDArray[np.float32]) -> None:
    result = ns.fit(laplace(smooth), supervision="laplacian", preset="fast", max_steps=2, **SMALL)
    loaded = ns.load(result.save(tmp_path / "model.safetensors"))
    assert loaded.provenance["supervision"] == result.provenance["supervision"]


def test_upscaling_takes_derivatives_too(smooth: npt.NDArray[np.float32]) -> None:
    told = Supervision("gradient", mean=float(smooth.mean()))
    larger = ns.upscale(np.stack(np.gradient(smooth)), 2, supervision=told, task_steps=2, max_steps=5, **SMALL)
    assert larger.shape == (48, 40)
    assert larger.mean() == pytest.approx(smooth.mean(), abs=5)


def test_values_are_left_as_they_are() -> None:
    image, missing = np.ones((4, 5)), np.zeros((4, 5), bool)
    found = Supervision("value").prepare(image, missing=missing)
    assert (found.image is image, found.missing is missing, found.provenance) == (True, True, {})


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "curl"}, '"value", "gradient", "laplacian"'),
        ({"kind": "gradient", "stencil": "sobel"}, "auto, central, exact, forward"),
        ({"kind": "laplacian", "stencil": "central"}, "auto, forward, exact"),
        ({"kind": "value", "mean": 3}, "only for derivatives"),
        ({"kind": "value", "known": np.ones(3)}, "only for derivatives"),
    ],
)
def test_supervision_that_cannot_be(arguments: Any, message: str) -> None:
    with pytest.raises(ns.InputError, match=message):
        Supervision(**arguments)


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        (np.ones((3, 8, 8)), {"axes": "YX"}, r"2 entries.*np.stack\(np.gradient"),
        (np.ones((8, 8)), {"axes": "YX"}, "2 axes"),
        (np.ones(8), {}, r"gradient\[np.newaxis\]"),
        (np.ones((2, 8, 8), complex), {}, "real numbers"),
        (np.ones((2, 0, 8)), {}, "real numbers"),
        ([np.ones(3), np.ones(4)], {}, "not an array of numbers"),
        (np.full((2, 8, 8), np.nan), {}, "128 values that cannot be used"),
        (np.ones((2, 8, 8)), {"spacing": (1, 2, 3)}, "spacing"),
        (np.ones((2, 8, 8)), {"missing": np.zeros((2, 8, 8), bool)}, "missing has shape"),
        (np.ones((2, 8, 8)), {"mean": (1, 2)}, "each of the 1 channels"),
        (np.ones((2, 8, 8)), {"mean": np.nan}, "finite number"),
        (np.ones((2, 8, 8)), {"mean": "bright"}, "finite number"),
        (np.ones((2, 8, 8)), {"known": np.ones((8, 7))}, r"image's shape \(8, 8\)"),
        (np.ones((2, 8, 8)), {"known": np.full((8, 8), np.nan)}, "one pixel at least"),
        (np.ones((2, 8, 8)), {"known": np.full((8, 8), np.inf)}, "finite where it is not NaN"),
    ],
)
def test_data_that_cannot_be(data: Any, arguments: dict[str, Any], message: str) -> None:
    own = {name: arguments.pop(name) for name in ("mean", "known") if name in arguments}
    with pytest.raises(ns.InputError, match=message):
        Supervision("gradient", **own).prepare(data, **arguments)


def test_something_else_than_supervision_is_refused() -> None:
    with pytest.raises(ns.InputError, match="or a Supervision"):
        ns.fit(np.ones((8, 8)), supervision=["gradient"])  # type: ignore[arg-type]
