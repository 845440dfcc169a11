"""`python -m benchmarks.denoise`: its noise, its protocol, the other methods, and a run on small images."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import gaussian_filter
from skimage.io import imsave

import napari_siren as ns
from benchmarks import bm3d_process, denoise
from benchmarks.denoise_sets import NOISES, WHITE, Case, Noise, cases, grey_middle
from benchmarks.microscopy_rivals import usable_denoisers

torch.set_num_threads(1)


def smooth(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Return a smooth image with values from 20 to 220."""
    values = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3.0)
    return 20 + 200 * (values - values.min()) / np.ptp(values)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two photographs, and a frame of a micrograph with its mean."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "kodak").mkdir()
    (folder / "microscopy").mkdir()
    for number in (1, 3):
        picture = np.stack([smooth((40, 36), number + k) for k in range(3)], axis=-1).astype(np.uint8)
        imsave(folder / "kodak" / f"kodim0{number}.png", picture, check_contrast=False)
    mean = smooth((32, 32), 9)
    frame = np.clip(0.5 * mean + np.random.default_rng(0).normal(0, 15, mean.shape), 0, 255)
    for name, image in (("input_avg1", frame), ("target_avg400", mean)):
        tifffile.imwrite(folder / "microscopy" / f"{name}_010_0.tif", image.astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def photograph(data: Path) -> Case:
    """Return a photograph with the noise of sigma 25."""
    return next(case for case in cases("photographs", data) if case.setting == "sigma 25")


def test_each_noise_has_its_variance() -> None:
    image = np.full((200, 200), 100.0)
    for noise in NOISES.values():
        noisy = noise.added(image, 0)
        assert noisy.mean() == pytest.approx(100, abs=1)
        assert noisy.var() == pytest.approx(noise.gain * 100 + noise.deviation**2, rel=0.05)
        np.testing.assert_array_equal(noisy, noise.added(image, 0))
        assert not np.array_equal(noisy, noise.added(image, 1))


def test_photographs_are_grey_and_have_every_noise(data: Path) -> None:
    found = list(cases("photographs", data))
    assert [case.setting for case in found[::2]] == list(NOISES)
    assert {case.name for case in found} == {"kodim01", "kodim03"}
    assert all(case.peak == WHITE and case.noise is not None for case in found)
    assert len(list(cases("photographs", data, count=1))) == len(NOISES)
    grey = np.full((300, 400, 3), 77, dtype=np.uint8)
    assert grey_middle(grey).shape == (256, 300)
    assert grey_middle(grey) == pytest.approx(77)


def test_micrographs_are_compared_in_the_units_of_the_frame(data: Path) -> None:
    (case,) = cases("micrographs", data)
    assert case.noise is None
    assert case.peak == pytest.approx(100, rel=0.2)
    assert case.psnr(case.truth) == math.inf
    with pytest.raises(ValueError, match="the result is"):
        case.psnr(case.truth[1:])


def test_other_methods_denoise_with_the_best_setting(photograph: Case) -> None:
    noisy = photograph.psnr(photograph.noisy)
    for name in usable_denoisers(denoise.RIVALS):
        result, details = denoise.best_by_truth(photograph, name)
        assert photograph.psnr(result) > noisy + 3
        assert details["settings"]
        assert 0 < details["seconds"] < 5
    flat = Case("photographs", "none", "flat", np.full((16, 16), 9.0), np.full((16, 16), 9.0), WHITE, None)
    assert denoise.best_by_truth(flat, "Gaussian")[0] == pytest.approx(9)


def test_the_transform_of_photons_has_unit_variance_and_an_unbiased_inverse() -> None:
    noise = NOISES["60 photons + 2 e"]
    for signal in (30.0, 120.0, 240.0):
        noisy = noise.added(np.full((400, 400), signal), 3)
        transformed = denoise.anscombe(noisy, noise)
        assert transformed.std() == pytest.approx(1, abs=0.03)
        # A perfect denoiser returns the mean of the transformed values.
        assert denoise.inverse_anscombe(np.array(transformed.mean()), noise) == pytest.approx(signal, rel=0.02)
    assert denoise.inverse_anscombe(np.array(0.0), noise) == 0


def test_bm3d_runs_in_another_python(photograph: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A package of this name that smooths.
    (tmp_path / "bm3d.py").write_text(
        "from scipy.ndimage import gaussian_filter\ndef bm3d(values, sigma):\n    return gaussian_filter(values, 2)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result, details = denoise.by_bm3d(photograph, Path(sys.executable))
    assert photograph.psnr(result) > photograph.psnr(photograph.noisy) + 3
    assert set(details) == set(denoise.TIMES)
    assert photograph.noise is not None
    photons = Case("photographs", "photons", "some", photograph.truth, photograph.truth, WHITE, Noise(4.0, 8.0))
    result, _ = denoise.by_bm3d(photons, Path(sys.executable))
    assert result.mean() == pytest.approx(photons.truth.mean(), rel=0.05)
    assert "bm3d" not in (bm3d_process.__dict__)
    unknown = Case("micrographs", "some", "some", photograph.noisy, photograph.truth, WHITE, None)
    result, _ = denoise.by_bm3d(unknown, Path(sys.executable))
    assert result.mean() == pytest.approx(unknown.truth.mean(), rel=0.05)
    assert "BM3D, noise estimated by ours" in denoise.methods("micrographs", "cpu", Path(sys.executable))


def test_the_noise_of_micrographs_is_estimated() -> None:
    signal = np.tile(np.repeat(np.linspace(10, 200, 16), 8), (128, 1))
    photons = 2.0 * np.random.default_rng(0).poisson(signal) + 100
    noise, dark = denoise.estimated_noise(photons)
    assert noise.gain == pytest.approx(2, rel=0.15)
    assert dark == pytest.approx(100, abs=40)
    white = np.random.default_rng(0).normal(50, 3, (64, 64))
    assert denoise.estimated_noise(white)[0].deviation == pytest.approx(3, rel=0.2)


def test_ours_is_the_preset_with_and_without_the_camera(photograph: Case) -> None:
    ways = denoise.methods("photographs", "cpu", None)
    assert [name for name in ways if name.startswith(denoise.OURS)] == ["ours, blind", "ours, noise given"]
    blind, details = ways["ours, blind"](photograph)
    given, _ = ways["ours, noise given"](photograph)
    expected = ns.fit(photograph.noisy, preset="denoise").reconstruction
    np.testing.assert_allclose(blind, expected, atol=1e-3)
    assert details["weights"] in ("denoise", "microscope")
    for result in (blind, given):
        assert photograph.psnr(result) > photograph.psnr(photograph.noisy) + 3


def test_a_run_is_written_and_printed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def shifted(case: Case, by: float) -> tuple[np.ndarray, dict[str, Any]]:
        return case.truth + by * case.peak, {"by": by}

    ways: dict[str, denoise.Method] = {"bad": lambda case: shifted(case, 0.1), "good": lambda case: shifted(case, 0.01)}
    monkeypatch.setattr(denoise, "methods", lambda kind, device, bm3d: ways)
    path = tmp_path / "out" / "denoise.json"
    denoise.main(["--data", str(data), "--json", str(path)])
    report = json.loads(path.read_text(encoding="utf-8"))
    assert list(report["kinds"]) == ["photographs", "micrographs"]
    assert list(report["kinds"]["photographs"]) == list(NOISES)
    for settings in report["kinds"].values():
        for rows in settings.values():
            assert rows["good"]["mean"]["psnr"] == pytest.approx(40)
            assert set(rows["bad"]["mean"]) == {"psnr", *denoise.TIMES}
    printed = capsys.readouterr().out
    assert "40.00" in printed
    assert "010_0" in printed
    denoise.main(["--data", str(data), "--json", str(path), "--only", "good", "--kinds", "micrographs"])
    report = json.loads(path.read_text(encoding="utf-8"))
    assert [list(rows) for rows in report["kinds"]["micrographs"].values()] == [["good"]]


def test_kinds_without_a_chosen_method_are_left_out(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    denoise.main(["--data", str(data), "--json", str(path), "--images", "1", "--only", "ours, noise given"])
    assert list(json.loads(path.read_text(encoding="utf-8"))["kinds"]) == ["photographs"]


def test_missing_images_and_methods_are_reported(data: Path, tmp_path: Path) -> None:
    flags = ["--json", str(tmp_path / "some.json")]
    with pytest.raises(SystemExit, match="ours, blind"):
        denoise.main([*flags, "--data", str(data), "--only", "nothing like it"])
    with pytest.raises(SystemExit, match="--data"):
        denoise.main([*flags, "--data", str(tmp_path), "--only", "noisy"])
