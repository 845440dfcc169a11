"""Hostile index files and blocks of stored fields are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from napari_siren.core.field.blocks import Blocks
from napari_siren.core.field.stored import StoredField
from napari_siren.core.field.tiling import AxisTiling, Tiling
from napari_siren.core.image.axes import Axes
from napari_siren.core.image.samples import ImageLayout
from napari_siren.core.network.siren import NetworkSpec
from napari_siren.core.storage.records import with_hash
from napari_siren.core.storage.tensors import write_tensors
from napari_siren.errors import StorageError


@pytest.fixture
def stored(tmp_path: Path) -> StoredField:
    layout = ImageLayout(Axes("YX"), (16, 24), "uint8", (1.0, 1.0), (0.0,), (1.0,))
    tiling = Tiling((AxisTiling.cut(16, 8, 1.0), AxisTiling.cut(24, 8, 1.0)))
    field = StoredField(
        tmp_path, Blocks(tiling, (1, 1)), NetworkSpec(2, 1, 2, 4), 1.0, (1.0, 1.0), layout, 1, {}
    ).create()
    field.write(0, torch.zeros(2, field.network.parameters), torch.zeros(6, 1), torch.ones(6, 1), torch.tensor([0, 5]))
    return field


def test_what_was_written_opens(stored: StoredField) -> None:
    assert StoredField.open(stored.folder).render().shape == (16, 24)


@pytest.mark.parametrize("value", [None, -1, 0, "x", 10**30, "inf", [], [-1, 0], {}], ids=repr)
def test_every_entry_of_a_hostile_index_is_refused(stored: StoredField, value: Any) -> None:
    path = stored.folder / "index.json"
    index = json.loads(path.read_text())
    for key in ("kind", "format", "tiling", "network", "omega_0", "coordinate_scale", "samples_per_pixel"):
        path.write_text(json.dumps(with_hash({**index, key: value})))
        with pytest.raises(StorageError):
            StoredField.open(stored.folder)
    path.write_text(json.dumps(with_hash({**index, "blocks": value})))
    with pytest.raises(StorageError):
        StoredField.open(stored.folder)


@pytest.mark.parametrize(
    "change",
    [
        {"busy": torch.tensor([0, 6])},
        {"busy": torch.tensor([-1, 0])},
        {"busy": torch.tensor([1, 1])},
        {"busy": torch.tensor([0.0, 1.0])},
        {"offset": torch.zeros(6, 2)},
        {"scale": torch.full((6, 1), torch.nan)},
        {"theta": torch.zeros(1, 3)},
    ],
    ids=str,
)
def test_a_hostile_block_is_refused(stored: StoredField, change: dict[str, torch.Tensor]) -> None:
    tensors = {"theta": torch.zeros(2, stored.network.parameters), "busy": torch.tensor([0, 5])}
    tensors |= {"offset": torch.zeros(6, 1), "scale": torch.ones(6, 1)}
    write_tensors(stored.folder / "000000.safetensors", tensors | change)
    with pytest.raises(StorageError, match="missing or damaged"):
        StoredField.open(stored.folder).render()


def test_a_changed_byte_of_a_block_is_noticed(stored: StoredField) -> None:
    path, random = stored.folder / "000000.safetensors", np.random.default_rng(0)
    data = path.read_bytes()
    expected = stored.render()
    for position in random.integers(0, len(data), 60).tolist():
        path.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        try:
            rendered = StoredField.open(stored.folder).render()
        except StorageError:
            continue
        np.testing.assert_array_equal(rendered, expected)


def test_a_changed_entry_of_an_index_is_noticed(stored: StoredField) -> None:
    path = stored.folder / "index.json"
    index = json.loads(path.read_text())
    for change in ({"omega_0": 2.0}, {"sha256": "0"}):
        path.write_text(json.dumps({**index, **change}))
        with pytest.raises(StorageError, match="changed after it was written"):
            StoredField.open(stored.folder)
    del index["sha256"]
    path.write_text(json.dumps(index))
    with pytest.raises(StorageError, match="changed after it was written"):
        StoredField.open(stored.folder)


def test_a_damaged_block_is_not_stored(stored: StoredField) -> None:
    assert stored.has(0)
    path = stored.folder / "000000.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert not stored.has(0)
    path.unlink()
    assert not stored.has(0)
