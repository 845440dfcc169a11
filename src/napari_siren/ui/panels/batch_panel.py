"""`BatchPanel`: many images at once, from the panel: asks, runs the batch in the background, and shows what comes."""

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
from napari_siren.ui.logic.batch_task import BatchOutcome, BatchRequest, result_layer, run_batch
from napari_siren.ui.logic.fit_task import explain
from napari_siren.ui.logic.messages import describe_batch, describe_failures, describe_report, images
from napari_siren.ui.logic.preferences import remember, remembered
from napari_siren.ui.panels.batch_form import BatchForm
from napari_siren.ui.panels.batch_list import BatchList

if TYPE_CHECKING:
    from napari_siren.batch.manifest import Entry
    from napari_siren.batch.run import BatchProgress

# Of the bar, for a batch of any number of images.
_BAR_STEPS = 1000


class BatchState(Enum):
    """What a batch is doing."""

    IDLE = "idle"
    RUNNING = "running"
    STOPPING = "stopping"


class BatchPanel(QWidget):
    """Form, buttons, progress, and the list of images of a batch.

    Parameters
    ----------
    viewer
        Of napari.
    fit_options
        As `BatchForm` takes it.
    parent
        The panel around it.
    """

    def __init__(self, viewer: Any, fit_options: Callable[[], dict[str, Any]], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.state = BatchState.IDLE
        self.outcome: BatchOutcome | None = None
        self.form = BatchForm(viewer, fit_options)
        self.form.recall(remembered().get("batch"))
        self.start_button = _button(
            "Start", "Fit the images one after the other. What was done before in this folder is not done again."
        )
        self.stop_button = _button("Stop", "End the batch; what is done stays. Start goes on where it was.")
        self.report_button = _button("Open report", "Show the report in the browser: pictures, figures and failures.")
        self.result_button = _button(
            "Open result", "Add the result of the image that is selected in the list, as a layer over the original."
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
        # Of the images that are under way, how much is done.
        self._shares: dict[str, float] = {}
        self._lay_out()
        self._connect()
        self._enter(BatchState.IDLE)

    def start(self) -> None:
        """Begin, or go on with, what the form asks for."""
        try:
            request = self.form.request()
        except SirenError as error:
            self._say(str(error))
            notify(error)
            return
        self._request, self.outcome, self._failed = request, None, 0
        self._shares.clear()
        self.list.clear()
        # One for each batch: that of a batch which has not ended yet stays set.
        stop = self._stop = threading.Event()
        # A viewer that closes does not close its panels; and of two viewers napari calls off the work of one only.
        self.destroyed.connect(stop.set)
        self._enter(BatchState.RUNNING)
        self._say("Looking at the images, and starting the processes…")
        remember({**remembered(), "batch": self.form.values()})
        start_generator(
            _without_a_thread,
            request,
            stop,
            call_off=stop.set,
            yielded=self._on_news,
            returned=self._on_outcome,
        )

    def stop(self) -> None:
        """End the batch, and keep what is done."""
        if self.state is BatchState.RUNNING:
            self._stop.set()
            self._enter(BatchState.STOPPING)
            self._say("Stopping; what is done stays…")

    def close_down(self) -> None:
        """Call off what is going on, and follow the viewer no longer."""
        self._stop.set()
        self.form.let_go()
        if self.state is not BatchState.IDLE:
            self._ended()

    # ---- putting together ----------------------------------------------------------------------------------

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

    # ---- what happens --------------------------------------------------------------------------------------

    def _on_news(self, news: list[BatchProgress]) -> None:
        if self.state is BatchState.IDLE:  # closed meanwhile
            return
        for progress in news:
            if progress.entry is not None:
                self._shares.pop(progress.job, None)
                self._failed += progress.state == "failed"
                self.list.show_entry(progress.entry)
            elif progress.state == "fitting":
                self._shares[progress.job] = progress.share
                self.list.show_share(progress.job, progress.share)
        last = news[-1]
        done = (last.finished + sum(self._shares.values())) / max(1, last.total)
        self.bar.setRange(0, _BAR_STEPS)
        self.bar.setValue(round(_BAR_STEPS * done))
        if self.state is BatchState.RUNNING:
            ahead = last.finished == 0 and not self._shares
            self._say(
                f"{images(last.total)} to do; starting the processes…"
                if ahead
                else describe_batch(last.finished, last.total, self._failed)
            )
        self._show_activity(last)

    def _show_activity(self, last: BatchProgress) -> None:
        """Draw napari's own bar. Last of all: napari handles events while it does, by which the batch may end."""
        if self._bar is None:
            bar = activity(total=last.total, desc="SIREN: batch")
            if self.state is BatchState.IDLE:
                bar.close()
                return
            self._bar = bar
        self._bar.update(last.finished - self._bar.n)

    def _on_outcome(self, outcome: BatchOutcome) -> None:
        if self.state is BatchState.IDLE:  # closed meanwhile
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
        """Enable what can be pressed now."""
        self.start_button.setEnabled(self.state is BatchState.IDLE)
        self.stop_button.setEnabled(self.state is BatchState.RUNNING)
        self.report_button.setEnabled(self.outcome is not None and self.outcome.report is not None)
        self.result_button.setEnabled(self.list.chosen is not None)

    def _say(self, text: str) -> None:
        self.status.setText(text)

    # ---- what came of it -----------------------------------------------------------------------------------

    def _open_report(self) -> None:
        path = self.outcome and self.outcome.report and self.outcome.report.path
        if path and not QDesktopServices.openUrl(QUrl.fromLocalFile(str(path.resolve()))):
            notify(InputError(f"no browser could be opened. The report is {path}."))

    def _open_result(self, entry: Entry | None) -> None:
        if entry is None or self._request is None:
            return
        path, scale = self._request.out / entry.output, self._request.options["scale"]
        start_function(result_layer, path, scale, self._request.layer_of(entry), returned=self._on_result)

    def _on_result(self, made: LayerData | Exception) -> None:
        if isinstance(made, Exception):
            self._say(explain(made))
            notify(made)
        else:
            data, meta, _ = made
            self.viewer.add_image(data, **meta)


def _without_a_thread(
    request: BatchRequest, stop: threading.Event
) -> Generator[list[BatchProgress], None, BatchOutcome]:
    """Run a batch, and leave the thread that only waits for it to others: on two cores Qt has but two."""
    pool = QThreadPool.globalInstance()
    pool.releaseThread()
    try:
        return (yield from run_batch(request, stop))
    finally:
        pool.reserveThread()


def _button(text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tooltip)
    # Two in a row must fit a narrow dock.
    button.setMinimumWidth(10)
    return button
