"""`SirenWidget`: the dock widget with all panels, connected with the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import napari.viewer
from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, QSize, Qt, QTimer
from qtpy.QtWidgets import QFrame, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import SirenError
from napari_siren.layers.edits import Edit
from napari_siren.ui.background import notify
from napari_siren.ui.closing import ask_before_closing
from napari_siren.ui.compare import Comparison
from napari_siren.ui.estimator import Estimator
from napari_siren.ui.export import ExportActions
from napari_siren.ui.last_session import recall_panel, remember_panel
from napari_siren.ui.logic.preferences import Preferences, apply_cache, remembered
from napari_siren.ui.panels.batch_panel import BatchPanel
from napari_siren.ui.panels.blur_panel import BlurPanel
from napari_siren.ui.panels.fit_panel import FitPanel
from napari_siren.ui.panels.result_panel import ResultPanel
from napari_siren.ui.panels.run_panel import RunPanel
from napari_siren.ui.panels.settings_panel import SettingsPanel
from napari_siren.ui.panels.source_panel import SourcePanel
from napari_siren.ui.requests import Requests
from napari_siren.ui.session import Session, SessionState
from napari_siren.ui.tasks.fit import FitRequest
from napari_siren.ui.tasks.messages import describe_result, describe_share
from napari_siren.ui.tasks.updates import Update
from napari_siren.ui.trial import Trial, Variants
from napari_siren.ui.widgets.compare_bar import CompareBar
from napari_siren.ui.widgets.keyboard import name_controls, order_tabs
from napari_siren.ui.widgets.loss_plot import LossPlot
from napari_siren.ui.widgets.section import Section
from napari_siren.ui.widgets.wheel_guard import WheelGuard

if TYPE_CHECKING:
    from napari_siren.core.result import FitResult

# Width of the panel in pixels: room for two columns of buttons.
_WIDTH = 300
# Height of the panel in pixels: it fits on the screen of a laptop.
_HEIGHT = 660


class SirenWidget(QWidget):
    """A dock widget to fit a SIREN to an image layer, or to many images at once.

    A preview shows the progress of the fit. The new layers are exactly aligned with the image.

    Parameters
    ----------
    napari_viewer
        The viewer whose layers are fitted.
    parent
        The dock that contains the widget.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        self._closed = False
        super().__init__(parent)
        # napari passes a proxy to plugins. Its layers are different objects at each access.
        self.viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self.preferences = Preferences.load()
        apply_cache(self.preferences)
        last_session = remembered()
        self.session = Session(self.viewer, self)
        self.source_panel = SourcePanel(self.viewer)
        self.blur_panel = BlurPanel(self.viewer, lambda: self.source_panel.source().spec())
        self.fit_panel = FitPanel(self.preferences.preset, self.preferences.device, self.blur_panel)
        self.settings_panel = SettingsPanel(self.fit_panel.preset_box)
        self.settings_form = self.settings_panel.form
        self.run_panel = RunPanel()
        self.curve = LossPlot()
        self.result_panel = ResultPanel("signed")
        self.requests = Requests(
            self.source_panel, self.fit_panel, self.settings_panel, self.result_panel, self.blur_panel
        )
        self.batch_panel = BatchPanel(self.viewer, self.requests.batch_options)
        self.comparison = Comparison(self.viewer, self.session.pair, self)
        self.trial = Trial(self.viewer, self.requests.square, self)
        self.compare_bar = CompareBar(self.comparison)
        self.export = ExportActions(
            self,
            lambda: self.session.result,
            self.settings_form.config,
            lambda: self.session.shown,
            lambda: self.session.layers and self.session.layers.source,
        )
        self.estimator = Estimator(self._question, self)
        # The age of the result is shown in minutes.
        self._clock = QTimer(self, interval=60_000)
        self._clock.start()
        self.settings_form.set_preset(self.preferences.preset)
        self._lay_out()
        recall_panel(self, last_session)
        self._connect()
        self._on_purpose()
        self._on_source()
        self._on_theme()
        active = self.viewer.layers.selection.active
        if active is not None:
            self.session.adopt(active)

    # ---- requests ------------------------------------------------------------------------------------------

    def start(self, make: Callable[[], Edit] | None = None) -> None:
        """Start a fit, the same as the main button.

        Parameters
        ----------
        make
            Function that makes an image from layers, to fit instead of the source panel's pixels.
        """
        try:
            jobs = self.requests.jobs() if make is None else [self.requests.job(make())]
        except SirenError as error:
            self._on_error(error)
            return
        self.trial.end()
        self.tabs.setCurrentIndex(0)
        remember_panel(self)
        self.session.start(*jobs, keep=self.result_panel.keeps)

    def set_config(self, config: FitConfig) -> None:
        """Show settings, for example those of a file."""
        self.settings_form.set_config(config)
        self.fit_panel.show_preset(config.name)
        self._estimate_anew()

    def _try(self, on: bool, variants: Variants = (("", {}),)) -> None:
        if on and self.source_panel.layer is not None:
            self.trial.begin(self.source_panel.layer, variants)
        else:
            self.trial.end()

    # ---- construction ----------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        self.sections = {
            "settings": Section("All settings", self.settings_panel),
            "curve": Section("Loss and PSNR", self.curve),
            "results": Section("Result", self.result_panel, expanded=True),
        }
        self._column = QWidget()
        column = QVBoxLayout(self._column)
        column.setContentsMargins(6, 6, 6, 6)
        for widget in (
            self.source_panel,
            self.fit_panel,
            self.run_panel,
            self.compare_bar,
            self.sections["results"],
            self.sections["settings"],
            self.sections["curve"],
        ):
            column.addWidget(widget)
        column.addStretch(1)
        self.tabs = QTabWidget()
        self.tabs.addTab(_scrolled(self._column), "Fit")
        self.tabs.addTab(_scrolled(self.batch_panel), "Batch")
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self.tabs)
        self.setMinimumWidth(_WIDTH)
        WheelGuard(self)
        name_controls(self)

    def _connect(self) -> None:
        source, fit, run, session = self.source_panel, self.fit_panel, self.run_panel, self.session
        results, settings = self.result_panel, self.settings_panel
        source.changed.connect(self._on_source)
        source.activated.connect(session.adopt)
        fit.preset_chosen.connect(self._on_preset)
        fit.purpose_chosen.connect(self._on_purpose)
        fit.scale_changed.connect(self._estimate_anew)
        fit.device_box.currentTextChanged.connect(self._estimate_anew)
        self.settings_form.changed.connect(self._estimate_anew)
        self.estimator.message.connect(fit.estimate.setText)
        self.blur_panel.chosen.connect(self._on_blur)
        self.blur_panel.message.connect(run.say)
        run.fit.connect(self.start)
        run.try_out.connect(self._try)
        run.try_variants.connect(lambda: self._try(True, fit.purpose.variants))
        self.trial.message.connect(run.say)
        self.trial.changed.connect(lambda: run.show_trial(self.trial.active))
        run.pause.connect(session.pause)
        run.resume.connect(session.resume)
        run.stop.connect(session.stop)
        run.cancel.connect(session.renders.cancel)
        run.go_on.connect(session.go_on)
        results.error_chosen.connect(session.show_error)
        results.derivative.connect(session.show_derivative)
        results.uncertainty.connect(session.show_uncertainty)
        results.draw_again.connect(lambda: session.rescale(fit.scale, fit.isotropic))
        results.save_image.connect(self.export.save_image)
        results.save_model.connect(self.export.save_model)
        results.copy_code.connect(lambda: self.export.copy_code(lambda: session.code))
        settings.copy_code.connect(lambda: self.export.copy_code(self.requests.code))
        settings.save_settings.connect(self.export.save_settings)
        settings.load_settings.connect(self.export.load_settings)
        self.export.message.connect(run.say)
        self.export.settings_loaded.connect(self.set_config)
        session.begun.connect(self.curve.clear)
        session.changed.connect(self._on_session)
        session.changed.connect(self._estimate_anew)
        # Pixels may have changed in place since the layer was chosen.
        session.changed.connect(source.offer_filling)
        session.updated.connect(self._on_update)
        session.message.connect(run.say)
        session.renders.changed.connect(self._on_session)
        session.renders.progressed.connect(self._on_share)
        self._clock.timeout.connect(self._show_name)
        self.viewer.events.theme.connect(self._on_theme)

    # ---- reactions to signals ----------------------------------------------------------------------------------

    def _question(self) -> FitRequest | None:
        return self.requests.request() if self.session.state is SessionState.IDLE else None

    def _on_source(self) -> None:
        layer = self.source_panel.layer
        if layer is not self.trial.source:
            self.trial.end()
        if layer is not None:
            shape = layer.level_shapes[0] if layer.multiscale else layer.data.shape
            width = int(shape[layer.ndim - 1])
            self.fit_panel.show_pixel(abs(float(layer.scale[-1])), _symbol(layer.units[-1]), width)
            self.fit_panel.offer_cubes(self.source_panel.anisotropic)
        self._show_purpose()
        self._on_session()
        self._estimate_anew()

    def _show_purpose(self) -> None:
        purpose = self.fit_panel.purpose
        self.run_panel.show_purpose(purpose.title, len(self.source_panel.layers), bool(purpose.variants))

    def _on_purpose(self) -> None:
        """Show the settings of the purpose, and name the main button after it."""
        purpose = self.fit_panel.purpose
        self.settings_form.lend(purpose.settings, self.fit_panel.own_settings)
        self._show_purpose()
        order_tabs(self._column)
        if FitConfig.preset(purpose.preset).joins_frames:
            self.source_panel.take_all_frames()
        self._estimate_anew()

    def _on_blur(self, settings: dict[str, Any]) -> None:
        try:
            self.set_config(self.settings_form.config().override(**settings))
        except SirenError as error:
            self._on_error(error)

    def _on_preset(self, name: str) -> None:
        self.settings_form.set_preset(name)
        self._estimate_anew()

    def _on_session(self) -> None:
        session = self.session
        fittable = self.source_panel.layer is not None
        self.run_panel.show_state(
            session.state,
            fittable=fittable,
            can_go_on=session.can_go_on,
            cancellable=session.renders.cancellable,
        )
        idle = session.state is SessionState.IDLE
        for widget in (self.source_panel, self.fit_panel, self.sections["settings"]):
            widget.setEnabled(idle)
        result = session.result
        has_image = result is not None and result.samples is not None
        layer = idle and session.shown is not None
        self.result_panel.show_result(idle and result is not None, has_image, bool(session.code), layer)
        self.result_panel.show_running(session.renders.roles)
        self._show_name()
        self.comparison.refresh()
        if idle and session.result is not None:
            self._complete_curve(session.result)

    def _show_name(self) -> None:
        self.result_panel.show_name(describe_result(self.session.result_name, self.session.age))

    def _on_share(self, share: float, seconds: float | None) -> None:
        self.run_panel.show_share(share)
        self.run_panel.say(describe_share(share, seconds))

    def _estimate_anew(self) -> None:
        """Start a new estimate, and show this at once, because the old estimate is of other settings."""
        if self.session.state is SessionState.IDLE and not self._closed:
            self.fit_panel.estimate.setText("Estimating…")
            self.estimator.ask_again()

    def _on_update(self, update: Update) -> None:
        self.run_panel.show_update(update)
        self.curve.extend(update.steps, update.losses, update.psnrs)
        if update.layers is not None:
            # The next entry begins at its first step.
            self.curve.clear()

    def _complete_curve(self, result: FitResult) -> None:
        """Add the steps after the last update. For a model that was opened from a file, these are all steps."""
        steps, _, _ = self.curve.points
        history, last_step = result.history, steps[-1] if steps else 0
        for step, loss, psnr in zip(history.step, history.loss, history.psnr, strict=True):
            if step > last_step:
                self.curve.add(step, loss, psnr)

    def _on_error(self, error: Exception) -> None:
        self.run_panel.say(str(error))
        notify(error)

    def _on_theme(self, event: Any = None) -> None:
        theme = get_theme(self.viewer.theme)
        self.fit_panel.set_colors(theme.text.as_hex())
        self.curve.set_colors(theme.text.as_hex(), theme.background.as_hex())
        for section in self.sections.values():
            section.set_colors(theme.text.as_hex(), theme.foreground.as_hex())

    # ---- closing ---------------------------------------------------------------------------------------------

    def close_down(self) -> None:
        """Cancel the fit and the batch, release their memory, and disconnect from the viewer."""
        if self._closed:
            return
        self._closed = True
        self._clock.stop()
        self.estimator.close()
        self.trial.end()
        self.comparison.close()
        self.session.close()
        self.batch_panel.close_down()
        self.source_panel.disconnect_viewer()
        self.viewer.events.theme.disconnect(self._on_theme)

    def event(self, event: QEvent) -> bool:
        """Ask before the dock closes. Close down when it releases the panel: napari does not close the panel then."""
        if event.type() == QEvent.Type.ParentChange:
            if self.parent() is None:
                self.close_down()
            elif hasattr(self, "session"):
                ask_before_closing(self, self.session)
        return bool(super().event(event))

    def sizeHint(self) -> QSize:
        """Return the size needed by the panel. A dock may give it more."""
        return QSize(_WIDTH, _HEIGHT)

    def closeEvent(self, event: Any) -> None:
        """Close down when the panel is closed."""
        self.close_down()
        super().closeEvent(event)


def _scrolled(content: QWidget) -> QScrollArea:
    scroll = QScrollArea()
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    scroll.setWidgetResizable(True)
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    scroll.setWidget(content)
    return scroll


def _symbol(unit: Any) -> str:
    """Return the symbol of a unit. napari's units are those of pint."""
    return f"{unit:~}" if hasattr(unit, "dimensionality") else str(unit)
