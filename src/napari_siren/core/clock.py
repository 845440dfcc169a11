"""`Stopwatch`: the time that a fit has taken, which may be held and may be called off from another thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Cancelled(Exception):
    """A fit was called off from another thread."""


class Stopwatch:
    """Seconds since it was made, without those for which it was held.

    Parameters
    ----------
    seconds
        Where to begin.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._began = time.perf_counter() - seconds
        self._held_since: float | None = None
        self._cancelled = threading.Event()

    @property
    def seconds(self) -> float:
        """Time so far."""
        now = time.perf_counter() if self._held_since is None else self._held_since
        return now - self._began

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stand still for as long as the context lasts."""
        if self._held_since is not None:  # held already
            yield
            return
        self._held_since = time.perf_counter()
        try:
            yield
        finally:
            self._began += time.perf_counter() - self._held_since
            self._held_since = None

    def cancel(self) -> None:
        """Call off, from any thread."""
        self._cancelled.set()

    def check(self) -> None:
        """Raise `Cancelled` where it was called off."""
        if self._cancelled.is_set():
            raise Cancelled
