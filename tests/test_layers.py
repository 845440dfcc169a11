"""napari layers in and out: every derived layer lies exactly over its original, whatever the transforms."""

from __future__ import annotations

import json
from itertools import product
from types import SimpleNamespace
from typing import Any

import dask.array
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Points, Shapes

import napari_siren as ns
from napari_siren.layers import METADATA_KEY, LayerData, LayerSpec

# napari says so of every turned stack that it shows in slices.
pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")

FAST = {"preset": "fast", "max_steps": 3, "engine": "plain", "hidden_features": 8, "hidden_layers": 1}


def corners(layer: Layer) -> np.ndarray:
    """World positions of the outer corners of a layer, (2 ** ndim, ndim)."""
    shape = layer.data.shape[: layer.ndim]
    return np.array([layer.data_to_world(c) for c in product(*((-0.5, n - 0.5) for n in shape))])


def assert_same_corners(original: Layer, derived: Layer) -> None:
    wanted = corners(original)
    np.testing.assert_allclose(corners(derived), wanted, rtol=0, atol=1e-12 * (1 + np.abs(wanted).max()))


def ramp(shape: tuple[int, ...]) -> np.ndarray:
    return np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


# ---- placement, without a fit ------------------------------------------------------------------------


def vectors(n: int, elements: st.SearchStrategy[float]) -> st.SearchStrategy[list[float]]:
    return st.lists(elements, min_size=n, max_size=n)


@st.composite
def placed_layers(draw: st.DrawFn) -> tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]:
    """Keyword arguments of an image layer, its shape in space, and the shape of a layer derived from it."""
    ndim = draw(st.integers(2, 3))
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=ndim, max_size=ndim)))
    derived = tuple(draw(st.lists(st.integers(1, 40), min_size=ndim, max_size=ndim)))
    size = st.floats(1e-3, 1e3)
    signs = vectors(ndim, st.sampled_from([1.0, -1.0]))
    small = st.floats(-0.3, 0.3)
    affine = np.eye(ndim + 1)
    affine[:-1, :-1] += np.array(draw(vectors(ndim**2, small))).reshape(ndim, ndim)
    affine[:-1, -1] = draw(vectors(ndim, st.floats(-1e3, 1e3)))
    upper = vectors(ndim * (ndim - 1) // 2, st.floats(-2, 2))
    shear: Any = draw(upper)
    if draw(st.booleans()):
        lower = np.eye(ndim)
        lower[np.tril_indices(ndim, -1)] = shear
        shear = lower
    angle = st.floats(-360, 360)
    return (
        {
            "scale": np.multiply(draw(vectors(ndim, size)), draw(signs)),
            "translate": draw(vectors(ndim, st.floats(-1e4, 1e4))),
            "rotate": draw(angle) if ndim == 2 else draw(st.tuples(angle, angle, angle)),
            "shear": shear,
            "affine": affine,
        },
        shape,
        derived,
    )


@settings(max_examples=60, deadline=None)
@given(placed_layers(), st.booleans())
def test_a_derived_layer_has_the_world_corners_of_the_original(
    placed: tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]], rgb: bool
) -> None:
    transforms, shape, derived_shape = placed
    colours = (3,) * rgb
    original = Image(np.zeros(shape + colours, np.uint8), rgb=rgb, **transforms)
    spec = LayerSpec.of(original)
    assert spec.axes == "ZYX"[-len(shape) :] + "C" * rgb
    assert spec.spacing == pytest.approx(np.abs(transforms["scale"]))
    for data in (np.zeros(derived_shape + colours, np.uint8), np.zeros(derived_shape, np.float32)):
        derived = Layer.create(*spec.like(data, "upscaled", "x"))
        assert derived.rgb is (data.ndim > len(shape))
        assert_same_corners(original, derived)
        np.testing.assert_allclose(derived.rotate, original.rotate)
        np.testing.assert_allclose(derived.affine, original.affine)


