"""Files of weights: those of earlier versions load, and others are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from training_cases import WEIGHTS

from napari_siren.core.pretrained_network.weights import load_network, save_tensors
from napari_siren.errors import StorageError


def test_trained_weights_of_before_load_and_return_the_same() -> None:
    network = load_network(WEIGHTS / "enlarge.safetensors")
    assert network.shape.inputs == 1
    generator = torch.Generator().manual_seed(0)
    image = torch.nn.functional.avg_pool2d(torch.rand(1, 40, 44, generator=generator), 5, 1)
    with torch.no_grad():
        found = network(image, (54, 60))[0, ::18, ::20]
    # By the code that trained them.
    known = [0.476391, 0.462279, 0.413641, 0.520518, 0.638178, 0.521119, 0.537535, 0.420644, 0.474308]
    assert found.flatten().tolist() == pytest.approx(known, abs=2e-5)


def test_other_files_are_refused(tmp_path: Path) -> None:
    text, other, wrong = tmp_path / "a.txt", tmp_path / "b.safetensors", tmp_path / "c.safetensors"
    text.write_text("no weights")
    save_tensors(other, {"x": torch.zeros(2)}, {})
    save_tensors(wrong, {"x": torch.zeros(2)}, {"network": {"features": 8}})
    for path in (tmp_path / "missing", text, other, wrong):
        with pytest.raises(StorageError, match="Choose a file of trained weights"):
            load_network(path)
