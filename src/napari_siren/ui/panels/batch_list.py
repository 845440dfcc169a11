"""`BatchList`: a row for each image of a batch, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QBrush, QColor
from qtpy.QtWidgets import QHeaderView, QTreeWidget, QTreeWidgetItem, QWidget

from napari_siren.batch.manifest import Entry
from napari_siren.ui.logic.messages import describe_entry

# To be read on dark and on light.
_FAILED = "#d9433b"
_ENTRY = Qt.ItemDataRole.UserRole
_ROWS_SEEN = 4


class BatchList(QTreeWidget):
    """Images of a batch as they are heard of; those that failed come first."""

    opened = Signal(object)
    """The `Entry` of an image whose result is to be shown."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setHeaderLabels(["Image", "What became of it"])
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)
        self.header().setSectionResizeMode(0, QHeaderView.ResizeMode.Interactive)
        self.setMinimumHeight((_ROWS_SEEN + 1) * self.fontMetrics().lineSpacing())
        self.setToolTip("Double-click an image that is done to open its result.")
        self._rows: dict[str, QTreeWidgetItem] = {}
        self.itemDoubleClicked.connect(self._on_double_click)

    @property
    def chosen(self) -> Entry | None:
        """What is known of the image that is selected, if it is done."""
        items = self.selectedItems()
        return _done(items[0]) if items else None

    def clear(self) -> None:
        """Forget all images."""
        self._rows.clear()
        super().clear()

    def show_share(self, job: str, share: float) -> None:
        """Show how far the fit of an image is."""
        self._row(job).setText(1, f"fitting, {share:.0%}")

    def show_entry(self, entry: Entry, before: bool = False) -> None:
        """Show what became of an image.

        Parameters
        ----------
        entry
            What is known of it.
        before
            Whether it was done in an earlier run.
        """
        row, text = self._row(entry.job), describe_entry(entry)
        row.setText(1, f"{text} before" if before and not entry.metrics else text)
        row.setData(0, _ENTRY, entry)
        if entry.status == "failed":
            for column in (0, 1):
                row.setForeground(column, QBrush(QColor(_FAILED)))
                row.setToolTip(column, f"{entry.input}\n{entry.reason}")
            self.insertTopLevelItem(0, self.takeTopLevelItem(self.indexOfTopLevelItem(row)))

    def show_stopped(self, jobs: Iterable[str]) -> None:
        """Show that images are left for the next time; of those that nobody has heard of there is no row."""
        for job in jobs:
            if job in self._rows:
                self._rows[job].setText(1, "stopped")

    def _row(self, job: str) -> QTreeWidgetItem:
        row = self._rows.get(job)
        if row is None:
            row = self._rows[job] = QTreeWidgetItem([job, ""])
            row.setToolTip(0, job)
            self.addTopLevelItem(row)
        return row

    def _on_double_click(self, item: QTreeWidgetItem) -> None:
        entry = _done(item)
        if entry is not None:
            self.opened.emit(entry)


def _done(item: QTreeWidgetItem) -> Entry | None:
    entry: Entry | None = item.data(0, _ENTRY)
    return entry if entry is not None and entry.status == "done" else None
