"""A result in a notebook."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np

import napari_siren as ns
from napari_siren.reporting.notebook import result_html


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_pictures_figures_and_notes() -> None:
    image = np.random.default_rng(0).random((4, 16, 20), dtype=np.float32)
    page = Tags(ns.fit(image, preset="fast", max_steps=4)._repr_html_())
    assert page.tags.count("img") == 4
    assert page.tags.count("svg") == 1
    assert any("PSNR" in word for word in page.words)
    assert any("were guessed" in word for word in page.words)


def test_a_loaded_result_has_no_pictures(tmp_path: Path) -> None:
    result = ns.fit(np.eye(16, dtype=np.float32), preset="fast", max_steps=4)
    page = Tags(result_html(ns.load(result.save(tmp_path / "x.safetensors"))))
    assert ("img" in page.tags, "svg" in page.tags) == (False, True)


def test_one_step_and_infinite_values_have_no_curve() -> None:
    page = Tags(result_html(ns.fit(np.zeros((8, 8), np.uint8), max_steps=1)))
    assert "svg" not in page.tags


def test_notes_are_text(tmp_path: Path) -> None:
    result = ns.fit(np.eye(16, dtype=np.float32), preset="fast", max_steps=2)
    result.provenance["notes"].append("<script>alert(1)</script>")  # type: ignore[index]
    assert "script" not in Tags(result_html(result)).tags


def test_a_series_shows_a_few_of_its_parts() -> None:
    frames = np.random.default_rng(0).random((5, 2, 16, 20), dtype=np.float32)
    series = ns.fit_series(frames, axes="TCYX", channels="each", preset="fast", max_steps=4)
    page = Tags(series._repr_html_())
    assert (page.tags.count("img"), page.tags.count("svg")) == (3 * 4, 3 + 1)
    assert [word for word in page.words if word.startswith("parts[")] == ["parts[0][0]", "parts[2][1]", "parts[4][1]"]
    assert repr(series) in page.words
