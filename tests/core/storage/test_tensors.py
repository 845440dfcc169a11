"""Files of tensors are read only with the hash of their content."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from napari_siren.core.storage.tensors import read_tensors, write_tensors
from napari_siren.errors import StorageError


def test_tensors_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x", {"a": torch.arange(3), "b": torch.tensor(True)})
    tensors = read_tensors(tmp_path / "x")
    assert tensors["a"].tolist() == [0, 1, 2]
    assert tensors["b"].item() is True


@pytest.mark.parametrize("metadata", [None, {"sha257": "0"}, {"sha256": "0"}], ids=str)
def test_tensors_without_their_hash_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"a": torch.arange(3)}, tmp_path / "x", metadata)
    with pytest.raises(StorageError, match="changed after it was written"):
        read_tensors(tmp_path / "x")
