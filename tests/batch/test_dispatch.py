"""Jobs at which workers die, and workers that give no answer."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import forking
import pytest
from batching import TINY, dask_processes, done_lines, photos

from napari_siren.batch.run import fit_batch
from napari_siren.errors import InputError

FAST: dict[str, Any] = {"preset": "fast", "warm_start": False, **TINY}

unless_windows = pytest.mark.skipif(os.name == "nt", reason="there are no such signals")

# Code for workers: each of them kills itself in the fit of one image, and leaves a file.
POISON = """
import os
import pathlib
import signal

from napari_siren.batch import worker


def reporter(name, original=worker._progress_reporter):
    if name == "02.png":
        (pathlib.Path({folder!r}) / f"death_{{os.getpid()}}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return original(name)


worker._progress_reporter = reporter
"""


def assert_all_but_one(report: Any, folder: Path) -> None:
    """Assert that only the image that kills its workers has failed, after three deaths."""
    assert [entry.job for entry in report.failed] == ["02.png"]
    assert "3 worker processes died at this image" in str(report.failed[0].reason)
    assert done_lines(report.folder) == {f"{i:02d}.png": 1 for i in range(6) if i != 2}
    assert len(list(folder.glob("death_*"))) == 3
    assert any("02.png: 2 worker processes died" in note for note in report.notes)
    assert "02.png: 2 worker processes died" in (report.folder / "report.html").read_text()


@pytest.mark.slow
@unless_windows
def test_an_image_that_kills_its_workers_keeps_none_from_the_others(tmp_path: Path) -> None:
    photos(tmp_path / "in", 6)
    out = tmp_path / "out"
    # None of these workers starts again.
    with dask_processes(tmp_path, [POISON.format(folder=str(tmp_path))] * 3) as (address, _):
        assert_all_but_one(fit_batch(tmp_path / "in", out, scheduler=address, wait=2, **FAST), tmp_path)
        with pytest.raises(InputError, match=r"has no worker after 0 s\. Start workers"):
            fit_batch(tmp_path / "in", out, scheduler=address, wait=0.1, **FAST)


@pytest.mark.slow
@unless_windows
def test_the_same_with_processes_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dask import config

    # Processes that need not import PyTorch again. `test_run.py` starts those of a batch.
    for module in ("process", "nanny"):
        monkeypatch.setattr(f"distributed.{module}.get_mp_context", forking.context)

    photos(tmp_path / "in", 6)
    preload = tmp_path / "preload.py"
    preload.write_text(POISON.format(folder=str(tmp_path)))
    with config.set({"distributed.worker.preload": [str(preload)]}):
        report = fit_batch(tmp_path / "in", tmp_path / "out", workers=2, **FAST)
    assert_all_but_one(report, tmp_path)
    assert {entry.worker for entry in report.done} <= {"0", "1"}
    assert not list(report.folder.rglob("*.part"))
    assert len(list(report.folder.glob("*.png"))) == 5


@pytest.mark.slow
@unless_windows
def test_the_last_worker_dies_and_one_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_siren.batch.cluster._CONNECT_SECONDS", 2)
    photos(tmp_path / "in", 6)
    out = tmp_path / "out"
    with dask_processes(tmp_path, ["", POISON.format(folder=str(tmp_path))]) as (address, (still, _)):
        os.kill(still.pid, signal.SIGSTOP)
        with pytest.raises(InputError, match=r"had no worker for 1 s, and \d jobs remain"):
            fit_batch(tmp_path / "in", out, scheduler=address, wait=1, **FAST)
        assert (out / "report.html").exists()
        assert "02.png" not in done_lines(out)
        # Now all workers stand still.
        with pytest.raises(InputError, match="no worker can be used: no answer on tcp://"):
            fit_batch(tmp_path / "in", out, scheduler=address, wait=1, **FAST)


def nothing(*_: Any) -> None:
    """Stand for the work of another version of the package."""


def test_a_worker_that_returns_no_entry(tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path / "in", 2)
    monkeypatch.setattr("napari_siren.batch.run.fit_image", nothing)
    report = fit_batch(tmp_path / "in", tmp_path / "out", scheduler=scheduler, **FAST)
    assert ["the worker returned no entry" in str(entry.reason) for entry in report.failed] == [True, True]
