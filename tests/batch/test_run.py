"""Batches on clusters: each job is done once, even if jobs fail and processes die or are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from batching import AS_OPTIONS, TINY, done_lines, movie, photos, settings, shades
from typer.testing import CliRunner
from waiting import LIMIT, wait_until

import napari_siren as ns
from napari_siren import InputError
from napari_siren.batch.run import BatchProgress, fit_batch
from napari_siren.cli.app import app
from napari_siren.io.images import read_image

FAST = {"preset": "fast", "warm_start": False, **TINY}


def pixels(out: Path) -> dict[str, bytes]:
    return {path.name: read_image(path).array.tobytes() for path in out.glob("*.*") if path.suffix in (".png", ".tif")}


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "napari_siren"]


# ---- one process ------------------------------------------------------------------------------------------


def test_a_bad_file_does_not_stop_the_rest(tmp_path: Path, scheduler: str) -> None:
    photos(tmp_path / "in", 3)
    (tmp_path / "in" / "01.png").write_bytes(b"no image")
    np.save(tmp_path / "in" / "nan.npy", np.full((9, 9), np.nan))
    heard: list[BatchProgress] = []
    report = fit_batch(tmp_path / "in", tmp_path / "out", scheduler=scheduler, on_progress=heard.append, **FAST)
    assert not report.ok
    assert [entry.job for entry in report.done] == ["00.png", "02.png"]
    assert {entry.job: entry.reason and entry.reason[:40] for entry in report.failed}.keys() == {"01", "nan.ome.tif"}
    assert (report.skipped, report.planned) == ((), ())
    assert (heard[0].state, heard[0].total) == ("begun", 4)
    ended = [progress for progress in heard if progress.entry is not None]
    assert [(progress.finished, progress.total) for progress in ended] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert read_image(tmp_path / "out" / "00.png").array.shape == (40, 48, 3)
    text = (tmp_path / "out" / "report.html").read_text()
    assert text.index("nan.npy") < text.index("00.png")


def test_it_goes_on_where_it_was(tmp_path: Path, scheduler: str) -> None:
    images, out = tmp_path / "in", tmp_path / "out"
    first, second = photos(images, 2)
    fit_batch(images, out, scheduler=scheduler, **FAST)
    written = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    os.utime(first, ns=(7, 7))  # a touched file, with the same image
    second.rename(images / "02.png")
    report = fit_batch(images, out, scheduler=scheduler, **FAST)
    assert {entry.job for entry in report.done} == {"00.png", "02.png"}
    assert {path: path.stat().st_mtime_ns for path in written} == written
    again = fit_batch(images, out, scheduler="tcp://nobody:1", **FAST)  # needs no cluster
    assert (len(again.skipped), again.done, again.ok) == (2, (), True)


def test_results_with_other_settings_are_kept(tmp_path: Path, scheduler: str, caplog: pytest.LogCaptureFixture) -> None:
    images, out = tmp_path / "in", tmp_path / "out"
    photos(images, 2)
    fit_batch(images, out, scheduler=scheduler, **FAST)
    before, report = pixels(out), (out / "report.html").read_bytes()
    with pytest.raises(InputError, match=r"00.png was made with other settings.*another folder.*overwrite=True"):
        fit_batch(images, out, scheduler="tcp://nobody:1", seed=1, **FAST)
    assert (pixels(out), (out / "report.html").read_bytes()) == (before, report)
    # The earlier settings are still those of the folder, and another format replaces nothing.
    assert len(fit_batch(images, out, scheduler="tcp://nobody:1", **FAST).skipped) == 2
    assert len(fit_batch(images, out, scheduler=scheduler, seed=1, format="npy", **FAST).done) == 2
    assert pixels(out) == before
    (out / "00.png").unlink()
    assert len(fit_batch(images, out, scheduler=scheduler, overwrite=True, seed=1, **FAST).done) == 2
    assert len(fit_batch(images, out, scheduler="tcp://nobody:1", seed=1, **FAST).skipped) == 2
    assert all(pixels(out)[name] != before[name] for name in before)
    assert said(caplog) == []
    assert len(fit_batch(images, out, scheduler=scheduler, resume=False, **FAST).done) == 2
    assert said(caplog) == [f"{out}: 2 earlier results are made again, and replaced"]
    assert pixels(out) == before


def test_frames_with_other_settings_are_kept(tmp_path: Path, scheduler: str) -> None:
    path, out = movie(tmp_path / "movie.tif"), tmp_path / "out"
    fit_batch(path, out, frames="each", scheduler=scheduler, **FAST)
    before = pixels(out)
    with pytest.raises(InputError, match="was made with other settings"):
        fit_batch(path, out, scheduler="tcp://nobody:1", frames="each", seed=1, **FAST)
    assert pixels(out) == before


def test_other_files_are_kept(tmp_path: Path, scheduler: str) -> None:
    photos(tmp_path / "in", 1)
    out = tmp_path / "out"
    out.mkdir()
    (out / "00.png").write_bytes(b"precious")
    for _ in range(2):
        with pytest.raises(InputError, match="is no result of a batch"):
            fit_batch(tmp_path / "in", out, scheduler="tcp://nobody:1", **FAST)
    assert (out / "00.png").read_bytes() == b"precious"
    assert fit_batch(tmp_path / "in", out, scheduler=scheduler, overwrite=True, **FAST).ok
    # The results of a batch that was killed before its first entry are its own.
    (out / "manifest.jsonl").write_bytes(b"")
    assert len(fit_batch(tmp_path / "in", out, scheduler=scheduler, **FAST).done) == 1


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "removed"])
def test_a_damaged_result_is_made_again(tmp_path: Path, scheduler: str, damage: str) -> None:
    images, out = tmp_path / "in", tmp_path / "out"
    photos(images, 2)
    fit_batch(images, out, scheduler=scheduler, **FAST)
    before = pixels(out)
    result = out / "00.png"
    content = result.read_bytes()
    if damage == "removed":
        result.unlink()
    else:
        changed = {"empty": b"", "cut": content[:-9], "changed": content[:-40] + b"?" + content[-39:]}
        result.write_bytes(changed[damage])
    report = fit_batch(images, out, scheduler=scheduler, **FAST)
    assert ([entry.job for entry in report.done], [entry.job for entry in report.skipped]) == (["00.png"], ["01.png"])
    assert pixels(out) == before


def test_a_copied_result_is_not_made_again(tmp_path: Path, scheduler: str) -> None:
    photos(tmp_path / "in", 1)
    fit_batch(tmp_path / "in", tmp_path / "out", scheduler=scheduler, **FAST)
    os.utime(tmp_path / "out" / "00.png", ns=(7, 7))
    report = fit_batch(tmp_path / "in", tmp_path / "out", scheduler="tcp://nobody:1", **FAST)
    assert (report.done, len(report.skipped)) == ((), 1)


def test_it_can_be_stopped(tmp_path: Path, scheduler: str, hold_fits: Callable[..., threading.Event]) -> None:
    photos(tmp_path / "in", 6)
    out, stop = tmp_path / "out", threading.Event()
    options = {**FAST, "scheduler": scheduler, "stop": stop}
    go_on = hold_fits(but=1)

    def end(progress: BatchProgress) -> None:
        if progress.state == "done":
            stop.set()

    report = fit_batch(tmp_path / "in", out, on_progress=end, **options)
    assert (len(report.done), len(report.planned)) == (1, 5)
    assert "left to do" in (out / "report.html").read_text()
    # An event that is set before the start prevents all jobs.
    again = fit_batch(tmp_path / "in", out, **{**options, "scheduler": "tcp://nobody:1"})
    assert (again.done, len(again.skipped)) == ((), 1)
    stop.clear()
    go_on.set()
    last = fit_batch(tmp_path / "in", out, **options)
    assert (len(last.done) + len(last.skipped), last.planned) == (6, ())
    assert done_lines(out) == {f"{i:02d}.png": 1 for i in range(6)}


def test_without_resuming_all_is_done_anew(tmp_path: Path, scheduler: str) -> None:
    photos(tmp_path / "in", 2)
    fit_batch(tmp_path / "in", tmp_path / "out", scheduler=scheduler, **FAST)
    before = (tmp_path / "out" / "00.png").stat().st_mtime_ns
    report = fit_batch(tmp_path / "in", tmp_path / "out", scheduler=scheduler, resume=False, **FAST)
    assert (len(report.done), report.skipped) == (2, ())
    assert (tmp_path / "out" / "00.png").stat().st_mtime_ns != before
    assert done_lines(tmp_path / "out") == {"00.png": 1, "01.png": 1}


def test_a_dry_run_touches_nothing(tmp_path: Path) -> None:
    photos(tmp_path / "in", 2)
    (tmp_path / "in" / "bad.tif").write_bytes(b"no image")
    movie(tmp_path / "in" / "movie.ome.tif")
    report = fit_batch(tmp_path / "in", tmp_path / "out", dry_run=True, frames="each", **FAST)
    assert report.planned == ("00.png", "01.png", *(f"movie.ome.tif#{i}" for i in range(3)))
    assert [entry.job for entry in report.failed] == ["bad"]
    assert not (tmp_path / "out").exists()


def test_a_time_series_frame_by_frame(tmp_path: Path, scheduler: str) -> None:
    (tmp_path / "in").mkdir()
    path = movie(tmp_path / "in" / "movie.ome.tif")
    out = tmp_path / "out"
    report = fit_batch(path, out, frames="each", scheduler=scheduler, **FAST)
    assert report.ok
    assert read_image(out / "movie.ome.tif", frame=2).array.shape == (2, 24, 32)
    assert [p for p in (out / ".batch" / "frames").rglob("*") if p.is_file()] == []
    assert len(fit_batch(path, out, frames="each", scheduler="tcp://nobody:1", **FAST).skipped) == 3


def test_a_series_with_a_bad_frame_is_not_put_together(tmp_path: Path, scheduler: str) -> None:
    from napari_siren.io.images import write_image

    series = np.random.default_rng(0).normal(size=(3, 12, 16)).astype(np.float32)
    series[1, 5, 5] = np.nan
    path = write_image(tmp_path / "series.ome.tif", series, "TYX")
    out = tmp_path / "out"
    report = fit_batch(path, out, frames="each", scheduler=scheduler, **FAST)
    assert [entry.job for entry in report.failed] == ["series.ome.tif", "series.ome.tif#1"]
    assert "frame 1: " in str(report.failed[0].reason)
    assert not (out / "series.ome.tif").exists()
    series[1, 5, 5] = 0
    write_image(path, series, "TYX")
    report = fit_batch(path, out, frames="each", scheduler=scheduler, **FAST)
    assert report.ok
    # The good frames are not fitted again.
    assert read_image(out / "series.ome.tif", frame=1).array.shape == (24, 32)


# ---- warm start -------------------------------------------------------------------------------------------


def test_alike_images_start_from_the_first_of_them(tmp_path: Path, scheduler: str) -> None:
    images = shades(tmp_path / "in", 4)
    out = tmp_path / "out"
    options = {**FAST, "warm_start": True, "max_steps": 60}
    report = fit_batch(tmp_path / "in", out, scheduler=scheduler, **options)
    assert {entry.job: (entry.start, entry.steps) for entry in report.done} == {
        "00.png": (None, 60),
        **{f"0{i}.png": ("00.png", 60) for i in (1, 2, 3)},
    }
    config = settings(max_steps=60).config
    first = ns.fit(read_image(images[0]).array, config=config, device="cpu")
    later = ns.fit(read_image(images[2]).array, config=config, start=first, device="cpu")
    np.testing.assert_array_equal(read_image(out / "02.png").array, later.render(scale=2))
    # A lost result that is made again is the same, also that of the first image.
    results = pixels(out)
    for name in ("00.png", "02.png"):
        (out / name).unlink()
    report = fit_batch(tmp_path / "in", out, scheduler=scheduler, **options)
    assert {entry.job: entry.start for entry in report.done} == {"00.png": None, "02.png": "00.png"}
    assert pixels(out) == results


def test_where_the_first_one_fails_the_next_one_leads(tmp_path: Path, scheduler: str) -> None:
    (tmp_path / "in").mkdir()
    for i in range(3):
        image = np.hypot(*np.mgrid[:12, :16]).astype(np.float32) + i / 10
        np.save(tmp_path / "in" / f"{i}.npy", np.full_like(image, np.nan) if i == 0 else image)
    options = {**FAST, "warm_start": True, "max_steps": 60}
    report = fit_batch(tmp_path / "in", tmp_path / "out", scheduler=scheduler, **options)
    assert [entry.job for entry in report.failed] == ["0.ome.tif"]
    assert {entry.job: entry.start for entry in report.done} == {"1.ome.tif": None, "2.ome.tif": "1.ome.tif"}


def test_other_things_of_the_same_size_start_cold(tmp_path: Path, scheduler: str) -> None:
    photos(tmp_path / "in", 3)
    options = {**FAST, "warm_start": True, "max_steps": 9}
    report = fit_batch(tmp_path / "in", tmp_path / "out", scheduler=scheduler, **options)
    assert [(entry.start, entry.steps) for entry in report.done] == 3 * [(None, 9)]


# ---- processes --------------------------------------------------------------------------------------------


unless_windows = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")


# The command line. It prints its child processes and kills itself when its manifest has two lines.
KILLED = """
import os
import signal

