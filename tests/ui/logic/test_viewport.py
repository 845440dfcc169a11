"""Tests of the part of a layer in view: comparisons with napari's own pixels and with its camera."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from driving import shown_viewer
from napari.components import ViewerModel
from napari.layers import Image

from napari_siren.layers.spec import LayerSpec
from napari_siren.ui.logic.viewport import box_in_view, field_of_view, shown_axes, shown_plane, shown_slice


def numbered(*shape: int) -> np.ndarray:
    """Return an image with a different value in each pixel."""
    return np.arange(np.prod(shape)).reshape(shape)


def model(
    data: np.ndarray, ndim: int = 0, order: Sequence[int] | None = None, steps: Sequence[int] = (), **options: Any
) -> tuple[ViewerModel, Image]:
    """Return a viewer of at least `ndim` axes, and its image.

    `order` is the order of the viewer's axes. `steps` are the positions of its first sliders.
    """
    viewer = ViewerModel()
    layer = viewer.add_image(data, **options)
    if ndim > layer.ndim:
        viewer.add_points(np.array([[0] * ndim, [4] * ndim]))
    if order is not None:
        viewer.dims.order = order
    for axis, step in enumerate(steps):
        viewer.dims.set_current_step(axis, step)
    return viewer, layer


def index_that_napari_shows(viewer: ViewerModel, layer: Image) -> tuple[int, ...]:
    """Return the index of the pixel at the viewer's position, by its value in napari's slice."""
    value = layer.get_value(viewer.dims.point, world=True)
    return tuple(map(int, np.unravel_index(value, layer.data.shape)))


# ---- the slice -------------------------------------------------------------------------------------------

STACK, SERIES = numbered(6, 8, 9), numbered(4, 5, 6, 7)


@pytest.mark.parametrize(
    ("data", "options", "plane"),
    [
        (numbered(8, 9), {}, (None, None)),
        (STACK, {"steps": (4,)}, (4, None, None)),
        (STACK, {"steps": (0, 5, 2), "order": (1, 0, 2)}, (None, 5, None)),
        (STACK, {"steps": (0, 1, 7), "order": (2, 1, 0)}, (None, None, 7)),
        (STACK, {"steps": (5,), "scale": (0.3, 2, 2), "translate": (-7, 1, 1)}, (5, None, None)),
        (STACK, {"steps": (5,), "scale": (-2, 1, 1)}, (0, None, None)),
        (SERIES, {"steps": (3, 1)}, (3, 1, None, None)),
        (SERIES, {"steps": (3, 1, 2), "order": (2, 1, 0, 3)}, (None, 1, 2, None)),
        # The axes of a layer with fewer axes are the viewer's last axes.
        (numbered(8, 9), {"ndim": 3, "steps": (2,)}, (None, None)),
        (numbered(8, 9), {"ndim": 4, "order": (3, 0, 1, 2), "steps": (2, 2, 3, 4)}, (None, None)),
        (STACK, {"ndim": 4, "steps": (1, 3)}, (3, None, None)),
        (STACK, {"ndim": 4, "order": (3, 0, 1, 2), "steps": (1, 3, 2, 4)}, (None, None, 4)),
    ],
)
def test_the_plane_is_the_one_that_napari_shows(
    data: np.ndarray, options: dict[str, Any], plane: tuple[int | None, ...]
) -> None:
    viewer, layer = model(data, **options)
    assert shown_plane(viewer, layer) == plane
    assert shown_axes(viewer, layer) == tuple(axis for axis, index in enumerate(plane) if index is None)
    shown = index_that_napari_shows(viewer, layer)
    assert all(index is None or index == at for index, at in zip(plane, shown, strict=True))


def test_colours_are_no_axis() -> None:
    viewer, layer = model(np.zeros((5, 8, 9, 3)), steps=(2,), rgb=True)
    assert shown_plane(viewer, layer) == (2, None, None)
    assert [edges is None for edges in field_of_view(viewer, layer)] == [True, False, False]


def test_a_slider_beyond_a_layer_is_at_its_nearest_slice() -> None:
    viewer, layer = model(STACK)
    viewer.add_image(np.zeros((50, 8, 9)))
    viewer.dims.set_current_step(0, 40)
    assert shown_plane(viewer, layer) == (5, None, None)


def test_in_3d_nothing_is_held_but_what_has_a_slider() -> None:
    viewer, layer = model(SERIES, steps=(3,))
    viewer.dims.ndisplay = 3
    assert shown_plane(viewer, layer) == (3, None, None, None)
    assert field_of_view(viewer, layer) == (None,) * 4


@pytest.mark.parametrize(("slider", "at_level_1"), [(0, 0), (1, 0), (2, 1), (5, 2), (7, 3)])
def test_the_plane_of_a_level_is_counted_in_its_own_pixels(slider: int, at_level_1: int) -> None:
    levels = [np.zeros((8, 64, 64)), np.zeros((4, 32, 32))]
    viewer = ViewerModel()
    layer = viewer.add_image(levels, multiscale=True, scale=(5, 1, 1))
    viewer.dims.set_current_step(0, slider)
    assert shown_plane(viewer, layer) == (slider, None, None)
    assert shown_plane(viewer, layer, level=1) == (at_level_1, None, None)


def test_a_slice_has_every_channel() -> None:
    viewer, layer = model(SERIES, steps=(3, 1), axis_labels=("c", "z", "y", "x"))
    assert shown_plane(viewer, layer) == (3, 1, None, None)
    assert shown_slice(viewer, layer) == (None, 1, None, None)


# ---- the part on the canvas ------------------------------------------------------------------------------


def look_at(viewer: Any, centre: tuple[float, float], zoom: float) -> None:
    viewer.scene.camera.center = centre
    viewer.scene.camera.zoom = zoom


def world_rectangle(viewer: Any) -> np.ndarray:
    """Return the camera's rectangle in the world, of shape (2, 2): first and last y and x."""
    camera = viewer.scene.camera
    half = np.array(viewer.canvas.size) / camera.zoom / 2
    return np.array([camera.center[-2:] - half, camera.center[-2:] + half])


