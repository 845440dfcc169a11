"""Tests of work in another thread, and of the display of errors."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from napari.utils.notifications import ErrorNotification, NotificationSeverity, notification_manager
from qtpy.QtCore import QCoreApplication, QObject, QThreadPool
from qtpy.QtWidgets import QLabel
from waiting import LIMIT

from napari_siren.errors import InputError
from napari_siren.ui.background import (
    _ANIMATION_SPEED,
    activity,
    notify,
    release_memory,
    start_function,
    start_generator,
)


class Receiver(QObject):
    """A receiver of news and results. It also stores the threads of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.news: list[Any] = []
        self.results: list[Any] = []
        self.threads: set[Any] = set()

    def on_news(self, news: Any) -> None:
        self.threads.add(threading.current_thread())
        self.news.append(news)

    def on_result(self, result: Any) -> None:
        self.threads.add(threading.current_thread())
        self.results.append(result)


@pytest.fixture
def receiver(qtbot: Any) -> Iterator[Receiver]:
    yield Receiver()
    settle()


def settle() -> None:
    """Wait for the threads, and handle their signals."""
    assert QThreadPool.globalInstance().waitForDone(1000 * LIMIT)
    QCoreApplication.processEvents()


def test_a_function_is_run_in_another_thread_and_answers_in_this_one(qtbot: Any, receiver: Receiver) -> None:
    start_function(lambda a, b: (a + b, threading.current_thread()), 2, 3, returned=receiver.on_result)
    qtbot.waitUntil(lambda: bool(receiver.results))
    [(total, thread)] = receiver.results
    assert total == 5
    assert thread is not threading.main_thread()
    assert receiver.threads == {threading.main_thread()}


def test_what_a_function_raises_is_its_answer(qtbot: Any, receiver: Receiver) -> None:
    def fail() -> None:
        raise ZeroDivisionError("here")

    start_function(fail, returned=receiver.on_result)
    qtbot.waitUntil(lambda: bool(receiver.results))
    assert isinstance(receiver.results[0], ZeroDivisionError)


def test_a_generator_tells_its_news_and_its_result(qtbot: Any, receiver: Receiver) -> None:
    def count(n: int) -> Generator[Any, None, str]:
        yield from range(n)
        yield threading.current_thread()
        return "end"

    start_generator(count, 3, call_off=lambda: None, yielded=receiver.on_news, returned=receiver.on_result)
    qtbot.waitUntil(lambda: bool(receiver.results))
    *numbers, thread = receiver.news
    assert numbers == [0, 1, 2]
    assert thread is not threading.main_thread()
    assert receiver.results == ["end"]
    assert receiver.threads == {threading.main_thread()}


def test_a_worker_that_is_to_quit_calls_its_work_off(qtbot: Any, receiver: Receiver) -> None:
    called_off = threading.Event()

    def work() -> Generator[str, None, str]:
        yield "begun"
        # This stands for the middle of a step.
        assert called_off.wait(LIMIT)
        return "called off"

    worker = start_generator(work, call_off=called_off.set, yielded=receiver.on_news, returned=receiver.on_result)
    qtbot.waitUntil(lambda: receiver.news == ["begun"])
    worker.quit()
    qtbot.waitUntil(lambda: receiver.results == ["called off"])


def test_who_is_no_more_is_told_nothing(qtbot: Any) -> None:
    go, told = threading.Event(), []

    class Gone(Receiver):
        def on_result(self, result: Any) -> None:
            told.append(result)

    gone = Gone()
    start_function(lambda: go.wait(LIMIT), returned=gone.on_result)
    gone.deleteLater()
    qtbot.waitUntil(lambda: is_deleted(gone))
    go.set()
    settle()
    assert told == []


def is_deleted(thing: QObject) -> bool:
    try:
        thing.objectName()
    except RuntimeError:
        return True
    return False


# ---- errors ----------------------------------------------------------------------------------------------


def notified(error: Exception) -> Any:
    before = len(notification_manager.records)
    notify(error)
    [note] = notification_manager.records[before:]
    assert note.severity == NotificationSeverity.ERROR
    return note


def test_our_errors_are_shown_as_their_own_sentence() -> None:
    note = notified(InputError("there is no image layer to fit."))
    assert note.message == "there is no image layer to fit."
    assert not isinstance(note, ErrorNotification)


def test_other_errors_are_shown_with_their_traceback() -> None:
    try:
        raise ZeroDivisionError("here")
    except ZeroDivisionError as error:
        note = notified(error)
    assert isinstance(note, ErrorNotification)
    assert isinstance(note.exception, ZeroDivisionError)
    assert "test_other_errors_are_shown_with_their_traceback" in note.as_text()


def test_the_memory_of_a_gpu_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for used in (False, True):
        cuda = SimpleNamespace(is_initialized=lambda used=used: used, empty_cache=lambda: calls.append("emptied"))
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
        release_memory()
    assert calls == ["emptied"]


def test_the_animation_of_the_status_bar_is_slow(viewer: Any) -> None:
    # It draws the whole window again for each of its pictures.
    bar = activity(total=2, desc="work")
    movies = [label.movie() for label in viewer.window._qt_window.findChildren(QLabel) if label.movie() is not None]
    assert movies
    assert {movie.speed() for movie in movies} == {_ANIMATION_SPEED}
    bar.close()
