"""The choice of the kernel, and the cache of the compiled library: private, and only what was built is loaded."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from napari_siren.core.native import library
from napari_siren.core.native.prebuilt import Prebuilt

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None or os.name == "nt", reason="no C compiler")


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], library.Kernel]]:
    """Return the function that builds or loads the library, from a fast compiler and an empty cache."""
    compiler = tmp_path / "fastcc"
    compiler.write_text('#!/bin/sh\nexec cc -O0 $(echo "$@" | sed "s/-O3//")\n')
    compiler.chmod(0o700)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("NAPARI_SIREN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NAPARI_SIREN_NATIVE", raising=False)
    monkeypatch.setattr(library, "load_prebuilt", lambda: None)

    def again() -> library.Kernel:
        library.kernel.cache_clear()
        return library.kernel()

    yield again
    library.kernel.cache_clear()


def loading(result: Prebuilt | OSError | None) -> Callable[[], Prebuilt | None]:
    """Return a function that replaces `load_prebuilt`."""

    def load() -> Prebuilt | None:
        if isinstance(result, OSError):
            raise result
        return result

    return load


def test_a_library_of_the_wheel_is_preferred_to_the_compiler(
    built: Callable[[], library.Kernel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prebuilt = Prebuilt(ctypes.pythonapi, tmp_path / "siren_avx2.so", "avx2")
    monkeypatch.setattr(library, "load_prebuilt", loading(prebuilt))
    kernel = built()
    assert kernel.library is prebuilt.library
    assert kernel.message == f"prebuilt for avx2: {prebuilt.path}"
    assert not (tmp_path / "cache").exists()


@needs_compiler
def test_a_damaged_library_of_the_wheel_is_reported_and_another_is_compiled(
    built: Callable[[], library.Kernel], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(library, "load_prebuilt", loading(OSError("siren_avx2.so is not the file that was built")))
    kernel = built()
    assert kernel.library is not None
    assert kernel.message.startswith("compiled")
    assert "siren_avx2.so is not the file that was built" in kernel.message
    assert "reinstall napari-siren" in caplog.text


def test_without_a_compiler_and_without_a_library_the_message_says_so(
    built: Callable[[], library.Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "find_compiler", lambda: None)
    kernel = built()
    assert kernel.library is None
    assert "no C compiler" in kernel.message


def test_windows_without_a_library_says_what_is_missing(
    built: Callable[[], library.Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library, "os", SimpleNamespace(name="nt", environ=os.environ))
    kernel = built()
    assert kernel.library is None
    assert "no kernel for Windows" in kernel.message
    assert "win_amd64" in kernel.message


def test_windows_loads_a_library_of_the_wheel(
    built: Callable[[], library.Kernel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prebuilt = Prebuilt(ctypes.pythonapi, tmp_path / "siren_avx2.dll", "avx2")
    monkeypatch.setattr(library, "load_prebuilt", loading(prebuilt))
    monkeypatch.setattr(library, "os", SimpleNamespace(name="nt", environ=os.environ))
    assert built().library is prebuilt.library


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@needs_compiler
def test_the_folder_is_of_the_user_alone(built: Callable[[], library.Kernel], tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "kernels"
    assert built().message.startswith("compiled")
    assert mode(folder) == 0o700
    folder.chmod(0o777)
    assert built().message.startswith("from the cache")
    assert mode(folder) == 0o700


@needs_compiler
def test_a_library_that_was_not_built_here_is_not_loaded(built: Callable[[], library.Kernel], tmp_path: Path) -> None:
    built()
    (path,) = (tmp_path / "cache" / "kernels").glob("*.so")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content + b"\0")  # it can be loaded, but is another
    assert built().message.startswith("compiled")
    assert path.read_bytes() == content
    other = path.with_name(path.name.rpartition("-")[0] + "-0.so")
    other.write_bytes(content)
    assert built().message.startswith("from the cache")
    assert not other.exists()


@needs_compiler
@pytest.mark.parametrize("kind", ["link", "open parent", "foreign"])
def test_a_folder_that_others_control_is_not_used(
    built: Callable[[], library.Kernel], tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    for folder in (cache, elsewhere):
        folder.mkdir()
    if kind == "link":
        (cache / "kernels").symlink_to(elsewhere)
    elif kind == "open parent":
        cache.chmod(0o777)
    else:
        own = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: own + 1)
    kernel = built()
    assert kernel.library is not None
    assert str(tmp_path) not in kernel.message.split("(")[0]
    assert not list(tmp_path.rglob("*.so"))


@needs_compiler
def test_names_in_a_shared_folder_cannot_be_predicted(
    built: Callable[[], library.Kernel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").write_text("in the way")
    names = []
    for _ in range(2):
        kernel = built()
        assert kernel.library is not None
        folder = Path(kernel.message.split(": ")[1].split(" (")[0]).parent
        assert mode(folder) == 0o700
        names.append(folder)
    assert names[0] != names[1]
