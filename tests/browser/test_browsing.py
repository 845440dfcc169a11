"""The checks of pages find the faults of a page that has some."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from browsing import NARROW, Tab, faint_texts, missing_pictures, overflowing

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FAULTY = """data:text/html,<body style="background: white">
<p id="faint" style="color: rgb(130, 130, 130)">faint</p>
<p id="dark" style="color: rgb(110, 110, 110)">dark <b style="opacity: 0.5">but transparent</b></p>
<div id="wide" style="width: 500px"></div>
<div style="overflow-x: auto"><div id="scrolled" style="width: 500px"></div></div>
<img id="broken" src="data:image/png;base64,AAAA">
"""


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Tab:
    return Tab(browser, width=NARROW)


def test_faults_of_a_page_are_found(tab: Tab) -> None:
    with tab.open(FAULTY) as page:
        assert [element[:13] for element in overflowing(page)] == ['<div id="wide']
        assert [element[:8] for _, element in faint_texts(page)] == ['<p id="f', "<b style"]
        assert len(missing_pictures(page)) == 1


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ("console.error('it broke')", "it broke"),
        ("setTimeout(() => { throw Error('it threw'); })", "it threw"),
        ("new Image().src = 'http://other.invalid/a.png'", "asked for http://other.invalid/a.png"),
    ],
)
def test_what_a_page_complains_of_and_asks_of_others_fails(tab: Tab, code: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        run_in_a_page(tab, code)


def run_in_a_page(tab: Tab, code: str) -> None:
    with tab.open("data:text/html,<p>page</p>") as page:
        page.evaluate(f"async () => {{ {code}; await new Promise((end) => setTimeout(end)); }}")
