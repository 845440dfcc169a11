"""Weights along one axis: the closed forms against sums, and what lies beyond their reach."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_siren.core.forward.kernels import Integrated, Profile, Sampled, profile_weights

PROFILES: list[Profile] = [
    Integrated(0.0),
    Integrated(0.3),
    Integrated(2.0),
    Integrated(0.7, area=False),
    Sampled(0.0),
    Sampled(1.0),
    Sampled(0.4, (0.2, 0.5, 0.3)),
    Sampled(1.5, (0.1, 0.2, 0.4, 0.3)),
]


@given(st.sampled_from(PROFILES), st.floats(0.05, 4), st.floats(-1, 1))
def test_nothing_lies_beyond_reach(profile: Profile, step: float, shift: float) -> None:
    reach = profile.reach(step)
    start = reach + (torch.arange(50, dtype=torch.float64) + abs(shift)) * step
    beyond = torch.cat([start, -start - step])
    if isinstance(profile, Sampled):
        # A cell counts for the sample at its middle.
        beyond = beyond - torch.sign(beyond + step / 2) * step / 2
    torch.testing.assert_close(profile.weights(beyond, step), torch.zeros(100, dtype=torch.float64), atol=1e-12, rtol=0)


@given(st.sampled_from(PROFILES), st.integers(1, 8))
def test_cells_over_the_whole_line_sum_to_about_one(profile: Profile, split: int) -> None:
    start = torch.arange(-40 * split, 40 * split, dtype=torch.float64) / split
    # Cubic kernels sum to one at distances that divide their width, and nearly so at others.
    tolerance = 0.02 if isinstance(profile, Sampled) else 1e-12
    assert float(profile.weights(start - 0.5, 1 / split).sum()) == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("sigma", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("area", [True, False])
def test_a_gaussian_is_integrated_exactly(sigma: float, area: bool) -> None:
    fine = torch.linspace(-0.5, 0.5, 4001, dtype=torch.float64)[1::2]
    start = torch.tensor([-1.7, -0.2, 0.4, 2.0], dtype=torch.float64)
    normal = torch.distributions.Normal(0.0, sigma)
    share = lambda x: normal.cdf(x + 0.3) - normal.cdf(x)  # noqa: E731
    expected = share(start[:, None] - fine).mean(dim=1) if area else share(start)
    torch.testing.assert_close(Integrated(sigma, area).weights(start, 0.3), expected, rtol=1e-5, atol=1e-9)


def test_far_pixels_have_no_weight_and_cells_are_in_their_places() -> None:
    weights = profile_weights(Integrated(0.0), 6, 3)
    assert weights.tolist() == [[0.5, 0.5, 0, 0, 0, 0], [0, 0, 0.5, 0.5, 0, 0], [0, 0, 0, 0, 0.5, 0.5]]


def test_what_is_cut_at_the_border_is_missing_from_the_sum() -> None:
    sums = profile_weights(Integrated(1.0), 20, 20).sum(dim=1)
    assert float(sums[10]) == pytest.approx(1, abs=1e-9)
    # Beyond the middle of the first pixel there is a half, and beside it half a pixel.
    assert 0.6 < float(sums[0]) < 0.75
