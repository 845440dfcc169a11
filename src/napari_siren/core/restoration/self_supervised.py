"""`Learner`: a network that is trained on pairs made of one image; how the training goes, and how it goes on later."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_siren.core.network.optimizer import NetworkOptimizer
from napari_siren.core.restoration.network import ConditionedSiren

# The network: convolutions and their width, sine layers and theirs.
_NETWORK = (7, 48, 3, 64)
# Its outputs, in units of half the image's range: what is added to a plain estimate is small.
_OUTPUT_SCALE = 0.2
# Steps until the step sizes are reached, and what is left of them at the end.
_WARM_UP, _FINAL_RATE = 50, 0.02
_LARGEST_GRADIENT = 1.0
# A network that after so many steps misses as much as the plain estimate does, but for this share, will not learn any
# more; a new one then begins with smaller steps. The means that tell go over about so many steps.
_PATIENCE, _LEAST_GAIN, _SLOWER = 200, 0.01, 0.5
_MEMORY = 50


@dataclass(frozen=True)
class _Course:
    """How the training of a network goes.

    Parameters
    ----------
    attempt
        How many networks there were before it.
    start
        The step that it began with.
    missed, details
        Running means of the absolute error, and of that of the plain estimate.
    """

    attempt: int
    start: int
    missed: float = 0.0
    details: float = 0.0

    def after(self, missed: float, details: float) -> _Course:
        """Return the course after a step more."""
        share = 1 / _MEMORY
        mean = [old + share * (new - old) for old, new in ((self.missed, missed), (self.details, details))]
        return replace(self, missed=mean[0], details=mean[1])


class Learner(ABC):
    """A network in training: what it is to add to a plain estimate of the pixels, so that the error is least.

    Parameters
    ----------
    channels
        Of the image.
    device
        Where the network is.
    seed
        Of the random start and of the pairs.
    rough
        Whether to calculate in bfloat16 where it does no harm.
    """

    network_class = ConditionedSiren
    # Of the network: what it sees, for each channel.
    looks = 1
    # Step sizes: the spectral norm of a step on a hidden matrix, and Adam's for the rest.
    rates = (0.03, 2e-3)
    # Whether the loss is the squared error, or the absolute one.
    squared = False
    # Whether a network that learns nothing is replaced: with large steps one in many ends so. Where nearly all of the
    # error is noise none can be told by it.
    replaced = False
    # It goes on learning to the last step.
    finished = False

    def __init__(self, channels: int, device: torch.device, seed: int, rough: bool) -> None:
        self.channels, self.device, self._seed, self._rough = channels, device, seed, rough
        self.step_count = 0
        self._course = _Course(0, 0)
        self._begin(self._course)

    @abstractmethod
    def pair(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return what the network adds to the plain estimate of pixels drawn at random, and what it should add."""

    def step(self, done: float) -> float:
        """Take a step on a pair, when a share of the training is done; give the mean squared error on it."""
        if self._learns_nothing():
            self._begin(_Course(self._course.attempt + 1, self.step_count))
        course = self._course
        # Each step draws from a generator of its own, so that training can go on where it was left.
        rng = np.random.default_rng((self._seed, self.step_count))
        taken = self.step_count - course.start
        with torch.enable_grad():
            found, details = self.pair(rng)
            missed = found - details
            loss = missed.square().mean() if self.squared else missed.abs().mean()
            self.network.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT)
        self._optimizer.step(_rate(taken, done) * _SLOWER**course.attempt, taken + 1)
        self.step_count += 1
        self._course = course.after(float(missed.detach().abs().mean()), float(details.abs().mean()))
        return float(missed.detach().square().mean())

    def state(self) -> dict[str, Tensor]:
        """Return a copy, on the CPU, of what is needed to go on."""
        course = torch.tensor(astuple(self._course), dtype=torch.float64)
        tensors = {**self._tensors(), "step": torch.tensor(self.step_count), "course": course}
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from where another one with the same image and settings was; KeyError where something is not there."""
        for name, tensor in self._tensors().items():
            tensor.detach().copy_(tensors[name])
        self.step_count = int(tensors["step"])
        attempt, start, *means = tensors["course"].tolist()
        self._course = _Course(int(attempt), int(start), *means)

    def begin_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin with the network in the state of another one, where it is alike; before the first step."""
        mine = dict(self.network.named_parameters())
        if all(name in tensors and tensors[name].shape == tensor.shape for name, tensor in mine.items()):
            for name, tensor in mine.items():
                tensor.detach().copy_(tensors[name])

    def findings(self) -> dict[str, Any]:
        """Say nothing beside what the image is."""
        return {}

    def told(self, features: Tensor, positions: tuple[np.ndarray, np.ndarray], sizes: tuple[float, float]) -> Tensor:
        """Decode features, as `ConditionedSiren.decode`, in units of the image."""
        return _OUTPUT_SCALE * self.network.decode(features, positions, sizes)

    def precision(self) -> AbstractContextManager[object]:
        """Return the context in which pairs are calculated."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._rough)

    def _begin(self, course: _Course) -> None:
        """Begin with a new network."""
        generator = torch.Generator().manual_seed(self._seed + course.attempt)
        seen = self.channels * self.looks
        self.network = self.network_class(seen, *_NETWORK, generator, outputs=self.channels).to(self.device)
        hidden = [*list(self.network.kernels)[1:], *list(self.network.weights)[1:]]
        others = [p for p in self.network.parameters() if not any(p is matrix for matrix in hidden)]
        self._optimizer = NetworkOptimizer(hidden, others, *self.rates)
        self._course = course

    def _tensors(self) -> dict[str, Tensor]:
        return {**dict(self.network.named_parameters()), **self._optimizer.state()}

    def _learns_nothing(self) -> bool:
        course = self._course
        if not self.replaced or self.step_count - course.start != _PATIENCE:
            return False
        return course.missed > (1 - _LEAST_GAIN) * course.details


def _rate(step: int, done: float) -> float:
    """Share of the step sizes: up at first, then down along a cosine."""
    fall = _FINAL_RATE + (1 - _FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return fall * min(1.0, (step + 1) / _WARM_UP)
