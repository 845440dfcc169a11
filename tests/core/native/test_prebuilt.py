"""The libraries of a wheel: their build by the hook, the choice of the best one, and damaged files."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from napari_siren.core.native import compiler, prebuilt
from napari_siren.core.native.compiler import file_hash
from napari_siren.core.native.prebuilt import load_prebuilt

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("sse2", "avx2", "avx512")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with files instead of libraries. The processor supports the second one of three levels."""
    entries = []
    for name in NAMES:
        path = tmp_path / f"siren_{name}.so"
        path.write_text(name)
        entries.append({"name": name, "file": path.name, "sha256": file_hash(path)})
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    set_level(monkeypatch, 1)
    return tmp_path


def set_level(monkeypatch: pytest.MonkeyPatch, level: int) -> None:
    """Replace the loading of libraries. The processor supports the instruction sets up to a level."""
    library = SimpleNamespace(siren_cpu_level=lambda: level)
    monkeypatch.setattr(prebuilt, "ctypes", SimpleNamespace(CDLL=lambda path: library))


@pytest.mark.parametrize(("level", "name"), [(0, "sse2"), (1, "avx2"), (2, "avx512"), (3, "avx512")])
def test_the_best_level_of_the_processor_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, level: int, name: str
) -> None:
    set_level(monkeypatch, level)
    loaded = load_prebuilt(folder)
    assert loaded is not None
    assert (loaded.level, loaded.path) == (name, folder / f"siren_{name}.so")


def test_an_installation_without_libraries_has_none(tmp_path: Path) -> None:
    assert load_prebuilt(tmp_path / "prebuilt") is None


@pytest.mark.parametrize("name", ["siren_sse2.so", "siren_avx2.so"])
def test_a_library_that_was_not_built_with_the_wheel_is_not_loaded(folder: Path, name: str) -> None:
    (folder / name).write_text("another")
    with pytest.raises(OSError, match=rf"{name} is not the file that was built"):
        load_prebuilt(folder)


@pytest.mark.parametrize("text", ["", "{}", "[]", "[1]", '[{"name": "sse2"}]', "\udcff"])
def test_a_damaged_manifest_is_an_error(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(OSError, match=r"manifest\.json is damaged"):
        load_prebuilt(folder)


@pytest.mark.parametrize("name", ["siren_avx2.so", "manifest.json"])
def test_a_missing_file_is_an_error(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(OSError, match=name):
        load_prebuilt(folder)


# ---- the build hook ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a source tree with the kernel only."""
    if find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed")
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    native = folder / "src/napari_siren/core/native"
    shutil.copytree(compiler.SOURCES[0].parent, native, ignore=shutil.ignore_patterns("__pycache__", "prebuilt"))
    return folder


def build(source: Path, output: Path, monkeypatch: pytest.MonkeyPatch, cc: str) -> tuple[Path, str]:
    """Build a wheel without optimisation: (path of the wheel, output of the build)."""
    monkeypatch.setenv("CC", cc)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(output)]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=200, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = output.glob("*.whl")
    return wheel, built.stdout + built.stderr


@pytest.mark.skipif(shutil.which("cc") is None or os.name == "nt", reason="no C compiler")
def test_the_hook_builds_a_wheel_with_the_kernel(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cc = tmp_path / "fastcc"
    cc.write_text('#!/bin/sh\nexec cc -O0 $(echo "$@" | sed "s/-O3//")\n')
    cc.chmod(0o700)
    wheel, _ = build(source, tmp_path / "dist", monkeypatch, str(cc))
    assert "-py3-none-" in wheel.name
    assert not wheel.stem.endswith("-any")
    assert not list(source.rglob("*.so"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    installed = tmp_path / "napari_siren/core/native/prebuilt"
    loaded = load_prebuilt(installed)
    assert loaded is not None
    if platform.machine() == "x86_64":
        capability = torch.backends.cpu.get_cpu_capability()
        assert loaded.level in {"DEFAULT": ["sse2"], "AVX2": ["avx2"], "AVX512": ["avx512", "amx"]}[capability]
    assert loaded.library.siren_vector_length() in (4, 8, 16)
    assert len(list(installed.iterdir())) == len(compiler.levels()) + 1


def test_a_build_without_a_compiler_is_a_pure_wheel_and_says_so(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    wheel, output = build(source, tmp_path / "dist", monkeypatch, "no-such-compiler")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "without the compiled kernel: no C compiler was found" in output
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if "prebuilt/" in name]
