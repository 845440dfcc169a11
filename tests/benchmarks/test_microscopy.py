"""The cases of `python -m benchmarks.microscopy`, its rivals on easy input, and what it reports."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.io import imsave
from tifffile import imwrite

import napari_siren as ns
from benchmarks import microscopy
from benchmarks import microscopy_rivals as rivals
from benchmarks.micro_ssim import micro_ssim
from benchmarks.microscopy_sets import (
    FINE,
    KINDS,
    PHOTONS,
    PLANES,
    STACKS,
    Case,
    Given,
    averaged,
    box,
    burst,
    cases,
    in_units_of,
    planes,
    score,
    with_photon_noise,
)


def smooth(shape: tuple[int, ...], width: float, seed: int = 0) -> np.ndarray:
    """Give a scene of soft spots, 0 to 1000."""
    values = gaussian_filter(np.random.default_rng(seed).normal(size=shape), width, mode="wrap")
    scene: np.ndarray = 1000 * (values - values.min()) / np.ptp(values)
    return scene


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with small files of the names that the benchmark reads."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("microscopy", "kodak", "div2k16"):
        (folder / name).mkdir()
    for seed, (file, _) in enumerate(STACKS.values()):
        imwrite(folder / "microscopy" / file, smooth((14, 16, 20), 2.0, seed).astype(np.uint16))
    for seed, (file, axes, _) in enumerate(PLANES.values()):
        shape = {"YX": (61, 66), "CYX": (2, 60, 64), "YXC": (60, 64, 3)}[axes]
        imwrite(folder / "microscopy" / file, smooth(shape, 2.0, seed).astype(np.uint16))
    mean = smooth((32, 36), 2.0) * 0.255
    noise = np.random.default_rng(0).normal(0, 8, mean.shape)
    imwrite(folder / "microscopy" / "target_avg400_001_0.tif", mean.astype(np.uint8))
    imwrite(folder / "microscopy" / "input_avg1_001_0.tif", np.clip(0.6 * mean + 30 + noise, 0, 255).astype(np.uint8))
    blurred, bars, psf = deconvolution()
    for part, values in (("data", blurred), ("actual", bars), ("kernel", psf)):
        imwrite(folder / "microscopy" / f"bars-25pct_{part}.tif", values)
    imsave(folder / "kodak" / "kodim05.png", smooth((80, 92, 3), 2.0).astype(np.uint8), check_contrast=False)
    return folder


def deconvolution() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give bars as they are seen, 24 times as bright; the bars; and the PSF, not normalised, its point at n // 2."""
    bars = np.zeros((12, 24, 24))
    bars[5:7, 8:10, 6:18] = bars[5:7, 14:16, 6:18] = 1000
    point = np.zeros(bars.shape)
    point[6, 12, 12] = 1.0
    seen, psf = (gaussian_filter(values, 1.2, mode="wrap") for values in (bars, point))
    return (24 * seen).astype(np.float32), bars.astype(np.float32), (500 * psf).astype(np.float32)


@pytest.fixture(scope="module")
def every(data: Path) -> list[Case]:
    return [case for kind in KINDS for case in cases(kind, data)]


# ---- the cases -------------------------------------------------------------------------------------------------------


def test_all_kinds_have_their_cases(every: list[Case]) -> None:
    counts = {kind: sum(case.kind == kind for case in every) for kind in KINDS}
    # Four stacks in two and in four ways; three images and the channels of three, in two ways; bursts of four scenes.
    assert counts == {"missing": 8, "thick": 16, "plane": 2 * 10, "denoise": 1, "blur": 1, "burst": 4}
    names = [(case.kind, case.setting, case.name) for case in every]
    assert len(set(names)) == len(names)


def test_the_truth_shows_what_the_input_was_made_of(every: list[Case]) -> None:
    for case in every:
        given = case.given
        if case.kind == "missing":
            assert given.missing is not None
            assert (given.image[~given.missing] == case.truth[~given.missing]).all()
            assert (given.image[given.missing] == 0).all()
            assert not given.missing[[0, -1]].any()
            assert given.image.dtype == case.truth.dtype == np.uint16
        elif case.kind in ("thick", "plane"):
            clean = averaged(case.truth, given.scale)
            if "photons" in case.setting:
                assert 0 < np.abs(given.image - clean).mean() < 0.2 * case.peak
            else:
                assert (given.image == clean).all()
        elif case.kind == "burst":
            # The first frame has not drifted: the truth, seen by it.
            assert given.image[0] - averaged(case.truth, given.scale) == pytest.approx(0, abs=0.12 * case.peak)


