"""The command `train`: its output, its end by Ctrl-C, and its errors."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import napari_siren as ns
from napari_siren.cli import bars, tables
from napari_siren.cli.app import app
from napari_siren.io.images import write_image


def run(*words: object) -> Any:
    torch.set_num_threads(1)
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "images"
    path.mkdir()
    y, x = np.indices((48, 56))
    for number in range(3):
        wave = np.sin(x * np.cos(number) + y * np.sin(number))
        write_image(path / f"{number}.tif", (1000 + 500 * wave).astype(np.uint16), "YX")
    (path / "damaged.png").write_bytes(b"no image")
    return path


def test_it_prints_both_scores_and_writes_the_files(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    result = run("train", folder, "-o", out, "--minutes", 0.001)
    assert result.exit_code == 0, result.output
    for words in ("general weights", "own weights", "gain", "damaged.png", "5 steps", "mine.png", "mine.md"):
        assert words in result.stdout.replace("\n", "")
    assert {path.name for path in tmp_path.glob("mine.*")} == {
        f"mine.{end}" for end in ("safetensors", "md", "jsonl", "png")
    }


def test_it_passes_every_option_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def train(folder: Path, out: Path, **options: Any) -> ns.TrainResult:
        given.update(options, folder=folder, out=out)
        return ns.TrainResult(out, "denoise", "microscope", True, {"noisy": 30.0}, {"noisy": 30.0})

    monkeypatch.setattr(ns, "train", train)
    options = ["--task", "denoise", "--minutes", 2, "--clean", "--device", "cpu", "--seed", 3, "--no-resume", "-q"]
    result = run("train", folder, "-o", "x.safetensors", *options)
    assert (result.exit_code, result.output) == (0, "")
    del given["on_progress"]
    assert given == {
        "folder": folder,
        "out": Path("x.safetensors"),
        "task": "denoise",
        "minutes": 2,
        "noisy": False,
        "device": "cpu",
        "seed": 3,
        "resume": False,
    }


def test_ctrl_c_ends_the_training_and_keeps_the_best(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = bars.TrainBar.show

    def show(self: bars.TrainBar, progress: ns.TrainProgress) -> str | None:
        if progress.step >= 5:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, progress)

    monkeypatch.setattr(bars.TrainBar, "show", show)
    before = signal.getsignal(signal.SIGINT)
    result = run("train", folder, "-o", tmp_path / "mine.safetensors", "--minutes", 10)
    assert result.exit_code == 130, result.output
    assert "The best network so far is written." in result.stderr
    assert "stopped; the same command continues" in result.stdout
    assert (tmp_path / "mine.safetensors").is_file()
    assert (tmp_path / "mine.checkpoint").is_file()
    assert signal.getsignal(signal.SIGINT) is before


def test_no_gain_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    result = ns.TrainResult(Path("mine.safetensors"), "enlarge", "enlarge", False, {"x2": 30.0}, {"x2": 30.0})
    tables.show_training(result)
    assert "it did not help, and the file holds the general weights" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--minutes", 0], "positive number"),
        (["-o", "mine.txt"], "ending in .safetensors"),
    ],
)
def test_errors_are_one_line(
    options: list[object], message: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    result = run("train", folder, "-o", "mine.safetensors", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "has no images" in run("train", folder / "missing", "-o", "mine.safetensors").stderr
