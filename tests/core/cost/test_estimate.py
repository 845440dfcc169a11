"""Estimates of time and memory: their parts, the trials, and the memory of their results."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from waiting import LIMIT

from napari_siren.core.cost import restoration, tiles
from napari_siren.core.cost.base import Estimate
from napari_siren.core.cost.estimate import estimate, record_timing
from napari_siren.core.engines import Kernel
from napari_siren.core.fit import fit
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.plan import plan_fit
from napari_siren.errors import ConfigError, DeviceError, InputError

TINY = {"tile": 8, "hidden_features": 6, "hidden_layers": 2}
BEFORE, STEP, AFTER = 1e-7, 1e-6, 3e-7


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "KNOWN_RATES", {})
    monkeypatch.setattr(restoration, "_RESTORATIONS", {})


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list of requested trials. They take no time, and always have the same result."""
    asked: list[Any] = []

    def measure(trial: Any) -> Any:
        asked.append(trial)
        return tiles.Rates(BEFORE, STEP, AFTER)

    monkeypatch.setattr(tiles, "_measure", measure)
    return asked


def ask(shape: tuple[int, ...] = (64, 64), channels: int = 1, trial: bool = True, **fields: Any) -> Estimate:
    return estimate(shape, channels, FitConfig(**{**TINY, **fields}), "cpu", trial)


# ---- the sum ----------------------------------------------------------------------------------------------


def test_twice_the_pixels_take_twice_the_time(trials: list[Any]) -> None:
    one, two = ask((1024, 1024), 3), ask((1024, 2048), 3)
    assert (two.seconds, two.seconds_per_step) == (pytest.approx(2 * one.seconds), 2 * one.seconds_per_step)
    assert len(trials) == 1


def test_a_fit_is_its_steps_and_what_comes_before_and_after(trials: list[Any]) -> None:
    found = ask((40, 24), max_steps=7)
    samples = 15 * 10 * 10  # tiles of 8 pixels, with an overlap of one on each side
    assert found.tiles == 15
    assert found.seconds_per_step == pytest.approx(STEP * samples)
    assert found.seconds == pytest.approx((BEFORE + 7 * STEP + AFTER) * samples)


def test_a_time_limit_bounds_the_steps(trials: list[Any]) -> None:
    free, ends = ask(max_steps=1000).seconds, ask(max_steps=1).seconds
    assert free > 5
    assert ends < 0.1
    assert ask(max_steps=1000, max_seconds=2).seconds == pytest.approx(2 + ends, rel=0.01)
    assert ask(max_steps=1000, max_seconds=900).seconds == free
    assert len(trials) == 1


@pytest.mark.parametrize("observation", ["point", "box"])
@pytest.mark.parametrize("tile", [8, "auto", "whole"])
def test_sizes_are_those_of_the_fit(trials: list[Any], tile: int | str, observation: str) -> None:
    config = FitConfig(**{**TINY, "tile": tile, "observation": observation})
    found, plan = estimate((50, 30, 20), 2, config), plan_fit((50, 30, 20), 2, config)
    assert (found.memory, found.tiles) == (plan.total, plan.tiling.count)
    assert found.parameters == plan.tiling.count * plan.network.parameters


def test_engine_and_device_are_those_of_the_fit(trials: list[Any]) -> None:
    image = np.random.default_rng(0).integers(0, 255, (20, 30), dtype=np.uint8)
    for engine in ("auto", "torch"):
        config = FitConfig(**TINY, engine=engine, max_steps=1)
        found, provenance = estimate((20, 30), 1, config), fit(image, config=config).provenance
        assert (found.engine, found.device) == (provenance["engine"], provenance["device"])


def test_too_large_a_fit_is_told_of_and_not_refused(trials: list[Any]) -> None:
    memory = ask().memory
    assert ask(max_memory=memory).fits
    assert not ask(max_memory=memory - 1).fits


# ---- what is remembered ---------------------------------------------------------------------------------


def test_without_a_trial_nothing_is_known_before_one_and_all_after_it(trials: list[Any]) -> None:
    before = ask(trial=False)
    assert (before.seconds, before.seconds_per_step, trials) == (None, None, [])
    assert before.tiles == 64
    assert ask().seconds > 0
    assert ask(trial=False) == ask()
    assert len(trials) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"hidden_features": 7},
        {"hidden_layers": 3},
        {"observation": "box"},
        {"optimizer": "adam"},
        {"threads": 3},
        {"tile": 32},
        {"channels": 2},
        {"shape": (64,)},
        {"shape": (16, 16, 16)},
    ],
)
def test_what_makes_steps_faster_or_slower_asks_for_a_trial_of_its_own(
    trials: list[Any], fields: dict[str, Any]
) -> None:
    ask()
    assert ask(trial=False, **fields).seconds is None
    ask(**fields)
    assert len(trials) == 2


@pytest.mark.parametrize("fields", [{"subsamples": 3}, {"total_variation": "auto"}])
def test_what_areas_take_depends_on_samples_and_prior(trials: list[Any], fields: dict[str, Any]) -> None:
    ask(observation="box")
    assert ask(observation="box", trial=False, **fields).seconds is None


