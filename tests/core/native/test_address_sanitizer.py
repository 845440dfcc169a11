"""The compiled library under AddressSanitizer: no call through Python reads or writes out of bounds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from napari_siren.core.native import compiler

SCRIPT = Path(__file__).with_name("hostile_calls.py")


@pytest.fixture(scope="module")
def sanitizer() -> str:
    """Libraries to load first: AddressSanitizer, and that of C++, whose exceptions it has to know from the start."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not there")
    paths = []
    for name in ("libasan.so", "libstdc++.so.6"):
        command = ["gcc", f"-print-file-name={name}"]
        paths.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
        if not Path(paths[-1]).is_absolute():
            pytest.skip(f"{name} is not there")
    return " ".join(paths)


@pytest.fixture(scope="module")
def built(sanitizer: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, compiled with AddressSanitizer."""
    path = tmp_path_factory.mktemp("sanitized") / "siren.so"
    flags = ["-shared", "-fPIC", "-O1", "-g", "-fsanitize=address", "-fno-math-errno", "-march=native"]
    subprocess.run(["gcc", *flags, *map(str, compiler.SOURCES), "-lm", "-o", str(path)], check=True, timeout=120)
    return path


def run(sanitizer: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "LD_PRELOAD": sanitizer, "ASAN_OPTIONS": "detect_leaks=0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
def test_wrong_shapes_are_errors_and_nothing_is_read_out_of_bounds(sanitizer: str, built: Path) -> None:
    done = run(sanitizer, str(SCRIPT), str(built))
    assert "AddressSanitizer" not in done.stderr, done.stderr[-3000:]
    assert done.returncode == 0, done.stderr[-3000:]
    assert "all calls done" in done.stdout


@pytest.mark.slow
def test_the_sanitizer_sees_what_a_call_without_checks_does(sanitizer: str, built: Path) -> None:
    code = (
        "import ctypes, sys, torch; library = ctypes.CDLL(sys.argv[1]); m = torch.zeros(8, 8); c = torch.zeros(15)\n"
        "library.siren_orthogonalise(0, 100, 64, 5, ctypes.c_void_p(c.data_ptr()), ctypes.c_void_p(m.data_ptr()))"
    )
    assert "AddressSanitizer" in run(sanitizer, "-c", code, str(built)).stderr
