"""The site of the documentation in a browser, without a network: every page on a narrow screen, and what is clicked."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browsing import NARROW, SCHEMES, Tab, faint_texts, missing_pictures, overflowing
from waiting import LIMIT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def address_of(source: Path) -> str:
    """Return the address of the page of a file."""
    name = source.relative_to(DOCS).with_suffix("").as_posix()
    return "" if name == "index" else name.removesuffix("/index") + "/"


PAGES = sorted(address_of(path) for pattern in ("*.md", "*.ipynb") for path in DOCS.rglob(pattern))

# One page of each kind: text and pictures, code, tables, the reference, a notebook.
EACH_KIND = ("", "guide/torch/", "benchmarks/", "reference/", "notebooks/denoise/")

# The names of the theme for its light and its dark palette.
PALETTES = {"light": "default", "dark": "slate"}


class QuietHandler(SimpleHTTPRequestHandler):
    """A handler of requests without a log."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does, and return its folder."""
    pytest.importorskip("mkdocs_jupyter", reason="mkdocs and its plugins are not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def site(browser: Browser, folder: Path) -> Iterator[str]:
    """Yield the address of the site on this machine."""
    handler = functools.partial(QuietHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def narrow(browser: Browser) -> Tab:
    return Tab(browser, width=NARROW)


@pytest.fixture
def home(browser: Browser, site: str) -> Iterator[Page]:
    with Tab(browser).open(site) as page:
        yield page


def use_system_scheme(page: Page, scheme: Any) -> None:
    """Change the scheme of the system, and wait until the page has followed."""
    page.emulate_media(color_scheme=scheme)
    wait_for_palette(page, scheme)


def wait_for_palette(page: Page, scheme: str) -> None:
    page.wait_for_selector(f"body[data-md-color-scheme={PALETTES[scheme]}]")


def colours(page: Page) -> list[str]:
    """Return the colours of text and background."""
    style = "getComputedStyle(document.body)"
    found: list[str] = page.evaluate(f"[{style}.color, {style}.backgroundColor]")
    return found


def test_it_builds_without_warnings(folder: Path) -> None:
    assert (folder / "index.html").is_file()


@pytest.mark.parametrize("address", PAGES, ids=lambda address: address or "home")
def test_a_page_is_whole_on_a_telephone(narrow: Tab, site: str, address: str) -> None:
    with narrow.open(site + address) as page:
        assert missing_pictures(page, "article") == []
        assert overflowing(page) == []


@pytest.mark.parametrize("address", EACH_KIND, ids=lambda address: address or "home")
def test_text_can_be_read_in_both_schemes(narrow: Tab, site: str, address: str) -> None:
    with narrow.open(site + address) as page:
        for scheme in SCHEMES:
            use_system_scheme(page, scheme)
            assert faint_texts(page, "article") == [], scheme


def test_the_switch_changes_the_colours_and_pages_remember_it(home: Page, site: str) -> None:
    switch = ".md-header__option label:visible"
    assert home.locator(switch).get_attribute("title") == "Use the light theme"
    home.click(switch)
    wait_for_palette(home, "light")
    light = colours(home)
    home.click(switch)
    wait_for_palette(home, "dark")
    assert all(one != other for one, other in zip(colours(home), light, strict=True))
    home.goto(site + "faq/")
    wait_for_palette(home, "dark")
    home.click(switch)
    # As the system has it.
    wait_for_palette(home, "light")


def test_a_click_on_a_picture_enlarges_it(home: Page, site: str) -> None:
    home.goto(site + "tasks/denoise/")
    picture = home.locator("article a.glightbox:visible").first
    address = picture.get_attribute("href")
    assert address is not None
    picture.click()
    zoomed = home.locator(".gslide.current img")
    zoomed.wait_for()
    assert zoomed.evaluate("(img) => img.naturalWidth > 0 && img.src").endswith(address.split("/")[-1])
    home.keyboard.press("Escape")
    home.locator(".glightbox-container").wait_for(state="detached")


def test_the_search_finds_a_word(home: Page, site: str) -> None:
    home.get_by_role("textbox", name="Search").click()
    home.keyboard.type("SLURM")
    home.locator(".md-search-result__item mark", has_text="SLURM").first.click()
    home.wait_for_url(f"{site}*/**")
    assert "SLURM" in home.locator("article").inner_text()


def test_the_menu_of_a_telephone_leads_to_a_page(narrow: Tab, site: str) -> None:
    with narrow.open(site) as page:
        page.locator("label.md-header__button[for=__drawer]").click()
        page.locator("nav.md-nav--primary").get_by_role("link", name="Questions").click()
        page.wait_for_url("**/faq/")
        page.locator("article h1", has_text="Questions").wait_for()
