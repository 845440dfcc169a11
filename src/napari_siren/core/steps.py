"""`FitSteps`: the generator returned by `fit_iter`. `run_steps`: its run to the end, with a bar and a callback."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Any

from napari_siren.core.clock import Cancellation, Cancelled, Stopwatch
from napari_siren.core.progress import Progress, share_done
from napari_siren.core.progress_bar import progress_bar
from napari_siren.core.result import FitResult
from napari_siren.errors import InputError

# Value to send to the generator to end the fit.
STOP = "stop"


class FitSteps(Generator[Progress, str | None, FitResult]):
    """The steps of a fit: a generator of `Progress`, with the result after its end.

    Parameters
    ----------
    steps
        Generator that yields the progress and returns the result.
    look
        Function that returns the best result so far.
    clock
        Stopwatch of the fit.
    cancellation
        Request to end the fit without a result.

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
        self,
        steps: Generator[Progress, str | None, FitResult],
        look: Callable[[], FitResult],
        clock: Stopwatch,
        cancellation: Cancellation,
    ) -> None:
        self._steps = steps
        self._look = look
        self._clock = clock
        self._cancellation = cancellation
        self._result: FitResult | None = None
        self._started = False

    def __repr__(self) -> str:
        """Return the state of the fit in one line."""
        state = "ended" if self._result is not None else "running" if self._started else "not started"
        return f"FitSteps({state}; iterate over it for a Progress after each step, then read .result)"

    @property
    def result(self) -> FitResult:
        """The result of the fit.

        Raises
        ------
        InputError
            The fit has not ended yet, was closed, or was cancelled.
        """
        if self._result is None:
            raise InputError("the fit has no result yet. Run it to its end, or end it by stop().")
        return self._result

    def snapshot(self) -> FitResult:
        """Return the best result so far; the fit itself is not affected.

        Saved with ``resumable=True``, it is a checkpoint. A fit continued from it ends with the same bits.
        """
        return self._look()

    def stop(self) -> FitResult:
        """End the fit, keep the best so far, and return the result; an ended fit stays as it is."""
        try:
            while self._result is None:
                self.send(STOP if self._started else None)
        except StopIteration:
            pass
        return self.result

    def held(self) -> AbstractContextManager[None]:
        """Return a context with the stopwatch of the fit held: a pause does not count for `max_seconds`."""
        return self._clock.held()

    def cancel(self) -> None:
        """Cancel the fit; may be called from any thread.

        The current step is abandoned, and there is no result.
        """
        self._cancellation.request()

    def send(self, value: str | None) -> Progress:
        """Run a step; with ``"stop"``, end the fit instead (StopIteration with the result as its value)."""
        self._started = True
        try:
            return self._steps.send(value)
        except StopIteration as end:
            self._result = end.value if isinstance(end.value, FitResult) else self._result
            raise
        except Cancelled:
            raise StopIteration from None

    def throw(self, *error: Any) -> Progress:
        """Raise an exception in the generator at its current step."""
        return self._steps.throw(*error)


def run_steps(
    steps: FitSteps, progress: bool = False, on_progress: Callable[[Progress], object] | None = None
) -> FitResult:
    """Run a fit to its end, and return its result. The parameters are those of `fit`."""
    with progress_bar("fit", shown=progress) as bar:
        for state in steps:
            bar.show(share_done(state), f"step {state.step}, {state.psnr:.1f} dB")
            if on_progress is not None and on_progress(state) == STOP:
                steps.stop()
    return steps.result
