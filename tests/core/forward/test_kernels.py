"""Weights along one axis: the closed forms against sums, and zeros beyond their reach."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_siren.core.forward.kernels import AxisKernel, CubicKernel, GaussianKernel, profile_weights

PROFILES: list[AxisKernel] = [
    GaussianKernel(0.0),
    GaussianKernel(0.3),
    GaussianKernel(2.0),
    GaussianKernel(0.7, area=False),
    CubicKernel(0.0),
    CubicKernel(1.0),
    CubicKernel(0.4, (0.2, 0.5, 0.3)),
    CubicKernel(1.5, (0.1, 0.2, 0.4, 0.3)),
]


@given(st.sampled_from(PROFILES), st.floats(0.05, 4), st.floats(-1, 1))
def test_nothing_lies_beyond_reach(profile: AxisKernel, step: float, shift: float) -> None:
    reach = profile.reach(step)
    start = reach + (torch.arange(50, dtype=torch.float64) + abs(shift)) * step
    beyond = torch.cat([start, -start - step])
    if isinstance(profile, CubicKernel):
        # The weight of a cell is that of the sample at its middle.
        beyond = beyond - torch.sign(beyond + step / 2) * step / 2
    torch.testing.assert_close(profile.weights(beyond, step), torch.zeros(100, dtype=torch.float64), atol=1e-12, rtol=0)


@given(st.sampled_from(PROFILES), st.integers(1, 8))
def test_cells_over_the_whole_line_sum_to_about_one(profile: AxisKernel, split: int) -> None:
    start = torch.arange(-40 * split, 40 * split, dtype=torch.float64) / split
    # Cubic kernels sum to one at distances that divide their width, and nearly to one at others.
    tolerance = 0.02 if isinstance(profile, CubicKernel) else 1e-12
    assert float(profile.weights(start - 0.5, 1 / split).sum()) == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("sigma", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("area", [True, False])
def test_a_gaussian_is_integrated_exactly(sigma: float, area: bool) -> None:
    fine = torch.linspace(-0.5, 0.5, 4001, dtype=torch.float64)[1::2]
    start = torch.tensor([-1.7, -0.2, 0.4, 2.0], dtype=torch.float64)
    normal = torch.distributions.Normal(0.0, sigma)
    share = lambda x: normal.cdf(x + 0.3) - normal.cdf(x)  # noqa: E731
    expected = share(start[:, None] - fine).mean(dim=1) if area else share(start)
    torch.testing.assert_close(GaussianKernel(sigma, area).weights(start, 0.3), expected, rtol=1e-5, atol=1e-9)


def test_far_pixels_have_no_weight_and_cells_are_in_their_places() -> None:
    weights = profile_weights(GaussianKernel(0.0), 6, 3)
    assert weights.tolist() == [[0.5, 0.5, 0, 0, 0, 0], [0, 0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 0.5, 0.5]]


def test_what_is_cut_at_the_border_is_missing_from_the_sum() -> None:
    sums = profile_weights(GaussianKernel(1.0), 20, 20).sum(dim=1)
    assert float(sums[10]) == pytest.approx(1, abs=1e-9)
    # The image has half of the kernel beyond the first pixel's centre, and half a pixel before it.
    assert 0.6 < float(sums[0]) < 0.75
