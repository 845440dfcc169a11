"""The compilation of the library in C: sources, flags, instruction sets, and the choice of a compiler.

The build hook of the wheels, hatch_build.py, loads this file by its path, without the package. Therefore it imports the
standard library only.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_FOLDER = Path(__file__).parent
SOURCES = tuple(
    _FOLDER / name
    for name in ("siren.c", "amx.c", "amx_orthogonalise.c", "update.c", "decoder.c", "convolution.c", "cpu.c")
)
HEADERS = tuple(_FOLDER / name for name in ("siren.h", "vectors.h", "amx.h"))
# Flags for speed: the kernels need neither errno nor floating-point traps.
OPTIMISE = ("-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
# GCC leaves out fused multiply-adds in some loops where it tunes for some processors, those of AMD among them. The bits
# of a sample would depend on its position in a block.
FUSED = ("--param=avoid-fma-max-bits=0",)

_AVX2 = ("-mavx2", "-mfma", *FUSED)
_AVX512 = (*_AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512")
_AMX = (*_AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16")
# Instruction sets that change the sources, the oldest first: vectors of 4, 8 or 16 floats, and AMX. The position of a
# set is the number that `siren_cpu_level` in cpu.c returns.
_X86 = {"sse2": (), "avx2": _AVX2, "avx512": _AVX512, "amx": _AMX}
_ARM: dict[str, tuple[str, ...]] = {"neon": ()}
_FAMILIES = {"x86_64": _X86, "amd64": _X86, "arm64": _ARM, "aarch64": _ARM}

# The longest time for one call of the compiler, in seconds. It takes 1 to 3 s on one core of 2.1 GHz.
_SECONDS = 120


def levels() -> dict[str, tuple[str, ...]]:
    """Return the instruction sets of the libraries in a wheel for this system, the oldest first, with their flags.

    Returns
    -------
    dict
        Names and compiler flags. It is empty if there are no such wheels, as on 32-bit systems.
    """
    family = _FAMILIES.get(platform.machine().lower(), {}) if sys.maxsize > 2**32 else {}
    # amx.c uses a system call of Linux.
    return {name: flags for name, flags in family.items() if name != "amx" or sys.platform == "linux"}


def find_compiler() -> str | None:
    """Return the path of a C compiler: the one that CC names, or cc, gcc or clang."""
    for name in (os.environ.get("CC"), "cc", "gcc", "clang"):
        if name and (path := shutil.which(name)) and not _is_stub(path):
            return path
    return None


def _is_stub(path: str) -> bool:
    # macOS has /usr/bin/cc without its developer tools. To run it would open a window that offers to install them.
    if platform.system() != "Darwin" or Path(path).parent != Path("/usr/bin"):
        return False
    try:
        run_compiler(["/usr/bin/xcode-select", "-p"])
    except (OSError, subprocess.SubprocessError):
        return True
    return False


def compile_library(compiler: Sequence[str], machine: Sequence[str], path: Path) -> None:
    """Compile the library.

    Parameters
    ----------
    compiler
        Command of the compiler.
    machine
        Flags for the instruction set.
    path
        Path of the library to write.

    Raises
    ------
    OSError, subprocess.SubprocessError
        The compiler cannot be run, or it fails.
    """
    run_compiler([*compiler, *OPTIMISE, *machine, *map(str, SOURCES), "-lm", "-o", str(path)])


def run_compiler(command: Sequence[str]) -> bytes:
    """Run a command and return its output. It raises the errors of `compile_library`."""
    return subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS).stdout


def failure_reason(error: Exception) -> str:
    """Return the first line that a failed compiler printed, or the error itself."""
    output = getattr(error, "stderr", None)
    lines = output.decode(errors="replace").strip().splitlines() if output else []
    return lines[0] if lines else str(error)


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
