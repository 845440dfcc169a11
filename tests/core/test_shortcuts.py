"""The functions that return a better image in one call."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import napari_siren as ns
from napari_siren.errors import ConfigError, InputError

QUICK: dict[str, Any] = {"task_steps": 5, "max_steps": 5}


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
