"""`Renders`: the layers that are made from a finished result, in the background."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_siren.core.clock import Cancellation
from napari_siren.layers.spec import LayerData
from napari_siren.ui.background import activity, start_function

# Smallest time between two reports in seconds.
_INTERVAL = 0.1

Report = Callable[[float], None]
"""Function that receives the share of the work that is done, 0 to 1. It raises `Cancelled` after a cancellation."""


@dataclass(frozen=True, eq=False)
class Render:
    """A layer to make.

    Parameters
    ----------
    role
        Role of the layer.
    make
        Function that makes the layer, in another thread.
    displayed
        The same as for `ResultLayers.replace`.
    """

    role: str
    make: Callable[[Report], LayerData]
    displayed: bool = False


class Renders(QObject):
    """The layers of a result that are being made: at most one of each role at a time, the latest request of each.

    Parameters
    ----------
    parent
        The QObject that owns this one.
    """

    changed = Signal()
    """A layer has been requested or made."""
    progressed = Signal(float, object)
    """Share of a layer that is done, 0 to 1, and the estimated remaining seconds or None."""
    made = Signal(object, object)
    """A `Render`, and its LayerDataTuple or the exception."""

    _reported = Signal(object, float)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._pending: dict[str, Render] = {}
        self._running: dict[str, tuple[Render, Cancellation]] = {}
        # Bar of napari, and start, of each layer that reports its progress.
        self._bars: dict[Render, tuple[Any, float]] = {}
        self._reported.connect(self._on_report)

    @property
    def roles(self) -> set[str]:
        """Roles of the layers that are being made."""
        return {*self._running, *self._pending}

    @property
    def cancellable(self) -> bool:
        """Whether a layer with a progress is being made."""
        return bool(self._bars)

    def request(self, render: Render) -> None:
        """Make a layer soon. An earlier request of the same role that has not begun is dropped."""
        self._pending[render.role] = render
        if render.role not in self._running:
            self._begin(render.role)
        self.changed.emit()

    def cancel(self) -> None:
        """End the work that reports its progress. It ends with the exception `Cancelled`."""
        for render, cancellation in self._running.values():
            if render in self._bars:
                cancellation.request()

    def forget(self) -> None:
        """Drop all requests, and end the work soon."""
        self._pending.clear()
        for render, cancellation in list(self._running.values()):
            cancellation.request()
            self._close_bar(render)
        self._running.clear()
        self.changed.emit()

    def _begin(self, role: str) -> None:
        render, cancellation = self._pending.pop(role), Cancellation()
        self._running[role] = (render, cancellation)

        last = -math.inf

        def report(share: float) -> None:
            nonlocal last
            cancellation.check()
            if time.monotonic() - last >= _INTERVAL:
                last = time.monotonic()
                self._reported.emit(render, share)

        start_function(_make, render, report, returned=self._on_made)

    def _on_report(self, render: Render, share: float) -> None:
        if self._running.get(render.role, (None,))[0] is not render:
            return
        if render not in self._bars:
            self._bars[render] = (activity(total=100, desc=f"SIREN: {render.role}"), time.monotonic())
            self.changed.emit()
        bar, start = self._bars[render]
        bar.update(round(100 * share) - bar.n)
        seconds = time.monotonic() - start
        self.progressed.emit(share, seconds * (1 - share) / share if share > 0 else None)

    def _on_made(self, outcome: tuple[Render, LayerData | Exception]) -> None:
        render, layer_data = outcome
        self._close_bar(render)
        if self._running.get(render.role, (None,))[0] is render:
            del self._running[render.role]
            self.made.emit(render, layer_data)
            if render.role in self._pending:
                self._begin(render.role)
            self.changed.emit()

    def _close_bar(self, render: Render) -> None:
        if render in self._bars:
            self._bars.pop(render)[0].close()


def _make(render: Render, report: Report) -> tuple[Render, LayerData | Exception]:
    try:
        return render, render.make(report)
    except Exception as error:
        return render, error
