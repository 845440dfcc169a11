"""The protocol of `python -m benchmarks.upscale` against known cases, its rivals, and how uncertainties are judged."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.io import imread, imsave

import napari_siren as ns
from benchmarks import pixel_grid, trust_plot, upscale
from benchmarks.interpolators import (
    bicubic,
    channels_as,
    channels_first,
    cubic_spline,
    decimate,
    lanczos,
    nearest,
    shrink,
    shrink_matrix,
    to_bytes,
)
from benchmarks.rectified import ConditionedRectifier
from benchmarks.trust import SHARES, judge, judge_image
from benchmarks.upscale_networks import COLOUR_NETWORKS, NETWORKS, colour_networks, networks
from benchmarks.upscale_sets import (
    NAMES,
    Pair,
    aliased,
    consistency,
    luminance,
    read_set,
    read_shrunk,
    score,
    with_noise,
)
from napari_siren.core.restoration.self_supervised.network import LocalImplicitSiren
from napari_siren.core.restoration.self_supervised.zero_shot import ZeroShotSuperResolution
from napari_siren.core.uncertainty import error_model

INTERPOLATORS = [nearest, bicubic, lanczos, cubic_spline, pixel_grid.pixel_grid]


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Give 32 x 40 pixels with edges, waves and a slope in colours."""
    rows, columns = np.indices((32, 40))
    disc = 120.0 * (np.hypot(rows - 15, columns - 18) < 10)
    channels = [60 + disc, 100 + 60 * np.sin(columns / 3), 40 + 4.0 * rows]
    return to_bytes(np.stack(channels, axis=-1))


# ---- the protocol ----------------------------------------------------------------------------------------------------


def test_luminance_is_that_of_matlab() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8)
    # MATLAB's documentation of rgb2ycbcr: 16 + (65.481 R + 128.553 G + 24.966 B) / 255.
    assert luminance(colours)[0] == pytest.approx([16, 235, 81.481, 144.553, 40.966])
    grey = np.array([[0, 255]], dtype=np.uint8)
    assert (luminance(grey) == grey).all()


def test_what_is_equal_is_infinitely_close(picture: np.ndarray) -> None:
    same = score(picture, picture, 2)
    assert same.psnr == math.inf
    assert same.ssim == pytest.approx(1.0)


def test_an_offset_has_a_known_psnr() -> None:
    truth = np.full((32, 32, 3), 100, dtype=np.uint8)
    found = truth + np.uint8(10)
    assert score(found, truth, 2).psnr == pytest.approx(20 * math.log10(255 / (10 * 219 / 255)))
    assert score(found[..., 0], truth[..., 0], 2).psnr == pytest.approx(20 * math.log10(25.5))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_border_does_not_count_and_the_next_pixel_does(picture: np.ndarray, scale: int) -> None:
    border = picture.copy()
    border[:scale], border[-scale:], border[:, :scale], border[:, -scale:] = 0, 255, 0, 255
    assert score(border, picture, scale).psnr == math.inf
    inner = picture.copy()
    inner[scale, scale] += np.uint8(50)
    assert score(inner, picture, scale).psnr < math.inf


def test_what_has_another_shape_or_dtype_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="the result is"):
        score(picture[1:], picture, 2)
    with pytest.raises(ValueError, match="float64"):
        score(picture.astype(np.float64), picture, 2)
    with pytest.raises(ValueError, match="some"):
        Pair("some", picture[:16, :16], picture, 2)


# ---- the forward model -----------------------------------------------------------------------------------------------


@given(size=st.integers(1, 12), scale=st.integers(1, 5))
def test_a_constant_is_seen_as_it_is(size: int, scale: int) -> None:
    matrix = shrink_matrix(size, scale)
    assert matrix.shape == (size, size * scale)
    assert matrix.sum(axis=1) == pytest.approx(np.ones(size))
    assert matrix == pytest.approx(matrix[::-1, ::-1])


