"""Tests of the files of a fit: all files in the right size, and a report in strict JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import napari_siren as ns
from napari_siren.core.image.axes import Axes
from napari_siren.core.progress import History
from napari_siren.core.result import FitResult
from napari_siren.io.images import read_image
from napari_siren.io.picture import Picture
from napari_siren.reporting.figures import error_figure, overview_figure
from napari_siren.reporting.fit_report import describe, prepare_folder, write_report
from napari_siren.reporting.views import View, busiest_window, describe_metrics

SPATIAL = {"Z": 5, "Y": 12, "X": 18}


def picture(axes: str, dtype: str = "uint8", channels: int = 3) -> npt.NDArray[np.generic]:
    shape = [channels if a == "C" else SPATIAL[a] for a in axes]
    values = sum(np.sin((k + 1) * i / 3) for k, i in enumerate(np.indices(shape)))
    scaled = (values - values.min()) / np.ptp(values)
    return scaled > 0.5 if dtype == "bool" else (200 * scaled).astype(dtype)


def fitted(axes: str, dtype: str = "uint8", channels: int = 3, **options: Any) -> FitResult:
    options = {"preset": "fast", "max_steps": 3, "hidden_features": 8, "hidden_layers": 1} | options
    return ns.fit(picture(axes, dtype, channels), axes=axes, **options)


def strict(path: Path) -> dict[str, Any]:
    """Read JSON; raise AssertionError for NaN and Infinity."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in {path}")

    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    return found


@pytest.mark.parametrize(
    ("axes", "dtype", "channels", "ending"),
    [
        ("YX", "uint8", 1, ".png"),
        ("YXC", "uint8", 3, ".png"),
        ("YXC", "uint8", 4, ".png"),
        ("CYX", "uint16", 2, ".tif"),
        ("YX", "float32", 1, ".tif"),
        ("YX", "bool", 1, ".tif"),
        ("ZYX", "uint16", 1, ".tif"),
        ("ZCYX", "uint8", 4, ".tif"),
        ("XYZ", "uint8", 1, ".tif"),
        ("X", "float64", 1, ".tif"),
    ],
)
def test_every_file_is_there_and_holds_the_result(
    tmp_path: Path, axes: str, dtype: str, channels: int, ending: str
) -> None:
    result = fitted(axes, dtype, channels)
    files = write_report(result, tmp_path / "deep" / "out", scale=2)
    assert {p.name for p in (tmp_path / "deep" / "out").iterdir()} == {path.name for path in files.values()}
    assert files["reconstruction"].name == f"reconstruction{ending}"
    assert files["upscaled"].name == f"upscaled_x2{ending}"
    for kind, wanted in (("reconstruction", result.reconstruction), ("upscaled", result.render(scale=2))):
        found = read_image(files[kind])
        assert found.axes is not None
        # A line of pixels is read as an image of one row.
        assert sorted(found.axes) == sorted("YX" if axes == "X" else axes)
        order = [axes.index(a) for a in found.axes if a in axes]
        np.testing.assert_array_equal(found.array.reshape(wanted.transpose(order).shape), wanted.transpose(order))
    for kind in ("error", "overview"):
        assert min(read_image(files[kind]).array.shape[:2]) > 200
    assert ns.load(files["model"]).reconstruction.shape == result.reconstruction.shape
    assert strict(files["report"])["files"] == {kind: path.name for kind, path in files.items()}


