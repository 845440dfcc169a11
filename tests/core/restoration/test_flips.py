"""The flipped and rotated versions of an image."""

from __future__ import annotations

import torch

from napari_siren.core.restoration.flips import FLIPS


def test_flips_are_eight_and_undone() -> None:
    image = torch.arange(12.0).reshape(1, 3, 4)
    turned = [flip(image) for flip in FLIPS]
    assert len({tuple(t.flatten().tolist()) + tuple(t.shape) for t in turned}) == 8
    for flip, found in zip(FLIPS, turned, strict=True):
        assert torch.equal(flip.back(found), image)
