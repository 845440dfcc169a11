"""When a fit looks at the error of all pixels, which takes about as long as a step, and what it expects from that."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_EVERY = 10
# The tiles' PSNR one by one is a bound, which their blend beats by about so many dB.
_GAP = 0.5


class Looks:
    """What a fit has seen of its PSNR, and when to look again.

    Every tenth step looks. With a target so does the step at which the PSNR, growing as it did between the last two
    looks, would come near it.

    Parameters
    ----------
    target
        PSNR in dB at which the fit ends, or None.
    """

    def __init__(self, target: float | None) -> None:
        self._target = target
        self._gap = _GAP
        self._seen: list[tuple[int, float]] = []  # the first look, and the last two

    def due(self, step: int) -> bool:
        """Whether to look before the step of this number, from 0 on."""
        return step % _EVERY == 0 or step == self._arrival()

    def saw(self, step: int, psnr: float) -> None:
        """Take note of the PSNR, a bound from below, that a look before a step found."""
        self._seen = [*self._seen[:1], *self._seen[1:][-1:], (step, psnr)]

    def near_target(self) -> bool:
        """Whether the exact PSNR may have reached the target, from what the last look saw."""
        return self._target is not None and self._seen[-1][1] >= self._target - self._gap

    def missed_target(self, exact: float) -> None:
        """Take note of the exact PSNR where it is below the target after all."""
        self._gap = max(0.0, exact - self._seen[-1][1])

    def way(self) -> float:
        """Share of the way to the target, in dB, from the first look to the last (0 to 1); 0 without a target."""
        if self._target is None or not self._seen:
            return 0.0
        first, last = self._seen[0][1], self._seen[-1][1]
        return min(1.0, max(0.0, (last - first) / (self._target - first))) if first < self._target else 1.0

    def state(self) -> Tensor:
        """Return what another needs to go on: float64, (looks + 1, 2)."""
        return torch.tensor([(self._gap, 0.0), *self._seen], dtype=torch.float64)

    def load(self, state: Tensor) -> None:
        """Go on from `state`."""
        (self._gap, _), *seen = state.tolist()
        self._seen = [(int(step), psnr) for step, psnr in seen]

    def _arrival(self) -> int | None:
        """Step at which the target may be reached."""
        if self._target is None or len(self._seen) < 2:
            return None
        (earlier, before), (step, psnr) = self._seen[-2:]
        growth = (psnr - before) / (step - earlier)
        missing = self._target - self._gap - psnr
        return step + max(1, math.ceil(missing / growth)) if 0 < growth < math.inf else None
