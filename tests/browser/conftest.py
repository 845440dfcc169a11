"""A browser for each file of tests.

Its driver keeps an event loop in this thread, which tests of other files must not find.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from browsing import browser_without_window

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browser_without_window() as browser:
        yield browser