def test_the_weights_are_those_of_the_stretched_cubic() -> None:
    # Keys' cubic with a = -1/2 at distances of 1/4, 3/4, 5/4 and 7/4 small pixels, halved.
    cubic = np.array([0.8671875, 0.2265625, -0.0703125, -0.0234375]) / 2
    assert shrink_matrix(8, 2)[3, 3:11] == pytest.approx([*cubic[::-1], *cubic])
    assert (shrink_matrix(8, 2)[3, :3] == 0).all()
    assert shrink_matrix(5, 1) == pytest.approx(np.eye(5))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_ramp_is_seen_at_the_centres_of_the_pixels(scale: int) -> None:
    matrix = shrink_matrix(20, scale)
    seen = matrix @ (np.arange(20 * scale) + 0.5)
    assert seen[3:-3] == pytest.approx((np.arange(3, 17) + 0.5) * scale)


def test_without_antialiasing_a_pixel_depends_on_its_neighbours_only(picture: np.ndarray) -> None:
    impulse = np.zeros((16, 8), dtype=np.uint8)
    impulse[6] = 64
    # OpenCV's cubic with a = -3/4 at distances of 3/2 and 1/2 pixels.
    assert decimate(impulse, 2)[0, :, 1] == pytest.approx([0, 0, -6, 38, 0, 0, 0, 0])
    assert decimate(picture[:30, :39], 3) == pytest.approx(channels_first(picture[1:30:3, 1:39:3]).astype(float))
    (pair,) = aliased([Pair("disc", bicubic(picture, 2), bicubic(picture, 4), 2)])
    assert pair.low.shape == (64, 80, 3)
    assert (pair.low == to_bytes(channels_as(pair.high, decimate(pair.high, 2)))).all()


def test_consistency_is_that_of_the_copy(picture: np.ndarray) -> None:
    low = to_bytes(channels_as(picture, shrink(picture, 2)))
    assert consistency(picture, low, 2) > 55  # rounding only
    assert consistency(picture, low + np.uint8(1), 2) < 50


# ---- the rivals ------------------------------------------------------------------------------------------------------


