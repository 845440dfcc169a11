"""Icons of the purposes, drawn in the colour of the text."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPen, QPixmap

# Width and height of an icon in pixels.
_SIDE = 32


def purpose_icon(name: str, color: str) -> QIcon:
    """Return the icon of a purpose.

    Parameters
    ----------
    name
        Name of the purpose.
    color
        Colour of the lines, as "#rrggbb".
    """
    pixmap = QPixmap(_SIDE, _SIDE)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(QPen(QColor(color), 2.5))
    _DRAWINGS[name](painter)
    painter.end()
    return QIcon(pixmap)


def _enlarge(painter: QPainter) -> None:
    painter.drawRect(QRectF(4, 18, 10, 10))
    painter.drawLine(QPointF(16, 16), QPointF(28, 4))
    painter.drawPolyline([QPointF(18, 4), QPointF(28, 4), QPointF(28, 14)])


def _denoise(painter: QPainter) -> None:
    for x, y in ((6, 8), (12, 16), (5, 22), (14, 26), (11, 5)):
        painter.drawPoint(QPointF(x, y))
    painter.drawPolyline([QPointF(18, 22), QPointF(21, 10), QPointF(25, 14), QPointF(29, 8)])


def _deblur(painter: QPainter) -> None:
    painter.setOpacity(0.45)
    painter.drawEllipse(QPointF(16, 16), 12, 12)
    painter.setOpacity(1)
    painter.drawEllipse(QPointF(16, 16), 4, 4)


def _isotropic(painter: QPainter) -> None:
    painter.drawRect(QRectF(5, 11, 16, 16))
    painter.drawPolyline([QPointF(5, 11), QPointF(12, 4), QPointF(28, 4), QPointF(21, 11)])
    painter.drawPolyline([QPointF(28, 4), QPointF(28, 20), QPointF(21, 27)])


def _burst(painter: QPainter) -> None:
    painter.setOpacity(0.45)
    painter.drawRect(QRectF(4, 4, 16, 16))
    painter.drawRect(QRectF(8, 8, 16, 16))
    painter.setOpacity(1)
    painter.drawRect(QRectF(12, 12, 16, 16))


def _memorise(painter: QPainter) -> None:
    painter.drawArc(QRectF(2, 8, 14, 16), 0, 180 * 16)
    painter.drawArc(QRectF(16, 8, 14, 16), 180 * 16, 180 * 16)


_DRAWINGS: dict[str, Callable[[QPainter], None]] = {
    "enlarge": _enlarge,
    "denoise": _denoise,
    "deblur": _deblur,
    "isotropic": _isotropic,
    "burst": _burst,
    "memorise": _memorise,
}
