"""The panel without a mouse: the order of the Tab key, and names for screen readers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QLayout, QLineEdit, QWidget

_LABEL, _FIELD = QFormLayout.ItemRole.LabelRole, QFormLayout.ItemRole.FieldRole


def order_tabs(widget: QWidget) -> None:
    """Set the order of the Tab key within a widget to that of the layouts.

    Qt visits them in the order of their creation.
    """
    for first, second in pairwise(_controls(widget)):
        QWidget.setTabOrder(first, second)


def name_controls(widget: QWidget) -> None:
    """Name the controls within a widget that have no name yet: after their label in a form, or their placeholder."""
    for form in widget.findChildren(QFormLayout):
        for row in range(form.rowCount()):
            label, field = (form.itemAt(row, role) for role in (_LABEL, _FIELD))
            if isinstance(label and label.widget(), QLabel) and field is not None and field.widget() is not None:
                for control in (field.widget(), *field.widget().findChildren(QLineEdit)):
                    control.setAccessibleName(control.accessibleName() or label.widget().text())
    for line in widget.findChildren(QLineEdit):
        line.setAccessibleName(line.accessibleName() or line.placeholderText())


def _controls(widget: QWidget) -> Iterator[QWidget]:
    layout = widget.layout()
    # The list of a combo box has a layout, too.
    if layout is not None and not isinstance(widget, QComboBox):
        yield from _in_layout(layout)
    elif widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
        yield widget


def _in_layout(layout: QLayout) -> Iterator[QWidget]:
    for i in range(layout.count()):
        item = layout.itemAt(i)
        if item is not None and item.layout() is not None:
            yield from _in_layout(item.layout())
        elif item is not None and item.widget() is not None:
            yield from _controls(item.widget())
