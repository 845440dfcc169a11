"""Waiting in tests: for an event, never for a time; the limit is there so that a test that hangs ends some day."""

from __future__ import annotations

import time
from collections.abc import Callable

# Seconds: so long that nothing but a hang comes to it, however busy the machine is.
LIMIT = 900
_LOOK_SECONDS = 0.02


def wait_until(there: Callable[[], object]) -> None:
    """Wait for what no thread of this process can tell of, as a file: look again and again until it is there."""
    end = time.monotonic() + LIMIT
    while not there():
        assert time.monotonic() < end, "it never came"
        time.sleep(_LOOK_SECONDS)
