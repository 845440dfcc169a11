"""`SettingsPanel`: all settings of the next fit, and the ways to keep them."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QGridLayout, QPushButton, QSpinBox, QWidget

from napari_siren.ui.panels.settings_form import SettingsForm


class SettingsPanel(QWidget):
    """The preset, the seed, the form of all settings, and the buttons for files and code.

    Parameters
    ----------
    preset_box
        Box of the presets.
    parent
        Parent widget.
    """

    copy_code = Signal()
    save_settings = Signal()
    load_settings = Signal()

    def __init__(self, preset_box: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.form = SettingsForm()
        self.seed_box = QSpinBox()
        self.seed_box.setRange(0, 2**31 - 1)
        self.seed_box.setAccessibleName("Seed")
        self.seed_box.setToolTip("Seed of the random start. Use the same seed to repeat the same fit.")
        self.save_button = QPushButton("Save settings…")
        self.save_button.setToolTip("Save the settings to a file, for scripts and other images.")
        self.load_button = QPushButton("Load settings…")
        self.load_button.setToolTip("Load the settings from a file.")
        self.code_button = QPushButton("Copy settings as Python")
        self.code_button.setToolTip("Copy Python code for the next fit, with these settings, to the clipboard.")
        buttons = QGridLayout()
        buttons.setContentsMargins(0, 0, 0, 0)
        buttons.addWidget(self.save_button, 0, 0)
        buttons.addWidget(self.load_button, 0, 1)
        buttons.addWidget(self.code_button, 1, 0, 1, 2)
        for button in (self.save_button, self.load_button, self.code_button):
            # Two buttons side by side must fit into a narrow dock.
            button.setMinimumWidth(10)
        layout = QFormLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addRow("Preset", preset_box)
        layout.addRow("Seed", self.seed_box)
        layout.addRow(buttons)
        layout.addRow(self.form)
        self.save_button.clicked.connect(self.save_settings)
        self.load_button.clicked.connect(self.load_settings)
        self.code_button.clicked.connect(self.copy_code)

    @property
    def seed(self) -> int:
        """Seed of the next fit."""
        return int(self.seed_box.value())