def test_the_report_tells_what_reproduces_the_fit(tmp_path: Path) -> None:
    result = fitted("ZYX", "uint16", spacing=(0.4, 0.1, 0.1), seed=7)
    told = strict(write_report(result, tmp_path, (1, 2, 2), name="cells.tif", unit="µm")["report"])
    assert told["image"] == {
        "name": "cells.tif",
        "axes": "ZYX",
        "shape": [5, 12, 18],
        "dtype": "uint16",
        "spacing": [0.4, 0.1, 0.1],
        "unit": "µm",
    }
    assert ns.FitConfig(**told["config"]) == result.config
    assert (told["seed"], told["steps"], told["stopped"], told["scale"]) == (7, 3, "max_steps", [1, 2, 2])
    assert told["data_sha256"] == result.provenance["data_sha256"]
    assert told["versions"]["napari-siren"] == ns.__version__ == told["napari_siren"]
    assert told["device"].startswith("cpu") or "cuda" in told["device"]
    assert told["engine"] == result.provenance["engine"]
    assert told["metrics"]["rmse"] == result.metrics.rmse
    assert told["history"]["step"] == [1, 2, 3]
    assert told["parameters_per_value"] == pytest.approx(told["parameters"] / (5 * 12 * 18))


def test_notes_on_the_file_the_fit_and_the_results_are_together(tmp_path: Path) -> None:
    result = fitted("YX")
    result = replace(result, provenance={**result.provenance, "notes": ["the fit", "both"]})
    source = Picture(result.reconstruction, Axes("YX"), (0.5, 0.5), "µm", Path("cells.tif"), notes=("the file", "both"))
    files = write_report(result, tmp_path, scale=2, source=source)
    notes = ["the file", "both", "the fit"]
    assert strict(files["report"])["notes"][:3] == ns.load(files["model"]).provenance["notes"][:3] == notes
    assert all("cannot hold" in note for note in strict(files["report"])["notes"][3:])


def test_pixel_sizes_follow_the_scale(tmp_path: Path) -> None:
    result = fitted("ZYX", "uint16", spacing=(0.4, 0.1, 0.1))
    files = write_report(result, tmp_path, (1, 2, 4), unit="µm")
    assert files["upscaled"].name == "upscaled_x1x2x4.tif"
    assert read_image(files["reconstruction"]).spacing == pytest.approx((0.4, 0.1, 0.1))
    assert read_image(files["upscaled"]).spacing == pytest.approx((0.4, 0.05, 0.025))
    assert read_image(files["upscaled"]).unit == "µm"
    loaded = ns.load(files["model"])
    assert loaded.provenance["unit"] == "µm"
    assert describe(loaded)["image"]["unit"] == "µm"


def test_an_infinite_psnr_and_events_are_strict_json(tmp_path: Path) -> None:
    result = ns.fit(np.full((9, 10), 7, dtype=np.uint8), preset="fast", max_steps=2)
    result.history.events.append((1, "something happened"))
    told = strict(write_report(result, tmp_path, 2)["report"])
    assert told["metrics"]["psnr"] == "inf"
    assert told["history"]["events"] == [{"step": 1, "event": "something happened"}]


def test_a_long_course_is_thinned_and_keeps_its_end() -> None:
    result = fitted("YX")
    history = History(**{k: list(range(1, 1004)) for k in ("step", "seconds", "loss", "psnr")})
    told = describe(replace(result, history=history))["history"]
    assert len(told["step"]) <= 200
    assert told["step"][-1] == 1003
    assert set(np.diff(told["step"])) == {6}


def test_missing_pixels_do_not_spoil_the_pictures(tmp_path: Path) -> None:
    image = picture("YX", "float32")
    image[3:5, 4:8] = np.nan
    result = ns.fit(image, missing=np.isnan(image), preset="fast", max_steps=3)
    told = strict(write_report(result, tmp_path, 2)["report"])
    assert told["metrics"]["ssim"] is None


def test_resumable_models_can_be_resumed(tmp_path: Path) -> None:
    result = fitted("YX")
    assert ns.load(write_report(result, tmp_path, 1)["model"]).state is None
    model = write_report(result, tmp_path, 1, resumable=True)["model"]
    assert ns.fit(picture("YX"), config=result.config, max_steps=5, resume=model).history.step == [4, 5]


def test_a_loaded_result_has_nothing_to_report(tmp_path: Path) -> None:
    model = fitted("YX").save(tmp_path / "model.safetensors")
    with pytest.raises(ns.InputError, match="Fit the image"):
        write_report(ns.load(model), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["file", "file/out"])