def test_spacings_follow_the_averages(every: list[Case]) -> None:
    for case in every:
        if case.kind == "thick":
            voxel = STACKS[case.name][1]
            assert case.given.spacing == (voxel[0] * case.given.scale[0], *voxel[1:])


def test_a_single_frame_and_its_truth_have_one_unit(every: list[Case]) -> None:
    case = next(case for case in every if case.kind == "denoise")
    residual = case.given.image - case.truth
    # Noise of 8, and what the files were rounded by.
    assert residual.std() == pytest.approx(8, rel=0.1)
    assert abs(residual.mean()) < 0.5


@drawn(gain=st.floats(0.3, 2.0), offset=st.floats(-50, 50))
def test_the_line_between_two_units_is_found(gain: float, offset: float) -> None:
    mean = smooth((24, 24), 1.0)
    frame = gain * mean + offset
    assert in_units_of(frame, mean) == pytest.approx(frame, abs=1e-2)


def test_bars_keep_the_flux_and_the_psf_has_a_sum_of_one(every: list[Case]) -> None:
    case = next(case for case in every if case.kind == "blur")
    assert case.given.psf is not None
    assert float(case.given.psf.sum()) == pytest.approx(1)
    assert float(case.truth.sum()) == pytest.approx(float(case.given.image.sum()), rel=1e-4)


def test_what_does_not_fit_is_refused() -> None:
    image = np.zeros((4, 6))
    with pytest.raises(ValueError, match="some"):
        Case("plane", "x2", "some", Given(image, "YX", (1.0, 1.0), (2, 2)), image)
    with pytest.raises(ValueError, match="spacings"):
        Case("plane", "x1", "some", Given(image, "YX", (1.0,), (1, 1)), image)
    with pytest.raises(ValueError, match="missing"):
        Case("plane", "x1", "some", Given(image, "YX", (1.0, 1.0), (1, 1), missing=np.zeros(4, dtype=bool)), image)


# ---- noise and drift -------------------------------------------------------------------------------------------------


def test_photons_are_counted() -> None:
    image = np.linspace(200, 1200, 5)[:, np.newaxis] * np.ones(40_000)
    noisy = with_photon_noise(image, 1)
    assert noisy == pytest.approx(with_photon_noise(image, 1))
    assert not np.array_equal(noisy, with_photon_noise(image, 2))
    assert noisy.mean(axis=1) == pytest.approx(image[:, 0], rel=0.01)
    shares = np.linspace(0, 1, 5)
    assert noisy.std(axis=1) / 1000 == pytest.approx(np.sqrt(shares / PHOTONS), abs=2e-3)
    flat = np.full((4, 4), 7.0)
    assert (with_photon_noise(flat, 0) == flat).all()


@drawn(begin=st.floats(0, 6), count=st.integers(1, 4), width=st.integers(1, 4))
def test_boxes_are_integrals(begin: float, count: int, width: int) -> None:
    weights = box(begin, count, 30, width)
    assert weights.sum(axis=1) == pytest.approx(np.ones(count))
    # The mean of a ramp over a box lies at its middle.
    middle = begin + width * (np.arange(count) + 0.5)
    inner = weights @ (np.arange(30) + 0.5)
    # Squares of constant light: within a pixel the ramp is a step.
    assert np.abs(inner - middle).max() <= 0.25 / width + 1e-9
    assert box(3.0, count, 30, width) @ (np.arange(30) + 0.5) == pytest.approx(3.0 + width * (np.arange(count) + 0.5))


def test_frames_are_the_scene_at_their_drifts() -> None:
    rows = np.arange(128.0)[:, np.newaxis] * np.ones(128)
    frames, truth, drift = burst(rows, seed=3, noise=0.0)
    assert frames.shape[1] * 2 == truth.shape[0]
    assert (drift[0] == 0).all()
    assert np.abs(drift).max() > 0.5
    moved = (frames - frames[0])[:, 2:-2].mean(axis=(1, 2)) / FINE
    assert moved == pytest.approx(drift[:, 0], abs=0.07)
    assert averaged(truth, (2, 2)) == pytest.approx(frames[0], rel=1e-5)


