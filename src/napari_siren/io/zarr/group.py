"""Groups of zarr, in folders and at remote addresses."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from napari_siren.errors import InputError
from napari_siren.io.lazy import import_zarr
from napari_siren.io.remote import is_remote, remote_store
from napari_siren.io.zarr.blosc import guard_blosc

# Files of a group or an array of zarr, formats 2 and 3.
MARKS = ("zarr.json", ".zgroup", ".zarray")


def is_zarr(path: str | Path) -> bool:
    """Return whether a path is a folder with a zarr group or array in it."""
    return any((Path(path) / name).is_file() for name in MARKS)


def open_group(path: str | Path, mode: Literal["r", "r+"] = "r") -> Any:
    """Open a zarr group.

    Raises
    ------
    InputError
        There is no such group.
    """
    zarr = import_zarr("zarr")
    guard_blosc()
    if not is_remote(path) and not Path(path).is_dir():
        raise InputError(f"there is no folder {path}. Check its name.")
    store = remote_store(path) if is_remote(path) else path
    try:
        return zarr.open_group(store=store, mode=mode)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is not an OME-Zarr image: {error}. Choose another folder.") from error


def zarr_attributes(path: str | Path) -> dict[str, Any]:
    """Return the attributes of a zarr group.

    Raises
    ------
    InputError
        There is no such group.
    """
    return dict(open_group(path).attrs)
