"""The benchmark of batches, on images that take no time."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile
from distributed import LocalCluster
from skimage.io import imread, imsave

from benchmarks import batch
from napari_siren.batch.manifest import Entry, Manifest


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder of images, with a photograph and two time series."""
    random = np.random.default_rng(0)
    for folder in ("kodak", "microscopy"):
        (tmp_path / folder).mkdir()
    imsave(tmp_path / "kodak" / "a.png", random.integers(0, 255, (40, 50, 3), dtype=np.uint8), check_contrast=False)
    for file, channel in batch.SERIES.values():
        shape = (*(2 for _ in channel), 3, 20, 24)
        wave = 1000 * (2 + np.sin(np.indices(shape)[-1] / 3))
        tifffile.imwrite(tmp_path / "microscopy" / file, wave.astype(np.uint16), photometric="minisblack")
    return tmp_path


@contextmanager
def threads(cores: list[int]) -> Iterator[str]:
    """A cluster of threads in this process, in place of pinned processes."""
    with LocalCluster(
        n_workers=len(cores), threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp"
    ) as cluster:
        yield cluster.scheduler_address


def test_workers_and_warm_starts(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(batch, "cluster", threads)
    out = tmp_path / "batch.json"
    words = ["--crops", "3", "--side", "16", "--frames", "2", "--steps", "3", "--data", str(data), "--json", str(out)]
    batch.main(["--only", "workers", *words])
    batch.main(["--only", "warm", *words])
    # One part after the other: the second run keeps what the first has found.
    told = json.loads(out.read_text())
    assert [row["workers"] for row in told["workers"]["rows"]] == [1, 2]
    assert [row["done"] for row in told["workers"]["rows"]] == [3, 3]
    assert [sum(row["shares"]) for row in told["workers"]["rows"]] == [3, 3]
    assert told["workers"]["factor"] > 0
    assert [(row["series"], row["preset"], row["frames"]) for row in told["warm"]] == [
        (series, preset, 2) for series in batch.SERIES for preset in ("faithful", "upscale")
    ]
    # All frames are the same: what starts from the first of them is ahead.
    assert all(row["warm_third"]["psnr"] >= row["cold_third"]["psnr"] for row in told["warm"])
    assert "times as fast" in capsys.readouterr().out


def test_crops_differ_and_are_the_same_each_time(data: Path, tmp_path: Path) -> None:
    batch.crops(data, tmp_path / "one", 3, 16)
    batch.crops(data, tmp_path / "two", 3, 16)
    one, two = ([imread(path) for path in sorted((tmp_path / name).glob("*.png"))] for name in ("one", "two"))
    assert [image.shape for image in one] == 3 * [(16, 16, 3)]
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one[0], one[1])


def test_what_is_read_of_a_manifest_that_was_torn(tmp_path: Path) -> None:
    assert batch.lines(tmp_path) == []
    manifest = Manifest(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    manifest.add(Entry("a.png", "/in/a.png", "a.png", "done", ""))
    manifest.add(Entry("b.png", "/in/b.png", "b.png", "failed", ""))
    with manifest.path.open("a") as file:
        file.write('{"job": "c.p')
    assert [line["job"] for line in batch.lines(tmp_path)] == ["a.png", "b.png"]
    assert batch.written(tmp_path) == {"a.png": (tmp_path / "a.png").stat().st_mtime_ns}


def test_a_command_is_killed_once_so_many_images_are_done(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    line = json.dumps({"job": "a.png", "status": "done"})
    work = f"import time; open({str(manifest.path)!r}, 'a').write({line!r} + '\\n'); time.sleep(600)"
    found = batch.kill_once([sys.executable, "-c", work], tmp_path, after=1, delay=0.0)
    assert (found["alive"], found["done"]) == (True, 1)
    assert found["seconds"] < 60
    assert batch.kill_once([sys.executable, "-c", ""], tmp_path, after=1, delay=0.2)["alive"] is False
