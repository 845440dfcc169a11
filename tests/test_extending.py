"""The changes on the page about extending the package work when they are applied to a copy of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from waiting import LIMIT

import napari_siren

PAGE = Path(__file__).resolve().parents[1] / "docs" / "contributing" / "extending.md"
SECTIONS = dict(re.findall(r"^## (.*)\n((?:(?!^## ).*\n)*)", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
BLOCK = re.compile(r"^```(\w+) ([\w./]+)\n((?:(?!```).*\n)*)```$", re.MULTILINE)
# Files of the package that each section changes, new ones included.
TOUCHED = {"A preset": 1, "A restoration task": 3, "A file format": 3, "An engine": 3}

# The workers of the batch are threads: a process would import all again.
IN_THREADS = """
from distributed import Client, LocalCluster
from napari_siren.batch import cluster

def start(stack, count, threads):
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    own = stack.enter_context(LocalCluster(processes=False, **options))
    return stack.enter_context(Client(own, set_as_default=False))

cluster._start = start
"""


def test_the_sections_are_these() -> None:
    assert set(SECTIONS) == set(TOUCHED)


def test_the_extensions_work(tmp_path: Path) -> None:
    """All of them are in one copy of the package. No file is in two sections, so that none needs another one."""
    package = tmp_path / "napari_siren"
    # Other processes may be writing compiled files.
    shutil.copytree(Path(napari_siren.__file__).parent, package, ignore=shutil.ignore_patterns("*.pyc.*"))
    touched: list[str] = []
    lines = [f"import napari_siren\nassert napari_siren.__file__.startswith({str(tmp_path)!r})", IN_THREADS]
    for section, text in SECTIONS.items():
        own, code = extend(package, text)
        assert len(own) == TOUCHED[section]
        assert code
        touched += own
        lines += [f"print({section!r})", code]
    assert len(touched) == len(set(touched))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr


def extend(package: Path, section: str) -> tuple[set[str], str]:
    """Make the changes of a section, and return the changed files and the code that uses them."""
    touched, code = set(), ""
    for language, target, text in BLOCK.findall(section):
        if target == "extension":
            code = text
            continue
        touched.add(target)
        path = package / target
        if language == "python":
            assert not path.exists()
            path.write_text(text, encoding="utf-8")
        else:
            path.write_text(changed(path.read_text(encoding="utf-8"), text), encoding="utf-8")
    return touched, code


def changed(text: str, diff: str) -> str:
    """Apply a block of a diff without line numbers: its old lines occur once in the text, at the start of a line."""
    lines = diff.splitlines()
    old = "\n".join(line[1:] for line in lines if line[:1] in (" ", "-"))
    new = "\n".join(line[1:] for line in lines if line[:1] in (" ", "+"))
    removed = [line for line in lines if line.startswith("-")]
    assert text.count("\n" + old) == 1, f"these lines of the page are not in the file:\n{old}"
    # A line that is changed may go on after the part that is shown.
    assert removed or ("\n" + old + "\n") in text
    return text.replace("\n" + old, "\n" + new)