# ---- the score -------------------------------------------------------------------------------------------------------


def test_only_missing_slices_count(every: list[Case]) -> None:
    case = next(case for case in every if case.kind == "missing")
    assert case.given.missing is not None
    other = np.where(case.given.missing, case.truth, 0)
    assert score(other, case).psnr == math.inf
    assert score(other, case).ssim == pytest.approx(1)
    assert score(case.truth + 0.01 * case.peak, case).psnr == pytest.approx(40)
    with pytest.raises(ValueError, match="the result is"):
        score(other[1:], case)


def test_micro_ssim_is_that_of_its_package() -> None:
    pytest.importorskip("microssim")
    truth = smooth((2, 48, 48), 2.0)
    noise = np.random.default_rng(0).normal(0, 40, truth.shape)
    # Another unit and another background are matched.
    assert micro_ssim(truth, 0.3 * truth + 500) == pytest.approx(1, abs=1e-6)
    assert 0.1 < (micro_ssim(truth, truth + noise) or 0) < 0.95
    assert (micro_ssim(truth, truth + noise) or 0) < (micro_ssim(truth, gaussian_filter(truth + noise, (0, 1, 1))) or 0)


def test_without_its_package_micro_ssim_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.micro_ssim.find_spec", lambda name: None)
    assert micro_ssim(*smooth((2, 1, 16, 16), 2.0)) is None
    assert microscopy.cell({"psnr": 40.0, "ssim": 0.9, "micro_ssim": None, "seconds": 1.0}) == "40.00  0.9000  1 s"
    found = microscopy.cell({"psnr": 40.0, "ssim": 0.9, "micro_ssim": 0.8, "seconds": 1.0})
    assert found == "40.00  0.9000  0.8000  1 s"


# ---- the rivals ------------------------------------------------------------------------------------------------------


def with_missing(truth: np.ndarray, step: int) -> Given:
    missing = np.ones(truth.shape, dtype=bool)
    missing[::step] = False
    return Given(np.where(missing, 0.0, truth), "ZYX", (1.0, 1.0, 1.0), (1, 1, 1), missing)


STACK_RIVALS = {name: way for name, way in microscopy.methods("missing", "cpu").items() if name != microscopy.OURS}


@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize("name", STACK_RIVALS)
def test_missing_slices_of_easy_stacks_are_exact(name: str, step: int) -> None:
    way = STACK_RIVALS[name]
    ramp = 5.0 + 3.0 * np.arange(13)[:, np.newaxis, np.newaxis] * np.ones((13, 8, 9))
    for truth in (ramp, np.full(ramp.shape, 42.0)):
        given = with_missing(truth, step)
        found, _ = way(Case("missing", "", "", given, truth))
        # Smoothing along z may bend a ramp at its ends.
        inner = slice(step, -step) if "smoothed" in name else slice(None)
        assert found[inner] == pytest.approx(truth[inner], abs=1e-6 if "smoothed" not in name else 1.0)


@pytest.mark.parametrize("order", [rivals.LINEAR, rivals.CUBIC])
def test_thick_slices_lie_at_their_middles(order: int) -> None:
    truth = np.arange(32.0)[:, np.newaxis, np.newaxis] * np.ones((32, 5, 6))
    found = rivals.interpolated(Given(averaged(truth, (4, 1, 1)), "ZYX", (4.0, 1.0, 1.0), (4, 1, 1)), order)
    assert found.shape == truth.shape
    assert found[8:-8] == pytest.approx(truth[8:-8], abs=0.06)


@pytest.mark.parametrize("name", [n for n in microscopy.methods("plane", "cpu") if n != microscopy.OURS])
def test_planes_lie_on_their_centres(name: str) -> None:
    truth = (2.0 * np.arange(40)[:, np.newaxis] + np.arange(44)).astype(np.float32)
    case = Case("plane", "", "", Given(averaged(truth, (2, 2)), "YX", (1.0, 1.0), (2, 2)), truth)
    found, _ = microscopy.methods("plane", "cpu")[name](case)
    assert found.shape == truth.shape
    assert abs(float((found - truth)[10:-10, 10:-10].mean())) < 0.05