import psutil

from napari_siren.batch.manifest import Manifest
from napari_siren.cli.app import main

add = Manifest.add


def add_and_die(self, entry):
    add(self, entry)
    if len(self.read()) == 2:
        print(*(child.pid for child in psutil.Process().children(recursive=True)), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


Manifest.add = add_and_die
main()
"""


@pytest.mark.slow
@unless_windows
def test_a_batch_that_is_killed_goes_on_and_does_nothing_twice(tmp_path: Path, scheduler: str) -> None:
    photos(tmp_path / "in", 5)
    out = tmp_path / "out"
    options = ["--preset", "fast", *AS_OPTIONS, "--set", "max_steps=100", "--no-warm-start", "-q"]
    words = ["batch", tmp_path / "in", "-o", out, *options]
    command = [sys.executable, "-c", KILLED, *words, "--workers", "1"]
    first = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert len(done_lines(out)) == 2
    # The child processes end with it.
    children = [int(pid) for pid in first.stdout.split()]
    assert children
    wait_until(lambda: not any(psutil.pid_exists(pid) for pid in children))
    # The last result may not be in the manifest.
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert len(before) >= 2
    assert run(*words, "--scheduler", scheduler) == (0, "")
    assert done_lines(out) == {f"{i:02d}.png": 1 for i in range(5)}
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    config = settings(max_steps=100).config
    for i in range(5):
        alone = ns.fit(read_image(tmp_path / "in" / f"{i:02d}.png").array, config=config, device="cpu")
        np.testing.assert_array_equal(read_image(out / f"{i:02d}.png").array, alone.render(scale=2))


# ---- the command line -------------------------------------------------------------------------------------


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(word) for word in words])
    return result.exit_code, result.output


def test_the_command_line(tmp_path: Path, scheduler: str) -> None:
    photos(tmp_path / "in", 2)
    words = ["batch", tmp_path / "in", "-o", tmp_path / "out", "--scale", "3", "--preset", "fast", *AS_OPTIONS]
    code, said = run(*words, "--dry-run")
    assert (code, "to do  00.png" in said, "2 to do" in said) == (0, True, True)
    assert not (tmp_path / "out").exists()
    code, said = run(*words, "--scheduler", scheduler, "--no-warm-start")
    assert code == 0, said
    assert "2 done" in said
    assert f"Report: {tmp_path / 'out' / 'report.html'}" in said
    assert read_image(tmp_path / "out" / "01.png").array.shape == (60, 72, 3)
    (tmp_path / "in" / "bad.tif").write_bytes(b"no image")
    code, said = run(*words, "--scheduler", scheduler, "--no-warm-start")
    assert code == 1
    assert "1 failed, 2 done before" in said
    assert run(*words, "--scheduler", scheduler, "--no-warm-start", "--quiet") == (1, "")


def test_the_command_line_tells_what_is_wrong(tmp_path: Path) -> None:
    code, said = run("batch", tmp_path / "nothing", "-o", tmp_path / "out")
    assert (code, said) == (1, f"Error: there is no file or folder {tmp_path / 'nothing'}. Check its name.\n")
