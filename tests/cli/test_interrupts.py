"""Signals end a command with one line, the exit code of the signal, and no file that is not complete."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import forking
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner
from waiting import LIMIT

from napari_siren.cli import interrupts
from napari_siren.cli.app import app

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")

SIGNALS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
# A command that sends itself a signal after some time.
CODE = """
import os, sys, threading, time
from napari_siren.cli.app import main

delay, number = float(sys.argv[1]), int(sys.argv[2])

def strike():
    time.sleep(delay)
    os.kill(os.getpid(), number)

threading.Thread(target=strike, daemon=True).start()
sys.argv = ["napari-siren", *sys.argv[3:]]
main()
"""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 48), dtype=np.uint8)).save(path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.1, 1.0])
@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_while_the_command_starts(photo: Path, name: str, delay: float) -> None:
    command = [sys.executable, "-c", CODE, *arguments(photo, name, delay)]
    assert_interrupted(photo, name, subprocess.run(command, capture_output=True, text=True, timeout=LIMIT))


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_in_a_fit(photo: Path, name: str) -> None:
    assert_interrupted(photo, name, forking.run(CODE, *arguments(photo, name, 2.0)))


def arguments(photo: Path, name: str, delay: float) -> list[str]:
    # A fit by blocks has no best result so far, so that SIGINT ends it too.
    command = ["upscale", photo, "-o", photo.with_name("x.ome.zarr"), "--preset", "faithful", "--max-steps", "1000000"]
    return [str(word) for word in (delay, int(getattr(signal, name)), *command, "-q")]


def assert_interrupted(photo: Path, name: str, done: subprocess.CompletedProcess[str] | forking.Ended) -> None:
    # Before this line old releases of other libraries may warn.
    assert (done.returncode, done.stderr.strip().split("\n")[-1]) == (SIGNALS[name], f"Interrupted by {name}.")
    assert "Traceback" not in done.stderr
    assert not [path for path in names(photo.parent) if path.endswith((".part", ".old"))]
    assert "x.ome.zarr" not in names(photo.parent)


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_while_a_file_is_written(
    photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    replace = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        assert path.exists()
        signal.raise_signal(getattr(signal, name))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    command = ["upscale", photo, "-o", photo.with_name("x.tif"), "--preset", "fast", "--max-steps", "2", "-q"]
    with pytest.raises(SystemExit) as end, interrupts.ended_by_signals():
        app([str(word) for word in command])
    assert capsys.readouterr().err == f"Interrupted by {name}.\n"
    assert end.value.code == SIGNALS[name]
    assert names(photo.parent) == ["photo.png"]


def test_the_handlers_of_before_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit), interrupts.ended_by_signals():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_messages_are_one_line_without_control_characters(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["info", str(tmp_path / "a\x1b[2J\nb.safetensors")])
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr


def test_a_lack_of_memory_is_one_line(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> Callable[[], None]:
        raise MemoryError

    monkeypatch.setattr("napari_siren.core.fit.fit_iter", exhausted)
    done = CliRunner().invoke(app, ["upscale", str(photo), "-o", str(photo.with_suffix(".tif")), "-q"])
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: there is not enough memory.")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_whose_exception_is_dropped() -> None:
    class Slow:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    def forever() -> None:
        Slow()  # Python ignores exceptions of finalisers
        while True:
            time.sleep(0.01)

    with (
        pytest.raises(SystemExit) as end,
        interrupts.ended_by_signals(),
    ):
        forever()
    assert end.value.code == 143


def test_the_clean_up_is_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_REMIND_SECONDS", 0.01)
    cleaned = []

    def work() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            try:
                raise KeyError
            except KeyError:
                for _ in range(20):
                    signal.raise_signal(signal.SIGHUP)
                    time.sleep(0.01)
            cleaned.append(True)

    with pytest.raises(SystemExit), interrupts.ended_by_signals():
        work()
    assert cleaned
