"""Tests of the choice of the layer and of the part of it to fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtWidgets import QComboBox, QPushButton

from napari_siren.errors import InputError
from napari_siren.layers.outputs import METADATA_KEY
from napari_siren.ui.panels import source_panel
from napari_siren.ui.panels.source_panel import SourcePanel

MADE_BY_A_FIT = {METADATA_KEY: {"role": "upscaled"}}


@pytest.fixture
def model() -> ViewerModel:
    return ViewerModel()


@pytest.fixture
def panel(model: ViewerModel, qtbot: Any) -> SourcePanel:
    widget = SourcePanel(model)
    qtbot.addWidget(widget)
    widget.show()
    return widget


@pytest.fixture
def shown_panel(viewer: Any, qtbot: Any) -> Iterator[SourcePanel]:
    """The panel of a real viewer."""
    widget = SourcePanel(viewer)
    qtbot.addWidget(widget)
    widget.show()
    yield widget
    widget.disconnect_viewer()


@pytest.fixture
def told(panel: SourcePanel) -> list[Any]:
    """The chosen layers, one for each change reported by the panel."""
    told: list[Any] = []
    panel.changed.connect(lambda: told.append(panel.layer))
    return told


def add(model: ViewerModel, name: str, *shape: int, **options: Any) -> Image:
    return model.add_image(np.zeros(shape or (8, 9), dtype=np.uint8), name=name, **options)


def entries(box: Any) -> list[str]:
    return [box.itemText(i) for i in range(box.count())]


def pick(box: Any, text: str) -> None:
    assert text in entries(box)
    box.setCurrentText(text)


# ---- the layer -------------------------------------------------------------------------------------------


def test_without_an_image_it_says_what_to_do(panel: SourcePanel) -> None:
    assert panel.layer is None
    with pytest.raises(InputError, match=r"There is no image layer\. Open or drop an image"):
        panel.source()


def test_layers_that_are_there_already_are_listed(model: ViewerModel, qtbot: Any) -> None:
    cells, _ = add(model, "cells"), add(model, "nuclei")
    model.layers.selection.active = cells
    widget = SourcePanel(model)
    qtbot.addWidget(widget)
    assert entries(widget.layer_box) == ["cells", "nuclei"]
    assert widget.layer is cells


def test_it_follows_the_active_layer(model: ViewerModel, panel: SourcePanel, told: list[Any]) -> None:
    cells = add(model, "cells")
    nuclei = add(model, "nuclei")
    assert panel.layer is nuclei
    told.clear()
    model.layers.selection.active = cells
    assert told == [cells]
    model.layers.selection.active = None
    assert panel.layer is cells
    assert told == [cells]


def test_a_pick_holds_until_another_layer_is_selected(model: ViewerModel, panel: SourcePanel, told: list[Any]) -> None:
    cells, nuclei = add(model, "cells"), add(model, "nuclei")
    told.clear()
    panel.layer_box.setCurrentIndex(0)
    assert panel.layer is cells
    assert told == [cells]
    model.add_points(np.zeros((1, 2)))
    assert panel.source().layer is cells
    model.layers.selection.active = nuclei
    assert panel.layer is nuclei


def test_it_does_not_follow_to_what_a_fit_has_made(model: ViewerModel, panel: SourcePanel) -> None:
    cells = add(model, "cells")
    told: list[Any] = []
    panel.activated.connect(told.append)
    made = add(model, "cells [x2]", metadata=MADE_BY_A_FIT)
    assert panel.layer is cells
    # napari emits the event more than once.
    assert told
    assert all(layer is made for layer in told)
    # But the user can choose it.
    pick(panel.layer_box, "cells [x2]")
    assert panel.layer is made


@pytest.mark.parametrize("kind", ["Labels", "Points"])
def test_other_layers_leave_the_pick_and_a_hint_says_why(model: ViewerModel, panel: SourcePanel, kind: str) -> None:
    cells = add(model, "cells")
    assert not panel.hint.isVisible()
    if kind == "Labels":
        model.add_labels(np.zeros((8, 9), dtype=int), name="marks")
    else:
        model.add_points(np.zeros((1, 2)), name="marks")
    assert panel.layer is cells
    assert panel.hint.isVisible()
    assert f"“marks” is a {kind} layer" in panel.hint.text()
    model.layers.selection.active = cells
    assert not panel.hint.isVisible()


def test_names_are_those_of_the_layers(model: ViewerModel, panel: SourcePanel, told: list[Any]) -> None:
    cells, _, marks = add(model, "cells"), add(model, "nuclei"), model.add_shapes(name="marks")
    panel.layer_box.setCurrentIndex(0)
    panel.region_box.setCurrentIndex(2)
    told.clear()
    cells.name, marks.name = "HeLa", "around"
    assert entries(panel.layer_box) == ["HeLa", "nuclei"]
    assert panel.region_box.currentText() == "Shapes: around"
    assert panel.layer is cells
    assert told == []


def test_a_layer_can_be_picked_from_elsewhere(model: ViewerModel, panel: SourcePanel) -> None:
    add(model, "cells")
    made = add(model, "cells [x2]", metadata=MADE_BY_A_FIT)
    panel.pick(made)
    assert panel.source().layer is made


def test_the_order_is_that_of_the_layer_list(model: ViewerModel, panel: SourcePanel, told: list[Any]) -> None:
    cells, _ = add(model, "cells"), add(model, "nuclei")
    model.layers.selection.active = cells
    told.clear()
    model.layers.move(0, 2)
    assert entries(panel.layer_box) == ["nuclei", "cells"]
    assert panel.layer is cells
    assert told == []


def test_a_layer_that_is_removed_is_picked_no_longer(model: ViewerModel, panel: SourcePanel, told: list[Any]) -> None:
    cells, nuclei = add(model, "cells"), add(model, "nuclei")
    told.clear()
    model.layers.remove(nuclei)
    assert panel.layer is cells
    assert told[-1] is cells
    told.clear()
    model.layers.clear()
    assert told[-1] is None
    assert entries(panel.layer_box) == []
    with pytest.raises(InputError, match="no image layer"):
        panel.source()


def test_in_place_of_a_layer_that_is_gone_comes_rather_none_that_a_fit_made(
    model: ViewerModel, panel: SourcePanel
) -> None:
    cells, nuclei = add(model, "cells"), add(model, "nuclei")
    made = add(model, "cells [x2]", metadata=MADE_BY_A_FIT)
    assert panel.layer is nuclei
    model.layers.remove(nuclei)
    assert panel.layer is cells
    model.layers.remove(cells)
    assert panel.layer is made


def test_two_layers_that_look_the_same_are_told_apart(model: ViewerModel, panel: SourcePanel) -> None:
    image = np.zeros((8, 9))
    twins = [model.add_image(image, name="twin") for _ in range(2)]
    for twin in twins:
        model.layers.selection.active = twin
        assert panel.layer is twin


# ---- the region ------------------------------------------------------------------------------------------


def test_the_regions_are_those_that_the_layers_mark(model: ViewerModel, panel: SourcePanel) -> None:
    add(model, "cells")
    always = ["The whole image", "What is in view"]
    assert entries(panel.region_box) == always
    shapes = model.add_shapes(name="around")
    model.add_labels(np.ones((8, 9), dtype=int), name="nuclei")
    model.add_points(np.zeros((1, 2)))
    assert entries(panel.region_box) == [*always, "Shapes: around", "Labels: nuclei"]
    model.layers.remove(shapes)
    assert entries(panel.region_box) == [*always, "Labels: nuclei"]


@pytest.mark.parametrize("text", ["What is in view", "Labels: kept"])
def test_the_chosen_region_stays_while_layers_come_and_go(
    model: ViewerModel, panel: SourcePanel, told: list[Any], text: str
) -> None:
    add(model, "cells")
    gone = model.add_shapes(name="gone")
    model.add_labels(np.ones((8, 9), dtype=int), name="kept")
    pick(panel.region_box, text)
    told.clear()
    model.layers.remove(gone)
    model.add_shapes(name="new")
    assert panel.region_box.currentText() == text
    assert told == []


def test_a_chosen_region_that_is_removed_gives_way_to_the_whole(
    model: ViewerModel, panel: SourcePanel, told: list[Any]
) -> None:
    add(model, "cells")
    marks = model.add_labels(np.ones((8, 9), dtype=int), name="nuclei")
    pick(panel.region_box, "Labels: nuclei")
    told.clear()
    model.layers.remove(marks)
    assert panel.region_box.currentText() == "The whole image"
    assert told
    assert panel.source().spec().shape == (8, 9)


def test_what_is_in_view_is_read_when_it_is_asked_for(model: ViewerModel, panel: SourcePanel) -> None:
    add(model, "cells", 1000, 2000)
    pick(panel.region_box, "What is in view")
    assert panel.source().spec().shape == (1000, 2000)
    model.scene.camera.center, model.scene.camera.zoom = (300, 700), 10
    source = panel.source()
    # A canvas that was never shown has 800 x 600 pixels.
    assert source.region == ((260, 341), (670, 731))
    assert source.spec().shape == (81, 61)
    told = {"region": source.region, "plane": None, "level": 0, "fill_nan": False, "one_by_one": None}
    assert source.arguments() == told
    model.scene.camera.center = (-500, 700)
    with pytest.raises(InputError, match="No part of “cells” is in view"):
        panel.source()
    # In 3D the part in view is not a rectangle, and the whole layer is fitted.
    model.dims.ndisplay = 3
    assert panel.source().region is None


def test_what_is_in_view_of_a_slice(model: ViewerModel, panel: SourcePanel) -> None:
    add(model, "stack", 5, 1000, 1000)
    model.dims.set_current_step(0, 3)
    model.scene.camera.center, model.scene.camera.zoom = (300, 700), 10
    pick(panel.region_box, "What is in view")
    pick(panel.extent_box, "This slice")
    source = panel.source()
    assert (source.plane, source.region) == ((3, None, None), (None, (260, 341), (670, 731)))
    assert (source.spec().shape, source.spec().held) == ((1, 81, 61), (0,))


def test_shapes_and_labels_mark_the_pixels(model: ViewerModel, panel: SourcePanel) -> None:
    cells = add(model, "cells", 20, 30)
    labels = np.zeros((20, 30), dtype=int)
    labels[3:8, 10:12] = 5
    model.add_labels(labels, name="nuclei")
    model.add_shapes([[[4.5, 9.5], [14.5, 24.5]]], shape_type="rectangle", name='the "box"')
    assert panel.layer is cells
    pick(panel.region_box, "Labels: nuclei")
    assert panel.source().spec().shape == (5, 2)
    assert repr(panel.source().arguments()["region"]) == 'viewer.layers["nuclei"]'
    pick(panel.region_box, 'Shapes: the "box"')
    assert panel.source().spec().shape == (10, 15)
    assert repr(panel.source().arguments()["region"]) == 'viewer.layers["the \\"box\\""]'


# ---- the extent ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "options", "choice", "plane"),
    [
        ((6, 8, 9), {}, "The whole stack", None),
        ((6, 8, 9), {}, "This slice", (3, None, None)),
        ((4, 6, 8, 9), {}, "This stack", (3, None, None, None)),
        ((4, 6, 8, 9), {}, "This slice", (3, 2, None, None)),
        ((2, 4, 6, 8, 9), {}, "This stack", (1, 2, None, None, None)),
        # Channels are fitted together.
        ((4, 6, 8, 9), {"axis_labels": ("z", "c", "y", "x")}, "The whole stack", None),
        ((4, 6, 8, 9), {"axis_labels": ("z", "c", "y", "x")}, "This slice", (3, None, None, None)),
        ((4, 2, 6, 8, 9), {"axis_labels": ("t", "c", "z", "y", "x")}, "This stack", (3, None, None, None, None)),
        ((6, 8, 9, 3), {"rgb": True}, "This slice", (3, None, None)),
    ],
)
def test_the_extent_holds_what_is_not_fitted_at_its_slider(
    model: ViewerModel,
    panel: SourcePanel,
    shape: tuple[int, ...],
    options: dict[str, Any],
    choice: str,
    plane: tuple[int | None, ...] | None,
) -> None:
    add(model, "stack", *shape, **options)
    for axis, step in enumerate((3, 2) if shape[0] > 2 else (1, 2, 2)):
        model.dims.set_current_step(axis, step)
    assert panel.extent_box.isVisible()
    pick(panel.extent_box, choice)
    source = panel.source()
    assert source.plane == plane
    held = () if plane is None else tuple(axis for axis, index in enumerate(plane) if index is not None)
    assert source.spec().held == held


def test_the_extent_knows_the_axes_of_the_picture(model: ViewerModel, panel: SourcePanel) -> None:
    add(model, "series", 4, 6, 8, 9)
    model.dims.order = (2, 1, 0, 3)
    for axis, step in enumerate((3, 1, 5, 7)):
        model.dims.set_current_step(axis, step)
    pick(panel.extent_box, "This slice")
    assert panel.source().plane == (None, 1, 5, None)
    # The stack has the last of the axes with a slider, which is most likely an axis in space.
    pick(panel.extent_box, "This stack")
    assert panel.source().plane == (None, 1, None, None)
    model.dims.ndisplay = 3
    assert panel.source().plane == (None, None, 5, None)


@pytest.mark.parametrize(
    ("shape", "labels", "choices", "first"),
    [
        ((6, 8, 9), "zyx", ["This slice", "The whole stack", "All slices, one by one"], "The whole stack"),
        ((6, 8, 9), "tyx", ["This slice", "The whole stack", "All frames, one by one"], "This slice"),
        ((4, 6, 8, 9), "tzyx", ["This slice", "This stack", "All stacks, one by one"], "This stack"),
        ((4, 6, 8, 9), "zcyx", ["This slice", "The whole stack", "All slices, one by one"], "The whole stack"),
    ],
)
def test_stacks_and_time_series_have_their_extents(
    model: ViewerModel,
    panel: SourcePanel,
    shape: tuple[int, ...],
    labels: str,
    choices: list[str],
    first: str,
) -> None:
    add(model, "stack", *shape, axis_labels=tuple(labels))
    assert entries(panel.extent_box) == choices
    assert panel.extent_box.currentText() == first


@pytest.mark.parametrize(
    ("shape", "options"), [((8, 9), {}), ((8, 9, 3), {"rgb": True}), ((2, 8, 9), {"axis_labels": ("c", "y", "x")})]
)
def test_a_plain_picture_has_none(
    model: ViewerModel, panel: SourcePanel, shape: tuple[int, ...], options: dict[str, Any]
) -> None:
    add(model, "picture", *shape, **options)
    assert not panel.extent_box.isVisible()
    assert panel.source().plane is None


def test_a_preview_that_appears_changes_no_choice(model: ViewerModel, panel: SourcePanel, told: list[Any]) -> None:
    stack = add(model, "stack", 6, 8, 9)
    pick(panel.extent_box, "This slice")
    pick(panel.region_box, "What is in view")
    told.clear()
    add(model, "stack [reconstruction]", 1, 8, 9, metadata=MADE_BY_A_FIT)
    model.layers.selection.active = stack
    assert panel.extent_box.currentText() == "This slice"
    assert panel.region_box.currentText() == "What is in view"
    assert told == []


# ---- levels ----------------------------------------------------------------------------------------------


def test_levels_of_a_multiscale_image(model: ViewerModel, panel: SourcePanel) -> None:
    add(model, "plain")
    assert not panel.level_box.isVisible()
    assert panel.source().level == 0
    levels = [np.zeros((64, 96, 3), np.uint8), np.zeros((32, 48, 3), np.uint8)]
    pyramid = model.add_image(levels, multiscale=True, rgb=True, name="pyramid")
    assert panel.level_box.isVisible()
    assert entries(panel.level_box) == ["0: 64 × 96", "1: 32 × 48"]
    assert panel.source().spec().shape == (64, 96)
    panel.level_box.setCurrentIndex(1)
    source = panel.source()
    assert (source.layer, source.level) == (pyramid, 1)
    assert source.spec().shape == (32, 48)
    assert source.arguments()["level"] == 1


# ---- closing ---------------------------------------------------------------------------------------------


def test_a_panel_that_let_go_follows_no_longer(model: ViewerModel, panel: SourcePanel, told: list[Any]) -> None:
    cells, nuclei, gone = add(model, "cells"), add(model, "nuclei"), add(model, "gone")
    model.layers.remove(gone)
    told.clear()
    panel.disconnect_viewer()
    gone.name = "elsewhere"
    cells.name = "HeLa"
    model.layers.reverse()
    model.layers.selection.active = cells
    model.add_labels(np.ones((8, 9), dtype=int))
    model.layers.remove(nuclei)
    assert entries(panel.layer_box) == ["cells", "nuclei"]
    assert panel.region_box.count() == 2
    assert not panel.hint.isVisible()
    assert told == []


# ---- what the data is ------------------------------------------------------------------------------------


def test_the_pixel_size_is_shown_and_corrected_in_a_dialog(
    model: ViewerModel, panel: SourcePanel, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = add(model, "stack", 4, 6, 8, scale=(1, -0.5, 0.5), units=("um",) * 3, axis_labels=("z", "y", "x"))
    assert (panel.voxel_label.text(), panel.voxel_button.text()) == ("Voxel size", "1 × 0.5 × 0.5 µm…")
    assert panel.anisotropic
    asked: list[Any] = []

    def ask(layer: Any, parent: Any) -> bool:
        asked.append((layer, parent))
        layer.scale = (2, -0.25, 0.25)
        return True

    monkeypatch.setattr(source_panel, "ask_data", ask)
    told.clear()
    panel.voxel_button.click()
    assert asked == [(layer, panel)]
    assert told == [layer]
    assert panel.voxel_button.text() == "2 × 0.25 × 0.25 µm…"
    assert panel.voxel_button.accessibleName() == "Voxel size: 2 × 0.25 × 0.25 µm"


@pytest.mark.parametrize(
    ("shape", "options", "name", "text"),
    [
        ((6, 8), {"scale": (0.1, 0.2), "units": ("nm", "nm")}, "Pixel size", "0.1 × 0.2 nm…"),
        ((6, 8, 3), {"rgb": True}, "Pixel size", "1 × 1 pixel…"),
        ((5, 6, 8), {"axis_labels": ("t", "y", "x"), "scale": (9, 1, 1)}, "Pixel size", "1 × 1 pixel…"),
        ((5, 6, 8), {"axis_labels": ("z", "y", "x"), "scale": (9, 1, 1)}, "Voxel size", "9 × 1 × 1 pixel…"),
        # Of a stack without labels it is not known whether it has a depth.
        ((5, 6, 8), {"scale": (9, 1, 1)}, "Pixel size", "1 × 1 pixel…"),
        (
            (5, 6, 8),
            {"axis_labels": ("z", "y", "x"), "units": ("um", "nm", "nm")},
            "Voxel size",
            "1 µm × 1 nm × 1 nm…",
        ),
    ],
)
def test_every_image_has_a_pixel_size(
    model: ViewerModel, panel: SourcePanel, shape: tuple[int, ...], options: dict[str, Any], name: str, text: str
) -> None:
    add(model, "image", *shape, **options)
    assert panel.voxel_button.isVisible()
    assert (panel.voxel_label.text(), panel.voxel_button.text()) == (name, text)


def test_long_numbers_do_not_make_the_panel_wider(model: ViewerModel, panel: SourcePanel) -> None:
    labels = ("z", "y", "x")
    layer = add(model, "stack", 4, 6, 8, axis_labels=labels)
    width = panel.minimumSizeHint().width()
    layer.scale = (1.23456e-7, 1.23456e-7, 1.23456e-7)
    assert panel.minimumSizeHint().width() == width


@pytest.mark.parametrize(("letter", "extent", "name"), [("Z", 1, "Voxel"), ("T", 0, "Pixel"), ("C", 1, "Pixel")])
def test_a_stack_without_labels_asks_for_its_first_axis(
    viewer: Any, shown_panel: SourcePanel, letter: str, extent: int, name: str
) -> None:
    panel = shown_panel
    stack = viewer.add_image(np.zeros((5, 6, 8), dtype=np.uint8), name="stack")
    question = panel.axes_question
    assert question.isVisible()
    assert panel.extent_box.currentText() == "This slice"
    changes: list[Any] = []
    panel.changed.connect(lambda: changes.append(panel.layer))
    question.buttons[letter].click()
    labels = (letter.lower(), "y", "x")
    assert stack.axis_labels == labels
    # napari shows the labels at its sliders.
    assert viewer.dims.axis_labels == labels
    assert not question.isVisible()
    assert panel.extent_box.currentIndex() == extent
    assert panel.extent_box.isVisible() == (letter != "C")
    assert panel.voxel_label.text() == f"{name} size"
    assert changes == [stack]


def test_it_asks_once_for_each_layer(model: ViewerModel, panel: SourcePanel) -> None:
    first, second = add(model, "first", 4, 8, 9), add(model, "second", 4, 8, 9)
    panel.axes_question.buttons["Z"].click()
    assert (first.axis_labels[0], second.axis_labels[0]) == ("-3", "z")
    panel.pick(first)
    assert panel.axes_question.isVisible()
    panel.pick(second)
    assert not panel.axes_question.isVisible()
    add(model, "picture")
    assert not panel.axes_question.isVisible()


def test_more_axes_are_named_in_the_dialog(
    model: ViewerModel, panel: SourcePanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = add(model, "series", 3, 4, 8, 9)
    assert panel.axes_question.axes_button.isVisible()
    assert panel.extent_box.currentText() == "This slice"
    asked: list[Any] = []
    monkeypatch.setattr(source_panel, "ask_data", lambda layer, parent: asked.append(layer))
    panel.axes_question.axes_button.click()
    assert asked == [layer]


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3, 8, 9, 3), {"rgb": True, "axis_labels": ("c", "y", "x")}, "two axes of channels"),
        ((3, 4, 8), {"axis_labels": ("t", "c", "c")}, "two axes of channels"),
        ((3, 4), {"axis_labels": ("t", "c")}, "no axis in space"),
    ],
)
def test_impossible_axes_are_explained(
    model: ViewerModel, panel: SourcePanel, shape: tuple[int, ...], options: dict[str, Any], message: str
) -> None:
    add(model, "odd", *shape, **options)
    with pytest.raises(InputError, match=f"“odd” has {message}. Press the button beside “Pixel size”"):
        panel.source()


# ---- later changes ---------------------------------------------------------------------------------------


def test_it_follows_the_properties_of_the_layer(model: ViewerModel, panel: SourcePanel, told: list[Any]) -> None:
    other = add(model, "other")
    layer = add(model, "stack", 4, 6, 8, axis_labels=("z", "y", "x"))
    assert not panel.anisotropic
    told.clear()
    layer.scale = (2, 1, 1)
    assert panel.anisotropic
    layer.units = ("nm",) * 3
    assert panel.voxel_button.text() == "2 × 1 × 1 nm…"
    assert panel.extent_box.currentText() == "The whole stack"
    layer.axis_labels = ("t", "y", "x")
    assert panel.voxel_button.text() == "1 × 1 nm…"
    assert panel.extent_box.currentText() == "This slice"
    layer.data = np.zeros((6, 8), dtype=np.uint8)
    assert not panel.extent_box.isVisible()
    assert told == [layer] * 4
    other.scale = (3, 3)
    # The pixels of a camera change all the time.
    layer.data = np.ones((6, 8), dtype=np.uint8)
    assert told == [layer] * 4


def test_changes_of_the_layer_keep_the_choices(model: ViewerModel, panel: SourcePanel) -> None:
    levels = [np.zeros((4, 64, 96), np.uint8), np.zeros((4, 32, 48), np.uint8)]
    pyramid = model.add_image(levels, multiscale=True, name="pyramid", axis_labels=("z", "y", "x"))
    panel.level_box.setCurrentIndex(1)
    pick(panel.extent_box, "This slice")
    pyramid.scale = (1, 2, 2)
    assert (panel.level_box.currentIndex(), panel.extent_box.currentText()) == (1, "This slice")
    pyramid.data = [level[:, :60, :60] for level in levels]
    assert entries(panel.level_box) == ["0: 4 × 60 × 60", "1: 4 × 32 × 48"]
    assert panel.extent_box.currentText() == "This slice"
    # A layer of the same shape begins with its first level.
    panel.level_box.setCurrentIndex(1)
    model.add_image(pyramid.data, multiscale=True, name="second")
    assert panel.level_box.currentIndex() == 0


def test_a_shape_that_is_drawn_later_is_a_change(viewer: Any, shown_panel: SourcePanel, qtbot: Any) -> None:
    panel = shown_panel
    viewer.add_image(np.zeros((20, 30), dtype=np.uint8), name="cells")
    shapes = viewer.add_shapes(name="around")
    assert panel.hint.isVisible()
    pick(panel.region_box, "Shapes: around")
    # Somebody draws the region.
    assert viewer.layers.selection.active is shapes
    assert not panel.hint.isVisible()
    with pytest.raises(InputError, match="has no rectangle"):
        panel.source().spec()
    with qtbot.waitSignal(panel.changed):
        shapes.add_rectangles([[4.5, 9.5], [14.5, 24.5]])
    assert panel.source().spec().shape == (10, 15)
    shapes.add_rectangles([[0, 0], [3, 3]])
    with qtbot.waitSignal(panel.changed):
        shapes.selected_data = {0}
    assert panel.source().spec().shape == (10, 15)
    pick(panel.region_box, "The whole image")
    assert panel.hint.isVisible()
    with qtbot.assertNotEmitted(panel.changed):
        shapes.add_rectangles([[0, 0], [3, 3]])


def test_labels_that_are_painted_later_are_a_change(model: ViewerModel, panel: SourcePanel, qtbot: Any) -> None:
    add(model, "cells", 20, 30)
    labels = model.add_labels(np.zeros((20, 30), dtype=int), name="nuclei")
    pick(panel.region_box, "Labels: nuclei")
    labels.selected_label = 1
    with qtbot.waitSignal(panel.changed):
        labels.paint((5, 5), 1)
    with qtbot.waitSignal(panel.changed):
        labels.data = np.ones((20, 30), dtype=int)


def test_a_new_view_is_a_change_if_it_is_the_region(viewer: Any, shown_panel: SourcePanel, qtbot: Any) -> None:
    panel = shown_panel
    viewer.add_image(np.zeros((5, 200, 300), dtype=np.uint8), name="cells", axis_labels=("z", "y", "x"))
    pick(panel.region_box, "What is in view")
    camera = viewer.scene.camera
    moves = (
        lambda: setattr(camera, "zoom", 10.0),
        lambda: setattr(camera, "center", (0, 20, 30)),
        lambda: viewer.dims.set_current_step(0, 4),
    )
    for move in moves:
        with qtbot.waitSignal(panel.changed):
            move()
            assert panel.region_box._view_timer.isActive()
    camera.zoom = 3.0
    pick(panel.region_box, "The whole image")
    assert not panel.region_box._view_timer.isActive()
    for move in moves:
        move()
    assert not panel.region_box._view_timer.isActive()


# ---- NaN -------------------------------------------------------------------------------------------------


def add_holes(model: ViewerModel, name: str = "holes") -> Image:
    pixels = np.ones((8, 9), dtype=np.float32)
    pixels[2, 3] = np.nan
    return model.add_image(pixels, name=name, contrast_limits=(0, 2))


def test_nan_are_filled_in_by_a_tick(model: ViewerModel, panel: SourcePanel, told: list[Any]) -> None:
    assert not panel.nan_box.isVisible()
    holes = add_holes(model)
    assert panel.nan_box.isVisible()
    source = panel.source()
    assert source.arguments()["fill_nan"] is False
    assert source.spec().loaded().masked is None
    told.clear()
    panel.nan_box.click()
    assert told == [holes]
    for source in (panel.source(), panel.square((4, 4), all_slices=False)):
        assert source.arguments()["fill_nan"] is True
        masked = source.spec().loaded().masked
        assert masked is not None
        assert masked.sum() == 1


def test_a_tick_counts_only_if_it_is_shown(model: ViewerModel, panel: SourcePanel) -> None:
    plain, holes = add(model, "plain"), add_holes(model)
    panel.nan_box.click()
    panel.pick(plain)
    assert not panel.nan_box.isVisible()
    assert panel.source().fill_nan is False
    model.layers.selection = {plain, holes}
    assert panel.nan_box.isVisible()
    assert [source.fill_nan for source in panel.sources()] == [True, True]
    model.layers.selection = {plain}
    assert not panel.nan_box.isVisible()


def test_the_tick_follows_the_pixels(model: ViewerModel, panel: SourcePanel, told: list[Any]) -> None:
    holes = add_holes(model)
    told.clear()
    for value, shown in ((1.0, False), (np.inf, True)):
        holes.data = np.full((8, 9), value, dtype=np.float32)
        assert panel.nan_box.isVisible() is shown
    assert told == []
    holes.data[...] = 1
    panel.offer_filling()
    assert not panel.nan_box.isVisible()
    model.layers.remove(holes)
    assert not panel.nan_box.isVisible()


def test_without_an_image_there_is_one_sentence(model: ViewerModel, panel: SourcePanel) -> None:
    rows = (panel.layer_box, panel.level_box, panel.region_box, panel.extent_box, panel.voxel_button)
    for _ in range(2):
        model.add_points(np.zeros((1, 2)))
        assert not any(row.isVisible() for row in (*rows, panel.voxel_label, panel.axes_question))
        assert panel.hint.isVisible()
        assert panel.hint.text() == "Open or drop an image."
        stack = add(model, "stack", 5, 6, 8)
        assert not panel.hint.isVisible()
        assert panel.layer_box.isVisible()
        assert panel.region_box.isVisible()
        model.layers.remove(stack)


def test_every_control_has_an_accessible_name(model: ViewerModel, panel: SourcePanel) -> None:
    add(model, "stack", 4, 6, 8)
    controls = panel.findChildren(QComboBox) + panel.findChildren(QPushButton)
    assert len(controls) == 9
    assert all(control.accessibleName() for control in controls)


def test_after_closing_no_change_is_followed(model: ViewerModel, panel: SourcePanel, told: list[Any]) -> None:
    layer = add(model, "stack", 4, 6, 8, axis_labels=("z", "y", "x"))
    shapes = model.add_shapes(name="around")
    pick(panel.region_box, "Shapes: around")
    pick(panel.region_box, "What is in view")
    model.scene.camera.zoom = 7.0
    assert panel.region_box._view_timer.isActive()
    panel.disconnect_viewer()
    assert not panel.region_box._view_timer.isActive()
    told.clear()
    layer.scale, layer.units, layer.axis_labels = (2, 2, 2), ("um",) * 3, ("t", "y", "x")
    layer.data = np.zeros((6, 8), dtype=np.uint8)
    shapes.add_rectangles([[0, 0], [3, 3]])
    model.scene.camera.zoom = 9.0
    assert not panel.region_box._view_timer.isActive()
    assert told == []
