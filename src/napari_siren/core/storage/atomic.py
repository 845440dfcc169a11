"""Atomic writes: a file or folder is either complete or not there.

It is written under a temporary name in the same folder, flushed to the disk, and then moved into place. After a power
cut, a name therefore never stands for content that was not written.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from napari_siren.errors import StorageError

# Names of temporary files: see `_temporary_name`.
_TEMPORARY = re.compile(
    r"\.(?P<name>.+)\.(?P<host>[0-9a-f]{6})-(?P<process>[0-9]{1,9})-[0-9a-f]{8}\.(?P<kind>part|old)"
)
# Addresses such as s3://bucket/image.png. A path of it has one slash. A drive of Windows has one letter.
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9]+):/{1,2}(?=[^/])(.*)")
# Longest name of a file on most file systems, in bytes.
_NAME_BYTES = 255


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Return a temporary file beside `path`, and move it to `path` if the block ends without an exception.

    Raises
    ------
    StorageError
        The file cannot be written there.
    """
    temporary = _create_temporary(path)
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise _storage_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path, replaceable: Callable[[Path], bool]) -> Iterator[Path]:
    """Return the path of a folder to create beside `path`, and move it there if the block ends without an exception.

    Parameters
    ----------
    path
        Final path of the folder.
    replaceable
        Function that returns whether an existing folder may be replaced.

    Raises
    ------
    StorageError
        The folder cannot be written there, or another file or folder is in the way.
    """
    temporary = _temporary_name(path, "part")
    check_folder_free(path, replaceable)
    try:
        yield temporary
        move_folder(temporary, path)
    except OSError as error:
        raise _storage_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_folder_free(path: Path, replaceable: Callable[[Path], bool]) -> None:
    """Check whether a folder can be created at `path`, or may replace an existing one.

    Raises
    ------
    StorageError
        Another file or folder is in the way, or nothing can be written there.
    """
    _check_local(path)
    if path.is_file() or (path.is_dir() and any(path.iterdir()) and not replaceable(path)):
        raise StorageError(
            f"cannot write {path}: another file or folder of that name is in the way. Choose another name."
        )
    check_writable(_temporary_name(path, "part"))


def move_folder(aside: Path, path: Path) -> None:
    """Move a folder into place, and then remove the old folder of that name."""
    old = _temporary_name(path, "old")
    for part in (*aside.rglob("*"), aside):
        _flush(part)
    if path.exists():
        path.replace(old)
    aside.replace(path)
    _flush(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def check_writable(path: Path) -> None:
    """Check whether a file can be written; no file is left behind, and an existing one stays as it is.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    _create_temporary(path).unlink(missing_ok=True)


def prepare_folder(folder: Path) -> Path:
    """Create a folder if it is missing, and check whether files can be written in it.

    Raises
    ------
    StorageError
        The folder cannot be created, is a file, or is not writable.
    """
    _check_local(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise StorageError(f"cannot create the folder {folder}: a file is in the way. Choose another folder.") from None
    except OSError as error:
        raise StorageError(f"cannot create the folder {folder}: {error.strerror}. Choose another folder.") from error
    check_writable(folder / "report.json")
    return folder


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write strict JSON: infinite numbers become the strings "inf" and "-inf", NaN becomes null.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    text = json.dumps(json_safe(content), indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    return path


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    folder = path.is_dir()
    if folder and os.name == "nt":  # Windows cannot open a folder
        return
    # Windows flushes only files that are open for writing.
    descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush a folder.
        if not folder or error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def _temporary_name(path: Path, kind: str) -> Path:
    """Return a hidden name beside a path, which is not too long for a file system if the name of the path is not."""
    ending = f".{_host()}-{os.getpid()}-{secrets.token_hex(4)}.{kind}"
    # Most file systems allow 255 bytes.
    stem = path.name.encode()[: _NAME_BYTES - len(ending) - 1].decode(errors="ignore")
    return path.with_name(f".{stem}{ending}")


@cache
def _host() -> str:
    """Return a short name of this machine, or of this container: the numbers of its processes are its own."""
    try:
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        space = 0
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:6]


@cache
def _sweep(folder: Path) -> None:
    """Remove the temporary files of killed processes of this machine from a folder, once for each folder.

    A killed `move_folder` may leave the only copy of a folder under a temporary name. It is moved back.
    """
    try:
        matches = [(path, _TEMPORARY.fullmatch(path.name)) for path in folder.iterdir()]
    except OSError:
        return
    names = [(path, match) for path, match in matches if match is not None]
    if not names:
        return
    # The training of networks also runs where psutil is not installed.
    import psutil

    for path, match in names:
        if match["host"] != _host() or psutil.pid_exists(int(match["process"])):
            continue
        with suppress(OSError):
            if match["kind"] == "old" and not path.with_name(match["name"]).exists():
                path.replace(path.with_name(match["name"]))
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _check_local(path: Path) -> None:
    """Raise a StorageError for an address, which would become a folder with the name of its protocol."""
    address = _ADDRESS.match(path.as_posix())
    if address is not None:
        raise StorageError(
            f"cannot write to the address {address[1]}://{address[2]}: results are files of this machine. Write a "
            "file, and copy it to the address."
        )


def _create_temporary(path: Path) -> Path:
    _check_local(path)
    _sweep(path.parent.absolute())
    temporary = _temporary_name(path, "part")
    if path.is_dir():
        raise StorageError(f"cannot write {path}: it is a folder. Give the name of a file.")
    try:
        temporary.open("xb").close()
    except OSError as error:
        raise _storage_error(path, error) from error
    return temporary


def _storage_error(path: Path, error: OSError) -> StorageError:
    if isinstance(error, StorageError):
        return error
    if isinstance(error, FileNotFoundError):
        return StorageError(f"cannot write {path}: the folder {path.parent} does not exist. Create it first.")
    return StorageError(f"cannot write {path}: {error.strerror or error}. Choose another folder.")


def json_safe(value: Any) -> Any:
    """Return plain values for strict JSON: infinite numbers become "inf" and "-inf", NaN becomes None."""
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
