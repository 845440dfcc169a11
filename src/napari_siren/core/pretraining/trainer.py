"""`Trainer`: the course of a training, with checkpoints from which it can continue."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.degradation.kinds import degradation_for
from napari_siren.core.pretrained_network.network import PretrainedNetwork
from napari_siren.core.pretrained_network.weights import append_record, load_tensors, save_tensors
from napari_siren.core.pretraining.evaluation import Scoring, Validation
from napari_siren.core.pretraining.optimizer import Optimizer
from napari_siren.core.pretraining.photographs import Photographs
from napari_siren.core.pretraining.settings import Settings
from napari_siren.core.pretraining.step import Stepper
from napari_siren.errors import ConfigError, StorageError

_LOG = logging.getLogger(__name__)
# Output sizes, positions of crops and parameters of crops, for some steps.
Batches = tuple[list[int], Tensor, Tensor]
# Seconds between two checkpoints, and between two validations.
_SAVE_EVERY, _VALIDATE_EVERY = 30.0, 20.0
# Largest number of validations of a training with a `Start`, whose weights are chosen by them, and largest share of the
# time that they take.
_MOST_VALIDATIONS, _VALIDATION_SHARE = 20, 0.1
# A loss that increases by more than this factor, relative to that of interpolation, is a divergence. It is not tested
# with a `Start`: there the steps are small, and the loss of few crops varies more than that.
_DIVERGENCE = 1.5
# Decay, per reading of the loss, of its running mean.
_DECAY = 0.9


@dataclass(frozen=True)
class Plan:
    """The length of a training, its device and its files.

    Parameters
    ----------
    minutes
        Length of the training in minutes.
    steps
        Length of the training in steps; None for the length in minutes.
    device, dtype
        Device of the network, and dtype of its convolutions.
    seed
        Seed of the random initialisation and of the crops.
    out
        Folder of the files.
    plain
        Whether to use neither CUDA graphs nor the kernels in Triton.
    name
        Name of the files, without their suffix.
    """

    minutes: float
    steps: int | None
    device: torch.device
    dtype: torch.dtype
    seed: int
    out: Path
    plain: bool = False
    name: str = "enlarge"

    def file(self, suffix: str) -> Path:
        """Return the path of a file of this training: "safetensors", "md", "jsonl" or "checkpoint"."""
        return self.out / f"{self.name}.{suffix}"


@dataclass(frozen=True, eq=False)
class Start:
    """A trained network from which a training starts.

    Parameters
    ----------
    network
        The network.
    scoring
        Validation of networks on the held-out images of this training.
    scores
        Scores of the network in this validation.
    dtype
        Dtype of the convolutions in the validation.
    origin
        Hash of the weights and of the images. A checkpoint of a training with another one is refused.
    """

    network: PretrainedNetwork
    scoring: Scoring
    scores: dict[str, float]
    dtype: torch.dtype
    origin: str


class Trainer:
    """A training of a network.

    Parameters
    ----------
    settings, plan
        Settings, length and device of the training.
    images, held_out
        Images for training as in `Photographs`, and photographs for validation, (rows, columns, 3) of 8 bits.
    validated
        Function called after each validation.
    start
        Trained network to start from, with the validation to use instead of `held_out`. None is a random one.
    parameters
        Numbers that belong to each image, for its degradation. None is no numbers.

    Raises
    ------
    InputError
        The images have too few pixels.
    """

    def __init__(
        self,
        settings: Settings,
        plan: Plan,
        images: Sequence[npt.NDArray[Any]],
        held_out: Sequence[npt.NDArray[np.uint8]] = (),
        validated: Callable[[Trainer], object] | None = None,
        start: Start | None = None,
        parameters: Sequence[Sequence[float]] | None = None,
    ) -> None:
        self.settings, self.plan, self.validated, self.start = settings, plan, validated, start
        device = plan.device
        self.network, self.averaged = (self._first_network() for _ in range(2))
        hidden = self.network.hidden()
        others = [p for p in self.network.parameters() if not any(p is matrix for matrix in hidden)]
        self.optimizer = Optimizer(
            hidden, others, settings.muon_rate, settings.adam_rate, settings.averaging, settings.largest_gradient
        )
        degradation = degradation_for(settings.kind, settings.source)(settings.crop, (), device)
        side = max(degradation.side(size) for size, _ in settings.outputs)
        self.photographs = Photographs(images, settings.halves, side, device, parameters)
        self.validation: Scoring = (
            Validation(settings.kind, held_out, settings.validation_crop, device) if start is None else start.scoring
        )
        self.stepper = Stepper(
            self.network, self.optimizer, self.photographs, settings, device, plan.dtype, plain=plan.plain
        )
        # Number of steps, seconds of training, and the factor of the step sizes after divergences.
        self.step, self.seconds, self.factor = 0, 0.0, 1.0
        # Scores of the last validation, and of the weights that `result` returns.
        self.scores: dict[str, float] = {} if start is None else start.scores
        self.best_scores: dict[str, float] = self.scores
        # The best running mean of the weights, its mean score and its step.
        self._best = [tensor.clone() for tensor in self.optimizer.average]
        self._best_score, self._best_step = -math.inf if start is None else _mean(self.scores), 0
        self._usual: float | None = None
        self._good = self._copy()
        self._stopped = False

    @property
    def done(self) -> float:
        """Completed share of the training."""
        if self.plan.steps is not None:
            return self.step / self.plan.steps
        return self.seconds / (60 * self.plan.minutes)

    def stop(self) -> None:
        """End the training after the current steps, with a validation and a checkpoint."""
        self._stopped = True

    def train(self, stepped: Callable[[Trainer], object] | None = None) -> None:
        """Train to the end, with checkpoints and validations.

        Parameters
        ----------
        stepped
            Function called each time that the loss was read.
        """
        saved = validated = time.monotonic()
        pause = self._pause(0.0)
        batches = self._draw(self.step)
        while self.done < 1 and not self._stopped:
            start = time.monotonic()
            steps = len(batches[0])
            loss, base = self._take(batches)
            # The host draws while the device computes.
            batches = self._draw(self.step + steps)
            losses = [float(total) / steps for total in (loss, base)]
            self._after(losses[0], losses[1], steps)
            self.seconds += time.monotonic() - start
            now = time.monotonic()
            if stepped is not None:
                stepped(self)
            last = self.done >= 1 or self._stopped
            if now - validated > pause or last:
                begin = time.monotonic()
                self._validate(losses[0], losses[1])
                validated = time.monotonic()
                pause = self._pause(validated - begin)
            if now - saved > _SAVE_EVERY or last:
                self.save()
                saved = time.monotonic()
            self.seconds += time.monotonic() - now

    def result(self) -> PretrainedNetwork:
        """Return the network with the running mean of its weights: the last, or the best, by `Settings.keep_best`."""
        keep = self.settings.keep_best and self._best_score > -math.inf
        return self._with(self._best if keep else self.optimizer.average)

    @property
    def best_step(self) -> int:
        """Step of the weights of `result` if these are not the last, otherwise 0."""
        return self._best_step if self.settings.keep_best else 0

    def _first_network(self) -> PretrainedNetwork:
        network = PretrainedNetwork(self.settings.network, torch.Generator().manual_seed(self.plan.seed))
        if self.start is not None:
            network.load_state_dict(self.start.network.state_dict())
        return network.to(self.plan.device)

    def _pause(self, seconds: float) -> float:
        """Return the seconds until the next validation, after one that took some seconds."""
        if self.start is None:
            return _VALIDATE_EVERY
        return max(_VALIDATE_EVERY, 60 * self.plan.minutes / _MOST_VALIDATIONS, seconds / _VALIDATION_SHARE)

    def _with(self, weights: Sequence[Tensor]) -> PretrainedNetwork:
        mine = dict(zip(map(id, self.optimizer.parameters), weights, strict=True))
        with torch.no_grad():
            for parameter, other in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                parameter.copy_(mine[id(other)])
        return self.averaged

    def save(self) -> None:
        """Write a checkpoint.

        Raises
        ------
        StorageError
            The file cannot be written.
        """
        tensors = {f"{i:03d}": tensor for i, tensor in enumerate([*self._tensors(), *self._best])}
        save_tensors(self.plan.file("checkpoint"), tensors, self._metadata())

    def resume(self) -> bool:
        """Continue from the checkpoint, and return whether there is one.

        Raises
        ------
        ConfigError
            The checkpoint is from a training with other settings.
        StorageError
            The file is not a checkpoint.
        """
        path = self.plan.file("checkpoint")
        if not path.exists():
            return False
        tensors, metadata = load_tensors(path)
        if "best_score" not in metadata:
            raise StorageError(f"{path} is not a checkpoint. Train without resuming, or choose another folder.")
        own = self._metadata()
        if any(metadata.get(name) != _as_json(own[name]) for name in ("settings", "seed", "origin")):
            raise ConfigError(
                f"{path} is from a training with other settings or images. Use the same ones, or train without "
                "resuming."
            )
        with torch.no_grad():
            for i, tensor in enumerate([*self._tensors(), *self._best]):
                tensor.copy_(tensors[f"{i:03d}"])
        self.step, self.seconds, self.factor = metadata["step"], metadata["seconds"], metadata["factor"]
        self._usual = metadata["usual"]
        score, self._best_step = metadata["best_score"], metadata["best_step"]
        self._best_score = -math.inf if score is None else score
        self.scores, self.best_scores = metadata["scores"], metadata["best_scores"]
        self._good = self._copy()
        return True

    def rate(self, step: int) -> float:
        """Return the share of the step sizes at a step: first it increases, then it decreases along a cosine."""
        done = step / self.plan.steps if self.plan.steps is not None else self.done
        final = self.settings.final_rate
        fall = final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return self.factor * fall * min(1.0, (step + 1) / self.settings.warm_up)

    def _draw(self, step: int) -> Batches:
        """Draw the batches up to the next reading of the loss, from generators that depend only on the step."""
        settings = self.settings
        end = (step // settings.chunk + 1) * settings.chunk
        if self.plan.steps is not None:
            end = max(step + 1, min(end, self.plan.steps))
        shares = np.array([share for _, share in settings.outputs])
        sizes, positions = [], []
        for number in range(step, end):
            rng = np.random.default_rng((self.plan.seed, number))
            sizes.append(settings.outputs[rng.choice(len(shares), p=shares / shares.sum())][0])
            positions.append(
                self.photographs.draw(rng, settings.batch, self.stepper.sides[sizes[-1]], settings.candidates)
            )
        degradation = self.stepper.degradation
        rng = np.random.default_rng((self.plan.seed, step, 1))
        parameters = degradation.draw(rng, len(sizes) * settings.batch)
        shape = (len(sizes), settings.batch, len(degradation.names))
        return sizes, torch.from_numpy(np.stack(positions)), torch.from_numpy(parameters.reshape(shape))

    def _take(self, batches: Batches) -> Tensor:
        """Start steps, and return the sums of their losses, without waiting for them."""
        sizes, positions, parameters = batches[0], *(tensor.to(self.plan.device) for tensor in batches[1:])
        rates = torch.tensor([self.rate(self.step + i) for i in range(len(sizes))]).to(self.plan.device)
        # Seed of the noise drawn on the device.
        torch.manual_seed(self.plan.seed * 1_000_003 + self.step)
        self.stepper.totals.zero_()
        for size, *batch, rate in zip(sizes, positions, parameters, rates, strict=True):
            self.optimizer.rate.copy_(rate)
            self.stepper.take(size, *batch)
        return self.stepper.totals

    def _after(self, loss: float, base: float, steps: int) -> None:
        """Store the state of a convergent training, and restore it after a divergence, with smaller steps."""
        share = loss / max(base, 1e-12)
        usual = math.inf if self._usual is None or self.start is not None else self._usual
        if not math.isfinite(share) or share > _DIVERGENCE * usual:
            self.factor /= 2
            for tensor, values in zip(self._tensors(), self._good, strict=True):
                tensor.detach().copy_(values)
            self._log({"divergence": share, "factor": self.factor})
        else:
            self._usual = share if self._usual is None else _DECAY * self._usual + (1 - _DECAY) * share
            if self.step // self.settings.chunk % 10 == 0:
                self._good = self._copy()
        self.step += steps

    def _validate(self, loss: float, base: float) -> None:
        dtype = torch.float32 if self.start is None else self.start.dtype
        self.scores = self.validation.scores(self._with(self.optimizer.average), dtype)
        score = _mean(self.scores)
        if score > self._best_score:
            self._best_score, self._best_step, self.best_scores = score, self.step, self.scores
            torch._foreach_copy_(self._best, self.optimizer.average)
        self._log({"loss": loss, "interpolation": base, "rate": self.rate(self.step), "scores": self.scores})
        if self.validated is not None:
            self.validated(self)

    def _log(self, values: dict[str, Any]) -> None:
        samples = self.step * self.settings.batch
        record = {"seconds": round(self.seconds, 1), "step": self.step, "samples": samples, **values}
        append_record(self.plan.file("jsonl"), record)
        _LOG.info(" ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in record.items()))

    def _metadata(self) -> dict[str, Any]:
        counts = {"step": self.step, "seconds": self.seconds, "factor": self.factor, "usual": self._usual}
        # Strict JSON has no infinite numbers.
        score = self._best_score if math.isfinite(self._best_score) else None
        best = {"best_score": score, "best_step": self._best_step, "best_scores": self.best_scores}
        given = {"settings": self.settings.record(), "seed": self.plan.seed}
        origin = None if self.start is None else self.start.origin
        return {**counts, **best, "scores": self.scores, **given, "origin": origin}

    def _tensors(self) -> list[Tensor]:
        return [*self.optimizer.parameters, *self.optimizer.state()]

    def _copy(self) -> list[Tensor]:
        return [tensor.detach().clone() for tensor in self._tensors()]


def _mean(scores: dict[str, float]) -> float:
    return sum(scores.values()) / len(scores)


def _as_json(value: Any) -> Any:
    """Return a value as it is after a round trip through JSON."""
    if isinstance(value, dict):
        return {name: _as_json(v) for name, v in value.items()}
    return [_as_json(v) for v in value] if isinstance(value, list | tuple) else value
