"""What needs matplotlib is left out with a note, or is one error, where it is not installed."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest

import napari_siren as ns
from napari_siren.core.progress import History
from napari_siren.reporting.fit_report import write_report
from napari_siren.reporting.notebook import thumbnails
from napari_siren.reporting.plots import can_plot

INSTALL = 'pip install "napari-siren[plots]"'


@pytest.fixture
def without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "napari_siren.reporting.figures", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def test_matplotlib_is_found() -> None:
    assert can_plot()


@pytest.mark.usefixtures("without_matplotlib")
def test_a_report_without_figures_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    result = ns.fit(np.eye(24, dtype=np.float32), max_steps=3)
    with caplog.at_level(logging.WARNING, "napari_siren"):
        written = write_report(result, tmp_path, scale=2)
    assert sorted(written) == ["model", "reconstruction", "report", "upscaled"]
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written.values()}
    assert INSTALL in caplog.text
    notes = ns.load(written["model"]).provenance["notes"]
    assert [note for note in notes if INSTALL in note]
    assert len(thumbnails(result, 2)) == 4


def test_figures_of_an_earlier_report_do_not_stay(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    result = ns.fit(np.eye(24, dtype=np.float32), max_steps=3)
    write_report(result, tmp_path, scale=2)
    assert (tmp_path / "overview.png").is_file()
    request.getfixturevalue("without_matplotlib")
    write_report(result, tmp_path, scale=2)
    assert not (tmp_path / "overview.png").exists()
    assert not (tmp_path / "error.png").exists()


@pytest.mark.usefixtures("without_matplotlib")
def test_a_plot_of_the_history_is_an_error_with_the_remedy() -> None:
    with pytest.raises(ns.InputError) as caught:
        History(step=[1], seconds=[1.0], loss=[1.0], psnr=[1.0]).plot()
    assert INSTALL in str(caught.value)
