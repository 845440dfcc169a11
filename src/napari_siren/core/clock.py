"""`Stopwatch`: the elapsed time of a fit. `Cancellation`: its end from another thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Cancelled(Exception):
    """The cancellation of a fit from another thread."""


class Stopwatch:
    """The seconds since its creation, without those for which it was held.

    Parameters
    ----------
    seconds
        Time to start from, in seconds.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._start = time.perf_counter() - seconds
        self._held_since: float | None = None

    @property
    def seconds(self) -> float:
        """Time so far, in seconds."""
        now = time.perf_counter() if self._held_since is None else self._held_since
        return now - self._start

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the time for the duration of the context."""
        if self._held_since is not None:  # the outer context holds the time
            yield
            return
        self._held_since = time.perf_counter()
        try:
            yield
        finally:
            self._start += time.perf_counter() - self._held_since
            self._held_since = None


class Cancellation:
    """A request to end a fit without a result, from any thread."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._watch: Callable[[], None] | None = None

    def request(self) -> None:
        """Request the cancellation."""
        self._requested.set()

    def check(self) -> None:
        """Raise `Cancelled` if the cancellation was requested."""
        if self._watch is not None:
            self._watch()
        if self._requested.is_set():
            raise Cancelled

    @contextmanager
    def watched(self, watch: Callable[[], None]) -> Iterator[None]:
        """Call a function at each check in the context. It may raise `Cancelled`."""
        self._watch = watch
        try:
            yield
        finally:
            self._watch = None