def test_the_same_shape_keeps_the_placement_to_the_bit() -> None:
    original = Image(np.zeros((5, 7)), scale=(0.3, -0.7), translate=(1 / 3, 9.1), rotate=33, shear=[0.2])
    derived = Layer.create(*LayerSpec.of(original).like(np.zeros((5, 7)), "reconstruction", "same"))
    for name in ("scale", "translate", "rotate", "shear"):
        np.testing.assert_array_equal(getattr(derived, name), getattr(original, name))


def test_twice_the_pixels_lie_a_quarter_pixel_before_the_first() -> None:
    spec = LayerSpec.of(SimpleNamespace(data=np.zeros((4, 6)), scale=(2.0, 0.5), translate=(10.0, 0.0)))
    _, meta, _ = spec.like(np.zeros((8, 12)), "upscaled", "x2")
    assert meta["scale"] == [1.0, 0.25]
    assert meta["translate"] == [9.5, -0.125]


def test_a_channel_axis_stays_as_it_is() -> None:
    layer = Image(np.zeros((2, 4, 6)), axis_labels=("channel", "y", "x"), scale=(1, 2, 3), translate=(5, 0, 0))
    spec = LayerSpec.of(layer)
    assert (spec.axes, spec.spacing, spec.spatial_shape) == ("CYX", (2.0, 3.0), (4, 6))
    derived = Layer.create(*spec.like(np.zeros((2, 8, 18)), "upscaled", "x2,3"))
    assert_same_corners(layer, derived)
    assert derived.metadata[METADATA_KEY]["scale"] == [2.0, 3.0]


@pytest.mark.parametrize("shape", [(4,), (4, 6, 3), (0, 6)])
def test_data_of_other_axes_cannot_lie_over_a_layer(shape: tuple[int, ...]) -> None:
    with pytest.raises(ns.InputError, match="cannot lie over"):
        LayerSpec.of(Image(np.zeros((4, 6)))).like(np.zeros(shape), "upscaled", "x2")


# ---- reading a layer ---------------------------------------------------------------------------------


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
        ((40, 50, 3), {}, "YXC"),
        ((40, 50, 3), {"rgb": False}, "ZYX"),
        ((5, 40, 50, 4), {"rgb": True, "axis_labels": ("z", "y", "x")}, "ZYXC"),
    ],
)
def test_axes_come_from_rgb_and_labels(shape: tuple[int, ...], keywords: dict[str, Any], axes: str) -> None:
    assert LayerSpec.of(Image(np.zeros(shape, np.uint8), **keywords)).axes == axes


def test_axes_can_be_given() -> None:
    layer = Image(np.zeros((2, 5, 4, 6)), name="cells")
    with pytest.raises(ns.InputError, match=r"'cells' has 4 axes .* Take one frame or channel"):
        LayerSpec.of(layer)
    assert LayerSpec.of(layer, "czyx").axes == "CZYX"


@pytest.mark.parametrize("levels", [[np.ones((8, 6)), np.ones((4, 3))]])
def test_a_multiscale_layer_gives_its_highest_level(levels: list[np.ndarray]) -> None:
    spec = LayerSpec.of(Image(levels, multiscale=True, scale=(0.5, 0.5)))
    np.testing.assert_array_equal(spec.data, levels[0])
    assert spec.spacing == (0.5, 0.5)


def test_lazy_data_are_read_but_not_before_their_axes_are_checked() -> None:
    image = ramp((6, 8))
    for lazy in (dask.array.from_array(image), zarr.array(image)):
        np.testing.assert_array_equal(LayerSpec.of(Image(lazy, contrast_limits=(0, 1))).data, image)

    class Series:
        shape = (1000, 2, 512, 512)

        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise AssertionError("read")

    with pytest.raises(ns.InputError, match="has 4 axes"):
        LayerSpec.of(SimpleNamespace(data=Series()))


