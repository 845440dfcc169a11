"""What the user chose in napari's preferences, and what the panel remembers of its last session. No Qt here."""

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

from napari_siren.core.atomic import write_json
from napari_siren.core.presets import PRESET_NAMES

OPEN_SCALES = ("ask", "1", "2", "4", "8")
CACHE_VARIABLE = "NAPARI_SIREN_CACHE"

_LOG = logging.getLogger(__name__)
_PLUGIN = "napari-siren"
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")

# Where the manifest's `configurations` have each setting, and what it may be.
_SETTINGS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "device": ("fitting", lambda value: _DEVICE.fullmatch(value) is not None),
    "preset": ("fitting", lambda value: value in PRESET_NAMES),
    "preview_rate": ("display", lambda value: 0.5 <= value <= 10),
    "open_scale": ("models", lambda value: value in OPEN_SCALES),
    "cache": ("storage", lambda value: isinstance(value, str)),
}


@dataclass(frozen=True)
class Preferences:
    """What the user chose in *File > Preferences > napari-siren*.

    The defaults are those of the manifest.

    Parameters
    ----------
    device
        "auto", "cpu", "cuda", "cuda:1" or "mps".
    preset
        The preset that a new panel starts with.
    preview_rate
        Previews a second at most, 0.5 to 10.
    open_scale
        Output pixels per pixel at which a saved model opens, "1", "2", "4" or "8"; or "ask".
    cache
        Folder for the compiled kernel; empty is the user's cache folder.
    """

    device: str = "auto"
    preset: str = "faithful"
    preview_rate: float = 3.0
    open_scale: str = "ask"
    cache: str = ""

    @classmethod
    def load(cls) -> Preferences:
        """Read napari's settings; never raises.

        Returns
        -------
        Preferences
            With the default where napari has no value, or none that makes sense; the log says so.
        """
        settings, chosen = _napari_settings(), {}
        for name, (section, is_valid) in _SETTINGS.items():
            value = getattr(getattr(settings, section, None), name, None)
            if value is None:
                continue
            if _holds(is_valid, value):
                chosen[name] = value
            else:
                default = getattr(cls, name)
                _LOG.warning("preference %s.%s: %r means nothing here; %r is used.", section, name, value, default)
        return cls(**chosen)


def apply_cache(preferences: Preferences) -> None:
    """Have the compiled kernel kept in the chosen folder; of no use once the kernel is loaded.

    Parameters
    ----------
    preferences
        With an empty `cache`, nothing is done.
    """
    if preferences.cache:
        os.environ[CACHE_VARIABLE] = preferences.cache


def remembered() -> dict[str, Any]:
    """Return what `remember` kept, in this session or an earlier one; empty if there is nothing, or nothing whole."""
    try:
        values = json.loads(_memory().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        _LOG.debug("nothing is remembered of the last session: %s", error)
        return {}
    return values if isinstance(values, dict) else {}


def remember(values: Mapping[str, Any]) -> None:
    """Keep settings for the next session, in place of those kept before.

    Parameters
    ----------
    values
        Plain values, such as JSON knows. Where they cannot be written, they are forgotten without a word.
    """
    path = _memory()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, values)
    except OSError as error:
        _LOG.debug("nothing will be remembered of this session: %s", error)


def _napari_settings() -> Any:
    try:
        from napari.settings import get_plugin_settings

        return get_plugin_settings(_PLUGIN)
    # A napari before 0.9, or one in which the plugin is disabled.
    except (ImportError, KeyError) as error:
        _LOG.debug("napari has no preferences for this plugin: %s", error)
    # The settings of all plugins are read at once, and the file of any of them may be damaged in any way.
    except Exception as error:
        _LOG.warning("napari's preferences could not be read (%s); the defaults are used.", error)
    return None


def _holds(is_valid: Callable[[Any], bool], value: Any) -> bool:
    try:
        return is_valid(value)
    except TypeError:
        return False


def _memory() -> Path:
    return platformdirs.user_config_path(_PLUGIN) / "last-session.json"
