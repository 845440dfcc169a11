"""The work on one image: the files of the result, and failures without exceptions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import ome_types
import pytest
from batching import movie, photos, settings

import napari_siren as ns
from napari_siren.batch.manifest import Entry, Manifest
from napari_siren.batch.plan import Job, Settings, make_plan
from napari_siren.batch.worker import fit_image, join_frames, read_record, record_path
from napari_siren.core.storage.atomic import prepare_folder
from napari_siren.io.images import read_image, write_image


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    with Manifest(folder).locked():
        pass
    return folder


def jobs(inputs: Path, out: Path, chosen: Settings) -> tuple[Job, ...]:
    return make_plan(inputs, out, chosen, {}).jobs


def test_the_result_is_that_of_a_fit(tmp_path: Path, out: Path) -> None:
    (path,) = photos(tmp_path / "in", 1)
    chosen = settings(3)
    (job,) = jobs(path, out, chosen)
    entry = fit_image(job, chosen, out)
    assert (entry.status, entry.reason, entry.traceback) == ("done", None, None)
    result = ns.fit(read_image(path).array, config=chosen.config, device="cpu")
    np.testing.assert_array_equal(read_image(out / "00.png").array, result.render(scale=3))
    assert entry.metrics == result.metrics.as_dict()
    assert (entry.shape, entry.rendered, entry.steps) == ((20, 24, 3), (60, 72, 3), 4)
    told, pictures = read_record(out, job.name)
    assert told == entry
    assert set(pictures) == {"image", "detail", "upscaled", "error"}


def test_notes_are_in_the_entry(tmp_path: Path, out: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (3, 12, 12), dtype=np.uint8)
    np.save(prepare_folder(tmp_path / "in") / "stack.npy", stack)
    write_image(tmp_path / "in" / "flat.tif", stack[0], "YX", (0.2, 0.1), "µm")
    chosen = settings(2, preset="upscale", format="npy", pretrained=None, max_steps=2)
    flat, deep = (fit_image(job, chosen, out) for job in jobs(tmp_path / "in", out, chosen))
    assert (flat.status, deep.status) == ("done", "done"), (flat.reason, deep.reason)
    assert "by tiles alone" in flat.notes[0]
    assert flat.notes[-1] == "flat.npy cannot hold the metadata of the image"
    assert "the axes ZYX were guessed" in deep.notes[0]
    assert Entry.from_json(json.loads(json.dumps(deep.as_json()))) == deep


def test_pixel_size_and_channel_names_are_told(tmp_path: Path, out: Path) -> None:
    image = np.random.default_rng(0).integers(0, 9000, (2, 12, 16), dtype=np.uint16)
    path = write_image(tmp_path / "cells.tif", image, "CYX", (0.2, 0.1), "µm")
    named = write_image(tmp_path / "named.ome.tif", image, "CYX", (0.2, 0.1), "µm", ("DAPI", "GFP"))
    chosen = settings((2, 4))
    for given in (path, named):
        (job,) = jobs(given, out, chosen)
        assert fit_image(job, chosen, out).status == "done"
        pixels = ome_types.from_tiff(out / job.output).images[0].pixels
        assert (pixels.size_y, pixels.size_x) == (24, 64)
        assert (pixels.physical_size_y, pixels.physical_size_x) == pytest.approx((0.1, 0.025))
        assert pixels.physical_size_x_unit.value == "µm"
    assert [channel.name for channel in pixels.channels] == ["DAPI", "GFP"]


@pytest.mark.parametrize(("given", "expected"), [(3, (1.5, 1.5)), ((4, 6), (2.0, 3.0))])
def test_a_pixel_size_that_is_given_counts(
    tmp_path: Path, out: Path, given: float, expected: tuple[float, float]
) -> None:
    (path,) = photos(tmp_path / "in", 1)
    chosen = settings(spacing=given)
    (job,) = jobs(path, out, chosen)
    assert fit_image(job, chosen, out).status == "done"
    assert read_image(out / "00.ome.tif").spacing == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nan", "NaN"),
        ("scale", "scale"),
        ("png", "cannot hold"),
        ("gone", "there is no file"),
        ("folder", "folder"),
    ],
)
def test_whatever_is_wrong_becomes_a_reason(tmp_path: Path, out: Path, name: str, message: str) -> None:
    image = np.full((12, 16), np.nan, np.float32) if name == "nan" else np.eye(16, dtype=np.float32)
    path = tmp_path / "a.npy"
    np.save(path, image)
    chosen = settings(scale=(1, 2, 3) if name == "scale" else 2, format="png" if name == "png" else "npy")
    (job,) = jobs(path, out, chosen)
    if name == "gone":
        path.unlink()
    if name == "folder":
        (out / job.output).mkdir()
    entry = fit_image(job, chosen, out)
    assert (entry.status, entry.traceback, entry.metrics) == ("failed", None, {})
    assert message in str(entry.reason)
    assert not record_path(out, job.name).exists()


def test_an_error_that_was_not_foreseen_has_a_traceback(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    (path,) = photos(tmp_path / "in", 1)
    (job,) = jobs(path, out, settings())
    monkeypatch.setattr("napari_siren.batch.worker.thumbnails", stumble)
    entry = fit_image(job, settings(), out)
    assert (entry.status, entry.reason) == ("failed", "ZeroDivisionError: by zero")
    assert "in stumble" in str(entry.traceback)
    # A failed job writes no result.
    assert not (out / "00.png").exists()


# ---- not twice --------------------------------------------------------------------------------------------


def test_what_was_done_and_not_taken_down_is_not_done_again(tmp_path: Path, out: Path) -> None:
    (path,) = photos(tmp_path / "in", 1)
    (job,) = jobs(path, out, settings())
    first = fit_image(job, settings(), out)
    before = (out / "00.png").stat().st_mtime_ns
    again = fit_image(replace(job, changed=5), settings(), out)
    assert again == replace(first, changed=5)
    assert (out / "00.png").stat().st_mtime_ns == before


@pytest.mark.parametrize("change", ["pixels", "settings", "result", "record", "model"])
def test_a_record_of_something_else_does_not_count(tmp_path: Path, out: Path, change: str) -> None:
    (path,) = photos(tmp_path / "in", 1)
    chosen, keep = settings(), None
    (job,) = jobs(path, out, chosen)
    fit_image(job, chosen, out)
    before = (out / "00.png").stat().st_mtime_ns
    if change == "pixels":
        write_image(path, 255 - read_image(path).array, "YXC")
    elif change == "settings":
        chosen = settings(seed=3)
    elif change == "result":
        (out / "00.png").unlink()
    elif change == "record":
        record_path(out, job.name).write_text("{")
    else:
        keep = tmp_path / "model.safetensors"
    assert fit_image(job, chosen, out, keep=keep).status == "done"
    assert (out / "00.png").stat().st_mtime_ns != before
    if keep is not None:
        assert ns.load(keep).state is not None


# ---- frames -----------------------------------------------------------------------------------------------


def test_frames_are_fitted_one_by_one_and_put_together(tmp_path: Path, out: Path) -> None:
    path = movie(tmp_path / "movie.ome.tif")
    chosen = settings(frames="each")
    plan = make_plan(path, out, chosen, {})
    assert [fit_image(job, chosen, out).status for job in plan.jobs] == ["done"] * 3
    assert not (out / "movie.ome.tif").exists()
    (stack,) = plan.stacks
    entry = join_frames(stack, chosen, out)
    assert (entry.status, entry.reason, entry.rendered) == ("done", None, (3, 2, 24, 32))
    pixels = ome_types.from_tiff(out / "movie.ome.tif").images[0].pixels
    assert (pixels.size_t, pixels.size_c, pixels.size_y, pixels.size_x) == (3, 2, 24, 32)
    assert (pixels.physical_size_y, pixels.physical_size_x) == pytest.approx((0.1, 0.05))
    assert [channel.name for channel in pixels.channels] == ["DAPI", "GFP"]
    assert pixels.time_increment == 5.0
    for frame in range(3):
        image, options = read_image(path, frame=frame).array, {"config": chosen.config, "device": "cpu"}
        alone = ns.fit(image, axes="CYX", spacing=(0.2, 0.1), **options)
        np.testing.assert_array_equal(read_image(out / "movie.ome.tif", frame=frame).array, alone.render(scale=2))


@pytest.mark.parametrize("kind", ["ome.zarr", "tif", "npy"])
def test_frames_become_other_kinds_of_files(tmp_path: Path, out: Path, kind: str) -> None:
    path = write_image(
        tmp_path / "movie.ome.zarr", read_series(movie(tmp_path / "m.ome.tif")), "TCYX", (0.2, 0.1), "µm"
    )
    chosen = settings(frames="each", format=kind)
    plan = make_plan(path, out, chosen, {})
    assert [fit_image(job, chosen, out).reason for job in plan.jobs] == [None] * 3
    entry = join_frames(plan.stacks[0], chosen, out)
    assert (entry.status, entry.reason) == ("done", None)
    written = out / f"movie.{kind}"
    if kind == "npy":
        assert np.load(written).shape == (3, 2, 24, 32)
        return
    second = read_image(written, frame=1)
    assert (second.array.shape, second.axes, second.unit) == ((2, 24, 32), "CYX", "µm")
    assert second.spacing == pytest.approx((0.1, 0.05))


def read_series(path: Path) -> np.ndarray:
    return np.stack([read_image(path, frame=i).array for i in range(3)])


def test_frames_that_are_not_there_are_a_failure(tmp_path: Path, out: Path) -> None:
    plan = make_plan(movie(tmp_path / "movie.ome.tif"), out, settings(frames="each"), {})
    entry = join_frames(plan.stacks[0], settings(frames="each"), out)
    assert entry.status == "failed"
    assert not (out / "movie.ome.tif").exists()


def test_a_record_is_strict_json(tmp_path: Path, out: Path) -> None:
    path = write_image(tmp_path / "flat.png", np.full((12, 16), 7, np.uint8), "YX")
    (job,) = jobs(path, out, settings())
    entry = fit_image(job, settings(), out)
    text = record_path(out, job.name).read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert entry.metrics["psnr"] == float("inf")
