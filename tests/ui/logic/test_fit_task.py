"""Tests of a fit as a task, run here as a plain generator without Qt and without a viewer."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from waiting import LIMIT

import napari_siren as ns
from napari_siren.core import clock
from napari_siren.core.config import FitConfig
from napari_siren.core.steps import FitSteps
from napari_siren.errors import DeviceError, InputError
from napari_siren.layers.outputs import METADATA_KEY, RESULT_KEY
from napari_siren.layers.spec import LayerSpec
from napari_siren.ui.logic import updates as updates_module
from napari_siren.ui.logic.control import Control
from napari_siren.ui.logic.fit_task import FitRequest, Outcome, explain, load_torch, run_fit
from napari_siren.ui.logic.updates import Update

STEPS = 12
TINY = {"hidden_features": 8, "hidden_layers": 1, "engine": "torch"}
# A rate of updates so high that each step has its own update.
EVERY_STEP = 1e9


def image_layer(**options: Any) -> SimpleNamespace:
    pixels = np.random.default_rng(0).integers(0, 4000, (12, 16), dtype=np.uint16)
    return SimpleNamespace(**{"data": pixels, "name": "cells", "scale": (0.5, 0.25), **options})


def request(layer: Any = None, **options: Any) -> FitRequest:
    """Return the request of a tiny fit. Options with names of `FitConfig` are settings, the others are fields."""
    settings = {name: options.pop(name) for name in list(options) if name in FitConfig.model_fields}
    config = FitConfig.preset("fast", **{"max_steps": STEPS, **TINY, **settings})
    spec = LayerSpec.from_layer(layer or image_layer(), lazily=True)
    return FitRequest(spec, config, **{"device": "cpu", "seed": 3, "scale": 2.0, "error": "signed", **options})


def drive(
    wanted: FitRequest, control: Control | None = None, on_update: Callable[[Update], Any] = lambda update: None
) -> tuple[list[Update], Outcome]:
    """Run a fit to its end, and report every preview as shown at once."""
    control = control or Control()
    updates: list[Update] = []
    steps = run_fit(wanted, control)
    while True:
        try:
            update = next(steps)
        except StopIteration as end:
            return updates, end.value
        updates.append(update)
        control.preview_shown()
        on_update(update)


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


# ---- updates ---------------------------------------------------------------------------------------------


def test_every_step_is_told_of_once() -> None:
    updates, outcome = drive(request(preview_rate=EVERY_STEP))
    assert outcome.result is not None
    history = outcome.result.history
    assert [step for update in updates for step in update.steps] == history.step == list(range(1, STEPS + 1))
    assert [loss for update in updates for loss in update.losses] == history.loss
    np.testing.assert_array_equal([psnr for update in updates for psnr in update.psnrs], history.psnr)
    assert [update.progress.step for update in updates] == history.step


def test_the_first_step_is_told_of_at_once_and_the_next_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    # Each step of the fit takes a second of the clock that determines the updates.
    monkeypatch.setattr(updates_module, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    original = FitSteps.send

    def send(self: FitSteps, value: str | None) -> Any:
        now[0] += 1.0
        return original(self, value)

    monkeypatch.setattr(FitSteps, "send", send)
    updates, _ = drive(request(preview_rate=0.25))
    assert [update.progress.step for update in updates] == [1, 5, 9]
    assert [update.steps for update in updates] == [[1], [2, 3, 4, 5], [6, 7, 8, 9]]


def test_no_preview_comes_before_the_last_one_was_shown() -> None:
    control = Control()
    steps = run_fit(request(preview_rate=EVERY_STEP), control)
    assert next(steps).preview is not None
    waiting = [next(steps) for _ in range(3)]
    assert all(update.preview is None for update in waiting)
    # The updates continue without previews.
    assert [update.steps for update in waiting] == [[2], [3], [4]]
    control.preview_shown()
    assert next(steps).preview is not None
    assert next(steps).preview is None


def test_the_previews_are_of_what_is_in_view_after_the_first() -> None:
    control = Control(view=((2, 6), (3, 9)))
    updates, _ = drive(request(preview_rate=EVERY_STEP), control)
    boxes = [update.preview.box for update in updates if update.preview is not None]
    assert boxes == [((0, 12), (0, 16))] + [((2, 6), (3, 9))] * (STEPS - 1)


# ---- pause, stop, cancel ---------------------------------------------------------------------------------


class Driven:
    """A fit in another thread, the same as in napari."""

    def __init__(self, wanted: FitRequest, control: Control) -> None:
        self.control = control
        self.updates: list[Update] = []
        self.outcome: Outcome | None = None
        self._told = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(wanted,), daemon=True)
        self._thread.start()

    def wait_for(self, what: Callable[[], bool]) -> None:
        with self._told:
            assert self._told.wait_for(what, LIMIT)

    def end(self) -> Outcome:
        self._thread.join(LIMIT)
        assert self.outcome is not None
        return self.outcome

    def _run(self, wanted: FitRequest) -> None:
        def told(update: Update) -> None:
            with self._told:
                self.updates.append(update)
                self._told.notify_all()

        _, self.outcome = drive(wanted, self.control, told)


@pytest.fixture
def control() -> Iterator[Control]:
    """A control for a fit in a test. The fit is cancelled at the end of the test, even if the test fails."""
    control = Control()
    yield control
    control.cancel()


def test_a_paused_fit_stands_still_and_its_clock_too(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    control.pause()
    driven = Driven(request(), control)
    driven.wait_for(lambda: len(driven.updates) == 1)
    [paused] = driven.updates
    assert paused.paused
    assert paused.progress.step == 1
    # It takes no step while another fit runs to its end.
    drive(request())
    assert driven.updates == [paused]
    now[0] = 1000.0
    control.go_on()
    outcome = driven.end()
    assert outcome.result is not None
    assert outcome.result.history.step[-1] == STEPS
    assert outcome.result.history.seconds == [0.0] * STEPS
    assert not any(update.paused for update in driven.updates[1:])


def test_a_pause_in_the_middle_shows_where_the_fit_is(control: Control) -> None:
    driven = Driven(request(max_steps=10**6, preview_rate=1000.0), control)
    driven.wait_for(lambda: len(driven.updates) > 2)
    control.pause()
    driven.wait_for(lambda: driven.updates[-1].paused)
    last = driven.updates[-1]
    assert last.preview is not None
    assert last.steps[-1] == last.progress.step
    control.stop()
    outcome = driven.end()
    assert outcome.result is not None
    assert outcome.result.history.step[-1] in (last.progress.step, last.progress.step + 1)


def test_a_fit_that_is_stopped_keeps_what_it_has(control: Control) -> None:
    _, outcome = drive(
        request(preview_rate=EVERY_STEP), control, lambda u: control.stop() if u.progress.step == 4 else None
    )
    assert outcome.result is not None
    assert outcome.result.history.stopped == "asked"
    assert outcome.result.history.step[-1] == 5
    assert outcome.layers is not None
    assert set(outcome.layers) == {"reconstruction", "upscaled", "error"}


def test_a_fit_that_is_called_off_gives_nothing_and_ends_soon(control: Control) -> None:
    updates, outcome = drive(
        request(max_steps=10**6, preview_rate=EVERY_STEP),
        control,
        lambda u: control.cancel() if u.progress.step == 4 else None,
    )
    assert updates[-1].progress.step == 4
    assert (outcome.result, outcome.layers, outcome.error) == (None, None, None)


def test_a_fit_may_be_called_off_before_it_begins(control: Control) -> None:
    control.cancel()
    updates, outcome = drive(request(), control)
    assert updates == []
    assert (outcome.result, outcome.error) == (None, None)


def test_a_paused_fit_can_be_called_off(control: Control) -> None:
    control.pause()
    driven = Driven(request(max_steps=10**6), control)
    driven.wait_for(lambda: len(driven.updates) == 1)
    control.cancel()
    assert driven.end().result is None


def test_a_fit_that_is_called_off_while_it_stops_is_no_error(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    original = FitSteps.stop

    def stop(self: FitSteps) -> Any:
        control.cancel()
        return original(self)

    monkeypatch.setattr(FitSteps, "stop", stop)
    control.stop()
    _, outcome = drive(request(), control)
    assert (outcome.result, outcome.layers, outcome.error) == (None, None, None)


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
from napari_siren.ui.logic.fit_task import load_torch

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
