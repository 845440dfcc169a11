"""Tests of flattening and blending: changed pixels, unchanged pixels, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import napari_siren as ns
from napari_siren.core.compositing import Flattening, SeamlessCloning

SMALL = {"preset": "fast", "max_steps": 2, "hidden_features": 8, "hidden_layers": 1, "engine": "torch"}


def blobs(*shape: int) -> np.ndarray:
    """Return bright discs or balls on a dark background."""
    image = np.full(shape, 50.0)
    centres = np.random.default_rng(0).uniform(0, 1, (6 * len(shape), len(shape))) * shape
    for centre in centres:
        distance = np.sqrt(sum((i - c) ** 2 for i, c in zip(np.indices(shape), centre, strict=True)))
        image[distance < max(shape) / 12] = 130.0
    return image


def slope_of(values: np.ndarray, axis: int) -> float:
    """Return the difference of the second half from the first, relative to the mean; 0 for a flat image."""
    first, second = np.array_split(values, 2, axis=axis)
    return float((second.mean() - first.mean()) / values.mean())


# ---- illumination ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("multiplicative", [True, False])
@pytest.mark.parametrize(
    ("shape", "spacing", "axis"),
    [((96,), None, 0), ((72, 80), None, 1), ((72, 80), 0.1, 0), ((12, 48, 52), (4.0, 0.5, 0.5), 2)],
)
def test_a_slope_of_light_goes(shape: tuple[int, ...], spacing: Any, axis: int, multiplicative: bool) -> None:
    things = blobs(*shape)
    light = np.linspace(0.6, 1.4, shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    seen = things * light if multiplicative else things + 60 * light
    flat = Flattening(multiplicative=multiplicative).prepare(seen, "ZYX"[-len(shape) :], spacing)
    ratio = flat.image / things if multiplicative else flat.image - things + 100
    before = seen / things if multiplicative else seen - things + 100
    assert abs(slope_of(ratio, axis)) < 0.4 * abs(slope_of(before, axis))
    assert np.mean(flat.image) == pytest.approx(seen.mean())
    assert 0 < flat.provenance["flattened"]["dropped"] <= 1


def test_a_bound_that_is_given_is_taken() -> None:
    image = blobs(48, 48) * np.linspace(0.5, 1.5, 48)
    told = Flattening(below=0.05).prepare(image).provenance["flattened"]
    assert told["below"] == 0.05
    # No gradient is below such a small bound, so nothing is dropped.
    np.testing.assert_allclose(Flattening(below=1e-9).prepare(image).image, image, rtol=1e-2)


@pytest.mark.parametrize("value", [0, 7, 200])
def test_a_constant_stays(value: int) -> None:
    image = np.full((20, 30), value, np.uint8)
    assert (Flattening().prepare(image).image == image).all()


@given(st.sampled_from(["uint8", "uint16", "int32", "float32", "float64"]), st.sampled_from(["YX", "YXC", "CYX"]))
def test_dtype_shape_and_means_are_kept(dtype: str, axes: str) -> None:
    image = (np.stack([blobs(30, 24), blobs(30, 24)[::-1], blobs(30, 24) / 2]) * np.linspace(0.7, 1.3, 24)).astype(
        dtype
    )
    image = image[0] if axes == "YX" else np.moveaxis(image, 0, axes.index("C"))
    flat = np.asarray(Flattening().prepare(image, axes).image)
    assert (flat.dtype, flat.shape) == (image.dtype, image.shape)
    space = tuple(i for i, axis in enumerate(axes) if axis != "C")
    np.testing.assert_allclose(flat.mean(axis=space), image.mean(axis=space), atol=0.5)


def test_alpha_is_left_alone() -> None:
    alpha = np.random.default_rng(0).integers(0, 256, (24, 24, 1), dtype=np.uint8)
    colours = (blobs(24, 24) * np.linspace(0.5, 1.5, 24)).astype(np.uint8)[..., np.newaxis].repeat(3, axis=2)
    image = np.concatenate([colours, alpha], axis=2)
    flat = np.asarray(Flattening().prepare(image).image)
    assert (flat[..., 3:] == alpha).all()
    assert (flat[..., :3] != colours).any()


def test_missing_pixels_do_not_count() -> None:
    image = blobs(48, 48) * np.linspace(0.5, 1.5, 48)
    hole = np.zeros(image.shape, bool)
    hole[20:26, 10:30] = True
    broken = np.where(hole, np.nan, image)
    by_hand = Flattening().prepare(broken, missing=hole)
    masked = Flattening().prepare(np.ma.masked_invalid(broken))
    for found in (by_hand, masked):
        assert (np.asarray(found.missing) == hole).all()
        assert abs(slope_of((found.image / blobs(48, 48))[:20], 1)) < 0.2
    whole = np.asarray(Flattening().prepare(image).image)
    np.testing.assert_allclose(by_hand.image[~hole], whole[~hole], rtol=0.1)


def test_a_field_of_the_even_image() -> None:
    image = (blobs(40, 40) * np.linspace(0.6, 1.4, 40)).astype(np.uint16)
    result = ns.flatten_illumination(image, preset="fast")
    assert result.metrics.psnr > 30
    assert (result.samples.image == Flattening().prepare(image).image).all()
    assert result.provenance["flattened"]["multiplicative"] is True
    assert result.reconstruction.dtype == np.uint16


# ---- blending --------------------------------------------------------------------------------------------------------


def disc(*shape: int) -> np.ndarray:
    """Return a mask, True within a ball that nearly touches the edges."""
    radius = np.sqrt(sum((2 * i / (n - 1) - 1) ** 2 for i, n in zip(np.indices(shape), shape, strict=True)))
    return np.asarray(radius < 0.9)


@pytest.mark.parametrize(("shape", "spacing"), [((30,), None), ((24, 20), None), ((8, 14, 12), (4.0, 1.0, 1.0))])
@given(offset=st.integers(-40, 40), seed=st.integers(0, 50))
def test_a_copy_of_other_brightness_leaves_no_trace(
    shape: tuple[int, ...], spacing: Any, offset: int, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(60, 180, shape).astype(np.float64)
    blended = SeamlessCloning(image + offset, disc(*shape)).prepare(image, "ZYX"[-len(shape) :], spacing)
    np.testing.assert_allclose(blended.image, image, atol=1e-3)


def test_beyond_the_mask_nothing_changes() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    mask = disc(12, 14)
    blended = np.asarray(
        SeamlessCloning(rng.integers(0, 256, (12, 14, 3), dtype=np.uint8), mask, (10, 20)).prepare(image).image
    )
    changed = (blended != image).any(axis=2)
    assert not changed[:10].any()
    assert (changed[10:22, 20:34] <= mask).all()
    assert changed[10:22, 20:34][mask].mean() > 0.9
    assert blended.dtype == np.uint8


@pytest.mark.parametrize("at", [(-4, -5), (22, 33), (-4, 33)])
def test_what_lies_beyond_the_image_is_cut_off(at: tuple[int, int]) -> None:
    image = np.full((30, 40), 50.0)
    picture = np.full((12, 14), 200.0)
    picture[:, ::2] += 20
    blended = np.asarray(SeamlessCloning(picture, np.ones((12, 14), bool), at).prepare(image).image)
    rows, columns = np.indices(image.shape)
    inside = (rows >= at[0]) & (rows < at[0] + 12) & (columns >= at[1]) & (columns < at[1] + 14)
    assert (blended[~inside] == 50).all()
    # The picture's stripes are kept, and its brightness is not.
    assert 15 < np.ptp(blended[inside]) < 45
    assert blended[inside].mean() == pytest.approx(50, abs=20)


def test_mixed_keeps_the_stronger_of_the_two() -> None:
    image = np.full((24, 24), 50.0)
    image[:, 12:] = 150
    picture = np.full((24, 24), 10.0)
    picture[8:16, 4:8] = 30
    source = np.asarray(SeamlessCloning(picture, disc(24, 24)).prepare(image).image)
    mixed = np.asarray(SeamlessCloning(picture, disc(24, 24), mode="mixed").prepare(image).image)
    assert mixed[12, 12] - mixed[12, 11] == pytest.approx(100, abs=1)
    assert abs(source[12, 12] - source[12, 11]) < 30
    for found in (source, mixed):
        assert found[12, 4] - found[12, 3] == pytest.approx(20, abs=8)


def test_of_rgba_alpha_is_that_of_the_image() -> None:
    rng = np.random.default_rng(0)
    image, picture = rng.integers(0, 256, (2, 16, 16, 4), dtype=np.uint8)
    blended = np.asarray(SeamlessCloning(picture, disc(16, 16)).prepare(image).image)
    assert (blended[..., 3] == image[..., 3]).all()
    assert (blended[..., :3] != image[..., :3]).any()


@pytest.mark.parametrize("of", ["picture", "image"])
def test_missing_pixels_of_either_are_of_no_account(of: str) -> None:
    image = np.add.outer(np.arange(20.0), np.arange(24.0))
    hole = np.zeros(image.shape, bool)
    hole[8:11, 10:13] = True
    broken = np.ma.masked_array(np.where(hole, np.nan, image), hole)
    mask = disc(20, 24)
    if of == "picture":
        # The image's own gradients are kept there. They are the same in this test.
        found = SeamlessCloning(broken + 30, mask).prepare(image)
        assert not np.any(found.missing)
    else:
        found = SeamlessCloning(image + 30, mask).prepare(broken)
        assert (np.asarray(found.missing) == hole).all()
    np.testing.assert_allclose(np.asarray(found.image)[~hole], image[~hole], atol=1e-3)
    assert np.isfinite(np.asarray(found.image)[mask & ~hole]).all()


def test_a_field_of_the_blended_image() -> None:
    image = np.full((24, 30), 100, np.uint8)
    picture = np.full((12, 12), 20, np.uint8)
    picture[4:8, 4:8] = 90
    result = ns.blend(picture, image, disc(12, 12), at=(6, 9), preset="fast")
    assert result.provenance["blended"] == {"mode": "source", "at": [6, 9]}
    assert result.samples.image[12, 15] == pytest.approx(170, abs=12)
    assert result.metrics.psnr > 30


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("below", [0, -1, np.inf, np.nan, "much", True, None])
def test_a_bound_that_cannot_be(below: Any) -> None:
    with pytest.raises(ns.InputError, match="positive number"):
        ns.flatten_illumination(np.ones((8, 8)), below=below)


def test_light_is_no_factor_of_what_is_negative() -> None:
    image = np.random.default_rng(0).normal(size=(16, 16))
    with pytest.raises(ns.InputError, match="multiplicative=False"):
        ns.flatten_illumination(image)
    assert np.isfinite(ns.flatten_illumination(image, multiplicative=False, **SMALL).reconstruction).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "soft"}, '"source" or "mixed"'),
        ({"picture": np.ones((8, 8, 3))}, "3 channels and the image 1|2 axes"),
        ({"mask": np.ones((8, 7), bool)}, "of the picture's spatial shape"),
        ({"mask": np.ones((8, 8))}, "boolean"),
        ({"mask": np.zeros((8, 8), bool)}, "no pixel of the mask"),
        ({"at": (30, 0)}, "no pixel of the mask"),
        ({"at": (1,)}, "2 whole numbers"),
        ({"at": (1.5, 2)}, "2 whole numbers"),
        ({"picture": np.ones((20, 20)), "mask": np.ones((20, 20), bool)}, "leaves no pixel"),
        ({"picture": np.full((8, 8), np.nan)}, "NaN"),
    ],
)
def test_pictures_that_do_not_go_together(change: dict[str, Any], message: str) -> None:
    arguments = {"picture": np.ones((8, 8)), "mask": np.ones((8, 8), bool)} | change
    with pytest.raises(ns.InputError, match=message):
        ns.blend(into=np.ones((16, 16)), **arguments, **SMALL)


def test_other_channels_are_refused() -> None:
    with pytest.raises(ns.InputError, match="4 channels and the image 3"):
        ns.blend(np.ones((8, 8, 4), np.uint8), np.ones((16, 16, 3), np.uint8), np.ones((8, 8), bool))
