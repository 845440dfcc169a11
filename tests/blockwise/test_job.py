"""A damaged or hostile folder of unfinished work ends in a StorageError, or is done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_siren as ns
from napari_siren.errors import StorageError

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 48), dtype=np.uint8)
QUICK: dict[str, Any] = {"tile": 8, "hidden_features": 6, "hidden_layers": 2, "max_steps": 3}


class StoppedError(Exception):
    """An interruption in the middle of the work."""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Folder of work that was interrupted after the first rendered box."""

    def interrupt(progress: Any) -> None:
        if progress.phase == "render" and progress.done >= 1:
            raise StoppedError

    with pytest.raises(StoppedError):
        ns.fit_blocks(IMAGE, tmp_path / "x.ome.zarr", 2, on_progress=interrupt, **QUICK)
    return tmp_path / ".x.ome.zarr.work"


@pytest.mark.parametrize("value", [None, -1, "x", [], {}, 1e308], ids=repr)
@pytest.mark.parametrize("name", ["squared", "largest", "count"])
def test_hostile_records_of_boxes(work: Path, name: str, value: Any) -> None:
    path = work / "rendered" / "000000.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    if value == 1e308 and name != "count":
        assert ns.fit_blocks(IMAGE, work.parent / "x.ome.zarr", 2, **QUICK).shape == (80, 96)
        return
    with pytest.raises(StorageError, match="--no-resume"):
        ns.fit_blocks(IMAGE, work.parent / "x.ome.zarr", 2, **QUICK)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"job": 3}', "[" * 10_000], ids=lambda text: text[:12])
def test_a_hostile_mark(work: Path, text: str) -> None:
    (work / "job.json").write_text(text)
    with pytest.raises(StorageError, match="Start again with resume=False"):
        ns.fit_blocks(IMAGE, work.parent / "x.ome.zarr", 2, **QUICK)
    assert ns.fit_blocks(IMAGE, work.parent / "x.ome.zarr", 2, resume=False, **QUICK).shape == (80, 96)


def test_a_finished_result_with_hostile_metadata_is_made_again(tmp_path: Path) -> None:
    ns.fit_blocks(IMAGE, tmp_path / "x.ome.zarr", 2, **QUICK)
    path = tmp_path / "x.ome.zarr" / ".zattrs"
    metadata = json.loads(path.read_text())
    for value in (None, [], {"job": metadata["napari_siren"]["job"], "blocks": -1}):
        metadata["napari_siren"] = value
        path.write_text(json.dumps(metadata))
        assert ns.fit_blocks(IMAGE, tmp_path / "x.ome.zarr", 2, **QUICK).fitted > 0