def box_of_world(rectangle: np.ndarray, scale: Any, translate: Any, shape: Any) -> np.ndarray:
    """Return a rectangle of the world in pixels of an image, from edge to edge, clipped to the image."""
    edges = (rectangle - np.array(translate)) / np.array(scale) + 0.5
    return np.clip(np.sort(edges, axis=0), 0, shape)


@pytest.fixture
def canvas(plugins: Any, qtbot: Any, make_napari_viewer: Callable[..., Any]) -> Any:
    """A viewer with a visible window, as needed for drawing."""
    return shown_viewer(qtbot, make_napari_viewer)


def assert_within_a_pixel(found: Any, edges: Any) -> None:
    np.testing.assert_allclose(np.array(found, dtype=float).T, edges, rtol=0, atol=1)


def assert_as_drawn(viewer: Any, layer: Image) -> None:
    """Compare with napari's corners from its last drawing. Their last pixel is inclusive."""
    first, last = layer.corner_pixels
    assert_within_a_pixel(field_of_view(viewer, layer), [first, last + 1])


def test_what_is_in_view_is_what_the_canvas_shows(canvas: Any, qtbot: Any) -> None:
    placements: list[dict[str, Any]] = [
        {"scale": (1, 1), "translate": (0, 0)},
        {"scale": (0.5, 2), "translate": (10, -20)},
        {"scale": (-0.7, 0.9), "translate": (150, 4)},
    ]
    layers = [canvas.add_image(np.zeros((200, 300)), **placement) for placement in placements]
    turned = canvas.add_image(np.zeros((200, 300)), rotate=30, translate=(20, 60))
    unmoved = [layer.corner_pixels.tolist() for layer in layers]
    look_at(canvas, (60, 100), 8)
    qtbot.waitUntil(lambda: all(a.corner_pixels.tolist() != b for a, b in zip(layers, unmoved, strict=True)))
    for layer, placement in zip(layers, placements, strict=True):
        found = field_of_view(canvas, layer)
        assert_within_a_pixel(found, box_of_world(world_rectangle(canvas), **placement, shape=(200, 300)))
    for layer in (*layers, turned):
        qtbot.waitUntil(lambda layer=layer: assert_as_drawn(canvas, layer))


def test_what_is_in_view_of_the_grid_is_a_cell_of_it(canvas: Any, qtbot: Any) -> None:
    layers = [canvas.add_image(np.zeros((200, 300))) for _ in range(2)]
    canvas.canvas.grid.enabled = True
    look_at(canvas, (60, 100), 8)
    for layer in layers:
        qtbot.waitUntil(lambda layer=layer: assert_as_drawn(canvas, layer))


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_multiscale_image_that_is_all_in_view_is_so_to_its_last_pixel(level: int) -> None:
    viewer = ViewerModel()
    shapes = [(100, 64), (50, 32), (25, 16)]
    layer = viewer.add_image([np.zeros(shape) for shape in shapes], multiscale=True)
    assert field_of_view(viewer, layer, level) == tuple((0, n) for n in shapes[level])


