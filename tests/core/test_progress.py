"""The course of a fit: its events and its notes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from napari_siren.core.progress import History, Progress, share_done


def test_a_note_is_an_event_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    history = History()
    for step in (3, 7):
        history.note(step, "memory ran out; continued in smaller blocks")
    assert [step for step, _ in history.events] == [3, 7]
    assert history.notes == caplog.messages == ["memory ran out; continued in smaller blocks"]
    assert {record.name for record in caplog.records} == {"napari_siren"}
    assert history.copy().notes == history.notes


def test_a_resumption_is_an_event_and_no_note(caplog: pytest.LogCaptureFixture) -> None:
    history = History()
    history.note_resumption(5)
    assert history.events == [(5, "resumed")]
    assert history.notes == caplog.messages == []


def test_the_share_of_a_series_counts_all_entries() -> None:
    progress = Progress(5, 10, 3.0, 0.1, 30.0, 1.0, lambda: pytest.fail("it renders"))
    assert share_done(progress) == 0.75
    assert share_done(replace(progress, entry=1, entries=2)) == 0.875
    assert share_done(replace(progress, seconds_left=None, entry=1, entries=2)) == 0.5
