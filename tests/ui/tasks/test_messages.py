"""Tests of the texts in the panel."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_siren import FitResult
from napari_siren.batch.manifest import Entry
from napari_siren.core.cost.base import Estimate
from napari_siren.core.image.metrics import Metrics
from napari_siren.core.image.samples import Samples
from napari_siren.core.progress import History, Progress
from napari_siren.errors import InputError
from napari_siren.ui.logic.missing import FILL_NAN
from napari_siren.ui.tasks.messages import (
    decibels,
    describe_batch,
    describe_entry,
    describe_estimate,
    describe_failures,
    describe_outcome,
    describe_progress,
    describe_report,
    duration,
    size,
)
from napari_siren.ui.tasks.updates import Update


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1 s"),
        (8.4, "8 s"),
        (99.4, "99 s"),
        (99.6, "1 min 40 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 0 min"),
        (7530, "2 h 5 min"),
        (90_000, "25 h 0 min"),
    ],
)
def test_times(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("n_bytes", "text"), [(1000, "1 MB"), (12.4e6, "12 MB"), (1e9, "1.0 GB"), (3.44e9, "3.4 GB")])
def test_sizes(n_bytes: float, text: str) -> None:
    assert size(n_bytes) == text


@pytest.mark.parametrize(("psnr", "text"), [(44.126, "44.13 dB"), (math.inf, "exact"), (math.nan, "unknown yet")])
def test_psnrs(psnr: float, text: str) -> None:
    assert decibels(psnr) == text


@pytest.mark.parametrize(
    ("fields", "paused", "text"),
    [
        ({}, False, "Fitting: step 12 of 60, PSNR 31.50 dB; about 8 s left"),
        ({"psnr": math.nan, "seconds_left": None}, False, "Fitting: step 12 of 60"),
        ({}, True, "Paused at step 12 of 60, PSNR 31.50 dB"),
        ({"step": 60}, False, "Measuring, and rendering the upscaled layer…"),
        ({"step": 60}, True, "Paused at step 60 of 60, PSNR 31.50 dB"),
    ],
)
def test_where_a_fit_stands(fields: dict[str, Any], paused: bool, text: str) -> None:
    progress = Progress(12, 60, 2.0, 0.1, 31.5, 8.2, lambda: pytest.fail("the field is not needed"))
    update = Update(replace(progress, **fields), [], [], [], None, paused)
    assert describe_progress(update) == text


@pytest.mark.parametrize(
    ("stopped", "text"),
    [
        ("max_steps", "Done, 60 steps in 3 min 20 s. PSNR 44.13 dB, SSIM 0.9812, largest error 12.3"),
        ("max_seconds", "Done: the time is up, 60 steps"),
        ("target_psnr", "Done: the target PSNR is reached, 60 steps"),
        ("asked", "Stopped and kept, 60 steps"),
        ("", "Fitted, 60 steps"),
    ],
)
def test_how_a_fit_ended(stopped: str, text: str) -> None:
    history = History([59, 60], [199.0, 200.0], [0.1, 0.1], [44.0, 44.1], stopped=stopped)
    result: Any = SimpleNamespace(
        field=SimpleNamespace(observation=None),
        history=history,
        metrics=Metrics(44.126, 0.98123, 1.0, 12.345),
        provenance={"notes": ["the axes were guessed"]},
    )
    assert describe_outcome(result).startswith(text)
    assert describe_outcome(result).endswith(". Note: the axes were guessed")


def test_what_is_not_known_of_a_fit_is_left_out() -> None:
    result: Any = SimpleNamespace(
        field=SimpleNamespace(observation=None),
        history=History(),
        metrics=Metrics(math.inf, None, 0.0, 0.0),
        provenance={},
    )
    assert describe_outcome(result) == "Fitted. PSNR exact, largest error 0"


def restored(removes: str, metrics: Metrics) -> Any:
    layout = SimpleNamespace(dtype="uint16", spacing=(0.1, 0.1))
    return SimpleNamespace(
        field=SimpleNamespace(observation=object(), layout=layout),
        config=SimpleNamespace(restoration=SimpleNamespace(removes=removes), psf_width=0.25),
        history=History(),
        metrics=metrics,
        provenance={"unit": "µm"},
    )


@pytest.mark.parametrize(
    ("removes", "measures", "text"),
    [
        ("noise", {}, "Removed noise with a standard deviation of 2.5 grey levels"),
        (
            "noise",
            {"image_resolution": 0.3117},
            "Removed noise with a standard deviation of 2.5 grey levels. The resolution of the image was 0.312 µm",
        ),
        (
            "blur",
            {"rse": 0.75, "rsp": 0.99876},
            "Removed the blur of 0.25 (full width at half maximum). "
            "Blurred again, it differs from the image by 0.75 grey levels (correlation 0.9988)",
        ),
        (
            "blur",
            {"rse": 0.0},
            "Removed the blur of 0.25 (full width at half maximum). "
            "Blurred again, it differs from the image by 0 grey levels",
        ),
        (
            "blur",
            {},
            "Removed the blur of 0.25 (full width at half maximum). It differs from the image by 2.5 grey levels",
        ),
    ],
)
def test_what_a_restoration_has_done(removes: str, measures: dict[str, float], text: str) -> None:
    assert describe_outcome(restored(removes, Metrics(30.0, None, 2.5, 9.0, **measures))) == f"Fitted. {text}"


def test_how_a_real_fit_ended(fitted: FitResult) -> None:
    took = duration(fitted.history.seconds[-1])
    assert describe_outcome(fitted).startswith(f"Done, 2 steps in {took}. PSNR ")


def test_the_noise_that_was_found_is_told() -> None:
    result = restored("noise", Metrics(30.0, None, 2.5, 9.0))
    result.provenance["noise"] = {"gain": [0.0], "variance_at_zero": [6.3], "least_deviation": [2.51], "ratio": 1.0}
    expected = "Noise of the image: standard deviation 2.51; independent from pixel to pixel"
    assert describe_outcome(result).endswith(f"grey levels. {expected}")


@pytest.mark.parametrize(
    ("seconds", "fits", "text"),
    [
        (75.0, True, "cpu (2 threads): about 75 s, 320 MB"),
        (None, True, "cpu (2 threads): time unknown, 320 MB"),
        (75.0, False, "cpu (2 threads): about 75 s, 320 MB — more than is free"),
    ],
)
def test_what_a_fit_will_take(seconds: float | None, fits: bool, text: str) -> None:
    found = Estimate(seconds, 320_000_000, 10, 1000, "torch", "cpu (2 threads)", fits, None)
    assert describe_estimate(found) == text


def entry(**told: Any) -> Entry:
    return Entry(
        **{"job": "a.png", "input": "/photos/a.png", "output": "a.png", "status": "done", "settings": "", **told}
    )


def test_what_becomes_of_a_batch() -> None:
    assert describe_batch(0, 1, 0) == "Fitting: 0 of 1 image finished"
    assert describe_batch(3, 20, 1) == "Fitting: 3 of 20 images finished, 1 failed"
    bad = entry(status="failed", reason="/photos/a.png is no image.")
    assert describe_entry(bad) == "failed: a.png is no image."
    assert describe_entry(entry()) == "done"
    assert describe_entry(entry(metrics={"psnr": 41.239})) == "done, 41.24 dB"

    def report(**told: Any) -> Any:
        return SimpleNamespace(**{"done": (), "failed": (), "skipped": (), "planned": (), "notes": (), **told})

    assert describe_report(report()) == "Finished: nothing to do"
    assert describe_report(report(done=(entry(), entry()), skipped=(entry(),))) == "Finished: 2 done, 1 done before"
    stopped = report(failed=(bad,), planned=("b.png",))
    assert describe_report(stopped) == "Stopped: 1 failed, 1 left to do. Press Start to continue"
    assert describe_failures(report(failed=(bad,))) == "a.png failed: a.png is no image."
    more = describe_failures(report(failed=(bad, bad, bad)))
    assert more == "a.png failed: a.png is no image. 2 more failed: see the list, or the report."


def test_notes_of_a_batch() -> None:
    plain, noted = entry(), entry(notes=("the axes were guessed", "a profile was left out"))
    report: Any = SimpleNamespace(
        done=(plain, noted), failed=(), skipped=(noted,), planned=(), notes=("a worker died",)
    )
    assert describe_report(report) == (
        "Finished: 2 done, 1 done before. 2 images with notes: see the list. Note: a worker died"
    )
    report.planned = ("b.png",)
    assert ". Press Start to continue. 2 images with notes: see the list. Note: " in describe_report(report)


def test_an_image_that_failed_by_its_nan_gets_the_remedy_of_the_panel() -> None:
    with pytest.raises(InputError) as caught:
        Samples.from_array(np.array([[1.0, np.nan], [2.0, 3.0]]))
    text = describe_entry(entry(status="failed", reason=str(caught.value)))
    assert text == f"failed: the image has 1 NaN value. Tick “{FILL_NAN}”."
