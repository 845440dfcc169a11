"""Tests of the sample images in napari: size, colours, voxel size, units, axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_siren.io.images import read_image, sample_path
from napari_siren.ui.contributions.samples import small_photo


def open_sample(key: str) -> Image:
    """Open a sample in the same way as the menu, and return its layer."""
    [layer] = ViewerModel().open_sample("napari-siren", key)
    assert isinstance(layer, Image)
    return layer


def distance(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Return the root mean square difference of two arrays."""
    return float(np.sqrt(np.mean((a - b) ** 2)))


def test_the_photo_is_the_one_that_comes_with_the_package() -> None:
    layer = open_sample("kodak23")
    assert layer.rgb
    assert np.array_equal(layer.data, read_image(sample_path()).array)
    assert layer.axis_labels == ("y", "x")


def test_the_small_photo_is_a_small_copy_without_aliasing() -> None:
    layer = open_sample("small_photo")
    assert (layer.name, layer.data.shape, layer.data.dtype, layer.rgb) == ("photo 32 x 32", (32, 32, 3), np.uint8, True)
    # Each pixel should be the mean of 16 x 16 pixels. One of these pixels instead would be aliasing.
    square = read_image(sample_path()).array[:, 128:-128].astype(float)
    means = square.reshape(32, 16, 32, 16, 3).mean(axis=(1, 3))
    assert distance(layer.data, means) < 0.4 * distance(square[8::16, 8::16], means)


def test_the_stack_has_its_voxel_size_from_the_file() -> None:
    layer = open_sample("confocal_stack")
    assert (layer.data.shape, layer.data.dtype, layer.rgb) == ((25, 137, 147), np.uint16, False)
    assert layer.scale == pytest.approx((0.3876, 0.35144, 0.35144), abs=1e-4)
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    assert layer.axis_labels == ("z", "y", "x")
    low, high = layer.contrast_limits
    assert layer.data.min() <= low < high < layer.data.max()


def test_samples_can_be_changed_without_changing_the_next() -> None:
    def data(samples: list[tuple[Any, ...]]) -> Any:
        return samples[0][0]

    data(small_photo())[:] = 0
    assert data(small_photo()).any()
