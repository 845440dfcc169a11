"""Evaluation of networks: turns, back-projection, and photographs with too few pixels."""

from __future__ import annotations

import pytest
import torch
from training_cases import CPU, pictures

from napari_siren.core.pretrained_network import resampling
from napari_siren.core.pretrained_network.network import NetworkShape, PretrainedNetwork
from napari_siren.core.pretraining import evaluation
from napari_siren.errors import InputError


def test_turns_are_undone() -> None:
    class Sharp(PretrainedNetwork):
        def forward(self, image, size, dtype=torch.float32, fused=False):
            return super().forward(image, size, dtype) * 0 + image.repeat_interleave(2, 1).repeat_interleave(2, 2)

    network = Sharp(NetworkShape(8, (1,), 8), torch.Generator())
    image = torch.rand(1, 5, 7)
    torch.testing.assert_close(
        evaluation.turned(network, image, (10, 14), torch.float32), network(image, (10, 14)), rtol=0, atol=1e-5
    )


def test_an_image_that_agrees_gives_what_it_was_made_of() -> None:
    coarse = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))
    matrix = resampling.coarser(32, 16)

    def missed(rounds: int) -> float:
        fine = evaluation.agree(torch.full((1, 32, 32), 0.5), coarse, rounds)
        return float((resampling.apply(matrix, matrix, fine) - coarse).square().mean())

    assert missed(6) < 0.1 * missed(1)


def test_photographs_with_too_few_pixels_are_refused() -> None:
    with pytest.raises(InputError, match="no held-out photograph has 48 x 48 pixels"):
        evaluation.Validation("enlarge", pictures(1, 40), 48, CPU)
    with pytest.raises(InputError, match="an image has 40 x 40 pixels, fewer than 50 x 30"):
        evaluation.middle(torch.zeros(1, 3, 40, 40), 50, 30)
