"""`RestorationFit`: a fit with a restoration of the whole image.

A fit has three parts. First, tiles are fitted to an interpolation of the image, for an early preview. Then a restorer
computes the restored image. Finally, tiles are fitted to the restored image, or the result is a spline through its
samples (see `FitConfig.representation`). A spline needs neither the first nor the last part, and a restorer with a
useful prediction from its first step does not need the first one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.clock import Cancellation, Stopwatch
from napari_siren.core.field.field import Field
from napari_siren.core.field.spline import SampleSpline
from napari_siren.core.forward.operator import ForwardOperator, pixel_model
from napari_siren.core.image.filling import interpolated
from napari_siren.core.image.samples import ImageLayout, Samples
from napari_siren.core.noise.record import noise_record
from napari_siren.core.progress import History, Phase, Progress
from napari_siren.core.restoration.base import Restoration, Restorer, has_tiles
from napari_siren.core.restoration.durations import Durations
from napari_siren.core.restoration.tasks import plan_restoration
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.checkpoint import Checkpoint, check_fingerprint, fingerprint
from napari_siren.core.training.trainer import TileTrainer
from napari_siren.errors import StorageError

# Steps of the tiles on the interpolated image. They take a fraction of a second.
DRAFT_STEPS = 40
# Share of a time limit after which the task has to be over.
_TASK_SHARE = 0.75
# Tiles are fitted to restored samples at points. The forward operator and the prior have had their effect in these.
_POINT_SETTINGS: dict[str, Any] = {
    "observation": "point",
    "psf_width": None,
    "psf": None,
    "total_variation": 0.0,
    "task": None,
    "task_steps": 0,
    "representation": "auto",
}
# Parts whose steps take about as long as those of another part.
_SIMILAR = {"learning": "drafting", "fitting": "drafting"}
_RESTORER, _TILES = "restorer.", "tiles."
# Prefix of the restorer's tensors in files of version 1 and 2.
_EARLIER_RESTORER = "cross_scale."


def steps_before(field: Field, config: FitConfig, provenance: Mapping[str, Any]) -> int:
    """Return the number of steps before those of `max_steps`, in the fit of a field.

    Parameters
    ----------
    field, config, provenance
        Field, settings and provenance of the result.
    """
    if field.observation is None:
        return 0
    return int(provenance.get("steps_before_tiles", DRAFT_STEPS + config.task_steps))


def tile_config(config: FitConfig, max_steps: int, max_seconds: float | None = None) -> FitConfig:
    """Return the settings for the fit of tiles to a restored image."""
    return config.override(**_POINT_SETTINGS, max_steps=max_steps, max_seconds=max_seconds)


class RestorationFit:
    """A fit in progress with a restoration of the whole image. It implements `FitInProgress`, like `TileTrainer`.

    Parameters
    ----------
    samples, config, device, seed
        Image, settings, device and random seed.
    state
        State of an earlier fit of the same image with the same settings, to continue from.
    restoration
        Task of the settings, planned for the image.
    """

    def __init__(
        self,
        samples: Samples,
        config: FitConfig,
        device: torch.device,
        seed: int,
        state: Checkpoint | None,
        restoration: Restoration,
    ) -> None:
        self.samples, self.config, self.device, self.seed = samples, config, device, seed
        self.history = History()
        self.fingerprint = fingerprint(samples, config, restoration.frames)
        self.restoration = restoration
        self.operator = operator_for(config, samples.layout, restoration.shape)
        self.clock = Stopwatch(0.0 if state is None else state.seconds)
        self.restorer = restoration.create(device, seed)
        self.cancellation: Cancellation = self.restorer.cancellation
        self.tiles = self._tiles(self._interpolated(), DRAFT_STEPS) if self._draft_steps else None
        self.step_count = 0
        self._start: Field | None = None
        # Durations of the steps of this session, and the time of the last step.
        self._durations = Durations()
        self._last_seconds = self.seconds
        # The spline through the restored samples, and the step to which it belongs.
        self._spline: tuple[int, SampleSpline] | None = None
        if state is not None:
            self._load(state)

    def warm_start(self, field: Field, state: Checkpoint | None = None) -> None:
        """Start from the fit of a similar image: from its network if `state` has one, and from its tiles."""
        tensors = {} if state is None else _restorer_tensors(state)
        self.restorer.warm_start(tensors)
        self._start = field if tensors else None

    @property
    def seconds(self) -> float:
        """Time spent, earlier sessions included."""
        return self.clock.seconds

    @property
    def max_steps(self) -> int:
        """Number of steps of all parts."""
        return self._steps_before + self._tile_steps

    @property
    def engine_name(self) -> str:
        """Name of the engine of the tiles, or "torch" without tiles."""
        return "torch" if self.tiles is None else self.tiles.engine.name

    def step(self) -> Progress:
        """Compute one step of the current part."""
        if self.step_count == self._steps_before:
            self.tiles = self._final_tiles()
            self._last_seconds = self.seconds  # the predictions for the tiles belong to no step
        if self._draft_steps <= self.step_count < self._steps_before:
            loss: float | Callable[[], float] = self.restorer.step(self._task_share())
            if self._task_share() >= 1 or self.restorer.finished:  # the time is over, or further steps are of no use
                self.step_count = self._steps_before - 1
        else:
            assert self.tiles is not None
            loss = self.tiles.step().measured_loss
            self._take_notes(self.tiles.history)
        self.step_count += 1
        self._record_time()
        progress = self._progress(loss)
        self.history.add(progress)
        return progress

    def reached_target(self) -> bool:
        """Return whether the tiles have reached the target PSNR of the restored image."""
        return self.step_count > self._steps_before and self.tiles is not None and self.tiles.reached_target()

    def extra_metadata(self) -> dict[str, Any]:
        """Return further results for the provenance: those of the restorer, settings of the tiles, removed noise."""
        metadata = {**self.restorer.extra_metadata(), "steps_before_tiles": self._steps_before}
        if self.config.restoration is not None and self.config.restoration.removes == "noise":
            metadata["noise"] = noise_record(self.samples, self.config)
        if self.has_tiles and self.restoration.tile_settings:
            metadata["tile_settings"] = dict(self.restoration.tile_settings)
        return metadata

    def predicted_pixels(self, field: Field) -> npt.NDArray[Any]:
        """Return the image's pixels as the observation model predicts them from a render, blur included."""
        return predicted_pixels(field, self.restoration.operator)

    def best_field(self) -> Field:
        """Return the best field so far."""
        if self.tiles is not None and (self.step_count <= self._draft_steps or self.step_count > self._steps_before):
            return self._with_operator(self.tiles.best_field())
        if not self.has_tiles or self.restorer.ready:
            return self._spline_field()
        tiles = self._tiles(self._restored(), DRAFT_STEPS)
        for _ in range(DRAFT_STEPS):
            self.cancellation.check()
            tiles.step()
        return self._with_operator(tiles.best_field())

    def field(self) -> Field:
        """Return the current field. It shares its memory with the tiles.

        Without tiles it is a spline through the interpolated image until the prediction is good.
        """
        if self.tiles is not None:
            return self._with_operator(self.tiles.field())
        if self.restorer.ready or self.step_count >= self._steps_before:
            return self._spline_field()
        return self._interpolated_field

    def state(self) -> Checkpoint:
        """Return a copy of the state."""
        tensors = {_RESTORER + name: tensor for name, tensor in self.restorer.state().items()}
        if self.step_count > self._steps_before and self.tiles is not None:
            tensors |= {_TILES + name: tensor for name, tensor in self.tiles.state().tensors.items()}
        mse = float("nan") if self.tiles is None else self.tiles.expected_mse
        return Checkpoint(self.step_count, self.seconds, self.seed, mse, self.fingerprint, tensors)

    @cached_property
    def _interpolated_field(self) -> Field:
        return self._with_operator(Field(SampleSpline(self._interpolated()), self.samples.layout))

    @property
    def has_tiles(self) -> bool:
        """Whether the result has tiles."""
        return has_tiles(self.config, self.restorer)

    @property
    def _draft_steps(self) -> int:
        """Number of steps of the first part."""
        return DRAFT_STEPS if self.has_tiles and not self.restorer.ready else 0

    @property
    def _steps_before(self) -> int:
        """Number of steps before the last part."""
        return self._draft_steps + self._task_steps

    @property
    def _task_steps(self) -> int:
        """Number of steps of the task."""
        return self.config.task_steps if self.restoration.steps is None else self.restoration.steps

    @property
    def _tile_steps(self) -> int:
        """Number of steps of the last part."""
        if not self.has_tiles:
            return 0
        return int(self.restoration.tile_settings.get("max_steps", self.config.max_steps))

    def _task_share(self) -> float:
        """Return the finished share of the task, by steps or by time, whichever is larger."""
        limit = self.config.max_seconds
        by_time = self.seconds / (_TASK_SHARE * limit) if limit else 0.0
        return max((self.step_count - self._draft_steps) / self._task_steps, by_time)

    def _interpolated(self) -> Tensor:
        values = torch.from_numpy(interpolated(self.samples)).to(self.device)
        return ForwardOperator.from_kind("point", values.ndim - 1)(values, self.restoration.shape)

    def _restored(self) -> Tensor:
        """Return the restored image as computed so far. All passes of a prediction are made at the end of the task."""
        shape, over = self.restoration.shape, self.step_count >= self._steps_before
        return self.restorer.predict(shape) if over and not self.restorer.ready else self.restorer.predict(shape, 1)

    def _spline_field(self) -> Field:
        if self._spline is None or self._spline[0] != self.step_count:
            self._spline = (self.step_count, SampleSpline(self._restored()))
        return self._with_operator(Field(self._spline[1], self.samples.layout))

    def _final_tiles(self) -> TileTrainer:
        remaining = None if self.config.max_seconds is None else max(1e-3, self.config.max_seconds - self.seconds)
        tiles = self._tiles(self._restored(), self._tile_steps, remaining)
        if self._start is not None:
            tiles.warm_start(self._start)
        return tiles

    def _tiles(self, values: Tensor, max_steps: int, max_seconds: float | None = None) -> TileTrainer:
        fine = Samples.on_grid(values.cpu().numpy(), self.samples.layout)
        settings = {**self.restoration.tile_settings, "max_steps": max_steps}
        config = tile_config(self.config, max_steps, max_seconds).override(**settings)
        return TileTrainer(fine, config, self.device, self.seed, cancellation=self.cancellation)

    def _with_operator(self, field: Field) -> Field:
        return replace(
            field,
            layout=self.samples.layout,
            samples_per_pixel=math.ceil(self.config.detail),
            observation=self.operator,
            floor=self.restoration.floor,
        )

    def _take_notes(self, history: History) -> None:
        """Move the notes of the tiles, which are logged already, to the history of the whole fit."""
        self.history.events += [(self.step_count, note) for note in history.notes]
        history.events.clear()

    def _progress(self, loss: float | Callable[[], float]) -> Progress:
        phase, seconds, psnr = self._phase(), self.seconds, self._expected_psnr()
        remaining = self._seconds_left(phase)
        return Progress(self.step_count, self.max_steps, seconds, loss, psnr, remaining, self.field, phase)

    def _phase(self) -> Phase:
        """Return the part to which the last step belongs."""
        step = self.step_count
        if step <= self._draft_steps:
            return Phase("drafting", step, self._draft_steps)
        if step > self._steps_before:
            return Phase("fitting", step - self._steps_before, self._tile_steps)
        name: Any = "learning" if not self.restorer.ready else "adapting" if self.restorer.adapting else "restoring"
        return Phase(name, step - self._draft_steps, self._task_steps)

    def _record_time(self) -> None:
        """Record the duration of the last step for its part."""
        seconds = self.seconds
        self._durations.add(self._phase().name, seconds - self._last_seconds)
        self._last_seconds = seconds

    def _seconds_left(self, phase: Phase) -> float | None:
        """Return the remaining time, or None if the duration of the steps of a part is not known."""
        steps: dict[str, int] = {phase.name: phase.steps - phase.step}
        if phase.name == "drafting":
            steps["learning"] = self._task_steps
        elif phase.name in ("restoring", "adapting"):
            steps = dict(self.restorer.steps_left)
        if phase.name != "fitting":
            steps["fitting"] = self._tile_steps
        remaining = self._durations.remaining(steps, _SIMILAR)
        limit = None if self.config.max_seconds is None else max(0.0, self.config.max_seconds - self.seconds)
        return limit if remaining is None else remaining if limit is None else min(remaining, limit)

    def _expected_psnr(self) -> float:
        return float("nan") if self.tiles is None else self.tiles.expected_psnr()

    def _load(self, state: Checkpoint) -> None:
        check_fingerprint(state, self.samples, self.config, self.restoration.frames)
        _load_restorer(self.restorer, state)
        tiles = _part(state, _TILES)
        for _ in range(min(state.step, self._draft_steps)):
            assert self.tiles is not None
            self.tiles.step()
        self.step_count = state.step
        if tiles:
            self.tiles = self._final_tiles()
            inner = replace(
                state,
                step=state.step - self._steps_before,
                seconds=0.0,
                fingerprint=self.tiles.fingerprint,
                tensors=tiles,
            )
            self.tiles.resume(inner)
        self.history.note_resumption(state.step)


