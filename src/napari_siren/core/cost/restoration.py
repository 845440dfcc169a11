"""Estimates of fits with a restoration: the times of its restorer are measured on a small synthetic image."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from napari_siren.core.cost.base import Estimate
from napari_siren.core.cost.tiles import TRIAL_LOCK, estimate_tiles
from napari_siren.core.device import describe_device
from napari_siren.core.engines import choose_device
from napari_siren.core.image.axes import SPATIAL_AXES
from napari_siren.core.image.samples import Samples
from napari_siren.core.restoration.base import Restoration, has_tiles
from napari_siren.core.restoration.pipeline import DRAFT_STEPS, tile_config
from napari_siren.core.restoration.pretrained.plan import adaptation_rounds
from napari_siren.core.restoration.pretrained.prediction import passes_for
from napari_siren.core.restoration.self_supervised.axial import AxialSuperResolution
from napari_siren.core.restoration.tasks import plan_restoration
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.plan import memory_bound
from napari_siren.errors import InputError

# Arrays of the restored samples in memory at a time, and bytes of a number. Measured with enlargements without tiles.
_ARRAYS, _FLOAT = 5, 4
# Measured times of restorers.
_RESTORATIONS: dict[tuple[Any, ...], _Times] = {}
# Number of steps of a probe; the first one is not counted.
_PROBE_STEPS = 6
# Largest side of a probe in pixels (a step uses a smaller crop), and its largest number of slices (predicted singly).
_PROBE_SIDE, _PROBE_SLICES = 128, 8
# Time of an adaptation that is not kept, in passes of a probe. Measured on three crops of 128 x 128 pixels at x2: 11 to
# 14. One that goes on takes 75.
_ADAPTATION = 12
# Number of channels of a colour image.
_COLOURS = 3
# Width of the PSF of a probe in pixels, if it is to be estimated from the image.
_BLUR = 3.0


@dataclass(frozen=True)
class _Times:
    """Seconds before the first step, of the first step beyond those of a step, of a step, and of a predicted sample."""

    start: float
    first: float
    step: float
    sample: float


@dataclass(frozen=True)
class Probe:
    """A small synthetic image and its restoration."""

    samples: Samples
    restoration: Restoration
    config: FitConfig


def probe_for(
    spatial_shape: Sequence[int], channels: int, config: FitConfig, spacing: Sequence[float] | None
) -> Probe | None:
    """Return a small synthetic image with its restoration, or None if such images are fitted by tiles alone."""
    if config.restoration is None or not 1 <= len(spatial_shape) <= len(SPATIAL_AXES):
        return None
    sides = [min(int(side), _PROBE_SIDE) for side in spatial_shape]
    if len(sides) == len(SPATIAL_AXES):
        sides[0] = min(sides[0], _PROBE_SLICES)
    letters = SPATIAL_AXES[-len(sides) :]
    # Three channels are probably colours, which take less time.
    colours = channels == _COLOURS and len(sides) == 2
    axes = letters + "C" if colours else "C" * (channels > 1) + letters
    shape = (*sides, channels) if colours else (channels, *sides) if channels > 1 else sides
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    samples = Samples.from_array(image, axes, spacing)
    if config.psf_width == "auto":
        config = config.override(psf_width=_BLUR * min(samples.layout.spacing))
    try:
        # The steps of an adaptation take another time than the passes.
        restoration = plan_restoration(samples, config.override(adapt="off"))
    except InputError:  # the fit will raise it too
        return None
    return None if restoration is None else Probe(samples, restoration, config)


def estimate_restoration(
    probe: Probe,
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
    target = choose_device(device)
    times = _restoration_times(probe, channels, target, trial)
    if has_tiles(config, restoration.restorer_class):
        steps = DRAFT_STEPS + restoration.tile_settings.get("max_steps", config.max_steps)
        settings = tile_config(config, steps).override(**{**restoration.tile_settings, "max_steps": steps})
        result = estimate_tiles(fine, channels, settings, device, trial)
    else:
        result = _of_samples(spatial_shape, fine, channels, config, target)
    if result.seconds is None or times is None:
        return replace(result, seconds=None)
    step, restoring = _restoring(probe, times, spatial_shape, fine)
    seconds = min(restoring + result.seconds, config.max_seconds or math.inf)
    return replace(result, seconds=seconds, seconds_per_step=step)


def _restoring(probe: Probe, times: _Times, spatial_shape: Sequence[int], fine: Sequence[int]) -> tuple[float, float]:
    """Return the seconds of a step of a restorer, and of the whole restoration."""
    config, restoration, method = probe.config, probe.restoration, probe.restoration.restorer_class
    larger = math.prod(spatial_shape) / math.prod(probe.samples.layout.spatial_shape)
    step = times.step * (larger if method.whole_image else 1)
    denoised_picture = len(fine) == 2 and config.restoration is not None and config.restoration.removes == "noise"
    passes = passes_for(math.prod(fine), denoised_picture)
    count = passes if method.ready else restoration.steps or config.task_steps
    seconds = times.start + times.first * larger + step * count + times.sample * math.prod(fine)
    if method.ready and adaptation_rounds(config, spatial_shape, fine):
        seconds += times.step * _ADAPTATION
    return step, seconds


def _of_samples(
    spatial_shape: Sequence[int], fine: Sequence[int], channels: int, config: FitConfig, device: torch.device
) -> Estimate:
    """Estimate the memory of a result without tiles, whose samples take no time."""
    values = math.prod(fine) * channels
    memory = _FLOAT * (_ARRAYS * values + channels * math.prod(spatial_shape))
    return Estimate(
        0.0, memory, 0, values, "torch", describe_device(device), memory <= memory_bound(config, device), None
    )


def _restoration_times(probe: Probe, channels: int, device: torch.device, trial: bool) -> _Times | None:
    """Return the measured times of a restorer, or None if they are not known without a trial."""
    config, restoration = probe.config, probe.restoration
    about = (config.task, config.pretrained, channels, *restoration.shape, probe.samples.layout.spacing)
    key = (describe_device(device), restoration.restorer_class, *about, config.precision)
    if trial and key not in _RESTORATIONS:
        with TRIAL_LOCK:
            _RESTORATIONS[key] = _time_restoration(probe, device)
    return _RESTORATIONS.get(key)


def _time_restoration(probe: Probe, device: torch.device) -> _Times:
    """Measure the times of the restorer."""
    restoration = probe.restoration
    start = time.perf_counter()
    restorer = restoration.create(device, 0)
    ends = [time.perf_counter()]
    for _ in range(min(_PROBE_STEPS, restoration.steps or _PROBE_STEPS)):
        restorer.step(0.0)
        ends.append(time.perf_counter())
    restorer.predict(restoration.shape, passes=1)
    seconds = time.perf_counter() - ends[-1]
    per_sample = seconds * restoration.restorer_class.default_passes / math.prod(restoration.shape)
    durations = np.diff(ends)
    step = float(np.median(durations[1:]))
    # In the first step the pretrained networks denoise the slices of a stack.
    first = float(durations[0]) - step if restoration.restorer_class is AxialSuperResolution else 0.0
    return _Times(ends[0] - start, max(0.0, first), step, per_sample)
