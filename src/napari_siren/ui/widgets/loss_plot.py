"""`Curve`: loss and PSNR of a fit against its steps, drawn while it goes on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QTimer
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

# isort: split
# Only now: pyqtgraph takes the Qt binding that is already there, which should be the one that qtpy chose.
import pyqtgraph as pg

Floats = npt.NDArray[np.float64]

# Both have a contrast of 3 or more to napari's dark and light backgrounds.
LOSS_COLOR = "#cf5f00"
PSNR_COLOR = "#1f7fd6"

_HEIGHT = 150
_REDRAW_MS = 200
_MOST_POINTS = 1000
# Nothing that float32 can hold is beyond; pyqtgraph's axes would overflow before float64 does.
_LARGEST = 1e100


class Curve(QWidget):
    """Loss (left, logarithmic) and PSNR in dB (right) against the steps, and a line of text with both.

    The text is that of the step under the mouse, else of the last one. It is drawn at most five times a second, and
    only while the widget is visible.

    Parameters
    ----------
    parent
        As for any widget.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._steps: list[int] = []
        self._losses: list[float] = []
        self._psnrs: list[float] = []
        self._hovered: int | None = None
        self._plot = pg.PlotWidget(background=None, enableMenu=False, axisItems={"left": _LossAxis("left")})
        self._loss = pg.PlotCurveItem(pen=pg.mkPen(LOSS_COLOR, width=2), antialias=True)
        self._psnr = pg.PlotCurveItem(pen=pg.mkPen(PSNR_COLOR, width=2), antialias=True)
        self._psnr_view = pg.ViewBox(enableMenu=False, enableMouse=False)
        self._readout = QLabel()
        self._set_up_plot()
        self._lay_out()
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_REDRAW_MS)
        self._timer.timeout.connect(self._draw)

    @property
    def points(self) -> tuple[list[int], list[float], list[float]]:
        """Steps, losses and PSNRs added so far, those that cannot be drawn included."""
        return list(self._steps), list(self._losses), list(self._psnrs)

    def add(self, step: int, loss: float, psnr: float) -> None:
        """Add a step; a value that is not finite, or a loss of 0, leaves a curve as it is.

        Parameters
        ----------
        step
            Steps done.
        loss
            As in `Progress`.
        psnr
            dB.
        """
        self.extend((step,), (loss,), (psnr,))

    def extend(self, steps: Iterable[int], losses: Iterable[float], psnrs: Iterable[float]) -> None:
        """Add several steps; see `add`."""
        for step, loss, psnr in zip(steps, losses, psnrs, strict=True):
            self._steps.append(int(step))
            self._losses.append(float(loss))
            self._psnrs.append(float(psnr))
        self._schedule()

    def clear(self) -> None:
        """Forget all points."""
        self._steps, self._losses, self._psnrs = [], [], []
        self._hovered = None
        self._schedule()

    def set_colors(self, foreground: str, background: str) -> None:
        """Follow a theme.

        Parameters
        ----------
        foreground
            Of the axis of steps and of the text, as Qt names colours: "#f0f1f2" or "white".
        background
            Of the plot.
        """
        self._plot.setBackground(background)
        self._color_axis("bottom", "", foreground)
        self._readout.setStyleSheet(f"color: {foreground}; background-color: {background};")

    # ---- what Qt asks for ----------------------------------------------------------------------------

    def showEvent(self, event: Any) -> None:
        """Draw what came in while it was hidden."""
        super().showEvent(event)
        self._draw()

    def hideEvent(self, event: Any) -> None:
        """Draw no more."""
        self._timer.stop()
        super().hideEvent(event)

    def mouseMoveEvent(self, event: Any) -> None:
        """Tell of the step under the mouse."""
        if self._steps:
            place = self._plot.mapToScene(self._plot.mapFrom(self, event.position().toPoint()))
            step = self._plot.getViewBox().mapSceneToView(QPointF(place)).x()
            self._hovered = int(np.abs(np.asarray(self._steps) - step).argmin())
        self._write()

    def leaveEvent(self, event: Any) -> None:
        """Tell of the last step again."""
        super().leaveEvent(event)
        self._hovered = None
        self._write()

    # ---- the inside ----------------------------------------------------------------------------------

    def _set_up_plot(self) -> None:
        plot, right = self._plot.getPlotItem(), self._psnr_view
        # The widget around looks after the mouse: neither drags nor the wheel nor a menu move the plot.
        self._plot.setAttribute(pg.QtCore.Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setMouseTracking(True)
        plot.setMouseEnabled(x=False, y=False)
        plot.hideButtons()
        plot.showAxis("right")
        plot.scene().addItem(right)
        plot.getAxis("right").linkToView(right)
        right.setXLink(plot)
        plot.getViewBox().geometryChanged.connect(self._follow_geometry)
        plot.addItem(self._loss)
        right.addItem(self._psnr)
        # Of less there might be no tick with a label, or ones between two steps.
        plot.setLimits(xMin=0, minXRange=10, minYRange=0.5)
        right.setLimits(minYRange=1)
        self._color_axis("left", "loss", LOSS_COLOR)
        self._color_axis("right", "PSNR (dB)", PSNR_COLOR)
        # The line of text says that it is steps.
        self._color_axis("bottom", "", "gray")

    def _lay_out(self) -> None:
        # However long the text, it should not make the panel wider.
        self._readout.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._readout)
        layout.addWidget(self._plot)
        self._plot.setFixedHeight(_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def _color_axis(self, side: str, text: str, color: str) -> None:
        axis = self._plot.getAxis(side)
        axis.setLabel(text, color=color)
        axis.setPen(color)
        axis.setTextPen(color)
        axis.enableAutoSIPrefix(False)

    def _follow_geometry(self) -> None:
        self._psnr_view.setGeometry(self._plot.getViewBox().sceneBoundingRect())
        self._psnr_view.linkedViewChanged(self._plot.getViewBox(), self._psnr_view.XAxis)

    def _schedule(self) -> None:
        if self.isVisible() and not self._timer.isActive():
            self._timer.start()

    def _draw(self) -> None:
        steps = np.asarray(self._steps, dtype=np.float64)
        losses = np.asarray(self._losses, dtype=np.float64)
        psnrs = np.asarray(self._psnrs, dtype=np.float64)
        can_draw = (losses > 1 / _LARGEST) & (losses < _LARGEST)
        self._loss.setData(*_thinned(steps[can_draw], np.log10(losses[can_draw])))
        # It is looked at every few steps, and the same in between: no stairs.
        can_draw = (np.abs(psnrs) < _LARGEST) & (psnrs != np.append(np.nan, psnrs[:-1]))
        self._psnr.setData(*_thinned(steps[can_draw], psnrs[can_draw]))
        for side in ("left", "bottom", "right"):
            self._plot.getAxis(side).setStyle(showValues=bool(self._steps))
        self._write()

    def _write(self) -> None:
        if not self._steps:
            self._readout.setText("")
            return
        i = -1 if self._hovered is None else self._hovered
        self._readout.setText(
            f"step {self._steps[i]}"
            f' · <span style="color: {LOSS_COLOR}">loss {self._losses[i]:.3g}</span>'
            f' · <span style="color: {PSNR_COLOR}">{self._psnrs[i]:.2f} dB</span>'
        )


class _LossAxis(pg.AxisItem):
    """An axis of log10(loss), with labels at powers of ten and, where there are few of these, at 2 and 5 times them."""

    def __init__(self, orientation: str) -> None:
        super().__init__(orientation, maxTickLength=-5)
        self.setLogMode(True)
        self.setStyle(maxTextLevel=0)

    def logTickValues(self, minVal: float, maxVal: float, size: float, stdTicks: Any) -> Any:
        every = max(1, round((maxVal - minVal) / 4))
        powers = range(math.ceil(minVal / every) * every - every, math.ceil(maxVal) + 1, every)
        factors = (1, 2, 5) if maxVal - minVal < 2 else (1,)
        ticks = [power + math.log10(factor) for power in powers for factor in factors]
        minor = [power + math.log10(factor) for power in powers for factor in range(1, 10)] if every == 1 else []
        return [(None, [t for t in level if minVal <= t <= maxVal]) for level in (ticks, minor)]


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Keep the lowest and the highest point of each of some hundred bins, so that no spike is lost."""
    if len(x) <= _MOST_POINTS:
        return x, y
    bins = _MOST_POINTS // 2
    size = math.ceil(len(x) / bins)
    padded = np.pad(y, (0, size * bins - len(y)), mode="edge").reshape(bins, size)
    first = size * np.arange(bins)
    keep = np.unique(np.concatenate([first + padded.argmin(axis=1), first + padded.argmax(axis=1)]))
    keep = keep[keep < len(x)]
    return x[keep], y[keep]
