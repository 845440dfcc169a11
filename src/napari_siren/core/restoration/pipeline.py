"""`Upscaling`: a fit to what lies between the pixels as well; its parts, and how it goes on later.

First tiles are fitted to an interpolation of the image, to have something to show. Then a teacher learns what the image
can teach of itself (`Lesson`): what lies between pixels or slices, what is noise, blur, or drift. At last tiles are
fitted to what it tells of the image: the result is a field like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.clock import Stopwatch
from napari_siren.core.config import LEARNING, FitConfig
from napari_siren.core.field.field import Field
from napari_siren.core.forward.operator import Observation, pixel_model
from napari_siren.core.image.samples import ImageFormat, Samples
from napari_siren.core.progress import History, Progress
from napari_siren.core.restoration.base import Lesson, Teacher
from napari_siren.core.restoration.richardson_lucy import dark_level
from napari_siren.core.training.targets import filled
from napari_siren.core.training.trainer import Run, State, fingerprint
from napari_siren.errors import InputError, StorageError

# Steps of the tiles on the interpolated image, which take a fraction of a second.
DRAFT_STEPS = 40
# With a time limit: the share of it after which the learning has to be over.
_LEARNING_SHARE = 0.75
# Tiles are fitted to samples, at points: what the pixels see is in these already, and so is the prior.
_TO_SAMPLES: dict[str, Any] = {
    "observation": "point",
    "psf_width": None,
    "psf": None,
    "total_variation": 0.0,
    **dict.fromkeys(LEARNING, 0),
}
_NETWORK, _TILES = "cross_scale.", "tiles."


def steps_before(field: Field, config: FitConfig) -> int:
    """Return how many steps came before those that `max_steps` counts, in a fit that gave a field."""
    return 0 if field.observation is None else DRAFT_STEPS + config.learning_steps


def tile_config(config: FitConfig, max_steps: int, max_seconds: float | None = None) -> FitConfig:
    """Return the settings that tiles are fitted with."""
    return config.override(**_TO_SAMPLES, max_steps=max_steps, max_seconds=max_seconds)


class Upscaling:
    """A fit in progress, as `Run` is one.

    Parameters
    ----------
    samples, config, device, seed, state
        As of `Run`.
    lesson
        What there is to learn.
    """

    def __init__(
        self,
        samples: Samples,
        config: FitConfig,
        device: torch.device,
        seed: int,
        state: State | None,
        lesson: Lesson,
    ) -> None:
        self.samples, self.config, self.device, self.seed = samples, config, device, seed
        self.history = History()
        self.fingerprint = fingerprint(samples, config, lesson.frames)
        self.lesson = lesson
        sizes = samples.format.spatial_shape
        dimensions = len(sizes)
        self.observation = told_as(config, samples.format, lesson.shape)
        self._floor = dark_level(samples, config) if lesson.kind == "blur" else None
        values = torch.from_numpy(filled(samples.values, samples.observed)).to(device)
        interpolated = Observation.of("point", dimensions)(values, lesson.shape)
        self.tiles = self._tiles(interpolated, DRAFT_STEPS)
        self.clock = Stopwatch(0.0 if state is None else state.seconds)
        self.tiles.engine.check = self.clock.check
        self.teacher = lesson.teacher(samples, config, device, seed)
        self.step_count = 0
        self._start: Field | None = None
        if state is not None:
            self._load(state)

    def begin_from(self, field: Field, state: State | None = None) -> None:
        """Begin with the network that learned from an alike image, where `state` has one, and with its tiles."""
        learned = {} if state is None else _part(state, _NETWORK)
        self.teacher.begin_from(learned)
        self._start = field if learned else None

    @property
    def seconds(self) -> float:
        """Time spent, earlier sessions included."""
        return self.clock.seconds

    @property
    def max_steps(self) -> int:
        """Steps of all parts."""
        return self._fit_from + self.config.max_steps

    @property
    def engine_name(self) -> str:
        """That of the tiles."""
        return self.tiles.engine.name

    def step(self) -> Progress:
        """Take a step of the part whose turn it is."""
        if self.step_count == self._fit_from:
            self.tiles = self._final_tiles()
        if DRAFT_STEPS <= self.step_count < self._fit_from:
            loss: float | Callable[[], float] = self.teacher.step(self._learned())
            if self._learned() >= 1 or self.teacher.finished:  # the time for it is over, or all is learned
                self.step_count = self._fit_from - 1
        else:
            loss = self.tiles.step().measured_loss
        self.step_count += 1
        progress = self._progress(loss)
        self.history.add(progress)
        return progress

    def reached_target(self) -> bool:
        """Whether tiles came to the PSNR asked for, of what they are fitted to."""
        return self.step_count > self._fit_from and self.tiles.reached_target()

    def findings(self) -> dict[str, Any]:
        """Say what was found beside the field, for the provenance."""
        return self.teacher.findings()

    def seen_again(self, field: Field) -> npt.NDArray[Any]:
        """Return what the image's pixels see of a field, blur included, once it is rounded."""
        if self.lesson.kind == "blur":
            layout = self.samples.format
            field = replace(field, observation=pixel_model(self.config, layout.spacing))
        return field.reconstruct(of_rounded=True)

    def best_field(self) -> Field:
        """Return the best field so far."""
        if self.step_count <= DRAFT_STEPS or self.step_count > self._fit_from:
            return self._seen(self.tiles.best_field())
        tiles = self._tiles(self.teacher.predict(self.lesson.shape, 1), DRAFT_STEPS)
        for _ in range(DRAFT_STEPS):
            self.clock.check()
            tiles.step()
        return self._seen(tiles.best_field())

    def field(self) -> Field:
        """Return the field of the tiles as they are, whose memory it shares."""
        return self._seen(self.tiles.field())

    def state(self) -> State:
        """Return a copy of what is needed to go on."""
        tensors = {_NETWORK + name: tensor for name, tensor in self.teacher.state().items()}
        if self.step_count > self._fit_from:
            tensors |= {_TILES + name: tensor for name, tensor in self.tiles.state().tensors.items()}
        return State(self.step_count, self.seconds, self.seed, self.tiles.expected_mse, self.fingerprint, tensors)

    @property
    def _fit_from(self) -> int:
        """Steps before the last part."""
        return DRAFT_STEPS + self.config.learning_steps

    def _learned(self) -> float:
        """Share of the learning that is done, by steps or by time."""
        limit = self.config.max_seconds
        by_time = self.seconds / (_LEARNING_SHARE * limit) if limit else 0.0
        return max((self.step_count - DRAFT_STEPS) / self.config.learning_steps, by_time)

    def _final_tiles(self) -> Run:
        left = None if self.config.max_seconds is None else max(1e-3, self.config.max_seconds - self.seconds)
        tiles = self._tiles(self.teacher.predict(self.lesson.shape), self.config.max_steps, left)
        tiles.engine.check = self.clock.check
        if self._start is not None:
            tiles.begin_from(self._start)
        return tiles

    def _tiles(self, values: Tensor, max_steps: int, max_seconds: float | None = None) -> Run:
        fine = as_samples(self.samples.format, values.cpu().numpy())
        return Run(fine, tile_config(self.config, max_steps, max_seconds), self.device, self.seed)

    def _seen(self, field: Field) -> Field:
        return replace(
            field,
            format=self.samples.format,
            samples_per_pixel=math.ceil(self.config.detail),
            observation=self.observation,
            floor=self._floor,
        )

    def _progress(self, loss: float | Callable[[], float]) -> Progress:
        done, seconds = self.step_count / self.max_steps, self.seconds
        psnr = self.tiles.expected_psnr()
        left = seconds * (1 - done) / done
        return Progress(self.step_count, self.max_steps, seconds, loss, psnr, left, self.field)

    def _load(self, state: State) -> None:
        if state.fingerprint != self.fingerprint:
            raise InputError(
                "the saved state is of another image or of other settings. Use those that it was made with; only the "
                "limits may differ."
            )
        self.teacher = _teacher(self.lesson, self.samples, self.config, self.device, state)
        tiles = _part(state, _TILES)
        for _ in range(min(state.step, DRAFT_STEPS)):
            self.tiles.step()
        if tiles:
            self.tiles = self._final_tiles()
            inner = replace(
                state,
                step=state.step - self._fit_from,
                seconds=0.0,
                fingerprint=self.tiles.fingerprint,
                tensors=tiles,
            )
            self.tiles.resume(inner)
        self.step_count = state.step
        self.history.events.append((state.step, "resumed"))


