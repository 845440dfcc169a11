"""`EvaluationSchedule`: the steps of a fit at which the error of all pixels is computed.

An evaluation takes about as long as a step.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Number of steps between two evaluations.
_EVERY = 10
# Difference in dB between the PSNR of the blended tiles and its lower bound, the PSNR of the single tiles.
_GAP = 0.5


class EvaluationSchedule:
    """The evaluations of the PSNR of a fit so far, and the step of the next one.

    There is an evaluation at every tenth step. With a target there is another one at the step at which the PSNR is
    expected near the target, by linear extrapolation of the last two evaluations.

    Parameters
    ----------
    target
        PSNR in dB at which the fit ends, or None.
    """

    def __init__(self, target: float | None) -> None:
        self._target = target
        self._gap = _GAP
        self._records: list[tuple[int, float]] = []  # the first evaluation, and the last two

    def is_due(self, step: int) -> bool:
        """Return whether there is an evaluation before a step. Steps are counted from 0."""
        return step % _EVERY == 0 or step == self._arrival()

    def record(self, step: int, psnr: float) -> None:
        """Record the result of an evaluation before a step: a lower bound of the PSNR, in dB."""
        self._records = [*self._records[:1], *self._records[1:][-1:], (step, psnr)]

    def near_target(self) -> bool:
        """Return whether the exact PSNR may have reached the target at the last evaluation."""
        return self._target is not None and self._records[-1][1] >= self._target - self._gap

    def tighten(self, exact: float) -> None:
        """Record an exact PSNR in dB below the target. The target then needs a higher bound."""
        self._gap = max(0.0, exact - self._records[-1][1])

    def progress(self) -> float:
        """Return the share of the increase in dB up to the target, since the first evaluation, 0 to 1.

        It is 0 without a target.
        """
        if self._target is None or not self._records:
            return 0.0
        first, last = self._records[0][1], self._records[-1][1]
        return min(1.0, max(0.0, (last - first) / (self._target - first))) if first < self._target else 1.0

    def state(self) -> Tensor:
        """Return the state, float64, (evaluations + 1, 2)."""
        return torch.tensor([(self._gap, 0.0), *self._records], dtype=torch.float64)

    def load(self, state: Tensor) -> None:
        """Restore a state."""
        (self._gap, _), *records = state.tolist()
        self._records = [(int(step), psnr) for step, psnr in records]

    def _arrival(self) -> int | None:
        """Return the step at which the target may be reached, or None if there is no such step."""
        if self._target is None or len(self._records) < 2:
            return None
        (earlier, before), (step, psnr) = self._records[-2:]
        growth = (psnr - before) / (step - earlier)
        missing = self._target - self._gap - psnr
        steps = missing / growth if growth > 0 else math.inf
        # A growth near zero gives no number of steps.
        return step + max(1, math.ceil(steps)) if math.isfinite(steps) and growth < math.inf else None
