"""`LayerSpec`: properties read of a layer, and the exact position of derived layers over their original."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import dask.array
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.layers import Image, Layer
from placements import assert_close, assert_same_corners, box_corners, corners, ramp, shapes, transforms

import napari_siren as ns
from napari_siren.core.image.axes import check_axes
from napari_siren.layers.spec import LayerSpec

# napari warns of this for every rotated stack in a view of slices.
pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")


# ---- derived layers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [2, 3])
@settings(max_examples=30)
@given(data=st.data(), rgb=st.booleans())
def test_a_derived_layer_has_the_world_corners_of_the_original(ndim: int, data: st.DataObject, rgb: bool) -> None:
    placed, colours = data.draw(transforms(ndim)), (3,) * rgb
    original = Image(np.zeros(data.draw(shapes(ndim, 9)) + colours, np.uint8), rgb=rgb, **placed)
    spec = LayerSpec.from_layer(original)
    # A stack with an axis of one entry is a plane.
    letters = [axis for i, axis in enumerate("ZYX"[-ndim:]) if i not in spec.held]
    assert spec.axes == ("YX" if len(letters) < ndim else "ZYX"[-ndim:]) + "C" * rgb
    assert len(letters) == ndim or original.data.shape[spec.held[0]] == 1
    assert spec.spacing == pytest.approx(np.delete(np.abs(placed["scale"]), spec.held))
    derived_shape = data.draw(shapes(len(letters), 40))
    for values in (np.zeros(derived_shape + colours, np.uint8), np.zeros(derived_shape, np.float32)):
        derived = Layer.create(*spec.like(values, "x"))
        assert derived.rgb is (values.ndim > len(letters))
        assert_same_corners(original, derived)
        np.testing.assert_allclose(derived.rotate, original.rotate)
        np.testing.assert_allclose(derived.affine, original.affine)


def test_the_same_shape_keeps_the_placement_to_the_bit() -> None:
    original = Image(np.zeros((5, 7)), scale=(0.3, -0.7), translate=(1 / 3, 9.1), rotate=33, shear=[0.2])
    derived = Layer.create(*LayerSpec.from_layer(original).like(np.zeros((5, 7)), "same"))
    for name in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_array_equal(getattr(derived, name), getattr(original, name))


def test_twice_the_pixels_lie_a_quarter_pixel_before_the_first() -> None:
    spec = LayerSpec.from_layer(SimpleNamespace(data=np.zeros((4, 6)), scale=(2.0, 0.5), translate=(10.0, 0.0)))
    _, meta, _ = spec.like(np.zeros((8, 12)), "x2")
    assert meta["scale"] == [1.0, 0.25]
    assert meta["translate"] == [9.5, -0.125]


def test_a_channel_axis_stays_as_it_is() -> None:
    layer = Image(np.zeros((2, 4, 6)), axis_labels=("channel", "y", "x"), scale=(1, 2, 3), translate=(5, 0, 0))
    spec = LayerSpec.from_layer(layer)
    assert (spec.axes, spec.spacing, spec.coordinate_shape, spec.channels) == ("CYX", (2.0, 3.0), (4, 6), 2)
    derived = Layer.create(*spec.like(np.zeros((2, 8, 18)), "x2,3"))
    assert_same_corners(layer, derived)
    assert derived.scale.tolist() == [1, 1, 1]


def test_name_metadata_and_display_of_a_derived_layer() -> None:
    layer = Image(ramp((4, 6)), name="cells", colormap="magma", metadata={"microscope": object()}, gamma=1.5)
    derived = Layer.create(*LayerSpec.from_layer(layer).like(ramp((4, 6)), "x2", {"key": 1}, gamma=0.5))
    assert (derived.name, derived.metadata, derived.gamma) == ("cells [x2]", {"key": 1}, 0.5)
    assert derived.colormap == layer.colormap
    assert LayerSpec.from_layer(layer).like(ramp((4, 6)), "x2")[1]["metadata"] == {}


@pytest.mark.parametrize("shape", [(4,), (4, 6, 3), (0, 6)])
def test_data_of_other_axes_cannot_lie_over_a_layer(shape: tuple[int, ...]) -> None:
    with pytest.raises(ns.InputError, match="cannot lie over"):
        LayerSpec.from_layer(Image(np.zeros((4, 6)))).like(np.zeros(shape), "x2")


def test_an_object_with_data_only_is_as_napari_has_it_by_default() -> None:
    data = ramp((6, 8))
    _, meta, _ = LayerSpec.from_layer(SimpleNamespace(data=data)).like(data, "same")
    ours, napari = Layer.create(data, meta, "image"), Image(data)
    placed = ("scale", "translate", "rotate", "shear", "units", "axis_labels", "rgb")
    for name in (*LayerSpec.from_layer(napari).display, *placed):
        np.testing.assert_equal(getattr(ours, name), getattr(napari, name), err_msg=name)


def test_a_custom_interpolation_is_not_passed_on() -> None:
    layer = SimpleNamespace(data=ramp((6, 8)), interpolation2d="custom", interpolation3d="cubic")
    assert Layer.create(*LayerSpec.from_layer(layer).like(layer.data, "x")).interpolation2d == "nearest"


# ---- axes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "keywords", "axes"),
    [
        ((4, 6), {}, "YX"),
        ((5, 4, 6), {}, "ZYX"),
        ((5, 4, 6), {"axis_labels": ("plane", "row", "column")}, "ZYX"),
        ((4, 5), {"axis_labels": ("z", "X")}, "ZX"),
        ((4, 5), {"axis_labels": ("x", "y")}, "XY"),
        ((4, 5, 2), {"axis_labels": ("y", "x", "c")}, "YXC"),
        ((2, 3, 4, 5), {"axis_labels": ("z", "C", "y", "x")}, "ZCYX"),
        ((3, 4, 5), {"axis_labels": ("t", "y", "x")}, "TYX"),
        ((3, 4, 5), {"axis_labels": ("Time", "row", "column")}, "TYX"),
        ((3, 4, 5), {"axis_labels": ("z", "y", "frame")}, "ZYT"),
        ((3, 2, 4, 5), {"axis_labels": ("t", "c", "y", "x")}, "TCYX"),
        # It is not known which of the two is time.
        ((3, 4, 5), {"axis_labels": ("t", "frame", "x")}, "ZYX"),
        ((4, 5), {"axis_labels": ("t", "time")}, "YX"),
        ((40, 50, 3), {}, "YXC"),
        ((40, 50, 3), {"rgb": False}, "ZYX"),
        ((5, 40, 50, 4), {"rgb": True, "axis_labels": ("z", "y", "x")}, "ZYXC"),
        ((5, 40, 50, 4), {"rgb": True, "axis_labels": ("t", "y", "x")}, "TYXC"),
    ],
)
def test_axes_come_from_rgb_and_labels(shape: tuple[int, ...], keywords: dict[str, Any], axes: str) -> None:
    spec = LayerSpec.from_layer(Image(np.zeros(shape, np.uint8), **keywords))
    assert spec.axes == axes
    # The letters of time and space are those of the core.
    arguments = spec.fit_arguments()
    assert check_axes(arguments["axes"], arguments["image"].shape) == arguments["axes"]
    assert all(ours in (core, "T") for ours, core in zip(axes, arguments["axes"], strict=True))
    assert spec.channels == (shape[axes.index("C")] if "C" in axes else 1)
    assert len(spec.coordinate_shape) == len(arguments["spacing"]) == len(axes.replace("C", ""))


def test_axes_can_be_given() -> None:
    layer = Image(np.zeros((2, 5, 4, 6)), name="cells")
    with pytest.raises(ns.InputError, match=r"'cells' has 4 axes .* Take one frame or channel"):
        LayerSpec.from_layer(layer)
    assert LayerSpec.from_layer(layer, "czyx").axes == "CZYX"
    told = LayerSpec.from_layer(layer, "TCYX").fit_arguments()
    assert (told["axes"], told["axes_as_coordinates"]) == ("TCYX", "TYX")
    with pytest.raises(ns.InputError, match="names an axis twice"):
        LayerSpec.from_layer(layer, "CYYX")
    with pytest.raises(ns.InputError, match="names 3 axes, but the image has 4"):
        LayerSpec.from_layer(layer, "ZYX")
    with pytest.raises(ns.InputError, match="axes should be a string"):
        LayerSpec.from_layer(layer, 3)


# ---- planes ------------------------------------------------------------------------------------------

UNLABELLED = None


@pytest.mark.parametrize(
    ("shape", "labels", "plane", "axes"),
    [
        ((5, 4, 6), UNLABELLED, (3, None, None), "YX"),
        ((5, 4, 6), UNLABELLED, (None, 2, None), "YX"),
        ((5, 4, 6), "zyx", (3, None, None), "YX"),
        # A viewer with rolled axes shows the plane of z and x.
        ((5, 4, 6), "zyx", (None, 2, None), "ZX"),
        ((5, 4, 6), "tyx", (3, None, None), "YX"),
        ((5, 4, 6), "tyx", (None, 1, None), "TX"),
        ((2, 5, 4, 6), UNLABELLED, (1, None, None, None), "ZYX"),
        ((2, 5, 4, 6), UNLABELLED, (1, 2, None, None), "YX"),
        ((2, 5, 4, 6), "tzyx", (1, None, None, None), "ZYX"),
        ((2, 5, 4, 6), "tzyx", (None, 2, None, None), "TYX"),
        ((2, 5, 4, 6), "tzyx", (1, 4, None, None), "YX"),
        ((2, 5, 4, 6), "czyx", (1, None, None, None), "ZYX"),
        ((2, 5, 4, 6), "czyx", (None, 3, None, None), "CYX"),
        ((2, 5, 4, 6), "czyx", (1, None, 3, None), "ZX"),
        ((2, 3, 5, 4, 6), "tczyx", (0, 2, None, None, None), "ZYX"),
        ((2, 3, 5, 4, 6), "tczyx", (None, None, 1, None, None), "TCYX"),
    ],
)
def test_planes_of_stacks_and_series(
    shape: tuple[int, ...], labels: str | None, plane: tuple[int | None, ...], axes: str
) -> None:
    n, random = len(shape), np.random.default_rng(0)
    scale, shear = random.uniform(0.5, 2, n), [0.1] * (n * (n - 1) // 2)
    placed = {"scale": scale, "shear": shear, "translate": random.normal(size=n)}
    layer = Image(ramp(shape), axis_labels=labels and tuple(labels), **placed)
    spec = LayerSpec.from_layer(layer, plane=plane)
    index = tuple(slice(None) if i is None else i for i in plane)
    np.testing.assert_array_equal(spec.data, layer.data[index])
    assert spec.axes == axes
    assert spec.held == tuple(i for i, at in enumerate(plane) if at is not None)
    assert spec.fit_arguments()["axes"] == axes
    fitted = [i for i, at in enumerate(plane) if at is None and (labels or "?" * n)[i] != "c"]
    assert spec.spacing == pytest.approx(scale[fitted])
    box = [(0, m) if at is None else (at, at + 1) for m, at in zip(shape, plane, strict=True)]
    for factor in (1, 2):
        values = np.zeros([m if letter == "C" else factor * m for m, letter in zip(spec.data.shape, axes, strict=True)])
        derived = Layer.create(*spec.like(values, "x"))
        assert derived.data.shape == tuple(
            1 if at is not None else m if letter == "c" else factor * m
            for m, at, letter in zip(shape, plane, labels or "?" * n, strict=True)
        )
        assert_close(corners(derived), box_corners(layer, box))


def test_a_plane_of_an_rgb_stack() -> None:
    layer = Image(np.random.default_rng(0).integers(0, 255, (5, 4, 6, 3), np.uint8), rgb=True, scale=(3, 1, 1))
    spec = LayerSpec.from_layer(layer, plane=(2, None, None))
    assert (spec.axes, spec.rgb, spec.shape, spec.coordinate_shape, spec.channels) == (
        "YXC",
        True,
        (1, 4, 6),
        (4, 6),
        3,
    )
    np.testing.assert_array_equal(spec.data, layer.data[2])
    box = [(2, 3), (0, 4), (0, 6)]
    for values in (np.zeros((8, 12, 3), np.uint8), np.zeros((8, 12), np.float32)):
        derived = Layer.create(*spec.like(values, "x2"))
        assert derived.data.shape == (1, *values.shape)
        assert derived.rgb is (values.ndim == 3)
        assert_close(corners(derived), box_corners(layer, box))


@pytest.mark.parametrize(
    ("axes", "plane", "found"),
    [
        ("TZYX", (1, None, None, None), "ZYX"),
        ("TZYX", (None, 1, None, None), "TYX"),
        ("SZYX", (1, None, None, None), "ZYX"),
        ("CZYX", (None, 1, None, None), "CYX"),
    ],
)
def test_given_axes_count_those_that_are_held(axes: str, plane: tuple[int | None, ...], found: str) -> None:
    layer = SimpleNamespace(data=ramp((2, 5, 4, 6)))
    assert LayerSpec.from_layer(layer, axes, plane=plane).axes == found


@pytest.mark.parametrize(
    ("labels", "plane"), [("zyx", (0, 0, 0)), ("cyx", (None, 0, 0)), ("tyx", (None, 0, 0)), (UNLABELLED, (0, 0, 0))]
)
def test_a_plane_leaves_an_axis_in_space(labels: str | None, plane: tuple[int | None, ...]) -> None:
    layer = Image(ramp((5, 4, 6)), axis_labels=labels and tuple(labels))
    with pytest.raises(ns.InputError, match="has no spatial axis"):
        LayerSpec.from_layer(layer, plane=plane)


# ---- levels ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pyramid() -> Image:
    # The sizes halve unevenly, as in real pyramids.
    levels = [ramp((17, 26)), ramp((9, 13)), ramp((4, 6))]
    return Image(levels, multiscale=True, scale=(0.5, -0.25), translate=(3, 4), rotate=30, contrast_limits=(0, 1))


@pytest.mark.parametrize("level", [0, 1, np.int64(2)])
def test_a_level_of_a_multiscale_layer_lies_over_the_largest(pyramid: Image, level: int) -> None:
    spec = LayerSpec.from_layer(pyramid, level=level)
    np.testing.assert_array_equal(spec.data, pyramid.data[level])
    sizes = np.array(pyramid.data[0].shape) / spec.data.shape
    assert spec.spacing == pytest.approx(sizes * (0.5, 0.25))
    for values in (spec.data, np.zeros((50, 50))):
        assert_same_corners(pyramid, Layer.create(*spec.like(values, "x")))


def test_a_multiscale_layer_gives_its_highest_level(pyramid: Image) -> None:
    assert LayerSpec.from_layer(pyramid).data.shape == (17, 26)


def test_a_region_of_a_level_is_in_its_pixels(pyramid: Image) -> None:
    spec = LayerSpec.from_layer(pyramid, region=((2, 5), (6, 13)), level=1)
    np.testing.assert_array_equal(spec.data, pyramid.data[1][2:5, 6:13])
    edges = np.array([[2, 6], [2, 13], [5, 6], [5, 13]]) * np.array([17, 26]) / (9, 13) - 0.5
    wanted = np.array([pyramid.data_to_world(edge) for edge in edges])
    assert_close(corners(Layer.create(*spec.like(spec.data, "x"))), wanted)


@pytest.mark.parametrize("level", [3, -1, 0.0, None])
def test_a_level_that_is_not_there_is_refused(pyramid: Image, level: Any) -> None:
    with pytest.raises(ns.InputError, match=r"has no level .* from 0 to 2"):
        LayerSpec.from_layer(pyramid, level=level)


# ---- lazy data ---------------------------------------------------------------------------------------


def test_lazy_data_are_read_but_not_before_their_axes_are_checked() -> None:
    image = ramp((6, 8))
    for lazy in (dask.array.from_array(image), zarr.array(image)):
        np.testing.assert_array_equal(LayerSpec.from_layer(Image(lazy, contrast_limits=(0, 1))).data, image)
        np.testing.assert_array_equal(LayerSpec.from_layer(SimpleNamespace(data=lazy), plane=(2, None)).data, image[2])

    class Series:
        shape = (1000, 2, 512, 512)

        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise AssertionError("read")

    with pytest.raises(ns.InputError, match="has 4 axes"):
        LayerSpec.from_layer(SimpleNamespace(data=Series()))


@pytest.mark.parametrize(
    ("region", "plane", "blocks"),
    [
        (None, (3, None, None), {(3, i, j) for i in (0, 1) for j in (0, 1)}),
        (((1, 3), (0, 4), None), None, {(k, 0, j) for k in (1, 2) for j in (0, 1)}),
        (((0, 6), (5, 6), (1, 2)), (4, None, None), {(4, 1, 0)}),
        (np.pad(np.ones((2, 2), bool), ((5, 1), (6, 2))), (5, None, None), {(5, 1, 1)}),
    ],
)
def test_of_lazy_data_only_what_is_fitted_is_computed(region: Any, plane: Any, blocks: set[tuple[int, ...]]) -> None:
    computed: list[tuple[int, ...]] = []

    def block(values: np.ndarray, block_id: tuple[int, ...]) -> np.ndarray:
        computed.append(block_id)
        return values

    image = ramp((6, 8, 10))
    lazy = dask.array.from_array(image, chunks=(1, 4, 5)).map_blocks(block, meta=image[:0])
    spec = LayerSpec.from_layer(SimpleNamespace(data=lazy), region=region, plane=plane, lazily=True)
    assert spec.data is None
    assert not computed
    read = spec.loaded()
    assert set(computed) == blocks
    assert read.data.shape == tuple(n for i, n in enumerate(spec.shape) if i not in spec.held)
    assert np.isin(read.data, image).all()
    assert read.loaded() is read


def test_data_that_is_a_list_can_be_cut() -> None:
    spec = LayerSpec.from_layer(SimpleNamespace(data=[[1, 2, 3], [4, 5, 6]]), region=(None, (1, 3)))
    np.testing.assert_array_equal(spec.data, [[2, 3], [5, 6]])


# ---- scales ------------------------------------------------------------------------------------------


def test_a_scale_for_space_makes_no_frames_in_between() -> None:
    series = LayerSpec.from_layer(Image(np.zeros((3, 4, 6)), axis_labels=("t", "y", "x"), scale=(10, 2, 2)))
    assert (series.axes, series.spacing, series.coordinate_shape) == ("TYX", (10.0, 2.0, 2.0), (3, 4, 6))
    assert series.scaled_shape(2) == (3, 8, 12)
    assert series.scaled_shape(np.float32(0.5)) == (3, 2, 3)
    assert series.scaled_shape((2, 1, 3)) == (6, 4, 18)
    assert LayerSpec.from_layer(Image(np.zeros((3, 4, 6)))).scaled_shape(2) == (6, 8, 12)


@pytest.mark.parametrize("scale", [0, -1, float("nan"), (2, 2), "two"])
def test_a_bad_scale_is_refused_for_a_series_too(scale: Any) -> None:
    with pytest.raises(ns.InputError, match="scale"):
        LayerSpec.from_layer(SimpleNamespace(data=np.zeros((3, 4, 6)), axis_labels=("t", "y", "x"))).scaled_shape(scale)


# ---- within a region ---------------------------------------------------------------------------------


def masked(shape: tuple[int, ...], mask: np.ndarray, **keywords: Any) -> LayerSpec:
    return LayerSpec.from_layer(SimpleNamespace(data=np.ones(shape, np.uint8), **keywords), region=mask)


def test_what_is_outside_is_zero_at_any_size() -> None:
    mask = np.ones((4, 6), bool)
    mask[0, :2] = mask[2, 4] = False
    spec = masked((4, 6), mask)
    np.testing.assert_array_equal(spec.missing, ~mask)
    np.testing.assert_array_equal(spec.fit_arguments()["missing"], ~mask)
    for factors in ((1, 1), (2, 2), (3, 1)):
        data = np.full(np.multiply((4, 6), factors), 7, np.uint16)
        found = spec.within(data)
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, 7 * np.kron(mask, np.ones(factors)))
        assert (data == 7).all()
    # Each pixel of smaller data takes the value at its centre: here at (1, 1), (1, 3), … of the original.
    np.testing.assert_array_equal(spec.within(np.ones((2, 3))), mask[1::2, 1::2])


@pytest.mark.parametrize(("shape", "keywords"), [((4, 6, 3), {"rgb": True}), ((4, 6, 4), {"rgb": True})])
def test_outside_all_colours_are_zero(shape: tuple[int, ...], keywords: dict[str, Any]) -> None:
    mask = np.eye(4, 6) == 0
    spec = masked(shape, mask, **keywords)
    found = spec.within(np.ones((8, 12, shape[-1])))
    np.testing.assert_array_equal(found, np.repeat(np.kron(mask, np.ones((2, 2)))[..., None], shape[-1], axis=-1))
    # An error has no colours.
    np.testing.assert_array_equal(spec.within(np.ones((4, 6))), mask)


def test_outside_all_channels_are_zero_where_they_come_first() -> None:
    mask = np.eye(4, 6) == 0
    spec = masked((2, 4, 6), mask, axis_labels=("c", "y", "x"))
    np.testing.assert_array_equal(spec.missing, ~mask)
    np.testing.assert_array_equal(spec.within(np.ones((2, 8, 12))), [np.kron(mask, np.ones((2, 2)))] * 2)


def test_a_point_belongs_where_any_channel_does() -> None:
    mask = np.zeros((2, 4, 6), bool)
    mask[0, 0, 0] = mask[1, 3, 5] = True
    spec = masked((2, 4, 6), mask, axis_labels=("c", "y", "x"))
    assert np.argwhere(~spec.missing).tolist() == [[0, 0], [3, 5]]


def test_nan_are_masked_if_they_are_filled_in() -> None:
    pixels = np.ones((2, 4, 6), dtype=np.float32)
    pixels[0, 1, 2], pixels[1, 3, 4] = np.nan, np.inf
    layer = SimpleNamespace(data=pixels, axis_labels=("c", "y", "x"))
    assert LayerSpec.from_layer(layer).masked is None
    spec = LayerSpec.from_layer(layer, fill_nan=True)
    assert spec.masked is not None
    assert np.argwhere(spec.masked).tolist() == [[1, 2], [3, 4]]
    np.testing.assert_array_equal(spec.data, pixels)
    part = LayerSpec.from_layer(layer, region=(None, (0, 3), None), fill_nan=True)
    assert np.argwhere(part.fit_arguments()["missing"]).tolist() == [[1, 2]]
    assert LayerSpec.from_layer(SimpleNamespace(data=np.ones((4, 6), np.uint8)), fill_nan=True).masked is None


def test_nan_are_masked_besides_the_mask_of_the_array() -> None:
    mask = np.zeros((4, 6), dtype=bool)
    mask[0, 0] = True
    data = np.ma.MaskedArray(np.full((4, 6), 1.0), mask=mask.copy())
    data.data[2, 2] = np.nan
    spec = LayerSpec.from_layer(SimpleNamespace(data=data), fill_nan=True)
    assert spec.masked is not None
    assert np.argwhere(spec.masked).tolist() == [[0, 0], [2, 2]]
    # The mask of the layer itself does not change.
    np.testing.assert_array_equal(data.mask, mask)


def test_a_mask_in_a_plane_has_the_axes_that_are_fitted() -> None:
    mask = np.random.default_rng(0).integers(0, 2, (5, 4, 6)).astype(bool)
    mask[:, 2, [0, 5]] = mask[[0, 4], 2, 0] = True
    spec = LayerSpec.from_layer(SimpleNamespace(data=ramp((5, 4, 6))), region=mask, plane=(None, 2, None))
    np.testing.assert_array_equal(spec.missing, ~mask[:, 2])
    np.testing.assert_array_equal(spec.within(np.ones((5, 6))), mask[:, 2])


def test_without_a_mask_data_is_left_alone() -> None:
    data = ramp((4, 6))
    assert LayerSpec.from_layer(SimpleNamespace(data=data), region=((0, 2), None)).within(data) is data


# ---- provenances ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "keywords", "options"),
    [
        ((8, 9), {"colormap": "magma", "gamma": 1.5, "units": ("um", "um")}, {"region": ((2, 5), None)}),
        ((8, 9), {}, {"region": np.eye(8, 9) == 0}),
        (
            (2, 5, 4, 6),
            {"axis_labels": ("c", "z", "y", "x")},
            {"region": np.eye(4, 6) == 0, "plane": (None, 2, None, None)},
        ),
        ((5, 4, 6), {"axis_labels": ("t", "y", "x"), "rotate": (10, 20, 30)}, {"plane": (3, None, None)}),
        ((2, 4, 6), {"axis_labels": ("c", "y", "x"), "shear": (1, 0.5, 0)}, {}),
        ((8, 9, 3), {"rgb": True, "scale": (-2, 3), "affine": [[1, 0.5, 3], [0, 1, 4], [0, 0, 1]]}, {}),
    ],
)
def test_a_spec_comes_back_from_json(shape: Any, keywords: dict[str, Any], options: dict[str, Any]) -> None:
    layer = Image(np.random.default_rng(0).integers(0, 255, shape, np.uint8), name="cells", **keywords)
    spec = LayerSpec.from_layer(layer, **options)
    back = LayerSpec.from_provenance(json.loads(json.dumps(spec.as_provenance(), allow_nan=False)))
    assert back.as_provenance() == spec.as_provenance()
    for name in ("name", "shape", "axes", "held", "rgb", "channels", "spacing", "coordinate_shape", "ndim"):
        assert getattr(back, name) == getattr(spec, name), name
    np.testing.assert_array_equal(back.missing, spec.missing)
    assert back.data is None
    assert back.loaded() is back
    (_, found, _), (_, wanted, _) = back.like(spec.data, "x"), spec.like(spec.data, "x")
    assert found == wanted
    derived = Layer.create(*back.like(spec.data, "x"))
    assert derived.colormap == layer.colormap
    assert derived.units == layer.units


# ---- a layer that was moved --------------------------------------------------------------------------


def test_a_spec_follows_a_layer_that_was_made_from_it() -> None:
    original = Image(ramp((4, 6)), scale=(0.5, 0.25), translate=(3, 4))
    spec = LayerSpec.from_layer(original)
    derived = Layer.create(*spec.like(np.zeros((8, 18)), "x2,3"))
    moved = spec.placed_as(derived)
    assert moved.spacing == pytest.approx(spec.spacing)
    assert_same_corners(original, Layer.create(*moved.like(ramp((4, 6)), "again")))
    # The layer is calibrated by hand afterwards.
    derived.scale, derived.translate, derived.units, derived.axis_labels = (0.1, 0.2), (7, 8), ("um", "um"), ("y", "x")
    derived.rotate = 30
    moved = spec.placed_as(derived)
    assert moved.spacing == pytest.approx((0.2, 0.6))
    assert (moved.axes, moved.shape, moved.name) == (spec.axes, spec.shape, spec.name)
    for values in (ramp((4, 6)), np.zeros((13, 5))):
        again = Layer.create(*moved.like(values, "again"))
        assert_same_corners(derived, again)
        assert (again.units, again.axis_labels) == (derived.units, derived.axis_labels)


def test_a_spec_of_a_plane_follows_its_layer() -> None:
    spec = LayerSpec.from_layer(Image(ramp((5, 4, 6)), scale=(3, 1, 1)), plane=(2, None, None))
    derived = Layer.create(*spec.like(np.zeros((8, 12)), "x2"))
    derived.scale, derived.translate = (2, 0.25, 0.5), (1, 2, 3)
    moved = spec.placed_as(derived)
    assert moved.spacing == pytest.approx((0.5, 1))
    assert_same_corners(derived, Layer.create(*moved.like(ramp((4, 6)), "again")))


# ---- frames that are joined ----------------------------------------------------------------------------------


def test_the_scene_of_joined_frames_lies_over_all_of_them() -> None:
    layer = Image(ramp((5, 3, 8, 6)), axis_labels=("t", "c", "y", "x"), scale=(2, 1, 0.5, 0.5), translate=(7, 0, 1, 2))
    whole = LayerSpec.from_layer(layer)
    spec = whole.joined()
    told = spec.fit_arguments()
    assert (told["axes"], told["axes_as_coordinates"], told["spacing"]) == ("TCYX", None, (0.5, 0.5))
    assert told["image"].shape == (5, 3, 8, 6)
    data, meta, _ = spec.like(np.zeros((3, 16, 12)), "x2")
    assert data.shape == (1, 3, 16, 12)
    assert (meta["scale"][0], meta["translate"][0]) == (10, 11)
    assert spec.joined() == spec
    assert LayerSpec.from_layer(Image(np.zeros((4, 6)))).joined().series == ""


@pytest.mark.parametrize(
    ("labels", "scale", "factors"),
    [
        ("zyx", (4, 1, 1), (8, 2, 2)),
        ("zyx", (0.5, -1, 1), (2, 4, 4)),
        ("zyx", (1, 1, 1), 2),
        ("tyx", (9, 0.5, 1), (1, 2, 4)),
        ("czyx", (1, 3, 1, 1), (6, 2, 2)),
    ],
)
def test_scales_of_cubic_voxels(labels: str, scale: tuple[float, ...], factors: Any) -> None:
    spec = LayerSpec.from_layer(Image(np.zeros((4,) * len(labels)), axis_labels=tuple(labels), scale=scale))
    assert spec.scales(2, isotropic=True) == (pytest.approx(factors) if factors != 2 else 2)
    assert spec.scales(2, isotropic=False) == 2
