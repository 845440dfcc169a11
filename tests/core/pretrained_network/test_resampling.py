"""Resampling: MATLAB's imresize, area means, and interpolation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_siren.core.pretrained_network import resampling
from napari_siren.core.pretraining.photographs import load_image

SET5 = Path(__file__).parents[4] / "shared" / "data" / "sr" / "Set5"


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.skipif(not SET5.exists(), reason="the test images are not here")
def test_images_are_made_coarser_as_matlab_does(scale: int) -> None:
    for path in sorted((SET5 / f"image_SRF_{scale}").glob("*_HR.png")):
        fine, coarse = (
            torch.from_numpy(load_image(p)).permute(2, 0, 1).float() / 255
            for p in (path, path.with_name(path.name.replace("_HR", "_LR")))
        )
        rows, columns = (resampling.coarser(n, m) for n, m in zip(fine.shape[1:], coarse.shape[1:], strict=True))
        difference = (resampling.shrunk(rows, columns, fine) - coarse).abs() * 255
        assert difference.max() < 1.01
        assert (difference > 0.5).float().mean() < 0.002


def test_box_kernels_are_means_over_areas() -> None:
    torch.testing.assert_close(resampling.coarser(8, 4, 0, "box"), torch.eye(4).repeat_interleave(2, 1) / 2)
    half = resampling.coarser(6, 4, 0, "box")
    torch.testing.assert_close(half[0], torch.tensor([2.0, 1.0, 0, 0, 0, 0]) / 3)
    torch.testing.assert_close(resampling.coarser(5, 5, 0, "box"), torch.eye(5))


@pytest.mark.parametrize("kernel", ["linear", "cubic"])
@pytest.mark.parametrize(("inputs", "outputs"), [(7, 14), (7, 18), (9, 9), (12, 5), (1, 4), (3, 100)])
def test_taps_are_the_entries_of_the_matrix(inputs: int, outputs: int, kernel: str) -> None:
    pixels, weights = resampling.finer_taps(inputs, outputs, 1, outputs - 1, kernel)
    matrix = np.zeros((outputs - 2, inputs), np.float32)
    np.add.at(matrix, (np.arange(outputs - 2)[:, None], pixels), weights)
    np.testing.assert_allclose(matrix, resampling.finer(inputs, outputs, kernel)[1:-1].numpy(), atol=1e-6)
