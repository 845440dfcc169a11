"""Notes on standard error and in the report, presets that refuse an image, and packages that are not installed."""

from __future__ import annotations

import json
from pathlib import Path

import forking
import numpy as np
import pytest

TINY = ["--scale", "1", "--set", "hidden_features=8", "--set", "hidden_layers=1", "--max-steps", "2"]
# Runs the command line as if some packages were not installed.
WITHOUT = """
import sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None
from napari_siren.cli.app import main
if __name__ == "__main__":
    main()
"""


def run(*words: object, without: str = "nothing") -> forking.Ended:
    return forking.run(WITHOUT, without, *words)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    np.save(tmp_path / "stack.npy", np.random.default_rng(0).random((3, 8, 9), dtype=np.float32))
    return tmp_path / "stack.npy"


def test_a_note_is_a_line_on_standard_error_and_in_the_report(tmp_path: Path, stack: Path) -> None:
    done = run("fit", stack, "-o", tmp_path / "out", "--quiet", "--preset", "upscale", *TINY)
    assert done.returncode == 0, done.stderr
    on_axes, on_task = done.stderr.splitlines()
    assert on_axes.startswith("stack.npy: the axes ZYX were guessed")
    assert on_task.endswith("this image was fitted by tiles alone")
    notes = json.loads((tmp_path / "out" / "report.json").read_text())["notes"]
    assert [f"stack.npy: {notes[0]}", notes[1]] == [on_axes, on_task]


def test_a_preset_that_cannot_do_its_job_is_one_line_unless_it_is_not_strict(tmp_path: Path, stack: Path) -> None:
    np.save(stack, np.load(stack)[:, :7])
    words = ["fit", stack, "-o", tmp_path / "out", "--preset", "denoise", "--axes", "ZYX", *TINY]
    refused = run(*words)
    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: denoising needs an image of two or three axes in space, with 8 rows")
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    fitted = run(*words, "--set", "strict=false")
    assert fitted.returncode == 0, fitted.stderr
    assert "this image was fitted by tiles alone" in fitted.stderr


def test_notes_of_a_fit_by_blocks_are_in_its_table(tmp_path: Path, stack: Path) -> None:
    done = run("upscale", stack, "-o", tmp_path / "x.ome.zarr", "--preset", "fast", *TINY)
    assert done.returncode == 0, done.stderr
    assert " ".join(done.stdout.split()).count("note the axes ZYX were guessed") == 1
    assert "the axes ZYX were guessed" in done.stderr


@pytest.mark.parametrize("more", [[], ["--fill-nan"]], ids=["by blocks", "in memory"])
def test_a_missing_zarr_is_told_before_the_work(tmp_path: Path, stack: Path, more: list[str]) -> None:
    out = tmp_path / "finer.ome.zarr"
    done = run("upscale", stack, "-o", out, "--axes", "ZYX", *more, without="zarr,dask")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith('Install them with: pip install "napari-siren[zarr]".')
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stack.npy"]


def test_a_missing_dask_is_told_before_the_work(tmp_path: Path, stack: Path) -> None:
    done = run("batch", stack, "-o", tmp_path / "out", without="dask,distributed")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        'Error: Dask is not installed. Install it with: pip install "napari-siren[batch]".'
    )
    assert "Traceback" not in done.stderr
