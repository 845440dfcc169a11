"""The compiled library of the native engine: from the wheel, or compiled on this machine at the first use and cached.

To compile it needs a C compiler: gcc 12 or later, or clang. The library is kept in the user's cache folder, or in the
folder named by NAPARI_SIREN_CACHE. Only the user can read and write that part of the folder, and a library is loaded
only if its hash is that of the library that was built.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs

from napari_siren.core.native.compiler import (
    FUSED,
    HEADERS,
    OPTIMISE,
    SOURCES,
    compile_library,
    failure_reason,
    file_hash,
    find_compiler,
    run_compiler,
)
from napari_siren.core.native.prebuilt import load_prebuilt

_LOG = logging.getLogger("napari_siren")
# Flags for the instructions of this machine, in order of preference. The first ones that compile are used.
_NATIVE = "-march=native"
_MACHINES = ((_NATIVE, "-mprefer-vector-width=512", *FUSED), (_NATIVE, *FUSED), (_NATIVE,), ("-mcpu=native",), ())


@dataclass(frozen=True)
class Kernel:
    """The compiled kernel, or the reason for its absence.

    Parameters
    ----------
    library
        The loaded library, or None if it could not be built.
    message
        One sentence for users: the origin of the library, or the reason for its absence.
    """

    library: ctypes.CDLL | None
    message: str


@cache
def kernel() -> Kernel:
    """Load the kernel from the wheel or from the cache, or build it. It never raises an exception."""
    if os.environ.get("NAPARI_SIREN_NATIVE", "1") == "0":
        return Kernel(None, "switched off by NAPARI_SIREN_NATIVE=0")
    if sys.byteorder != "little":
        return Kernel(None, "big-endian processors are not supported; PyTorch is used, which is slower")
    try:
        prebuilt = load_prebuilt()
    except OSError as error:
        _LOG.warning("the compiled kernel of this installation is not used: %s; reinstall napari-siren", error)
        own = _own_kernel()
        return Kernel(own.library, f"{own.message}; the kernel of this installation is not used ({error})")
    if prebuilt is None:
        return _own_kernel()
    return Kernel(prebuilt.library, f"prebuilt for {prebuilt.level}: {prebuilt.path}")


def _own_kernel() -> Kernel:
    """Compile the kernel on this machine, or load it from the cache."""
    if os.name == "nt":
        return Kernel(
            None,
            "this installation contains no kernel for Windows, where it is not compiled at the first use; PyTorch is "
            "used, which is slower. Install a wheel with the kernel, whose name ends in win_amd64",
        )
    compiler = find_compiler()
    if compiler is None:
        return Kernel(None, "no C compiler found (gcc or clang); PyTorch is used, which is slower")
    errors = []
    for machine in _MACHINES:
        try:
            path, fresh = _build(compiler, machine)
            library = ctypes.CDLL(str(path))
        except (OSError, subprocess.SubprocessError) as error:
            errors.append(failure_reason(error))
            continue
        return Kernel(library, f"{'compiled' if fresh else 'from the cache'}: {path} ({compiler} {' '.join(machine)})")
    return Kernel(None, f"{compiler} could not compile the kernel ({errors[0]}); PyTorch is used, which is slower")


def _build(compiler: str, machine: Sequence[str]) -> tuple[Path, bool]:
    """Compile, unless the library is cached: (path of the library, whether it was compiled now)."""
    # The predefined macros contain the compiler's version and this CPU's instructions. Different machines may share a
    # home folder, and with it the cache, but must not load each other's libraries.
    predefined = run_compiler([compiler, *machine, "-dM", "-E", "-x", "c", os.devnull])
    text = b"".join(path.read_bytes() for path in (*SOURCES, *HEADERS))
    key = hashlib.sha256(text + " ".join((*OPTIMISE, *machine)).encode() + predefined).hexdigest()[:16]
    folder = _library_folder()
    # The name ends with the hash of the library that was built. Another content under that name is never loaded.
    for path in sorted(folder.glob(f"siren-{key}-*.so")):
        if path.stem.rpartition("-")[2] == file_hash(path):
            return path, False
        path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        built = Path(scratch) / f"siren-{key}.so"
        compile_library([compiler], machine, built)
        path = folder / f"{built.stem}-{file_hash(built)}.so"
        built.replace(path)
    return path, True


def _library_folder() -> Path:
    """Return the folder of compiled libraries: in the cache, or a temporary one if others could write there."""
    folder = cache_folder() / "kernels"
    try:
        _make_private(folder)
    except OSError as error:
        folder = Path(tempfile.mkdtemp(prefix="napari-siren-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _LOG.warning("compiled libraries are not kept: %s", error)
    return folder


def _make_private(folder: Path) -> None:
    """Create a private folder of the user, or take all rights of others from an existing one.

    Raises
    ------
    OSError
        The folder cannot be created, belongs to another user, or can be replaced by another user.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    own, above = folder.lstat(), folder.parent.stat()
    if not stat.S_ISDIR(own.st_mode) or own.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user, or is a link")
    # In a folder such as /tmp, which all users may write, the sticky bit keeps others from replacing a folder.
    is_open = bool(above.st_mode & stat.S_IWOTH) and not above.st_mode & stat.S_ISVTX
    if is_open or above.st_uid not in (os.getuid(), 0):
        raise PermissionError(f"another user can replace {folder}")
    if stat.S_IMODE(own.st_mode) & 0o077:
        folder.chmod(0o700)


def cache_folder() -> Path:
    """Return the folder for data computed once on a machine: NAPARI_SIREN_CACHE, or the user's cache folder."""
    chosen = os.environ.get("NAPARI_SIREN_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else platformdirs.user_cache_path("napari-siren")
