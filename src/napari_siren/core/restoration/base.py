"""`Restorer` and `Restoration`: the interface of the implementations of restoration tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.clock import Cancellation
from napari_siren.core.engines import has_bfloat16
from napari_siren.core.forward.operator import ForwardOperator
from napari_siren.core.image.samples import Samples
from napari_siren.core.settings.config import FitConfig


class Restorer(Protocol):
    """An iterative solver of a restoration task for one image."""

    # Predictions that `predict` averages by default. The time of a prediction is in proportion to them.
    default_passes: ClassVar[int]
    # Whether the time of a step is in proportion to the size of the image.
    whole_image: ClassVar[bool]
    # Whether a prediction is better than interpolation from the first step.
    ready: ClassVar[bool]
    # Whether the result has tiles if the settings leave the choice ("auto").
    tiled: ClassVar[bool]
    # Whether the last step has changed a ready network.
    adapting: bool
    # Request to end a computation.
    cancellation: Cancellation

    @property
    def steps_left(self) -> Mapping[str, int]:
        """Largest number of remaining steps of a ready network, for "restoring" and "adapting"."""
        ...

    @property
    def finished(self) -> bool:
        """Whether further steps are of no use, however many are left."""
        ...

    def step(self, done: float) -> float:
        """Compute one step and return the mean squared error.

        Parameters
        ----------
        done
            Share of the steps that are done, 0 to 1.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the state, on the CPU."""
        ...

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a state.

        Raises
        ------
        KeyError
            A tensor is missing.
        RuntimeError
            The state belongs to another image.
        """
        ...

    def warm_start(self, tensors: Mapping[str, Tensor]) -> None:
        """Initialise the network with the state of another image, if the shapes are equal."""
        ...

    def predict(self, shape: Sequence[int], passes: int = ...) -> Tensor:
        """Return the restored image on a grid, (channels, *shape).

        Parameters
        ----------
        shape
            Shape of the grid.
        passes
            Number of predictions to average, of flipped and rotated images.
        """
        ...

    def extra_metadata(self) -> dict[str, Any]:
        """Return further results for the provenance, as plain values."""
        ...


@dataclass(frozen=True)
class Restoration:
    """A restoration task, applied to one image.

    Parameters
    ----------
    shape
        Shape of the grid of the restored image.
    restorer_class
        Class of the restorer.
    create
        Function of the device and the seed that returns the restorer.
    frames
        All frames of a burst, (frames, channels, *spatial), normalised. The first one is the image.
    operator
        Forward operator of the image's pixels, if the restored image differs from the image in its blur.
    floor
        Smallest value of each channel in the units of the image, or None.
    tile_settings
        Settings for the fit of the tiles, instead of those of the fit.
    steps
        Number of steps of the task, if the settings do not determine it.
    uses_pretrained
        Whether pretrained networks have a part in it.
    """

    shape: tuple[int, ...]
    restorer_class: type[Restorer]
    create: Callable[[torch.device, int], Restorer]
    frames: npt.NDArray[np.float32] | None = None
    operator: ForwardOperator | None = None
    floor: tuple[float, ...] | None = None
    tile_settings: Mapping[str, Any] = field(default_factory=dict)
    steps: int | None = None
    uses_pretrained: bool = False


Planner = Callable[[Samples, FitConfig, npt.NDArray[np.float32] | None], Restoration | None]
"""Plans a task for an image, settings and frames; None if the image does not allow it."""


def has_tiles(config: FitConfig, restorer: type[Restorer] | Restorer) -> bool:
    """Return whether the result of a restorer has tiles. Otherwise it is a spline through the restored samples."""
    return config.representation == "tiles" or (config.representation == "auto" and restorer.tiled)


def uses_bfloat16(config: FitConfig, device: torch.device) -> bool:
    """Return whether networks are trained in bfloat16 with some settings on a device."""
    return config.precision == "auto" and has_bfloat16(device)
