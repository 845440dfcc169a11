"""Waiting in tests: for an event, never for a fixed time. A limit ends tests that hang."""

from __future__ import annotations

import time
from collections.abc import Callable

# Limit in seconds, so long that only a test that hangs reaches it, even on a busy machine.
LIMIT = 900
# Interval between two checks, in seconds.
_POLL_SECONDS = 0.02


def wait_until(there: Callable[[], object]) -> None:
    """Check a condition repeatedly until it is true.

    It is for events outside the threads of this process, such as a new file.
    """
    end = time.monotonic() + LIMIT
    while not there():
        assert time.monotonic() < end, "it never came"
        time.sleep(_POLL_SECONDS)
