"""A damaged or hostile folder of unfinished work ends in a StorageError, or is done again."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_siren as ns
from napari_siren.core.storage.records import with_hash
from napari_siren.errors import StorageError
from napari_siren.io.zarr.ome_zarr import write_ome_zarr

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 48), dtype=np.uint8)
QUICK: dict[str, Any] = {"tile": 8, "hidden_features": 6, "hidden_layers": 2, "max_steps": 3}


class StoppedError(Exception):
    """An interruption in the middle of the work."""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Folder of work that was interrupted after the first rendered box."""
    return interrupted(tmp_path, "render")


def interrupted(folder: Path, phase: str, **fields: Any) -> Path:
    def interrupt(progress: Any) -> None:
        if progress.phase == phase and progress.done >= 1:
            raise StoppedError

    with pytest.raises(StoppedError):
        ns.fit_blocks(IMAGE, folder / "x.ome.zarr", 2, on_progress=interrupt, **QUICK, **fields)
    return folder / ".x.ome.zarr.work"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, bytes]:
    """Files of the result of an uninterrupted fit."""
    out = tmp_path_factory.mktemp("whole") / "x.ome.zarr"
    ns.fit_blocks(IMAGE, out, 2, **QUICK)
    return contents(out)


@pytest.mark.parametrize("value", [None, -1, "x", [], {}, 1e308], ids=repr)
@pytest.mark.parametrize("name", ["squared", "largest", "count"])
def test_hostile_records_of_boxes(work: Path, name: str, value: Any) -> None:
    path = work / "rendered" / "000000.json"
    path.write_text(json.dumps(with_hash({**json.loads(path.read_text()), name: value})))
    if value == 1e308 and name != "count":
        assert ns.fit_blocks(IMAGE, work.parent / "x.ome.zarr", 2, **QUICK).shape == (80, 96)
        return
    with pytest.raises(StorageError, match="--no-resume"):
        ns.fit_blocks(IMAGE, work.parent / "x.ome.zarr", 2, **QUICK)


HOSTILE = ("", "[]", "null", "{}", '{"job": 3}', json.dumps(with_hash({"job": 3})), "[" * 10_000)


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:12])
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
        assert ns.fit_blocks(IMAGE, tmp_path / "x.ome.zarr", 2, overwrite=True, **QUICK).fitted > 0


@pytest.mark.parametrize("name", ["job.json", "field/index.json", "rendered/000000.json"])
def test_a_changed_number_or_text_of_a_description_is_noticed(work: Path, name: str) -> None:
    path = work / name
    text = path.read_text()
    for old, new in (("1", "2"), ("a", "b")):
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(StorageError, match=r"is damaged: .* Start again with resume=False"):
            ns.fit_blocks(IMAGE, work.parent / "x.ome.zarr", 2, **QUICK)


def damage(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :])


