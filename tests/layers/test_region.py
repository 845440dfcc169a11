"""Regions: pixels of a layer in a box, an array, the shapes of a Shapes layer or the labels of a Labels layer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import dask.array
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path
from napari.layers import Image, Labels, Layer, Points, Shapes
from placements import assert_close, box_corners, corners, in_layer, pixels, ramp, shapes, transforms, world

from napari_siren.errors import InputError
from napari_siren.layers.reading import Placement
from napari_siren.layers.region import Region, mask_from_text, mask_to_text
from napari_siren.layers.spec import LayerSpec

# napari warns of this for every rotated stack in a view of slices.
pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")

SQUARE = np.array([[2, 3], [2, 6], [5, 6], [5, 3]])


def region_of(region: Any, image: Any, plane: Any = None) -> Region:
    shape = image.data.shape[: len(image.data.shape) - bool(getattr(image, "rgb", False))]
    return Region.from_layer(region, plane, shape, Placement.from_layer(image, len(shape)), "layer 'cells'")


def inside(region: Any, image: Any, plane: Any = None) -> np.ndarray:
    """Return the region as an array of the image's shape."""
    whole = np.zeros(image.data.shape, bool)
    try:
        found = region_of(region, image, plane)
    except InputError as error:
        if "no pixel" not in str(error):
            raise
        return whole
    box = tuple(slice(*ends) for ends in found.box)
    whole[box] = True if found.mask is None else found.mask
    assert found.mask is None or found.mask.shape == whole[box].shape
    return whole


def plain(shape: tuple[int, ...] = (8, 9), **placed: Any) -> SimpleNamespace:
    return SimpleNamespace(data=np.zeros(shape), **placed)


# ---- boxes, planes, arrays ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "plane", "box", "held"),
    [
        (None, None, ((0, 8), (0, 9)), ()),
        (((2, 5), None), None, ((2, 5), (0, 9)), ()),
        ([[2, 5], [3, 4]], None, ((2, 5), (3, 4)), ()),
        (((np.int64(2), np.int32(5)), None), None, ((2, 5), (0, 9)), ()),
        (((-4, 3), (6, 99)), None, ((0, 3), (6, 9)), ()),
        (None, (None, 4), ((0, 8), (4, 5)), (1,)),
        (None, [np.int64(7), None], ((7, 8), (0, 9)), (0,)),
        (((2, 5), (0, 6)), (None, 4), ((2, 5), (4, 5)), (1,)),
    ],
)
def test_boxes_and_planes(region: Any, plane: Any, box: Any, held: Any) -> None:
    found = region_of(region, plain(), plane)
    assert (found.box, found.held, found.mask) == (box, held, None)
    assert found.starts == tuple(start for start, _ in box)
    assert (
        found.shape
        == tuple(stop - start for start, stop in box)
        == ramp((8, 9))[tuple(slice(*ends) for ends in box)].shape
    )
    assert ramp((8, 9))[found.slices].ndim == 2 - len(held)


