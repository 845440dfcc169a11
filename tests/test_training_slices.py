"""The training of the start for slices: its pairs, its course and its command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from napari_siren.core.pretrained_network.weights import load_tensors
from napari_siren.core.pretraining.photographs import Photographs
from napari_siren.core.restoration.self_supervised.axial import AxialSuperResolution
from napari_siren.core.restoration.self_supervised.start import LearnedStart
from training import slices


def picture(seed: int, side: int = 150) -> npt.NDArray[np.uint8]:
    """Return overlapping bright rectangles, in colour."""
    rng = np.random.default_rng(seed)
    image = np.zeros((side, side, 3), np.uint8)
    for _ in range(20):
        row, column = rng.integers(side, size=2)
        image[row : row + 30, column : column + 30] = rng.integers(256, size=3)
    return image


@pytest.fixture
def photographs() -> Photographs:
    return Photographs([picture(0), picture(1)], 0.0, 136, torch.device("cpu"))


def test_pairs_are_micrographs_and_what_splines_lack(photographs: Photographs) -> None:
    for seed in range(8):
        pairs = slices.Pairs.draw(photographs, np.random.default_rng(seed))
        assert pairs.sources.shape[0] == pairs.details.shape[0] == 4
        assert pairs.details.shape[1] == len(pairs.positions)
        assert 6 <= pairs.sources.shape[1] <= 24
        assert pairs.sources.abs().max() < 2
        assert 0 < pairs.details.abs().mean() < 0.3


def test_a_training_reduces_the_error(photographs: Photographs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "_VALIDATION_STEPS", 2)
    monkeypatch.setattr(slices, "_WARM_UP", 5)
    training = slices.Training(photographs, photographs)
    pairs = slices.Pairs.draw(photographs, np.random.default_rng(3))
    monkeypatch.setattr(slices.Pairs, "draw", lambda *_, **__: pairs)
    before = pairs.errors(training.network).square().mean()
    for step in range(20):
        training.step(step / 20)
    after = pairs.errors(training.network).square().mean()
    assert after < 0.9 * before


def test_the_command_writes_weights_for_the_slices_of_a_stack(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for number in range(2):
        Image.fromarray(picture(number, 300)).save(data / f"{number}.png")
    slices.main(["--data", str(data), "--minutes", "0.002", "--out", str(out)])
    tensors, metadata = load_tensors(out / "slices.safetensors")
    assert metadata["steps"] >= 1
    assert metadata["data"] in (out / "slices.md").read_text()
    start = LearnedStart("slices", "", {name: tensor.float() for name, tensor in tensors.items()})
    restorer = AxialSuperResolution(torch.zeros(1, 4, 20, 20), slice(0, 4, 1), 2.0, False, start=start)
    assert torch.equal(restorer.network.kernels[0], start.tensors["kernels.0"])


def test_the_command_reports_a_wrong_folder(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="has no images"):
        slices.main(["--data", str(tmp_path)])
