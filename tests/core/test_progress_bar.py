"""The bar for scripts and notebooks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_siren as ns
from napari_siren.core.progress_bar import progress_bar

QUICK: dict[str, Any] = {"preset": "fast", "max_steps": 4}


def image() -> Any:
    return np.random.default_rng(0).random((16, 20), dtype=np.float32)


def test_it_goes_up_and_ends_full(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("work") as bar:
        for share in (0.5, 0.25, 0.75):
            bar.show(share, "half")
    shown = capsys.readouterr().err
    assert "work: 100%" in shown


def test_an_error_leaves_it_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:

    def fail() -> None:
        with progress_bar("work") as bar:
            bar.show(0.5)
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert "100%" not in capsys.readouterr().err


def test_nothing_is_shown_without_a_request(capsys: pytest.CaptureFixture[str]) -> None:
    ns.fit(image(), **QUICK).render(scale=2)
    assert capsys.readouterr().err == ""


def test_fits_renders_and_batches_have_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = ns.fit(image(), progress=True, **QUICK)
    assert "fit: 100%" in capsys.readouterr().err
    result.render(scale=2, progress=True)
    assert "render: 100%" in capsys.readouterr().err
    ns.fit_series(np.stack([image()] * 2), progress=True, **QUICK)
    assert capsys.readouterr().err.count("fit: 100%") >= 2


def test_a_fit_by_blocks_has_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("zarr")
    ns.fit_blocks(image(), tmp_path / "x.ome.zarr", progress=True, **QUICK)
    assert "fit: 100%" in capsys.readouterr().err
