"""`SeriesClock`: the remaining time of fits one by one. No Qt."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_siren.core.progress import Progress


class SeriesClock:
    """The time of fits one by one.

    Parameters
    ----------
    count
        Number of fits.
    """

    def __init__(self, count: int) -> None:
        self._count, self._done = count, 0
        self._begin = self._entry_begin = time.monotonic()
        self._last: Progress | None = None

    @property
    def seconds(self) -> float:
        """Seconds since the first fit began."""
        return time.monotonic() - self._begin

    @property
    def last(self) -> Progress:
        """The last progress."""
        assert self._last is not None
        return self._last

    def timed(self, progress: Progress) -> Progress:
        """Return the progress of the present fit with its number, and with the remaining time of all fits."""
        left = progress.seconds_left
        if left is not None:
            # The first fits give the time of the others.
            usual = (self._entry_begin - self._begin) / self._done if self._done else progress.seconds + left
            left += usual * (self._count - self._done - 1)
        self._last = replace(progress, entry=self._done, entries=self._count, seconds_left=left)
        return self._last

    def next_entry(self) -> int:
        """Begin the next fit. Return the number of fits that have ended."""
        self._done += 1
        self._entry_begin = time.monotonic()
        return self._done
