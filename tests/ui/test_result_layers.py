"""Tests of the layers of a fit: the placement of previews, changes by the user, and deleted layers."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image, Layer

from napari_siren.layers.outputs import METADATA_KEY
from napari_siren.layers.spec import LayerData, LayerSpec
from napari_siren.ui.logic.previews import Preview
from napari_siren.ui.result_layers import ResultLayers

PLACEMENT = {"scale": (0.5, 2), "translate": (3, -4), "units": ("um", "um")}


@pytest.fixture
def model() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def source(model: ViewerModel) -> Image:
    return model.add_image(np.ones((12, 16), dtype=np.float32), name="cells", rotate=20, **PLACEMENT)


@pytest.fixture
def layers(model: ViewerModel, source: Image) -> ResultLayers:
    return ResultLayers(model, source, LayerSpec.from_layer(source))


WHOLE = ((0, 12), (0, 16))


def preview(value: float, box: Any = WHOLE) -> Preview:
    return Preview(box, np.full([stop - start for start, stop in box], value, dtype=np.float32))


def made(layers: ResultLayers, value: float, factor: int = 1, label: str = "reconstruction") -> LayerData:
    """Return a LayerDataTuple as a fit or a new render would make it."""
    data = np.full([n * factor for n in layers.spec.coordinate_shape], value, dtype=np.float32)
    return layers.spec.like(data, label, {METADATA_KEY: {"role": label, "value": value}})


def names(model: ViewerModel) -> list[str]:
    return [layer.name for layer in model.layers]


def corners(layer: Layer) -> np.ndarray:
    """Return the world positions of the outer corners of a layer."""
    return np.array([layer.data_to_world(c) for c in product(*((-0.5, n - 0.5) for n in layer.data.shape))])


def assert_same_corners(one: np.ndarray, other: np.ndarray) -> None:
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)


# ---- previews --------------------------------------------------------------------------------------------


def test_the_first_preview_lies_over_the_source_which_stays_selected(
    model: ViewerModel, source: Image, layers: ResultLayers
) -> None:
    layers.show_preview(preview(5))
    assert names(model) == ["cells", "cells [reconstruction]"]
    shown = model.layers[1]
    assert layers.get("reconstruction") is shown
    assert_same_corners(corners(shown), corners(source))
    assert shown.units == source.units
    assert (shown.data == 5).all()
    # The panel recognises it by this entry, and does not choose it as the next image to fit.
    assert METADATA_KEY in shown.metadata
    assert model.layers.selection == {source}


def test_the_next_ones_are_written_into_it(model: ViewerModel, layers: ResultLayers) -> None:
    layers.show_preview(preview(5))
    shown = model.layers[1]
    pixels = shown.data
    drawn: list[Any] = []
    shown.events.set_data.connect(drawn.append)
    layers.show_preview(preview(7, ((2, 5), (8, 16))))
    assert len(model.layers) == 2
    assert shown.data is pixels
    wanted = np.full((12, 16), 5.0)
    wanted[2:5, 8:16] = 7
    np.testing.assert_array_equal(pixels, wanted)
    assert drawn


def test_previews_of_colours_in_a_slice_of_a_stack(model: ViewerModel) -> None:
    source = model.add_image(np.ones((6, 12, 16, 3), np.uint8), rgb=True, scale=(5, 1, 1))
    layers = ResultLayers(model, source, LayerSpec.from_layer(source, plane=(4, None, None)))
    layers.show_preview(Preview(WHOLE, np.full((12, 16, 3), 5, np.uint8)))
    layers.show_preview(Preview(((2, 5), (8, 16)), np.full((3, 8, 3), 7, np.uint8)))
    shown = model.layers[1]
    assert shown.rgb
    assert shown.data.shape == (1, 12, 16, 3)
    assert (shown.data[0, 2:5, 8:16] == 7).all()
    assert (shown.data == 7).sum() == 3 * 8 * 3
    assert shown.data_to_world((0, 0, 0)) == (20, 0, 0)


def test_a_preview_that_is_deleted_does_not_come_back(model: ViewerModel, layers: ResultLayers) -> None:
    layers.show_preview(preview(5))
    model.layers.remove(model.layers[1])
    layers.show_preview(preview(7))
    assert names(model) == ["cells"]
    assert layers.get("reconstruction") is None
    layers.rollback()
    assert names(model) == ["cells"]


def test_the_source_may_be_deleted_meanwhile(model: ViewerModel, source: Image, layers: ResultLayers) -> None:
    layers.show_preview(preview(5))
    model.layers.remove(source)
    layers.show_preview(preview(7))
    layers.show({"reconstruction": made(layers, 9), "upscaled": made(layers, 9, 2, "x2")})
    assert names(model) == ["cells [reconstruction]", "cells [x2]"]


# ---- results ---------------------------------------------------------------------------------------------


def test_the_end_goes_into_the_layers_that_are_there(model: ViewerModel, source: Image, layers: ResultLayers) -> None:
    layers.show_preview(preview(5))
    shown = model.layers[1]
    shown.colormap, shown.opacity, shown.visible = "magma", 0.5, False
    data, meta, kind = made(layers, 9)
    layers.show({"reconstruction": (data, meta, kind), "upscaled": made(layers, 9, 2, "x2")})
    assert names(model) == ["cells", "cells [reconstruction]", "cells [x2]"]
    assert model.layers[1] is shown
    assert shown.data is data
    assert shown.metadata == meta["metadata"]
    # The display settings stay as the user has set them.
    assert (shown.colormap.name, shown.opacity, shown.visible) == ("magma", 0.5, False)
    assert_same_corners(corners(model.layers[2]), corners(source))
    # The result replaces the image, and is selected.
    assert model.layers.selection == {model.layers[2]}
    assert not source.visible


def test_a_second_result_is_above_the_first_and_selected(model: ViewerModel, source: Image) -> None:
    other = model.add_image(np.zeros((12, 16)), name="cells [by hand]")
    first, second = (ResultLayers(model, source, LayerSpec.from_layer(source)) for _ in range(2))
    model.layers.selection = {source}
    for fit, label in ((first, "deblurred"), (second, "denoised")):
        fit.show({"reconstruction": made(fit, 1), "upscaled": made(fit, 1, label=label)})
    assert names(model) == ["cells", "cells [deblurred]", "cells [reconstruction]", "cells [denoised]", other.name]
    assert model.layers["cells [denoised]"].visible
    assert model.layers.selection == {model.layers["cells [denoised]"]}


@pytest.mark.parametrize(
    "move",
    [
        {"translate": (100.0, 7.0)},
        {"scale": (-3.0, 0.1)},
        {"rotate": 75.0},
        {"scale": (2.0, 2.0), "translate": (1.0, 1.0), "rotate": 5.0, "shear": [0.5]},
        {"affine": [[1.0, 0.5, 3.0], [0.0, 2.0, 1.0], [0.0, 0.0, 1.0]]},
    ],
)
def test_a_layer_that_the_user_moves_stays_there_whatever_its_resolution(
    model: ViewerModel, source: Image, layers: ResultLayers, move: dict[str, Any]
) -> None:
    layers.replace("upscaled", made(layers, 1, 2, "x2"))
    shown = model.layers[1]
    for name, value in move.items():
        setattr(shown, name, value)
    there = corners(shown)
    for factor in (3, 1, 8):
        layers.replace("upscaled", made(layers, factor, factor, f"x{factor}"))
        assert shown.data.shape == (12 * factor, 16 * factor)
        assert shown.name == f"cells [x{factor}]"
        assert_same_corners(corners(shown), there)
        assert_same_corners(corners(model.layers[0]), corners(source))
    assert len(model.layers) == 2


def test_the_spec_of_the_layers_where_they_are_now(model: ViewerModel, layers: ResultLayers) -> None:
    assert layers.placed() is layers.spec
    layers.replace("upscaled", made(layers, 1, 2, "x2"))
    shown = model.layers[1]
    shown.translate, shown.scale = (100.0, 7.0), (3.0, 0.1)
    data, meta, _ = layers.placed().like(np.zeros((12, 16)), "gradient magnitude")
    assert_same_corners(corners(Image(data, **meta)), corners(shown))


def test_the_display_changes_where_the_pixels_mean_something_else(model: ViewerModel, layers: ResultLayers) -> None:
    data, meta, kind = made(layers, 1, label="error")
    layers.replace("error", (data, {**meta, "colormap": "PiYG", "contrast_limits": [-2.0, 2.0]}, kind))
    shown = model.layers[1]
    other = (data, {**meta, "colormap": "magma", "contrast_limits": [0.0, 3.0]}, kind)
    layers.replace("error", other)
    assert (shown.colormap.name, list(shown.contrast_limits)) == ("PiYG", [-2.0, 2.0])
    layers.replace("error", other, displayed=True)
    assert (shown.colormap.name, list(shown.contrast_limits)) == ("magma", [0.0, 3.0])


def test_a_role_whose_layer_was_deleted_gets_a_new_one(model: ViewerModel, source: Image, layers: ResultLayers) -> None:
    layers.replace("upscaled", made(layers, 1, 2, "x2"))
    model.layers.remove(model.layers[1])
    layers.replace("upscaled", made(layers, 1, 3, "x3"))
    assert names(model) == ["cells", "cells [x3]"]
    assert_same_corners(corners(model.layers[1]), corners(source))


# ---- cancelled and continued fits ------------------------------------------------------------------------


def test_a_fit_that_is_called_off_leaves_nothing(model: ViewerModel, layers: ResultLayers) -> None:
    layers.show_preview(preview(5))
    layers.rollback()
    assert names(model) == ["cells"]
    # The next fit starts with a new layer.
    layers.show_preview(preview(7))
    assert names(model) == ["cells", "cells [reconstruction]"]


def test_previews_of_a_fit_that_is_gone_on_with_leave_its_result_alone(
    model: ViewerModel, layers: ResultLayers
) -> None:
    layers.show_preview(preview(5))
    result = made(layers, 9)
    layers.show({"reconstruction": result})
    layers.show_preview(preview(7))
    layers.show_preview(preview(8, ((0, 2), (0, 2))))
    shown = model.layers[1]
    assert shown.data[5, 5] == 7
    assert shown.data[0, 0] == 8
    assert (result[0] == 9).all()
    layers.show({"reconstruction": made(layers, 10)})
    assert (shown.data == 10).all()
    assert len(model.layers) == 2


def test_going_on_that_is_called_off_gives_back_what_was_there(model: ViewerModel, layers: ResultLayers) -> None:
    layers.show_preview(preview(5))
    layers.show({"reconstruction": made(layers, 9), "upscaled": made(layers, 9, 2, "x2")})
    for _ in range(2):
        layers.show_preview(preview(7))
        layers.rollback()
        assert (model.layers[1].data == 9).all()
    assert names(model) == ["cells", "cells [reconstruction]", "cells [x2]"]


def test_nothing_is_taken_back_where_nothing_was_shown(model: ViewerModel, layers: ResultLayers) -> None:
    layers.show_preview(preview(5))
    layers.show({"reconstruction": made(layers, 9)})
    # This is the case of a fit that failed before its first preview.
    layers.rollback()
    assert (model.layers[1].data == 9).all()
