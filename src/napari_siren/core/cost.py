"""`estimate`: how long a fit will take and how large it is, known before it starts."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch

from napari_siren.core.config import FitConfig
from napari_siren.core.device import describe_device
from napari_siren.core.engines import choose_device, choose_engine
from napari_siren.core.field.tiling import Tiling
from napari_siren.core.fit import fit_iter
from napari_siren.core.image.axes import SPATIAL_AXES
from napari_siren.core.image.samples import Samples
from napari_siren.core.restoration.base import Lesson
from napari_siren.core.restoration.pipeline import DRAFT_STEPS, tile_config
from napari_siren.core.restoration.super_resolution import FLIPS
from napari_siren.core.result import FitResult
from napari_siren.core.training.plan import LEAST_TILE, Plan, memory_bound, plan_fit
from napari_siren.errors import InputError

# Bounds of a step of a trial: multiply-adds of the forward pass for each thread of a CPU, about 50 ms of work, and on a
# GPU, which needs far more to be busy; and samples, which take time to make.
_THREAD_WORK = 500_000_000
_GPU_WORK = 50_000_000_000
_MOST_SAMPLES = 500_000
# With fewer samples the optimiser, whose work does not depend on them, would weigh too much.
_LEAST_SAMPLES = 256
# Threads take tiles: with fewer of them a trial would be slower than the fit it stands for.
_TILES_PER_THREAD = 4
# The first step warms up, and the last takes a look at the fit, as every tenth does. Where steps are slow, a trial ends
# after so many seconds.
_LOOK_EVERY = 10
_TRIAL_SECONDS = 0.3


@dataclass(frozen=True)
class Estimate:
    """What a fit will take.

    Parameters
    ----------
    seconds
        For the whole fit: all steps and what comes before and after them. None while it is not known.
    memory
        Bytes of the working set.
    tiles, parameters
        Number of tiles, and of the parameters of all their networks together.
    engine
        "native" or "torch".
    device
        As people know it, such as ``"cpu (8 threads)"``.
    fits
        Whether `memory` is within what the settings allow, and the device has free now.
    seconds_per_step
        None while it is not known.
    """

    seconds: float | None
    memory: int
    tiles: int
    parameters: int
    engine: str
    device: str
    fits: bool
    seconds_per_step: float | None


def estimate(
    spatial_shape: Sequence[int],
    channels: int,
    config: FitConfig,
    device: str = "auto",
    trial: bool = True,
    spacing: Sequence[float] | None = None,
) -> Estimate:
    """Estimate what a fit will take.

    The time is scaled from a trial, a fit of a few steps to a small synthetic image by the same networks, which takes
    about half a second. Trials are remembered as long as the process lives. What else goes on in the machine during a
    trial makes it slower. May be called from any thread; only one trial runs at a time.

    Parameters
    ----------
    spatial_shape, channels
        Of the image: pixels along each of 1 to 3 axes.
    config
        The settings.
    device
        As in `fit`.
    trial
        Whether to run a trial where there was none yet; without it the time may be None, and the answer comes at once
        (but for the compilation of the kernel, the first time on a machine).

    Raises
    ------
    InputError
        There is no image of such a size.
    DeviceError
        The device is not there.
    ConfigError
        The engine asked for is not to be had.

    Examples
    --------
    >>> from napari_siren import FitConfig
    >>> found = estimate((512, 768), 3, FitConfig.preset("faithful"), device="cpu", trial=False)
    >>> found.tiles, found.parameters
    (486, 1121202)
    """
    pupil = _pupil(spatial_shape, channels, config, spacing)
    if pupil is not None:
        return _with_learning(pupil, spatial_shape, channels, config, device, trial)
    job = _Job.of(spatial_shape, channels, config, device)
    rates = job.rates(measure=trial)
    step = seconds = None
    if rates is not None:
        step = rates.step * job.samples
        steps = min(step * config.max_steps, config.max_seconds or math.inf)
        seconds = steps + (rates.before + rates.after) * job.samples
    memory, tiles = job.plan.total, job.plan.tiling.count
    return Estimate(
        seconds,
        memory,
        tiles,
        tiles * job.plan.shape.parameters,
        job.engine,
        describe_device(job.device),
        memory <= memory_bound(config, job.device),
        step,
    )


def _pupil(
    spatial_shape: Sequence[int], channels: int, config: FitConfig, spacing: Sequence[float] | None
) -> _Pupil | None:
    """Return a small synthetic image and what it can learn of itself; None where such an image would learn nothing."""
    if config.learning_steps == 0 or not 1 <= len(spatial_shape) <= len(SPATIAL_AXES):
        return None
    sides = [min(int(side), _LEARNING_SIDE) for side in spatial_shape]
    if len(sides) == len(SPATIAL_AXES):
        sides[0] = min(sides[0], _LEARNING_SLICES)
    axes = ("C" if channels > 1 else "") + SPATIAL_AXES[-len(sides) :]
    image = np.random.default_rng(0).random((channels, *sides) if channels > 1 else sides, dtype=np.float32)
    samples = Samples.from_array(image, axes, spacing)
    if config.psf_width == "auto":
        config = config.override(psf_width=_BLUR * min(samples.format.spacing))
    lesson = Lesson.of(samples, config)
    return None if lesson is None else _Pupil(samples, lesson, config)


def _with_learning(
    pupil: _Pupil,
    spatial_shape: Sequence[int],
    channels: int,
    config: FitConfig,
    device: str,
    trial: bool,
) -> Estimate:
    """Estimate a fit that first learns something from the image."""
    layout, lesson = pupil.samples.format, pupil.lesson
    growth = [n / m for n, m in zip(lesson.shape, layout.spatial_shape, strict=True)]
    told = [round(n * factor) for n, factor in zip(spatial_shape, growth, strict=True)]
    tiles = estimate(told, channels, tile_config(config, DRAFT_STEPS + config.max_steps), device, trial)
    where = choose_device(device)
    key = (describe_device(where), lesson.kind, channels, *lesson.shape, layout.spacing, config.precision)
    if trial and key not in _LEARNING:
        with _TRIAL_LOCK:
            _LEARNING[key] = _time_learning(pupil, where)
    if tiles.seconds is None or key not in _LEARNING:
        return tiles
    step, sample = _LEARNING[key]
    if lesson.kind == "blur":  # each step sees the whole image
        step *= math.prod(spatial_shape) / math.prod(layout.spatial_shape)
    learning = step * config.learning_steps + sample * math.prod(told)
    seconds = min(learning + tiles.seconds, config.max_seconds or math.inf)
    return replace(tiles, seconds=seconds, seconds_per_step=step)


def _time_learning(pupil: _Pupil, device: torch.device) -> tuple[float, float]:
    """Seconds of a step of the learning, and of telling a sample."""
    lesson = pupil.lesson
    teacher = lesson.teacher(pupil.samples, pupil.config, device, 0)
    ends = [time.perf_counter()]
    for _ in range(_LEARNING_STEPS):
        teacher.step(0.0)
        ends.append(time.perf_counter())
    teacher.predict(lesson.shape, flips=1)
    telling = (time.perf_counter() - ends[-1]) * _FLIPS.get(lesson.kind, 1) / math.prod(lesson.shape)
    return float(np.median(np.diff(ends)[1:])), telling


def learn(result: FitResult, device: str = "auto") -> None:
    """Let a fit that has just ended correct what is estimated for others like it.

    Nothing happens where nothing had been estimated, or the fit had too few steps to tell.

    Parameters
    ----------
    result
        Of a fit in this process.
    device
        What was given to `fit`.
    """
    seconds = result.history.seconds
    job = _Job.of(result.field.format.spatial_shape, result.field.format.channels, result.config, device)
    rates = _KNOWN.get(job.key)
    if rates is not None and len(seconds) > _LOOK_EVERY:
        step = (seconds[-1] - seconds[0]) / (len(seconds) - 1)
        _KNOWN[job.key] = replace(rates, step=step / job.samples)


@dataclass(frozen=True)
class _Rates:
    """Seconds for each sample of a tile: in a step, and before and after all steps."""

    before: float
    step: float
    after: float


_KNOWN: dict[tuple[Any, ...], _Rates] = {}
_TRIAL_LOCK = threading.Lock()
# Seconds of a step of learning, and of telling a sample.
_LEARNING: dict[tuple[Any, ...], tuple[float, float]] = {}
_LEARNING_STEPS = 6
# A step sees no more of an image than so many pixels along a side; slices are asked about one by one.
_LEARNING_SIDE, _LEARNING_SLICES = 128, 8
# Width of a PSF, in pixels, in place of one that is to be estimated.
_BLUR = 3.0
# How often the image is told, in turns and flips, of which the mean is taken.
_FLIPS = {"copies": len(FLIPS), "slices": 2, "noise": 4}


@dataclass(frozen=True)
class _Pupil:
    """A small image, what it learns of itself, and how."""

    samples: Samples
    lesson: Lesson
    config: FitConfig


@dataclass(frozen=True)
class _Job:
    """A fit that is asked about.

    Parameters
    ----------
    spatial_shape, channels, config, device, plan
        Of the fit.
    engine, threads
        That it will have.
    """

    spatial_shape: tuple[int, ...]
    channels: int
    config: FitConfig
    device: torch.device
    plan: Plan
    engine: str
    threads: int

    @classmethod
    def of(cls, spatial_shape: Sequence[int], channels: int, config: FitConfig, device: str) -> _Job:
        whole = min((*spatial_shape, channels)) >= 1 and math.prod(spatial_shape) > 1
        if not (whole and len(spatial_shape) <= len(SPATIAL_AXES)):
            raise InputError(
                f"there is no image of shape {tuple(spatial_shape)} with {channels} channels to fit; "
                "give 1 to 3 axes, 2 pixels or more, and 1 channel or more."
            )
        where = choose_device(device)
        plan = plan_fit(spatial_shape, channels, config)
        threads = config.threads or torch.get_num_threads()
        engine = choose_engine(config.engine, where, plan.shape, plan.tiling.count, threads=threads)
        return cls(tuple(spatial_shape), channels, config, where, plan, engine.name, threads)

    @property
    def samples(self) -> int:
        """Samples of all tiles: what time is in proportion to."""
        return self.plan.tiling.count * math.prod(self.plan.tiling.tile_shape)

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """Everything that the rates depend on.

        The size of the trial is part of it, coarsely: a tile takes some time apart from its samples, and a step apart
        from its tiles.
        """
        config, tiling = self.config, self.trial.plan.tiling
        sizes = (tiling.count, math.prod(tiling.tile_shape))
        return (
            describe_device(self.device),
            self.engine,
            self.threads,
            self.plan.shape,
            self._evaluations,
            config.total_variation != 0,
            config.optimizer,
            *(round(math.log2(size)) for size in sizes),
        )

    def rates(self, *, measure: bool) -> _Rates | None:
        """Return the rates; those not known come from a trial, where it may be run."""
        key = self.key
        if key in _KNOWN or not measure:
            return _KNOWN.get(key)
        with _TRIAL_LOCK:
            # Another thread may have found them while this one waited.
            if key not in _KNOWN:
                _KNOWN[key] = _measure(self.trial)
            return _KNOWN[key]

    @cached_property
    def trial(self) -> _Job:
        """A short fit like this one, of as many of its tiles as do; they are cut smaller where they are large."""
        tiling = self.plan.tiling
        most, samples = self._most_samples, math.prod(tiling.tile_shape)
        tiles = min(tiling.count, max(most // samples, _TILES_PER_THREAD * self.threads))
        shrink = min(1.0, most / (tiles * samples)) ** (1 / len(tiling.axes))
        shape, tile = self.spatial_shape, self.config.tile
        if shrink < 1 or tiles < tiling.count:
            shape, tile = _corner(tiling, tiles, shrink)
        config = self.config.override(
            tile=tile,
            engine=self.engine,  # which the smaller size might change
            max_steps=_LOOK_EVERY + 1,
            max_seconds=None,
            target_psnr=None,
            heldout=0.0,
            max_memory=None,
            memory_fraction=0.95,
        )
        plan = plan_fit(shape, self.channels, config)
        return _Job(shape, self.channels, config, self.device, plan, self.engine, self.threads)

    @property
    def _evaluations(self) -> int:
        """Evaluations of a network for each sample."""
        return self.config.subsamples ** len(self.spatial_shape) if self.config.sees_area else 1

    @property
    def _most_samples(self) -> int:
        """Bound for the samples of a trial."""
        work = _THREAD_WORK * self.threads if self.device.type == "cpu" else _GPU_WORK
        return max(_LEAST_SAMPLES, min(_MOST_SAMPLES, work // (self.plan.shape.parameters * self._evaluations)))


def _corner(tiling: Tiling, tiles: int, shrink: float) -> tuple[tuple[int, ...], int | Literal["whole"]]:
    """Shape of an image, and its side of a tile, that has at most so many of the tiles, their sides shrunk."""
    counts = list(tiling.counts)
    while math.prod(counts) > tiles:
        longest = counts.index(max(counts))
        counts[longest] = -(-counts[longest] // 2)
    sides = [shrink * axis.size / axis.count for axis in tiling.axes]
    # An axis that is not cut stays so.
    uncut = [min(axis.size, max(2, round(side))) for axis, side in zip(tiling.axes, sides, strict=True)]
    if tiling.count == 1:
        return tuple(uncut), "whole"
    tile = max(LEAST_TILE, *(math.ceil(side) for side, axis in zip(sides, tiling.axes, strict=True) if axis.count > 1))
    parts = zip(tiling.axes, counts, uncut, strict=True)
    return tuple(count * tile if axis.count > 1 else side for axis, count, side in parts), tile


def _measure(trial: _Job) -> _Rates:
    """Run a trial."""
    axes = SPATIAL_AXES[-len(trial.spatial_shape) :] + "C"
    # What is in the image does not matter to the time.
    image = np.random.default_rng(0).integers(0, 256, (*trial.spatial_shape, trial.channels), dtype=np.uint8)
    began = time.perf_counter()
    steps = fit_iter(image, axes, config=trial.config, device=str(trial.device))
    ready = time.perf_counter()
    ends = [ready]
    while len(ends) < 3 or (len(ends) <= trial.config.max_steps and ends[-1] - ready < _TRIAL_SECONDS):
        next(steps)
        ends.append(time.perf_counter())
    steps.stop()
    after = time.perf_counter() - ends[-1]
    taken = np.diff(ends)[1:].tolist()
    # The lower quartile, since what else goes on for a moment only makes steps slower.
    step = sorted(taken)[len(taken) // 4]
    if len(taken) == _LOOK_EVERY:
        step += max(0.0, taken[-1] - step) / _LOOK_EVERY
    return _Rates((ready - began) / trial.samples, step / trial.samples, after / trial.samples)
