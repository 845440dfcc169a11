"""Files that are written whole or not at all: under a temporary name in the same folder, then moved into place."""

from __future__ import annotations

import json
import math
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_siren.errors import StorageError


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Return a temporary file beside `path`, which takes its place when the block ends without an exception.

    Raises
    ------
    StorageError
        The file cannot be written there.
    """
    aside = _make_aside(path)
    try:
        yield aside
        aside.replace(path)
    except OSError as error:
        raise _refusal(path, error) from error
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def folder_written_aside(path: Path, replaceable: Callable[[Path], bool]) -> Iterator[Path]:
    """Return the name of a folder to make beside `path`; it takes that place when the block ends without an exception.

    Parameters
    ----------
    path
        Where the folder is wanted.
    replaceable
        Whether a folder that is there already is of the kind that may be replaced.

    Raises
    ------
    StorageError
        The folder cannot be written there, or something else is in the way.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    check_folder_free(path, replaceable)
    try:
        yield aside
        move_folder(aside, path)
    except OSError as error:
        raise _refusal(path, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def check_folder_free(path: Path, replaceable: Callable[[Path], bool]) -> None:
    """Check that a folder can be made, or one of the same kind replaced.

    Raises
    ------
    StorageError
        Something else is in the way, or nothing can be written there.
    """
    if path.is_file() or (path.is_dir() and any(path.iterdir()) and not replaceable(path)):
        raise StorageError(f"cannot write {path}: something else of that name is in the way. Choose another name.")
    check_writable(path.with_name(f".{path.name}.part"))


def move_folder(aside: Path, path: Path) -> None:
    """Move a folder into place; what was there goes once the new one is there."""
    old = path.with_name(f".{path.name}.{secrets.token_hex(4)}.old")
    if path.exists():
        path.replace(old)
    aside.replace(path)
    shutil.rmtree(old, ignore_errors=True)


def check_writable(path: Path) -> None:
    """Find out whether a file can be written, without leaving a trace or touching one that is there.

    Raises
    ------
    StorageError
        It cannot.
    """
    _make_aside(path).unlink(missing_ok=True)


def prepare_folder(folder: Path) -> Path:
    """Make a folder where it is missing, and find out whether files can be written in it.

    Raises
    ------
    StorageError
        It cannot be made, is a file, or cannot be written in.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise StorageError(f"cannot make the folder {folder}: there is a file of that name in the way.") from None
    except OSError as error:
        raise StorageError(f"cannot make the folder {folder}: {error.strerror}. Choose another place.") from error
    check_writable(folder / "report.json")
    return folder


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write strict JSON: infinite numbers become the strings "inf" and "-inf", NaN becomes null.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    text = json.dumps(strict_values(content), indent=2, ensure_ascii=False, allow_nan=False)
    with written_aside(path) as aside:
        aside.write_text(text + "\n", encoding="utf-8")
    return path


def _make_aside(path: Path) -> Path:
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    if path.is_dir():
        raise StorageError(f"cannot write {path}: it is a folder. Give the name of a file.")
    try:
        aside.open("xb").close()
    except OSError as error:
        raise _refusal(path, error) from error
    return aside


def _refusal(path: Path, error: OSError) -> StorageError:
    if isinstance(error, StorageError):
        return error
    if isinstance(error, FileNotFoundError):
        return StorageError(f"cannot write {path}: the folder {path.parent} is not there. Make it first.")
    return StorageError(f"cannot write {path}: {error.strerror or error}. Choose another place.")


def strict_values(value: Any) -> Any:
    """Return plain values that strict JSON knows: infinite numbers become "inf" and "-inf", NaN becomes None."""
    if isinstance(value, Mapping):
        return {str(key): strict_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict_values(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
