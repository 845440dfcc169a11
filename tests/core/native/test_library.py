"""The cache of the compiled library: private, and only what was built is loaded."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from napari_siren.core.native import library

pytestmark = pytest.mark.skipif(shutil.which("cc") is None or os.name == "nt", reason="no C compiler")


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], library.Kernel]]:
    """Return the function that builds or loads the library, from a fast compiler and an empty cache."""
    compiler = tmp_path / "fastcc"
    compiler.write_text('#!/bin/sh\nexec cc -O0 $(echo "$@" | sed "s/-O3//")\n')
    compiler.chmod(0o700)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("NAPARI_SIREN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NAPARI_SIREN_NATIVE", raising=False)

    def again() -> library.Kernel:
        library.kernel.cache_clear()
        return library.kernel()

    yield again
    library.kernel.cache_clear()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_is_of_the_user_alone(built: Callable[[], library.Kernel], tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "kernels"
    assert built().message.startswith("compiled")
    assert mode(folder) == 0o700
    folder.chmod(0o777)
    assert built().message.startswith("from the cache")
    assert mode(folder) == 0o700


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
