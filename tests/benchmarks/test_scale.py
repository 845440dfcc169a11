"""The benchmark of images larger than memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_siren as ns
from benchmarks import scale
from benchmarks.scale import Job, mean_of
from napari_siren.io.zarr.ome_zarr import write_ome_zarr


def here(job: Job) -> dict[str, Any]:
    scale.perform(job)
    return dict(json.loads(job.report.read_text()))


def test_every_size_is_compared_with_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "apart", here)
    out = tmp_path / "scale.json"
    scale.main(["--quick", "--kills", "0", "--data", str(tmp_path), "--json", str(out)])
    told = json.loads(out.read_text())
    assert list(told["sizes"]) == ["reference", "0.004", "map"]
    assert told["sizes"]["reference"]["over_reference_by_seconds"] == 1
    for name, row in told["sizes"].items():
        assert row["speed_by_seconds"] == pytest.approx(row["megapixels"] / row["seconds"])
        assert (set(row["phases"]) == set(scale.PHASES)) == (name != "reference")
        assert row["psnr"] > 20
        assert row["peak_bytes"] > 1e7
    assert "killed" not in told


def test_the_reference_is_the_mean_of_two() -> None:
    found = mean_of({"seconds": 1.0, "cpu_seconds": 3.0, "psnr": 40}, {"seconds": 2.0, "cpu_seconds": 4.0, "psnr": 41})
    assert (found["seconds"], found["cpu_seconds"], found["psnr"]) == (1.5, 3.5, 40)
    assert found["before_and_after"] == {"seconds": [1.0, 2.0], "cpu_seconds": [3.0, 4.0]}


@pytest.mark.slow
def test_a_job_that_is_killed_is_compared_with_one_that_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale, "apart", here)
    monkeypatch.setattr(scale, "LEAST_SECONDS", 1.0)
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    write_ome_zarr(tmp_path / "map.ome.zarr", image, "YXC")
    job = Job("map", tmp_path, "fast")
    for value, the_same in ((image, True), (255 - image, False)):
        other = ns.fit_blocks(
            value, tmp_path / "other.ome.zarr", 2, axes="YXC", preset="fast", resume=False, overwrite=True
        )
        found = scale.killed(job, 1, 1.0, other.path)
        assert found["the_same"] is the_same
        assert (found["done_twice"], found["blocks"]) == (0, 1)