@pytest.mark.parametrize(
    ("region", "plane", "message"),
    [
        (((9, 12), None), None, "no pixel of layer 'cells' lies in the region. Move the region over the image"),
        (((-5, 0), None), None, "no pixel"),
        (((2, 5), (0, 3)), (None, 4), "no pixel"),
        (((5, 2), None), None, r"start must be less than stop, in \(5, 2\)"),
        (((3, 3), None), None, "start must be less than stop"),
        (((2, 5),), None, r"Give 2 entries, \(start, stop\) in pixels or None for each axis"),
        (((2, 5), None, None), None, "Give 2 entries"),
        (((2, 5), 4), None, "Give 2 entries"),
        (((2, 5), (1, 2, 3)), None, "Give 2 entries"),
        (((2, 5), (1.5, 3)), None, "Give 2 entries"),
        (((2, 5), (0, float("inf"))), None, "Give 2 entries"),
        (((2, 5), ("0", "3")), None, "Give 2 entries"),
        (((2, 5), (2, None)), None, "Give 2 entries"),
        ("all", None, "or a Shapes or Labels layer, or a boolean array"),
        (7, None, "or a Shapes or Labels layer, or a boolean array"),
        (np.ones((8, 9)), None, "or a Shapes or Labels layer, or a boolean array"),
        (None, (1, None, None), "Give 2 entries, an index or None"),
        (None, 3, "Give 2 entries, an index or None"),
        (None, (8, None), "8 is no index from 0 to 7"),
        (None, (-1, None), "-1 is no index from 0 to 7"),
        (None, (None, 2.0), "2.0 is no index from 0 to 8"),
        (None, (None, (2, 3)), "no index from 0 to 8"),
        (
            np.ones((9, 8), bool),
            None,
            r"region has shape \(9, 8\)\. Give the layer's shape \(8, 9\), or that of its last axes",
        ),
        (np.ones((1, 8, 9), bool), None, "region has shape"),
        (np.zeros((8, 9), bool), None, "no pixel"),
        (Points(np.zeros((4, 2)), name="spots"), None, "'spots' marks no region. Use a Shapes or a Labels layer"),
        (Image(np.ones((8, 9)), name="other"), None, "'other' marks no region"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(region: Any, plane: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        region_of(region, plain(), plane)


def test_a_boolean_array_gives_the_box_around_it_and_a_mask_only_where_one_is_needed() -> None:
    mask = np.zeros((8, 9), bool)
    mask[2:5, 3:7] = True
    found = region_of(mask, plain())
    assert (found.box, found.mask) == (((2, 5), (3, 7)), None)
    mask[3, 4] = False
    found = region_of(mask, plain())
    assert found.box == ((2, 5), (3, 7))
    np.testing.assert_array_equal(found.mask, mask[2:5, 3:7])


def test_a_boolean_array_of_the_last_axes_holds_for_the_others_and_goes_with_a_plane() -> None:
    mask = np.zeros((8, 9), bool)
    mask[2, 3:7] = mask[4, 5] = True
    stack = plain((4, 8, 9))
    np.testing.assert_array_equal(inside(mask, stack), np.broadcast_to(mask, (4, 8, 9)))
    found = region_of(mask, stack, (None, 2, None))
    assert (found.box, found.held, found.mask) == (((0, 4), (2, 3), (3, 7)), (1,), None)
    # No pixel is marked in this row.
    with pytest.raises(InputError, match="no pixel"):
        region_of(mask, stack, (None, 3, None))


@pytest.mark.parametrize("shape", [(3,), (8, 9), (1, 1), (3, 4, 5)])
def test_a_mask_comes_back_from_its_text(shape: tuple[int, ...]) -> None:
    mask = np.random.default_rng(0).integers(0, 2, shape).astype(bool)
    text = mask_to_text(mask)
    np.testing.assert_array_equal(mask_from_text(text, shape), mask)
    assert mask_from_text(mask_to_text(None), shape) is None
    for damaged in (text[:8], "?", "AAAA"):
        with pytest.raises(ValueError, match="the mask cannot be read"):
            mask_from_text(damaged, shape)


# ---- shapes ------------------------------------------------------------------------------------------


@st.composite
def outlined(draw: st.DrawFn, image_ndim: int, shapes_ndim: int) -> tuple[Image, Shapes, tuple[int, ...], np.ndarray]:
    """Draw an image, a Shapes layer with an area over it, the two axes of the area, and its outline."""
    image = Image(np.zeros(draw(shapes(image_ndim, 12))), **draw(transforms(image_ndim, 4)))
    placed = draw(transforms(shapes_ndim, 4))
    kind = draw(st.sampled_from(["rectangle", "polygon", "ellipse"]))
    drawn = tuple(sorted(draw(st.permutations(range(shapes_ndim)))[:2]))
    # Corners of the image in data pixels of the Shapes layer.
    empty = Shapes(ndim=shapes_ndim, **placed)
    reached = np.array([empty.world_to_data(corner) for corner in corners(image)])
    size, unit = np.ptp(reached, axis=0)[list(drawn)], st.floats(0.1, 1)
    if kind == "polygon":
        # The polygon is irregular: napari's triangulation fails for some polygons with three collinear corners.
        n, random = draw(st.integers(3, 7)), np.random.default_rng(draw(st.integers(0, 999)))
        angles = (np.arange(n) + random.uniform(0, 0.4, n)) * 2 * np.pi / n
        outline = random.uniform(0.1, 1, (n, 1)) * np.c_[np.cos(angles), np.sin(angles)] * size / 2
    else:
        one = draw(unit) * size[0] * np.array([1, draw(st.floats(-1, 1))]) / 2
        two = draw(unit) * size[1] * np.array([-one[1], one[0]]) / np.hypot(*one) / 2
        outline = np.array([one + two, one - two, -one - two, -one + two])
    vertices = np.tile(reached.mean(axis=0), (len(outline), 1))
    vertices[:, drawn] += outline + size * draw(st.tuples(*[st.floats(-0.5, 0.5)] * 2))
    return image, Shapes([vertices], shape_type=kind, **placed), drawn, vertices[:, drawn]


def membership(points: np.ndarray, kind: str, outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points in an area, and the points too near its edge to decide.

    The method is independent of the package.
    """
    if kind == "ellipse":
        halves = np.array([outline[1] - outline[0], outline[2] - outline[1]]) / 2
        radius = np.linalg.norm((points - outline.mean(axis=0)) @ np.linalg.inv(halves), axis=-1)
        # The package replaces the ellipse by 128 chords.
        return radius < 1, (radius > 0.9995) & (radius < 1.0001)
    ends = np.roll(outline, -1, axis=0) - outline
    along = np.einsum("pei,ei->pe", points[:, None] - outline, ends) / np.square(ends).sum(axis=1)
    nearest = outline + along.clip(0, 1)[..., None] * ends
    distance = np.linalg.norm(points[:, None] - nearest, axis=-1).min(axis=1)
    return Path(outline).contains_points(points), distance < 1e-6 * np.ptp(outline, axis=0).max()


@pytest.mark.parametrize(("image_ndim", "shapes_ndim"), [(2, 2), (3, 2), (3, 3), (4, 3)])
@settings(max_examples=25)
@given(data=st.data())
def test_a_pixel_is_in_a_shape_if_its_centre_is_there_in_the_world(
    image_ndim: int, shapes_ndim: int, data: st.DataObject
) -> None:
    image, layer, drawn, outline = data.draw(outlined(image_ndim, shapes_ndim))
    positions = world(image, pixels(image.data.shape)).reshape(-1, image_ndim)
    points = in_layer(layer, positions)[:, drawn]
    wanted, unclear = membership(points, layer.shape_type[0], outline)
    found = inside(layer, image).ravel()
    np.testing.assert_array_equal(found[~unclear], wanted[~unclear])


def test_lines_and_points_are_no_areas() -> None:
    lines = Shapes([SQUARE[:2], SQUARE], shape_type=["line", "path"], name="drawn")
    for layer in (lines, Shapes(name="drawn")):
        with pytest.raises(InputError, match="'drawn' has no rectangle, ellipse or polygon"):
            region_of(layer, plain())
    lines.add_rectangles(SQUARE)
    assert inside(lines, plain()).sum() == 16
    lines.selected_data = {0}
    with pytest.raises(InputError, match="has no rectangle"):
        region_of(lines, plain())


def test_several_shapes_are_taken_together_and_of_a_selection_only_the_selected() -> None:
    beside = SQUARE + np.array([0.1, 1.1])
    layer = Shapes([SQUARE + 0.1, beside, SQUARE - 2], shape_type=["rectangle", "polygon", "ellipse"])
    image, each = plain(), []
    for i in range(3):
        layer.selected_data = {i}
        each.append(inside(layer, image))
        assert each[-1].any()
    layer.selected_data = {0, 2}
    np.testing.assert_array_equal(inside(layer, image), each[0] | each[2])
    layer.selected_data = set()
    np.testing.assert_array_equal(inside(layer, image), each[0] | each[1] | each[2])


def test_flat_shapes_hold_for_every_slice_of_a_stack() -> None:
    stack = plain((3, 8, 9), scale=(5, 1, 1))
    flat = inside(Shapes([SQUARE], shape_type="polygon"), plain())
    np.testing.assert_array_equal(inside(Shapes([SQUARE], shape_type="polygon"), stack), np.stack([flat] * 3))


@pytest.mark.parametrize("at", [0, 1, 7])
def test_shapes_drawn_in_a_slice_hold_for_every_slice(at: int) -> None:
    drawn = np.insert(SQUARE.astype(float), 0, at, axis=1)
    flat = inside(Shapes([SQUARE], shape_type="polygon"), plain())
    stack = plain((3, 8, 9))
    np.testing.assert_array_equal(inside(Shapes([drawn], shape_type="polygon"), stack), np.stack([flat] * 3))
    # Shapes of a stack also mark an image of two axes.
    np.testing.assert_array_equal(inside(Shapes([drawn], shape_type="polygon"), plain()), flat)


def test_shapes_drawn_across_the_slices_hold_along_the_axis_that_was_not_shown() -> None:
    drawn = np.array([[1, 5, 2], [1, 5, 4], [2, 5, 4], [2, 5, 2]])
    found = region_of(Shapes([drawn], shape_type="rectangle"), plain((4, 8, 9)))
    assert (found.box, found.mask) == (((1, 3), (0, 8), (2, 5)), None)


def test_shapes_over_a_sheared_stack_move_from_slice_to_slice() -> None:
    stack = plain((3, 8, 9), affine=np.array([[1, 0, 0, 0], [2, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    found = inside(Shapes([SQUARE], shape_type="rectangle"), stack)
    assert [(int(rows.min()), int(rows.max())) for rows in (np.flatnonzero(s.any(axis=1)) for s in found)] == [
        (2, 5),
        (0, 3),
        (0, 1),
    ]
    alone = inside(Shapes([SQUARE], shape_type="rectangle"), stack, (1, None, None))
    np.testing.assert_array_equal(alone[1], found[1])
    assert not alone[[0, 2]].any()


def test_shapes_mark_the_colours_of_an_image_together() -> None:
    image = Image(np.zeros((8, 9, 3), np.uint8), rgb=True)
    found = region_of(Shapes([SQUARE], shape_type="rectangle"), image)
    assert (found.box, found.mask) == (((2, 6), (3, 7)), None)


def test_shapes_need_two_axes() -> None:
    with pytest.raises(InputError, match="two axes or more"):
        region_of(Shapes([SQUARE], shape_type="rectangle"), plain((8,)))


def test_a_shape_beside_the_image_is_refused() -> None:
    with pytest.raises(InputError, match="no pixel of layer 'cells'"):
        region_of(Shapes([SQUARE + 20], shape_type="rectangle"), plain())


# ---- labels ------------------------------------------------------------------------------------------


def test_labels_of_the_same_shape() -> None:
    labels = np.zeros((8, 9), int)
    labels[2, 3], labels[4:6, 5] = 7, 2
    found = region_of(Labels(labels), plain())
    assert found.box == ((2, 6), (3, 6))
    np.testing.assert_array_equal(found.mask, labels[2:6, 3:6] != 0)


@st.composite
def labelled(draw: st.DrawFn, image_ndim: int, labels_ndim: int) -> tuple[Image, Labels]:
    """Draw an image, and labels over it at any position."""
    image = Image(np.zeros(draw(shapes(image_ndim, 9))), **draw(transforms(image_ndim, 4)))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    marks = random.integers(0, 2, draw(shapes(labels_ndim, 9)))
    layer = Labels(marks, **draw(transforms(labels_ndim, 4)))
    apart = corners(image).mean(axis=0)[-labels_ndim:] - corners(layer).mean(axis=0)
    layer.translate = layer.translate + np.linalg.solve(layer.affine.linear_matrix, apart)
    return image, layer


def assert_labels_are_seen(image: Image, layer: Labels) -> None:
    """Compare a region with the labels of napari at the centres of the pixels."""
    positions = world(image, pixels(image.data.shape)).reshape(-1, image.ndim)
    found = inside(layer, image).ravel()
    for at, here in zip(in_layer(layer, positions), found, strict=True):
        if (np.abs(at - np.floor(at) - 0.5) < 1e-6).any():
            continue
        nearest = np.floor(at + 0.5).astype(int)
        there = (nearest >= 0).all() and (nearest < layer.data.shape).all()
        assert here == (there and layer.data[tuple(nearest)] != 0)


@pytest.mark.parametrize(("image_ndim", "labels_ndim"), [(2, 2), (3, 2), (3, 3), (4, 3)])
@settings(max_examples=20)
@given(data=st.data())
def test_labels_are_seen_where_they_are_in_the_world(image_ndim: int, labels_ndim: int, data: st.DataObject) -> None:
    assert_labels_are_seen(*data.draw(labelled(image_ndim, labels_ndim)))


@pytest.mark.parametrize("scale", [0.5, 2, 3, 0.7])
def test_labels_of_another_resolution_lie_edge_on_edge(scale: float) -> None:
    shape = tuple(int(n / scale) for n in (8, 9))
    marks = np.random.default_rng(0).integers(0, 2, shape)
    placed = {"scale": (scale, scale), "translate": ((scale - 1) / 2,) * 2}
    assert_labels_are_seen(Image(np.zeros((8, 9))), Labels(marks, **placed))
    if scale == 3:
        wanted = np.zeros((8, 9), bool)
        wanted[:6, :9] = np.kron(marks, np.ones((3, 3))) != 0
        np.testing.assert_array_equal(inside(Labels(marks, **placed), plain()), wanted)


def test_labels_elsewhere() -> None:
    marks = np.ones((8, 9), int)
    found = region_of(Labels(marks, translate=(3, -2)), plain())
    assert (found.box, found.mask) == (((3, 8), (0, 7)), None)
    for away in ((8, 0), (0, -9), (-100, 0)):
        with pytest.raises(InputError, match="no pixel"):
            region_of(Labels(marks, translate=away), plain())


def test_flat_labels_hold_for_every_slice_and_more_axes_than_the_images_are_refused() -> None:
    marks = np.random.default_rng(0).integers(0, 2, (8, 9))
    np.testing.assert_array_equal(inside(Labels(marks), plain((3, 8, 9))), np.stack([marks != 0] * 3))
    with pytest.raises(InputError, match=r"'series' has 4 axes, but the image has 2\. Use labels"):
        region_of(Labels(np.ones((2, 3, 8, 9), int), name="series"), plain())


def test_labels_of_several_levels_are_seen_at_the_largest() -> None:
    marks = np.random.default_rng(0).integers(0, 2, (8, 9))
    np.testing.assert_array_equal(inside(Labels([marks, marks[::2, ::2]]), plain()), marks != 0)


def test_of_lazy_labels_only_what_lies_under_the_plane_is_read() -> None:
    read = []

    def block(marks: np.ndarray, block_id: tuple[int, ...]) -> np.ndarray:
        read.append(block_id[0])
        return marks

    marks = np.random.default_rng(0).integers(0, 2, (6, 8, 9))
    lazy = dask.array.from_array(marks, chunks=(1, 8, 9)).map_blocks(block, meta=marks[:0])
    layer = Labels(lazy)
    read.clear()
    found = inside(layer, plain((3, 8, 9), scale=(2, 1, 1)), (2, None, None))
    np.testing.assert_array_equal(found[2], marks[4] != 0)
    assert set(read) == {4}


# ---- units -------------------------------------------------------------------------------------------


def test_units_are_converted_as_napari_converts_them() -> None:
    image = plain(scale=(0.5, 0.5), units=("um", "um"))
    drawn = Shapes([SQUARE * 500.0], shape_type="rectangle", units=("nm", "nm"))
    assert region_of(drawn, image).box == ((2, 6), (3, 7))
    marks = np.random.default_rng(0).integers(0, 2, (8, 9))
    layer = Labels(marks, scale=(500, 500), units=("nm", "nm"))
    np.testing.assert_array_equal(inside(layer, image), marks != 0)


@pytest.mark.parametrize("units", [("pixel", "pixel"), ("nm", "pixel")])
def test_units_that_do_not_go_together_are_left_alone(units: tuple[str, str]) -> None:
    drawn = Shapes([SQUARE * 0.5], shape_type="rectangle", units=units)
    assert region_of(drawn, plain(scale=(0.5, 0.5), units=("um", "um"))).box == ((2, 6), (3, 7))


# ---- the layers of a region --------------------------------------------------------------------------


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    ends = [sorted(draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in shape]
    return [(start, stop) for start, stop in ends]


@pytest.mark.parametrize(
    ("ndim", "rgb", "labels"),
    [(2, False, None), (3, False, None), (2, True, None), (3, True, None), (4, False, "czyx"), (4, False, "tcyx")],
)
@settings(max_examples=15)
@given(data=st.data())
def test_a_layer_made_from_a_region_lies_where_the_region_is(
    ndim: int, rgb: bool, labels: str | None, data: st.DataObject
) -> None:
    shape = data.draw(shapes(ndim, 6))
    values = np.arange(np.prod(shape) * (3 if rgb else 1)).reshape(*shape, *[3] * rgb)
    placed = data.draw(transforms(ndim))
    image = Image(values, rgb=rgb, contrast_limits=(0, 1), axis_labels=labels and tuple(labels), **placed)
    box = data.draw(boxes(shape))
    plane: list[int | None] = [None] * ndim
    if ndim > 2 and data.draw(st.booleans()):
        plane[0] = data.draw(st.integers(box[0][0], box[0][1] - 1))
        box[0] = (plane[0], plane[0] + 1)
    spec = LayerSpec.from_layer(image, region=box, plane=plane)
    made = Layer.create(*spec.like(spec.data, "part"))
    assert_close(corners(made), box_corners(image, box))
    # Each pixel of the part is the image's pixel at the same position in the world.
    for position in pixels(made.data.shape[:ndim]).reshape(-1, ndim):
        origin = np.rint(image.world_to_data(made.data_to_world(position))).astype(int)
        np.testing.assert_array_equal(made.data[tuple(position)], values[tuple(origin)])
    # The same holds at another resolution.
    finer = tuple(2 * n for n in spec.data.shape[: spec.data.ndim - rgb])
    assert_close(corners(Layer.create(*spec.like(np.zeros((*finer, *[3] * rgb)), "x2"))), box_corners(image, box))


def test_the_layer_of_a_drawn_region_has_the_pixels_under_it() -> None:
    image = Image(ramp((20, 30)), scale=(0.5, -2), translate=(3, 40), rotate=30)
    rows = pixels((20, 30))[4:9, 10:17]
    outline = world(image, [[3.5, 9.5], [3.5, 16.5], [8.5, 16.5], [8.5, 9.5]])
    spec = LayerSpec.from_layer(image, region=Shapes([outline], shape_type="polygon"))
    np.testing.assert_array_equal(spec.data, image.data[4:9, 10:17])
    assert spec.missing is None
    made = Layer.create(*spec.like(spec.data, "part"))
    np.testing.assert_allclose(world(made, pixels(made.data.shape)), world(image, rows), atol=1e-12)