def ramp(size: int, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Give a slope along both axes, and what it is on the finer grid."""
    low, high = ((np.arange(n) + 0.5) / (n / size) for n in (size, size * scale))
    return tuple(to_bytes(20 + 5 * x[:, np.newaxis] + 3 * x) for x in (low, high))  # type: ignore[return-value]


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("method", INTERPOLATORS, ids=lambda method: method.__name__)
def test_a_rival_lies_on_the_pixels_centres(method: upscale.Method, scale: int) -> None:
    low, high = ramp(20, scale)
    inner = slice(5 * scale, -5 * scale)
    error = method(low, scale).astype(float)[inner, inner] - high.astype(float)[inner, inner]
    # A shift by half a fine pixel is an error of 8 / (2 * scale) in the mean.
    assert abs(error.mean()) < 0.2
    assert np.abs(error).max() <= (5 if method is nearest else 1)


def test_the_siren_lies_on_the_pixels_centres() -> None:
    low, high = ramp(20, 2)
    found = upscale.methods("cpu")["point-fitted SIREN"](low, 2)
    assert abs((found.astype(float) - high)[10:-10, 10:-10].mean()) < 0.3


@pytest.mark.parametrize("method", INTERPOLATORS, ids=lambda method: method.__name__)
@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_constant_stays_constant(method: upscale.Method, channels: tuple[int, ...]) -> None:
    low = np.full((9, 12, *channels), 77, dtype=np.uint8)
    found = method(low, 3)
    assert found.shape == (27, 36, *channels)
    assert found.dtype == np.uint8
    assert (found == 77).all()


# ---- published networks ----------------------------------------------------------------------------------------------


class NearestGraph:
    """A graph that repeats pixels and adds 20.4 grey levels, as OpenCV presents one."""

    def __init__(self, path: str) -> None:
        self.scale = int(path.removesuffix(".pb")[-1])

    def setInput(self, blob: np.ndarray) -> None:
        assert blob.dtype == np.float32
        assert blob.shape[:2] == (1, 1)
        assert blob.max() <= 1
        self.blob = blob

    def forward(self) -> np.ndarray:
        return self.blob.repeat(self.scale, axis=2).repeat(self.scale, axis=3) + np.float32(0.08)


@pytest.fixture
def opencv(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Install a module that reads `NearestGraph` from any file."""
    module = SimpleNamespace(
        dnn=SimpleNamespace(readNetFromTensorflow=NearestGraph),
        dnn_superres=SimpleNamespace(DnnSuperResImpl_create=lambda: None),
        setNumThreads=lambda threads: None,
    )
    monkeypatch.setitem(sys.modules, "cv2", module)
    return module


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Create files for every network at x2, and for FSRCNN at x3, too."""
    folder = tmp_path / "weights"
    (folder / "models").mkdir(parents=True)
    for name in (*(f"{network}_x2" for network in NETWORKS), "FSRCNN_x3"):
        (folder / "models" / f"{name}.pb").touch()
    return folder


@pytest.mark.usefixtures("opencv")
def test_a_network_enlarges_luminance_and_leaves_the_colours(picture: np.ndarray, weights: Path) -> None:
    methods, skipped = networks(weights, [2])
    assert (list(methods), skipped) == (list(NETWORKS), [])
    grey = picture[..., 1]
    assert (methods["FSRCNN"](grey, 2) == to_bytes(nearest(grey, 2) + 20.4)).all()
    result, colours = methods["ESPCN"](picture, 2).astype(float), bicubic(picture, 2).astype(float)
    luma = np.array([0.299, 0.587, 0.114])
    inside = ((result > 0) & (result < 255)).all(axis=-1)
    assert inside.mean() > 0.8
    assert result[inside] @ luma == pytest.approx((nearest(picture, 2) @ luma + 20.4)[inside], abs=0.5)
    shift = (result - colours)[inside]
    assert np.abs(shift - shift[:, :1]).max() <= 1


@pytest.mark.usefixtures("opencv")
def test_a_network_without_all_files_is_skipped(weights: Path) -> None:
    methods, skipped = networks(weights, [2, 3])
    assert list(methods) == ["FSRCNN"]
    assert len(skipped) == 2
    assert skipped[1].startswith(f"ESPCN is skipped: ESPCN_x3.pb not found in {weights}. ")
    assert "fannymonori/TF-ESPCN" in skipped[1]


def test_without_opencv_networks_are_skipped(
    opencv: SimpleNamespace, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del opencv.dnn_superres
    for module in (opencv, None):
        monkeypatch.setitem(sys.modules, "cv2", module)
        methods, (line,) = networks(weights, [2])
        assert methods == {}
        assert "Install opencv-contrib-python-headless." in line


@pytest.mark.usefixtures("opencv")
def test_networks_are_measured_beside_ours(
    data: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.json"
    flags = ["--data", str(data), "--json", str(path), "--sets", "Set5", "--scales", "2", "--only", "bicubic", "ESPCN"]
    upscale.main([*flags, "--cases", "standard", "aliased", "--networks", str(weights)])
    cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    assert {name: list(case["methods"]) for name, case in cases.items()} == {
        name: ["bicubic", "ESPCN"] for name in ("Set5 x2", "Set5 x2, aliased")
    }
    (weights / "models" / "FSRCNN-small_x2.pb").unlink()
    upscale.main([*flags, "--cases", "noise", "--scales", "3", "--networks", str(weights)])
    assert "FSRCNN-small is skipped: FSRCNN-small_x2.pb not found" in capsys.readouterr().out.replace("\n", " ")


class RepeatingNet:
    """A network that repeats pixels and adds 20.4 grey levels to green, as ncnn presents one."""

    def __init__(self) -> None:
        self.opt = SimpleNamespace()

    def load_param(self, path: str) -> int:
        self.scale = int(path.removesuffix(".param")[-1])
        return 0

    def load_model(self, path: str) -> int:
        assert path.endswith(".bin")
        return Path(path).stat().st_size  # an empty file is read, another is not

    def create_extractor(self) -> RepeatingNet:
        return self

    def input(self, name: str, blob: np.ndarray) -> None:
        assert name == "data"
        assert blob.dtype == np.float32
        assert blob.shape[0] == 3
        assert blob.max() <= 1
        self.blob = blob

    def extract(self, name: str) -> tuple[int, np.ndarray]:
        assert name == "output"
        shift = np.array([0, 0.08, 0], dtype=np.float32)[:, None, None]
        return 0, self.blob.repeat(self.scale, axis=1).repeat(self.scale, axis=2) + shift


@pytest.fixture
def files_for_ncnn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a module that reads `RepeatingNet` from any file, and give a folder with files of one network."""
    monkeypatch.setitem(sys.modules, "ncnn", SimpleNamespace(Net=RepeatingNet, Mat=lambda array: array))
    for ending in ("param", "bin"):
        (tmp_path / f"realesr-animevideov3-x2.{ending}").touch()
    return tmp_path


def test_a_network_for_ncnn_enlarges_colours(picture: np.ndarray, files_for_ncnn: Path) -> None:
    methods, (line,) = colour_networks(files_for_ncnn, [2])
    assert list(methods) == ["realesr-animevideov3"]
    assert line.startswith("upscayl-lite is skipped: upscayl-lite-2x.param not found in ")
    enlarge = methods["realesr-animevideov3"]
    assert (enlarge(picture, 2) == to_bytes(nearest(picture, 2) + np.array([0, 20.4, 0]))).all()
    grey = picture[..., 1]
    assert np.abs(enlarge(grey, 2) - (nearest(grey, 2) + 0.587 * 20.4)).max() <= 0.51


def test_a_network_that_ncnn_cannot_read_is_an_error(files_for_ncnn: Path) -> None:
    (files_for_ncnn / "realesr-animevideov3-x2.bin").write_bytes(b"other")
    with pytest.raises(ValueError, match="ncnn cannot read"):
        colour_networks(files_for_ncnn, [2])


def test_networks_without_ncnn_or_weights_are_skipped(files_for_ncnn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files_for_ncnn / "realesr-animevideov3-x2.bin").unlink()
    methods, skipped = colour_networks(files_for_ncnn, [2])
    assert methods == {}
    assert skipped[0].startswith("realesr-animevideov3 is skipped: realesr-animevideov3-x2.bin not found in ")
    monkeypatch.setitem(sys.modules, "ncnn", None)
    methods, (line,) = colour_networks(files_for_ncnn, [2])
    assert methods == {}
    assert line.startswith(", ".join(COLOUR_NETWORKS))


# ---- the pixel grid --------------------------------------------------------------------------------------------------


def solved(picture: np.ndarray, weight: float, **options: float) -> tuple[torch.Tensor, pixel_grid.Solution]:
    low = torch.from_numpy(shrink(picture, 2)).float()
    start = torch.from_numpy(channels_first(bicubic(to_bytes(channels_as(picture, low.numpy())), 2)).astype(np.float32))
    return low, pixel_grid.solve(low, 2, weight, start, **options)


def objective(image: np.ndarray, low: np.ndarray, weight: float) -> float:
    rows, columns = (shrink_matrix(n, 2) for n in low.shape[1:])
    down, right = (np.diff(image, axis=a, append=np.take(image, [-1], axis=a)) for a in (1, 2))
    variation = np.sqrt(np.square(down).sum(axis=0) + np.square(right).sum(axis=0)).sum()
    return 0.5 * float(np.square(rows @ image @ columns.T - low).sum()) + weight * float(variation)


def test_the_differences_and_their_transpose() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 5, 7, generator=generator)
    slopes = torch.rand(2, 2, 5, 7, generator=generator)
    there = (pixel_grid.gradient(image) * slopes).sum()
    assert float(there) == pytest.approx(float((image * pixel_grid.adjoint(slopes)).sum()), abs=1e-4)


