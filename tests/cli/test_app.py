"""The command line: what it writes, what it prints, and how it fails."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import forking
import numpy as np
import pytest
from typer.testing import CliRunner
from waiting import LIMIT

import napari_siren as ns
from napari_siren.cli import bars as console
from napari_siren.cli import files
from napari_siren.cli import options as arguments
from napari_siren.cli.app import app
from napari_siren.core.clock import Cancellation, Stopwatch
from napari_siren.core.fit import fit_iter
from napari_siren.core.steps import FitSteps
from napari_siren.io.images import read_image, write_image

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real images, ../shared/data, is not here")

FAST = ["--preset", "fast", "--max-steps", "4"]
TINY = ["--set", "hidden_features=8", "--set", "hidden_layers=1"]


def run(*words: object) -> Any:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(word) for word in words])


def fails(*words: object) -> str:
    """Run a command with an expected error, and return its one line of output."""
    result = run(*words)
    assert result.exit_code == 1, result.output
    assert re.fullmatch(r"Error: .*[.?]\n", result.stderr), result.stderr
    assert result.stdout == ""
    return str(result.stderr)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    image = np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    return write_image(tmp_path / "photo.png", image, "YXC")


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    z, y, x = np.indices((4, 12, 16))
    image = (1000 + 100 * np.sin(z + y / 2) * np.cos(x / 3)).astype(np.uint16)
    return write_image(tmp_path / "stack.tif", image, "ZYX", (0.4, 0.1, 0.1), "µm")


@pytest.fixture
def model(tmp_path: Path, stack: Path) -> Path:
    assert run("fit", stack, "-o", tmp_path / "fitted", "--scale", "1", "--resumable", *FAST, *TINY).exit_code == 0
    return tmp_path / "fitted" / "model.safetensors"


# ---- fit ----------------------------------------------------------------------------------------------


def test_fit_writes_everything_and_says_where(tmp_path: Path, photo: Path) -> None:
    result = run("fit", photo, "-o", tmp_path / "out", *FAST, *TINY)
    assert result.exit_code == 0, result.output
    files = sorted(p.name for p in (tmp_path / "out").iterdir())
    pictures = ["error.png", "model.safetensors", "overview.png", "reconstruction.png", "report.json"]
    assert files == [*pictures, "upscaled_x2.png"]
    assert read_image(tmp_path / "out" / "upscaled_x2.png").array.shape == (40, 60, 3)
    for said in ("PSNR", "SSIM", "RMSE", "largest error", "parameters per value", "4 steps", *files):
        assert said in result.stdout
    assert f"The results are in {tmp_path / 'out'}" in result.stdout


@pytest.mark.usefixtures("no_figures")
def test_fit_prints_the_resolution_of_an_image_with_noise(tmp_path: Path) -> None:
    wave = 30 + 20 * np.sin(np.hypot(*np.mgrid[:128, :128]) / 3)
    image = np.random.default_rng(0).poisson(wave).astype(np.uint16)
    path = write_image(tmp_path / "noisy.tif", image, "YX", (0.1, 0.1), "µm")
    result = run("fit", path, "-o", tmp_path / "out", "--preset", "denoise")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())["metrics"]
    assert f"{report['image_resolution']:.3g} µm" in result.stdout
    # They describe the noise that was removed.
    assert "RSE" not in result.stdout


def test_fit_prints_the_scaled_error_of_an_enlarged_image(tmp_path: Path, photo: Path) -> None:
    result = run("fit", photo, "-o", tmp_path / "out", "--preset", "upscale")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())["metrics"]
    assert re.search(rf"RSE +{report['rse']:.4g} grey levels", result.stdout)
    assert re.search(rf"RSP +{report['rsp']:.4f}", result.stdout)


def test_fit_passes_every_option_on(tmp_path: Path, photo: Path) -> None:
    (tmp_path / "settings.json").write_text(ns.FitConfig.preset("fast", hidden_features=8).model_dump_json())
    options = ["--config", tmp_path / "settings.json", "--set", "hidden_layers=1", "--set", "engine=plain"]
    limits = ["--max-steps", "3", "--max-seconds", "50", "--target-psnr", "70"]
    result = run("fit", photo, "-o", tmp_path / "out", "--scale", "1,2", "--seed", "5", *options, *limits, "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    wanted = {"hidden_features": 8, "hidden_layers": 1, "engine": "torch", "max_steps": 3, "max_seconds": 50}
    assert told["config"] | wanted == told["config"]
    assert (told["config"]["target_psnr"], told["seed"], told["engine"], told["scale"]) == (70, 5, "torch", [1, 2])
    assert read_image(tmp_path / "out" / "upscaled_x1x2.png").array.shape == (20, 60, 3)


def test_what_is_given_counts_more_than_what_the_file_says(tmp_path: Path, stack: Path) -> None:
    out = tmp_path / "out"
    given = ["--axes", "CYX", "--spacing", "2,3", "--scale", "2"]
    assert run("fit", stack, "-o", out, *given, *FAST, *TINY).exit_code == 0
    told = json.loads((out / "report.json").read_text())["image"]
    assert (told["axes"], told["spacing"], told["shape"]) == ("CYX", [2, 3], [4, 12, 16])
    assert read_image(out / "upscaled_x2.tif").spacing == pytest.approx((1, 1.5))


@pytest.mark.usefixtures("no_figures")
def test_a_fit_goes_on_with_its_own_settings(tmp_path: Path, stack: Path, model: Path) -> None:
    more = run("fit", stack, "-o", tmp_path / "more", "--resume", model, "--max-steps", "6", "--scale", "1")
    assert more.exit_code == 0, more.output
    told = json.loads((tmp_path / "more" / "report.json").read_text())
    assert (told["steps"], told["config"]["hidden_features"], told["history"]["step"]) == (6, 8, [5, 6])
    assert told["history"]["events"] == [{"step": 4, "event": "resumed"}]
    assert "already made its 4 steps" in fails("fit", stack, "-o", tmp_path / "x", "--resume", model)
    assert "Give one of" in fails("fit", stack, "-o", tmp_path / "x", "--resume", model, "--preset", "fast")


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(("pretrained", "before"), [("auto", 2), ("none", 42)])
def test_an_upscaling_goes_on(tmp_path: Path, pretrained: str, before: int) -> None:
    """Before the tiles are 2 passes of a pretrained network, or a draft of 40 steps and those of the task."""
    image = write_image(tmp_path / "noise.png", np.random.default_rng(0).integers(0, 256, (40, 42), np.uint8), "YX")
    first = ["--preset", "upscale", "--set", "task_steps=2", "--set", f"pretrained={pretrained}"]
    first += ["--max-steps", "4", *TINY, "--scale", "1", "--set", "representation=tiles"]
    assert run("fit", image, "-o", tmp_path / "first", "--resumable", *first).exit_code == 0
    model = tmp_path / "first" / "model.safetensors"
    assert "already made its 4 steps" in fails("fit", image, "-o", tmp_path / "x", "--resume", model)
    more = run("fit", image, "-o", tmp_path / "more", "--resume", model, "--max-steps", "6", "--scale", "1")
    assert more.exit_code == 0, more.output
    assert json.loads((tmp_path / "more" / "report.json").read_text())["steps"] == before + 6


@pytest.mark.usefixtures("no_figures")
def test_an_upscaling_without_tiles(tmp_path: Path) -> None:
    image = write_image(tmp_path / "noise.png", np.random.default_rng(0).integers(0, 256, (20, 22), np.uint8), "YX")
    assert run("fit", image, "-o", tmp_path / "first", "--resumable", "--preset", "upscale").exit_code == 0
    model = tmp_path / "first" / "model.safetensors"
    assert 'Further steps need representation="tiles"' in fails("fit", image, "-o", tmp_path / "x", "--resume", model)
    assert "spline through 40 x 44 restored samples" in run("info", model).output
    rendered = run("render", model, "-o", tmp_path / "x3.png", "--scale", "3")
    assert rendered.exit_code == 0, rendered.output


@needs_data
def test_fit_of_a_real_stack(tmp_path: Path) -> None:
    path = DATA / "microscopy" / "neubias_xyz_16bit__spots.tif"
    result = run("fit", path, "-o", tmp_path, "--preset", "fast", "--max-steps", "3", "--scale", "1,2,2", "--quiet")
    assert result.exit_code == 0, result.output
    upscaled = read_image(tmp_path / "upscaled_x1x2x2.tif")
    assert (upscaled.axes, upscaled.array.shape, upscaled.array.dtype) == ("ZYX", (17, 176, 178), np.uint16)
    assert upscaled.spacing == pytest.approx((0.4, 0.0941 / 2, 0.0941 / 2), rel=1e-3)
    assert upscaled.unit == "µm"


# ---- upscale, render, info, doctor ----------------------------------------------------------------------


def test_upscale_to_ome_zarr_goes_block_by_block_and_is_known_again(tmp_path: Path, stack: Path) -> None:
    out = tmp_path / "up.ome.zarr"
    words = ["upscale", stack, "--scale", "1,2,2", "-o", out, "--preset", "faithful", "--max-steps", "3", *TINY]
    first, again, refused = run(*words), run(*words), run(*words, "--no-resume")
    assert refused.exit_code == 1
    assert "exists already" in refused.output
    anew = run(*words, "--no-resume", "--overwrite")
    for result, fitted in ((first, 1), (again, 0), (anew, 1)):
        assert result.exit_code == 0, result.output
        assert f"1 ({fitted} fitted in this run)" in result.stdout
        assert f"Written: {out} (4 x 24 x 32)" in result.stdout
    found = read_image(out)
    assert (found.axes, found.unit, found.array.shape) == ("ZYX", "µm", (4, 24, 32))
    assert found.spacing == pytest.approx((0.4, 0.05, 0.05))
    quiet = run(*words, "--quiet")
    assert (quiet.exit_code, quiet.output) == (0, "")
    assert "max_seconds" in fails(*words, "--max-seconds", "2")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["stack.tif", "up.ome.zarr"]


def test_ome_zarr_is_read_and_written_by_every_command(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (300, 20), dtype=np.uint8)
    source = write_image(tmp_path / "a.ome.zarr", image, "YX", (0.5, 0.5), "µm")
    assert run("fit", source, "-o", tmp_path / "fitted", "--scale", "1", *FAST, *TINY).exit_code == 0
    out = tmp_path / "b.zarr"
    assert run("render", tmp_path / "fitted" / "model.safetensors", "--scale", "2", "-o", out).exit_code == 0
    assert read_image(out).spacing == pytest.approx((0.25, 0.25))
    small = ["--level", "1", "--scale", "2", "--preset", "fast", "--max-steps", "2", *TINY]
    assert run("upscale", source, "-o", tmp_path / "c.tif", *small).exit_code == 0
    assert read_image(tmp_path / "c.tif").array.shape == (300, 20)
    assert "no level 7" in fails("upscale", source, "-o", tmp_path / "c.tif", "--level", "7")


def test_upscale_writes_one_picture(tmp_path: Path, stack: Path) -> None:
    out = tmp_path / "up.tif"
    result = run("upscale", stack, "--scale", "1,2,2", "-o", out, "--max-steps", "2", *TINY)
    assert result.exit_code == 0, result.output
    assert f"Written: {out} (4 x 24 x 32)" in result.stdout
    assert read_image(out).spacing == pytest.approx((0.4, 0.05, 0.05))


def test_upscale_writes_how_far_to_trust_it(tmp_path: Path, photo: Path) -> None:
    out, trust = tmp_path / "up.png", tmp_path / "trust.tif"
    words = ["upscale", photo, "--scale", "2", "-o", out, "--overwrite", "--uncertainty"]
    result = run(*words, trust, "--max-steps", "2", "--set", "task_steps=2", *TINY)
    assert result.exit_code == 0, result.output
    assert f"Written: {trust}" in result.stdout
    found = read_image(trust).array
    assert (found.dtype, found.shape) == (np.float32, read_image(out).array.shape)
    assert "cannot hold float32" in fails(*words, tmp_path / "trust.png")


def test_flatten_writes_the_even_image(tmp_path: Path) -> None:
    things = np.where(np.hypot(*np.mgrid[-20:20, -24:24]) % 12 < 6, 1000.0, 3000.0)
    seen = (things * np.linspace(0.6, 1.4, 48)).astype(np.uint16)
    dim = write_image(tmp_path / "dim.tif", seen, "YX", (0.5, 0.5), "µm")
    out = tmp_path / "even.tif"
    result = run("flatten", dim, "-o", out, "--max-steps", "60")
    assert result.exit_code == 0, result.output
    assert f"Written: {out} (40 x 48)" in result.stdout
    even = read_image(out)
    assert (even.array.dtype, even.spacing, even.unit) == (np.uint16, pytest.approx((0.5, 0.5)), "µm")

    def unevenness(image: np.ndarray) -> float:
        ratio = image / things
        return float(abs(ratio[:, :24].mean() - ratio[:, 24:].mean()) / ratio.mean())

    assert unevenness(even.array) < 0.4 * unevenness(seen)
    for words in (["--additive"], ["--below", "0.2"]):
        assert (
            run("flatten", dim, "-o", tmp_path / f"{words[0]}.tif", *words, *TINY, "--max-steps", "2", "-q").output
            == ""
        )
    assert "--below much" in fails("flatten", dim, "-o", tmp_path / "no.tif", "--below", "much")
    assert "positive number" in fails("flatten", dim, "-o", tmp_path / "no.tif", "--below", "-1")
    assert "cannot hold" in fails("flatten", dim, "-o", tmp_path / "even.jpg")


def test_blend_writes_one_picture_with_the_other_in_it(tmp_path: Path) -> None:
    target = write_image(tmp_path / "target.png", np.full((30, 40, 3), 100, np.uint8), "YXC")
    thing = np.full((12, 14, 3), 20, np.uint8)
    thing[4:8, 5:9] = 120
    picture = write_image(tmp_path / "picture.png", thing, "YXC")
    marked = np.zeros((12, 14), np.uint8)
    marked[1:-1, 1:-1] = 255
    mask = write_image(tmp_path / "mask.png", marked, "YX")
    words, out = ["blend", picture, target, mask, "-o", tmp_path / "out.png", "--overwrite"], tmp_path / "out.png"
    result = run(*words, "--at", "10,20", "--max-steps", "60")
    assert result.exit_code == 0, result.output
    found = read_image(out).array.astype(float)
    assert (found.shape, found.dtype.kind) == ((30, 40, 3), "f")
    assert found[16, 27] == pytest.approx(200, abs=12)
    assert found[12, 22] == pytest.approx(100, abs=12)
    # A part of the picture is outside the image.
    assert run(*words, "--at=-4,-5", "--mixed", "--max-steps", "60", "-q").output == ""
    assert read_image(out).array[2, 2].astype(float) == pytest.approx(200, abs=30)
    assert "whole number" in fails(*words, "--at", "1.5,2")
    assert "2 whole numbers" in fails(*words, "--at", "1")
    assert "no pixel of the mask" in fails(*words, "--at", "99,0")


@pytest.mark.parametrize("kind", ["colours", "alpha"])
def test_a_mask_is_where_any_colour_is(tmp_path: Path, kind: str) -> None:
    image = np.zeros((6, 8, 3 if kind == "colours" else 4), np.uint8)
    image[2, 3, 1] = 9
    if kind == "alpha":
        image[..., 3] = 255
    marked = files.open_mask(write_image(tmp_path / "mask.png", image, "YXC"))
    assert (marked.shape, marked.sum(), marked[2, 3]) == ((6, 8), 1, True)


def test_render_at_any_resolution(tmp_path: Path, model: Path) -> None:
    out = tmp_path / "out.tif"
    for words, shape, spacing in (
        ([], (4, 12, 16), (0.4, 0.1, 0.1)),
        (["--scale", "2"], (8, 24, 32), (0.2, 0.05, 0.05)),
        (["--shape", "4,6,16"], (4, 6, 16), (0.4, 0.2, 0.1)),
        (["--spacing", "0.1"], (16, 12, 16), (0.1, 0.1, 0.1)),
        (["--region", "0:4,2:8,0:16"], (4, 6, 16), (0.4, 0.1, 0.1)),
        (["--derivative", "laplacian"], (4, 12, 16), (0.4, 0.1, 0.1)),
    ):
        result = run("render", model, "-o", out, "--overwrite", *words)
        assert result.exit_code == 0, result.output
        found = read_image(out)
        assert (found.array.shape, found.unit) == (shape, "µm")
        assert found.spacing == pytest.approx(spacing)
    assert found.array.dtype == np.float32


def test_render_gives_the_gradient_as_channels(tmp_path: Path, model: Path) -> None:
    assert run("render", model, "--derivative", "gradient", "-o", tmp_path / "out.tif").exit_code == 0
    found = read_image(tmp_path / "out.tif")
    wanted = ns.load(model).render(derivative="gradient")
    assert found.axes == "ZCYX"
    np.testing.assert_array_equal(found.array, np.moveaxis(wanted, 0, 1))


def test_render_of_channels(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (9, 10, 3), dtype=np.uint8)
    model = ns.fit(image, preset="fast", max_steps=2).save(tmp_path / "model.safetensors")
    words = ["render", model, "--derivative", "gradient", "-o"]
    assert "gradient_magnitude" in fails(*words, tmp_path / "out.tif")
    assert run(*words, tmp_path / "out.npy").exit_code == 0
    assert np.load(tmp_path / "out.npy").shape == (2, 9, 10, 3)
    assert run("render", model, "--scale", "3", "-o", tmp_path / "out.png").exit_code == 0
    assert read_image(tmp_path / "out.png").array.shape == (27, 30, 3)


def test_info_tells_all(model: Path) -> None:
    result = run("info", model)
    assert result.exit_code == 0, result.output
    for said in ("stack.tif", "ZYX", "4 x 12 x 16", "0.4 x 0.1 x 0.1 µm", "1 sine layers of 8", "yes, from step 4"):
        assert said in result.stdout
    for name in ("tiles", "parameters", "PSNR", "seed", "device", "versions", "SHA-256"):
        assert name in result.stdout


def test_doctor_examines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_siren.core.cost.tiles._MOST_SAMPLES", 5000)
    result = run("doctor")
    assert result.exit_code == 0, result.output
    for said in (ns.__version__, "PyTorch", "cpu", "compiled kernel", "napari", "ms per step", "768 x 512"):
        assert said in result.stdout


def test_version() -> None:
    assert run("--version").stdout == f"napari-siren {ns.__version__}\n"


# ---- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "or --sample"),
        (["photo.png", "--sample"], "or --sample"),
        (["nothing.png"], "there is no file nothing.png"),
        (["photo.png", "--set", "hiden_layers=3"], "did you mean 'hidden_layers'"),
        (["photo.png", "--set", "hidden_layers"], "FIELD=VALUE"),
        (["photo.png", "--set", "hidden_layers=0"], "hidden_layers"),
        (["photo.png", "--max-steps", "0"], "max_steps"),
        (["photo.png", "--config", "nothing.json"], "nothing.json"),
        (["photo.png", "--config", "photo.png", "--preset", "fast"], "Give one of"),
        (["photo.png", "--resume", "nothing"], "no model file nothing"),
        (["photo.png", "--resume", "photo.png"], "photo.png"),
        (["photo.png", "--scale", "0"], "scale=0.0 is out of range"),
        (["photo.png", "--scale", "1,2,3"], "2 numbers are needed"),
        (["photo.png", "--scale", "much"], "--scale much"),
        (["photo.png", "--scale", "1e5"], "Choose a lower resolution"),
        (["photo.png", "--axes", "YX"], "names 2 axes"),
        (["photo.png", "--spacing", "1,2,3"], "spacing"),
        (["photo.png", "--device", "abacus"], "abacus"),
    ],
)
def test_fit_fails_with_one_clear_line(
    tmp_path: Path, photo: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(photo.parent)
    assert message in fails("fit", *words, "-o", "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_told_before_the_fit(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "follow", lambda *_: pytest.fail("it was fitted"))
    assert "in the way" in fails("fit", photo, "-o", photo / "out")


def test_files_that_cannot_be_written_are_told_before_the_fit(
    photo: Path, stack: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "follow", lambda *_: pytest.fail("it was fitted"))
    assert "Create it first" in fails("upscale", photo, "-o", photo.parent / "nowhere" / "up.png")
    assert "cannot hold uint16" in fails("upscale", stack, "-o", photo.parent / "up.png")
    assert "cannot hold float32" in fails("render", model, "--derivative", "laplacian", "-o", photo.parent / "up.png")
    assert "should end in" in fails("render", model, "-o", photo.parent / "up.gif")
    assert "exclude each other" in fails(
        "render", model, "--scale", "2", "--spacing", "2", "-o", photo.parent / "up.tif"
    )
    assert "lower resolution" in fails("render", model, "--scale", "1e4", "-o", photo.parent / "up.tif")
    assert "--region 1-2" in fails("render", model, "--region", "1-2", "-o", photo.parent / "up.tif")


def test_info_of_another_file(photo: Path) -> None:
    assert "not a complete napari-siren model" in fails("info", photo)


# ---- arguments ----------------------------------------------------------------------------------------------


def test_settings_are_json_or_plain_words() -> None:
    pairs = ["tile=whole", "max_seconds=null", "hidden_layers=4", "band = 0.5", "standardise=false"]
    assert arguments.settings(pairs, max_steps=7, target_psnr=None) == {
        "tile": "whole",
        "max_seconds": None,
        "hidden_layers": 4,
        "band": 0.5,
        "standardise": False,
        "max_steps": 7,
    }


def test_one_number_stands_for_every_axis() -> None:
    assert arguments.scale_of("--scale", "2.5") == 2.5
    assert arguments.scale_of("--scale", "1,2") == (1, 2)
    assert arguments.scale_of("--scale", None) is None
    assert arguments.region("0:4,2.5:8") == [(0, 4), (2.5, 8)]


# ---- Ctrl-C ---------------------------------------------------------------------------------------------------


def interrupted(times: int) -> Any:
    """Run a fit, and interrupt it at its third step, `times` times."""
    steps = fit_iter(np.eye(16, dtype=np.float32), preset="fast", max_steps=50, engine="torch")
    answer = None
    while True:
        try:
            progress = steps.send(answer)
        except StopIteration as end:
            return end.value
        if progress.step == 3:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        answer = yield progress


def nothing_to_see() -> Any:
    raise AssertionError("no checkpoint was asked for")


def test_checkpoints_are_saved_while_a_fit_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "model.safetensors"
    steps = fit_iter(np.eye(16, dtype=np.float32), preset="fast", max_steps=5)
    console.follow(steps, quiet=True, checkpoint=path)
    assert ns.load(path).history.step == [1, 2, 3, 4, 5]


def test_the_first_interrupt_keeps_the_best_so_far() -> None:
    before = signal.getsignal(signal.SIGINT)
    result = console.follow(FitSteps(interrupted(1), nothing_to_see, Stopwatch(), Cancellation()), quiet=True)
    assert (result.history.stopped, result.history.step) == ("asked", [1, 2, 3])
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_interrupt_aborts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        console.follow(FitSteps(interrupted(2), nothing_to_see, Stopwatch(), Cancellation()), quiet=True)
    assert signal.getsignal(signal.SIGINT) is before


# ---- as a program of its own --------------------------------------------------------------------------------


def program(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("napari-siren")
    return subprocess.run([command, *map(str, words)], capture_output=True, text=True, timeout=LIMIT, **options)


def test_the_program_fits_an_image(tmp_path: Path, photo: Path) -> None:
    done = program("fit", photo, "-o", tmp_path / "out", "--scale", "2", *FAST, *TINY)
    assert done.returncode == 0, done.stderr
    assert "PSNR" in done.stdout
    assert "4 steps" in done.stderr
    assert read_image(tmp_path / "out" / "upscaled_x2.png").array.shape == (40, 60, 3)
    main = "from napari_siren.cli.app import main; main()"
    failed = forking.run(main, "fit", tmp_path / "nothing.png", "-o", tmp_path / "out")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == f"Error: there is no file {tmp_path / 'nothing.png'}. Check its name.\n"


def test_the_module_is_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "napari_siren", "--version"], capture_output=True, text=True, timeout=LIMIT
    )
    assert done.stdout == f"napari-siren {ns.__version__}\n"


def test_starting_is_quick() -> None:
    code = "import sys, napari_siren.cli.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert not {"torch", "matplotlib", "numpy", "pydantic", "napari"} & set(done.stdout.split())
