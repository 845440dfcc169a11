"""`BatchList`: a table of the images of a batch and their states."""

from __future__ import annotations

from collections.abc import Iterable

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QBrush, QColor
from qtpy.QtWidgets import QHeaderView, QStyle, QTreeWidget, QTreeWidgetItem, QWidget

from napari_siren.batch.manifest import Entry
from napari_siren.ui.tasks.messages import describe_entry, describe_notes

# Text colour of failed images: a red that is readable on dark and on light backgrounds.
_FAILED = "#d9433b"
# Role of the `Entry` in the data of a row.
_ENTRY = Qt.ItemDataRole.UserRole
# Smallest number of visible rows.
_MIN_ROWS = 4


class BatchList(QTreeWidget):
    """The images of a batch, in the order of their first progress report. Failed images come first."""

    opened = Signal(object)
    """The `Entry` of a double-clicked image that is done."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setHeaderLabels(["Image", "State"])
        self.setRootIsDecorated(False)
        self.setUniformRowHeights(True)
        self.header().setSectionResizeMode(0, QHeaderView.ResizeMode.Interactive)
        self.setMinimumHeight((_MIN_ROWS + 1) * self.fontMetrics().lineSpacing())
        self.setToolTip(
            "Double-click an image that is done to open its result. The sign i marks images with notes: point at it to "
            "read them."
        )
        self._rows: dict[str, QTreeWidgetItem] = {}
        self.itemDoubleClicked.connect(self._on_double_click)

    @property
    def chosen(self) -> Entry | None:
        """The `Entry` of the selected image if it is done, otherwise None."""
        items = self.selectedItems()
        return _done(items[0]) if items else None

    def clear(self) -> None:
        """Remove all images."""
        self._rows.clear()
        super().clear()

    def show_share(self, job: str, share: float) -> None:
        """Show the progress of an image.

        Parameters
        ----------
        job
            Name of the image.
        share
            Finished share of its fit, 0 to 1.
        """
        self._row(job).setText(1, f"fitting, {share:.0%}")

    def show_entry(self, entry: Entry, before: bool = False) -> None:
        """Show the final state of an image, and mark it if it has notes.

        Parameters
        ----------
        entry
            Entry of the image in the manifest.
        before
            Whether the image was done in an earlier run.
        """
        row, text = self._row(entry.job), describe_entry(entry)
        text = f"{text} before" if before and not entry.metrics else text
        row.setText(1, text)
        row.setData(0, _ENTRY, entry)
        failed = entry.status == "failed"
        lines = [f"{entry.input}\n{text}" if failed else entry.job, *(f"Note: {note}" for note in entry.notes)]
        for column in (0, 1):
            row.setToolTip(column, "\n".join(lines))
            if failed:
                row.setForeground(column, QBrush(QColor(_FAILED)))
        if entry.notes:
            row.setIcon(1, self.style().standardIcon(QStyle.StandardPixmap.SP_MessageBoxInformation))
            row.setData(1, Qt.ItemDataRole.AccessibleTextRole, text + describe_notes(entry.notes))
        if failed:
            self.insertTopLevelItem(0, self.takeTopLevelItem(self.indexOfTopLevelItem(row)))

    def show_stopped(self, jobs: Iterable[str]) -> None:
        """Mark images as stopped. Images without a progress report have no row and are ignored."""
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
