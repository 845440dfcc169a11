"""`benchmarks.gpu`: a part that fails or hangs takes nothing from the others, and the report is always whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import runner
from benchmarks.gpu.parts import PARTS, Options, Part

VALUES = Part("c", "values", 300, "trust")


def options(folder: Path) -> Options:
    return Options("cpu", folder / "no data", folder / "out", rehearse=True)


def test_parts_that_fail_or_take_too_long_take_nothing_from_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fails, hangs = Part("x", "nothing_of_that_name", 300, "trust"), Part("y", "peers", 0.01, "tasks")
    monkeypatch.setattr(runner, "PARTS", (fails, hangs, VALUES))
    report = runner.run(options(tmp_path), minutes=10, only=[])
    assert report == json.loads((tmp_path / "out" / "gpu.json").read_text())
    parts = report["parts"]
    assert "AttributeError" in parts["nothing_of_that_name"]["failure"]
    assert parts["peers"]["failure"] == "ended after 0 s"
    row = parts["values"]["images"]["waves"]
    assert row["cpu"] == row["device"] > 10
    assert "failure" not in parts["values"]
    assert "FAILED: AttributeError" in runner.lines_of(fails, parts[fails.name])[-1]
    assert "waves: " in runner.lines_of(VALUES, parts["values"])[1]


def test_what_there_is_no_time_for_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runner, "PARTS", (VALUES,))
    report = runner.run(options(tmp_path), minutes=0, only=[])
    assert report["parts"]["values"] == {"failure": "no time was left"}


def test_a_result_that_was_cut_short_has_lines_too() -> None:
    for part in PARTS:
        assert runner.lines_of(part, {"seconds_taken": 3.0, "half": "a result", "failure": "ended after 3 s"})


def test_a_rehearsal_needs_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(SystemExit, match="TRITON_INTERPRET=1"):
        command.main(["--rehearse"])


def test_every_part_has_its_functions() -> None:
    for part in PARTS:
        assert callable(part._function(""))
        assert callable(part._function("_lines"))
