"""Files of tensors with a hash of their content, to detect damage."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from napari_siren.core.storage.atomic import atomic_write
from napari_siren.core.storage.records import describe_error
from napari_siren.errors import StorageError


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors atomically as safetensors, with a hash of their content.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path) as aside:
        aside.write_bytes(serialise(own, {"sha256": content_hash(own)}))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read tensors written by `write_tensors`.

    Raises
    ------
    StorageError
        The file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            stored = (file.metadata() or {}).get("sha256")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if stored != content_hash(tensors):
            raise ValueError("its contents changed after it was written")
    except (OSError, SafetensorError, ValueError, OverflowError) as error:
        raise StorageError(f"{path} is missing or damaged ({describe_error(error)}). Fit the image again.") from error
    return tensors


def content_hash(tensors: Mapping[str, Tensor], description: str = "") -> str:
    """Return the SHA-256 of a description and of tensors on the CPU, with their names, dtypes and shapes."""
    digest = hashlib.sha256(description.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
