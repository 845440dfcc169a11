"""`Section`: a collapsible part of the panel."""

from __future__ import annotations

from qtpy.QtCore import QPointF, QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPainter, QPixmap, QPolygonF
from qtpy.QtWidgets import QWidget
from superqt import QCollapsible

# Width and height of the arrow's image in pixels.
_SIDE = 32


class Section(QCollapsible):
    """A heading with an arrow, and a collapsible content below it.

    Parameters
    ----------
    title
        Text of the heading.
    content
        Widget below the heading.
    expanded
        Whether the section is open at first.
    """

    def __init__(self, title: str, content: QWidget, expanded: bool = False) -> None:
        super().__init__(title)
        self.setDuration(0)
        self.addWidget(content)
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.content().layout().setContentsMargins(2, 2, 2, 2)
        # Hidden widgets take no focus.
        self.content().setVisible(expanded)
        self.toggled.connect(self.content().setVisible)
        if expanded:
            self.expand(animate=False)

    def set_colors(self, text: str, heading: str) -> None:
        """Set the colours of a theme.

        Parameters
        ----------
        text, heading
            Colours of the arrow and of the heading's background, as "#rrggbb".
        """
        self.setCollapsedIcon(_arrow(text, open_=False))
        self.setExpandedIcon(_arrow(text, open_=True))
        button = self.toggleButton()
        button.setIconSize(QSize(12, 12))
        # The heading looks the same whether the section is open or not. Without this, it would look like a pressed
        # button while the section is open.
        button.setStyleSheet(f"QPushButton, QPushButton:checked {{ background: {heading}; text-align: left; }}")


def _arrow(color: str, open_: bool) -> QIcon:
    pixmap = QPixmap(_SIDE, _SIDE)
    pixmap.fill(Qt.GlobalColor.transparent)
    low, middle, high = 0.25 * _SIDE, 0.5 * _SIDE, 0.75 * _SIDE
    corners = [(low, low), (high, low), (middle, high)] if open_ else [(low, low), (high, middle), (low, high)]
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(color))
    painter.drawPolygon(QPolygonF([QPointF(x, y) for x, y in corners]))
    painter.end()
    return QIcon(pixmap)
