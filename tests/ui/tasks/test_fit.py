"""Tests of a fit as a task, run here as a plain generator without Qt and without a viewer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from requesting import STEPS, TINY, drive, image_layer, request
from waiting import LIMIT

import napari_siren as ns
from napari_siren.errors import DeviceError, InputError
from napari_siren.layers.outputs import METADATA_KEY, RESULT_KEY
from napari_siren.layers.spec import LayerSpec
from napari_siren.ui.tasks.fit import FitRequest, explain, load_torch

# ---- complete fits ---------------------------------------------------------------------------------------


def test_a_fit_gives_its_layers() -> None:
    _, outcome = drive(request(error="absolute"))
    assert outcome.error is None
    assert outcome.result is not None
    assert outcome.layers is not None
    shapes = {role: data.shape for role, (data, _, _) in outcome.layers.items()}
    assert shapes == {"reconstruction": (12, 16), "upscaled": (24, 32), "error": (12, 16)}
    for role, (_, meta, kind) in outcome.layers.items():
        assert kind == "image"
        assert meta["metadata"][RESULT_KEY] is outcome.result
        assert meta["metadata"][METADATA_KEY]["role"] == role
        assert meta["metadata"][METADATA_KEY]["seed"] == 3
    assert outcome.layers["error"][0].min() >= 0
    assert outcome.layers["upscaled"][1]["name"] == "cells [x2]"


def test_it_is_the_fit_that_scripts_do() -> None:
    layer = image_layer()
    _, outcome = drive(request(layer))
    scripted = ns.fit_layer(layer, scale=2, preset="fast", device="cpu", seed=3, max_steps=STEPS, **TINY)
    assert outcome.layers is not None
    for (data, meta, _), (wanted, wanted_meta, _) in zip(outcome.layers.values(), scripted.layer_data, strict=True):
        np.testing.assert_array_equal(data, wanted)
        assert meta["name"] == wanted_meta["name"]
        assert meta["translate"] == wanted_meta["translate"]
    # The result has the position of the layer, so that a saved model opens there.
    assert outcome.result is not None
    assert outcome.result.provenance["layer"] == scripted.result.provenance["layer"]


def test_the_pixels_are_read_in_the_task_only() -> None:
    class Lazy:
        shape, dtype, ndim = (12, 16), np.dtype(np.uint16), 2
        reads = 0

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            Lazy.reads += 1
            return image_layer().data

    wanted = request(image_layer(data=Lazy()))
    assert Lazy.reads == 0
    _, outcome = drive(wanted)
    assert outcome.result is not None
    assert Lazy.reads == 1


# ---- errors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (lambda: request(scale=0.0), "scale"),
        (lambda: request(scale=1e6), "memory"),
        (lambda: request(image_layer(data=np.full((12, 16), np.nan))), "“cells” has 192 values .* not finite"),
        (lambda: request(device="cuda:77"), "cuda:77"),
        (lambda: request(max_memory=1), "memory"),
    ],
)
def test_what_cannot_be_done_is_told_not_raised_and_before_the_fit(
    wanted: Callable[[], FitRequest], message: str
) -> None:
    updates, outcome = drive(wanted())
    assert updates == []
    assert outcome.result is None
    assert isinstance(outcome.error, ns.SirenError)
    with pytest.raises(ns.SirenError, match=message):
        raise outcome.error


def test_errors_of_others_are_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise ZeroDivisionError("of a plugin")

    monkeypatch.setattr("napari_siren.layers.outputs.error_layer", fail)
    updates, outcome = drive(request())
    assert updates
    assert isinstance(outcome.error, ZeroDivisionError)
    assert explain(outcome.error) == "ZeroDivisionError: of a plugin"


def test_what_cannot_be_read_is_told() -> None:
    class Broken:
        shape, dtype, ndim = (12, 16), np.dtype(np.uint16), 2

        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            raise OSError("the disk is gone")

    _, outcome = drive(request(image_layer(data=Broken())))
    assert isinstance(outcome.error, OSError)


def test_values_that_are_missing_by_a_region_are_no_error() -> None:
    pixels = np.ones((12, 16))
    pixels[0, 0] = np.nan
    good = np.isfinite(pixels)
    wanted = request()
    wanted = replace(wanted, spec=LayerSpec.from_layer(image_layer(data=pixels), region=good, lazily=True))
    _, outcome = drive(wanted)
    assert outcome.error is None


def test_a_pytorch_that_cannot_be_loaded_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DeviceError, match=r"could not be loaded: .*torch.*import torch, napari"):
        load_torch()
    _, outcome = drive(request())
    assert isinstance(outcome.error, DeviceError)
    assert explain(outcome.error) == str(outcome.error)


BESIDE_A_CANVAS = """
import napari
from napari_siren.ui.tasks.fit import load_torch

