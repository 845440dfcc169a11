"""`RunPanel`: the buttons of a fit, its progress bar and its status line."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QMenu,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QWidget,
)

from napari_siren.ui.session import SessionState
from napari_siren.ui.tasks.updates import Update

# Steps of *Continue* at first.
_MORE_STEPS = 100


class RunPanel(QWidget):
    """The main button, *Try*, *Pause*, *Stop and keep* and *Continue*, the progress bar and the status line."""

    fit = Signal()
    try_out = Signal(bool)
    """Begin or end a trial."""
    try_variants = Signal()
    pause = Signal()
    resume = Signal()
    stop = Signal()
    cancel = Signal()
    go_on = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.fit_button = _button("Fit", "Start (Ctrl+Return). You can watch the result appear.")
        self.fit_button.setShortcut("Ctrl+Return")
        self.try_button = _try_button()
        self._variants = self.try_button.menu().actions()[0]
        self.pause_button = _button("Pause", "Pause the fit. It does not use the processor until you resume it.")
        self.stop_button = _button("Stop and keep", "End the fit now, and make layers of the current result.")
        self.continue_button = _button("Continue", "Continue the result above with more steps.")
        self.more_box = QSpinBox()
        self.more_box.setRange(1, 1_000_000)
        self.more_box.setSingleStep(50)
        self.more_box.setValue(_MORE_STEPS)
        self.more_box.setPrefix("+ ")
        self.more_box.setSuffix(" steps")
        self.more_box.setToolTip("Number of steps to add.")
        self.more_box.setAccessibleName("Steps to add")
        self.bar = _bar("Progress", 8)
        # A fit with several parts has a second bar.
        self.phase_bar = _bar("Progress of the present part", 4)
        self.status = QLabel()
        self.status.setWordWrap(True)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        first = QHBoxLayout()
        first.addWidget(self.fit_button, stretch=3)
        first.addWidget(self.try_button, stretch=1)
        grid.addLayout(first, 0, 0, 1, 3)
        grid.addWidget(self.pause_button, 1, 0)
        grid.addWidget(self.stop_button, 1, 1, 1, 2)
        grid.addWidget(self.continue_button, 2, 0)
        grid.addWidget(self.more_box, 2, 1, 1, 2)
        grid.addWidget(self.bar, 3, 0, 1, 3)
        grid.addWidget(self.phase_bar, 4, 0, 1, 3)
        grid.addWidget(self.status, 5, 0, 1, 3)
        self._paused = self._cancellable = False
        self.fit_button.clicked.connect(self.fit)
        self.try_button.clicked.connect(self.try_out)
        self._variants.triggered.connect(self.try_variants)
        self.pause_button.clicked.connect(self._toggle_pause)
        self.stop_button.clicked.connect(self._stop)
        self.continue_button.clicked.connect(self._continue)
        self.show_state(SessionState.IDLE, fittable=False, can_go_on=False)

    def show_state(self, state: SessionState, *, fittable: bool, can_go_on: bool, cancellable: bool = False) -> None:
        """Enable or disable the buttons for a state.

        Parameters
        ----------
        state
            State of the session.
        fittable
            Whether there is an image to fit.
        can_go_on
            Whether the last fit can be continued.
        cancellable
            Whether a map of the result is being made. *Stop and keep* is then *Cancel*.
        """
        idle, running = state is SessionState.IDLE, state in (SessionState.FITTING, SessionState.PAUSED)
        self._paused = state is SessionState.PAUSED
        self.fit_button.setEnabled(idle and fittable)
        self.try_button.setEnabled(idle and fittable)
        self.pause_button.setText("Resume" if self._paused else "Pause")
        self.pause_button.setEnabled(running)
        self._cancellable = idle and cancellable
        self.stop_button.setText("Cancel" if self._cancellable else "Stop and keep")
        self.stop_button.setEnabled(running or self._cancellable)
        self.continue_button.setEnabled(idle and can_go_on)
        self.more_box.setEnabled(idle and can_go_on)
        if state is SessionState.ENDING:
            self.bar.setRange(0, 0)
        elif idle and not cancellable:
            self.bar.setRange(0, 1)
            self.bar.reset()
        self.phase_bar.setVisible(running and self.phase_bar.maximum() > 1)

    def show_update(self, update: Update) -> None:
        """Show the progress in the bars. After the last step, the bar only shows activity."""
        progress = update.progress
        ending = progress.step >= progress.max_steps
        steps = progress.max_steps * progress.entries
        self.bar.setRange(0, 0 if ending and progress.entries == 1 else steps)
        self.bar.setValue(progress.max_steps * progress.entry + progress.step)
        phase = progress.phase
        self.phase_bar.setRange(0, 1 if phase is None else phase.steps)
        self.phase_bar.setValue(0 if phase is None else phase.step)
        self.phase_bar.setVisible(phase is not None and not ending)

    def show_share(self, share: float) -> None:
        """Show the share of a map that is done, 0 to 1, in the bar."""
        self.bar.setRange(0, 100)
        self.bar.setValue(round(100 * share))

    def show_trial(self, active: bool) -> None:
        """Show whether a trial is active."""
        self.try_button.setChecked(active)

    def show_purpose(self, title: str, layers: int = 1, variants: bool = False) -> None:
        """Name the main button after a purpose.

        Parameters
        ----------
        title
            Title of the purpose.
        layers
            Number of layers. It is shown if there are several.
        variants
            Whether several settings of the purpose can be tried side by side.
        """
        self._variants.setEnabled(variants)
        self.fit_button.setText(title if layers < 2 else f"{title}: {layers} layers")
        # Setting a text removes the shortcut.
        self.fit_button.setShortcut("Ctrl+Return")

    def say(self, text: str) -> None:
        """Show a text in the status line."""
        self.status.setText(text)

    def _toggle_pause(self) -> None:
        (self.resume if self._paused else self.pause).emit()

    def _stop(self) -> None:
        (self.cancel if self._cancellable else self.stop).emit()

    def _continue(self) -> None:
        self.go_on.emit(self.more_box.value())


def _try_button() -> QToolButton:
    button = QToolButton()
    button.setText("Try")
    button.setCheckable(True)
    button.setShortcut("Ctrl+T")
    button.setToolTip(
        "Do only a square of the image, under the mouse or in the middle of the view (Ctrl+T). A click on the image "
        "moves the square. Press again to remove it. The arrow offers several settings side by side."
    )
    button.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
    button.setPopupMode(QToolButton.ToolButtonPopupMode.MenuButtonPopup)
    menu = QMenu(button)
    menu.addAction("Side by side")
    button.setMenu(menu)
    return button


def _bar(name: str, height: int) -> QProgressBar:
    bar = QProgressBar()
    bar.setAccessibleName(name)
    bar.setTextVisible(False)
    bar.setMaximumHeight(height)
    return bar


def _button(text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tooltip)
    # Three buttons side by side must fit into a narrow dock.
    button.setMinimumWidth(10)
    return button
