"""The plan of a batch: images, names of results, finished jobs, and groups of similar images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from batching import movie, photos, settings

from napari_siren.batch.inputs import find_images, name_results
from napari_siren.batch.manifest import Entry
from napari_siren.batch.plan import Settings, make_plan
from napari_siren.batch.result_file import ResultFile
from napari_siren.errors import ConfigError, InputError
from napari_siren.io.images import write_image


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def outputs(folder: Path, out: Path, **given: object) -> list[str]:
    return [job.output for job in make_plan(folder, out, settings(**given), {}).jobs]


# ---- images -----------------------------------------------------------------------------------------------


def test_a_folder_is_all_that_is_in_it(tmp_path: Path) -> None:
    touch(tmp_path, "b.tif", "a/1.PNG", "a/notes.txt", ".hidden/2.png", "a/.part.png")
    found = find_images(tmp_path, tmp_path / "out")
    assert list(name_results(found)) == [(tmp_path / "a/1.PNG", "a/1"), (tmp_path / "b.tif", "b")]


def test_a_pattern_keeps_the_path_from_its_first_wildcard_on(tmp_path: Path) -> None:
    touch(tmp_path, "plates/a/1.tif", "plates/b/1.tif", "plates/b/2.png")
    found = find_images(str(tmp_path / "plates/**/*.tif"), tmp_path / "out")
    assert [name for _, name in name_results(found)] == ["a/1", "b/1"]


def test_files_keep_the_path_from_what_they_have_in_common(tmp_path: Path) -> None:
    touch(tmp_path, "plates/a/1.tif", "plates/b/1.tif")
    found = find_images([tmp_path / "plates/b/1.tif", tmp_path / "plates/a/1.tif"], tmp_path / "out")
    assert [name for _, name in name_results(found)] == ["a/1", "b/1"]
    alone = find_images([tmp_path / "plates/b/1.tif"], tmp_path / "out")
    assert [name for _, name in name_results(alone)] == ["1"]


def test_an_image_given_twice_is_taken_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.tif", "b.tif")
    assert len(find_images([tmp_path, tmp_path / "a.tif", str(tmp_path / "*.tif")], tmp_path / "out")) == 2


def test_results_are_no_input(tmp_path: Path) -> None:
    touch(tmp_path, "a.tif", "out/a.tif")
    assert [path.name for path, _ in find_images(tmp_path, tmp_path / "out")] == ["a.tif"]
    with pytest.raises(InputError, match="among the images"):
        find_images(tmp_path / "out", tmp_path / "out")
    # A folder above the folder of the images is allowed.
    assert len(find_images(tmp_path / "out", tmp_path)) == 1


def test_a_result_does_not_take_the_place_of_an_image(tmp_path: Path) -> None:
    (image,) = photos(tmp_path, 1)
    with pytest.raises(InputError, match="itself"):
        make_plan(image, tmp_path, settings(), {})
    assert outputs(image, tmp_path, format="npy") == ["00.npy"]


@pytest.mark.parametrize("given", ["nothing.tif", "nothing/*.tif", "empty"])
def test_an_input_that_stands_for_nothing_is_an_error_at_once(tmp_path: Path, given: str) -> None:
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "a.tif")
    with pytest.raises(InputError, match="there is no"):
        find_images([tmp_path / "a.tif", tmp_path / given], tmp_path / "out")


def test_files_that_differ_in_their_ending_keep_it(tmp_path: Path) -> None:
    touch(tmp_path, "a.tif", "a.png", "b.ome.tif")
    names = [name for _, name in name_results(find_images(tmp_path, tmp_path / "out"))]
    assert names == ["a.png", "a.tif", "b"]


def test_two_images_do_not_become_one(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.tif", "b/1.tif")
    with pytest.raises(InputError, match=r"several images would become 1\.tif"):
        list(name_results(find_images([tmp_path / "a", tmp_path / "b"], tmp_path / "out")))


# ---- results ----------------------------------------------------------------------------------------------


def test_the_kind_of_result_follows_the_image(tmp_path: Path) -> None:
    images = tmp_path / "in"
    photos(images, 1)
    write_image(images / "measured.ome.tif", np.zeros((9, 9), np.uint8), "YX", (0.1, 0.1), "µm")
    write_image(images / "deep.png", np.zeros((9, 9), np.uint16), "YX")
    assert outputs(images, tmp_path) == ["00.png", "deep.ome.tif", "measured.ome.tif"]
    assert outputs(images, tmp_path, format="npy") == ["00.npy", "deep.npy", "measured.npy"]
    # A PNG would lose the pixel size from the settings, too.
    assert outputs(images, tmp_path, spacing=0.5)[0] == "00.ome.tif"


def test_frames_are_jobs_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    movie(tmp_path / "in" / "movie.ome.tif")
    plan = make_plan(tmp_path / "in", tmp_path, settings(frames="each"), {})
    assert [job.name for job in plan.jobs] == [f"movie.ome.tif#{i}" for i in range(3)]
    assert {job.outline.shape for job in plan.jobs} == {(2, 12, 16)}
    assert [stack.whole.name for stack in plan.stacks] == ["movie.ome.tif"]
    whole = make_plan(tmp_path / "in", tmp_path, settings(), {})
    assert not whole.jobs
    assert "has a time axis, T" in str(whole.failed[0].reason)


def test_ome_zarr_is_one_image_however_many_files_it_has(tmp_path: Path) -> None:
    images = tmp_path / "in"
    images.mkdir()
    write_image(images / "cells.ome.zarr", np.zeros((9, 16), np.uint16), "YX", (0.5, 0.5), "µm")
    write_image(images / "movie.ome.zarr", np.zeros((2, 9, 16), np.uint16), "TYX")
    plan = make_plan(images, tmp_path, settings(frames="each"), {})
    assert [job.name for job in plan.jobs] == ["cells.ome.tif", "movie.ome.tif#0", "movie.ome.tif#1"]
    assert {job.outline.shape for job in plan.jobs} == {(9, 16)}
    assert not plan.failed
    assert [job.name for job in make_plan(str(images / "c*"), tmp_path, settings(), {}).jobs] == ["cells.ome.tif"]


def test_a_file_that_cannot_be_read_is_a_failure_of_that_file(tmp_path: Path) -> None:
    images = tmp_path / "in"
    photos(images, 2)
    (images / "bad.tif").write_bytes(b"no image")
    plan = make_plan(images, tmp_path, settings(), {})
    assert [job.name for job in plan.jobs] == ["00.png", "01.png"]
    assert [(entry.job, entry.status) for entry in plan.failed] == [("bad", "failed")]
    assert "not an image of a known kind" in str(plan.failed[0].reason)


# ---- work done before -------------------------------------------------------------------------------------


def done(folder: Path, out: Path, chosen: Settings) -> dict[str, Entry]:
    """Return entries as after a batch, and create their results."""
    jobs = make_plan(folder, out, chosen, {}).jobs
    for job in jobs:
        job.result(out).parent.mkdir(parents=True, exist_ok=True)
        job.result(out).touch()
    return {job.name: job.entry(chosen, status="done", written=ResultFile.of(job.result(out))) for job in jobs}


def test_what_was_done_with_the_same_settings_is_left_out(tmp_path: Path) -> None:
    first, second = photos(tmp_path / "in", 2)
    out = tmp_path / "out"
    known = done(tmp_path / "in", out, settings())

    def left(chosen: Settings = settings(), entries: dict[str, Entry] = known) -> list[str]:  # noqa: B008
        return [job.name for job in make_plan(tmp_path / "in", out, chosen, entries).jobs]

    assert left() == []
    assert left(settings(threads=2, max_memory=10**9)) == []  # resources do not change the result
    for other in (settings(3), settings(seed=1), settings(spacing=2), settings(max_steps=5), settings(warm_start=True)):
        assert len(left(other)) == 2
    assert left(entries={"00.png": known["00.png"]}) == ["01.png"]
    failed = {**known, "01.png": Entry(**{**known["01.png"].__dict__, "status": "failed"})}
    assert left(entries=failed) == ["01.png"]
    (out / "00.png").unlink()
    assert left() == ["00.png"]
    (out / "00.png").touch()
    os.utime(second, ns=(0, 0))
    assert left() == ["01.png"]
    first.write_bytes(first.read_bytes() + b" ")
    assert left() == ["00.png", "01.png"]


def test_a_stack_whose_frames_are_done_is_still_to_be_put_together(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    movie(tmp_path / "in" / "movie.ome.tif")
    out, chosen = tmp_path / "out", settings(frames="each")
    known = done(tmp_path / "in", out, chosen)
    plan = make_plan(tmp_path / "in", out, chosen, known)
    assert (len(plan.jobs), len(plan.stacks), len(plan.done)) == (0, 1, 3)
    whole = plan.stacks[0].whole
    (out / whole.output).touch()
    for frame in plan.stacks[0].frames:
        frame.result(out).unlink()
    written = ResultFile.of(out / whole.output)
    known[whole.name] = whole.entry(chosen, status="done", written=written)
    plan = make_plan(tmp_path / "in", out, chosen, known)
    assert (len(plan.jobs), len(plan.stacks), len(plan.done)) == (0, 0, 3)


# ---- similar images ---------------------------------------------------------------------------------------


def test_images_are_alike_that_have_folder_shape_dtype_and_axes_in_common(tmp_path: Path) -> None:
    images = tmp_path / "in"
    photos(images, 2)
    photos(images / "sub", 1)
    write_image(images / "small.png", np.zeros((9, 9, 3), np.uint8), "YXC")
    write_image(images / "grey.ome.tif", np.zeros((20, 24), np.uint8), "YX")
    (images / "movies").mkdir()
    for name in "ab":
        movie(images / "movies" / f"{name}.ome.tif")
    groups = make_plan(images, tmp_path, settings(frames="each"), {}).groups
    assert sorted(len(group.jobs) for group in groups) == [1, 1, 1, 2, 3, 3]
    assert len({group.name for group in groups}) == 6


def test_a_group_knows_those_of_it_that_are_done(tmp_path: Path) -> None:
    photos(tmp_path / "in", 3)
    known = done(tmp_path / "in", tmp_path / "out", settings())
    del known["01.png"]
    (group,) = make_plan(tmp_path / "in", tmp_path / "out", settings(), known).groups
    assert [job.name for job in group.jobs] == ["01.png"]
    assert group.names == ("00.png", "01.png", "02.png")


# ---- settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"format": "jpeg2000"}, "format='jpeg2000'"),
        ({"frames": "some"}, "frames='some'"),
        ({"preset": "best"}, "no preset"),
        ({"hidden_feature": 3}, "hidden_features"),
    ],
)
def test_impossible_settings(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**given)


@pytest.mark.parametrize("given", [{"scale": 0}, {"scale": (1, -2)}, {"spacing": float("nan")}])
def test_impossible_sizes(given: dict[str, object]) -> None:
    with pytest.raises(InputError, match="a positive number"):
        settings(**given)


# ---- folders as people have them ---------------------------------------------------------------------------


def test_results_of_earlier_runs_are_left_out_and_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "a.tif", "notes.txt", "scan", "first/a.tif", "fit/upscaled_x4.png", "other/b.tif")
    (tmp_path / "first" / "manifest.jsonl").write_text('{"job": "a", "output": "a", "settings": "s"}\n')
    (tmp_path / "fit" / "report.json").write_text('{"napari_siren": "0.1.0"}')
    touch(tmp_path, "fit/model.safetensors")
    with caplog.at_level("WARNING", logger="napari_siren"):
        found = find_images(tmp_path, tmp_path / "second")
    assert [path.relative_to(tmp_path).as_posix() for path, _ in found] == ["a.tif", "other/b.tif"]
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(": ")[2] for line in lines] == [
        "left out 2 files that are not images by their names: notes.txt, scan",
        "left out 2 earlier results: first, fit",
    ]
    pattern = find_images(str(tmp_path / "**" / "*.tif"), tmp_path / "second")
    assert [path.name for path, _ in pattern] == ["a.tif", "b.tif"]
    # A folder of results that is named itself is an input like any other.
    assert [path.name for path, _ in find_images(tmp_path / "first", tmp_path / "second")] == ["a.tif"]


def test_more_endings_and_files_without_one_are_images(tmp_path: Path) -> None:
    touch(tmp_path, "a.gif", "b.pgm", "c.jp2", "d.czi", "e.svs")
    write_image(tmp_path / "scan.png", np.zeros((4, 5), np.uint8), "YX").rename(tmp_path / "scan")
    found = find_images(tmp_path, tmp_path / "out")
    assert [path.name for path, _ in found] == ["a.gif", "b.pgm", "c.jp2", "d.czi", "e.svs", "scan"]


def test_chunks_of_zarr_are_no_images(tmp_path: Path) -> None:
    write_image(tmp_path / "a.ome.zarr", np.zeros((4, 5), np.uint8), "YX")
    assert [path.name for path, _ in find_images(tmp_path, tmp_path / "out")] == ["a.ome.zarr"]


def test_names_differ_on_disks_that_ignore_capitals(tmp_path: Path) -> None:
    touch(tmp_path, "Img.tif", "img.png", "a/X.png", "a/x.png")
    names = [name for _, name in name_results(find_images(tmp_path, tmp_path / "out"))]
    assert len({name.casefold() for name in names}) == 4
    assert {"Img.tif", "img.png"} <= set(names)


def test_addresses_are_refused(tmp_path: Path) -> None:
    for address in ("https://a.b/c.zarr", Path("s3://bucket/c.tif")):
        with pytest.raises(InputError, match=r"reads files of this computer, not .*//"):
            find_images(address, tmp_path / "out")