def test_an_object_with_data_only_is_as_napari_has_it_by_default() -> None:
    data = ramp((6, 8))
    _, meta, _ = LayerSpec.of(SimpleNamespace(data=data)).like(data, "reconstruction", "same")
    ours, napari = Layer.create(data, meta, "image"), Image(data)
    names = [
        *LayerSpec.of(napari).display,
        "scale",
        "translate",
        "rotate",
        "shear",
        "units",
        "axis_labels",
        "rgb",
    ]
    for name in names:
        np.testing.assert_equal(getattr(ours, name), getattr(napari, name), err_msg=name)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Labels(np.zeros((4, 4), int), name="nuclei"), "'nuclei' is a Labels layer; .* an Image layer"),
        (Points(np.zeros((4, 2))), "is a Points layer"),
        (Shapes(), "is a Shapes layer"),
        (np.zeros((4, 4)), r"not a ndarray. For an array use fit\(array\)"),
        (None, "not a NoneType"),
        (Image(np.zeros((3, 4, 4)), axis_labels=("t", "y", "x")), "axis 't' of time.* Take one frame"),
        (
            Image(np.zeros((2, 40, 50, 3)), rgb=True, axis_labels=("c", "y", "x")),
            "more than one axis of chan",
        ),
        (SimpleNamespace(data=[[1, 2], [3]]), "not an array of numbers"),
        (SimpleNamespace(data=np.zeros(5), axis_labels=("c",)), "no axis in space"),
        (SimpleNamespace(data=np.zeros((4, 5)), rgb=True), "3 or 4 entries"),
        (SimpleNamespace(data=np.zeros((4, 4)), scale=(0, 1)), "cannot be 0"),
        (
            SimpleNamespace(data=np.zeros((4, 4)), scale=(1, 1, 1)),
            r"scale \[1.0, 1.0, 1.0\]; .* shape \(2,\)",
        ),
        (SimpleNamespace(data=np.zeros((4, 4)), rotate=30), r"rotate 30.0; .* shape \(2, 2\)"),
        (SimpleNamespace(data=np.zeros((4, 4)), translate=("a", "b")), "translate .* not numbers"),
        (SimpleNamespace(data=np.zeros((4, 4)), affine=np.full((3, 3), np.nan)), "affine .* finite"),
        (SimpleNamespace(data=np.zeros((4, 4)), units=("um",)), "units .* one for each axis"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_words(layer: Any, message: str) -> None:
    with pytest.raises(ns.InputError, match=message):
        ns.fit_layer(layer)


def test_bad_options_are_refused_before_the_fit() -> None:
    layer = Image(np.zeros((4, 6)))
    steps: list[object] = []
    options = {"on_progress": steps.append, **FAST}
    with pytest.raises(ns.InputError, match="scale"):
        ns.fit_layer(layer, scale=(2, 2, 2), **options)
    with pytest.raises(ns.InputError, match="scale"):
        ns.fit_layer(layer, scale=0, **options)
    with pytest.raises(ns.InputError, match="viewer should be a napari viewer"):
        ns.fit_layer(layer, viewer=object(), **options)
    with pytest.raises(ns.InputError, match="two axes or more"):
        ns.fit_layer(SimpleNamespace(data=np.zeros(6)), viewer=ViewerModel(), **options)
    with pytest.raises(ns.InputError, match="last axis is C"):
        ns.fit_layer(Image(np.zeros((40, 50, 3))), axes="ZYX", **options)
    with pytest.raises(ns.ConfigError, match="did you mean"):
        ns.fit_layer(layer, max_stepz=9, **options)
    assert not steps


# ---- fits --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cells() -> Image:
    rng = np.random.default_rng(0)
    return Image(
        rng.integers(0, 4000, (7, 10), dtype=np.uint16),
        name="cells",
        scale=(0.5, 0.25),
        translate=(3, -4),
        rotate=20,
        units=("um", "um"),
        axis_labels=("y", "x"),
        colormap="magma",
        blending="additive",
        contrast_limits=(100, 3000),
        opacity=0.5,
        gamma=1.5,
        interpolation2d="cubic",
        metadata={"microscope": object()},
    )


@pytest.fixture(scope="module")
def viewer(cells: Image) -> ViewerModel:
    model = ViewerModel()
    model.add_layer(cells)
    return model


@pytest.fixture(scope="module")
def fitted(cells: Image, viewer: ViewerModel) -> ns.LayerFit:
    return ns.fit_layer(cells, scale=(2, 1.25), viewer=viewer, **FAST)


def test_the_viewer_gets_three_layers_over_the_original(cells: Image, viewer: ViewerModel, fitted: ns.LayerFit) -> None:
    names = ["cells [reconstruction]", "cells [x2,1.25]", "cells [error]"]
    assert [layer.name for layer in fitted.layers] == names
    assert list(viewer.layers) == [cells, *fitted.layers]
    for layer, (data, meta, kind) in zip(fitted.layers, fitted.layer_data, strict=True):
        assert (kind, meta["name"]) == ("image", layer.name)
        assert layer.data is data
        assert layer.units == cells.units
        assert layer.axis_labels == ("y", "x")
        assert_same_corners(cells, layer)
    assert viewer.layers.units == cells.units


def test_the_data_are_those_of_the_result(cells: Image, fitted: ns.LayerFit) -> None:
    reconstruction, upscaled, error = (layer.data for layer in fitted.layers)
    assert reconstruction.dtype == upscaled.dtype == cells.data.dtype
    assert reconstruction.shape == error.shape == (7, 10)
    # 7 x 10 at (2, 1.25) is 14 x 12.5 pixels: 12 are laid from edge to edge.
    assert upscaled.shape == (14, 12)
    np.testing.assert_array_equal(upscaled, fitted.result.render(shape=(14, 12)))
    assert error.dtype == np.float32
    np.testing.assert_array_equal(error, reconstruction.astype(float) - cells.data)
    assert fitted.result.field.format.spacing == (0.5, 0.25)


def test_the_display_is_the_originals_but_for_the_error(cells: Image, fitted: ns.LayerFit) -> None:
    *images, error = fitted.layers
    for layer in images:
        for name in ("contrast_limits", "blending", "opacity", "gamma", "interpolation2d", "rendering"):
            assert getattr(layer, name) == getattr(cells, name), name
        assert layer.colormap == cells.colormap
    low, high = error.contrast_limits
    assert low == -high < 0
    assert high <= np.abs(error.data).max()
    assert error.colormap.name == "PiYG"
    assert (error.blending, error.opacity, error.gamma) == ("translucent", 1.0, 1.0)


def test_the_metadata_say_how_it_was_made_in_plain_values(fitted: ns.LayerFit) -> None:
    for (_, meta, _), role in zip(fitted.layer_data, ("reconstruction", "upscaled", "error"), strict=True):
        assert set(meta["metadata"]) == {METADATA_KEY}
        receipt = json.loads(json.dumps(meta["metadata"], allow_nan=False))[METADATA_KEY]
        assert receipt["role"] == role
        assert receipt["scale"] == ([2.0, 1.2] if role == "upscaled" else [1.0, 1.0])
        assert receipt["config"]["name"] == "fast"
        assert receipt["history"]["steps"] == 3
        assert receipt["history"]["stopped"] == "max_steps"
        assert receipt["metrics"]["psnr"] == fitted.result.metrics.psnr
        assert receipt["data_sha256"] == fitted.result.receipt["data_sha256"]
    rest = {k: v for k, v in meta.items() if k != "metadata"}
    json.dumps(rest, allow_nan=False)


def derive(layer: Any, **options: Any) -> list[LayerData]:
    return list(ns.fit_layer(layer, **{**FAST, **options}).layer_data)


def test_rgb_layers() -> None:
    image = np.random.default_rng(0).integers(0, 255, (6, 8, 4), dtype=np.uint8)
    original = Image(image, rgb=True, scale=(2, 3), translate=(1, 1))
    tuples = derive(original)
    reconstruction, upscaled, error = (Layer.create(*t) for t in tuples)
    assert reconstruction.rgb
    assert upscaled.rgb
    assert not error.rgb
    assert upscaled.data.shape == (12, 16, 4)
    difference = reconstruction.data.astype(float) - image
    np.testing.assert_allclose(error.data, difference[..., :3].mean(axis=-1), rtol=1e-5)
    assert error.data.dtype == np.float32
    for layer in (reconstruction, upscaled, error):
        assert_same_corners(original, layer)


def test_stacks() -> None:
    original = Image(ramp((4, 5, 6)), scale=(5, -1, 1), rotate=(10, 20, 30), shear=(0.1, 0, 0.2), units=("nm",) * 3)
    tuples = derive(original, scale=(3, 1, 1))
    assert [data.shape for data, _, _ in tuples] == [(4, 5, 6), (12, 5, 6), (4, 5, 6)]
    for layer in (Layer.create(*t) for t in tuples):
        assert_same_corners(original, layer)
        assert layer.units == original.units


def test_one_axis_without_napari() -> None:
    layer = SimpleNamespace(data=np.arange(12, dtype=np.int16), name="line", scale=(0.5,), units="um")
    (_, meta, _), (upscaled, upscaled_meta, _), _ = derive(layer, scale=2)
    assert upscaled.shape == (24,)
    assert upscaled.dtype == np.int16
    assert meta["units"] == ("um",)
    assert upscaled_meta["translate"] == [-0.125]


def test_an_exact_reconstruction_still_has_an_error_layer_with_limits() -> None:
    (_, meta, _), _, (error, error_meta, _) = derive(SimpleNamespace(data=np.full((5, 5), 7, np.uint8)))
    assert not error.any()
    assert error_meta["contrast_limits"] == [-1.0, 1.0]
    # A PSNR without end is no number that JSON knows.
    assert meta["metadata"][METADATA_KEY]["metrics"]["psnr"] == "inf"


def test_options_are_those_of_fit() -> None:
    image = ramp((6, 8))
    image[2, 3] = np.nan
    layer = Image(image, contrast_limits=(0, 1), scale=(2, 2))
    fitted = ns.fit_layer(layer, missing=np.isnan(image), spacing=3.0, seed=4, **FAST)
    assert fitted.layers == ()
    assert fitted.result.field.format.spacing == (3.0, 3.0)
    assert fitted.result.receipt["seed"] == 4
    assert np.isfinite(fitted.layer_data[2][0]).all()
    with pytest.raises(ns.InputError, match="missing="):
        ns.fit_layer(layer, **FAST)


def test_the_default_preset_is_faithful() -> None:
    fitted = ns.fit_layer(SimpleNamespace(data=ramp((6, 8))), max_steps=1)
    assert fitted.result.config.name == "faithful"


def test_values_stay_where_they_are_in_the_world() -> None:
    """A layer whose values are its own world coordinate: so must be those of the upscaled one."""
    scale, offset = 0.5, 3.0
    image = np.tile((np.arange(16) * scale + offset).astype(np.float32), (8, 1))
    layer = Image(image, scale=(1.0, scale), translate=(0.0, offset))
    _, tuple_, _ = ns.fit_layer(layer, scale=3, preset="fast", max_steps=60, engine="plain").layer_data
    upscaled = Layer.create(*tuple_)
    world = np.array([upscaled.data_to_world((12, j))[1] for j in range(48)])
    # A shift by half a new pixel would be 0.083.
    assert abs((upscaled.data[12] - world).mean()) < 0.02


def test_a_custom_interpolation_is_not_passed_on() -> None:
    layer = SimpleNamespace(data=ramp((6, 8)), interpolation2d="custom", interpolation3d="cubic")
    assert Layer.create(*LayerSpec.of(layer).like(layer.data, "error", "error")).interpolation2d == "nearest"
