"""The report: one self-contained file with the failures first, safe with all names of files."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from batching import settings
from PIL import Image

import napari_siren as ns
from napari_siren.batch.manifest import Entry, Manifest
from napari_siren.batch.report import BatchReport, write_html
from napari_siren.batch.worker import record_path
from napari_siren.core.storage.atomic import write_json
from napari_siren.reporting.thumbnails import thumbnails

METRICS = {"psnr": 41.0, "ssim": 0.98, "rmse": 1.5, "max_abs": 9.0, "psnr_heldout": None, "consistency": None}
PICTURE = "data:image/webp;base64,UklGRg=="


def entry(job: str, **told: object) -> Entry:
    basis = Entry(job, f"/in/{job}", job, "done", "s", metrics=METRICS, seconds=2.0, steps=60)
    return replace(basis, **told)  # type: ignore[arg-type]


def write(folder: Path, done: list[Entry], failed: list[Entry] = [], **told: object) -> str:  # noqa: B006
    with Manifest(folder).locked():
        for one in done:
            write_json(record_path(folder, one.job), {"entry": one.as_json(), "thumbnails": {"image": PICTURE}})
    report = BatchReport(folder, tuple(done), tuple(failed), (), (), settings(), folder / "report.html")
    write_html(replace(report, **told))  # type: ignore[arg-type]
    return (folder / "report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """The tags of a page with their attributes. Each tag has to be closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_it_needs_nothing_beside_it(tmp_path: Path) -> None:
    text = write(tmp_path, [entry("a.png"), entry("b.png", metrics={**METRICS, "psnr": 20.0})])
    page = Page(text)
    assert page.open == []
    assert not [name for name, _ in page.tags if name in ("link", "iframe")]
    for name, attributes in page.tags:
        if "src" in attributes:
            assert (name, str(attributes["src"]).startswith("data:")) == ("img", True)
        assert not str(attributes.get("href") or "#").startswith("http")
    assert "@import" not in text
    assert len(re.findall(r"<svg", text)) == 3


def test_failures_come_first_with_their_reasons(tmp_path: Path) -> None:
    bad = entry("bad.tif", status="failed", reason="not an image", traceback="line 5", metrics={})
    frame = entry("movie.tif#12", status="failed", reason="NaN", metrics={})
    text = write(tmp_path, [entry("a.png")], [bad, frame])
    order = ["2</b> failed", "1</b> done", "/in/bad.tif", "not an image", "line 5", ", frame 12", "a.png", "Settings"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def test_what_is_not_known_has_no_value_to_sort_by(tmp_path: Path) -> None:
    shown = [
        entry("exact.png", metrics={**METRICS, "psnr": math.inf}),
        entry("small.png", metrics={**METRICS, "ssim": None}),
    ]
    text = write(tmp_path, shown)
    assert '<td data-title="PSNR" data-value="inf">exact</td>' in text
    assert '<td data-title="SSIM" data-value="">–</td>' in text
    assert '<td data-title="PSNR" data-value="41">41.0 dB</td>' in text


def test_stacks_put_together_are_no_rows(tmp_path: Path) -> None:
    text = write(tmp_path, [entry("movie.tif#0"), entry("movie.tif", metrics={})])
    assert len(re.findall("<tbody>", text)) == 1
    assert "1</b> done" in text


def test_notes_are_shown_and_are_never_code(tmp_path: Path) -> None:
    text = write(tmp_path, [entry("a.png", notes=("a <b>guess</b>", "a loss"))])
    assert "Note: a &lt;b&gt;guess&lt;/b&gt;" in text
    assert "Note: a loss" in text
    Page(text)


@pytest.mark.parametrize("name", ['<script>alert("x")</script>.png', "a\"b'c&d.png", "größe ${rows}.png"])
def test_a_name_is_never_code(tmp_path: Path, name: str) -> None:
    bad = entry(name, status="failed", reason=f"{name} is <b>bad</b>", traceback=name, metrics={})
    page = Page(write(tmp_path, [entry(name)], [bad]))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert [
        attributes["data-value"]
        for tag, attributes in page.tags
        if tag == "td" and attributes.get("data-title") == "image"
    ] == [name]


def test_nothing_done_and_nothing_failed(tmp_path: Path) -> None:
    assert "nothing to do" in write(tmp_path, [])
    assert "3</b> left to do" in write(tmp_path, [], planned=("a", "b", "c"))


def test_its_text_is_short(tmp_path: Path) -> None:
    done = tuple(entry(f"{i}.png") for i in range(40))
    failed = tuple(entry(f"bad {i}.tif", status="failed", reason="not an image\n" * 40, metrics={}) for i in range(9))
    report = BatchReport(Path("out"), done, failed, done[:3], ("left.png",), settings(), None)
    first, *lines = repr(report).splitlines()
    assert first == "BatchReport('out', 9 failed, 40 done, 3 done before, 1 left to do)"
    assert (lines[0][:30], lines[-1]) == ("  bad 0.tif: not an image not ", "  4 more failed: see report.failed")
    assert (len(lines), max(map(len, lines))) == (6, 120)
    assert repr(replace(report, done=(), failed=(), skipped=(), planned=())) == "BatchReport('out', nothing to do)"


def test_a_dry_run_writes_no_report(tmp_path: Path) -> None:
    write_html(BatchReport(tmp_path, (), (), (), (), settings(), None))
    assert list(tmp_path.iterdir()) == []


def test_the_plots_are_drawings_of_what_is_known(tmp_path: Path) -> None:
    done = [entry(f"{i}.png", metrics={**METRICS, "psnr": 30.0 + i, "ssim": None}) for i in range(4)]
    text = write(tmp_path, [*done, entry("exact.png", metrics={**METRICS, "psnr": math.inf, "ssim": None})])
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    titles = ["".join(ElementTree.fromstring(drawing).itertext()) for drawing in drawings]
    assert ["PSNR [dB]" in titles[0], "time [s]" in titles[1], len(titles)] == [True, True, 2]


def test_without_matplotlib_there_are_no_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_siren.batch.report.can_plot", lambda: False)
    text = write(tmp_path, [entry(f"{i}.png") for i in range(4)])
    assert "Distribution" not in text
    assert "3.png" in text


@pytest.mark.parametrize(
    ("axes", "shape", "spacing", "sizes"),
    [
        ("YXC", (20, 40, 3), None, {"image": (192, 96), "error": (192, 96)}),
        ("YX", (400, 200), None, {"image": (96, 192)}),
        ("ZYX", (5, 20, 40), (3.0, 2.0, 1.0), {"image": (192, 192)}),
        ("CX", (2, 60), None, {"image": (192, 48), "error": (192, 48)}),
    ],
)
def test_thumbnails_have_the_image_s_proportions(
    axes: str, shape: tuple[int, ...], spacing: tuple[float, ...] | None, sizes: dict[str, tuple[int, int]]
) -> None:
    import base64
    from io import BytesIO

    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    result = ns.fit(image, axes=axes, spacing=spacing, config=settings().config, device="cpu")
    drawn = thumbnails(result, 2)
    assert set(drawn) == {"image", "detail", "upscaled", "error"}
    opened = {name: Image.open(BytesIO(base64.b64decode(uri.split(",")[1]))) for name, uri in drawn.items()}
    assert opened["detail"].size == opened["upscaled"].size
    for name, size in sizes.items():
        assert opened[name].size == size
