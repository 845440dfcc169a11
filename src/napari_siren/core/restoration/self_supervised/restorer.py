"""`SelfSupervisedRestorer`: a residual network, trained on random pairs from one image."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from napari_siren.core.clock import Cancellation
from napari_siren.core.network.optimizer import NetworkOptimizer
from napari_siren.core.restoration.self_supervised.network import LocalImplicitSiren

# Sizes of the network: number of convolutions and their features, number of sine layers and their features.
NETWORK = (7, 48, 3, 64)
# Factor of the network's outputs, in units of half the image's range. The corrections of a plain estimate are small.
OUTPUT_SCALE = 0.2
# Number of steps of the warm-up of the step sizes, and their share at the end.
_WARM_UP, _FINAL_RATE = 50, 0.02
# Norm to which larger gradients are clipped.
_LARGEST_GRADIENT = 1.0
# Replacement of a network without progress. After `_PATIENCE` steps its error must be smaller than that of the plain
# estimate by at least the share `_LEAST_GAIN`. Otherwise it does not improve any more, and a new network starts with
# step sizes multiplied by `_SLOWER`.
_PATIENCE, _LEAST_GAIN, _SLOWER = 200, 0.01, 0.5
# Number of steps over which the errors are averaged for this comparison.
_MEMORY = 50


@dataclass(frozen=True)
class _TrainingState:
    """The state of the training of a network.

    Parameters
    ----------
    attempt
        Number of earlier networks.
    start
        First step of this network.
    error, plain_error
        Running means of the absolute error of the network, and of the plain estimate.
    """

    attempt: int
    start: int
    error: float = 0.0
    plain_error: float = 0.0

    def after(self, error: float, plain_error: float) -> _TrainingState:
        """Return the state after one more step with these errors."""
        share = 1 / _MEMORY
        mean = [old + share * (new - old) for old, new in ((self.error, error), (self.plain_error, plain_error))]
        return replace(self, error=mean[0], plain_error=mean[1])


class SelfSupervisedRestorer(ABC):
    """A residual network, trained on random pairs from one image. It corrects a plain estimate of the pixels.

    Parameters
    ----------
    channels
        Number of channels of the image.
    device
        Device of the network.
    seed
        Seed of the initial parameters and of the pairs.
    low_precision
        Whether to compute in bfloat16 if this does not reduce the quality.
    """

    network_class = LocalImplicitSiren
    default_passes: ClassVar[int] = 1
    whole_image: ClassVar[bool] = False
    # Number of inputs of the network for each channel.
    inputs_per_channel = 1
    # Step sizes: the spectral norm of a step of a hidden matrix (Muon), and Adam's for all other parameters.
    rates = (0.03, 2e-3)
    # Whether the loss is the squared error. Otherwise it is the absolute error.
    squared = False
    # Whether a network without progress is replaced. With large steps a few networks fail. If nearly all of the error
    # is noise, the error does not show which ones.
    replaced = False
    # The training uses all its steps.
    finished = False
    ready: ClassVar[bool] = False
    tiled: ClassVar[bool] = True
    adapting = False
    steps_left: ClassVar[Mapping[str, int]] = {}

    def __init__(self, channels: int, device: torch.device, seed: int, low_precision: bool) -> None:
        self.channels, self.device, self._seed, self._low_precision = channels, device, seed, low_precision
        self.step_count = 0
        self.cancellation = Cancellation()
        self._course = _TrainingState(0, 0)
        self._begin(self._course)

    @abstractmethod
    def pair(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return the network's correction of the plain estimate for random pixels, and the true correction."""

    def step(self, done: float) -> float:
        """Compute one step on a random pair and return the mean squared error.

        Parameters
        ----------
        done
            Share of the training that is done, 0 to 1.
        """
        if self._has_failed():
            self._begin(_TrainingState(self._course.attempt + 1, self.step_count))
        course = self._course
        # Each step has its own random generator, so that the training can be continued from any step.
        rng = np.random.default_rng((self._seed, self.step_count))
        count = self.step_count - course.start
        with torch.enable_grad():
            prediction, details = self.pair(rng)
            residual = prediction - details
            loss = residual.square().mean() if self.squared else residual.abs().mean()
            self.network.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT)
        self._optimizer.step(_rate(count, done) * _SLOWER**course.attempt, count + 1)
        self.step_count += 1
        self._course = course.after(float(residual.detach().abs().mean()), float(details.abs().mean()))
        return float(residual.detach().square().mean())

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the state, on the CPU."""
        course = torch.tensor(astuple(self._course), dtype=torch.float64)
        tensors = {**self._tensors(), "step": torch.tensor(self.step_count), "course": course}
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a state, of the same image and settings.

        Raises
        ------
        KeyError
            A tensor is missing.
        """
        for name, tensor in self._tensors().items():
            tensor.detach().copy_(tensors[name])
        self.step_count = int(tensors["step"])
        attempt, start, *means = tensors["course"].tolist()
        self._course = _TrainingState(int(attempt), int(start), *means)

    def warm_start(self, tensors: Mapping[str, Tensor]) -> None:
        """Initialise the network with the state of another image, before the first step, if the shapes are equal."""
        mine = dict(self.network.named_parameters())
        if all(name in tensors and tensors[name].shape == tensor.shape for name, tensor in mine.items()):
            for name, tensor in mine.items():
                tensor.detach().copy_(tensors[name])

    def extra_metadata(self) -> dict[str, Any]:
        """Return no further results."""
        return {}

    def decode(self, features: Tensor, positions: tuple[np.ndarray, np.ndarray], sizes: tuple[float, float]) -> Tensor:
        """Decode features with `LocalImplicitSiren.decode`, and return the values in units of the image."""
        return OUTPUT_SCALE * self.network.decode(features, positions, sizes)

    def precision(self) -> AbstractContextManager[object]:
        """Return the context for computations of the network: autocast to bfloat16, or no effect."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._low_precision)

    def _begin(self, course: _TrainingState) -> None:
        """Start with a new network."""
        generator = torch.Generator().manual_seed(self._seed + course.attempt)
        inputs = self.channels * self.inputs_per_channel
        self.network = self.network_class(inputs, *NETWORK, generator, outputs=self.channels).to(self.device)
        self._optimizer = NetworkOptimizer(self.network.hidden(), self.network.others(), *self.rates)
        self._course = course

    def _tensors(self) -> dict[str, Tensor]:
        return {**dict(self.network.named_parameters()), **self._optimizer.state()}

    def _has_failed(self) -> bool:
        """Return whether the network is to be replaced. This is checked once for each network."""
        course = self._course
        if not self.replaced or self.step_count - course.start != _PATIENCE:
            return False
        return course.error > (1 - _LEAST_GAIN) * course.plain_error


def _rate(step: int, done: float) -> float:
    """Return the share of the step sizes: a linear increase in the warm-up, then a decrease along a cosine."""
    decrease = _FINAL_RATE + (1 - _FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return decrease * min(1.0, (step + 1) / _WARM_UP)
