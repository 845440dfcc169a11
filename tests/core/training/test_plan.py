"""The memory of a fit: it is known before the start, and too much of it is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_siren.core.fit import fit
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.plan import check_memory, memory_bound, plan_fit
from napari_siren.errors import DeviceError

SIDES = st.lists(st.integers(4, 300), min_size=1, max_size=3)


@given(SIDES, st.integers(1, 4), st.sampled_from([0.5, 1.0, 2.0]))
def test_the_field_keeps_to_its_budget_of_parameters(sides: list[int], channels: int, budget: float) -> None:
    plan = plan_fit(sides, channels, FitConfig(tile="auto", parameters_per_value=budget, hidden_features=8))
    used = plan.tiling.count * plan.network.parameters / (np.prod(sides) * channels)
    assert used <= 1.01 * budget or plan.tiling.count == 1


@given(st.integers(100, 400), st.integers(100, 400))
def test_a_large_image_uses_most_of_its_budget(height: int, width: int) -> None:
    plan = plan_fit((height, width), 1, FitConfig(tile="auto", parameters_per_value=1, hidden_features=8))
    assert plan.tiling.count * plan.network.parameters > 0.6 * height * width


def test_a_short_axis_is_not_cut() -> None:
    plan = plan_fit((5, 200, 200), 1, FitConfig(tile="auto", parameters_per_value=1, hidden_features=24))
    assert plan.tiling.counts[0] == 1
    assert plan.tiling.counts[1] > 1


def test_a_whole_tile_is_one_network() -> None:
    assert plan_fit((50, 300), 1, FitConfig(tile="whole")).tiling.counts == (1, 1)


def test_a_tile_of_so_many_pixels_is_as_asked() -> None:
    assert plan_fit((40, 80), 1, FitConfig(tile=20)).tiling.counts == (2, 4)


@given(st.integers(1, 3), st.integers(1, 3), st.floats(0.5, 16))
def test_no_tile_is_so_small_that_neighbours_cannot_be_blended(features: int, layers: int, budget: float) -> None:
    config = FitConfig(hidden_features=features, hidden_layers=layers, parameters_per_value=budget)
    for axis in plan_fit((40, 40), 1, config).tiling.axes:
        assert axis.overlap >= 0.5


def test_memory_is_that_of_what_a_fit_holds() -> None:
    config = FitConfig(tile=16, hidden_features=8)
    plan = plan_fit((64, 64), 3, config)
    pixels = plan.tiling.count * np.prod(plan.tiling.tile_shape)
    assert plan.data >= 4 * pixels * (3 + 1) + 3 * 8 * 64 * 64 * 3  # tiles; image, result and difference in float64
    assert plan.parameters >= 4 * plan.tiling.count * plan.network.parameters * 5
    assert plan.total == plan.data + plan.parameters + plan.block


def test_finer_samples_take_larger_blocks() -> None:
    point, box = FitConfig(tile=16), FitConfig(tile=16, observation="box")
    assert plan_fit((64, 64), 1, box).block > plan_fit((64, 64), 1, point).block


def test_a_bound_is_the_one_given_or_a_share_of_what_is_free() -> None:
    cpu = torch.device("cpu")
    assert memory_bound(FitConfig(max_memory=12345), cpu) == 12345
    small, large = (memory_bound(FitConfig(memory_fraction=f), cpu) for f in (0.1, 0.9))
    assert 0 < small < large


def test_a_fit_that_cannot_stay_within_its_bound_is_refused_with_numbers_and_a_way_out() -> None:
    plan = plan_fit((3000, 3000), 1, FitConfig())
    check_memory(plan, plan.total)
    with pytest.raises(DeviceError, match=rf"{-(-plan.total // 1_000_000)} MB .*max_memory"):
        check_memory(plan, plan.total - 1)


def test_max_memory_is_honoured_before_the_first_step() -> None:
    with pytest.raises(DeviceError, match="may use 1"):
        fit(np.zeros((200, 200)), max_memory=1_000_000)
