"""`Weights`: the pretrained networks of the package, and those of users."""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from napari_siren.core.pretrained_network.network import PretrainedNetwork
from napari_siren.core.pretrained_network.weights import load_network, load_tensors
from napari_siren.errors import ConfigError

# Files of the weights of the package, without their suffix.
ENLARGE, ROBUST, DENOISE, MICROSCOPE, STACK = "enlarge", "robust", "denoise", "microscope", "stack"


@dataclass(frozen=True, eq=False)
class Weights:
    """A pretrained network and its origin.

    Parameters
    ----------
    name
        Name of the weights of the package, or path of the file.
    sha256
        Hash of the file.
    network
        The network, in float32.
    kind
        What it was trained for: "enlarge", "robust", "denoise", "microscope" or "stack".
    compared
        Estimated PSNR in dB of each set of weights that was compared for an image, by name. None if the estimate of the
        squared error was not positive.
    """

    name: str
    sha256: str
    network: PretrainedNetwork
    kind: str
    compared: tuple[tuple[str, float | None], ...] = ()

    @property
    def absolute(self) -> bool:
        """Whether the network knows black and white: those for micrographs know only the range of the image."""
        return self.kind not in (MICROSCOPE, STACK)

    def metadata(self) -> dict[str, Any]:
        """Return the name, the hash and the comparison with others."""
        return {"weights": self.name, "sha256": self.sha256, "compared": dict(self.compared)}


def find_weights(pretrained: str, table: Mapping[str, Sequence[str]]) -> list[Weights]:
    """Return the candidates for a task.

    Parameters
    ----------
    pretrained
        Value of `FitConfig.pretrained`: a key of the table, or the path of a file.
    table
        Names of the weights of the package for each word. The file has to be of the kind of one of them.

    Raises
    ------
    ConfigError
        There is no such file, or its weights are for another task.
    StorageError
        The file does not hold weights.
    """
    if pretrained in table:
        return [package_weights(name) for name in table[pretrained]]
    path = Path(pretrained)
    if not path.is_file():
        raise ConfigError(
            f"pretrained={pretrained!r}: there is no such file. Choose {', '.join(table)}, None, or a file of weights."
        )
    weights = _cached(str(path.resolve()), pretrained, path.stat().st_mtime)
    kinds = sorted({name for names in table.values() for name in names})
    if weights.kind not in kinds:
        raise ConfigError(
            f"pretrained={pretrained!r}: these weights are for {weights.kind}, and the task needs one of "
            f"{', '.join(kinds)}. Choose other weights."
        )
    return [weights]


def package_weights(name: str) -> Weights:
    """Return weights of the package by the name of their file."""
    path = importlib.resources.files("napari_siren") / "weights" / f"{name}.safetensors"
    return _cached(str(path), name, 0.0)


@lru_cache(maxsize=16)
def _cached(path: str, name: str, changed: float) -> Weights:
    file = Path(path)
    _, metadata = load_tensors(file)
    # The first weights had no kind in their settings.
    kind = str(metadata.get("settings", {}).get("kind", ENLARGE))
    return Weights(name, hashlib.sha256(file.read_bytes()).hexdigest(), load_network(file).eval(), kind)
