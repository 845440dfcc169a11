"""`python -m benchmarks.derivatives`: what it counts, its rival, and its pictures, on small images."""

from __future__ import annotations

import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from skimage.io import imsave

from benchmarks import derivatives, derivatives_pictures
from benchmarks.peer_networks import plain_siren

torch.set_num_threads(1)


@pytest.fixture
def picture() -> np.ndarray:
    """Give 40 x 36 pixels with an edge and a slope in colours."""
    rows, columns = np.indices((40, 36))
    disc = 120.0 * (np.hypot(rows - 15, columns - 18) < 10)
    channels = [60 + disc, 100 + 60 * np.sin(columns / 3), 40 + 4.0 * rows]
    return np.clip(np.rint(np.stack(channels, axis=-1)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("way", derivatives.WAYS)
def test_an_image_comes_back_from_its_derivatives(picture: np.ndarray, way: str) -> None:
    found = derivatives.ours(picture, way, "cpu")
    assert found["psnr"] > derivatives.REQUIRED
    assert found["seconds"] > 0


def test_a_constant_does_not_count_and_the_rest_does(picture: np.ndarray) -> None:
    assert derivatives.psnr(picture + np.array([5.0, -3.0, 0.0]), picture) == np.inf
    wrong = picture.astype(float)
    wrong[:20] += 10
    assert derivatives.psnr(wrong, picture) < 40


def test_the_derivatives_are_those_along_rows_and_columns() -> None:
    rows, columns = np.indices((6, 8))
    plane = (3 * rows - 2 * columns + 100).astype(np.uint8)
    assert (derivatives.numpy_gradient(plane) == np.array([3, -2])[:, None, None]).all()
    differences = derivatives.forward_differences(plane)
    assert (differences[:, :-1, :-1] == np.array([3, -2])[:, None, None]).all()
    assert not differences[0, -1].any()
    assert not differences[1, :, -1].any()
    assert not derivatives.laplacian(np.stack([plane, plane, plane], axis=-1))[1:-1, 1:-1].any()


def test_the_plain_siren_learns_from_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    # A smaller one, and faster, so that it need not be waited for.
    monkeypatch.setattr(derivatives, "plain_siren", lambda channels: plain_siren(channels, width=48, layers=3))
    monkeypatch.setattr(derivatives, "RATE", 2e-3)
    rows, columns = np.indices((24, 24))
    image = np.rint(128 + 100 * np.sin(rows / 5) * np.cos(columns / 4)).astype(np.uint8)
    begin, end = (derivatives.plain(image, "cpu", 60, steps) for steps in (0, 200))
    assert (begin["steps"], end["steps"]) == (0, 200)
    assert end["psnr"] > begin["psnr"] + 5


def test_a_small_copy_is_grey_and_square(picture: np.ndarray) -> None:
    small = derivatives.small_copy(picture, 12)
    assert (small.shape, small.dtype) == ((12, 12), np.uint8)
    assert small.mean() == pytest.approx(picture[2:38].mean(), abs=3)


def test_all_of_it(
    picture: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="--data"):
        derivatives.main(["--data", str(tmp_path)])
    (tmp_path / "kodak").mkdir()
    imsave(tmp_path / "kodak" / "kodim23.png", picture, check_contrast=False)
    monkeypatch.setattr(derivatives, "SMALL", 16)
    derivatives.main(["--data", str(tmp_path), "--json", str(tmp_path / "out" / "found.json"), "--seconds", "0.1"])
    report = json.loads((tmp_path / "out" / "found.json").read_text())
    row = report["images"]["kodim23"]
    assert set(row["ours"]) == {*derivatives.WAYS, "its pixels"}
    assert set(row["small"]) == {"ours", "plain SIREN"}
    gradients = [row["ours"][way]["psnr"] for way in ("numpy.gradient", "forward differences")]
    assert report["least_from_gradient"] == min(gradients) > derivatives.REQUIRED
    assert "required: 30 dB" in capsys.readouterr().out


def test_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    monkeypatch.setattr(derivatives_pictures, "BOATS", ((2, 2), (2, 9), (9, 9)))
    monkeypatch.setattr(derivatives_pictures, "BOATS_AT", (4, 5))
    monkeypatch.setattr(derivatives_pictures, "SHOWN", (slice(0, 20), slice(0, 24)))
    boats, lighthouse = (rng.integers(0, 256, (30, 35, 3), dtype=np.uint8) for _ in range(2))
    derivatives_pictures.blended(boats, lighthouse, tmp_path / "blended.webp", "cpu")
    derivatives_pictures.from_gradient(boats, tmp_path / "found.webp", "cpu")
    derivatives_pictures.even(lighthouse[..., 0].astype(np.uint16) * 9, tmp_path / "even.webp", "cpu")
    shapes = {path.stem: iio.imread(path).shape for path in tmp_path.iterdir()}
    assert shapes == {"blended": (42, 54, 3), "found": (52, 117, 3), "even": (37, 42, 3)}
