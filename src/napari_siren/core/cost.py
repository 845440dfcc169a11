"""`estimate`: the expected time and memory of a fit, before it starts."""

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
from napari_siren.core.restoration.base import Restoration
from napari_siren.core.restoration.pipeline import DRAFT_STEPS, tile_config
from napari_siren.core.restoration.tasks import plan_restoration
from napari_siren.core.result import FitResult
from napari_siren.core.training.plan import LEAST_TILE, Plan, memory_bound, plan_fit
from napari_siren.errors import InputError

# Bounds of a step of a trial. Multiply-adds of the forward pass for each thread of a CPU (about 50 ms of work), and for
# a GPU, which needs far more to be busy. Number of samples, because making them takes time.
_THREAD_WORK = 500_000_000
_GPU_WORK = 50_000_000_000
_MOST_SAMPLES = 500_000
# Smallest number of samples of a trial. The optimiser's work does not depend on them, and would dominate with fewer.
_LEAST_SAMPLES = 256
# Smallest number of tiles for each thread. Threads share the tiles: with fewer, a trial would be slower than its fit.
_TILES_PER_THREAD = 4
# Number of steps between two evaluations of a fit (see `training.evaluation`). The first step of a trial is for warming
# up, and its last step has an evaluation.
_EVALUATION_EVERY = 10
# Seconds after which a trial with slow steps ends.
_TRIAL_SECONDS = 0.3


