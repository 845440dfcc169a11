"""A browser without a window: pages with what they complain of and whom they ask, and measurements of their layout."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SCHEMES = ("light", "dark")
# Widths of a telephone and of a laptop, in CSS pixels.
NARROW, WIDE = 390, 1280
# The contrast of text that WCAG 2.1 asks for at level AA.
CONTRAST = 4.5

# Limit of one step in seconds, which only a page that hangs reaches.
_SECONDS = 60

# The names of Debian, of other distributions and of Google.
_NAMES = ("chromium", "chromium-browser", "google-chrome")
# Names are looked up on this machine only, so that the browser itself asks nobody.
_ARGUMENTS = ("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",)

# The parts of a page that reach past its right edge. What lies in a scrolled box is cut off by that box.
_OVERFLOWING = """
(root) => {
  const scrolls = (element) => {
    for (let box = element.parentElement; box && box !== document.body; box = box.parentElement)
      if (["auto", "scroll"].includes(getComputedStyle(box).overflowX)) return true;
    return false;
  };
  return [...document.querySelectorAll(root + " *")].filter((element) => {
    const {width, right} = element.getBoundingClientRect();
    return width && right > document.documentElement.clientWidth + 1 && element.checkVisibility() && !scrolls(element);
  }).map((element) => element.outerHTML.slice(0, 120));
}
"""

# The contrast of each piece of text with what is behind it, by WCAG 2.1; opacities are mixed in.
_CONTRASTS = """
(root) => {
  const context = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const parsed = new Map();
  const rgba = (colour) => {
    if (!parsed.has(colour)) {
      context.clearRect(0, 0, 1, 1);
      context.fillStyle = colour;
      context.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
      parsed.set(colour, [r, g, b, a / 255]);
    }
    return parsed.get(colour);
  };
  const over = (front, back, opacity = 1) => {
    const a = front[3] * opacity;
    return [0, 1, 2].map((i) => a * front[i] + (1 - a) * back[i]).concat(1);
  };
  const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  // Below all of a page is the colour of a sheet in its scheme.
  const sheet = document.body.appendChild(document.createElement("div"));
  sheet.style.backgroundColor = "Canvas";
  const canvas = rgba(getComputedStyle(sheet).backgroundColor);
  sheet.remove();
  // What is behind an element, and the opacity of all that it lies in.
  const known = new Map([[null, [canvas, 1]]]);
  const ground = (element) => {
    if (!known.has(element)) {
      const [back, opacity] = ground(element.parentElement);
      const style = getComputedStyle(element);
      known.set(element, [over(rgba(style.backgroundColor), back), opacity * Number(style.opacity)]);
    }
    return known.get(element);
  };
  const options = {opacityProperty: true, visibilityProperty: true};
  const hasText = (e) => [...e.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
  const texts = [...document.querySelectorAll(root + " *")].filter((e) => hasText(e) && e.checkVisibility(options));
  return texts.map((e) => {
    const [back, opacity] = ground(e);
    const style = getComputedStyle(e);
    const front = over(rgba(e instanceof SVGElement ? style.fill : style.color), back, opacity);
    const [low, high] = [luminance(front), luminance(back)].sort((a, b) => a - b);
    return [(high + 0.05) / (low + 0.05), e.outerHTML.slice(0, 120)];
  });
}
"""


@contextmanager
def browser_without_window() -> Iterator[Browser]:
    """Start Chromium. Tests are skipped where it or its driver is absent."""
    driver = pytest.importorskip(
        "playwright.sync_api", reason="the driver of the browser, playwright, is not installed"
    )
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip(f"there is no browser: none of {', '.join(_NAMES)}")
    with driver.sync_playwright() as playwright:
        # Chromium refuses to isolate itself for root.
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        arguments = [*_ARGUMENTS, *(["--no-sandbox"] if root else [])]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


class Tab:
    """A tab of a browser with the complaints of its pages, and with their requests for other machines.

    Parameters
    ----------
    browser
        Running browser. The tab shares nothing with its other tabs.
    width, height
        Size of the window, in CSS pixels.
    scheme
        Colour scheme of the system.
    """

    def __init__(self, browser: Browser, width: int = WIDE, height: int = 900, scheme: Any = "light") -> None:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        context.set_default_timeout(1000 * _SECONDS)
        self.page = page = context.new_page()
        self.complaints: list[str] = []
        page.on("console", lambda line: self._keep(line.type in ("error", "warning"), line.text))
        page.on("pageerror", lambda error: self._keep(True, str(error)))
        # A request is aborted when the next page is opened.
        page.on("requestfailed", lambda r: self._keep(r.failure != "net::ERR_ABORTED", f"{r.failure}: {r.url}"))
        page.on("request", lambda request: self._keep(_is_elsewhere(request.url), f"asked for {request.url}"))

    def _keep(self, bad: bool, complaint: str) -> None:
        if bad:
            self.complaints.append(complaint)

    @contextmanager
    def open(self, address: str) -> Iterator[Page]:
        """Open a page, and check at the end that nothing was wrong with it."""
        self.complaints.clear()
        self.page.goto(address)
        yield self.page
        assert not self.complaints, "\n".join(self.complaints)


def _is_elsewhere(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme not in ("file", "data", "blob") and parts.hostname != "127.0.0.1"


def overflowing(page: Page, root: str = "body") -> list[str]:
    """Return the visible elements that reach past the right edge of a page, outside boxes that scroll."""
    found: list[str] = page.evaluate(_OVERFLOWING, root)
    return found


def faint_texts(page: Page, root: str = "body") -> list[tuple[float, str]]:
    """Return the visible elements with text whose contrast is too low, with the contrast. Some text has to be there."""
    # Colours may change gradually from one scheme to the other.
    page.wait_for_function("document.getAnimations().every((one) => !(one instanceof CSSTransition))")
    contrasts: list[tuple[float, str]] = page.evaluate(_CONTRASTS, root)
    assert contrasts
    return [(contrast, element) for contrast, element in contrasts if contrast < CONTRAST]


def missing_pictures(page: Page, root: str = "body") -> list[str]:
    """Load every picture of a page, also those below the window, and return the addresses that are no picture."""
    page.eval_on_selector_all(f"{root} img[src]", "(all) => all.forEach((img) => { img.loading = 'eager'; })")
    page.wait_for_function(
        "(root) => [...document.querySelectorAll(root + ' img[src]')].every((img) => img.complete)", arg=root
    )
    missing: list[str] = page.eval_on_selector_all(
        f"{root} img[src]", "(all) => all.filter((img) => !img.naturalWidth).map((img) => img.src.slice(0, 200))"
    )
    return missing
