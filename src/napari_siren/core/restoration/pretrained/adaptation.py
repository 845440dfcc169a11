"""`Adaptation`: further training of a pretrained network on the image itself.

The image and its smaller copy are a training pair with a known truth; so are the copy and its own smaller copy. The
training has two parts. First the network is trained on the pair of copies. It has to gain on the pair of the image,
which is one scale further up: otherwise the scales of the image differ too much. Then the network is trained on the
pair of the image. It has to gain on squares of the image that are held out. Without both gains it stays as it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from napari_siren.core.network.optimizer import NetworkOptimizer
from napari_siren.core.restoration.flips import FLIPS
from napari_siren.core.restoration.pretrained.prediction import PretrainedModel

# Steps of a round, and rounds of the first part and of the second without a limit by the settings.
STEPS, TRIAL_ROUNDS, ROUNDS = 10, 3, 6
# Smallest side of the copy's copy: less contains too little to learn from.
LEAST_SIDE = 16
# Adam's step size, number of steps until it is reached, and decay of the running mean of the weights.
_RATE, _WARM_UP, _AVERAGING = 2e-4, 10, 0.98
# Side of a crop of a copy, side of a held-out square of the image, and share of the squares.
_CROP, _SQUARE, _HELD_OUT = 64, 24, 0.25
# Side of the middle of the image on which errors are measured: this takes time.
_MIDDLE = 384
# Least gains in dB: of the first part, as the mean of its rounds, and of the second part, as the mean of its last ones.
# Measured on photographs: smaller gains are not gains of the result.
_LEAST_TRIAL, _LEAST_GAIN, _LAST = 0.1, 0.5, 3


def copy_factor(shape: Sequence[int], fine_shape: Sequence[int]) -> int:
    """Return the factor between an image and its smaller copy, for the enlargement to a shape: a whole number."""
    return max(2, round(max(m / n for n, m in zip(shape, fine_shape, strict=True))))


@dataclass(frozen=True)
class Pair:
    """A training pair.

    Parameters
    ----------
    inputs
        Inputs of the network for a smaller copy of the image, (components, inputs, rows, columns).
    targets
        Components of the image, (components, factor * rows, factor * columns).
    """

    inputs: Tensor
    targets: Tensor

    @property
    def factor(self) -> int:
        """Factor between the image and the smaller copy."""
        return self.targets.shape[1] // self.inputs.shape[2]


class Adaptation:
    """A training of the network of a model, in rounds.

    Parameters
    ----------
    model
        The network to train, with its image model. It is changed in place.
    pairs
        Pair of the copies, and pair of the image.
    rounds
        Largest number of rounds of the second part.
    seed
        Seed of the crops and of the held-out squares.
    """

    def __init__(self, model: PretrainedModel, pairs: tuple[Pair, Pair], rounds: int, seed: int) -> None:
        copies, image = pairs
        self._initial = [p.detach().clone() for p in model.network.parameters()]
        self._model, self._rounds, self._seed = model, rounds, seed
        device = image.targets.device
        middle = torch.from_numpy(_middle(image.targets.shape[1:])).to(device)
        squares = torch.from_numpy(_squares(image.targets.shape[1:], np.random.default_rng(seed))).to(device)
        self._image, self._held_out = image, middle & squares
        visible = torch.ones(copies.targets.shape[1:], dtype=torch.bool, device=device)
        self._training = _Training(model, copies, visible, image, middle, seed)
        self.trial_gains: list[float] = []
        self.gains: list[float] = []
        self.finished = not bool(self._held_out.any())

    @property
    def kept(self) -> bool:
        """Whether the training is over, and both gains were large enough."""
        return self.finished and sum(self.gains[-_LAST:]) >= _LAST * _LEAST_GAIN

    @property
    def rounds_left(self) -> int:
        """Largest number of remaining rounds."""
        if self.finished:
            return 0
        return TRIAL_ROUNDS - len(self.trial_gains) + self._rounds - len(self.gains)

    def advance(self) -> float:
        """Train for a round, and return its mean squared error on the other pair or on the held-out squares."""
        error, gain = self._training.round()
        if len(self.trial_gains) < TRIAL_ROUNDS:
            self.trial_gains.append(gain)
            if len(self.trial_gains) == TRIAL_ROUNDS:
                self._end_trial()
        else:
            self.gains.append(gain)
            if len(self.gains) >= self._rounds:
                self.finished = True
                _set(self._model.network, self._training.mean if self.kept else self._initial)
        return error

    def metadata(self) -> dict[str, Any]:
        """Return the number of steps, the gains after each round in dB, and whether the training was kept."""
        rounds = len(self.trial_gains) + len(self.gains)
        gains = {"trial_gains": self.trial_gains, "held_out_gains": self.gains}
        return {"steps": STEPS * rounds, **{k: [round(g, 3) for g in v] for k, v in gains.items()}, "kept": self.kept}

    def _end_trial(self) -> None:
        _set(self._model.network, self._initial)
        self.finished = sum(self.trial_gains) < TRIAL_ROUNDS * _LEAST_TRIAL
        self._training = _Training(self._model, self._image, ~self._held_out, self._image, self._held_out, self._seed)


class _Training:
    """A training of a network on a pair, judged by another pair.

    Parameters
    ----------
    model
        The network to train, with its image model.
    pair, visible
        Pair to train on, and mask of the pixels of its target that are used.
    judge, judged
        Pair for the errors, and mask of the pixels of its target that count.
    seed
        Seed of the crops.
    """

    def __init__(
        self, model: PretrainedModel, pair: Pair, visible: Tensor, judge: Pair, judged: Tensor, seed: int
    ) -> None:
        self._network, self._dtype, self._check = model.network, model.dtype, model.cancellation.check
        self._pair, self._visible, self._judge, self._judged = pair, visible, judge, judged
        self._rng = np.random.default_rng(seed)
        self._parameters = list(self._network.parameters())
        self.mean = [p.detach().clone() for p in self._parameters]
        self._optimizer = NetworkOptimizer([], self._parameters, adam_rate=_RATE)
        self._steps = 0
        self._first_error: float | None = None

    def round(self) -> tuple[float, float]:
        """Train for a round; return the error of the mean weights, and its gain over the initial weights in dB."""
        if self._first_error is None:
            self._first_error = self._error()
        for _ in range(STEPS):
            self._check()
            self._step()
        current = [p.detach().clone() for p in self._parameters]
        _set(self._network, self.mean)
        error = self._error()
        _set(self._network, current)
        return error, 10 * math.log10(max(self._first_error, 1e-12) / max(error, 1e-12))

    def _step(self) -> None:
        inputs, targets, visible = self._crop()
        with torch.enable_grad():
            output = self._network(inputs[None], (targets.shape[0], targets.shape[1]), self._dtype)[0]
            loss = ((output - targets).abs() * visible).sum() / visible.sum().clamp_min(1)
            self._network.zero_grad(set_to_none=True)
            loss.backward()
        self._steps += 1
        self._optimizer.step(min(1.0, self._steps / _WARM_UP), self._steps)
        decay = min(_AVERAGING, self._steps / (self._steps + 9))
        with torch.no_grad():
            torch._foreach_lerp_(self.mean, [p.detach() for p in self._parameters], 1 - decay)

    def _crop(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return inputs, target and weight of a random crop, flipped and turned."""
        rng, pair = self._rng, self._pair
        component, flip = int(rng.integers(len(pair.inputs))), FLIPS[int(rng.integers(len(FLIPS)))]
        sides = [min(n, _CROP) for n in pair.inputs.shape[2:]]
        starts = [int(rng.integers(n - side + 1)) for n, side in zip(pair.inputs.shape[2:], sides, strict=True)]
        small = [slice(a, a + side) for a, side in zip(starts, sides, strict=True)]
        large = [slice(pair.factor * s.start, pair.factor * s.stop) for s in small]
        inputs = flip(pair.inputs[component, :, small[0], small[1]])
        targets, visible = pair.targets[component, large[0], large[1]], self._visible[large[0], large[1]]
        return inputs.contiguous(), flip(targets).contiguous(), flip(visible).contiguous()

    @torch.no_grad()
    def _error(self) -> float:
        """Return the mean squared error where it counts."""
        pair, used = self._judge, [self._judged.any(dim=1 - axis).nonzero() for axis in range(2)]
        # The part of the copy under the pixels that count.
        low = [(int(n[0]) // pair.factor, int(n[-1]) // pair.factor + 1) for n in used]
        small = [slice(*bounds) for bounds in low]
        large = [slice(pair.factor * a, pair.factor * b) for a, b in low]
        size = (large[0].stop - large[0].start, large[1].stop - large[1].start)
        output = self._network(pair.inputs[:, :, small[0], small[1]], size, self._dtype)
        difference = output - pair.targets[:, large[0], large[1]]
        return float(difference[:, self._judged[large[0], large[1]]].square().mean())


@torch.no_grad()
def _set(network: nn.Module, tensors: Sequence[Tensor]) -> None:
    for parameter, tensor in zip(network.parameters(), tensors, strict=True):
        parameter.copy_(tensor)


def _middle(shape: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return a mask of the middle of an image, (rows, columns)."""
    rows, columns = (np.abs(np.arange(n) - (n - 1) / 2) < _MIDDLE / 2 for n in shape)
    return np.asarray(rows[:, None] & columns)


def _squares(shape: Sequence[int], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return a mask of random squares of an image, (rows, columns)."""
    chosen = rng.random([-(-n // _SQUARE) for n in shape]) < _HELD_OUT
    return np.repeat(np.repeat(chosen, _SQUARE, axis=0), _SQUARE, axis=1)[: shape[0], : shape[1]]
