"""`Control`: control of a running fit from another thread. No Qt."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from napari_siren.ui.logic.viewport import Box

if TYPE_CHECKING:
    from napari_siren.core.steps import FitSteps


class Control:
    """Control of a fit from another thread.

    Parameters
    ----------
    view
        Box of coordinates in view, in pixels; None is all of them.
    """

    def __init__(self, view: Box | None = None) -> None:
        self.view = view
        self._condition = threading.Condition()
        self._paused = self._stopping = self._cancelled = False
        self._steps: FitSteps | None = None
        self._shown = threading.Event()
        self._shown.set()

    def pause(self) -> None:
        """Pause the fit until `go_on` is called."""
        self._set(paused=True)

    def go_on(self) -> None:
        """Continue the fit after a pause."""
        self._set(paused=False)

    def stop(self) -> None:
        """End the fit, and keep its result."""
        self._set(stopping=True)

    def cancel(self) -> None:
        """End the fit at once, and discard its result."""
        self._set(cancelled=True)
        if self._steps is not None:
            self._steps.cancel()

    def preview_shown(self) -> None:
        """Report the last preview as handled. The next one may then be sent."""
        self._shown.set()

    @property
    def paused(self) -> bool:
        """Whether the fit should wait."""
        return self._paused and not (self._stopping or self._cancelled)

    @property
    def stopping(self) -> bool:
        """Whether the fit should end and keep its result."""
        return self._stopping

    @property
    def cancelled(self) -> bool:
        """Whether the fit is cancelled."""
        return self._cancelled

    def attach(self, steps: FitSteps) -> None:
        """Connect the control to a fit."""
        self._steps = steps
        if self._cancelled:
            steps.cancel()

    def take_turn(self) -> bool:
        """Return whether a preview may be sent. If so, the next one has to wait for `preview_shown`."""
        free = self._shown.is_set()
        self._shown.clear()
        return free

    def wait(self) -> None:
        """Wait while the fit is paused."""
        with self._condition:
            self._condition.wait_for(lambda: not self.paused)

    def _set(self, **flags: bool) -> None:
        with self._condition:
            for name, value in flags.items():
                setattr(self, f"_{name}", value)
            self._condition.notify_all()
