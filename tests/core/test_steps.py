from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_siren as ns
from napari_siren.core.clock import Cancelled
from napari_siren.core.engines import kernel
from napari_siren.core.image.samples import Samples
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.trainer import TileTrainer

IMAGE = np.hypot(*np.mgrid[-8:8, -8:8]).astype(np.float32)


def test_a_for_loop_leads_to_the_result() -> None:
    steps = ns.fit_iter(IMAGE, max_steps=6)
    assert [progress.step for progress in steps] == [1, 2, 3, 4, 5, 6]
    assert steps.result.history.stopped == "max_steps"


def test_the_result_is_also_what_the_generator_returns() -> None:
    def outer():  # type: ignore[no-untyped-def]
        return (yield from ns.fit_iter(IMAGE, max_steps=3))

    generator = outer()
    assert [next(generator).step for _ in range(3)] == [1, 2, 3]
    with pytest.raises(StopIteration) as end:
        next(generator)
    assert isinstance(end.value.value, ns.FitResult)


def test_stop_inside_the_loop_keeps_the_best_so_far() -> None:
    steps = ns.fit_iter(IMAGE, max_steps=1000)
    for progress in steps:
        if progress.step == 5:
            steps.stop()
    assert steps.result.history.step == [1, 2, 3, 4, 5]
    assert steps.result.history.stopped == "asked"


def test_stop_before_the_first_step_takes_one() -> None:
    assert ns.fit_iter(IMAGE, max_steps=1000).stop().history.step == [1]


def test_stop_after_the_end_changes_nothing() -> None:
    steps = ns.fit_iter(IMAGE, max_steps=3)
    list(steps)
    assert steps.stop() is steps.result


def test_there_is_no_result_before_the_end_or_after_closing() -> None:
    steps = ns.fit_iter(IMAGE, max_steps=10)
    next(steps)
    with pytest.raises(ns.InputError, match="no result yet"):
        _ = steps.result
    steps.close()
    with pytest.raises(ns.InputError, match="no result yet"):
        steps.stop()


def test_a_resumed_fit_has_the_settings_and_the_seed_of_the_first(tmp_path: Path) -> None:
    first = ns.fit(IMAGE, preset="fast", band=0.5, seed=7, max_steps=5)
    path = first.save(tmp_path / "model.safetensors", resumable=True)
    for resume in (first, path, str(path)):
        more = ns.fit(IMAGE, resume=resume, max_steps=8)
        assert more.config == first.config.override(max_steps=8)
        assert more.provenance["seed"] == 7
        assert more.history.step == [6, 7, 8]


def test_a_damaged_state_is_refused() -> None:
    first = ns.fit(IMAGE, max_steps=5)
    assert first.state is not None
    kept = {name: tensor for name, tensor in first.state.tensors.items() if name != "mean"}
    damaged = replace(first, state=replace(first.state, tensors=kept))
    with pytest.raises(ns.StorageError, match="damaged"):
        ns.fit_iter(IMAGE, resume=damaged, max_steps=8)


def test_a_snapshot_is_a_checkpoint_and_leaves_the_fit_as_it_was(tmp_path: Path) -> None:
    straight = ns.fit(IMAGE, max_steps=30)
    steps = ns.fit_iter(IMAGE, max_steps=30)
    for progress in steps:
        if progress.step == 13:
            early = steps.snapshot()
            path = early.save(tmp_path / "checkpoint.safetensors", resumable=True)
    assert early.history.step[-1] == 13
    resumed = ns.fit(IMAGE, resume=path, max_steps=30)
    for result in (steps.result, resumed):
        assert np.array_equal(result.field.siren.theta, straight.field.siren.theta)


def test_time_for_which_the_clock_is_held_does_not_count(clock: Any) -> None:
    steps = ns.fit_iter(IMAGE, max_seconds=50, max_steps=10**9)
    first = next(steps).seconds
    with steps.held(), steps.held():
        clock.now += 1000
    second = next(steps)
    assert second.seconds - first == 1
    assert steps.stop().history.stopped == "asked"


def test_a_fit_called_off_ends_without_a_result() -> None:
    steps = ns.fit_iter(IMAGE, max_steps=10**9)
    for progress in steps:
        if progress.step == 3:
            threading.Thread(target=steps.cancel).start()
    assert progress.step >= 3
    with pytest.raises(ns.InputError, match="no result yet"):
        _ = steps.result


@pytest.mark.parametrize("engine", ["torch", "native"])
def test_a_step_under_way_is_given_up(engine: str) -> None:
    if engine == "native" and kernel().library is None:
        pytest.skip("no kernel")
    samples = Samples.from_array(IMAGE)
    run = TileTrainer(samples, FitConfig(engine=engine), torch.device("cpu"), seed=0)
    run.cancellation.request()
    with pytest.raises(Cancelled):
        run.step()
