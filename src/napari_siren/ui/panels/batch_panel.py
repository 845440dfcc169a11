"""`BatchPanel`: the tab for batches, with the form, the background work, the progress and the results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from enum import Enum
from typing import TYPE_CHECKING, Any

from napari.utils import progress as activity
from qtpy.QtCore import QThreadPool, QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QGridLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_siren.errors import InputError, SirenError
from napari_siren.layers.spec import LayerData
from napari_siren.ui.background import notify, start_function, start_generator
from napari_siren.ui.logic.preferences import remember, remembered
from napari_siren.ui.panels.batch_form import BatchForm
from napari_siren.ui.panels.batch_list import BatchList
from napari_siren.ui.tasks.batch import BatchOutcome, BatchRequest, result_layer, run_batch
from napari_siren.ui.tasks.fit import explain
from napari_siren.ui.tasks.messages import describe_batch, describe_failures, describe_report, images

if TYPE_CHECKING:
    from napari_siren.batch.manifest import Entry
    from napari_siren.batch.run import BatchProgress

# Steps of the progress bar, for any number of images.
_BAR_STEPS = 1000


class BatchState(Enum):
    """The state of a batch."""

    IDLE = "idle"
    RUNNING = "running"
    STOPPING = "stopping"


class BatchPanel(QWidget):
    """The form, the buttons, the progress and the list of images of a batch.

    Parameters
    ----------
    viewer
        napari's viewer.
    fit_options
        The same as for `BatchForm`.
    parent
        The widget that contains the panel.
    """

    def __init__(self, viewer: Any, fit_options: Callable[[], dict[str, Any]], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.state = BatchState.IDLE
        self.outcome: BatchOutcome | None = None
        self.form = BatchForm(viewer, fit_options)
        self.form.recall(remembered().get("batch"))
        self.start_button = _button(
            "Start", "Fit all images. Images that are already done in the folder of the results are skipped."
        )
        self.stop_button = _button("Stop", "End the batch and keep the finished results. Press Start to continue.")
        self.report_button = _button("Open report", "Show the report in the browser: pictures, numbers and failures.")
        self.result_button = _button(
            "Open result", "Add the result of the image that is selected in the list as a layer over the original."
        )
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setMaximumHeight(8)
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.list = BatchList()
        self._stop = threading.Event()
        self._request: BatchRequest | None = None
        self._bar: Any = None
        self._failed = 0
        # Finished share of each running fit, 0 to 1, by the name of its image.
        self._shares: dict[str, float] = {}
        self._lay_out()
        self._connect()
        self._enter(BatchState.IDLE)

    def start(self) -> None:
        """Start or continue the batch of the form."""
        try:
            request = self.form.request()
        except SirenError as error:
            self._say(str(error))
            notify(error)
            return
        self._request, self.outcome, self._failed = request, None, 0
        self._shares.clear()
        self.list.clear()
        # Each batch has its own event: the event of an earlier batch that has not ended yet stays set.
        stop = self._stop = threading.Event()
        # A viewer does not close its panels when it closes. With two viewers, napari ends the work of only one of them.
        self.destroyed.connect(stop.set)
        self._enter(BatchState.RUNNING)
        self._say("Reading the list of images and starting the processes…")
        remember({**remembered(), "batch": self.form.values()})
        start_generator(
            _without_a_thread,
            request,
            stop,
            call_off=stop.set,
            yielded=self._on_reports,
            returned=self._on_outcome,
        )

    def stop(self) -> None:
        """End the batch, and keep the finished results."""
        if self.state is BatchState.RUNNING:
            self._stop.set()
            self._enter(BatchState.STOPPING)
            self._say("Stopping; the finished results stay…")

    def close_down(self) -> None:
        """Cancel the batch, and disconnect from the viewer."""
        self._stop.set()
        self.form.disconnect_viewer()
        if self.state is not BatchState.IDLE:
            self._ended()

    # ---- construction --------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        grid = QGridLayout()
        grid.addWidget(self.start_button, 0, 0)
        grid.addWidget(self.stop_button, 0, 1)
        grid.addWidget(self.bar, 1, 0, 1, 2)
        grid.addWidget(self.status, 2, 0, 1, 2)
        below = QGridLayout()
        below.addWidget(self.report_button, 0, 0)
        below.addWidget(self.result_button, 0, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 6, 6, 6)
        column.addWidget(self.form)
        column.addLayout(grid)
        column.addWidget(self.list, 1)
        column.addLayout(below)

    def _connect(self) -> None:
        self.start_button.clicked.connect(self.start)
        self.stop_button.clicked.connect(self.stop)
        self.report_button.clicked.connect(self._open_report)
        self.result_button.clicked.connect(lambda: self._open_result(self.list.chosen))
        self.list.opened.connect(self._open_result)
        self.list.itemSelectionChanged.connect(self._enable)

    # ---- reactions to signals ------------------------------------------------------------------------------

    def _on_reports(self, reports: list[BatchProgress]) -> None:
        if self.state is BatchState.IDLE:  # the panel has been closed
            return
        for progress in reports:
            if progress.entry is not None:
                self._shares.pop(progress.job, None)
                self._failed += progress.state == "failed"
                self.list.show_entry(progress.entry)
            elif progress.state == "fitting":
                self._shares[progress.job] = progress.share
                self.list.show_share(progress.job, progress.share)
        latest = reports[-1]
        share = (latest.finished + sum(self._shares.values())) / max(1, latest.total)
        self.bar.setRange(0, _BAR_STEPS)
        self.bar.setValue(round(_BAR_STEPS * share))
        if self.state is BatchState.RUNNING:
            is_starting = latest.finished == 0 and not self._shares
            self._say(
                f"{images(latest.total)} to fit; starting the processes…"
                if is_starting
                else describe_batch(latest.finished, latest.total, self._failed)
            )
        self._show_activity(latest)

    def _show_activity(self, latest: BatchProgress) -> None:
        """Draw napari's own bar. Call this last: napari handles events while it draws, so the batch may end."""
        if self._bar is None:
            bar = activity(total=latest.total, desc="SIREN: batch")
            if self.state is BatchState.IDLE:
                bar.close()
                return
            self._bar = bar
        self._bar.update(latest.finished - self._bar.n)

    def _on_outcome(self, outcome: BatchOutcome) -> None:
        if self.state is BatchState.IDLE:  # the panel has been closed
            return
        self._ended()
        self.outcome = outcome
        report = outcome.report
        if report is not None:
            for entry in report.skipped:
                self.list.show_entry(entry, before=True)
            self.list.show_stopped(report.planned)
            self._say(describe_report(report))
        elif outcome.error is not None:
            self._say(explain(outcome.error))
        self._enter(BatchState.IDLE)
        if outcome.error is not None:
            notify(outcome.error)
        elif report is not None and report.failed:
            notify(SirenError(describe_failures(report)))

    def _ended(self) -> None:
        self.destroyed.disconnect(self._stop.set)
        self.state = BatchState.IDLE
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _enter(self, state: BatchState) -> None:
        self.state = state
        self.form.setEnabled(state is BatchState.IDLE)
        if state is BatchState.IDLE:
            self.bar.setRange(0, 1)
            self.bar.reset()
        else:
            self.bar.setRange(0, 0)
        self._enable()

    def _enable(self) -> None:
        """Enable or disable the buttons for the present state."""
        self.start_button.setEnabled(self.state is BatchState.IDLE)
        self.stop_button.setEnabled(self.state is BatchState.RUNNING)
        self.report_button.setEnabled(self.outcome is not None and self.outcome.report is not None)
        self.result_button.setEnabled(self.list.chosen is not None)

    def _say(self, text: str) -> None:
        self.status.setText(text)

    # ---- results -------------------------------------------------------------------------------------------

    def _open_report(self) -> None:
        path = self.outcome and self.outcome.report and self.outcome.report.path
        if path and not QDesktopServices.openUrl(QUrl.fromLocalFile(str(path.resolve()))):
            notify(InputError(f"the browser could not be opened. Open the report yourself: {path}."))

    def _open_result(self, entry: Entry | None) -> None:
        if entry is None or self._request is None:
            return
        path, scale = self._request.out / entry.output, self._request.options["scale"]
        start_function(result_layer, path, scale, self._request.layer_of(entry), returned=self._on_result)

    def _on_result(self, layer_data: LayerData | Exception) -> None:
        if isinstance(layer_data, Exception):
            self._say(explain(layer_data))
            notify(layer_data)
        else:
            data, meta, _ = layer_data
            self.viewer.add_image(data, **meta)


def _without_a_thread(
    request: BatchRequest, stop: threading.Event
) -> Generator[list[BatchProgress], None, BatchOutcome]:
    """Run a batch without occupying a thread of Qt's pool.

    The thread only waits for the batch. On a machine with two cores, Qt's pool has only two threads.
    """
    pool = QThreadPool.globalInstance()
    pool.releaseThread()
    try:
        return (yield from run_batch(request, stop))
    finally:
        pool.reserveThread()


def _button(text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tooltip)
    # Two buttons side by side must fit into a narrow dock.
    button.setMinimumWidth(10)
    return button
