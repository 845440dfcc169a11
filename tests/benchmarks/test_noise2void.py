"""Noise2Void: its process, and when it is among the rivals. Simple packages take the place of CAREamics."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import microscopy, noise2void

# A training of two steps an epoch, each 10 s of the processor by its clock, and a prediction that halves.
CAREAMICS = """
import time
from types import SimpleNamespace

class CAREamist:
    def __init__(self, config, callbacks, work_dir, enable_progress_bar):
        (self.clock,), self.epochs = callbacks, config["num_epochs"]

    def train(self, train_data):
        now = time.process_time()
        trainer = SimpleNamespace(current_epoch=0, global_step=0, should_stop=False)
        while trainer.current_epoch < self.epochs and not trainer.should_stop:
            trainer.global_step += 1
            time.process_time = lambda: now + 10 * trainer.global_step
            self.clock.on_train_batch_end(trainer, None, None, 0)
            trainer.current_epoch = trainer.global_step // 2

    def predict(self, values):
        print("predicting")
        return [values[None, None] / 2], []
"""
CONFIG = """
def create_advanced_n2v_config(name, kind, axes, patch, batch_size, num_workers, seed, num_epochs=3):
    return {"num_epochs": num_epochs}
"""


@pytest.fixture
def careamics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return this Python, with simple packages of the names that Noise2Void needs."""
    files = {
        "careamics/__init__.py": CAREAMICS,
        "careamics/config.py": CONFIG,
        "lightning/__init__.py": "",
        "lightning/pytorch.py": "class Callback:\n    pass\n",
        "torchmetrics.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Path(sys.executable)


@pytest.mark.parametrize(("seconds", "steps", "epochs"), [(None, 6, 3), (75.0, 8, 4)])
def test_it_stops_after_its_epochs_or_the_seconds(
    careamics: Path, seconds: float | None, steps: int, epochs: int
) -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4)
    denoised, figures = noise2void.denoise(image, careamics, seconds)
    assert denoised == pytest.approx(image / 2)
    assert (figures["steps"], figures["epochs"]) == (steps, epochs)
    assert figures["processor_seconds"] == pytest.approx(10 * steps, abs=5)
    assert figures["seconds"] < 5


def test_it_is_a_rival_where_careamics_is(careamics: Path, tmp_path: Path) -> None:
    assert noise2void.usable(careamics)
    assert not noise2void.usable(None)
    assert set(microscopy.NOISE2VOID) <= set(microscopy.methods("denoise", "cpu", careamics))
    assert not set(microscopy.NOISE2VOID) & set(microscopy.methods("plane", "cpu", careamics))
    assert not set(microscopy.NOISE2VOID) & set(microscopy.methods("denoise", "cpu"))


def test_a_run_says_that_it_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(noise2void, "usable", lambda python: False)
    flags = ["--kinds", "denoise", "--data", str(tmp_path), "--json", str(tmp_path / "some.json")]
    with pytest.raises(SystemExit):
        microscopy.main([*flags, "--noise2void", sys.executable])
    assert "Noise2Void is left out" in capsys.readouterr().out
