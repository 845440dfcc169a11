"""Combo boxes for the layers of a viewer."""

from __future__ import annotations

from qtpy.QtWidgets import QComboBox, QSizePolicy


class NarrowBox(QComboBox):
    """A combo box in a narrow dock: a long text does not make it wider.

    Parameters
    ----------
    name
        Accessible name.
    tooltip
        Tooltip.
    """

    def __init__(self, name: str, tooltip: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setToolTip(tooltip)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(8)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
