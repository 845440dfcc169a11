"""The user's choices in napari's preferences, and the settings of the panel's last session. No Qt."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from napari_siren.core.settings.presets import PRESET_NAMES
from napari_siren.core.storage.atomic import write_json

# The values of the setting "open_scale" in napari.yaml.
OPEN_SCALES = ("ask", "1", "2", "4", "8")
# Environment variable with the folder of the compiled kernel.
CACHE_VARIABLE = "NAPARI_SIREN_CACHE"

_LOG = logging.getLogger(__name__)
_PLUGIN = "napari-siren"
# The values of the setting "device" that napari.yaml names.
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")

# For each setting: its section in the manifest's `configurations`, and a test of its value.
_SETTINGS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "device": ("fitting", lambda value: _DEVICE.fullmatch(value) is not None),
    "preset": ("fitting", lambda value: value in PRESET_NAMES),
    "preview_rate": ("display", lambda value: 0.5 <= value <= 10),
    "open_scale": ("models", lambda value: value in OPEN_SCALES),
    "cache": ("storage", lambda value: isinstance(value, str)),
}


@dataclass(frozen=True)
class Preferences:
    """The user's choices in *File > Preferences > napari-siren*.

    The defaults are the same as in the manifest.

    Parameters
    ----------
    device
        Device of a fit: "auto", "cpu", "cuda", "cuda:1" or "mps".
    preset
        Preset of a new panel.
    preview_rate
        Largest number of previews per second, 0.5 to 10.
    open_scale
        Output pixels per pixel for a saved model that is opened: "1", "2", "4" or "8"; or "ask".
    cache
        Folder for the compiled kernel. An empty string stands for the user's cache folder.
    """

    device: str = "auto"
    preset: str = "upscale"
    preview_rate: float = 3.0
    open_scale: str = "ask"
    cache: str = ""

    @classmethod
    def load(cls) -> Preferences:
        """Read napari's settings, and never raise an error.

        Returns
        -------
        Preferences
            napari's settings. A setting has its default if napari has no value for it, or an invalid one. An invalid
            value is reported in the log.
        """
        settings, values = _napari_settings(), {}
        for name, (section, is_valid) in _SETTINGS.items():
            value = getattr(getattr(settings, section, None), name, None)
            if value is None:
                continue
            if _holds(is_valid, value):
                values[name] = value
            else:
                default = getattr(cls, name)
                _LOG.warning("Preference %s.%s: %r is not valid; %r is used instead.", section, name, value, default)
        return cls(**values)


def apply_cache(preferences: Preferences) -> None:
    """Set the folder of the compiled kernel; without effect once the kernel is loaded.

    Parameters
    ----------
    preferences
        The preferences. If their `cache` is empty, nothing is done.
    """
    if preferences.cache:
        os.environ[CACHE_VARIABLE] = preferences.cache


def remembered() -> dict[str, Any]:
    """Return the values stored by `remember` in this session or an earlier one.

    Returns
    -------
    dict
        The values. Empty if the file is missing or damaged.
    """
    try:
        values = json.loads(_memory_file().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        _LOG.debug("The settings of the last session could not be read: %s", error)
        return {}
    return values if isinstance(values, dict) else {}


def remember(values: Mapping[str, Any]) -> None:
    """Store settings for the next session, instead of those stored before.

    Parameters
    ----------
    values
        Plain values of the types of JSON. If they cannot be written, they are lost, and only the debug log reports it.
    """
    path = _memory_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, values)
    except OSError as error:
        _LOG.debug("The settings of this session could not be stored: %s", error)


def _napari_settings() -> Any:
    try:
        from napari.settings import get_plugin_settings

        return get_plugin_settings(_PLUGIN)
    # napari is older than 0.9, or the plugin is disabled.
    except (ImportError, KeyError) as error:
        _LOG.debug("napari has no preferences for this plugin: %s", error)
    # napari reads the settings of all plugins at once. The file of any of them may be damaged in any way.
    except Exception as error:
        _LOG.warning("napari's preferences could not be read (%s). The defaults are used.", error)
    return None


def _holds(is_valid: Callable[[Any], bool], value: Any) -> bool:
    try:
        return is_valid(value)
    except TypeError:
        return False


def _memory_file() -> Path:
    return platformdirs.user_config_path(_PLUGIN) / "last-session.json"
