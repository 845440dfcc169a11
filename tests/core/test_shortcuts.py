"""The functions that return a better image in one call."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import napari_siren as ns
from napari_siren.errors import ConfigError, InputError

QUICK: dict[str, Any] = {"task_steps": 5, "max_steps": 5}
FAST = ns.FitConfig.preset("fast", max_steps=3)


def picture(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.parametrize(
    ("verb", "options"),
    [(ns.upscale, {"scale": 1}), (ns.denoise, {}), (ns.deblur, {"psf_width": 2.0})],
    ids=["upscale", "denoise", "deblur"],
)
@pytest.mark.parametrize("kind", ["numpy", "dask", "xarray"])
def test_the_result_is_of_the_kind_of_the_image(verb: Any, options: dict[str, Any], kind: str) -> None:
    array = picture(24, 32)
    expected = verb(array, **options, **QUICK)
    assert (type(expected), expected.shape, expected.dtype) == (np.ndarray, (24, 32), np.float32)
    given: Any
    if kind == "dask":
        given = pytest.importorskip("dask.array").from_array(array, chunks=16)
    elif kind == "xarray":
        given = pytest.importorskip("xarray").DataArray(array, dims=("y", "x"), coords={"x": 0.5 * np.arange(32)})
        options = {**options, "spacing": (1, 1)}
    else:
        given = array
    result = verb(given, **options, **QUICK)
    assert type(result) is type(given)
    np.testing.assert_array_equal(np.asarray(result), expected)


def test_a_stack_gets_equal_spacing() -> None:
    stack = picture(4, 16, 20)
    assert ns.isotropic(stack, axes="ZYX", spacing=(3, 1, 1), **QUICK).shape == (12, 16, 20)
    assert ns.isotropic(stack[0], spacing=(1, 0.5), **QUICK).shape == (32, 20)
    # Axes of one entry stay.
    assert ns.isotropic(stack[None], axes="CZYX", spacing=(2, 1, 1), **QUICK).shape == (1, 8, 16, 20)


def test_the_spacing_of_a_data_array_is_known() -> None:
    xarray = pytest.importorskip("xarray")
    coordinates = {"z": 2.0 * np.arange(4), "y": 1.0 * np.arange(16), "x": 1.0 * np.arange(20)}
    stack = xarray.DataArray(picture(4, 16, 20), dims=("z", "y", "x"), coords=coordinates)
    result = ns.isotropic(stack, **QUICK)
    assert result.shape == (8, 16, 20)
    assert np.allclose(np.diff(result["z"]), 1)


@pytest.mark.parametrize(("spacing", "text"), [(None, "is unknown"), (2, "is 2 along all axes"), ((1, 1, 1), "is 1")])
def test_equal_spacing_needs_a_spacing(spacing: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        ns.isotropic(picture(4, 16, 20), axes="ZYX", spacing=spacing)


def test_a_bad_scale_is_refused_before_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_siren.core.shortcuts.fit", lambda *_, **__: pytest.fail("it fits"))
    for scale in (0, -1, (1, 2, 3), float("nan")):
        with pytest.raises(InputError):
            ns.upscale(picture(16, 16), scale)


def test_settings_are_taken_instead_of_the_preset() -> None:
    config = ns.FitConfig.preset("fast", max_steps=3)
    assert ns.denoise(picture(16, 16), config=config).shape == (16, 16)
    with pytest.raises(ConfigError, match="both preset and config"):
        ns.denoise(picture(16, 16), config=config, preset="fast")


# ---- time series: the frames one by one -----------------------------------------------------------------


@pytest.mark.parametrize(("axes", "shape"), [("TZYX", (2, 3, 8, 10)), ("CZYTX", (2, 3, 8, 2, 10)), ("TYX", (2, 8, 10))])
def test_the_frames_of_a_series_are_done_one_by_one(axes: str, shape: tuple[int, ...]) -> None:
    film, time = picture(*shape), axes.index("T")
    enlarged = ns.upscale(film, 2, axes=axes, config=FAST)
    assert enlarged.shape == tuple(n if a in "TC" else 2 * n for n, a in zip(shape, axes, strict=True))
    first = ns.upscale(film.take(0, time), 2, axes=axes.replace("T", ""), config=FAST)
    np.testing.assert_array_equal(enlarged.take(0, time), first)
    series = ns.fit_series(film, axes=axes, config=FAST)
    np.testing.assert_array_equal(ns.deblur(film, axes=axes, config=FAST), series.reconstruction)
    spacing = (1,) * (len(axes.replace("C", "")) - 2) + (0.5,)
    shape_of_cubes = ns.isotropic(film, axes=axes, spacing=spacing, config=FAST).shape
    assert shape_of_cubes == tuple(n if a in "TCX" else 2 * n for n, a in zip(shape, axes, strict=True))


def test_a_film_of_planes_is_denoised_as_a_whole_and_a_film_of_stacks_one_by_one() -> None:
    seen: list[tuple[int, int]] = []
    options: dict[str, Any] = {"pretrained": None, "on_progress": lambda p: seen.append((p.entry, p.entries)), **QUICK}
    assert ns.denoise(picture(2, 3, 16, 16), axes="TZYX", **options).shape == (2, 3, 16, 16)
    assert set(seen) == {(0, 2), (1, 2)}
    seen.clear()
    assert ns.denoise(picture(3, 16, 16), axes="TYX", **options).shape == (3, 16, 16)
    assert set(seen) == {(0, 1)}


def test_a_series_keeps_its_labels() -> None:
    xarray = pytest.importorskip("xarray")
    coordinates = {"time": [0.0, 2.0], "c": ["red", "green"], "z": [0.0, 2.0, 4.0], "x": np.arange(10.0)}
    film = xarray.DataArray(picture(2, 2, 3, 8, 10), dims=("time", "c", "z", "y", "x"), coords=coordinates)
    result = ns.isotropic(film, spacing=(2, 1, 1), config=FAST)
    assert (result.dims, result.shape) == (film.dims, (2, 2, 6, 8, 10))
    assert (result["time"].values.tolist(), result["c"].values.tolist()) == ([0.0, 2.0], ["red", "green"])
    assert np.allclose(np.diff(result["z"]), 1)


def test_masked_pixels_of_a_series_are_missing() -> None:
    film = np.ma.MaskedArray(picture(2, 12, 14), mask=np.zeros((2, 12, 14), bool))
    film.data[1, :4] = np.nan
    film.mask[1, :4] = True
    assert np.isfinite(ns.upscale(film, 1, axes="TYX", config=FAST)).all()
    with pytest.raises(InputError, match=r"Use \(2, 12, 14\)"):
        ns.upscale(film, 1, axes="TYX", config=FAST, missing=np.zeros((12, 14), bool))


@pytest.mark.parametrize(
    "options", [{"scale": (2, 2, 2)}, {"start": "model"}, {"supervision": "gradient"}, {"axes": "TT"}]
)
def test_what_a_series_cannot_have_is_refused_before_the_fit(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_siren.core.series.entries.fit_iter", lambda *_, **__: pytest.fail("it fits"))
    with pytest.raises(InputError):
        ns.upscale(picture(2, 8, 10), **{"axes": "TYX", **options})


def test_a_series_that_does_not_fit_into_memory_is_refused_before_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_siren.core.series.entries.fit_iter", lambda *_, **__: pytest.fail("it fits"))
    monkeypatch.setattr("napari_siren.core.training.plan.free_memory", lambda device: 20_000)
    # A frame of the result has 10,240 bytes, and there are copies for writing.
    with pytest.raises(InputError, match="2 x 4 x 16 x 20 pixels takes"):
        ns.upscale(picture(2, 2, 8, 10), axes="TZYX", config=FAST)