@dataclass(frozen=True)
class Estimate:
    """The expected time and memory of a fit.

    Parameters
    ----------
    seconds
        Seconds of the whole fit: all steps, and the work before and after them. None if it is not known.
    memory
        Working set in bytes.
    tiles, parameters
        Number of tiles, and total number of parameters of their networks.
    engine
        Name of the engine, such as "native" or "torch".
    device
        Description of the device, such as ``"cpu (8 threads)"``.
    fits
        Whether `memory` is within the bound of the settings, which may depend on the free memory of the device.
    seconds_per_step
        Seconds of a step. None if they are not known.
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
    """Estimate the time and the memory of a fit.

    The time is scaled from a trial: a fit of a few steps, with the same networks, to a small synthetic image. It takes
    about half a second. The results of trials are kept as long as the process runs. Other programs that run during a
    trial make it slower. The function may be called from any thread. Only one trial runs at a time.

    Parameters
    ----------
    spatial_shape, channels
        Number of pixels along each of the 1 to 3 spatial axes, and number of channels of the image.
    config
        Settings of the fit.
    device
        Device of the fit, as in `fit`.
    trial
        Whether to run a trial if there is no result of one. With False the time may be None, and the function returns
        immediately (except for the compilation of the kernel, the first time on a machine).
    spacing
        Distance between pixel centres along each spatial axis. Super-resolution of stacks depends on it. None is 1.

    Raises
    ------
    InputError
        An image cannot have this size.
    DeviceError
        The device does not exist.
    ConfigError
        The engine of the settings is not available.

    Examples
    --------
    >>> from napari_siren import FitConfig
    >>> expected = estimate((512, 768), 3, FitConfig.preset("faithful"), device="cpu", trial=False)
    >>> expected.tiles, expected.parameters
    (486, 1121202)
    """
    probe = _probe(spatial_shape, channels, config, spacing)
    if probe is not None:
        return _with_restoration(probe, spatial_shape, channels, config, device, trial)
    job = _Job.from_config(spatial_shape, channels, config, device)
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
        tiles * job.plan.network.parameters,
        job.engine,
        describe_device(job.device),
        memory <= memory_bound(config, job.device),
        step,
    )


def _probe(
    spatial_shape: Sequence[int], channels: int, config: FitConfig, spacing: Sequence[float] | None
) -> _Probe | None:
    """Return a small synthetic image with its restoration, or None if such images are fitted by tiles alone."""
    if config.restoration is None or not 1 <= len(spatial_shape) <= len(SPATIAL_AXES):
        return None
    sides = [min(int(side), _PROBE_SIDE) for side in spatial_shape]
    if len(sides) == len(SPATIAL_AXES):
        sides[0] = min(sides[0], _PROBE_SLICES)
    axes = ("C" if channels > 1 else "") + SPATIAL_AXES[-len(sides) :]
    image = np.random.default_rng(0).random((channels, *sides) if channels > 1 else sides, dtype=np.float32)
    samples = Samples.from_array(image, axes, spacing)
    if config.psf_width == "auto":
        config = config.override(psf_width=_BLUR * min(samples.layout.spacing))
    try:
        restoration = plan_restoration(samples, config)
    except InputError:  # the fit will raise it too
        return None
    return None if restoration is None else _Probe(samples, restoration, config)


def _with_restoration(
    probe: _Probe,
    spatial_shape: Sequence[int],
    channels: int,
    config: FitConfig,
    device: str,
    trial: bool,
) -> Estimate:
    """Estimate a fit with a restoration of the whole image."""
    layout, restoration = probe.samples.layout, probe.restoration
    growth = [n / m for n, m in zip(restoration.shape, layout.spatial_shape, strict=True)]
    fine = [round(n * factor) for n, factor in zip(spatial_shape, growth, strict=True)]
    steps = DRAFT_STEPS + restoration.tile_settings.get("max_steps", config.max_steps)
    settings = tile_config(config, steps).override(**{**restoration.tile_settings, "max_steps": steps})
    tiles = estimate(fine, channels, settings, device, trial)
    target, method = choose_device(device), restoration.restorer_class
    key = (describe_device(target), method, config.task, channels, *restoration.shape, layout.spacing, config.precision)
    if trial and key not in _RESTORATIONS:
        with _TRIAL_LOCK:
            _RESTORATIONS[key] = _time_restoration(probe, target)
    if tiles.seconds is None or key not in _RESTORATIONS:
        return tiles
    step, sample = _RESTORATIONS[key]
    if method.whole_image:
        step *= math.prod(spatial_shape) / math.prod(layout.spatial_shape)
    restoring = step * (restoration.steps or config.task_steps) + sample * math.prod(fine)
    return replace(tiles, seconds=min(restoring + tiles.seconds, config.max_seconds or math.inf), seconds_per_step=step)


def _time_restoration(probe: _Probe, device: torch.device) -> tuple[float, float]:
    """Return the seconds for a step of the restorer, and for the prediction of one sample."""
    restoration = probe.restoration
    restorer = restoration.create(device, 0)
    ends = [time.perf_counter()]
    for _ in range(_PROBE_STEPS):
        restorer.step(0.0)
        ends.append(time.perf_counter())
    restorer.predict(restoration.shape, passes=1)
    seconds = time.perf_counter() - ends[-1]
    per_sample = seconds * restoration.restorer_class.default_passes / math.prod(restoration.shape)
    return float(np.median(np.diff(ends)[1:])), per_sample


def record_timing(result: FitResult, device: str = "auto") -> None:
    """Correct later estimates of similar fits by the measured time of a finished fit.

    Nothing happens if there was no estimate for such a fit, or if the fit had too few steps.

    Parameters
    ----------
    result
        Result of a fit in this process.
    device
        Device that was passed to `fit`.
    """
    seconds = result.history.seconds
    job = _Job.from_config(result.field.layout.spatial_shape, result.field.layout.channels, result.config, device)
    rates = _KNOWN.get(job.key)
    if rates is not None and len(seconds) > _EVALUATION_EVERY:
        step = (seconds[-1] - seconds[0]) / (len(seconds) - 1)
        _KNOWN[job.key] = replace(rates, step=step / job.samples)


@dataclass(frozen=True)
class _Rates:
    """Seconds for each sample of a tile: before all steps, in a step, and after all steps."""

    before: float
    step: float
    after: float


# Measured rates of fits, by `_Job.key`.
_KNOWN: dict[tuple[Any, ...], _Rates] = {}
_TRIAL_LOCK = threading.Lock()
# Seconds for a step of a restorer, and for the prediction of one sample.
_RESTORATIONS: dict[tuple[Any, ...], tuple[float, float]] = {}
# Number of steps of a probe; the first one is not counted.
_PROBE_STEPS = 6
# Largest side of a probe in pixels (a step uses a smaller crop), and its largest number of slices (predicted singly).
_PROBE_SIDE, _PROBE_SLICES = 128, 8
# Width of the PSF of a probe in pixels, if it is to be estimated from the image.
_BLUR = 3.0


@dataclass(frozen=True)
class _Probe:
    """A small synthetic image and its restoration."""

    samples: Samples
    restoration: Restoration
    config: FitConfig


@dataclass(frozen=True)
class _Job:
    """A fit to estimate.

    Parameters
    ----------
    spatial_shape, channels, config, device, plan
        Shape of the image, number of its channels, and settings, device and plan of the fit.
    engine, threads
        Name of the engine, and number of its threads.
    """

    spatial_shape: tuple[int, ...]
    channels: int
    config: FitConfig
    device: torch.device
    plan: Plan
    engine: str
    threads: int

    @classmethod
    def from_config(cls, spatial_shape: Sequence[int], channels: int, config: FitConfig, device: str) -> _Job:
        valid = min((*spatial_shape, channels)) >= 1 and math.prod(spatial_shape) > 1
        if not (valid and len(spatial_shape) <= len(SPATIAL_AXES)):
            raise InputError(
                f"an image of shape {tuple(spatial_shape)} with {channels} channels cannot be fitted. "
                "Give 1 to 3 axes, 2 pixels or more, and 1 channel or more."
            )
        target = choose_device(device)
        plan = plan_fit(spatial_shape, channels, config)
        threads = config.threads or torch.get_num_threads()
        engine = choose_engine(config.engine, target, plan.network, plan.tiling.count, threads=threads)
        return cls(tuple(spatial_shape), channels, config, target, plan, engine.name, threads)

    @property
    def samples(self) -> int:
        """Number of samples of all tiles. The time is in proportion to it."""
        return self.plan.tiling.count * math.prod(self.plan.tiling.tile_shape)

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """Everything with an influence on the rates.

        This includes the size of the trial, coarsely: a tile takes some time in addition to its samples, and a step in
        addition to its tiles.
        """
        config, tiling = self.config, self.trial.plan.tiling
        sizes = (tiling.count, math.prod(tiling.tile_shape))
        return (
            describe_device(self.device),
            self.engine,
            self.threads,
            self.plan.network,
            self._evaluations,
            config.total_variation != 0,
            config.optimizer,
            *(round(math.log2(size)) for size in sizes),
        )

    def rates(self, *, measure: bool) -> _Rates | None:
        """Return the rates. If they are not known, measure them in a trial, or return None without `measure`."""
        key = self.key
        if key in _KNOWN or not measure:
            return _KNOWN.get(key)
        with _TRIAL_LOCK:
            # Another thread may have measured them while this one waited.
            if key not in _KNOWN:
                _KNOWN[key] = _measure(self.trial)
            return _KNOWN[key]

    @cached_property
    def trial(self) -> _Job:
        """A short fit of the same kind, with as many tiles as necessary. Large tiles are made smaller."""
        tiling = self.plan.tiling
        most, samples = self._most_samples, math.prod(tiling.tile_shape)
        tiles = min(tiling.count, max(most // samples, _TILES_PER_THREAD * self.threads))
        shrink = min(1.0, most / (tiles * samples)) ** (1 / len(tiling.axes))
        shape, tile = self.spatial_shape, self.config.tile
        if shrink < 1 or tiles < tiling.count:
            shape, tile = _corner(tiling, tiles, shrink)
        config = self.config.override(
            tile=tile,
            engine=self.engine,  # the choice might be different for the smaller size
            max_steps=_EVALUATION_EVERY + 1,
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
        """Number of evaluations of a network for each sample."""
        return self.config.subsamples ** len(self.spatial_shape) if self.config.sees_area else 1

    @property
    def _most_samples(self) -> int:
        """Largest number of samples of a trial."""
        work = _THREAD_WORK * self.threads if self.device.type == "cpu" else _GPU_WORK
        return max(_LEAST_SAMPLES, min(_MOST_SAMPLES, work // (self.plan.network.parameters * self._evaluations)))


def _corner(tiling: Tiling, tiles: int, shrink: float) -> tuple[tuple[int, ...], int | Literal["whole"]]:
    """Return shape and tile side of an image with at most `tiles` of the tiles, their sides multiplied by `shrink`."""
    counts = list(tiling.counts)
    while math.prod(counts) > tiles:
        longest = counts.index(max(counts))
        counts[longest] = -(-counts[longest] // 2)
    sides = [shrink * axis.size / axis.count for axis in tiling.axes]
    # An axis that is not cut stays uncut.
    uncut = [min(axis.size, max(2, round(side))) for axis, side in zip(tiling.axes, sides, strict=True)]
    if tiling.count == 1:
        return tuple(uncut), "whole"
    tile = max(LEAST_TILE, *(math.ceil(side) for side, axis in zip(sides, tiling.axes, strict=True) if axis.count > 1))
    parts = zip(tiling.axes, counts, uncut, strict=True)
    return tuple(count * tile if axis.count > 1 else side for axis, count, side in parts), tile


def _measure(trial: _Job) -> _Rates:
    """Run a trial, and return its rates."""
    axes = SPATIAL_AXES[-len(trial.spatial_shape) :] + "C"
    # The time does not depend on the values of the image.
    image = np.random.default_rng(0).integers(0, 256, (*trial.spatial_shape, trial.channels), dtype=np.uint8)
    start = time.perf_counter()
    steps = fit_iter(image, axes, config=trial.config, device=str(trial.device))
    ready = time.perf_counter()
    ends = [ready]
    while len(ends) < 3 or (len(ends) <= trial.config.max_steps and ends[-1] - ready < _TRIAL_SECONDS):
        next(steps)
        ends.append(time.perf_counter())
    steps.stop()
    after = time.perf_counter() - ends[-1]
    durations = np.diff(ends)[1:].tolist()
    # The lower quartile, because other programs can only make steps slower.
    step = sorted(durations)[len(durations) // 4]
    if len(durations) == _EVALUATION_EVERY:
        step += max(0.0, durations[-1] - step) / _EVALUATION_EVERY
    return _Rates((ready - start) / trial.samples, step / trial.samples, after / trial.samples)
