"""The conventions of all commands: names of results, streams, choices, JSON, and the progress without a terminal."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from typer.testing import CliRunner
from waiting import LIMIT

from napari_siren.batch.run import BatchProgress
from napari_siren.cli import bars
from napari_siren.cli.app import app
from napari_siren.core.fit import fit_iter
from napari_siren.io.images import read_image, write_image

pytestmark = pytest.mark.usefixtures("no_figures")
QUICK = ["--max-steps", "2", "--set", "hidden_features=8", "--set", "hidden_layers=1"]
RESTORE = ["upscale", "denoise", "deblur"]


def run(*words: object, **options: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words], **options)


def done(*words: object, **options: Any) -> Any:
    result = run(*words, **options)
    assert result.exit_code == 0, result.output
    return result


def refused(*words: object) -> str:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert re.fullmatch(r"Error: .*[.]\n", result.stderr), result.stderr
    return str(result.stderr)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    return write_image(tmp_path / "photo.png", image, "YXC")


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    image = np.random.default_rng(0).integers(0, 999, (4, 16, 20), dtype=np.uint16)
    return write_image(tmp_path / "stack.ome.tif", image, "ZYX", (0.3, 0.1, 0.1), "µm")


# ---- results ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "name", "shape"),
    [
        (["upscale"], "photo_x2.png", (48, 64, 3)),
        (["upscale", "--scale", "1.5"], "photo_x1.5.png", (36, 48, 3)),
        (["denoise"], "photo_denoised.png", (24, 32, 3)),
        (["deblur", "--psf-width", "2"], "photo_deblurred.png", (24, 32, 3)),
        (["flatten"], "photo_flattened.tif", (24, 32, 3)),
    ],
)
def test_a_result_lies_beside_its_image(photo: Path, words: list[str], name: str, shape: tuple[int, ...]) -> None:
    command, *options = words
    result = done(command, photo, *options, *QUICK)
    written = next(path for path in photo.parent.iterdir() if path != photo)
    assert written.stem == Path(name).stem
    assert f"Written: {written}" in result.stdout
    assert read_image(written).array.shape == shape
    assert "--overwrite" in refused(command, photo, *options, *QUICK)
    done(command, photo, *options, *QUICK, "--overwrite")


@pytest.mark.parametrize("name", ["a.1.png", "a.2.tif", "micrograph.tif", "b.ome.tif", "c.d.npy"])
def test_no_part_of_a_name_is_lost(tmp_path: Path, name: str) -> None:
    image = np.random.default_rng(0).integers(0, 255, (16, 20), dtype=np.uint8)
    sizes = ((0.5, 0.5), "µm") if name.endswith("tif") else ()
    path = write_image(tmp_path / name, image, "YX", *sizes)
    done("upscale", path, "--preset", "fast", *QUICK)
    stem, suffix = name.removesuffix(".png").removesuffix(".npy").removesuffix(".tif"), Path(name).suffix
    ome = ".ome" if stem.endswith(".ome") else ""
    result = read_image(tmp_path / f"{stem.removesuffix('.ome')}_x2{ome}{suffix}")
    assert result.array.shape == (32, 40)
    if sizes:
        assert result.spacing == pytest.approx((0.25, 0.25))


def test_a_stack_becomes_isotropic(stack: Path) -> None:
    done("isotropic", stack, *QUICK)
    picture = read_image(stack.with_name("stack_isotropic.ome.tif"))
    assert picture.array.shape == (12, 16, 20)
    assert picture.spacing == pytest.approx((0.1, 0.1, 0.1))
    assert "0.1 along all axes already" in refused("isotropic", stack, "--spacing", "0.1")


def test_a_plane_without_a_pixel_size_cannot_become_isotropic(photo: Path) -> None:
    assert "pixel size is unknown" in refused("isotropic", photo)


def test_a_fit_has_a_folder_beside_its_image(photo: Path) -> None:
    done("fit", photo, *QUICK)
    assert (photo.parent / "photo_fit" / "upscaled_x2.png").is_file()
    assert "--overwrite" in refused("fit", photo, *QUICK)
    done("fit", photo, *QUICK, "--overwrite")


def test_existing_files_are_kept(photo: Path, tmp_path: Path) -> None:
    done("fit", photo, *QUICK, "-o", tmp_path / "out")
    for words in (
        ("render", tmp_path / "out" / "model.safetensors", "-o", photo),
        ("upscale", photo, "-o", photo),
        ("upscale", photo, "-o", tmp_path / "new.png", "--uncertainty", photo),
        ("blend", photo, photo, photo, "-o", photo),
    ):
        before = photo.read_bytes()
        assert "exists already" in refused(*words)
        assert photo.read_bytes() == before
    assert not (tmp_path / "new.png").exists()


def test_an_ome_zarr_image_of_other_settings_is_kept(photo: Path, tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    words = ["upscale", photo, "-o", tmp_path / "x.ome.zarr", "--preset", "fast", *QUICK]
    done(*words)
    done(*words)
    assert "exists already" in refused(*words, "--seed", "1")
    done(*words, "--seed", "1", "--overwrite")


def test_a_render_to_ome_zarr_is_larger_than_a_picture_may_be(photo: Path, tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    done("fit", photo, *QUICK, "-o", tmp_path / "out")
    model = tmp_path / "out" / "model.safetensors"
    for words in ([], ["--derivative", "laplacian"], ["--region", "4:12,8:24"]):
        names = ("a.ome.zarr", "a.tif") if not words else ("b.ome.zarr", "b.tif")
        lazy, whole = (tmp_path / name for name in names)
        for path in (lazy, whole):
            done("render", model, "--scale", "30", "-o", path, "--overwrite", *words)
        a, b = read_image(lazy), read_image(whole)
        assert a.axes is not None
        order = [a.axes.index(letter) for letter in b.axes or ""]
        np.testing.assert_array_equal(np.asarray(a.array).transpose(order), b.array)


# ---- streams ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", RESTORE)
def test_a_picture_goes_through_a_pipe(photo: Path, command: str) -> None:
    options = ["--psf-width", "2"] if command == "deblur" else []
    result = done(command, "-", "-o", "-", *options, *QUICK, input=photo.read_bytes())
    picture = iio.imread(io.BytesIO(result.stdout_bytes))
    assert picture.shape == ((48, 64, 3) if command == "upscale" else (24, 32, 3))
    assert list(photo.parent.iterdir()) == [photo]


def test_models_and_their_renders_go_through_pipes(photo: Path, tmp_path: Path) -> None:
    done("fit", photo, *QUICK, "-o", tmp_path / "out")
    model = (tmp_path / "out" / "model.safetensors").read_bytes()
    piped = iio.imread(io.BytesIO(done("render", "-", "--scale", "2", "-o", "-", input=model).stdout_bytes))
    np.testing.assert_array_equal(piped, read_image(tmp_path / "out" / "upscaled_x2.png").array)
    edges = done("render", "-", "--derivative", "laplacian", "-o", "-", input=model)
    assert iio.imread(io.BytesIO(edges.stdout_bytes), extension=".tif").dtype == np.float32
    assert json.loads(done("info", "-", "--json", input=model).stdout)["image"]["axes"] == "YXC"
    assert "complete napari-siren model" in run("info", "-", input=photo.read_bytes()).stderr


def test_a_piped_picture_becomes_ome_zarr(photo: Path, tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    done("upscale", "-", "-o", tmp_path / "x.ome.zarr", "--preset", "fast", *QUICK, input=photo.read_bytes())
    assert read_image(tmp_path / "x.ome.zarr").array.shape == (3, 48, 64)


def test_standard_input_needs_a_name_for_the_result(photo: Path) -> None:
    for command in ("upscale", "fit"):
        result = run(command, "-", input=photo.read_bytes())
        assert (result.exit_code, "Give --out" in result.stderr) == (1, True)


# ---- choices, JSON, help ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("upscale", "--preset", "fats"),
        ("upscale", "--observation", "eye"),
        ("upscale", "--representation", "x"),
        ("batch", "--frames", "some"),
        ("batch", "--format", "gif"),
        ("render", "--derivative", "curl"),
    ],
)
def test_choices_are_named(photo: Path, words: tuple[str, ...]) -> None:
    command, option, word = words
    result = run(command, photo, "-o", "x.tif", option, word)
    assert result.exit_code == 2
    assert option in result.stderr
    assert "is not one of" in result.stderr


def test_results_as_json(photo: Path, tmp_path: Path) -> None:
    fitted = json.loads(done("fit", photo, "-o", tmp_path / "out", *QUICK, "--json").stdout)
    assert fitted["metrics"]["psnr"] > 0
    assert Path(fitted["files"]["model"]).is_file()
    model = json.loads(done("info", fitted["files"]["model"], "--json").stdout)
    assert model["image"]["shape"] == [24, 32, 3]


def test_a_batch_as_json(photo: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    words = ["batch", photo, "-o", tmp_path / "out", "--dry-run", "--json"]
    assert json.loads(done(*words).stdout)["to_do"] == ["photo.png"]


def test_the_findings_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_siren.cli.commands.doctor._speed", lambda: "fast")
    findings = json.loads(done("doctor", "--json").stdout)["findings"]
    assert {"name": "speed", "finding": "fast"} in findings


def test_short_options() -> None:
    assert "Usage" in done("upscale", "-h").stdout
    assert done("-V").stdout == done("--version").stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    environment = {**os.environ, "_NAPARI_SIREN_COMPLETE": f"source_{shell}"}
    command = Path(sys.executable).with_name("napari-siren")
    done = subprocess.run([command], env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert "napari-siren" in done.stdout


def test_common_settings_are_options(photo: Path, tmp_path: Path) -> None:
    psf = write_image(tmp_path / "bead.tif", np.outer(*[np.hanning(7)] * 2).astype(np.float32), "YX")
    words = ["fit", photo, "-o", tmp_path / "out", "--preset", "deblur", *QUICK, "--json"]
    options = ["--psf", psf, "--camera-gain", "2", "--camera-offset", "3", "--read-noise", "4", "--threads", "1"]
    config = json.loads(done(*words, *options).stdout)["config"]
    assert np.shape(config["psf"]) == (7, 7)
    names = ("observation", "camera_gain", "camera_offset", "read_noise", "threads")
    assert [config[name] for name in names] == ["measured", 2, 3, 4, 1]
    words = ["fit", photo, "-o", tmp_path / "two", "--preset", "upscale", *QUICK, "--json"]
    config = json.loads(done(*words, "--set", "task_steps=2", "--pretrained", "none", "--adapt", "off").stdout)[
        "config"
    ]
    assert (config["pretrained"], config["adapt"]) == (None, "off")


# ---- progress -------------------------------------------------------------------------------------------------


def test_plain_lines_without_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bars, "_LINE_SECONDS", 0.0)
    bars.follow(fit_iter(np.eye(16, dtype=np.float32), preset="fast", max_steps=3))
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"fitting: \d+ %  step 1/3  \d+\.\d\d dB.*", lines[0]), lines
    assert lines[-1].startswith("fitted: 100 %  3 steps")


def test_the_expected_time_is_announced(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_siren.cli import tables

    assert "expected to take" not in done("fit", photo, *QUICK).stderr
    monkeypatch.setattr(tables, "_SHORT_SECONDS", 0.0)
    assert "expected to take about" in done("fit", photo, *QUICK, "--overwrite").stderr
    assert "expected" not in done("fit", photo, *QUICK, "--overwrite", "-q").stderr
    assert "expected to take about" in done("flatten", photo, *QUICK).stderr
    pytest.importorskip("zarr")
    words = ["upscale", photo, "-o", photo.with_name("x.ome.zarr"), "--preset", "fast", *QUICK]
    assert "expected to take about" in done(*words).stderr
    assert "expected" not in done(*words).stderr


def test_renders_and_batches_have_a_remaining_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bars, "_LINE_SECONDS", 0.0)
    with bars.one_bar("rendering", quiet=False) as show:
        show(0.5)
        show(1.0)
    lines = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"rendering: 50 %  \d+ s left", lines[0])
    assert lines[1] == "rendering: 100 %"
    with bars.BatchBars(quiet=False) as bar:
        for finished in range(3):
            bar.show(BatchProgress("a", "begun", 0.0, None, finished, 2))
    assert [" left" in line for line in capsys.readouterr().err.splitlines()] == [False, True, False]


def test_ctrl_c_keeps_the_best_so_far_and_has_its_own_status(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = bars.share_done

    def strike(progress: Any) -> float:
        if progress.step == 3:
            signal.raise_signal(signal.SIGINT)
        return original(progress)

    monkeypatch.setattr(bars, "share_done", strike)
    result = run("upscale", photo, "--preset", "faithful", "--max-steps", "1000")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        130,
        "Stopped by Ctrl-C. The best result so far is written.",
    )
    assert read_image(photo.with_name("photo_x2.png")).array.shape == (48, 64, 3)


def test_a_film_is_denoised_as_a_whole(tmp_path: Path) -> None:
    film = np.random.default_rng(0).poisson(50, (3, 24, 28)).astype(np.uint16)
    path = write_image(tmp_path / "film.tif", film, "TYX")
    done("denoise", path)
    denoised = read_image(tmp_path / "film_denoised.tif")
    assert (denoised.axes, denoised.array.shape) == ("TYX", film.shape)
    assert denoised.array.std() < film.std()


@pytest.fixture
def film(tmp_path: Path) -> Path:
    image = np.random.default_rng(0).integers(0, 999, (3, 4, 2, 10, 12), dtype=np.uint16)
    return write_image(tmp_path / "film.ome.tif", image, "TZCYX", (0.4, 0.1, 0.1), "µm", ["red", "green"], (2.0, "s"))


@pytest.mark.parametrize(
    ("words", "name", "shape", "spacing"),
    [
        (["upscale", "--preset", "fast"], "film_x2", (3, 8, 2, 20, 24), (0.2, 0.05, 0.05)),
        (
            ["deblur", "--psf-width", "0.2", "--set", "task_steps=2"],
            "film_deblurred",
            (3, 4, 2, 10, 12),
            (0.4, 0.1, 0.1),
        ),
        (
            ["isotropic", "--pretrained", "none", "--set", "task_steps=2"],
            "film_isotropic",
            (3, 16, 2, 10, 12),
            (0.1, 0.1, 0.1),
        ),
        (
            ["denoise", "--pretrained", "none", "--set", "strict=false", "--set", "task_steps=2"],
            "film_denoised",
            (3, 4, 2, 10, 12),
            (0.4, 0.1, 0.1),
        ),
    ],
)
def test_the_frames_of_a_file_are_done_one_by_one(
    film: Path, words: list[str], name: str, shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    command, *options = words
    result = done(command, film, *options, *QUICK)
    assert result.stderr.count("3 frames are done one by one") == 1
    written = read_image(film.with_name(f"{name}.ome.tif"))
    assert (written.axes, written.array.shape, written.unit) == ("TZCYX", shape, "µm")
    assert written.spacing == pytest.approx(spacing)
    assert (written.channel_names, written.details.interval) == (("red", "green"), (2.0, "s"))


def test_frames_of_a_pyramid_are_done_one_by_one(film: Path, tmp_path: Path) -> None:
    picture, folder = read_image(film), tmp_path / "film.ome.zarr"
    write_image(folder, picture.array, "TZCYX", picture.spacing, picture.unit, picture.channel_names)
    assert done("upscale", folder, "--preset", "fast", *QUICK, "-q").stderr == ""
    assert read_image(tmp_path / "film_x2.ome.zarr").array.shape == (3, 2, 8, 20, 24)


def test_the_first_interrupt_keeps_the_frames_that_are_done(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = bars.share_done

    def strike(progress: Any) -> float:
        if progress.entry == 1:
            signal.raise_signal(signal.SIGINT)
        return original(progress)

    monkeypatch.setattr(bars, "share_done", strike)
    result = run("upscale", film, "--preset", "fast", *QUICK)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        130,
        "Stopped by Ctrl-C. Written: the first 2 of 3 frames.",
    )
    assert read_image(film.with_name("film_x2.ome.tif")).array.shape == (2, 8, 2, 20, 24)


# ---- the blur -----------------------------------------------------------------------------------------------

OBJECTIVE = ["--numerical-aperture", "1.2", "--wavelength", "0.52", "--refractive-index", "1.33"]


def test_the_blur_of_an_objective(stack: Path, tmp_path: Path) -> None:
    results = []
    for mode in ([], ["--confocal"]):
        done("deblur", stack, "--overwrite", *mode, *OBJECTIVE, *QUICK)
        results.append(read_image(tmp_path / "stack_deblurred.ome.tif").array)
    assert results[0].shape == (4, 16, 20)
    assert (results[0] != results[1]).any()


def test_an_objective_that_cannot_be_used(stack: Path, photo: Path) -> None:
    assert "three numbers" in refused("deblur", stack, "--confocal")
    assert "three numbers" in refused("deblur", stack, "--wavelength", "0.5")
    assert "described twice" in refused("deblur", stack, *OBJECTIVE, "--psf-width", "2")
    assert "pixel size" in refused("deblur", photo, *OBJECTIVE)
    assert "in the same unit" in refused("deblur", stack, *OBJECTIVE, "--wavelength", "520")
    assert "both --psf and --bead" in refused("deblur", photo, "--psf", photo, "--bead", photo)


def test_the_blur_of_a_bead(photo: Path, tmp_path: Path) -> None:
    bead = np.full((20, 22), 100, dtype=np.uint16)
    bead[6:9, 9:12] = 300
    path = write_image(tmp_path / "bead.tif", bead, "YX")
    words = ["fit", photo, "-o", tmp_path / "out", "--preset", "deblur", *QUICK, "--json", "--bead", path]
    psf = np.array(json.loads(done(*words).stdout)["config"]["psf"])
    assert all(n % 2 for n in psf.shape)
    assert psf[tuple(n // 2 for n in psf.shape)] == pytest.approx(1 / 9, rel=0.01)
