"""`fit_layer`, and the layers made from a result, fresh or loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer, Points, Shapes
from placements import assert_close, assert_same_corners, box_corners, corners, ramp

import napari_siren as ns
from napari_siren.core.result import FitResult
from napari_siren.layers.outputs import (
    METADATA_KEY,
    RESULT_KEY,
    derivative_layer,
    error_layer,
    model_layer,
    scale_label,
    spec_of,
    uncertainty_layer,
    upscaled_layer,
    with_layer,
)
from napari_siren.layers.spec import LayerData, LayerSpec

# napari warns of this for every rotated stack in a view of slices.
pytestmark = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")

FAST = {"preset": "fast", "max_steps": 3, "engine": "torch", "hidden_features": 8, "hidden_layers": 1}


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Labels(np.zeros((4, 4), int), name="nuclei"), "'nuclei' is a Labels layer; .* an Image layer"),
        (Points(np.zeros((4, 2))), "is a Points layer"),
        (Shapes(), "is a Shapes layer"),
        (np.zeros((4, 4)), r"not a ndarray. For an array use fit\(array\)"),
        (None, "not a NoneType"),
        (
            Image(np.zeros((2, 40, 50, 3)), rgb=True, axis_labels=("c", "y", "x")),
            "more than one axis of chan",
        ),
        (SimpleNamespace(data=[[1, 2], [3]]), "not an array of numbers"),
        (SimpleNamespace(data=np.zeros(5), axis_labels=("c",)), "no spatial axis"),
        (SimpleNamespace(data=np.zeros((4, 5)), rgb=True), "3 or 4 entries"),
        (SimpleNamespace(data=np.zeros((4, 4)), scale=(0, 1)), "cannot be 0"),
        (
            SimpleNamespace(data=np.zeros((4, 4)), scale=(1, 1, 1)),
            r"scale \[1.0, 1.0, 1.0\]\. .* shape \(2,\)",
        ),
        (SimpleNamespace(data=np.zeros((4, 4)), rotate=30), r"rotate 30.0\. .* shape \(2, 2\)"),
        (SimpleNamespace(data=np.zeros((4, 4)), translate=("a", "b")), "translate .* not numeric"),
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
    with pytest.raises(ns.InputError, match="should be a napari viewer"):
        ns.fit_layer(layer, viewer=object(), **options)
    with pytest.raises(ns.InputError, match="two axes or more"):
        ns.fit_layer(SimpleNamespace(data=np.zeros(6)), viewer=ViewerModel(), **options)
    with pytest.raises(ns.InputError, match="last axis is C"):
        ns.fit_layer(Image(np.zeros((40, 50, 3))), axes="ZYX", **options)
    with pytest.raises(ns.ConfigError, match="did you mean"):
        ns.fit_layer(layer, max_stepz=9, **options)
    with pytest.raises(ns.InputError, match="error='relative' is unknown"):
        ns.fit_layer(layer, error="relative", **options)
    with pytest.raises(ns.InputError, match="too much for the"):
        ns.fit_layer(layer, scale=1e7, **options)
    with pytest.raises(ns.InputError, match="no pixel of layer"):
        ns.fit_layer(layer, region=((9, 12), None), **options)
    with pytest.raises(ns.InputError, match="with a region that is a box"):
        ns.fit_layer(layer, region=np.eye(4, 6) == 0, missing=np.zeros((4, 6), bool), **options)
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
    # 7 x 10 at (2, 1.25) is 14 x 12.5 pixels: 12 cover the image from edge to edge.
    assert upscaled.shape == (14, 12)
    np.testing.assert_array_equal(upscaled, fitted.result.render(shape=(14, 12)))
    assert error.dtype == np.float32
    np.testing.assert_array_equal(error, reconstruction.astype(float) - cells.data)
    assert fitted.result.field.layout.spacing == (0.5, 0.25)


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
        assert set(meta["metadata"]) == {METADATA_KEY, RESULT_KEY}
        assert meta["metadata"][RESULT_KEY] is fitted.result
        provenance = json.loads(json.dumps(meta["metadata"][METADATA_KEY], allow_nan=False))
        assert provenance["role"] == role
        assert provenance["scale"] == ([2.0, 1.2] if role == "upscaled" else [1.0, 1.0])
        assert provenance["config"]["name"] == "fast"
        assert provenance["history"]["steps"] == 3
        assert provenance["history"]["stopped"] == "max_steps"
        assert provenance["metrics"]["psnr"] == fitted.result.metrics.psnr
        assert provenance["data_sha256"] == fitted.result.provenance["data_sha256"]
        assert provenance["layer"] == fitted.result.provenance["layer"]
        assert provenance["layer"]["name"] == "cells"
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
    # JSON has no number for an infinite PSNR.
    assert meta["metadata"][METADATA_KEY]["metrics"]["psnr"] == "inf"


def test_options_are_those_of_fit() -> None:
    image = ramp((6, 8))
    image[2, 3] = np.nan
    layer = Image(image, contrast_limits=(0, 1), scale=(2, 2))
    fitted = ns.fit_layer(layer, missing=np.isnan(image), spacing=3.0, seed=4, **FAST)
    assert fitted.layers == ()
    assert fitted.result.field.layout.spacing == (3.0, 3.0)
    assert fitted.result.provenance["seed"] == 4
    assert np.isfinite(fitted.layer_data[2][0]).all()
    with pytest.raises(ns.InputError, match="missing="):
        ns.fit_layer(layer, **FAST)


def test_the_default_preset_is_faithful() -> None:
    fitted = ns.fit_layer(SimpleNamespace(data=ramp((6, 8))), max_steps=1)
    assert fitted.result.config.name == "faithful"


def test_values_stay_where_they_are_in_the_world() -> None:
    """Use world coordinates as values of a layer: the upscaled layer must show its world coordinates, too."""
    scale, offset = 0.5, 3.0
    image = np.tile((np.arange(16) * scale + offset).astype(np.float32), (8, 1))
    layer = Image(image, scale=(1.0, scale), translate=(0.0, offset))
    _, tuple_, _ = ns.fit_layer(layer, scale=3, max_steps=60, engine="torch").layer_data
    upscaled = Layer.create(*tuple_)
    world = np.array([upscaled.data_to_world((12, j))[1] for j in range(48)])
    # A shift by half a new pixel would be 0.083.
    assert abs((upscaled.data[12] - world).mean()) < 0.02


def test_a_series_is_fitted_with_time_as_a_coordinate() -> None:
    layer = Image(ramp((3, 6, 8)), axis_labels=("t", "y", "x"), scale=(60, 0.5, 0.5), name="cells")
    fitted = ns.fit_layer(layer, scale=2, **FAST)
    assert fitted.result.field.dimensions == 3
    assert fitted.result.field.layout.spacing == (60, 0.5, 0.5)
    assert [data.shape for data, _, _ in fitted.layer_data] == [(3, 6, 8), (3, 12, 16), (3, 6, 8)]
    assert fitted.layer_data[1][1]["metadata"][METADATA_KEY]["scale"] == [1.0, 2.0, 2.0]
    finer = upscaled_layer(spec_of(fitted.result), fitted.result, (3, 1, 1))
    assert (finer[0].shape, finer[1]["name"]) == ((9, 6, 8), "cells [x3,1,1]")
    for tuple_ in (*fitted.layer_data, finer):
        derived = Layer.create(*tuple_)
        assert_same_corners(layer, derived)
        assert derived.axis_labels == layer.axis_labels


# ---- parts of a layer --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "keywords", "part", "box"),
    [
        ((9, 12), {}, {"region": ((2, 8), (3, 99))}, [(2, 8), (3, 12)]),
        ((4, 9, 12), {"axis_labels": ("z", "y", "x")}, {"plane": (2, None, None)}, [(2, 3), (0, 9), (0, 12)]),
        (
            (4, 9, 12),
            {"axis_labels": ("t", "y", "x")},
            {"region": (None, (1, 7), (2, 9)), "plane": (3, None, None)},
            [(3, 4), (1, 7), (2, 9)],
        ),
        ((4, 9, 12), {}, {"region": ((0, 2), None, None)}, [(0, 2), (0, 9), (0, 12)]),
        ((9, 12, 3), {"rgb": True}, {"region": ((2, 8), (3, 9))}, [(2, 8), (3, 9)]),
        ((2, 9, 12), {"axis_labels": ("c", "y", "x")}, {"region": (None, (1, 7), None)}, [(0, 2), (1, 7), (0, 12)]),
    ],
)
def test_of_a_part_the_layers_lie_over_the_part(
    shape: tuple[int, ...], keywords: dict[str, Any], part: dict[str, Any], box: list[tuple[int, int]]
) -> None:
    rng, n = np.random.default_rng(0), len(box)
    placed = {"scale": rng.uniform(0.5, 2, n), "translate": rng.normal(size=n), "shear": [0.2] * (n * (n - 1) // 2)}
    original = Image(rng.integers(0, 255, shape, dtype=np.uint8), **placed, **keywords)
    fitted = ns.fit_layer(original, **part, **FAST)
    cut = original.data[tuple(slice(*ends) for ends in box)]
    np.testing.assert_array_equal(fitted.result.samples.image, cut.squeeze())
    reconstruction, upscaled, error = (Layer.create(*t) for t in fitted.layer_data)
    assert reconstruction.data.shape == cut.shape
    for layer in (reconstruction, upscaled, error):
        assert_close(corners(layer), box_corners(original, box))
    difference = reconstruction.data.astype(float) - cut
    wanted = difference.mean(axis=-1) if original.rgb else difference
    np.testing.assert_allclose(error.data, wanted, rtol=1e-5)


def test_a_level_can_be_fitted() -> None:
    pyramid = Image([ramp((17, 26)), ramp((9, 13))], multiscale=True, scale=(0.5, 2), contrast_limits=(0, 1))
    fitted = ns.fit_layer(pyramid, level=1, **FAST)
    assert [data.shape for data, _, _ in fitted.layer_data] == [(9, 13), (18, 26), (9, 13)]
    for tuple_ in fitted.layer_data:
        assert_same_corners(pyramid, Layer.create(*tuple_))


@pytest.fixture(scope="module")
def drawn() -> tuple[Image, np.ndarray, ns.LayerFit]:
    """Return a fitted part with a mask: the layer, the mask of its shape, and the fit."""
    image = Image(np.random.default_rng(0).integers(100, 200, (12, 14), dtype=np.uint8), scale=(0.5, 2), name="cells")
    outline = np.array([[1.5, 6], [6, 1.5], [10.5, 6], [6, 12.5]]) * (0.5, 2)
    fitted = ns.fit_layer(image, region=Shapes([outline], shape_type="polygon"), scale=2, **FAST)
    mask = np.zeros((12, 14), bool)
    mask[2:11, 2:13] = fitted.result.samples.observed
    return image, mask, fitted


def test_outside_of_a_drawn_region_the_layers_are_zero(drawn: tuple[Image, np.ndarray, ns.LayerFit]) -> None:
    image, mask, fitted = drawn
    inside = mask[2:11, 2:13]
    assert 0.3 < inside.mean() < 0.7
    reconstruction, upscaled, error = (Layer.create(*t) for t in fitted.layer_data)
    assert reconstruction.data[inside].all()
    assert not reconstruction.data[~inside].any()
    twice = np.kron(inside, np.ones((2, 2))).astype(bool)
    assert upscaled.data[twice].all()
    assert not upscaled.data[~twice].any()
    assert error.data[inside].any()
    assert not error.data[~inside].any()
    np.testing.assert_array_equal(error.data, np.where(inside, reconstruction.data - image.data[2:11, 2:13] * 1.0, 0))
    gradient, _, _ = derivative_layer(spec_of(fitted.result), fitted.result, "gradient_magnitude")
    assert gradient[inside].all()
    assert not gradient[~inside].any()
    for layer in (reconstruction, upscaled, error):
        assert_close(corners(layer), box_corners(image, [(2, 11), (2, 13)]))


def test_what_is_outside_does_not_count_in_a_fit(drawn: tuple[Image, np.ndarray, ns.LayerFit]) -> None:
    image, mask, fitted = drawn
    other = Image(np.where(mask, image.data, 255), scale=image.scale, name="cells")
    again = ns.fit_layer(other, region=mask, scale=2, **FAST)
    for (ours, _, _), (wanted, _, _) in zip(again.layer_data, fitted.layer_data, strict=True):
        np.testing.assert_array_equal(ours, wanted)


def test_missing_pixels_within_a_box_are_filled_in() -> None:
    image = ramp((9, 12)) + 1
    image[3, 4] = np.nan
    layer = Image(image, contrast_limits=(0, 1))
    fitted = ns.fit_layer(layer, region=((1, 9), None), missing=np.isnan(image[1:]), **FAST)
    assert fitted.layer_data[0][0][2, 4] > 0.5
    # Missing pixels given as a region are outside of it.
    outside = ns.fit_layer(layer, region=np.isfinite(image), **FAST)
    assert outside.layer_data[0][0][3, 4] == 0


# ---- alpha -------------------------------------------------------------------------------------------


def coloured(alpha: Any) -> Image:
    image = np.random.default_rng(0).integers(0, 255, (12, 14, 4), dtype=np.uint8)
    image[..., 3] = alpha
    return Image(image, rgb=True)


@pytest.mark.parametrize("alpha", [255, 128])
def test_an_alpha_that_is_the_same_for_all_comes_back_exactly(alpha: int, tmp_path: Path) -> None:
    # Without standardised tiles, the networks alone would miss the exact value.
    fitted = ns.fit_layer(coloured(alpha), scale=3, standardise=False, **FAST)
    reconstruction, upscaled, _ = (data for data, _, _ in fitted.layer_data)
    loaded, _, _ = model_layer(ns.load(fitted.result.save(tmp_path / "a.safetensors")), 3)
    for data in (reconstruction, upscaled, loaded):
        assert data.dtype == np.uint8
        assert (data[..., 3] == alpha).all()


def test_an_alpha_that_varies_is_fitted() -> None:
    fitted = ns.fit_layer(coloured(np.linspace(0, 255, 14)), **{**FAST, "max_steps": 8})
    for data, _, _ in fitted.layer_data[:2]:
        alpha = data[..., 3].mean(axis=0)
        assert alpha[0] < 64
        assert alpha[-1] > 192


def test_outside_of_a_region_an_image_is_transparent() -> None:
    mask = np.eye(12, 14) == 0
    reconstruction, _, _ = ns.fit_layer(coloured(255), region=mask, **FAST).layer_data[0]
    np.testing.assert_array_equal(reconstruction[..., 3], np.where(mask, 255, 0))


# ---- errors and derivatives --------------------------------------------------------------------------


def test_the_absolute_error(cells: Image) -> None:
    fitted = ns.fit_layer(cells, error="absolute", **FAST)
    data, meta, _ = fitted.layer_data[2]
    np.testing.assert_array_equal(data, np.abs(fitted.result.error))
    assert meta["name"] == "cells [absolute error]"
    layer = Layer.create(data, meta, "image")
    assert layer.colormap.name == "magma"
    low, high = layer.contrast_limits
    assert low == 0
    assert 0 < high <= data.max()
    assert (layer.blending, layer.opacity, layer.gamma) == ("translucent", 1.0, 1.0)
    assert_same_corners(cells, layer)
    signed, _, _ = error_layer(spec_of(fitted.result), fitted.result)
    np.testing.assert_array_equal(signed, fitted.result.error)
    with pytest.raises(ns.InputError, match="error='squared'"):
        error_layer(spec_of(fitted.result), fitted.result, "squared")


@pytest.fixture(scope="module")
def photo() -> tuple[Image, FitResult]:
    layer = Image(np.random.default_rng(0).integers(0, 255, (6, 8, 4), np.uint8), rgb=True, scale=(2, 3), rotate=20)
    return layer, ns.fit_layer(layer, **FAST).result


@pytest.fixture(scope="module")
def stack() -> tuple[Image, FitResult]:
    layer = Image(ramp((4, 5, 6)), scale=(5, -1, 1), rotate=(10, 20, 30), translate=(1, 2, 3))
    return layer, ns.fit_layer(layer, **FAST).result


@pytest.mark.parametrize("kind", ["gradient_magnitude", "laplacian"])
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("fixture", ["cells", "photo", "stack"])
def test_derivatives_are_those_of_the_field(
    fixture: str, kind: Any, scale: int, request: pytest.FixtureRequest, fitted: ns.LayerFit
) -> None:
    found = request.getfixturevalue(fixture)
    original, result = (found, fitted.result) if fixture == "cells" else found
    data, meta, type_ = derivative_layer(LayerSpec.from_layer(original), result, kind, scale)
    rendered = result.render(scale=scale, derivative=kind)
    np.testing.assert_allclose(data, rendered[..., :3].mean(axis=-1) if original.rgb else rendered, rtol=1e-5)
    assert data.dtype == np.float32
    assert data.any()
    layer = Layer.create(data, meta, type_)
    assert not layer.rgb
    assert layer.name == f"{original.name} [{kind.replace('_', ' ')}{' x2' if scale == 2 else ''}]"
    assert_same_corners(original, layer)
    low, high = layer.contrast_limits
    assert (low, layer.colormap.name) == ((-high, "PiYG") if kind == "laplacian" else (0, "magma"))
    assert 0 < high <= np.abs(data).max()
    assert meta["metadata"][METADATA_KEY]["role"] == kind


def test_a_gradient_is_in_units_of_the_image_per_unit_of_the_world() -> None:
    image = np.tile(np.arange(16, dtype=np.float32) * 3, (12, 1))
    layer = SimpleNamespace(data=image, scale=(1.0, 0.5))
    fitted = ns.fit_layer(layer, **{**FAST, "max_steps": 30})
    data, _, _ = derivative_layer(LayerSpec.from_layer(layer), fitted.result, "gradient_magnitude")
    # The slope is 3 per pixel, and a pixel is half a world unit.
    assert abs(np.median(data) - 6) < 1


@pytest.mark.parametrize("fixture", ["photo", "stack"])
def test_the_uncertainty_lies_over_the_upscaled_layer(fixture: str, request: pytest.FixtureRequest) -> None:
    original, result = request.getfixturevalue(fixture)
    data, meta, type_ = uncertainty_layer(LayerSpec.from_layer(original), result, 2)
    expected = result.uncertainty(2)
    np.testing.assert_allclose(data, expected[..., :3].mean(axis=-1) if original.rgb else expected, rtol=1e-5)
    layer = Layer.create(data, meta, type_)
    assert layer.name == f"{original.name} [uncertainty x2]"
    assert_same_corners(original, layer)
    assert (layer.contrast_limits[0], layer.colormap.name) == (0, "magma")
    assert meta["metadata"][METADATA_KEY]["role"] == "uncertainty"


# ---- models ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "keywords", "options"),
    [
        ((9, 12), {"colormap": "magma", "gamma": 1.5, "rotate": 20, "contrast_limits": (10, 90)}, {"scale": (2, 1.25)}),
        ((9, 12), {"scale": (0.5, -2)}, {"region": np.eye(9, 12) == 0}),
        ((9, 12, 3), {"rgb": True, "translate": (3, 4)}, {"region": ((2, 8), None)}),
        ((4, 9, 12), {"axis_labels": ("z", "y", "x"), "scale": (5, 1, 1)}, {"plane": (None, 3, None)}),
        ((4, 9, 12), {"axis_labels": ("t", "y", "x"), "units": ("s", "um", "um")}, {"scale": 3}),
        ((2, 9, 12), {"axis_labels": ("c", "y", "x"), "shear": (1, 2, 3)}, {"scale": (2, 3)}),
    ],
)
def test_a_model_comes_back_to_the_place_of_its_layer(
    shape: Any, keywords: dict[str, Any], options: dict[str, Any], tmp_path: Path
) -> None:
    original = Image(np.random.default_rng(0).integers(1, 99, shape, np.uint8), name="cells", **keywords)
    fitted = ns.fit_layer(original, **options, **FAST)
    wanted, wanted_meta, _ = fitted.layer_data[1]
    loaded = ns.load(fitted.result.save(tmp_path / "cells.safetensors"))
    data, meta, kind = model_layer(loaded, options.get("scale", 2))
    np.testing.assert_array_equal(data, wanted)
    assert {**meta, "metadata": None} == {**wanted_meta, "metadata": None}
    assert meta["metadata"][METADATA_KEY] == wanted_meta["metadata"][METADATA_KEY]
    assert meta["metadata"][RESULT_KEY] is loaded
    ours, theirs = Layer.create(data, meta, kind), Layer.create(wanted, wanted_meta, kind)
    assert_same_corners(theirs, ours)
    assert ours.colormap == original.colormap
    renamed = model_layer(loaded, name="model")
    assert (renamed[1]["name"], renamed[0].shape) == ("model [x1]", fitted.layer_data[0][0].shape)
    with pytest.raises(ns.InputError, match="no image to compare"):
        error_layer(spec_of(loaded), loaded)


@pytest.mark.parametrize(
    ("shape", "axes", "spacing", "scale", "derived", "rgb"),
    [
        ((9, 12), "YX", (0.5, 0.25), (0.25, 0.125), (18, 24), False),
        ((4, 9, 12), "ZYX", (3, 1, 2), (1.5, 0.5, 1), (8, 18, 24), False),
        ((9, 12, 3), "YXC", (0.5, 0.25), (0.25, 0.125), (18, 24, 3), True),
        ((9, 12, 2), "YXC", (0.5, 0.25), (0.25, 0.125, 1), (18, 24, 2), False),
        ((2, 9, 12), "CYX", (0.5, 0.25), (1, 0.25, 0.125), (2, 18, 24), False),
        ((4, 9, 12), "ZCX", (3, 2), (1.5, 1, 1), (8, 9, 24), False),
    ],
)
def test_a_model_of_an_array_lies_at_the_origin(
    shape: Any, axes: str, spacing: Any, scale: Any, derived: Any, rgb: bool
) -> None:
    image = np.random.default_rng(0).integers(0, 99, shape, np.uint8)
    result = ns.fit(image, axes=axes, spacing=spacing, **FAST)
    data, meta, kind = model_layer(result, 2)
    np.testing.assert_array_equal(data, result.render(scale=2))
    layer = Layer.create(data, meta, kind)
    assert (layer.data.shape, layer.rgb, layer.name) == (derived, rgb, "SIREN [x2]")
    np.testing.assert_allclose(layer.scale, scale)
    assert layer.axis_labels == tuple(axes.lower()[: len(scale)])
    letters, steps = axes[: layer.ndim], iter(spacing)
    start = [-0.5 * (1 if letter == "C" else next(steps)) for letter in letters]
    np.testing.assert_allclose(layer.data_to_world([-0.5] * layer.ndim), start)
    assert model_layer(result, name="cells")[1]["name"] == "cells [x1]"


def test_a_result_knows_its_layer_once_it_is_told(cells: Image) -> None:
    result = ns.fit(cells.data, **FAST)
    told = with_layer(result, LayerSpec.from_layer(cells))
    assert "layer" not in result.provenance
    assert told.provenance["seed"] == result.provenance["seed"]
    assert spec_of(told).name == "cells"
    assert spec_of(told).placement.as_meta() == LayerSpec.from_layer(cells).placement.as_meta()


@pytest.mark.parametrize(
    ("scale", "label"), [(2, "x2"), (1.5, "x1.5"), ((2, 2), "x2"), ((2, 1.5), "x2,1.5"), (np.float32(3), "x3")]
)
def test_labels_of_scales(scale: Any, label: str) -> None:
    assert scale_label(scale) == label


def test_a_model_whose_record_of_its_layer_is_damaged_says_so(fitted: ns.LayerFit) -> None:
    provenance = {**fitted.result.provenance["layer"]}
    del provenance["placement"]
    damaged = replace(fitted.result, provenance={**fitted.result.provenance, "layer": provenance})
    with pytest.raises(ns.StorageError, match="record of its layer cannot be read"):
        model_layer(damaged)
