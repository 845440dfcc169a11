"""`TileJob`: a fit of tiles to estimate, and its trial: a short fit of the same kind to a small synthetic image."""

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

from napari_siren.core.cost.base import Estimate
from napari_siren.core.device import describe_device
from napari_siren.core.engines import choose_device, choose_engine
from napari_siren.core.field.tiling import Tiling
from napari_siren.core.fit import fit_iter
from napari_siren.core.image.axes import SPATIAL_AXES
from napari_siren.core.settings.config import FitConfig
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
EVALUATION_EVERY = 10
# Seconds after which a trial with slow steps ends.
_TRIAL_SECONDS = 0.3


def estimate_tiles(
    spatial_shape: Sequence[int], channels: int, config: FitConfig, device: str, trial: bool
) -> Estimate:
    """Estimate a fit of tiles without a restoration."""
    job = TileJob.from_config(spatial_shape, channels, config, device)
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


@dataclass(frozen=True)
class Rates:
    """Seconds for each sample of a tile: before all steps, in a step, and after all steps."""

    before: float
    step: float
    after: float


# Measured rates of fits, by `TileJob.key`.
KNOWN_RATES: dict[tuple[Any, ...], Rates] = {}
TRIAL_LOCK = threading.Lock()


@dataclass(frozen=True)
class TileJob:
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
    def from_config(cls, spatial_shape: Sequence[int], channels: int, config: FitConfig, device: str) -> TileJob:
        """Plan a fit. Raises `InputError` if an image cannot have this size."""
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

    def rates(self, *, measure: bool) -> Rates | None:
        """Return the rates. If they are not known, measure them in a trial, or return None without `measure`."""
        key = self.key
        if key in KNOWN_RATES or not measure:
            return KNOWN_RATES.get(key)
        with TRIAL_LOCK:
            # Another thread may have measured them while this one waited.
            if key not in KNOWN_RATES:
                KNOWN_RATES[key] = _measure(self.trial)
            return KNOWN_RATES[key]

    def record(self, step: float) -> None:
        """Correct the rates by the measured seconds of a step, if there are rates."""
        rates = KNOWN_RATES.get(self.key)
        if rates is not None:
            KNOWN_RATES[self.key] = replace(rates, step=step / self.samples)

    @cached_property
    def trial(self) -> TileJob:
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
            max_steps=EVALUATION_EVERY + 1,
            max_seconds=None,
            target_psnr=None,
            heldout=0.0,
            max_memory=None,
            memory_fraction=0.95,
        )
        plan = plan_fit(shape, self.channels, config)
        return TileJob(shape, self.channels, config, self.device, plan, self.engine, self.threads)

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


def _measure(trial: TileJob) -> Rates:
    """Run a trial, and return its rates."""
    axes = SPATIAL_AXES[-len(trial.spatial_shape) :] + "C"
    # The time does not depend on the values of the image.
    image = np.random.default_rng(0).integers(0, 256, (*trial.spatial_shape, trial.channels), dtype=np.uint8)
    start = time.perf_counter()
    steps = fit_iter(image, axes=axes, config=trial.config, device=str(trial.device))
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
    if len(durations) == EVALUATION_EVERY:
        step += max(0.0, durations[-1] - step) / EVALUATION_EVERY
    return Rates((ready - start) / trial.samples, step / trial.samples, after / trial.samples)
