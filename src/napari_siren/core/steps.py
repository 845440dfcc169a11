"""`FitSteps`: the generator that `fit_iter` gives back."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Any

from napari_siren.core.clock import Cancelled, Stopwatch
from napari_siren.core.progress import Progress
from napari_siren.core.result import FitResult
from napari_siren.errors import InputError

STOP = "stop"


class FitSteps(Generator[Progress, str | None, FitResult]):
    """The steps of a fit: a generator of `Progress` that also holds the result once it has ended.

    Parameters
    ----------
    steps
        Yields the progress and returns the result.
    look
        Gives the result as it would be now.
    clock
        That of the fit.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> steps = ns.fit_iter(np.eye(16, dtype=np.float32), max_steps=1000)
    >>> for progress in steps:
    ...     if progress.step == 5:
    ...         _ = steps.stop()
    >>> steps.result.history.stopped
    'asked'
    """

    def __init__(
        self, steps: Generator[Progress, str | None, FitResult], look: Callable[[], FitResult], clock: Stopwatch
    ) -> None:
        self._steps = steps
        self._look = look
        self._clock = clock
        self._result: FitResult | None = None
        self._begun = False

    @property
    def result(self) -> FitResult:
        """The result of the fit.

        Raises
        ------
        InputError
            The fit has not ended yet, or was closed.
        """
        if self._result is None:
            raise InputError("the fit has no result yet: take its steps to their end, or end it by stop().")
        return self._result

    def snapshot(self) -> FitResult:
        """Return the best so far as a result; the fit goes on as if it had not been asked.

        Saved with ``resumable=True`` it is a checkpoint, from which `fit` goes on to the same bits.
        """
        return self._look()

    def stop(self) -> FitResult:
        """End the fit, keep the best so far, and return the result; a fit that has ended stays as it is."""
        try:
            while self._result is None:
                self.send(STOP if self._begun else None)
        except StopIteration:
            pass
        return self.result

    def held(self) -> AbstractContextManager[None]:
        """Return a context in which the clock of the fit stands still: a pause does not count for `max_seconds`."""
        return self._clock.held()

    def cancel(self) -> None:
        """Call the fit off; may be called from any thread. The step under way is given up, and there is no result."""
        self._clock.cancel()

    def send(self, value: str | None) -> Progress:
        """Take a step; with ``"stop"`` end the fit instead (StopIteration, whose value is the result)."""
        self._begun = True
        try:
            return self._steps.send(value)
        except StopIteration as end:
            self._result = end.value if isinstance(end.value, FitResult) else self._result
            raise
        except Cancelled:
            raise StopIteration from None

    def throw(self, *error: Any) -> Progress:
        """Raise an exception where the fit stands."""
        return self._steps.throw(*error)
