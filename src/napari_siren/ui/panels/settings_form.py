"""`SettingsForm`: an editor for every field of `FitConfig`, made from the fields' annotations."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtGui import QFont
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QLineEdit, QPushButton, QVBoxLayout, QWidget
from superqt.utils import signals_blocked

from napari_siren.core.settings.config import FitConfig
from napari_siren.ui.logic.setting_names import GROUPS
from napari_siren.ui.widgets.setting_editors import Editor, make_editor, value_text

# Fields without an editor: the preset is chosen in another panel, and an array cannot be typed.
_HIDDEN = ("name", "psf")
# First number in an editor if the user sets a number where the presets have "auto" or none.
_STARTS = {
    "tile": 64,
    "camera_gain": 1,
    "total_variation": 0.01,
    "max_seconds": 60,
    "target_psnr": 40,
    "threads": 4,
    "max_memory": 4 * 2**30,
}
# Words to choose from in an editor for any text. The task checks the text, because it may be a path.
_SUGGESTIONS = {"pretrained": ("auto", "general", "microscope")}


@dataclass(frozen=True, eq=False)
class _Row:
    name: str
    description: str
    label: QLabel
    editor: Editor

    @classmethod
    def from_field(cls, name: str, title: str) -> _Row:
        """Make the row of a field of `FitConfig`."""
        field = FitConfig.model_fields[name]
        editor = make_editor(field.annotation, field.metadata, _STARTS.get(name, 1), _SUGGESTIONS.get(name, ()))
        label = QLabel(title)
        label.setWordWrap(True)
        label.setBuddy(editor)
        editor.setAccessibleName(title)
        label.setObjectName(name)
        editor.setObjectName(name)
        return cls(name, " ".join((field.description or "").split()), label, editor)

    def set_visible(self, visible: bool) -> None:
        """Show or hide the row."""
        self.label.setVisible(visible)
        self.editor.setVisible(visible)

    def matches(self, words: list[str]) -> bool:
        """Return whether the name or the description contains all words."""
        text = f"{self.name} {self.label.text()} {self.description}".casefold()
        return all(word in text for word in words)

    def mark(self, differs: bool) -> None:
        """Show the label in bold if the value differs from the preset's."""
        font = QFont()
        # Only the weight is set, so that everything else still comes from the style sheet.
        font.setBold(differs)
        self.label.setFont(font if differs else QFont())

    def explain(self, preset: FitConfig) -> None:
        """Set the tooltips: the description, the preset's value and the range."""
        default = f"{preset.name}: {value_text(getattr(preset, self.name))}"
        bounds = str(self.editor.limits)
        lines = [f"<b>{self.name}</b>", _as_html(self.description), html.escape(default)]
        if bounds:
            lines.append(html.escape(f"range: {bounds}"))
        tip = "".join(f"<p>{line}</p>" for line in lines)
        self.label.setToolTip(tip)
        self.editor.setToolTip(tip)