def test_the_engine_asks_for_a_trial_of_its_own(trials: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_siren.core.engines.registry.kernel", lambda: Kernel(SimpleNamespace(), "at hand"))
    assert ask().engine == "native"
    assert ask(engine="torch", trial=False).seconds is None
    assert ask(engine="native", trial=False).seconds is not None


@pytest.mark.parametrize(
    "fields",
    [
        {"max_steps": 9},
        {"max_seconds": 5},
        {"target_psnr": 40},
        {"learning_rate": 0.01},
        {"heldout": 0.2},
        {"shape": (70, 66)},
        {"tile": 9},
    ],
)
def test_what_does_not_matter_to_the_rate_asks_for_no_other_trial(trials: list[Any], fields: dict[str, Any]) -> None:
    ask()
    assert ask(trial=False, **fields).seconds > 0


def test_threads_that_ask_at_once_share_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, asked = threading.Event(), threading.Event(), []

    def measure(trial: Any) -> Any:
        asked.append(trial)
        begun.set()
        assert go_on.wait(LIMIT)
        return tiles.Rates(BEFORE, STEP, AFTER)

    monkeypatch.setattr(tiles, "_measure", measure)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask)
        assert begun.wait(LIMIT)
        second = pool.submit(ask)
        assert ask(trial=False).seconds is None  # does not wait for the trial
        go_on.set()
        assert first.result(LIMIT) == second.result(LIMIT)
    assert len(asked) == 1


def test_a_fit_corrects_what_is_known_of_others_like_it(trials: list[Any], smooth: npt.NDArray[np.float32]) -> None:
    result = fit(smooth, device="cpu", max_steps=15, **TINY)
    record_timing(result, "cpu")
    assert ask(smooth.shape, trial=False).seconds is None
    ask(smooth.shape)
    result.history.seconds[:] = [9 + 0.25 * step for step in range(15)]
    record_timing(result, "cpu")
    found = ask(smooth.shape, max_steps=400)
    assert found.seconds_per_step == pytest.approx(0.25)
    assert found.seconds == pytest.approx(100, rel=0.01)
    assert len(trials) == 1


def test_a_fit_of_few_steps_corrects_nothing(trials: list[Any], smooth: npt.NDArray[np.float32]) -> None:
    before = ask(smooth.shape)
    record_timing(fit(smooth, device="cpu", max_steps=5, **TINY), "cpu")
    assert ask(smooth.shape) == before


# ---- the trial --------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    shape=st.lists(st.integers(2, 400), min_size=1, max_size=3),
    channels=st.integers(1, 3),
    features=st.sampled_from([8, 28, 256]),
    tile=st.sampled_from(["auto", "whole", 5, 100]),
    observation=st.sampled_from(["point", "box"]),
    threads=st.sampled_from([1, 2, 16]),
)
@example(shape=[25, 29, 90], channels=3, features=8, tile="auto", observation="box", threads=1)
def test_a_trial_is_small_and_of_the_same_kind(
    trials: list[Any],
    shape: list[int],
    channels: int,
    features: int,
    tile: int | str,
    observation: str,
    threads: int,
) -> None:
    config = FitConfig(tile=tile, hidden_features=features, observation=observation, threads=threads)
    tiles.KNOWN_RATES.clear()
    trials.clear()
    found = estimate(shape, channels, config, "cpu")
    (trial,) = trials
    plan = trial.plan
    evaluations = trial.samples * (2 ** len(shape) if observation == "box" else 1)
    # A factor of two for rounding, and for the smallest possible tiles.
    least = 4 * threads * 6 ** len(shape)
    assert trial.samples <= max(2 * tiles._MOST_SAMPLES, least)
    assert evaluations * plan.network.parameters <= 4 * tiles._THREAD_WORK * threads or trial.samples <= least
    assert plan.network == plan_fit(shape, channels, config).network
    assert plan.tiling.count <= found.tiles
    assert plan.tiling.count >= min(found.tiles, threads)
    assert (trial.engine, trial.config.engine) == (found.engine, found.engine)
    for axis, size in zip(plan.tiling.axes, shape, strict=True):
        # The sides of tiles are rounded up to whole pixels.
        assert axis.size <= max(size + axis.count, 2 * max(plan.tiling.tile_shape))


def test_a_small_fit_is_its_own_trial(trials: list[Any]) -> None:
    for tile in ("auto", "whole", 8):
        tiles.KNOWN_RATES.clear()
        ask((40, 30), tile=tile)
        assert (trials[-1].spatial_shape, trials[-1].config.tile) == ((40, 30), tile)
        assert trials[-1].samples == trials[-1].plan.tiling.count * np.prod(trials[-1].plan.tiling.tile_shape)


def test_a_trial_is_held_back_by_no_limit(trials: list[Any]) -> None:
    ask((300, 300), heldout=0.5, max_seconds=1e-9, target_psnr=1, max_memory=1)
    config = trials[0].config
    assert (config.heldout, config.max_seconds, config.target_psnr, config.max_memory) == (0, None, None, None)


