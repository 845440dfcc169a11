"""The manifest: added entries are read back, even if a crash has damaged the file."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_siren.batch.manifest import Entry, Manifest
from napari_siren.errors import StorageError

texts = st.text(st.characters(codec="utf-8"), max_size=40)
numbers = st.one_of(st.none(), st.floats(allow_nan=False))
entries = st.builds(
    Entry,
    job=texts,
    input=texts,
    output=texts,
    status=st.sampled_from(["done", "failed"]),
    settings=texts,
    size=st.integers(0),
    changed=st.integers(0),
    reason=st.one_of(st.none(), texts),
    metrics=st.dictionaries(st.sampled_from(["psnr", "ssim"]), numbers),
    shape=st.lists(st.integers(0, 9)).map(tuple),
    seconds=st.floats(0, 1e9),
)


def entry(job: str, **told: object) -> Entry:
    return Entry(**{"job": job, "input": job, "output": job, "status": "done", "settings": "s", **told})  # type: ignore[arg-type]


@given(st.lists(entries, max_size=5))
def test_what_is_added_is_read_again_the_last_of_each_job(
    tmp_path_factory: pytest.TempPathFactory, given: list[Entry]
) -> None:
    manifest = Manifest(tmp_path_factory.mktemp("batch"))
    for one in given:
        manifest.add(one)
    assert manifest.read() == {one.job: one for one in given}
    lines = manifest.path.read_bytes().split(b"\n")[:-1] if given else []
    assert len(lines) == len(given)
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_an_infinite_psnr_is_strict_json(tmp_path: Path) -> None:
    Manifest(tmp_path).add(entry("a", metrics={"psnr": math.inf}))
    assert "Infinity" not in Manifest(tmp_path).path.read_text()
    assert Manifest(tmp_path).read()["a"].metrics["psnr"] == math.inf


@given(st.data())
def test_a_torn_last_line_loses_that_entry_alone(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    manifest = Manifest(tmp_path_factory.mktemp("batch"))
    manifest.add(entry("a"))
    whole = manifest.path.stat().st_size
    manifest.add(entry("b", reason="größer"))
    length = data.draw(st.integers(whole, manifest.path.stat().st_size - 2))
    manifest.path.write_bytes(manifest.path.read_bytes()[:length])
    assert set(manifest.read()) == {"a"}
    manifest.add(entry("c"))
    assert set(manifest.read()) == {"a", "c"}


@pytest.mark.parametrize("line", ["[1, 2]", '"text"', "{}", '{"job": "x"}', "null", '{"job": 1, "metrics": 3}', ""])
def test_lines_of_something_else_are_passed_over(tmp_path: Path, line: str) -> None:
    manifest = Manifest(tmp_path)
    manifest.add(entry("a"))
    with manifest.path.open("a") as file:
        file.write(line + "\n")
    manifest.add(entry("b"))
    assert set(manifest.read()) == {"a", "b"}


def test_a_folder_without_a_manifest_has_no_entries(tmp_path: Path) -> None:
    assert Manifest(tmp_path).read() == {}


def test_a_manifest_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").mkdir()
    with pytest.raises(StorageError, match="cannot read"):
        Manifest(tmp_path).read()
    with pytest.raises(StorageError, match="cannot write"):
        Manifest(tmp_path).add(entry("a"))


HOLD = """
import sys
from dataclasses import fields
from napari_siren.batch.manifest import Manifest

with Manifest(sys.argv[1]).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_batches_cannot_have_one_folder_and_a_killed_one_has_none(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdin=-1, stdout=-1) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StorageError, match="another batch"), Manifest(tmp_path).locked():
            pass
        other.kill()
        other.wait()
        with Manifest(tmp_path).locked():
            pass


@pytest.mark.parametrize("name", [f.name for f in fields(Entry)])
def test_lines_with_hostile_values_are_skipped_or_valid(tmp_path: Path, name: str) -> None:
    manifest = Manifest(tmp_path)
    manifest.add(Entry("good", "a.png", "a.png", "done", "5f3a"))
    line = json.loads(manifest.path.read_text())
    hostile = [{**line, "job": "bad", name: v} for v in (None, -1, 1e308, "x", [], {}, [[-1]], "inf", {"a": []})]
    text = "\n".join(map(json.dumps, hostile)) + "\n" + "[" * 100_000 + "\n"
    manifest.path.write_text(json.dumps(line) + "\n" + text)
    entries = manifest.read()
    assert "good" in entries
    assert all(isinstance(entry.job, str) for entry in entries.values())
    assert all(json.dumps(entry.as_json(), allow_nan=False) for entry in entries.values())
