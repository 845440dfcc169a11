"""Tests of the axes of a layer as the panel shows them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.layers import Image

from napari_siren.ui.logic import layer_axes


def layer_of(*shape: int, **options: Any) -> Image:
    return Image(np.zeros(shape, dtype=np.uint8), **options)


@pytest.mark.parametrize(
    ("labels", "letters", "in_space"),
    [
        (None, ["", "Y", "X"], [1, 2]),
        (("time", "Y", "x"), ["T", "Y", "X"], [1, 2]),
        (("plane", "row", "column"), ["", "", ""], [0, 1, 2]),
        (("z", "channel", "x"), ["Z", "C", "X"], [0, 2]),
    ],
)
def test_letters_and_axes_in_space(labels: Any, letters: list[str], in_space: list[int]) -> None:
    layer = layer_of(4, 6, 8, axis_labels=labels)
    assert layer_axes.axis_letters(layer) == letters
    assert layer_axes.axes_in_space(layer) == in_space
    assert layer_axes.is_unlabelled_stack(layer) == (labels is None)


def test_the_dimensions_of_xarray_are_labels() -> None:
    layer: Any = SimpleNamespace(ndim=3, multiscale=False, axis_labels=("-3", "-2", "-1"))
    for dims, labelled in ((("time", "y", "x"), True), (("dim_0", "dim_1", "dim_2"), False)):
        layer.data = SimpleNamespace(dims=dims)
        assert layer_axes.is_unlabelled_stack(layer) != labelled
    layer.data = SimpleNamespace(dims=("time", "y", "x"))
    assert layer_axes.axis_letters(layer) == ["T", "Y", "X"]


def test_a_picture_is_no_stack() -> None:
    picture = layer_of(6, 8)
    assert not layer_axes.is_unlabelled_stack(picture)
    assert layer_axes.axis_letters(picture) == ["Y", "X"]


@pytest.mark.parametrize(
    ("scale", "units", "anisotropic"),
    [
        ((1, 1, -1), ("um",) * 3, False),
        ((2, 1, 1), ("um",) * 3, True),
        ((1, 1000, 1000), ("um", "nm", "nm"), False),
        ((1, 1, 1), ("um", "nm", "nm"), True),
        ((1, 1, 1), ("furlong", "nm", "nm"), False),
    ],
)
def test_anisotropy_is_of_sizes_in_one_unit(scale: Any, units: Any, anisotropic: bool) -> None:
    layer = layer_of(4, 6, 8, axis_labels=("z", "y", "x"), scale=scale, units=units)
    assert layer_axes.is_anisotropic(layer) == anisotropic


def test_a_layer_without_axes_in_space_has_no_size() -> None:
    layer = layer_of(4, 6, axis_labels=("t", "c"))
    assert layer_axes.sizes_text(layer) == ""
    assert not layer_axes.is_anisotropic(layer)