def test_the_blind_widths_grow_with_the_noise() -> None:
    clean = smooth((16, 24, 24), 2.5)
    noise = np.random.default_rng(1).normal(size=clean.shape)
    for choose in (rivals.by_pixels, rivals.by_slices):
        widths = [choose(clean + level * noise, rivals.CUBIC) for level in (0, 50, 500)]
        assert widths[0][1] < widths[1][1] <= widths[2][1], choose
        assert widths[0][0] <= widths[2][0]


def test_smoothing_pays_where_there_is_noise() -> None:
    truth = smooth((17, 24, 24), 2.5)
    given = with_missing(truth + np.random.default_rng(2).normal(0, 100, truth.shape), 2)
    plain = rivals.interpolated(given, rivals.CUBIC)
    for choose in (rivals.by_pixels, rivals.by_slices):
        found = rivals.smoothed_and_interpolated(given, rivals.CUBIC, choose)
        assert np.square(found - truth).mean() < 0.5 * np.square(plain - truth).mean()


@pytest.mark.parametrize("name", [n for n in microscopy.methods("denoise", "cpu") if n in rivals.DENOISERS])
def test_denoisers_denoise_and_leave_a_constant(name: str) -> None:
    truth = smooth((32, 32), 3.0)
    noisy = truth + np.random.default_rng(3).normal(0, 100, truth.shape)
    found = rivals.denoised(Given(noisy, "YX", (1.0, 1.0), (1, 1)), name)
    assert np.square(found - truth).mean() < 0.6 * 100**2
    flat = np.full((16, 16), 9, dtype=np.uint8)
    assert (rivals.denoised(Given(flat, "YX", (1.0, 1.0), (1, 1)), name) == 9).all()


@pytest.mark.parametrize("name", ["Gaussian", "total variation"])
def test_the_blind_strength_grows_with_the_noise(name: str) -> None:
    denoiser, choices = rivals.DENOISERS[name]
    key = next(iter(choices))
    truth = smooth((48, 48), 2.5) / 1000
    noise = np.random.default_rng(4).normal(size=truth.shape)
    least, some, most = (
        rivals.blind_settings(truth + level * noise, denoiser, choices)[key] for level in (0.0, 0.1, 0.4)
    )
    assert least < some < most


def test_richardson_lucy_sharpens_in_place_and_knows_when_to_stop(every: list[Case]) -> None:
    case = next(case for case in every if case.kind == "blur")
    found, iterations = rivals.best_richardson_lucy(case.given, case.truth)
    assert iterations in rivals.ITERATIONS
    assert score(found, case).psnr > score(case.given.image, case).psnr + 2
    # Where the bars are: a PSF off by a voxel moves them.
    middles = [np.average(np.indices(values.shape)[0], weights=values) for values in (found, case.truth)]
    assert middles[0] == pytest.approx(middles[1], abs=0.05)
    with pytest.raises(ValueError, match="PSF"):
        rivals.best_richardson_lucy(replace(case.given, psf=None), case.truth)


@pytest.fixture(scope="module")
def drifting() -> tuple[Given, np.ndarray, np.ndarray]:
    """Give a burst without noise, its truth and its drifts."""
    frames, truth, drift = burst(smooth((260, 240), 8.0), seed=5, noise=0.0)
    return Given(frames, "TYX", (1.0, 1.0), (2, 2)), truth, drift


def test_drifts_are_found(drifting: tuple[Given, np.ndarray, np.ndarray]) -> None:
    given, _, drift = drifting
    assert rivals.drifts(given.image) == pytest.approx(drift, abs=0.06)


