"""Files of weights with hostile sizes are refused before a network is made."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from napari_siren.core.pretrained_network.network import NetworkShape, PretrainedNetwork
from napari_siren.core.pretrained_network.weights import load_network, save_tensors
from napari_siren.errors import StorageError

SHAPE = NetworkShape(features=8, dilations=(1, 2), width=16, layers=2)


@pytest.mark.parametrize("name", asdict(SHAPE))
@pytest.mark.parametrize("value", [None, 0, -1, 3.5, 10**9, "x", [], [10**9], {}], ids=repr)
def test_hostile_sizes_are_refused(tmp_path: Path, name: str, value: Any) -> None:
    tensors = dict(PretrainedNetwork(SHAPE, torch.Generator()).state_dict())
    save_tensors(tmp_path / "x.safetensors", tensors, {"network": {**asdict(SHAPE), name: value}})
    with pytest.raises(StorageError, match="does not hold the weights"):
        load_network(tmp_path / "x.safetensors")


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    tensors = dict(PretrainedNetwork(SHAPE, torch.Generator()).state_dict())
    save_tensors(tmp_path / "x.safetensors", tensors, {"network": asdict(SHAPE)})
    load_network(tmp_path / "x.safetensors")
    tensors["kernels"] = torch.full_like(tensors["kernels"], torch.nan)
    save_tensors(tmp_path / "x.safetensors", tensors, {"network": asdict(SHAPE)})
    with pytest.raises(StorageError, match="does not hold the weights"):
        load_network(tmp_path / "x.safetensors")