def operator_for(config: FitConfig, layout: ImageLayout, shape: Sequence[int]) -> ForwardOperator:
    """Return the forward operator from a restored grid to the pixels: points, if the grid is that of the pixels."""
    if tuple(shape) == layout.spatial_shape:
        return ForwardOperator.from_kind("point", len(shape))
    return pixel_model(config, layout.spacing)


def predicted_pixels(field: Field, blur: ForwardOperator | None) -> npt.NDArray[Any]:
    """Return the image's pixels as predicted from a render of a field, rounded and clipped to the image's dtype.

    Parameters
    ----------
    field
        Result of a restoration.
    blur
        Forward operator that the restoration removed, or None if the field's own operator leads to the pixels.
    """
    observed = field if blur is None else replace(field, observation=blur)
    return observed.reconstruct(of_rounded=True)


def restorer_state(state: Checkpoint) -> Checkpoint:
    """Return only the restorer's part of a state, from which a fit of a similar image can start."""
    tensors = {_RESTORER + name: tensor for name, tensor in _restorer_tensors(state).items()}
    return replace(state, tensors=tensors)


def load_restorer(samples: Samples, config: FitConfig, device: torch.device, state: Checkpoint) -> Restorer:
    """Return the restorer of a fit in a state of `RestorationFit.state`.

    Raises
    ------
    StorageError
        The state belongs to other settings, or is damaged.
    """
    restoration = plan_restoration(samples, config)
    if restoration is None:
        raise StorageError(_DAMAGED)
    restorer = restoration.create(device, state.seed)
    _load_restorer(restorer, state)
    return restorer


_DAMAGED = "the saved state is damaged: its tensors do not match its settings. Start the fit anew."


def _load_restorer(restorer: Restorer, state: Checkpoint) -> None:
    try:
        restorer.load(_restorer_tensors(state))
    except (KeyError, RuntimeError, ValueError) as error:
        raise StorageError(_DAMAGED) from error


def _restorer_tensors(state: Checkpoint) -> dict[str, Tensor]:
    return _part(state, _RESTORER) or _part(state, _EARLIER_RESTORER)


def _part(state: Checkpoint, prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in state.tensors.items() if name.startswith(prefix)}
