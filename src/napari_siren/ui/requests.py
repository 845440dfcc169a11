"""`Requests`: the requests of fits, as the panels show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from napari_siren.errors import InputError
from napari_siren.layers.code import as_python
from napari_siren.layers.edits import Edit
from napari_siren.layers.series import LayerSeries
from napari_siren.layers.spec import LayerSpec
from napari_siren.ui.logic.preferences import Preferences
from napari_siren.ui.panels.blur_panel import BlurPanel
from napari_siren.ui.panels.fit_panel import FitPanel
from napari_siren.ui.panels.result_panel import ResultPanel
from napari_siren.ui.panels.settings_panel import SettingsPanel
from napari_siren.ui.panels.source_panel import Source, SourcePanel
from napari_siren.ui.tasks.fit import FitRequest
from napari_siren.ui.tasks.jobs import Job


class Requests:
    """The requests of the next fits.

    Parameters
    ----------
    source, fit, settings, result, blur
        The panels with the image, the purpose, all settings, the kind of the error map, and the blur.
    """

    def __init__(
        self, source: SourcePanel, fit: FitPanel, settings: SettingsPanel, result: ResultPanel, blur: BlurPanel
    ) -> None:
        self._source, self._fit, self._settings, self._result, self._blur = source, fit, settings, result, blur

    def request(self, source: Source | None = None, edit: Edit | None = None) -> FitRequest:
        """Return the request of a fit with the present settings.

        Parameters
        ----------
        source
            The layer and the part of it to fit; None are those in the panel.
        edit
            An image made from layers, to fit instead of the source.

        Raises
        ------
        SirenError
            There is no image, the region has no pixel of it, or the settings contradict each other.
        """
        config = self._settings.form.config()
        series: LayerSeries | None = None
        if edit is None:
            series = (source or self._source.source()).series()
            spec = series.first
        else:
            spec = edit.spec
        if config.joins_frames and spec.axes.time is None:
            raise InputError(
                f"“{spec.name}” has no frames of a time series here. Press the button with the pixel size and name an "
                "axis T, and choose “The whole stack” as “Extent”."
            )
        if config.joins_frames:
            spec, series = spec.joined(), None if series is None else series.mapped(LayerSpec.joined)
        return FitRequest(
            spec,
            config,
            self._fit.device,
            self._settings.seed,
            spec.scales(self._fit.scale, self._fit.isotropic),
            self._result.error_kind,
            # The preference is read again for each fit, since the panel does not show it.
            Preferences.load().preview_rate,
            self._fit.isotropic,
            supervision="value" if edit is None else edit.supervision,
            series=series if series is not None and series.axes else None,
        )

    def code(self, source: Source | None = None) -> str:
        """Return Python code for a fit with the present settings.

        Parameters
        ----------
        source
            The layer and the part of it to fit; None are those in the panel.

        Raises
        ------
        SirenError
            For the same reasons as in `request`.
        """
        source, config = source or self._source.source(), self._settings.form.config()
        return as_python(
            source.layer.name,
            source.spec().scales(self._fit.scale, self._fit.isotropic),
            self._with_psf_as_code(self._settings.form.overrides()),
            preset=config.name,
            **source.arguments(),
            error=self._result.error_kind,
            device=self._fit.device,
            seed=self._settings.seed,
        )

    def _with_psf_as_code(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings in which the code that makes the PSF stands for its numbers, which may be many thousands."""
        psf = self._blur.code_of(overrides["psf"]) if overrides.get("psf") is not None else None
        return {**overrides, "psf": psf} if psf is not None else dict(overrides)

    def batch_options(self) -> dict[str, Any]:
        """Return the present settings as keyword arguments of `napari_siren.fit_batch`.

        Raises
        ------
        ConfigError
            The settings contradict each other.
        """
        config, overrides = self._settings.form.config(), self._settings.form.overrides()
        return {"preset": config.name, "device": self._fit.device, "seed": self._settings.seed, **overrides}

    def square(self, position: Sequence[float], overrides: Mapping[str, Any]) -> FitRequest:
        """Return the request of a fit of the square around a position in the world, with other values of settings.

        Raises
        ------
        SirenError
            For the same reasons as in `request`, or the position is outside of the image.
        """
        request = self.request(self._source.square(position, self._fit.purpose.uses_slices))
        return replace(request, config=request.config.override(**overrides)) if overrides else request

    def jobs(self) -> list[Job]:
        """Return the fits of the chosen layers with the present settings."""
        sources = self._source.sources()
        return [Job(self.request(source), source.layer, self.code(source)) for source in sources]

    def job(self, edit: Edit) -> Job:
        """Return the fit of an image made from layers. The errors are those of `request`."""
        return Job(self.request(edit=edit), self._source.layer)
