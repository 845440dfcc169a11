"""`python -m benchmarks.limits`: its images, and a run on small ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.io import imsave

import napari_siren as ns
from benchmarks import limits, limits_sets
from benchmarks.limits_sets import DRAWN, SCALE, Enlargement, enlargements

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with photographs of noise in two colours."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "kodak").mkdir()
    for number in ("01", "05"):
        picture = np.random.default_rng(int(number)).integers(0, 255, (40, 48, 3), dtype=np.uint8)
        large = np.asarray(Image.fromarray(picture).resize((768, 512)))
        imsave(folder / "kodak" / f"kodim{number}.png", large, check_contrast=False)
    return folder


def test_small_images_have_half_the_size(data: Path) -> None:
    for part in limits_sets.PARTS:
        images = list(enlargements(part, data))
        assert images
        for image in images:
            assert image.low.shape[:2] == tuple(n // SCALE for n in image.high.shape[:2])
            assert image.low.dtype == image.high.dtype == np.uint8
            assert image.psnr(image.high) == image.psnr_shown(image.high) == math.inf
            assert image.high[image.shown].shape[0] <= image.high.shape[0]


def test_drawn_images_are_the_same_each_time_and_have_contrast() -> None:
    first, again = list(limits_sets.drawn()), list(limits_sets.drawn())
    assert len({image.name for image in first}) == len(first) == 8
    for a, b in zip(first, again, strict=True):
        assert (a.high == b.high).all()
        assert a.high.shape == (DRAWN, DRAWN)
        assert np.ptp(a.high) > 150


def test_degradations_change_the_small_image_only(data: Path) -> None:
    images = list(limits_sets.degraded(data))
    assert [image.setting for image in images] == list(limits_sets.DEGRADATIONS)
    clean = images[0]
    errors = [np.abs(image.low.astype(int) - clean.low).mean() for image in images]
    assert errors[0] == 0
    assert 0 < errors[1] < errors[2]
    assert 0 < errors[3] < errors[4]
    assert all((image.high == clean.high).all() for image in images)


def test_the_border_does_not_count() -> None:
    high = np.full((16, 16), 100, dtype=np.uint8)
    image = Enlargement("none", "flat", high[::2, ::2], high, (slice(0, 4), slice(0, 4)))
    result = high.copy()
    result[:SCALE] = 0
    assert image.psnr(result) == math.inf
    assert image.psnr_shown(result) < math.inf
    result[SCALE, SCALE] = 0
    assert image.psnr(result) < math.inf


def test_methods_keep_units_and_size() -> None:
    rows = np.arange(16, dtype=np.float32)[:, np.newaxis] + np.zeros((16, 16), dtype=np.float32)
    for low in (100 * rows, (10 * rows).astype(np.uint8), np.stack([(10 * rows).astype(np.uint8)] * 3, axis=-1)):
        fine = limits.bicubic(low)
        assert fine.dtype == low.dtype
        assert fine.shape == (32, 32, *low.shape[2:])
        assert fine.astype(float).mean() == pytest.approx(low.astype(float).mean(), rel=0.01)
    assert list(limits.methods("failures", "cpu")) == ["bicubic", "auto", "denoised first", "None"]
    assert list(limits.methods("degraded", "cpu")) == ["bicubic", "auto", "robust"]


def test_a_run_is_written_printed_and_drawn(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(limits_sets, "CROP", 64)
    monkeypatch.setattr(limits_sets, "DRAWN", 32)
    high = np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8)
    failure = Enlargement("some", "noise", limits_sets.small(high), high, (slice(4, 20), slice(4, 20)))
    counts = np.linspace(0, 5000, 1024).reshape(32, 32)
    micrograph = Enlargement("few photons", "ramp", counts[::2, ::2].astype(np.float32), counts, peak=5000)
    monkeypatch.setattr(limits_sets, "failures", lambda data: iter([failure, micrograph]))
    path, picture = tmp_path / "out" / "limits.json", tmp_path / "failures.webp"
    flags = ["--data", str(data), "--json", str(path), "--picture", str(picture)]
    limits.main([*flags, "--parts", "failures", "degraded", "--only", "bicubic", "auto"])
    report = json.loads(path.read_text(encoding="utf-8"))
    assert list(report["parts"]) == ["failures", "degraded"]
    rows = report["parts"]["failures"]["some"]["noise"]
    assert list(rows) == ["bicubic", "auto"]
    assert rows["bicubic"]["psnr"] == failure.psnr(limits.bicubic(failure.low))
    with Image.open(picture) as sheet:
        assert sheet.width >= 4 * 32
    printed = capsys.readouterr().out
    assert "JPEG 50" in printed
    assert f"{rows['auto']['shown']:.2f}" in printed


def test_the_settings_are_passed_to_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[dict[str, object]] = []
    fit = ns.fit

    def quick(image: np.ndarray, **options: object) -> ns.FitResult:
        requests.append(options)
        return fit(image, preset="fast", max_steps=2)

    monkeypatch.setattr(ns, "fit", quick)
    for way in limits.methods("failures", "cpu").values():
        assert way(np.eye(16, dtype=np.uint8)).shape == (32, 32)
    assert [request["preset"] for request in requests] == ["upscale", "denoise", "upscale", "upscale"]
    assert "pretrained" in requests[-1]
    assert requests[-1]["pretrained"] is None


def test_missing_methods_are_reported() -> None:
    with pytest.raises(SystemExit, match="nothing like it"):
        limits.main(["--only", "nothing like it"])