@pytest.mark.parametrize("change", [damage, Path.unlink, lambda path: path.write_bytes(b"x")], ids=["bit", "no", "x"])
def test_damaged_pixels_of_the_output_are_rendered_again(
    work: Path, whole: dict[Path, bytes], change: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    change(work / "image" / "0" / "0" / "0")
    with caplog.at_level(logging.WARNING, "napari_siren"):
        ns.fit_blocks(IMAGE, work.parent / "x.ome.zarr", 2, **QUICK)
    assert "a part of it is rendered again" in caplog.text
    assert contents(work.parent / "x.ome.zarr") == whole


@pytest.mark.parametrize("name", [".zattrs", ".zgroup", "0/.zarray"])
@pytest.mark.parametrize("change", [damage, Path.unlink, lambda path: path.write_text("[]")], ids=["bit", "no", "[]"])
def test_damaged_metadata_of_the_output_are_written_again(
    work: Path, whole: dict[Path, bytes], name: str, change: Callable[[Path], object]
) -> None:
    change(work / "image" / name)
    ns.fit_blocks(IMAGE, work.parent / "x.ome.zarr", 2, **QUICK)
    assert contents(work.parent / "x.ome.zarr") == whole


def test_a_damaged_block_is_fitted_again(
    tmp_path: Path, whole: dict[Path, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    work = interrupted(tmp_path, "fit")
    damage(work / "field" / "000000.safetensors")
    with caplog.at_level(logging.WARNING, "napari_siren"):
        assert ns.fit_blocks(IMAGE, tmp_path / "x.ome.zarr", 2, **QUICK).fitted == 1
    assert "the block is fitted again" in caplog.text
    assert contents(tmp_path / "x.ome.zarr") == whole


def test_a_damaged_network_is_refused(tmp_path: Path) -> None:
    fields = {"preset": "upscale", "pretrained": None, "task_steps": 2}
    work = interrupted(tmp_path, "fit", **fields)
    damage(work / "teacher")
    (work / "field" / "000000.safetensors").unlink()
    with pytest.raises(StorageError, match=r"is damaged: .* Start again with resume=False"):
        ns.fit_blocks(IMAGE, tmp_path / "x.ome.zarr", 2, **QUICK, **fields)


def test_work_without_its_mark_is_not_used(tmp_path: Path, whole: dict[Path, bytes]) -> None:
    (tmp_path / "other").mkdir()
    other = interrupted(tmp_path / "other", "render", seed=1)
    (other / "job.json").unlink()
    shutil.copytree(other, tmp_path / other.name)
    assert ns.fit_blocks(IMAGE, tmp_path / "x.ome.zarr", 2, **QUICK).fitted == 1
    assert contents(tmp_path / "x.ome.zarr") == whole


def test_a_kept_field_of_another_job_is_not_used(work: Path, whole: dict[Path, bytes]) -> None:
    keep = work.parent / "field"
    ns.fit_blocks(IMAGE, work.parent / "other.ome.zarr", 2, seed=1, field=keep, **QUICK)
    shutil.rmtree(work / "rendered")
    assert ns.fit_blocks(IMAGE, work.parent / "x.ome.zarr", 2, field=keep, overwrite=True, **QUICK).fitted == 1
    assert contents(work.parent / "x.ome.zarr") == whole


# ---- existing results --------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [{"seed": 1}, {"scale": 3}, {"resume": False}, {"max_steps": 2}], ids=str)
def test_an_existing_image_is_not_replaced_unasked(tmp_path: Path, other: dict[str, Any]) -> None:
    out = tmp_path / "x.ome.zarr"
    ns.fit_blocks(IMAGE, out, **QUICK)
    before = contents(tmp_path)
    with pytest.raises(StorageError, match=r"x\.ome\.zarr exists already\. .* overwrite=True \(--overwrite\)"):
        ns.fit_blocks(IMAGE, out, **{**QUICK, **other})
    assert contents(tmp_path) == before
    assert ns.fit_blocks(IMAGE, out, overwrite=True, **{**QUICK, **other}).fitted == 1


def test_an_image_of_another_program_is_refused_before_the_pass_over_its_pixels(tmp_path: Path) -> None:
    write_ome_zarr(tmp_path / "x.ome.zarr", IMAGE, "YX")
    phases: list[str] = []
    with pytest.raises(StorageError, match="exists already"):
        ns.fit_blocks(IMAGE, tmp_path / "x.ome.zarr", on_progress=lambda p: phases.append(p.phase), **QUICK)
    assert phases == []


def test_a_kept_field_is_not_replaced_unasked(tmp_path: Path) -> None:
    keep = tmp_path / "field"
    ns.fit_blocks(IMAGE, tmp_path / "x.ome.zarr", field=keep, **QUICK)
    before = contents(keep)
    with pytest.raises(StorageError, match="field exists already"):
        ns.fit_blocks(IMAGE, tmp_path / "y.ome.zarr", seed=1, field=keep, **QUICK)
    assert contents(keep) == before
    (keep / "index.json").write_text("{}")
    with pytest.raises(StorageError, match="field exists already"):
        ns.fit_blocks(IMAGE, tmp_path / "y.ome.zarr", field=keep, **QUICK)
    ns.fit_blocks(IMAGE, tmp_path / "y.ome.zarr", field=keep, overwrite=True, **QUICK)
    assert contents(keep) == before


def test_an_interrupted_run_keeps_its_field_and_continues_it(tmp_path: Path) -> None:
    keep, out = tmp_path / "field", tmp_path / "x.ome.zarr"
    interrupted(tmp_path, "render", field=keep)
    assert (keep / "index.json").is_file()
    assert ns.fit_blocks(IMAGE, out, field=keep, **QUICK).fitted == 0


def test_an_empty_folder_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "x.ome.zarr").mkdir()
    assert ns.fit_blocks(IMAGE, tmp_path / "x.ome.zarr", **QUICK).fitted == 1
