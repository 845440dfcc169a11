"""The report of a batch in a browser: its buttons, filters and pictures are used, on a wide and on a narrow screen."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from batching import settings
from browsing import NARROW, SCHEMES, WIDE, Tab, faint_texts, missing_pictures, overflowing
from PIL import Image

from napari_siren.batch.manifest import Entry, Manifest
from napari_siren.batch.report import BatchReport, write_html
from napari_siren.batch.worker import record_path
from napari_siren.core.storage.atomic import write_json

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = '<img src=x onerror="document.title=\'broken\'"><script>document.title="broken"</script> & "q" \'a\'.png'
LONG = "plates/2024-05-17_" + "well_A01_field_" * 6 + "final.ome.tif"
METRICS = {"max_abs": 9.0, "psnr_heldout": None}
# Name, PSNR, consistency, SSIM, RMSE, seconds, steps, model that the fit started from.
ROWS: tuple[tuple[Any, ...], ...] = (
    ("img10.png", 9.5, 100.0, 0.5, 20.0, 100.0, 1000, "img2.png"),
    ("img2.png", 41.25, 9.0, None, 3.0, 20.0, 200, None),
    (HOSTILE, math.inf, None, 1.0, 0.0, 3.0, 30, "img10.png"),
    (LONG, 100.0, 41.0, 0.9999, 1e-05, 0.5, 4, None),
    ("IMG1.png", None, 50.5, 0.05, 1e07, 1234.5, 1_000_000, None),
)
# The rows in ascending order of each column. Unknown values come last, also in descending order.
ASCENDING = {
    "PSNR": ([0, 1, 3, 2], [4]),
    "consistency": ([1, 3, 4, 0], [2]),
    "SSIM": ([4, 0, 3, 2], [1]),
    "RMSE": ([2, 3, 1, 0, 4], []),
    "time": ([3, 2, 1, 0, 4], []),
    "steps": ([3, 2, 1, 0, 4], []),
    # Names, with their numbers in order.
    "start": ([0, 2], [1, 3, 4]),
}
NAMES = [row[0] for row in ROWS]


def picture(colour: str) -> str:
    stored = BytesIO()
    Image.new("RGB", (192, 96), colour).save(stored, format="WEBP")
    return "data:image/webp;base64," + base64.b64encode(stored.getvalue()).decode()


def entry(name: str, psnr: Any, consistency: Any, ssim: Any, rmse: Any, seconds: Any, steps: Any, start: Any) -> Entry:
    metrics = {**METRICS, "psnr": psnr, "consistency": consistency, "ssim": ssim, "rmse": rmse}
    notes = ("The noise of neighbouring pixels is correlated.",) if name == "img2.png" else ()
    return Entry(
        name, f"/in/{name}", name, "done", "s", metrics=metrics, seconds=seconds, steps=steps, start=start, notes=notes
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the address of a report with five images and two failures."""
    folder = tmp_path_factory.mktemp("batch")
    done = tuple(entry(*row) for row in ROWS)
    colours = {"image": "red", "detail": "blue", "upscaled": "green", "error": "grey"}
    thumbnails = {name: picture(colour) for name, colour in colours.items()}
    with Manifest(folder).locked():
        for one in done:
            write_json(record_path(folder, one.job), {"entry": one.as_json(), "thumbnails": thumbnails})
    failed = tuple(
        Entry(
            name, f"/in/{name}", name, "failed", "s", reason=f"{name} is not an image", traceback="line 5\n" + "x" * 300
        )
        for name in ("damaged.tif", HOSTILE)
    )
    path = folder / "report.html"
    write_html(BatchReport(folder, done, failed, (), ("left.png",), settings(), path, notes=("Two workers differ.",)))
    return path.as_uri()


@pytest.fixture(scope="module", params=[WIDE, NARROW], ids=["wide", "narrow"])
def tab(request: pytest.FixtureRequest, browser: Browser) -> Tab:
    return Tab(browser, width=request.param)


@pytest.fixture
def page(tab: Tab, report: str) -> Iterator[Page]:
    with tab.open(report) as page:
        yield page


def shown_names(page: Page) -> list[str]:
    """Return the names of the visible rows, from the top to the bottom."""
    names: list[str] = page.locator("tbody tr:first-child td:first-child").evaluate_all(
        "(cells) => cells.filter((cell) => cell.checkVisibility()).map((cell) => cell.innerText)"
    )
    return names


