"""`FitInProgress`: the common interface of a fit of tiles and a fit with a restoration."""

from __future__ import annotations

from typing import Any, Protocol

import numpy.typing as npt
import torch

from napari_siren.core.clock import Cancellation, Stopwatch
from napari_siren.core.field.field import Field
from napari_siren.core.image.samples import Samples
from napari_siren.core.progress import History, Progress
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.checkpoint import Checkpoint


class FitInProgress(Protocol):
    """A fit in progress, to be advanced step by step.

    Attributes
    ----------
    samples, config, device, seed
        Image, settings, device and random seed.
    history
        Course of the fit so far.
    clock
        Time spent.
    cancellation
        Request to end the fit without a result.
    step_count
        Number of steps so far, earlier sessions included.
    """

    samples: Samples
    config: FitConfig
    device: torch.device
    seed: int
    history: History
    clock: Stopwatch
    cancellation: Cancellation
    step_count: int

    @property
    def max_steps(self) -> int:
        """Largest number of steps."""
        ...

    @property
    def seconds(self) -> float:
        """Time spent, earlier sessions included."""
        ...

    @property
    def has_tiles(self) -> bool:
        """Whether the result has tiles, which further steps improve."""
        ...

    @property
    def engine_name(self) -> str:
        """Name of the engine."""
        ...

    def warm_start(self, field: Field, state: Checkpoint | None = None) -> None:
        """Start from the fit of a similar image, before the first step."""
        ...

    def step(self) -> Progress:
        """Compute one step."""
        ...

    def reached_target(self) -> bool:
        """Return whether the target PSNR was reached at the last evaluation."""
        ...

    def best_field(self) -> Field:
        """Return the best field so far. The fit is not changed."""
        ...

    def predicted_pixels(self, field: Field) -> npt.NDArray[Any] | None:
        """Return the image's pixels as the observation model predicts them from a render, blur included.

        None means that they are the reconstruction itself.
        """
        ...

    def extra_metadata(self) -> dict[str, Any]:
        """Return further results for the provenance, as plain values."""
        ...

    def state(self) -> Checkpoint:
        """Return a copy of the state."""
        ...
