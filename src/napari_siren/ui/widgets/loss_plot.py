"""`LossPlot`: a live plot of the loss and the PSNR of a fit against its steps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from qtpy.QtCore import QPointF, QTimer
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

# isort: split
# This import comes after Qt's: pyqtgraph uses the Qt binding that is already loaded, and this should be qtpy's choice.
import pyqtgraph as pg

Floats = npt.NDArray[np.float64]

# Colour of the loss. Its contrast to napari's dark and light backgrounds is 3 or more.
LOSS_COLOR = "#cf5f00"
# Colour of the PSNR. Its contrast to napari's dark and light backgrounds is 3 or more.
PSNR_COLOR = "#1f7fd6"

# Height of the plot in pixels.
_HEIGHT = 150
# Milliseconds between two drawings.
_REDRAW_MS = 200
# Largest number of points to draw in a curve.
_MAX_POINTS = 1000
# Largest value to draw. It is above all values of float32, and below the values that make pyqtgraph's axes overflow.
_LARGEST = 1e100


class LossPlot(QWidget):
    """A plot of loss (left, logarithmic) and PSNR in dB (right) against the steps, and a line of text with both.

    The text is for the step under the mouse, or else for the last step. The plot is drawn at most five times a second,
    and only while the widget is visible.

    Parameters
    ----------
    parent
        Parent widget.
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
        """Steps, losses and PSNRs (dB) added so far, including those that cannot be drawn."""
        return list(self._steps), list(self._losses), list(self._psnrs)

    def add(self, step: int, loss: float, psnr: float) -> None:
        """Add a step. A value that is not finite, or a loss of 0, does not change its curve.

        Parameters
        ----------
        step
            Number of steps done.
        loss
            Mean squared error of the normalised values, the same as in `Progress`.
        psnr
            PSNR in dB.
        """
        self.extend((step,), (loss,), (psnr,))

    def extend(self, steps: Iterable[int], losses: Iterable[float], psnrs: Iterable[float]) -> None:
        """Add several steps. See `add`."""
        for step, loss, psnr in zip(steps, losses, psnrs, strict=True):
            self._steps.append(int(step))
            self._losses.append(float(loss))
            self._psnrs.append(float(psnr))
        self._schedule()

    def clear(self) -> None:
        """Remove all points."""
        self._steps, self._losses, self._psnrs = [], [], []
        self._hovered = None
        self._schedule()

    def set_colors(self, foreground: str, background: str) -> None:
        """Set the colours of a theme.

        Parameters
        ----------
        foreground
            Colour of the axis of steps and of the text, in Qt's notation: "#f0f1f2" or "white".
        background
            Colour of the plot's background.
        """
        self._plot.setBackground(background)
        self._color_axis("bottom", "", foreground)
        self._readout.setStyleSheet(f"color: {foreground}; background-color: {background};")

    # ---- methods of Qt -------------------------------------------------------------------------------

    def showEvent(self, event: Any) -> None:
        """Draw the points added while the widget was hidden."""
        super().showEvent(event)
        self._draw()

    def hideEvent(self, event: Any) -> None:
        """Stop drawing while the widget is hidden."""
        self._timer.stop()
        super().hideEvent(event)

    def mouseMoveEvent(self, event: Any) -> None:
        """Show the values of the step under the mouse."""
        if self._steps:
            position = self._plot.mapToScene(self._plot.mapFrom(self, event.position().toPoint()))
            step = self._plot.getViewBox().mapSceneToView(QPointF(position)).x()
            self._hovered = int(np.abs(np.asarray(self._steps) - step).argmin())
        self._write()

    def leaveEvent(self, event: Any) -> None:
        """Show the values of the last step again."""
        super().leaveEvent(event)
        self._hovered = None
        self._write()

    # ---- private methods -----------------------------------------------------------------------------

    def _set_up_plot(self) -> None:
        plot, right = self._plot.getPlotItem(), self._psnr_view
        # This widget handles the mouse instead of the plot, so that no drag, wheel or menu moves the plot.
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
        # With smaller ranges there might be no tick with a label, or a tick between two steps.
        plot.setLimits(xMin=0, minXRange=10, minYRange=0.5)
        right.setLimits(minYRange=1)
        self._color_axis("left", "loss", LOSS_COLOR)
        self._color_axis("right", "PSNR (dB)", PSNR_COLOR)
        # The axis of steps has no label, since the line of text already names the steps.
        self._color_axis("bottom", "", "gray")

    def _lay_out(self) -> None:
        # A long text must not make the panel wider.
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
        # The PSNR is measured every few steps only, and repeated in between. Repeated values are left out, since they
        # would draw stairs.
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
        psnr = self._psnrs[i]
        self._readout.setText(
            f"step {self._steps[i]}"
            f' · <span style="color: {LOSS_COLOR}">loss {self._losses[i]:.3g}</span>'
            # A restoration has no PSNR while it runs.
            + ("" if math.isnan(psnr) else f' · <span style="color: {PSNR_COLOR}">{psnr:.2f} dB</span>')
        )


class _LossAxis(pg.AxisItem):
    """An axis of log10(loss), with labels at powers of ten. On a short axis, 2 and 5 times these have labels, too."""

    def __init__(self, orientation: str) -> None:
        super().__init__(orientation, maxTickLength=-5)
        self.setLogMode(True)
        self.setStyle(maxTextLevel=0)

    def logTickValues(self, minVal: float, maxVal: float, size: float, stdTicks: Any) -> Any:
        """Return the ticks with labels and the ticks without labels, as log10(loss)."""
        every = max(1, round((maxVal - minVal) / 4))
        powers = range(math.ceil(minVal / every) * every - every, math.ceil(maxVal) + 1, every)
        factors = (1, 2, 5) if maxVal - minVal < 2 else (1,)
        ticks = [power + math.log10(factor) for power in powers for factor in factors]
        minor = [power + math.log10(factor) for power in powers for factor in range(1, 10)] if every == 1 else []
        return [(None, [t for t in level if minVal <= t <= maxVal]) for level in (ticks, minor)]


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return the lowest and the highest point of each of 500 bins, so that no spike is lost."""
    if len(x) <= _MAX_POINTS:
        return x, y
    bins = _MAX_POINTS // 2
    size = math.ceil(len(x) / bins)
    padded = np.pad(y, (0, size * bins - len(y)), mode="edge").reshape(bins, size)
    first = size * np.arange(bins)
    indices = np.unique(np.concatenate([first + padded.argmin(axis=1), first + padded.argmax(axis=1)]))
    indices = indices[indices < len(x)]
    return x[indices], y[indices]
