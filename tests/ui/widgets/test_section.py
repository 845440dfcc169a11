"""Tests of a collapsible part of the panel."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel

from napari_siren.ui.widgets.section import Section


def is_seen(widget: Any) -> bool:
    return bool(widget.visibleRegion().boundingRect().height() > 0)


def colours(section: Section) -> set[str]:
    """Return the colours of the heading."""
    shown = section.toggleButton().grab().toImage()
    return {shown.pixelColor(x, y).name() for x in range(shown.width()) for y in range(shown.height())}


@pytest.mark.parametrize("expanded", [False, True])
def test_its_heading_opens_and_closes_it(qtbot: Any, expanded: bool) -> None:
    content = QLabel("content")
    section = Section("Heading", content, expanded)
    qtbot.addWidget(section)
    with qtbot.waitExposed(section):
        section.show()
    assert section.isExpanded() == is_seen(content) == expanded
    for wanted in (not expanded, expanded):
        qtbot.mouseClick(section.toggleButton(), Qt.MouseButton.LeftButton)
        assert section.isExpanded() == wanted
        qtbot.waitUntil(lambda wanted=wanted: is_seen(content) == wanted)


def test_its_arrow_follows_the_theme_open_or_not(qtbot: Any) -> None:
    section = Section("Heading", QLabel("content"))
    qtbot.addWidget(section)
    for colour, other in (("#ff0000", "#00ff00"), ("#00ff00", "#ff0000")):
        section.set_colors(colour, "#0000ff")
        for turn in (section.expand, section.collapse):
            turn(animate=False)
            assert colour in colours(section)
            assert other not in colours(section)
