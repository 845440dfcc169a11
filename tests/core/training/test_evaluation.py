"""Looks come every tenth step; near a target they come when it may be there, and not over and over."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from napari_siren.core.training.evaluation import Looks


def steps_that_look(looks: Looks, psnr: list[float]) -> list[int]:
    found = []
    for step, value in enumerate(psnr):
        if looks.due(step):
            looks.saw(step, value)
            found.append(step)
    return found


def test_without_a_target_every_tenth_step_looks_and_none_is_near() -> None:
    looks = Looks(None)
    assert steps_that_look(looks, [0.3 * step for step in range(45)]) == [0, 10, 20, 30, 40]
    assert not looks.near_target()


def test_a_target_is_seen_within_a_step_or_two_where_growth_is_steady() -> None:
    looks = Looks(20.0)
    found = steps_that_look(looks, [0.33 * step for step in range(61)])
    # The blend may be half a dB better than the bound.
    assert math.ceil(19.5 / 0.33) in found
    assert len(found) <= 61 / 10 + 4


@given(growth=st.floats(-1, 1), start=st.floats(-20, 60), target=st.floats(1, 90))
def test_looks_come_at_least_every_tenth_step_whatever_the_course(growth: float, start: float, target: float) -> None:
    found = steps_that_look(Looks(target), [start + growth * step for step in range(60)])
    assert set(range(0, 60, 10)) <= set(found)


def test_an_exact_fit_and_one_that_stands_still_plan_nothing() -> None:
    looks = Looks(40.0)
    for course in ([10.0] * 25, [10.0, *[math.inf] * 24]):
        assert steps_that_look(looks, course) == [0, 10, 20]


def test_after_a_miss_the_bound_must_come_closer() -> None:
    looks = Looks(40.0)
    looks.saw(10, 39.0)
    assert not looks.near_target()
    looks.saw(20, 39.6)
    assert looks.near_target()
    looks.missed_target(exact=39.7)
    assert not looks.near_target()
    looks.saw(22, 39.9)
    assert looks.near_target()


@given(st.lists(st.floats(-20, 80), min_size=1, max_size=9), st.floats(-10, 90))
def test_the_way_is_a_share_and_one_where_the_target_is_reached(course: list[float], target: float) -> None:
    looks = Looks(target)
    for step, psnr in enumerate(course):
        looks.saw(step, psnr)
    assert 0 <= looks.way() <= 1
    if course[-1] >= target:
        assert looks.way() == 1
    assert Looks(None).way() == 0


def test_the_way_is_measured_in_db_from_the_first_look() -> None:
    looks = Looks(44.0)
    for step, psnr in ((0, 14.0), (10, 20.0), (20, 29.0)):
        looks.saw(step, psnr)
    assert looks.way() == 0.5


def test_looks_go_on_from_their_state() -> None:
    first, second = Looks(44.0), Looks(44.0)
    for step, psnr in ((0, 14.0), (10, 20.0), (20, 29.0), (30, 43.8)):
        first.saw(step, psnr)
    first.missed_target(43.9)
    second.load(first.state())
    for looks in (first, second):
        looks.saw(32, 43.85)
    assert second.way() == first.way()
    assert [second.due(step) for step in range(33, 60)] == [first.due(step) for step in range(33, 60)]
    assert second.near_target() == first.near_target()
