"""The state of a restorer with ready networks, for checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from napari_siren.core.restoration.pretrained.weights import Weights
from napari_siren.errors import StorageError


def state_of(weights: Sequence[Weights], passes: int) -> dict[str, Tensor]:
    """Return the hashes of weights and the number of passes as tensors."""
    digests = b"".join(bytes.fromhex(one.sha256) for one in weights)
    return {"weights": torch.frombuffer(bytearray(digests), dtype=torch.uint8), "passes": torch.tensor(passes)}


def passes_of(tensors: Mapping[str, Tensor], weights: Sequence[Weights]) -> int:
    """Return the number of passes of a state.

    Raises
    ------
    KeyError
        The state has no hash of weights.
    StorageError
        The state belongs to other weights.
    """
    if not torch.equal(tensors["weights"], state_of(weights, 0)["weights"]):
        raise StorageError(
            "the saved state was made with other pretrained weights. Start the fit anew, or set pretrained to the "
            "file of those weights."
        )
    return int(tensors.get("passes", torch.tensor(0)))