@pytest.mark.parametrize("way", [rivals.shift_and_add, rivals.mean_of_aligned])
def test_a_burst_is_put_together(
    way: Callable[[Given], np.ndarray],
    drifting: tuple[Given, np.ndarray, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, truth, _ = drifting
    inner = (slice(8, -8),) * 2
    error = np.square(way(given) - truth)[inner].mean() / np.square(truth - truth.mean()).mean()
    assert error < 2e-3
    still = replace(given, image=np.full((3, 20, 22), 5.0, dtype=np.float32))
    monkeypatch.setattr(rivals, "drifts", lambda frames: np.array([[0, 0], [0.25, -0.25], [-1.1, 0.7]]))
    assert way(still) == pytest.approx(5.0)


def test_shift_and_add_is_exact_where_pixels_meet_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    drift = np.array([[a, b] for a in (-0.25, 0.25) for b in (-0.25, 0.25)])
    rows = np.arange(20)[:, np.newaxis]
    frames = np.stack([3.0 * (rows + a) + np.arange(22) + b for a, b in drift])
    truth = 3.0 * ((np.arange(40)[:, np.newaxis] + 0.5) / 2 - 0.5) + (np.arange(44) + 0.5) / 2 - 0.5
    monkeypatch.setattr(rivals, "drifts", lambda frames: drift)
    assert rivals.shift_and_add(Given(frames, "TYX", (1.0, 1.0), (2, 2))) == pytest.approx(truth)


# ---- the run ---------------------------------------------------------------------------------------------------------


def test_a_run_is_written_and_printed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shifted(case: Case, by: float) -> tuple[np.ndarray, dict[str, Any]]:
        return case.truth + by * case.peak, {"by": by}

    ways: dict[str, microscopy.Method] = {
        "bad": lambda case: shifted(case, 0.1),
        "good": lambda case: shifted(case, 0.01),
        "ours": lambda case: shifted(case, 0.001 if case.name == "spots" else 0.1),
    }
    monkeypatch.setattr(microscopy, "methods", lambda kind, device, noise2void_python: ways)
    path = tmp_path / "out" / "microscopy.json"
    flags = ["--data", str(data), "--json", str(path), "--images", "spots", "golgi_bfa"]
    microscopy.main([*flags, "--kinds", "missing", "denoise"])
    report = json.loads(path.read_text(encoding="utf-8"))
    assert list(report["kinds"]) == ["missing"]
    for rows in report["kinds"]["missing"].values():
        assert rows["good"]["mean"]["psnr"] == pytest.approx(40)
        assert rows["bad"]["images"]["spots"]["by"] == 0.1
        assert rows["ours"]["gains"]["bad"] == pytest.approx({"mean": 20, "least": 0})
        assert rows["ours"]["gains"]["good"] == pytest.approx({"mean": 0, "least": -20})
    told = capsys.readouterr().out
    assert "+20.00 (+0.00)" in told
    assert "40.00" in told

    microscopy.main([*flags, "--kinds", "thick", "--only", "good"])
    report = json.loads(path.read_text(encoding="utf-8"))
    assert all(list(rows) == ["good"] for rows in report["kinds"]["thick"].values())


def test_what_is_not_there_is_said(data: Path, tmp_path: Path) -> None:
    flags = ["--json", str(tmp_path / "some.json")]
    with pytest.raises(SystemExit, match="shift-and-add"):
        microscopy.main([*flags, "--data", str(data), "--only", "nothing like it"])
    with pytest.raises(SystemExit, match="--data"):
        microscopy.main([*flags, "--data", str(tmp_path)])


def test_kinds_without_a_chosen_method_are_left_out(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    microscopy.main(["--data", str(data), "--json", str(path), "--only", "shift-and-add", "--images", "kodim05"])
    report = json.loads(path.read_text(encoding="utf-8"))
    assert list(report["kinds"]) == ["burst"]


def test_ours_run_through_the_public_interface(every: list[Case], monkeypatch: pytest.MonkeyPatch) -> None:
    fit = ns.fit
    asked: list[str] = []

    def short(image: np.ndarray, *given: Any, **options: Any) -> ns.FitResult:
        asked.append(options["preset"])
        few = 2 if options["preset"] in ("burst", "deblur") else 0
        return fit(image, *given, **{**options, "task_steps": few, "max_steps": 2})

    # `ns.upscale` calls the module's own.
    monkeypatch.setattr(ns, "fit", short)
    # First that of `series`, which takes the other one when it is imported.
    monkeypatch.setattr("napari_siren.core.series.fit.fit", short)
    monkeypatch.setattr("napari_siren.core.shortcuts.fit", short)
    for kind in KINDS:
        case = next(case for case in every if case.kind == kind)
        ours = {name: way for name, way in microscopy.methods(kind, "cpu").items() if name.startswith(microscopy.OURS)}
        assert len(ours) == 1 + (kind == "burst")
        for way in ours.values():
            found, _ = way(case)
            assert math.isfinite(score(found, case).psnr)
    assert asked == ["upscale", "upscale", "upscale", "denoise", "deblur", "burst", "upscale"]


def test_channels_are_images(data: Path) -> None:
    names = [name for name, _, _ in planes(data)]
    assert names.count("hela 0") == names.count("hela 2") == names.count("neuron 1") == 1
    assert all(plane.ndim == 2 for _, plane, _ in planes(data))