@pytest.mark.parametrize("shape", [(90,), (20, 30), (9, 10, 11), (2,), (1, 5)])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("fields", [{}, {"tile": "whole"}, {"observation": "box", "total_variation": "auto"}])
def test_a_trial_is_run_for_any_image(shape: tuple[int, ...], channels: int, fields: dict[str, Any]) -> None:
    found = ask(shape, channels, **fields)
    assert found.seconds > found.seconds_per_step > 0


def test_a_trial_is_run_for_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "_THREAD_WORK", 1_000_000)
    config = FitConfig.preset("paper", hidden_features=32, hidden_layers=2)
    found = estimate((512, 768), 3, config, "cpu")
    assert found.seconds > config.max_steps * found.seconds_per_step > 0


class Clock:
    """A controlled clock, with the steps of a fit and the seconds of each step."""

    def __init__(self, begin: float, steps: list[float], end: float) -> None:
        self.now, self.begin, self.steps, self.end = 100.0, begin, steps, end
        self.taken = 0

    def perf_counter(self) -> float:
        return self.now

    def fit_iter(self, *_: Any, **__: Any) -> Clock:
        self.now += self.begin
        return self

    def __next__(self) -> None:
        self.now += self.steps[self.taken]
        self.taken += 1

    def stop(self) -> None:
        self.now += self.end


def timed(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> Estimate:
    monkeypatch.setattr(tiles, "time", clock)
    monkeypatch.setattr(tiles, "fit_iter", clock.fit_iter)
    return ask(max_steps=100)


def test_a_trial_leaves_out_the_first_step_and_what_came_between(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(0.5, [0.1, *[0.01] * 5, 0.05, *[0.01] * 3, 0.04], 2.0)
    found = timed(monkeypatch, clock)
    # A tenth of the evaluation, which takes 0.03 s, is added.
    assert found.seconds_per_step == pytest.approx(0.013)
    assert found.seconds == pytest.approx(0.5 + 1.3 + 2.0)


@pytest.mark.parametrize(("slow", "steps"), [(3.0, 2), (0.11, 3)])
def test_a_trial_of_slow_steps_takes_few_of_them(monkeypatch: pytest.MonkeyPatch, slow: float, steps: int) -> None:
    clock = Clock(0.5, [slow] * 20, 2.0)
    assert timed(monkeypatch, clock).seconds_per_step == pytest.approx(slow)
    assert clock.taken == steps


# ---- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trial", [True, False])
def test_a_device_that_is_not_there_is_told(trial: bool) -> None:
    for device in ("abacus", "cuda:99"):
        with pytest.raises(DeviceError, match=device):
            estimate((64, 64), 1, FitConfig(), device, trial)


@pytest.mark.parametrize("shape", [(), (1, 1), (0, 5), (-3, -3), (2, 2, 2, 2)])
def test_a_size_that_no_image_has_is_told(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="1 to 3 axes"):
        ask(shape)


def test_no_channels_are_told() -> None:
    with pytest.raises(InputError, match="0 channels"):
        ask((5, 5), 0)


def test_an_engine_that_is_not_to_be_had_is_told(trials: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_siren.core.engines.registry.kernel", lambda: Kernel(None, "no compiler"))
    assert ask().engine == "torch"
    with pytest.raises(ConfigError, match="no compiler"):
        ask(engine="native")


@pytest.mark.parametrize(
    ("shape", "fields", "spacing"),
    [
        ((64, 80), {"name": "denoise", "pretrained": None, "task_steps": 100}, None),
        ((64, 80), {"name": "deblur", "task_steps": 100_000}, (0.1, 0.1)),
        ((9, 40, 40), {"name": "upscale", "task_steps": 100}, (4.0, 1.0, 1.0)),
    ],
)
def test_what_is_learned_takes_its_time(
    shape: tuple[int, ...], fields: dict[str, Any], spacing: tuple[float, ...] | None
) -> None:
    config = FitConfig.preset(**fields, max_steps=10)
    learning = estimate(shape, 1, config, "cpu", spacing=spacing)
    assert learning.seconds is not None
    assert learning.seconds_per_step is not None
    # In addition to the time of the tiles.
    assert learning.seconds > config.task_steps * learning.seconds_per_step > 0
    # The result is remembered.
    assert estimate(shape, 1, config, "cpu", trial=False, spacing=spacing) == learning


def test_what_was_learned_before_takes_no_time() -> None:
    seconds = []
    for pretrained in ("auto", None):
        found = estimate((64, 80), 1, FitConfig.preset("upscale", pretrained=pretrained, max_steps=10), "cpu")
        assert found.seconds is not None
        seconds.append(found.seconds)
    # 2000 steps less.
    assert 0 < 5 * seconds[0] < seconds[1]


def test_a_stack_of_cubes_has_nothing_to_learn() -> None:
    config = FitConfig.preset("upscale", max_steps=10)
    cubes = estimate((9, 40, 40), 1, config, "cpu")
    assert cubes.seconds == estimate((9, 40, 40), 1, config.override(task_steps=0), "cpu").seconds