def test_the_proximal_map_solves_its_equations(picture: np.ndarray) -> None:
    low = torch.from_numpy(shrink(picture, 2))
    image = torch.from_numpy(channels_first(picture).astype(np.float64)).flip(1)
    found = pixel_grid.DataTerm.from_low(low, 2).proximal(image, 0.7).numpy()
    rows, columns = (shrink_matrix(n, 2) for n in low.shape[1:])
    slope = rows.T @ (rows @ found @ columns.T - low.numpy()) @ columns
    assert found - image.numpy() + 0.7 * slope == pytest.approx(0, abs=1e-8)


def test_the_less_weight_the_more_consistent(picture: np.ndarray) -> None:
    errors = []
    for weight in (0.05, 0.5, 5.0):
        low, solution = solved(picture, weight)
        seen = shrink(np.moveaxis(solution.image.numpy(), 0, 2), 2)
        errors.append(float(np.sqrt(np.square(seen - low.numpy()).mean())))
    assert errors == sorted(errors)
    assert errors[0] < 0.1
    # Total variation pulls a pixel by 4 times its weight at most, and A takes from that.
    assert errors[2] < 20


def test_it_ends_where_nothing_is_lower(picture: np.ndarray) -> None:
    low, solution = solved(picture, 1.0)
    assert solution.iterations < pixel_grid.MOST_ITERATIONS
    assert solution.residual < pixel_grid.TOLERANCE
    found, seen = solution.image.double().numpy(), low.double().numpy()
    lowest = objective(found, seen, 1.0)
    _, closer = solved(picture, 1.0, tolerance=pixel_grid.TOLERANCE / 10)
    assert closer.iterations > solution.iterations
    assert lowest <= objective(closer.image.double().numpy(), seen, 1.0) * (1 + 1e-3)
    assert float((closer.image - solution.image).square().mean().sqrt()) < 0.2
    rng = np.random.default_rng(0)
    for away in (bicubic(picture[::2, ::2], 2), picture):
        assert lowest < objective(channels_first(away.astype(np.float64)), seen, 1.0)
    for _ in range(5):
        assert lowest < objective(found + rng.normal(0, 0.5, found.shape), seen, 1.0)


