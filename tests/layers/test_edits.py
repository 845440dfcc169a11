"""Edits of layers: positions of the pixels, and errors for layers that do not fit together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image, Labels, Shapes

import napari_siren as ns
from napari_siren.core.compositing import SeamlessCloning
from napari_siren.layers.edits import AutoFlattening, blend_edit, flatten_edit
from napari_siren.layers.spec import LayerSpec


def made(edit: Any) -> Any:
    """Return the pixels of the new picture, to be fitted."""
    arguments = edit.spec.loaded().fit_arguments()
    image = arguments.pop("image")
    assert arguments.pop("axes_as_coordinates") is None
    return edit.supervision.prepare(image, **arguments).image


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# ---- illumination ----------------------------------------------------------------------------------------------------


def test_even_is_the_flattening_of_the_layers_pixels() -> None:
    image = noise(24, 30).astype(np.float32) * np.linspace(0.5, 1.5, 30, dtype=np.float32)
    layer = SimpleNamespace(data=image, name="cells", scale=(0.5, 0.5))
    edit = flatten_edit(LayerSpec.from_layer(layer, lazily=True))
    assert (edit.spec.name, edit.spec.data) == ("cells, flattened", None)
    wanted = ns.flatten_illumination(image, spacing=0.5, preset="fast", max_steps=1).samples.image
    np.testing.assert_array_equal(made(edit), wanted)


def test_light_is_added_where_there_are_values_below_0() -> None:
    image = np.random.default_rng(0).normal(size=(16, 20))
    assert AutoFlattening().prepare(image).provenance["flattened"]["multiplicative"] is False
    assert AutoFlattening().prepare(np.abs(image)).provenance["flattened"]["multiplicative"] is True


def test_missing_pixels_do_not_count_as_values_below_0() -> None:
    image = np.abs(np.random.default_rng(0).normal(size=(16, 20)))
    image[3, 4] = -np.inf
    edit = flatten_edit(LayerSpec.from_layer(SimpleNamespace(data=image), fill_nan=True))
    arguments = edit.spec.fit_arguments()
    arguments.pop("axes_as_coordinates")
    prepared = edit.supervision.prepare(arguments.pop("image"), **arguments)
    assert prepared.provenance["flattened"]["multiplicative"] is True


# ---- blending --------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    row=st.integers(-3, 20),
    column=st.integers(-3, 25),
    scale=st.sampled_from([0.25, 1.0, 3.0]),
    origin=st.floats(-50, 50),
)
def test_the_picture_goes_where_it_lies(row: int, column: int, scale: float, origin: float) -> None:
    target = Image(noise(24, 30).astype(np.float32), name="sea", scale=(scale, scale), translate=(origin, -origin))
    picture = noise(8, 9, seed=1).astype(np.float32)
    place = (origin + row * scale, -origin + column * scale)
    layer = Image(picture, name="boat", scale=(scale, scale), translate=place)
    mask = Shapes([np.array([[0, 0], [0, 7.6], [6.6, 7.6], [6.6, 0]]) - 0.3], scale=(scale, scale), translate=place)
    edit = blend_edit(layer, target, mask)
    assert edit.spec.name == "sea, with boat"
    wanted = SeamlessCloning(picture, _drawn(mask, layer), (row, column)).prepare(target.data).image
    np.testing.assert_allclose(made(edit), wanted, atol=0.02)


def _drawn(mask: Shapes, layer: Image) -> np.ndarray:
    """Return the mask of the picture's pixels within the shapes, as for a region of a fit."""
    part = LayerSpec.from_layer(layer, None, mask)
    inside = np.ones(part.shape, bool) if part.missing is None else ~part.missing
    whole = np.zeros(layer.data.shape, bool)
    start = np.rint((part.placement.translate - layer.translate) / layer.scale).astype(int)
    whole[tuple(slice(a, a + n) for a, n in zip(start, part.shape, strict=True))] = inside
    return whole


