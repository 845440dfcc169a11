"""Tests of the search for NaN and infinite values in a layer, and of the check before a fit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask.array
import numpy as np
import pytest
from napari.layers import Image

from napari_siren.errors import InputError
from napari_siren.layers.spec import LayerSpec
from napari_siren.ui.logic import missing
from napari_siren.ui.logic.missing import FILL_NAN, check_finite, may_have_nan


def pixels(bad: float | None = None, dtype: Any = np.float32) -> np.ndarray:
    values = np.arange(48, dtype=dtype).reshape(6, 8)
    if bad is not None:
        values[2, 3] = bad
    return values


def layer_of(data: Any, **options: Any) -> Image:
    return Image(data, contrast_limits=(0, 48), **options)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_pixels_in_memory_are_searched(dtype: Any) -> None:
    assert not may_have_nan(layer_of(pixels(dtype=dtype)))
    for bad in (np.nan, np.inf, -np.inf):
        assert may_have_nan(layer_of(pixels(bad, dtype)))
    assert not may_have_nan(layer_of(pixels(dtype=np.uint8)))


def test_lazy_and_large_pixels_are_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def read(block: np.ndarray) -> np.ndarray:
        pytest.fail("the pixels were read")

    for dtype, possible in ((np.float32, True), (np.uint16, False)):
        lazy = dask.array.zeros((6, 8), dtype=dtype).map_blocks(read, dtype=dtype, meta=np.zeros((0, 0), dtype))
        assert may_have_nan(SimpleNamespace(data=lazy, dtype=lazy.dtype)) is possible
        mapped = np.lib.format.open_memmap(tmp_path / f"{possible}.npy", "w+", dtype, (6, 8))
        assert may_have_nan(layer_of(mapped)) is possible
        levels = [pixels(dtype=dtype), pixels(dtype=dtype)[::2, ::2]]
        assert may_have_nan(layer_of(levels, multiscale=True)) is possible
    monkeypatch.setattr(missing, "_MOST_VALUES", 47)
    assert may_have_nan(layer_of(pixels()))


def test_only_pixels_that_count_are_checked() -> None:
    for layer, fill_nan in (
        (layer_of(pixels()), False),
        (layer_of(pixels(dtype=np.uint8)), False),
        (layer_of(pixels(np.nan)), True),
        (layer_of(np.ma.masked_invalid(pixels(np.inf))), False),
    ):
        check_finite(LayerSpec.from_layer(layer, fill_nan=fill_nan))
    check_finite(LayerSpec.from_layer(layer_of(pixels(np.nan)), region=np.isfinite(pixels(np.nan))))
    elsewhere = np.ones((6, 8), dtype=bool)
    elsewhere[5, 5] = False
    with pytest.raises(InputError, match="1 value that is not finite"):
        check_finite(LayerSpec.from_layer(layer_of(pixels(np.nan)), region=elsewhere))


def test_channels_and_joined_frames_are_checked_too() -> None:
    stack = np.stack([pixels(np.nan), pixels()])
    channels = layer_of(stack, axis_labels=("c", "y", "x"), name="two")
    with pytest.raises(InputError, match=f"“two” has 1 value .*Tick “{FILL_NAN}”, or choose a region"):
        check_finite(LayerSpec.from_layer(channels))
    check_finite(LayerSpec.from_layer(channels, fill_nan=True))
    film = layer_of(np.stack([stack] * 3), axis_labels=("t", "c", "y", "x"))
    with pytest.raises(InputError, match="3 values that are not finite"):
        check_finite(LayerSpec.from_layer(film, lazily=True).joined().loaded())
    check_finite(LayerSpec.from_layer(film, lazily=True, fill_nan=True).joined().loaded())
