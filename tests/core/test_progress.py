"""The course of a fit: its events and its notes."""

from __future__ import annotations

import pytest

from napari_siren.core.progress import History


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
