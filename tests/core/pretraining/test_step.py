"""The batch of a step."""

from __future__ import annotations

import numpy as np
import torch
from training_cases import CPU, TINY

from napari_siren.core.pretrained_network import resampling
from napari_siren.core.pretrained_network.network import PretrainedNetwork
from napari_siren.core.pretraining.optimizer import Optimizer
from napari_siren.core.pretraining.photographs import Photographs
from napari_siren.core.pretraining.step import Stepper


def test_what_a_crop_is_made_of_is_what_the_whole_image_would_be() -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    settings = TINY.with_changes({"crop": 16, "outputs": [[32, 1.0]], "batch": 1})
    network = PretrainedNetwork(settings.network, torch.Generator())
    optimizer = Optimizer(network.hidden(), [network.kernel_in], 0.01, 1e-3, 0.9, 1.0)
    stepper = Stepper(network, optimizer, Photographs([image], 0.0, 40, CPU), settings, CPU, torch.float32)
    margin = (stepper.sides[32] - 32) // 2
    first = 20 - margin
    stepper._positions.copy_(torch.tensor([[first * 96 + first, 96, 1]]))
    coarse, fine = stepper.pair(32)
    whole = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    matrix = resampling.coarser(96, 48)
    torch.testing.assert_close(coarse[0], resampling.luminance(resampling.shrunk(matrix, matrix, whole))[10:26, 10:26])
    torch.testing.assert_close(fine[0], resampling.luminance(whole)[20:52, 20:52])