viewer = napari.Viewer()
load_torch()
import torch
torch.optim.Adam([torch.zeros(1, requires_grad=True)])
print("it lives")
"""


@pytest.mark.slow
def test_what_pytorch_loads_beside_a_canvas_does_not_crash() -> None:
    command = [sys.executable, "-c", BESIDE_A_CANVAS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert "it lives" in done.stdout, done.stderr


# ---- continued fits --------------------------------------------------------------------------------------


def test_going_on_is_as_if_the_fit_had_been_longer() -> None:
    # With other schedules the learning rates depend on the number of steps.
    short, long = (request(max_steps=n, schedule="constant") for n in (7, 12))
    _, first = drive(short)
    assert first.result is not None
    wanted = short.resumed(first.result, 5)
    assert wanted.config == long.config
    updates, second = drive(wanted)
    _, whole = drive(long)
    assert second.result is not None
    assert whole.result is not None
    assert second.result.history.step[-1] == 12
    assert updates[0].progress.step == 8
    np.testing.assert_array_equal(second.result.field.siren.theta, whole.result.field.siren.theta)
    np.testing.assert_array_equal(second.result.reconstruction, whole.result.reconstruction)


def test_going_on_is_not_held_up_by_the_limits_that_ended_the_fit() -> None:
    short = request(target_psnr=0.1, max_seconds=1e-6)
    _, first = drive(short)
    assert first.result is not None
    done = first.result.history.step[-1] if first.result.history.step else 0
    assert done < STEPS
    _, second = drive(short.resumed(first.result, 9))
    assert second.result is not None
    assert second.result.history.step[-1] == done + 9
    assert second.result.history.stopped == "max_steps"


def test_an_upscaling_goes_on_at_the_scale_that_it_learned() -> None:
    layer = image_layer(data=np.random.default_rng(0).random((40, 42), dtype=np.float32))
    fields = {"observation": "box", "task": "super-resolution", "pretrained": None, "task_steps": 3, "max_steps": 5}
    wanted = request(layer, scale=3.0, **fields)
    updates, first = drive(wanted)
    assert first.result is not None, first.error
    assert (first.result.config.detail, updates[-1].progress.max_steps) == (3, 48)
    updates, second = drive(wanted.resumed(first.result, 4))
    assert second.result is not None, second.error
    assert (updates[0].progress.step, second.result.history.step[-1]) == (49, 52)
    assert second.result.field.refinement == (3, 3)


def test_going_on_keeps_the_seed_of_the_fit() -> None:
    _, first = drive(request(seed=8))
    assert first.result is not None
    assert request(seed=1).resumed(first.result, 2).seed == 8


def test_going_on_with_other_pixels_is_refused() -> None:
    layer = image_layer()
    wanted = request(layer)
    _, first = drive(wanted)
    assert first.result is not None
    layer.data[0, 0] += 1
    _, second = drive(wanted.resumed(first.result, 2))
    assert isinstance(second.error, InputError)
    assert "another image" in str(second.error)
