"""Saved models as layers: *File > Open*, drag and drop, ``viewer.open``. Qt is imported only to show the dialog."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import napari

from napari_siren.errors import InputError
from napari_siren.layers.spec import LayerData
from napari_siren.ui.logic.preferences import Preferences

# napari's value for a file that was opened without a layer to add.
_NO_LAYERS: list[Any] = [(None,)]
# Largest header in bytes. A larger length means that the file is not a safetensors file.
_MAX_HEADER = 100_000_000


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[Any]] | None:
    """Return `read_models` if all files are models saved by napari-siren. The models are not loaded.

    Parameters
    ----------
    path
        Path of one file, or several paths.

    Returns
    -------
    callable or None
        `read_models`, or None if one of the files is something else.
    """
    paths = _as_paths(path)
    return read_models if paths and all(map(_is_model, paths)) else None


def read_models(path: str | Sequence[str]) -> list[Any]:
    """Render saved models as layers, each at the position of its fitted image.

    Parameters
    ----------
    path
        Path of one file, or several paths. The resolution is the one in the preferences. If this is "ask", a dialog
        asks for it if a napari window is open; without a window, the resolution of the original is used.

    Returns
    -------
    list of LayerData
        One layer for each file, except those cancelled by the user; without any layer, napari's value for no layers.

    Raises
    ------
    StorageError
        A file is damaged, or from a later version.
    InputError
        The model has only one axis, or its render would not fit into memory.
    """
    layers = [layer for layer in map(_read, _as_paths(path)) if layer is not None]
    return layers or _NO_LAYERS


def _read(path: Path) -> LayerData | None:
    from napari_siren.core.result import load
    from napari_siren.layers.outputs import model_layer, spec_of

    result = load(path)
    if len(spec_of(result).shape) < 2:
        raise InputError(
            f"{path.name} is a model with one axis, and napari shows images with two axes or more. Render it in "
            "Python: napari_siren.load(path).render(scale=2)."
        )
    scale = _scale(result, path.stem)
    return None if scale is None else model_layer(result, scale, path.stem)


def _scale(result: Any, name: str) -> float | None:
    open_scale = Preferences.load().open_scale
    if open_scale != "ask":
        return float(open_scale)
    window = _window()
    if window is None:
        return 1.0
    from napari_siren.ui.dialogs.scale import ask_scale

    return ask_scale(result, name, window)


def _window() -> Any:
    """Return napari's window, or None if there is no visible window or this is not the main thread."""
    viewer = napari.current_viewer()
    if viewer is None or threading.current_thread() is not threading.main_thread():
        return None
    window = viewer.window._qt_window
    return window if window.isVisible() else None


def _as_paths(path: str | Sequence[str]) -> list[Path]:
    return [Path(p) for p in ([path] if isinstance(path, str) else path)]


def _is_model(path: Path) -> bool:
    """Return whether the header of a file names napari-siren.

    A safetensors file begins with the length of its header in 8 bytes, followed by the header as JSON.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < _MAX_HEADER else {}
    except (OSError, ValueError):
        return False
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    return isinstance(metadata, dict) and metadata.get("format") == "napari-siren"
