"""Saved models as layers: *File > Open*, drag and drop, ``viewer.open``. No Qt until a question has to be asked."""

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

# What napari takes for: opened, but there is no layer to add.
_NO_LAYERS: list[Any] = [(None,)]
_LARGEST_HEADER = 100_000_000


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[Any]] | None:
    """Tell whether files are models saved by napari-siren, without loading them.

    Parameters
    ----------
    path
        One file or several.

    Returns
    -------
    callable or None
        `read_models`, or None if one of the files is something else.
    """
    paths = _as_paths(path)
    return read_models if paths and all(map(_is_model, paths)) else None


def read_models(path: str | Sequence[str]) -> list[Any]:
    """Render saved models, each as a layer where the image was that it was fitted to.

    Parameters
    ----------
    path
        One file or several. The resolution is the one in the preferences; where these say "ask", a dialog asks for
        it if a napari window is open, and the original's is taken if none is.

    Returns
    -------
    list of LayerData
        One for each file that the user did not cancel; if none is left, what napari knows as no layers.

    Raises
    ------
    StorageError
        A file is damaged, or from a later version.
    InputError
        The model has one axis only, or its render would not fit into memory.
    """
    layers = [layer for layer in map(_read, _as_paths(path)) if layer is not None]
    return layers or _NO_LAYERS


def _read(path: Path) -> LayerData | None:
    from napari_siren.core.result import load
    from napari_siren.layers.outputs import model_layer, spec_of

    result = load(path)
    if len(spec_of(result).shape) < 2:
        raise InputError(
            f"{path.name} is the model of a line, and napari shows images of two axes or more. Render it in Python: "
            "napari_siren.load(path).render(scale=2)."
        )
    scale = _scale(result, path.stem)
    return None if scale is None else model_layer(result, scale, path.stem)


def _scale(result: Any, name: str) -> float | None:
    chosen = Preferences.load().open_scale
    if chosen != "ask":
        return float(chosen)
    window = _window()
    if window is None:
        return 1.0
    from napari_siren.ui.dialogs.scale import ask_scale

    return ask_scale(result, name, window)


def _window() -> Any:
    """Return the window of napari, where there is one to be seen and it may be used from here."""
    viewer = napari.current_viewer()
    if viewer is None or threading.current_thread() is not threading.main_thread():
        return None
    window = viewer.window._qt_window
    return window if window.isVisible() else None


def _as_paths(path: str | Sequence[str]) -> list[Path]:
    return [Path(p) for p in ([path] if isinstance(path, str) else path)]


def _is_model(path: Path) -> bool:
    """Look at the file's own description: the length of a piece of JSON in 8 bytes, then the JSON."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < _LARGEST_HEADER else {}
    except (OSError, ValueError):
        return False
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    return isinstance(metadata, dict) and metadata.get("format") == "napari-siren"
