"""The compiled libraries in a wheel: the choice of the one with the best instruction set of this processor."""

from __future__ import annotations

import ctypes
import json
from dataclasses import dataclass
from pathlib import Path

from napari_siren.core.native.compiler import file_hash

# The build hook of the wheels, hatch_build.py, writes the libraries and the manifest.
_FOLDER = Path(__file__).parent / "prebuilt"
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Prebuilt:
    """A library of the wheel.

    Parameters
    ----------
    library
        The loaded library.
    path
        Path of the library.
    level
        Name of its instruction set.
    """

    library: ctypes.CDLL
    path: Path
    level: str


def load_prebuilt(folder: Path = _FOLDER) -> Prebuilt | None:
    """Load the best library for this processor, or return None if the installation contains none.

    Parameters
    ----------
    folder
        Folder of the libraries and of their manifest.

    Raises
    ------
    OSError
        A library or the manifest is missing, damaged, or does not suit this system.
    """
    if not folder.is_dir():
        return None
    levels = _read_manifest(folder / _MANIFEST)
    # The library for the oldest processors runs everywhere, so that it can be asked for the best level.
    oldest = _load(folder, levels[0])
    best = min(int(oldest.library.siren_cpu_level()), len(levels) - 1)
    return _load(folder, levels[best]) if best else oldest


def _read_manifest(path: Path) -> list[dict[str, str]]:
    try:
        text = json.loads(path.read_text(encoding="utf-8"))
        levels = [{key: str(level[key]) for key in ("name", "file", "sha256")} for level in text]
        if not levels:
            raise ValueError("no library is listed")
    except (KeyError, TypeError, ValueError) as error:
        raise OSError(f"{path} is damaged ({error!r})") from error
    return levels


def _load(folder: Path, level: dict[str, str]) -> Prebuilt:
    path = folder / level["file"]
    if file_hash(path) != level["sha256"]:
        raise OSError(f"{path} is not the file that was built")
    return Prebuilt(ctypes.CDLL(str(path)), path, level["name"])