class SettingsForm(QWidget):
    """A table of all settings of a fit, in groups, except the preset's name and the PSF. It does not scroll by itself.

    Settings that differ from the preset's are in bold, and a button restores the preset's values. The editor of a
    setting, and its label, have the setting's name as their object name.

    Parameters
    ----------
    parent
        Parent widget.
    """

    changed = Signal()
    """The user has changed a setting, or has reset all of them."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._preset = FitConfig.preset("faithful")
        self._psf: tuple[Any, ...] | None = None
        self._groups = _groups()
        titles = {name: title for group in self._groups.values() for name, title in group.items()}
        self._rows = {name: _Row.from_field(name, title) for name, title in titles.items()}
        self._headings = {group: _heading(group) for group in self._groups}
        # Rows that are shown in another panel now.
        self._lent: tuple[str, ...] = ()
        self._filter = QLineEdit()
        self._filter.setPlaceholderText("Filter settings…")
        self._filter.setClearButtonEnabled(True)
        self._filter.textChanged.connect(self._on_filter)
        self._reset = QPushButton("Reset")
        self._reset.setFlat(True)
        self._reset.clicked.connect(self._on_reset)
        self._nothing = QLabel("No setting matches.")
        self._nothing.setVisible(False)
        self._lay_out()
        for row in self._rows.values():
            row.editor.edited.connect(self._on_edit)
        self.set_config(self._preset)

    def config(self) -> FitConfig:
        """Return the present settings.

        Raises
        ------
        ConfigError
            A setting is out of its range, or contradicts another one.
        """
        return FitConfig.preset(self._preset.name, **self._values())

    def set_config(self, config: FitConfig) -> None:
        """Show settings, and mark the differences from the preset in their `name`. This does not emit `changed`."""
        self._preset = FitConfig.preset(config.name)
        self._psf = config.psf
        for name, row in self._rows.items():
            with signals_blocked(row.editor):
                row.editor.set_value(getattr(config, name))
            row.explain(self._preset)
        self._mark()

    def set_preset(self, name: str) -> None:
        """Show the settings of a preset. This does not emit `changed`.

        Raises
        ------
        ConfigError
            There is no such preset.
        """
        self.set_config(FitConfig.preset(name))

    def overrides(self) -> dict[str, Any]:
        """Return the differences from the preset, as values by name. They are not checked for contradictions."""
        return {name: value for name, value in self._values().items() if value != getattr(self._preset, name)}

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.addWidget(self._filter, 1)
        top.addWidget(self._reset)
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(6)
        self._grid.setVerticalSpacing(4)
        self._grid.setColumnStretch(1, 1)
        # The place of each row, also while it is shown in another panel.
        self._places: dict[str, int] = {}
        for group, titles in self._groups.items():
            self._grid.addWidget(self._headings[group], self._grid.rowCount(), 0, 1, 2)
            for name in titles:
                self._places[name] = self._grid.rowCount()
                self._place(name, self._grid, self._places[name])
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(top)
        layout.addWidget(self._nothing)
        layout.addLayout(self._grid)
        layout.addStretch(1)

    def lend(self, names: Sequence[str], grid: QGridLayout) -> None:
        """Show some rows in the grid of another panel, and take back those shown there before.

        Parameters
        ----------
        names
            Names of the settings.
        grid
            Layout with two columns, for labels and editors.
        """
        for name in self._lent:
            self._place(name, self._grid, self._places[name])
        self._lent = tuple(names)
        for row, name in enumerate(self._lent):
            self._place(name, grid, row)
        self._on_filter(self._filter.text())

    def _place(self, name: str, grid: QGridLayout, position: int) -> None:
        row = self._rows[name]
        grid.addWidget(row.label, position, 0)
        grid.addWidget(row.editor, position, 1)

    def _values(self) -> dict[str, Any]:
        values = {name: row.editor.value() for name, row in self._rows.items()}
        # A PSF from a settings file is used as long as the observation is "measured", which needs it.
        return {**values, "psf": self._psf if values["observation"] == "measured" else None}

    def _mark(self) -> None:
        overrides = self.overrides()
        for name, row in self._rows.items():
            row.mark(name in overrides)
        self._reset.setEnabled(bool(overrides))

    def _on_edit(self) -> None:
        self._mark()
        self.changed.emit()

    def _on_reset(self) -> None:
        self.set_preset(self._preset.name)
        self.changed.emit()

    def _on_filter(self, text: str) -> None:
        words = text.casefold().split()
        found = {name: name in self._lent or row.matches(words) for name, row in self._rows.items()}
        for name, row in self._rows.items():
            row.set_visible(found[name])
        for group, titles in self._groups.items():
            self._headings[group].setVisible(any(found[name] for name in titles if name not in self._lent))
        self._nothing.setVisible(not any(matches for name, matches in found.items() if name not in self._lent))


def _groups() -> dict[str, dict[str, str]]:
    """Return the groups of settings with their titles. Settings without a title follow, under their names."""
    named = {name for titles in GROUPS.values() for name in titles}
    others = {n: n.replace("_", " ") for n in FitConfig.model_fields if n not in named and n not in _HIDDEN}
    return {**GROUPS, "Other": others} if others else GROUPS


def _heading(text: str) -> QLabel:
    label = QLabel(text)
    font = QFont()
    font.setItalic(True)
    label.setFont(font)
    return label


def _as_html(description: str) -> str:
    """Return a docstring as rich text, including its `code`."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(description, quote=False))
