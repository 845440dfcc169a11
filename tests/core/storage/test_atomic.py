"""Temporary files of killed processes are removed by the next process that writes to their folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from waiting import LIMIT

from napari_siren.core.storage import atomic

# A process that is killed while it writes a file, or while it moves a folder.
FILE = """
import os, sys, signal
from pathlib import Path
from napari_siren.core.storage.atomic import atomic_write
with atomic_write(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""
FOLDER = """
import os, sys, signal, shutil
from pathlib import Path
from napari_siren.core.storage import atomic
atomic.shutil.rmtree = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
path = Path(sys.argv[1])
if sys.argv[2] == "before":
    replace = Path.replace
    Path.replace = lambda a, b: (replace(a, b), os.kill(os.getpid(), signal.SIGKILL))
path.with_name("new").mkdir()
atomic.move_folder(path.with_name("new"), path)
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


@pytest.fixture(autouse=True)
def _new_process() -> None:
    atomic._sweep.cache_clear()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed(code: str, *arguments: object) -> None:
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], timeout=LIMIT, check=False)
    assert done.returncode == -9


def test_a_file_of_a_killed_process(tmp_path: Path) -> None:
    killed(FILE, tmp_path / "a.tif")
    (left,) = names(tmp_path)
    assert left.startswith(".a.tif.")
    atomic.write_json(tmp_path / "b.json", {})
    assert names(tmp_path) == ["b.json"]


@pytest.mark.parametrize(("moment", "content"), [("before", ["old.txt"]), ("after", [])])
def test_a_folder_of_a_killed_process(tmp_path: Path, moment: str, content: list[str]) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "old.txt").touch()
    killed(FOLDER, tmp_path / "x", moment)
    assert any(name.endswith(".old") for name in names(tmp_path))
    atomic.check_writable(tmp_path / "b.json")
    assert not any(name.endswith(".old") for name in names(tmp_path))
    assert names(tmp_path / "x") == content


def test_files_of_living_processes_and_of_others_stay(tmp_path: Path) -> None:
    kept = [
        atomic._temporary_name(tmp_path / "a", "part").name,
        ".a.000000-1-12345678.part",  # another machine
        ".a.12345678.part",
        "a.part",
        ".part",
    ]
    for name in kept:
        (tmp_path / name).touch()
    atomic.write_json(tmp_path / "b.json", {})
    assert names(tmp_path) == sorted([*kept, "b.json"])


def test_content_is_on_the_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    flush, replace = atomic._flush, Path.replace

    def record_flush(path: Path) -> None:
        events.append("folder" if path == tmp_path else path.name if path.name in ("a", "b") else "content")
        flush(path)

    def record_replace(path: Path, target: Path) -> Path:
        events.append("move")
        return replace(path, target)

    monkeypatch.setattr(atomic, "_flush", record_flush)
    monkeypatch.setattr(Path, "replace", record_replace)
    atomic.write_json(tmp_path / "x.json", {})
    assert events == ["content", "move", "folder"]
    events.clear()
    with atomic.atomic_directory(tmp_path / "new", lambda _: True) as aside:
        (aside / "a").mkdir(parents=True)
        (aside / "a" / "b").write_bytes(b"1")
    assert events == ["a", "b", "content", "move", "folder"]
