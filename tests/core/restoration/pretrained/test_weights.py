"""The weights of the package, and those of users."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from training_cases import WEIGHTS

from napari_siren.core.pretrained_network.network import NetworkShape, PretrainedNetwork
from napari_siren.core.pretrained_network.weights import load_tensors, save_tensors
from napari_siren.core.restoration.pretrained import weights
from napari_siren.core.restoration.pretrained.weights import (
    DENOISE,
    ENLARGE,
    MICROSCOPE,
    ROBUST,
    STACK,
    find_weights,
    package_weights,
)
from napari_siren.core.restoration.self_supervised.start import SLICES
from napari_siren.errors import ConfigError, StorageError

NAMES = (ENLARGE, ROBUST, DENOISE, MICROSCOPE, STACK)
TABLE = {"auto": (DENOISE, MICROSCOPE), "general": (DENOISE,)}


def test_the_package_has_all_weights_and_no_others() -> None:
    assert {path.stem for path in WEIGHTS.glob("*.safetensors")} == {*NAMES, SLICES}


def test_the_weights_are_small() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir() if path.is_file()) <= 5e6
    for name in (*NAMES, SLICES):
        tensors, _ = load_tensors(WEIGHTS / f"{name}.safetensors")
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


def test_the_weights_load_quickly() -> None:
    weights._cached.cache_clear()
    start = time.process_time()
    for name in NAMES:
        package_weights(name)
    # Measured: 0.03 s.
    assert time.process_time() - start < 1


@pytest.mark.parametrize(("name", "inputs"), [(ENLARGE, 1), (ROBUST, 3), (DENOISE, 2), (MICROSCOPE, 2)])
def test_each_file_has_its_kind_and_hash(name: str, inputs: int) -> None:
    found = package_weights(name)
    assert (found.name, found.kind, found.network.shape.inputs) == (name, name, inputs)
    assert found.absolute == (name != MICROSCOPE)
    assert found.sha256 == hashlib.sha256((WEIGHTS / f"{name}.safetensors").read_bytes()).hexdigest()
    assert not found.network.training
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in found.network.parameters())
    assert package_weights(name) is found


def test_a_word_returns_its_candidates() -> None:
    assert [found.name for found in find_weights("auto", TABLE)] == [DENOISE, MICROSCOPE]
    assert [found.name for found in find_weights("general", TABLE)] == [DENOISE]


def test_a_file_of_a_user(tmp_path: Path) -> None:
    path = tmp_path / "my weights.safetensors"
    shutil.copy(WEIGHTS / "microscope.safetensors", path)
    [found] = find_weights(str(path), TABLE)
    assert (found.name, found.kind) == (str(path), MICROSCOPE)
    assert found.metadata() == {"weights": str(path), "sha256": package_weights(MICROSCOPE).sha256, "compared": {}}


def test_a_file_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    for i, name in enumerate((DENOISE, MICROSCOPE)):
        shutil.copyfile(WEIGHTS / f"{name}.safetensors", path)
        os.utime(path, (i, i))
        assert find_weights(str(path), TABLE)[0].kind == name


def test_a_file_without_a_kind_is_for_enlarging(tmp_path: Path) -> None:
    path = tmp_path / "first.safetensors"
    network = PretrainedNetwork(NetworkShape(8, (1,), 8), torch.Generator().manual_seed(0))
    shape = {"features": 8, "dilations": [1], "width": 8}
    save_tensors(path, dict(network.named_parameters()), {"network": shape})
    [found] = find_weights(str(path), {"auto": (ENLARGE,)})
    assert found.kind == ENLARGE


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no such file\. Choose auto, general, None, or a file of weights"):
        find_weights(str(tmp_path / "nothing.safetensors"), TABLE)
    with pytest.raises(ConfigError, match="no such file"):
        find_weights(str(tmp_path), TABLE)


def test_weights_for_another_task_are_refused() -> None:
    with pytest.raises(ConfigError, match="these weights are for enlarge, and the task needs one of denoise, microsc"):
        find_weights(str(WEIGHTS / "enlarge.safetensors"), TABLE)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.safetensors"
    path.write_text("no weights")
    with pytest.raises(StorageError, match="Choose a file of trained weights"):
        find_weights(str(path), TABLE)
