"""The panel's settings of the last session: remembered at each fit, and shown again in a new panel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import SirenError
from napari_siren.ui.logic.preferences import remember, remembered

if TYPE_CHECKING:
    from napari_siren.ui.widget import SirenWidget


def remember_panel(panel: SirenWidget) -> None:
    """Store the settings of a panel."""
    form, fit = panel.settings_panel.form, panel.fit_panel
    remember(
        {
            **remembered(),
            "preferences": _preferred(panel),
            "preset": form.config().name,
            "settings": form.overrides(),
            "scale": fit.scale,
            "isotropic": fit.isotropic,
            "device": fit.device,
            "error": panel.result_panel.error_kind,
            "sections": {name: section.isExpanded() for name, section in panel.sections.items()},
        }
    )


def recall_panel(panel: SirenWidget, last: dict[str, Any]) -> None:
    """Show stored settings in a panel. Invalid ones are ignored, and the preferences stay."""
    try:
        # If the preferences have changed since then, they take precedence.
        if last["preferences"] == _preferred(panel):
            panel.set_config(FitConfig.preset(last["preset"], **last["settings"]))
            panel.fit_panel.recall_device(str(last["device"]))
        panel.fit_panel.scale_slider.setValue(float(last["scale"]))
        panel.fit_panel.isotropic_box.setChecked(bool(last.get("isotropic")))
        panel.result_panel.error_box.setCurrentText(last["error"])
        expanded = last["sections"]
        for name, section in panel.sections.items():
            (section.expand if expanded[name] else section.collapse)(animate=False)
    except (SirenError, KeyError, TypeError, ValueError, OverflowError):
        return


def _preferred(panel: SirenWidget) -> list[str]:
    return [panel.preferences.preset, panel.preferences.device]
