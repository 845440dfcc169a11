"""The schedule of evaluations: every tenth step, and near a target, without useless repetition."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from napari_siren.core.training.evaluation import EvaluationSchedule


def steps_that_look(schedule: EvaluationSchedule, psnr: list[float]) -> list[int]:
    found = []
    for step, value in enumerate(psnr):
        if schedule.is_due(step):
            schedule.record(step, value)
            found.append(step)
    return found


def test_without_a_target_every_tenth_step_looks_and_none_is_near() -> None:
    schedule = EvaluationSchedule(None)
    assert steps_that_look(schedule, [0.3 * step for step in range(45)]) == [0, 10, 20, 30, 40]
    assert not schedule.near_target()


def test_a_target_is_seen_within_a_step_or_two_where_growth_is_steady() -> None:
    schedule = EvaluationSchedule(20.0)
    found = steps_that_look(schedule, [0.33 * step for step in range(61)])
    # The blended field may be half a dB better than the bound.
    assert math.ceil(19.5 / 0.33) in found
    assert len(found) <= 61 / 10 + 4


@given(growth=st.floats(-1, 1), start=st.floats(-20, 60), target=st.floats(1, 90))
def test_looks_come_at_least_every_tenth_step_whatever_the_course(growth: float, start: float, target: float) -> None:
    found = steps_that_look(EvaluationSchedule(target), [start + growth * step for step in range(60)])
    assert set(range(0, 60, 10)) <= set(found)


def test_an_exact_fit_and_one_that_stands_still_plan_nothing() -> None:
    schedule = EvaluationSchedule(40.0)
    for course in ([10.0] * 25, [10.0, *[math.inf] * 24]):
        assert steps_that_look(schedule, course) == [0, 10, 20]


def test_after_a_miss_the_bound_must_come_closer() -> None:
    schedule = EvaluationSchedule(40.0)
    schedule.record(10, 39.0)
    assert not schedule.near_target()
    schedule.record(20, 39.6)
    assert schedule.near_target()
    schedule.tighten(exact=39.7)
    assert not schedule.near_target()
    schedule.record(22, 39.9)
    assert schedule.near_target()


@given(st.lists(st.floats(-20, 80), min_size=1, max_size=9), st.floats(-10, 90))
def test_the_way_is_a_share_and_one_where_the_target_is_reached(course: list[float], target: float) -> None:
    schedule = EvaluationSchedule(target)
    for step, psnr in enumerate(course):
        schedule.record(step, psnr)
    assert 0 <= schedule.progress() <= 1
    if course[-1] >= target:
        assert schedule.progress() == 1
    assert EvaluationSchedule(None).progress() == 0


def test_the_way_is_measured_in_db_from_the_first_look() -> None:
    schedule = EvaluationSchedule(44.0)
    for step, psnr in ((0, 14.0), (10, 20.0), (20, 29.0)):
        schedule.record(step, psnr)
    assert schedule.progress() == 0.5


def test_looks_go_on_from_their_state() -> None:
    first, second = EvaluationSchedule(44.0), EvaluationSchedule(44.0)
    for step, psnr in ((0, 14.0), (10, 20.0), (20, 29.0), (30, 43.8)):
        first.record(step, psnr)
    first.tighten(43.9)
    second.load(first.state())
    for schedule in (first, second):
        schedule.record(32, 43.85)
    assert second.progress() == first.progress()
    assert [second.is_due(step) for step in range(33, 60)] == [first.is_due(step) for step in range(33, 60)]
    assert second.near_target() == first.near_target()