def test_a_picture_of_other_pixels_is_read_between_them() -> None:
    rows, columns = np.mgrid[:20, :24] * 1.0
    target = Image(rows * 2 + columns, name="a", units=("um", "um"))
    # The picture is the same plane, but brighter, with shifted pixels of half the size.
    fine_rows, fine_columns = np.mgrid[:20, :20] / 2 + 5.25
    place = {"scale": (500, 500), "translate": (5250, 5250), "units": ("nm", "nm")}
    picture = Image(fine_rows * 2 + fine_columns + 30, name="b", **place)
    mask = Labels(np.zeros((20, 24), int))
    mask.data[7:13, 7:14] = 1
    edit = blend_edit(picture, target, mask)
    assert edit.supervision.mask.sum() == 42
    np.testing.assert_allclose(made(edit), target.data, atol=1e-3)


def test_smaller_pixels_are_averaged() -> None:
    target = Image(np.zeros((20, 24)), name="a")
    noisy = np.random.default_rng(0).normal(0, 1, (80, 96))
    picture = Image(noisy, name="b", scale=(0.25, 0.25))
    mask = np.zeros((20, 24), bool)
    mask[2:18, 2:22] = True
    # Without averaging, all of the noise would remain.
    assert blend_edit(picture, target, mask).supervision.picture[1:-1, 1:-1].std() < 0.4


def test_only_what_is_over_the_target_and_marked_is_put_in() -> None:
    target = Image(np.zeros((20, 24)), name="a")
    picture = Image(noise(8, 8).astype(float), name="b", translate=(16, 18))
    everywhere = np.ones((20, 24), bool)
    found = made(blend_edit(picture, target, everywhere))
    assert (found[:16] == 0).all()
    assert (found[:, :18] == 0).all()
    assert (found[16:, 18:] != 0).any()


def test_slices_of_stacks_and_pictures_without_the_axis() -> None:
    stack = Image(noise(5, 20, 24), name="stack", scale=(2, 1, 1))
    picture = Image(noise(8, 8, seed=1), name="b", translate=(4, 6))
    mask = np.zeros((20, 24), bool)
    mask[5:11, 7:13] = True
    flat = made(blend_edit(picture, Image(stack.data[3], name="slice"), mask))
    edit = blend_edit(picture, stack, mask, None, (3, None, None))
    np.testing.assert_array_equal(made(edit), flat)
    assert edit.spec.placement.translate[0] == 6
    other = Image(np.stack([np.zeros_like(picture.data), picture.data]), name="two", translate=(0, 4, 6))
    np.testing.assert_array_equal(made(blend_edit(other, stack, mask, (1, None, None), (3, None, None))), flat)


@pytest.mark.parametrize("mode", ["source", "mixed"])
def test_colours_and_modes(mode: Any) -> None:
    target = Image(noise(20, 24, 3), name="a", rgb=True)
    colours = noise(20, 24, 4, seed=1)
    mask = np.zeros((20, 24), bool)
    mask[5:11, 7:13] = True
    found = made(blend_edit(Image(colours, name="b", rgb=True), target, mask, mode=mode))
    wanted = SeamlessCloning(colours[..., :3], mask, mode=mode).prepare(target.data).image
    np.testing.assert_array_equal(found, wanted)


def test_channels_of_an_axis() -> None:
    target = Image(noise(2, 20, 24), name="a", axis_labels=("c", "y", "x"))
    picture = Image(noise(2, 20, 24, seed=1), name="b", axis_labels=("c", "y", "x"))
    mask = np.zeros((20, 24), bool)
    mask[5:11, 7:13] = True
    wanted = SeamlessCloning(picture.data, mask).prepare(target.data, "CYX").image
    np.testing.assert_array_equal(made(blend_edit(picture, target, mask)), wanted)


def test_what_does_not_go_together_is_refused() -> None:
    target, mask = Image(noise(20, 24), name="sea"), np.ones((20, 24), bool)
    mask[0] = False
    with pytest.raises(ns.InputError, match=r"no pixel of layer 'boat' lies over layer 'sea'"):
        blend_edit(Image(noise(8, 8), name="boat", translate=(30, 0)), target, mask)
    with pytest.raises(ns.InputError, match="3 axes in space and time"):
        blend_edit(Image(noise(5, 8, 8), name="boat"), target, mask)
    with pytest.raises(ns.InputError, match="a Shapes or a Labels layer"):
        blend_edit(Image(noise(8, 8), name="boat"), target, target)
    with pytest.raises(ns.InputError, match="3 channels or colours, but layer 'sea' has 1"):
        blend_edit(Image(noise(8, 8, 3), name="boat", rgb=True), target, mask)
