"""Tests of the plot of a fit: the curves, the rate of drawing, and the text for the step under the mouse."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyqtgraph as pg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt, QTimer
from qtpy.QtGui import QColor, QMouseEvent, QWheelEvent
from qtpy.QtWidgets import QApplication, QLabel

from napari_siren.ui.widgets.loss_plot import LOSS_COLOR, PSNR_COLOR, LossPlot

NO_KEY = Qt.KeyboardModifier.NoModifier
NO_BUTTON = Qt.MouseButton.NoButton


@pytest.fixture
def curve(qtbot: Any) -> LossPlot:
    widget = LossPlot()
    qtbot.addWidget(widget)
    widget.resize(300, 170)
    widget.show()
    return widget


def line(curve: LossPlot, color: str) -> Any:
    """Return the curve with a colour."""
    items = [item for item in plot(curve).scene().items() if isinstance(item, pg.PlotCurveItem)]
    (match,) = [item for item in items if item.opts["pen"].color() == QColor(color)]
    return match


def drawn(curve: LossPlot, color: str) -> list[tuple[float, float]]:
    x, y = line(curve, color).getData()
    return [] if x is None else list(zip(x.tolist(), y.tolist(), strict=True))


def plot(curve: LossPlot) -> Any:
    return curve.findChild(pg.PlotWidget).getPlotItem()


def redraw(curve: LossPlot) -> None:
    """Draw the plot now, the same as when it becomes visible."""
    curve.hide()
    curve.show()


def readout(curve: LossPlot) -> str:
    return str(curve.findChild(QLabel).text())


def hover(curve: LossPlot, share: float) -> None:
    """Move the mouse to a position on the axis of steps, 0 to 1."""
    view = plot(curve).getViewBox()
    (left, right), (low, high) = view.viewRange()
    scene = view.mapViewToScene(QPointF(left + share * (right - left), (low + high) / 2))
    widget = curve.findChild(pg.PlotWidget)
    place = QPointF(widget.mapTo(curve, widget.mapFromScene(scene)))
    event = QMouseEvent(QEvent.Type.MouseMove, place, curve.mapToGlobal(place), NO_BUTTON, NO_BUTTON, NO_KEY)
    QApplication.sendEvent(curve, event)


# ---- the curves --------------------------------------------------------------------------------------


def test_points_are_what_was_added(curve: LossPlot) -> None:
    curve.add(1, 0.5, 10.0)
    curve.extend([2, 3], np.array([0.25, 0.0]), (20.0, math.inf))
    assert curve.points == ([1, 2, 3], [0.5, 0.25, 0.0], [10.0, 20.0, math.inf])
    curve.clear()
    assert curve.points == ([], [], [])


def test_lists_of_unequal_length_are_refused(curve: LossPlot) -> None:
    with pytest.raises(ValueError, match="shorter"):
        curve.extend([1, 2], [0.5], [10.0, 20.0])


def test_loss_is_drawn_as_its_logarithm_and_psnr_as_it_is(curve: LossPlot) -> None:
    curve.extend([1, 2], [0.1, 0.001], [10, 30])
    redraw(curve)
    assert drawn(curve, LOSS_COLOR) == [(1, pytest.approx(-1)), (2, pytest.approx(-3))]
    assert drawn(curve, PSNR_COLOR) == [(1, 10), (2, 30)]


def test_what_cannot_be_drawn_is_left_out_of_its_own_curve_only(curve: LossPlot) -> None:
    curve.extend(range(6), [0.1, 0.0, -1.0, math.nan, math.inf, 1.0], [1, 2, math.inf, math.nan, 5, -math.inf])
    redraw(curve)
    assert [x for x, _ in drawn(curve, LOSS_COLOR)] == [0, 5]
    assert [x for x, _ in drawn(curve, PSNR_COLOR)] == [0, 1, 4]


def test_clear_empties_the_picture(curve: LossPlot) -> None:
    curve.add(1, 0.5, 10)
    redraw(curve)
    curve.clear()
    redraw(curve)
    assert drawn(curve, LOSS_COLOR) == drawn(curve, PSNR_COLOR) == []
    assert readout(curve) == ""


def test_many_points_are_thinned_without_losing_a_spike(curve: LossPlot) -> None:
    steps = np.arange(1, 15_001)
    losses = 1 / steps
    losses[[4321, 9876]] = 50.0, 1e-9
    curve.extend(steps, losses, np.log(steps))
    redraw(curve)
    points = drawn(curve, LOSS_COLOR)
    assert 500 < len(points) <= 1000
    assert len(drawn(curve, PSNR_COLOR)) <= 1000
    assert points == sorted(points)
    assert set(points) <= set(zip(steps.tolist(), np.log10(losses).tolist(), strict=True))
    values = [y for _, y in points]
    assert (max(values), min(values)) == (pytest.approx(math.log10(50)), pytest.approx(-9))
    assert (points[0][0], points[-1][0]) == (1, 15_000)


def test_each_axis_scales_by_itself(curve: LossPlot) -> None:
    curve.extend([1, 400], [0.1, 1e-5], [10, 45])
    redraw(curve)
    QApplication.processEvents()
    left, right = plot(curve).getViewBox(), line(curve, PSNR_COLOR).getViewBox()
    assert left.viewRange()[0] == pytest.approx(right.viewRange()[0], abs=1)
    assert left.viewRange()[1] == pytest.approx([-5, -1], abs=0.5)
    assert right.viewRange()[1] == pytest.approx([10, 45], abs=5)
    curve.extend([800], [1e-5], [90])
    redraw(curve)
    QApplication.processEvents()
    assert left.viewRange()[1] == pytest.approx([-5, -1], abs=0.5)
    assert right.viewRange()[1] == pytest.approx([10, 90], abs=10)
    edges = [view.sceneBoundingRect().getRect() for view in (left, right)]
    assert edges[0] == pytest.approx(edges[1], abs=1)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (-2.2, -1.9, [math.log10(0.01)]),
        (-2.0, -1.0, [-2, math.log10(0.02), math.log10(0.05), -1]),
        (-4.5, -0.5, [-4, -3, -2, -1]),
        (-16.0, 0.0, [-16, -12, -8, -4, 0]),
    ],
)
def test_the_axis_of_the_loss_has_labels_enough_and_not_too_many(
    curve: LossPlot, low: float, high: float, labels: list[float]
) -> None:
    axis = plot(curve).getAxis("left")
    assert axis.tickValues(low, high, 120)[0][1] == pytest.approx(labels)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@example([(1, 1e-99, 1e99), (2, 1e99, -1e99)])
@example([(1, 5e-324, 1e308), (2, 1e308, -1e308)])
@given(points=st.lists(st.tuples(st.integers(0, 2**53), st.floats(), st.floats()), max_size=9))
def test_no_values_make_the_drawing_warn(curve: LossPlot, points: list[tuple[int, float, float]]) -> None:
    curve.clear()
    for point in points:
        curve.add(*point)
    redraw(curve)
    assert not curve.grab().isNull()


# ---- the time of drawing -----------------------------------------------------------------------------


def test_a_burst_of_points_is_drawn_once(curve: LossPlot, qtbot: Any) -> None:
    draws: list[int] = []
    line(curve, LOSS_COLOR).sigPlotChanged.connect(lambda: draws.append(len(drawn(curve, LOSS_COLOR))))
    for step in range(50):
        curve.add(step, 0.1, 10)
    assert draws == []
    qtbot.waitUntil(lambda: bool(draws))
    assert draws == [50]
    curve.add(50, 0.1, 10)
    qtbot.waitUntil(lambda: len(draws) == 2)
    assert draws == [50, 51]


def test_nothing_is_drawn_while_hidden(curve: LossPlot) -> None:
    curve.hide()
    curve.add(1, 0.5, 10)
    assert not curve.findChild(QTimer).isActive()
    assert drawn(curve, LOSS_COLOR) == []
    curve.show()
    assert len(drawn(curve, LOSS_COLOR)) == 1


def test_closing_stops_the_drawing(curve: LossPlot) -> None:
    curve.add(1, 0.5, 10)
    assert curve.findChild(QTimer).isActive()
    curve.close()
    assert not curve.findChild(QTimer).isActive()


def test_it_may_be_deleted_while_it_has_something_to_draw(qtbot: Any) -> None:
    curve = LossPlot()
    curve.show()
    curve.add(1, 0.5, 10)
    timer = curve.findChild(QTimer)
    with qtbot.waitSignals([curve.destroyed, timer.destroyed]):
        curve.deleteLater()


# ---- the mouse ---------------------------------------------------------------------------------------


def test_the_text_tells_of_the_last_step_or_of_the_one_under_the_mouse(curve: LossPlot) -> None:
    steps = range(1, 101)
    curve.extend(steps, [1 / s for s in steps], [float(s) for s in steps])
    redraw(curve)
    QApplication.processEvents()
    for part in ("step 100", "loss 0.01", "100.00 dB", LOSS_COLOR, PSNR_COLOR):
        assert part in readout(curve)
    left, right = plot(curve).getViewBox().viewRange()[0]
    hover(curve, (50 - left) / (right - left))
    for part in ("step 50", "loss 0.02", "50.00 dB"):
        assert part in readout(curve)
    curve.add(101, 0.5, 1.0)
    redraw(curve)
    assert "step 50" in readout(curve)
    QApplication.sendEvent(curve, QEvent(QEvent.Type.Leave))
    assert "step 101" in readout(curve)


def test_the_mouse_may_stay_while_a_new_fit_begins(curve: LossPlot) -> None:
    curve.extend([1, 2, 3], [0.1, 0.1, 0.1], [1, 2, 3])
    redraw(curve)
    QApplication.processEvents()
    hover(curve, 1)
    assert "step 3" in readout(curve)
    curve.clear()
    curve.add(1, 0.5, 9.0)
    redraw(curve)
    assert "step 1" in readout(curve)


def test_hovering_over_nothing_says_nothing(curve: LossPlot) -> None:
    hover(curve, 0.5)
    assert readout(curve) == ""


def test_the_mouse_neither_moves_the_plot_nor_takes_the_wheel(curve: LossPlot) -> None:
    curve.extend([1, 400], [0.1, 1e-5], [10, 45])
    redraw(curve)
    QApplication.processEvents()
    before = plot(curve).getViewBox().viewRange()
    middle = curve.rect().center()
    # The plot passes mouse events to the `LossPlot`, which ignores unknown ones.
    assert curve.childAt(middle) is None
    place = QPointF(middle), QPointF(curve.mapToGlobal(middle))
    wheel = QWheelEvent(*place, QPoint(), QPoint(0, 120), NO_BUTTON, NO_KEY, Qt.ScrollPhase.NoScrollPhase, False)
    QApplication.sendEvent(curve, wheel)
    assert not wheel.isAccepted()
    assert plot(curve).getViewBox().viewRange() == before
    for view in (plot(curve).getViewBox(), line(curve, PSNR_COLOR).getViewBox()):
        assert view.state["mouseEnabled"] == [False, False]
        assert not view.menuEnabled()
    assert plot(curve).buttonsHidden


# ---- colours -----------------------------------------------------------------------------------------


def luminance(color: str) -> float:
    """Return the relative luminance of a colour, as defined by WCAG."""
    rgb = np.array(QColor(color).getRgbF()[:3])
    return float(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("color", [LOSS_COLOR, PSNR_COLOR])
@pytest.mark.parametrize("background", ["#262930", "#efebe9", "white"])
def test_the_curves_stand_out_on_dark_and_light(color: str, background: str) -> None:
    dark, light = sorted((luminance(color), luminance(background)))
    assert (light + 0.05) / (dark + 0.05) >= 3


def test_axes_have_the_colours_of_their_curves_and_of_the_theme(curve: LossPlot) -> None:
    curve.add(1, 0.5, 10)
    curve.set_colors("#112233", "#ddeeff")
    redraw(curve)
    assert curve.grab().toImage().pixelColor(curve.rect().center()).name() == "#ddeeff"
    colors = {side: plot(curve).getAxis(side).textPen().color().name() for side in ("left", "right", "bottom")}
    assert colors == {"left": LOSS_COLOR, "right": PSNR_COLOR, "bottom": "#112233"}
    assert f"color: {LOSS_COLOR}" in plot(curve).getAxis("left").labelString()
    assert f"color: {PSNR_COLOR}" in plot(curve).getAxis("right").labelString()


def test_a_psnr_that_was_not_looked_at_again_makes_no_stairs(qtbot: Any) -> None:
    curve = LossPlot()
    qtbot.addWidget(curve)
    curve.show()
    curve.extend([1, 2, 3, 4, 5], [5.0, 4.0, 3.0, 2.0, 1.0], [20.0, 20.0, 30.0, 30.0, 35.0])
    qtbot.waitUntil(lambda: len(curve._psnr.getData()[0]) == 3)
    np.testing.assert_array_equal(curve._psnr.getData(), [[1, 3, 5], [20, 30, 35]])
    assert len(curve._loss.getData()[0]) == 5