def test_a_folder_that_cannot_be_made_is_told_before_the_fit(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ns.StorageError, match="in the way"):
        prepare_folder(tmp_path / name)


def test_preparing_a_folder_leaves_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("old")
    assert prepare_folder(tmp_path) == tmp_path
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("report.json", "old")]


# ---- the figures -----------------------------------------------------------------------------------------


def test_the_error_map_is_symmetric_about_zero_and_tells_its_unit() -> None:
    figure = error_figure(fitted("YXC"))
    drawn, bar = figure.axes[0].images[0], figure.axes[0].child_axes[0]
    low, high = drawn.get_clim()
    assert low == -high < 0
    assert bar.get_ylabel() == "reconstruction − image [grey levels]"
    assert figure.axes[0].get_title() == "error (mean of 3 channels)"


def test_the_error_map_has_the_sign_of_reconstruction_minus_image() -> None:
    result = fitted("YX", "float32")
    result.__dict__["error"] = np.full((12, 18), 0.25, dtype=np.float32)
    red, _, blue, _ = (drawn := error_figure(result).axes[0].images[0]).to_rgba(drawn.get_array())[0, 0]
    assert red > blue


def test_the_overview_says_which_slice_and_which_channel() -> None:
    figure = overview_figure(fitted("ZCYX", "uint16", 2))
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert titles == [
        "image (slice 3 of 5, channel 1 of 2)",
        "reconstruction (slice 3 of 5, channel 1 of 2)",
        "error (slice 3 of 5, mean of 2 channels)",
    ]


def test_a_course_that_is_not_known_is_no_empty_diagram() -> None:
    image = np.random.default_rng(0).normal(100, 20, (40, 48)).astype(np.float32)
    course = overview_figure(ns.fit(image, preset="denoise")).axes[5]
    assert not course.axison
    assert [text.get_text() for text in course.texts] == ["The PSNR was not estimated while fitting."]


def test_the_detail_is_the_same_part_of_image_and_field() -> None:
    result = fitted("XYZ", "float32", max_steps=40)
    view = View(result.field.layout)
    rows, columns = busiest_window(view.picture(result.samples.image))  # type: ignore[union-attr]
    again = result.render(scale=view.magnification(1), region=view.window(rows, columns))
    whole = view.plane(result.reconstruction)
    np.testing.assert_allclose(view.plane(again), whole[:, slice(*rows), slice(*columns)], rtol=1e-4, atol=1e-3)


def test_pixels_that_are_not_square_are_drawn_so() -> None:
    assert View(fitted("ZX", spacing=(3.0, 0.5)).field.layout).aspect == 6


def test_the_busiest_window_is_where_the_contrast_is() -> None:
    plane = np.zeros((1, 100, 80))
    plane[0, 60:70:2, 30:40] = 1
    rows, columns = busiest_window(plane)
    assert rows[0] <= 60 < 69 <= rows[1]
    assert columns[0] <= 30 < 40 <= columns[1]
    assert (rows[1] - rows[0], columns[1] - columns[0]) == (16, 16)


def test_a_small_image_is_its_own_detail() -> None:
    assert busiest_window(np.zeros((1, 3, 5))) == ((0, 3), (0, 5))


def test_the_heading_has_the_measures_of_a_restoration() -> None:
    result = fitted("YX", "uint16")
    plain = describe_metrics(result)
    assert plain.startswith(f"PSNR {result.metrics.psnr:.2f} dB")
    assert "\n" not in plain
    seen = replace(result.metrics, rse=1.25, rsp=0.98765)
    sharp = replace(result, metrics=seen, config=ns.FitConfig.preset("deblur"))
    assert describe_metrics(sharp) == f"{plain}\nseen again by the pixels: RSE 1.25 grey levels  ·  RSP 0.9877"
    clean = replace(
        result, metrics=replace(seen, image_resolution=0.3117), config=ns.FitConfig.preset("denoise"), provenance={}
    )
    assert describe_metrics(clean) == f"{plain}\nresolution before denoising 0.312 pixels"
