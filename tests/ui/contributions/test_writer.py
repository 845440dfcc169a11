"""Tests of saving the models of layers by napari, and of the error message for a layer without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

import napari_siren as ns
from napari_siren import FitResult, StorageError
from napari_siren.layers.outputs import model_layer
from napari_siren.ui.contributions.writer import write_model


@pytest.fixture
def model() -> ViewerModel:
    """A viewer without a window."""
    return ViewerModel()


def add(viewer: ViewerModel, result: FitResult) -> Any:
    """Add a layer made from a fit."""
    data, meta, _ = model_layer(result, 2)
    return viewer.add_image(data, **meta)


@pytest.mark.parametrize("name", ["model.safetensors", "model.SafeTensors", "model"])
def test_what_napari_saves_is_the_model(name: str, model: ViewerModel, fitted: FitResult, tmp_path: Path) -> None:
    add(model, fitted)
    [written] = model.layers.save(tmp_path / name, plugin="napari-siren")
    assert Path(written).name == (name if "." in name else "model.safetensors")
    assert np.array_equal(ns.load(written).reconstruction, fitted.reconstruction)


def test_a_dot_in_a_name_is_no_suffix(fitted: FitResult, tmp_path: Path) -> None:
    data, meta, _ = model_layer(fitted)
    assert write_model(str(tmp_path / "cells 2.5"), data, meta) == [str(tmp_path / "cells 2.5.safetensors")]
    assert (tmp_path / "cells 2.5.safetensors").exists()


def test_a_model_that_was_opened_can_be_saved_again(model: ViewerModel, model_file: Path, tmp_path: Path) -> None:
    model.open(model_file, plugin="napari-siren")
    [written] = model.layers.save(tmp_path / "copy.safetensors")
    opened, copied = ns.load(model_file), ns.load(written)
    assert np.array_equal(copied.reconstruction, opened.reconstruction)
    assert (copied.provenance, copied.metrics, copied.config) == (opened.provenance, opened.metrics, opened.config)


def test_a_layer_without_a_model_says_what_to_do(model: ViewerModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model.add_image(np.zeros((8, 8)), name="cells")
    with pytest.raises(StorageError, match=r"'cells' has no model.*Fit it first with Plugins > SIREN"):
        model.layers.save(path, plugin="napari-siren")
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_told_of(fitted: FitResult, tmp_path: Path) -> None:
    data, meta, _ = model_layer(fitted)
    with pytest.raises(StorageError, match="Create it first"):
        write_model(str(tmp_path / "none" / "model.safetensors"), data, meta)


def test_pixels_are_still_saved_by_napari(model: ViewerModel, fitted: FitResult, tmp_path: Path) -> None:
    add(model, fitted)
    [written] = model.layers.save(tmp_path / "pixels.tif")
    assert Path(written).stat().st_size > 0
