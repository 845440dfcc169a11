"""The changes on the page about extending the package work when they are applied to a copy of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import LIMIT

import napari_siren

PAGE = Path(__file__).resolve().parents[1] / "docs" / "contributing" / "extending.md"
SECTIONS = dict(re.findall(r"^## (.*)\n((?:(?!^## ).*\n)*)", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
BLOCK = re.compile(r"^```(\w+) ([\w./]+)\n((?:(?!```).*\n)*)```$", re.MULTILINE)
# Files of the package that each section changes, new ones included.
TOUCHED = {"A preset": 1, "A restoration task": 3, "A file format": 3, "An engine": 3}


def test_the_sections_are_these() -> None:
    assert set(SECTIONS) == set(TOUCHED)


@pytest.mark.parametrize("section", SECTIONS)
def test_an_extension_works(section: str, tmp_path: Path) -> None:
    package = tmp_path / "napari_siren"
    shutil.copytree(Path(napari_siren.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    touched, code = set(), ""
    for language, target, text in BLOCK.findall(SECTIONS[section]):
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
    assert len(touched) == TOUCHED[section]
    assert code
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    code = f"import napari_siren; assert napari_siren.__file__.startswith({str(tmp_path)!r})\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr


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
