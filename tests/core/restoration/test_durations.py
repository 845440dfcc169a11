"""The remaining time of a fit in parts."""

from __future__ import annotations

from napari_siren.core.restoration.durations import Durations


def test_the_first_step_of_a_part_does_not_count_if_there_are_others() -> None:
    durations = Durations()
    assert durations.remaining({"a": 3}) is None
    durations.add("a", 9.0)
    assert durations.remaining({"a": 3}) == 27.0
    for seconds in (1.0, 3.0):
        durations.add("a", seconds)
    assert durations.remaining({"a": 3}) == 6.0


def test_parts_are_added_and_unknown_ones_are_estimated_from_similar_ones() -> None:
    durations = Durations()
    for seconds in (9.0, *5 * (1.0,)):
        durations.add("draft", seconds)
    assert durations.remaining({"draft": 1, "tiles": 0}) == 1.0
    assert durations.remaining({"draft": 1, "tiles": 4}) is None
    assert durations.remaining({"draft": 1, "tiles": 4}, {"tiles": "draft"}) == 5.0
    durations.add("tiles", 30.0)  # with its preparation
    assert durations.remaining({"tiles": 4}, {"tiles": "draft"}) == 4.0
    for _ in range(4):
        durations.add("tiles", 2.0)
    assert durations.remaining({"tiles": 4}, {"tiles": "draft"}) == 4.0
    durations.add("tiles", 2.0)
    assert durations.remaining({"tiles": 4}, {"tiles": "draft"}) == 8.0