def told_as(config: FitConfig, layout: ImageFormat, shape: Sequence[int]) -> Observation:
    """Say how pixels see a field that was fitted to samples of a shape: as points, where the samples are the pixels."""
    if tuple(shape) == layout.spatial_shape:
        return Observation.of("point", len(shape))
    return pixel_model(config, layout.spacing)


def learned_part(state: State) -> State:
    """Return of a state only what a fit of an alike image begins with, which is a small part of it."""
    return replace(state, tensors={name: t for name, t in state.tensors.items() if name.startswith(_NETWORK)})


def teacher_of(samples: Samples, config: FitConfig, device: torch.device, state: State) -> Teacher:
    """Return the network of a fit in a state as `Upscaling.state` gives it.

    Raises
    ------
    StorageError
        The state is of other settings, or damaged.
    """
    return _teacher(Lesson.of(samples, config), samples, config, device, state)


def _teacher(lesson: Lesson | None, samples: Samples, config: FitConfig, device: torch.device, state: State) -> Teacher:
    try:
        if lesson is None:
            raise KeyError("lesson")
        teacher = lesson.teacher(samples, config, device, state.seed)
        teacher.load(_part(state, _NETWORK))
    except (KeyError, RuntimeError) as error:
        raise StorageError(
            "the saved state is damaged: its tensors do not fit its settings. Start the fit anew."
        ) from error
    return teacher


def _part(state: State, prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in state.tensors.items() if name.startswith(prefix)}


def as_samples(layout: ImageFormat, values: np.ndarray) -> Samples:
    """Return normalised values on a finer grid as an image of its own, of the same extent and units."""
    sizes = values.shape[1:]
    spacing = tuple(
        length * n / size for length, n, size in zip(layout.spacing, layout.spatial_shape, sizes, strict=True)
    )
    shape = layout.from_channels_first(values).shape
    fine = ImageFormat(layout.axes, shape, "float32", spacing, layout.offset, layout.scale)
    return Samples.of_values(np.ascontiguousarray(values), fine)