def test_it_is_whole_on_every_screen_in_both_schemes(page: Page) -> None:
    page.locator("summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert overflowing(page) == []
    colours = []
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        colours.append(page.evaluate("getComputedStyle(document.body).color"))
        assert faint_texts(page) == [], scheme
    assert colours[0] != colours[1]


def test_numbers_stay_in_one_line(page: Page) -> None:
    lines = page.locator("tbody tr:first-child td:not(:first-child):not(:last-child)").evaluate_all(
        """(cells) => cells.map((cell) => {
             const range = document.createRange();
             range.selectNodeContents(cell);
             return range.getClientRects().length;
           })"""
    )
    assert lines == [1] * 6 * len(ROWS)


def test_thumbnails_are_shown(page: Page) -> None:
    assert page.locator("tr.pictures img").count() == 4 * len(ROWS)
    assert missing_pictures(page) == []
    sizes = page.locator("tr.pictures img").evaluate_all("(all) => all.map((img) => [img.width, img.height])")
    assert all(width > 50 and abs(width - 2 * height) <= 1 for width, height in sizes)


def test_columns_sort_as_numbers_are_sorted(page: Page) -> None:
    for column, (known, unknown) in ASCENDING.items():
        first, last = [NAMES[i] for i in known], {NAMES[i] for i in unknown}
        orders = {}
        for _ in range(2):
            page.get_by_role("button", name=column, exact=True).click()
            (order,) = page.locator("th[aria-sort]").evaluate_all("(all) => all.map((th) => th.ariaSort)")
            orders[order] = shown_names(page)
        assert orders["ascending"][: len(first)] == first, column
        assert orders["descending"][: len(first)] == first[::-1], column
        assert all(set(names[len(first) :]) == last for names in orders.values()), column


def test_names_sort_by_the_numbers_in_them(page: Page) -> None:
    page.get_by_role("button", name="image", exact=True).click()
    ours = [name for name in shown_names(page) if name.lower().startswith("img")]
    assert ours == ["IMG1.png", "img2.png", "img10.png"]


def test_filters_hide_the_other_rows(page: Page) -> None:
    name, noted = page.get_by_label("Name contains"), page.get_by_label("only images with notes")
    count = page.locator("output")
    assert (len(shown_names(page)), count.inner_text()) == (5, "5 of 5")
    name.fill("IMG1")
    assert (sorted(shown_names(page)), count.inner_text()) == (["IMG1.png", "img10.png"], "2 of 5")
    # Sorting leaves hidden rows hidden.
    page.get_by_role("button", name="PSNR", exact=True).click()
    assert shown_names(page) == ["img10.png", "IMG1.png"]
    noted.check()
    assert (shown_names(page), count.inner_text()) == ([], "0 of 5")
    name.fill("")
    assert (shown_names(page), count.inner_text()) == (["img2.png"], "1 of 5")
    noted.uncheck()
    name.fill('<img src=x onerror="')
    assert shown_names(page) == [HOSTILE]


def test_a_picture_is_enlarged_by_a_click_and_the_arrows_show_its_neighbours(page: Page) -> None:
    dialog, small = page.get_by_role("dialog"), page.locator("tr.pictures img").first
    small.click()
    assert dialog.locator("img").bounding_box()["width"] > 1.5 * small.bounding_box()["width"]  # type: ignore[index]
    caption = dialog.locator("figcaption")
    assert caption.inner_text() == small.get_attribute("alt")
    page.keyboard.press("ArrowLeft")
    assert caption.inner_text().startswith("error of ")
    assert overflowing(page, "dialog") == []
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert caption.inner_text().startswith("detail of ")
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    small.click()
    dialog.locator("img").click()
    dialog.wait_for(state="hidden")


def test_a_hostile_name_stays_text(page: Page) -> None:
    page.locator("tbody", has_text="onerror").locator("tr.pictures img").first.click()
    assert HOSTILE in page.get_by_role("dialog").inner_text()
    assert page.title() == "napari-siren: batch"
    assert page.locator("script").count() == 1
    assert page.locator("img[src='x']").count() == 0
    assert HOSTILE in shown_names(page)