def test_the_weight_grows_with_the_noise(picture: np.ndarray) -> None:
    flat = np.full((1, 40, 40), 90, dtype=np.float32)
    noise = np.random.default_rng(0).normal(0, 10, flat.shape).astype(np.float32)
    weights = [pixel_grid.variation_weight(flat + share * noise) for share in (0, 1, 2)]
    assert weights[0] == pixel_grid.LEAST_WEIGHT
    assert weights[1] == pytest.approx(10**2 / pixel_grid.NOISE_PER_WEIGHT, rel=0.3)
    assert weights[2] == pytest.approx(4 * weights[1], rel=1e-3)


# ---- the sets and the run --------------------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path, picture: np.ndarray) -> Path:
    """Give a folder with two pairs of "Set5", one of them grey, and two pictures to shrink."""
    folder = tmp_path / "data"
    pairs = folder / "sr" / "Set5" / "image_SRF_2"
    pairs.mkdir(parents=True)
    (folder / "cifar").mkdir()
    for number, high in enumerate((picture, picture[..., 1]), start=1):
        imsave(pairs / f"img_00{number}_SRF_2_HR.png", high, check_contrast=False)
        low = to_bytes(channels_as(high, shrink(high, 2)))
        imsave(pairs / f"img_00{number}_SRF_2_LR.png", low, check_contrast=False)
        imsave(folder / "cifar" / f"{number}.png", picture[:31, number : number + 32], check_contrast=False)
    return folder


def test_pairs_are_read_in_order(data: Path, picture: np.ndarray) -> None:
    colours, grey = read_set(data, "Set5", 2)
    assert (colours.name, grey.name) == NAMES["Set5"][:2]
    assert (colours.high == picture).all()
    assert grey.low.shape == (16, 20)
    assert len(read_set(data, "Set5", 2, count=1)) == 1
    assert read_set(data, "Set14", 2) == []


def test_small_copies_are_made_of_whole_pixels(data: Path) -> None:
    pairs = read_shrunk(data, "cifar", 2)
    assert [pair.low.shape for pair in pairs] == [(15, 16, 3)] * 2
    for pair in pairs:
        assert consistency(pair.high, pair.low, 2) > 55


def test_noise_is_the_same_each_time_and_only_in_the_small(data: Path) -> None:
    clean = read_set(data, "Set5", 2)
    first, again = with_noise(clean, 0.05), with_noise(clean, 0.05)
    for a, b, c in zip(first, again, clean, strict=True):
        assert (a.low == b.low).all()
        assert (a.high == c.high).all()
        assert (a.low.astype(float) - c.low).std() == pytest.approx(0.05 * 255, rel=0.2)
    differences = [(a.low.astype(float) - c.low)[..., :1].ravel() for a, c in zip(first, clean, strict=True)]
    assert not np.array_equal(*differences)