def test_of_a_multiscale_image_only_what_is_seen_counts_not_what_was_loaded(canvas: Any, qtbot: Any) -> None:
    layer = canvas.add_image([np.zeros((2048, 2048)), np.zeros((1024, 1024))], multiscale=True)
    look_at(canvas, (1000, 800), 1)
    qtbot.waitUntil(lambda: layer.data_level == 0)
    loaded = np.ptp(layer.corner_pixels, axis=0)
    look_at(canvas, (1000, 800), 8)
    edges = box_of_world(world_rectangle(canvas), (1, 1), (0, 0), (2048, 2048))
    assert (np.ptp(edges, axis=0) < loaded / 7).all()
    assert_within_a_pixel(field_of_view(canvas, layer), edges)
    assert_within_a_pixel(field_of_view(canvas, layer, level=1), edges / 2)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_what_is_in_view_belongs_to_the_axes_of_the_picture(order: tuple[int, int, int]) -> None:
    viewer, layer = model(np.zeros((1000, 1000, 1000), dtype=np.bool_), order=order)
    look_at(viewer, (300, 700), 10)
    found = field_of_view(viewer, layer)
    slider, down, across = order
    assert found[slider] is None
    # A canvas that was never shown has 800 x 600 pixels.
    assert_within_a_pixel([found[down], found[across]], [[260, 670], [340, 730]])


def test_a_layer_of_two_axes_is_in_view_as_napari_shows_it_in_a_viewer_of_three() -> None:
    viewer, layer = model(np.zeros((1000, 1000), dtype=np.bool_), ndim=3, order=(1, 2, 0))
    look_at(viewer, (300, 700), 10)
    assert_within_a_pixel(field_of_view(viewer, layer), [[260, 670], [340, 730]])


def test_what_is_in_view_of_a_hidden_layer_is_all_of_it() -> None:
    viewer, layer = model(np.zeros((1000, 1000)))
    look_at(viewer, (300, 700), 10)
    layer.visible = False
    assert field_of_view(viewer, layer) == (None, None)


def test_beyond_the_image_nothing_is_in_view() -> None:
    viewer, layer = model(np.zeros((100, 100)))
    look_at(viewer, (-500, 50), 10)
    (start, stop), across = field_of_view(viewer, layer)
    assert start == stop
    assert across == (20, 81)
    assert box_in_view(viewer, layer, LayerSpec.from_layer(layer)) is None


# ---- the box of coordinates ------------------------------------------------------------------------------


def test_the_box_has_the_slice_and_what_is_seen_of_it() -> None:
    viewer, layer = model(np.zeros((30, 1000, 1000), dtype=np.bool_), steps=(12,))
    look_at(viewer, (300, 700), 10)
    assert box_in_view(viewer, layer, LayerSpec.from_layer(layer)) == ((12, 13), (260, 341), (670, 731))
    viewer.dims.ndisplay = 3
    assert box_in_view(viewer, layer, LayerSpec.from_layer(layer)) == ((0, 30), (0, 1000), (0, 1000))


def test_the_box_leaves_out_channels_and_what_is_held() -> None:
    data = np.zeros((3, 2, 30, 40, 50), dtype=np.uint8)
    original = Image(data, axis_labels=("t", "c", "z", "y", "x"))
    spec = LayerSpec.from_layer(original, plane=(1, None, None, None, None))
    fitted, meta, _ = spec.like(np.zeros((2, 30, 40, 50), dtype=np.uint8), "reconstruction")
    assert spec.axes == "CZYX"
    viewer, layer = model(fitted, steps=(0, 1, 21), **meta)
    look_at(viewer, (20, 25), 40)
    assert box_in_view(viewer, layer, spec) == ((21, 22), (10, 31), (18, 33))


def test_the_box_of_a_part_is_counted_from_its_own_first_pixel() -> None:
    original = Image(np.zeros((100, 200, 3), dtype=np.uint8), rgb=True, scale=(2, 0.5), translate=(7, 5))
    spec = LayerSpec.from_layer(original, region=((10, 60), (100, 180)))
    fitted, meta, _ = spec.like(np.zeros((50, 80, 3), dtype=np.uint8), "reconstruction")
    viewer, layer = model(fitted, **meta)
    # The canvas shows 20 x 15 units of the world, centred at the pixel (30, 140) of the original.
    look_at(viewer, (7 + 2 * 30, 5 + 0.5 * 140), 40)
    assert box_in_view(viewer, layer, spec) == ((15, 26), (25, 56))
