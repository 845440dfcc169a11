"""`Trainer`: the course of a training, which can be killed at any time and goes on from its last checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training import storage
from training.judging import Validation
from training.lesson import Lesson
from training.network import Enlarger
from training.optimizer import Optimizer
from training.photographs import Photographs
from training.resampling import margin_of
from training.settings import Settings

CHECKPOINT, LOG = "enlarge.checkpoint", "enlarge.jsonl"
# Seconds between two checkpoints, and between two validations.
_SAVE_EVERY, _JUDGE_EVERY = 30.0, 20.0
# A loss that grew so much, relative to that of interpolation, is a mishap.
_MISHAP = 1.5
_MEMORY = 0.9


@dataclass(frozen=True)
class Plan:
    """How long a training goes on, with what and where.

    Parameters
    ----------
    minutes
        Of training.
    steps
        If given, so many steps instead.
    device, dtype
        Where the network is, and the precision of its convolutions.
    seed
        Of the random start and of the crops.
    out
        Folder of the files.
    plain
        Whether to do without CUDA graphs and kernels of our own.
    """

    minutes: float
    steps: int | None
    device: torch.device
    dtype: torch.dtype
    seed: int
    out: Path
    plain: bool = False


class Trainer:
    """Trains a network to enlarge.

    Parameters
    ----------
    settings, plan
        How.
    images, held_out
        To learn from, and to validate with.
    """

    def __init__(
        self, settings: Settings, plan: Plan, images: Sequence[np.ndarray], held_out: Sequence[np.ndarray]
    ) -> None:
        self.settings, self.plan, device = settings, plan, plan.device
        self.network = Enlarger(settings.network, torch.Generator().manual_seed(plan.seed)).to(device)
        self.averaged = Enlarger(settings.network, torch.Generator().manual_seed(plan.seed)).to(device)
        hidden = self.network.hidden()
        others = [p for p in self.network.parameters() if not any(p is matrix for matrix in hidden)]
        self.optimizer = Optimizer(
            hidden, others, settings.muon_rate, settings.adam_rate, settings.averaging, settings.largest_gradient
        )
        side = max(size + 2 * margin_of(size / settings.crop) for size, _ in settings.outputs)
        self.photographs = Photographs(images, settings.halves, side, device)
        self.validation = Validation(held_out, settings.validation_crop, device)
        self.lesson = Lesson(
            self.network, self.optimizer, self.photographs, settings, device, plan.dtype, plain=plan.plain
        )
        # Steps taken, seconds of training, the factor of the step sizes after mishaps.
        self.step, self.seconds, self.factor = 0, 0.0, 1.0
        self.gains: dict[str, float] = {}
        self._usual: float | None = None
        self._good = self._copy()

    @property
    def done(self) -> float:
        """Share of the training that is done."""
        if self.plan.steps is not None:
            return self.step / self.plan.steps
        return self.seconds / (60 * self.plan.minutes)

    def train(self) -> None:
        """Train to the end."""
        saved = judged = time.monotonic()
        drawn = self._draw(self.step)
        while self.done < 1:
            start = time.monotonic()
            loss, base = self._take(drawn)
            drawn = self._draw(self.step + len(drawn[0]))
            losses = [float(total) / len(drawn[0]) for total in (loss, base)]
            self._after(*losses, len(drawn[0]))
            self.seconds += time.monotonic() - start
            now = time.monotonic()
            if now - judged > _JUDGE_EVERY or self.done >= 1:
                self._judge(*losses)
                judged = time.monotonic()
            if now - saved > _SAVE_EVERY or self.done >= 1:
                self.save()
                saved = time.monotonic()
            self.seconds += time.monotonic() - now

    def use_average(self) -> Enlarger:
        """Give the network with the running mean of its weights."""
        mine = dict(zip(map(id, self.optimizer.parameters), self.optimizer.average, strict=True))
        with torch.no_grad():
            for parameter, other in zip(self.averaged.parameters(), self.network.parameters(), strict=True):
                parameter.copy_(mine[id(other)])
        return self.averaged

    def save(self) -> None:
        """Write a checkpoint."""
        tensors = {f"{i:03d}": tensor for i, tensor in enumerate(self._tensors())}
        storage.save_tensors(self.plan.out / CHECKPOINT, tensors, self._facts())

    def resume(self) -> bool:
        """Go on from the checkpoint, if there is one; ValueError if it is of another training."""
        path = self.plan.out / CHECKPOINT
        if not path.exists():
            return False
        tensors, facts = storage.load_tensors(path)
        if facts["settings"] != _plain(self.settings.record()) or facts["seed"] != self.plan.seed:
            raise ValueError(f"{path} is of a training with other settings")
        with torch.no_grad():
            for i, tensor in enumerate(self._tensors()):
                tensor.copy_(tensors[f"{i:03d}"])
        self.step, self.seconds, self.factor = facts["step"], facts["seconds"], facts["factor"]
        self._usual = facts["usual"]
        self._good = self._copy()
        return True

    def rate(self, step: int) -> float:
        """Share of the step sizes at a step: up at first, then down along a cosine."""
        done = step / self.plan.steps if self.plan.steps is not None else self.done
        final = self.settings.final_rate
        fall = final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return self.factor * fall * min(1.0, (step + 1) / self.settings.warm_up)

    def _draw(self, step: int) -> tuple[list[int], Tensor]:
        """Draw the crops of the steps up to the next look at the loss; each step has a generator of its own."""
        settings = self.settings
        end = (step // settings.chunk + 1) * settings.chunk
        if self.plan.steps is not None:
            end = max(step + 1, min(end, self.plan.steps))
        shares = np.array([share for _, share in settings.outputs])
        sizes, crops = [], []
        for number in range(step, end):
            rng = np.random.default_rng((self.plan.seed, number))
            size = settings.outputs[rng.choice(len(shares), p=shares / shares.sum())][0]
            sizes.append(size)
            side = self.lesson.sides[size]
            crops.append(self.photographs.draw(rng, settings.batch, side, settings.candidates))
        return sizes, torch.from_numpy(np.stack(crops))

    def _take(self, drawn: tuple[list[int], Tensor]) -> Tensor:
        """Take steps, and give the sums of their losses, without waiting for them."""
        sizes, crops = drawn
        crops = crops.to(self.plan.device)
        rates = torch.tensor([self.rate(self.step + i) for i in range(len(sizes))]).to(self.plan.device)
        self.lesson.totals.zero_()
        for size, crop, rate in zip(sizes, crops, rates, strict=True):
            self.optimizer.rate.copy_(rate)
            self.lesson.take(size, crop)
        return self.lesson.totals

    def _after(self, loss: float, base: float, steps: int) -> None:
        """Keep a state that is good, and go back to it from one that is not."""
        share = loss / max(base, 1e-12)
        if not math.isfinite(share) or (self._usual is not None and share > _MISHAP * self._usual):
            self.factor /= 2
            for tensor, values in zip(self._tensors(), self._good, strict=True):
                tensor.detach().copy_(values)
            self._log({"mishap": share, "factor": self.factor})
        else:
            self._usual = share if self._usual is None else _MEMORY * self._usual + (1 - _MEMORY) * share
            if self.step // self.settings.chunk % 10 == 0:
                self._good = self._copy()
        self.step += steps

    def _judge(self, loss: float, base: float) -> None:
        self.gains = self.validation.gains(self.use_average(), torch.float32)
        self._log({"loss": loss, "interpolation": base, "rate": self.rate(self.step), "gains": self.gains})

    def _log(self, found: dict[str, Any]) -> None:
        samples = self.step * self.settings.batch
        record = {"seconds": round(self.seconds, 1), "step": self.step, "samples": samples, **found}
        storage.append(self.plan.out / LOG, record)
        print(" ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in record.items()), flush=True)

    def _facts(self) -> dict[str, Any]:
        counts = {"step": self.step, "seconds": self.seconds, "factor": self.factor, "usual": self._usual}
        return {**counts, "settings": self.settings.record(), "seed": self.plan.seed}

    def _tensors(self) -> list[Tensor]:
        return [*self.optimizer.parameters, *self.optimizer.state()]

    def _copy(self) -> list[Tensor]:
        return [tensor.detach().clone() for tensor in self._tensors()]


def _plain(value: Any) -> Any:
    """Give a value as JSON gives it back."""
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
