"""Back-projection against noise that differs from pixel to pixel."""

from __future__ import annotations

import torch

from napari_siren.core.forward.back_projection import back_project
from napari_siren.core.forward.operator import ForwardOperator


def test_residuals_are_compared_with_the_noise_of_each_pixel() -> None:
    rng = torch.Generator().manual_seed(0)
    truth = torch.zeros(1, 40, 80)
    noise = torch.full_like(truth, 0.01)
    noise[..., 40:] = 0.5
    values = truth + noise * torch.randn(truth.shape, generator=rng)
    # Detail that the render lacks, far beyond the noise of the left half, and within that of the right one.
    values[..., 10:12] += 0.3
    values[..., 60:62] += 0.3
    operator = ForwardOperator.from_kind("box", 2)
    render = back_project(torch.zeros(1, 80, 160), values, operator, noise)
    corrected = operator(render, (40, 80))
    assert float((corrected - values)[..., 10:12].abs().mean()) < 0.1
    assert float(corrected[..., 50:].abs().mean()) < 0.05
