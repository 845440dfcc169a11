"""Tests of the choice of the layer and of the part of it to fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

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
    with pytest.raises(InputError, match=r"no image layer to fit\. Open an image"):
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
    assert source.arguments() == {"region": source.region, "plane": None, "level": 0}
    model.scene.camera.center = (-500, 700)
    with pytest.raises(InputError, match="no part of layer 'cells' is in view"):
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
        ((6, 8, 9), ("z", "y", "x"), ["This slice", "The whole stack"], "The whole stack"),
        ((6, 8, 9), ("t", "y", "x"), ["This slice", "The whole stack"], "This slice"),
        ((4, 6, 8, 9), ("t", "z", "y", "x"), ["This slice", "This stack"], "This stack"),
        ((4, 6, 8, 9), ("z", "c", "y", "x"), ["This slice", "The whole stack"], "The whole stack"),
    ],
)
def test_stacks_and_time_series_have_their_extents(
    model: ViewerModel,
    panel: SourcePanel,
    shape: tuple[int, ...],
    labels: tuple[str, ...],
    choices: list[str],
    first: str,
) -> None:
    add(model, "stack", *shape, axis_labels=labels)
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


# ---- the voxel size --------------------------------------------------------------------------------------


def test_the_voxel_is_shown_and_corrected(
    model: ViewerModel, panel: SourcePanel, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = add(model, "stack", 4, 6, 8, scale=(1, -0.5, 0.5), units=("um",) * 3)
    assert panel.voxel_button.text() == "1 × 0.5 × 0.5 µm…"
    assert panel.anisotropic
    answers: list[Any] = [None, {"axis_0": 2.0, "axis_1": 0.25, "axis_2": 0.25}]
    monkeypatch.setattr(source_panel, "request_values", lambda *_, **__: answers.pop(0))
    told.clear()
    panel.voxel_button.click()
    assert (layer.scale.tolist(), told) == ([1, -0.5, 0.5], [])
    panel.voxel_button.click()
    assert (layer.scale.tolist(), told) == ([2, -0.25, 0.25], [layer])
    assert panel.voxel_button.text() == "2 × 0.25 × 0.25 µm…"


def test_a_picture_has_no_voxel(model: ViewerModel, panel: SourcePanel) -> None:
    add(model, "picture", 6, 8, scale=(1, 2))
    assert not panel.voxel_button.isVisible()