def test_a_run_is_written_and_printed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    every = {
        "nearest": nearest,
        "bicubic": bicubic,
        "Lanczos": lanczos,
        "exact": lambda low, scale: bicubic(low, scale),
    }
    monkeypatch.setattr(upscale, "methods", lambda device: every)
    path, pictures = tmp_path / "out" / "upscale.json", tmp_path / "pictures"
    flags = ["--sets", "Set5", "--scales", "2", "--data", str(data), "--json", str(path), "--consistency"]
    upscale.main([*flags, "--only", "near", "bic", "Lan", "--pictures", str(pictures)])
    report = json.loads(path.read_text(encoding="utf-8"))
    noisy = ["Set5 x2, noise 2%", "Set5 x2, noise 5%"]
    assert list(report["cases"]) == ["Set5 x2", *noisy, "CIFAR x2", "Set5 x2, aliased"]
    for case in report["cases"].values():
        assert list(case["methods"]) == ["nearest", "bicubic", "Lanczos"]
        for row in case["methods"].values():
            assert set(row["mean"]) == {"psnr", "ssim", "seconds", "consistency"}
            images = row["images"].values()
            assert row["mean"]["psnr"] == pytest.approx(sum(f["psnr"] for f in images) / 2)
        gains = [case["methods"][name]["least_gain"] for name in ("nearest", "bicubic", "Lanczos")]
        assert gains[0] < 0
        assert max(gains) <= 0
    pair = read_set(data, "Set5", 2)[0]
    kept = pictures / "Set5-x2" / pair.name
    assert (imread(kept / "bicubic.png") == bicubic(pair.low, 2)).all()
    assert (imread(kept / "truth.png") == pair.high).all()
    told = capsys.readouterr().out
    for name, figures in upscale.PUBLISHED.items():
        assert f"{name} (published)" in told
        assert f"{figures['Set5'][0]:.2f}" in told


