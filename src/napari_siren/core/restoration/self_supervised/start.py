"""`LearnedStart`: a trained network as the start of the training on the slices of a stack."""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from torch import Tensor

from napari_siren.core.pretrained_network.weights import load_tensors

# File of the weights of the package, without its suffix.
SLICES = "slices"


@dataclass(frozen=True, eq=False)
class LearnedStart:
    """The parameters of a trained network and their origin.

    Parameters
    ----------
    name
        Name of the weights of the package.
    sha256
        Hash of the file.
    tensors
        Parameters of a `LocalImplicitSiren` with one channel, float32, by name.
    """

    name: str
    sha256: str
    tensors: Mapping[str, Tensor]

    def metadata(self) -> dict[str, str]:
        """Return the name and the hash."""
        return {"weights": self.name, "sha256": self.sha256}


@cache
def start_for_slices() -> LearnedStart:
    """Return the weights of the package for slices of stacks.

    Raises
    ------
    StorageError
        The file does not hold weights.
    """
    path = Path(str(importlib.resources.files("napari_siren") / "weights" / f"{SLICES}.safetensors"))
    tensors, _ = load_tensors(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return LearnedStart(SLICES, sha256, {name: tensor.float() for name, tensor in tensors.items()})
