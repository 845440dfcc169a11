"""`Estimator`: estimates of a fit's time and memory, made in the background some time after the last change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_siren.errors import SirenError
from napari_siren.ui.background import start_function
from napari_siren.ui.tasks.fit import FitRequest, explain, load_torch
from napari_siren.ui.tasks.messages import describe_estimate, describe_sizes

# Milliseconds without a change before an estimate starts.
_SETTLED_MS = 300


class Estimator(QObject):
    """A source of estimates of time and memory, made when the settings have settled.

    Parameters
    ----------
    question
        Function that returns the request of the fit to estimate, or None if there is none now. It may raise a
        `SirenError`.
    parent
        The QObject that owns this one.
    """

    message = Signal(str)
    """The estimate in words, or the reason why there is none."""

    def __init__(self, question: Callable[[], FitRequest | None], parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._question = question
        self._busy = self._stale = self._closed = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_SETTLED_MS)
        self._timer.timeout.connect(self._ask)

    def ask_again(self) -> None:
        """Start a new estimate soon, because something has changed."""
        if not self._closed:
            self._timer.start()

    def close(self) -> None:
        """Stop all estimates and messages."""
        self._closed = True
        self._timer.stop()

    def _ask(self) -> None:
        if self._busy:
            self._stale = True
            return
        try:
            request = self._question()
        except SirenError as error:
            self.message.emit(str(error))
            return
        if request is not None:
            self._busy = True
            start_function(_estimate, request, returned=self._answer)

    def _answer(self, text: Any) -> None:
        self._busy = False
        if self._closed:
            return
        if self._stale:
            # The answer is to an earlier question.
            self._stale = False
            self.ask_again()
        else:
            self.message.emit(explain(text) if isinstance(text, Exception) else text)


def _estimate(request: FitRequest) -> str:
    load_torch()
    from napari_siren.core.cost.estimate import estimate
    from napari_siren.core.settings.config import detail_for

    spec, config = request.spec, request.config.override(detail=detail_for(request.scale))
    sizes = describe_sizes(spec.coordinate_shape, spec.scaled_shape(request.scale))
    if spec.series:
        # A trial needs frames of a drifting scene.
        return f"{sizes}. The time is shown after the first steps."
    count = 1 if request.series is None else len(request.series.indices)
    expected = estimate(spec.coordinate_shape, spec.channels, config, request.device, spacing=spec.spacing)
    return f"{sizes}. {describe_estimate(expected, count)}"