def test_what_is_not_there_is_said(data: Path, tmp_path: Path) -> None:
    flags = ["--data", str(data), "--json", str(tmp_path / "some.json")]
    with pytest.raises(SystemExit, match="point-fitted"):
        upscale.main([*flags, "--only", "nothing like it"])
    with pytest.raises(SystemExit, match="Set14 x3"):
        upscale.main([*flags, "--only", "nearest", "--cases", "standard", "--sets", "Set14", "--scales", "3"])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Make fits short, and give what they were asked for."""
    asked: list[dict[str, Any]] = []
    fit = ns.fit

    def short(low: np.ndarray, **options: Any) -> ns.FitResult:
        asked.append(options)
        return fit(low, **{**options, "device": "cpu", "task_steps": 3, "max_steps": 5})

    monkeypatch.setattr(ns, "fit", short)
    monkeypatch.setattr(error_model, "_STEPS", 20)
    return asked


def test_ours_is_what_upscale_does(picture: np.ndarray, quick: list[dict[str, Any]]) -> None:
    pair = Pair("disc", bicubic(picture, 2), bicubic(picture, 4), 2)
    made, found, figures = upscale.measure(upscale.methods("cuda")["ours"], pair)
    assert quick == [{"preset": "upscale", "detail": 2.0, "device": "cuda"}]
    wanted = ns.upscale(pair.low, 2, task_steps=3, max_steps=5)
    np.testing.assert_array_equal(found, wanted)
    assert figures["psnr"] == score(wanted, pair.high, 2).psnr
    trust = upscale.trust_in(made, found, pair)
    assert -1 <= trust["rank_correlation"] <= 1
    assert trust["ratio"] > 0
    assert len(trust["curve"]) == len(SHARES)


def test_the_rectified_rival_has_no_sine(picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def look(low: np.ndarray, scale: int, device: str, pretrained: None) -> np.ndarray:
        seen.append(ZeroShotSuperResolution.network_class)
        return nearest(low, scale)

    monkeypatch.setattr(ns, "upscale", look)
    assert upscale.methods("cpu")["ours, rectifiers for sines"](picture, 2).shape == (64, 80, 3)
    assert seen == [ConditionedRectifier]
    assert ZeroShotSuperResolution.network_class is LocalImplicitSiren
    network = ConditionedRectifier(3, 2, 8, 2, 8, torch.Generator().manual_seed(0))
    assert (network.activate(torch.tensor([-1.0, 2.0])) == torch.tensor([0.0, 2.0])).all()
    assert not any(bias.any() for bias in network.biases)


# ---- trust -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def errors() -> np.ndarray:
    return np.random.default_rng(0).gamma(1.0, 3.0, (50, 60))


def test_what_grows_with_the_error_is_perfect(errors: np.ndarray) -> None:
    trust = judge(2 * errors**2, errors)
    assert trust.rank_correlation == pytest.approx(1.0)
    assert trust.curve == pytest.approx(trust.oracle)
    assert trust.excess == pytest.approx(0.0)
    assert trust.gain == pytest.approx(1.0)
    assert trust.ratio == pytest.approx(2 * (errors**2).mean() / errors.mean())
    assert (np.diff(trust.curve) <= 1e-12).all()


def test_what_falls_with_the_error_is_the_worst(errors: np.ndarray) -> None:
    trust = judge(1 / errors, errors)
    assert trust.rank_correlation == pytest.approx(-1.0)
    assert (trust.curve[1:] > 1).all()
    assert trust.gain < 0


def test_what_knows_nothing_gains_nothing(errors: np.ndarray) -> None:
    blind = judge(np.random.default_rng(1).random(errors.shape), errors)
    assert abs(blind.rank_correlation) < 0.05
    assert blind.curve[:80] == pytest.approx(1, abs=0.1)
    assert abs(blind.gain) < 0.1
    flat = judge(np.ones_like(errors), errors)
    assert math.isnan(flat.rank_correlation)
    assert flat.curve == pytest.approx(np.ones(100))
    assert flat.gain == pytest.approx(0.0)


def test_a_curve_by_hand() -> None:
    # Worst first 6, then 0, then the two that share a prediction: 1 and 3, each counted as 2.
    trust = judge(np.array([[9.0, 1.0], [1.0, 4.0]]), np.array([[6.0, 1.0], [3.0, 0.0]]))
    at = {round(share, 2): value for share, value in zip(SHARES, trust.curve, strict=True)}
    assert [at[share] for share in (0.0, 0.25, 0.5, 0.75)] == pytest.approx([1.0, 4 / 3 / 2.5, 2 / 2.5, 2 / 2.5])
    oracle = {round(share, 2): value for share, value in zip(SHARES, trust.oracle, strict=True)}
    assert [oracle[share] for share in (0.25, 0.5, 0.75)] == pytest.approx([4 / 3 / 2.5, 0.5 / 2.5, 0.0])
    assert trust.held_by_worst(0.25) == pytest.approx(0.6)
    # Ranks 4, 1.5, 1.5, 3 and 4, 2, 3, 1.
    assert trust.rank_correlation == pytest.approx(1.5 / math.sqrt(4.5 * 5))


@given(seed=st.integers(0, 1000), levels=st.integers(2, 6))
def test_no_curve_is_below_the_oracle_and_order_does_not_matter(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, error = rng.integers(0, levels, 60), rng.integers(0, 5, 60) + 0.5
    trust = judge(predicted, error)
    assert (trust.curve >= trust.oracle - 1e-9).all()
    order = rng.permutation(60)
    assert judge(predicted[order], error[order]).curve == pytest.approx(trust.curve)


def test_without_an_error_there_is_nothing_to_tell() -> None:
    trust = judge(np.arange(6.0), np.zeros(6))
    assert math.isnan(trust.rank_correlation)
    assert math.isnan(trust.ratio)
    assert math.isnan(trust.gain)
    assert (trust.curve == 1).all()


def test_an_image_is_judged_on_luminance_without_its_border(picture: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    found = to_bytes(picture + rng.normal(0, 8, picture.shape))
    error = np.abs(luminance(found) - luminance(picture))
    spoilt = error.copy()
    spoilt[:2], spoilt[:, -2:] = 1000, 1000
    trust = judge_image(spoilt, found, picture, 2)
    assert trust.rank_correlation == pytest.approx(1.0)
    assert trust.ratio == pytest.approx(1.0)
    # An equal error of all channels is an error of 219 / 255 of luminance, and so is a predicted one.
    brighter = picture // 2 + np.uint8(10)
    in_channels = np.full(picture.shape, 10.0)
    assert judge_image(in_channels, brighter, picture // 2, 2).ratio == pytest.approx(1.0)
    with pytest.raises(ValueError, match="shape"):
        judge_image(error[1:], found, picture, 2)


def test_the_curves_are_drawn(errors: np.ndarray, tmp_path: Path) -> None:
    trust = judge(errors + 1, errors)
    entry = {"curve": trust.curve.tolist(), "oracle": trust.oracle.tolist()}
    report = {"cases": {"Set14 x2": {"methods": {"ours": {"trust": {"man": entry, "zebra": entry}}}}}}
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    trust_plot.main([str(path), "Set14 x2", "Set14 x2", "-o", str(tmp_path / "trust.png")])
    picture = imread(tmp_path / "trust.png")
    assert picture.shape[1] > 1.5 * picture.shape[0]
    assert (picture[..., :3] < 100).any()
