"""Statistics of images larger than memory, from one pass over their pixels."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_siren.core.image import statistics as scan
from napari_siren.core.image.metrics import peak_of
from napari_siren.core.image.samples import Samples
from napari_siren.core.image.statistics import ImageStatistics, slabs
from napari_siren.errors import InputError


@given(
    data=st.data(),
    axes=st.sampled_from(("X", "YX", "YXC", "CYX", "ZYX", "CZYX")),
    dtype=st.sampled_from(("bool", "uint8", "int8", "uint16", "int16", "int32", "float32", "float64")),
    value_range=st.sampled_from(("robust", "full")),
    constant=st.booleans(),
)
def test_an_image_is_normalised_as_in_memory(
    data: st.DataObject, axes: str, dtype: str, value_range: str, constant: bool
) -> None:
    shape = tuple(data.draw(st.integers(3, 12)) for _ in axes)
    image = np.random.default_rng(data.draw(st.integers(0, 99))).normal(60, 0 if constant else 30, shape)
    image = image.clip(0, 120).astype(dtype)
    samples = Samples.from_array(image, axes, 0.5, value_range=value_range)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_SLAB_VALUES", 64)
        found = ImageStatistics.from_image(da.from_array(image, chunks=5), axes, 0.5, value_range)
    assert found.layout == samples.layout
    assert found.peak == peak_of(samples)


def test_the_percentiles_of_a_large_image_are_those_of_some_of_its_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_SAMPLE", 5000)
    image = np.random.default_rng(0).normal(0, 1, (300, 400)).astype(np.float32)
    image[7, 7] = 1000
    found, exact = ImageStatistics.from_image(image, "YX"), Samples.from_array(image, "YX")
    assert found.layout != exact.layout
    assert found.layout.scale[0] == pytest.approx(exact.layout.scale[0], rel=0.2)
    assert found.peak == peak_of(exact)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_hash_is_that_of_the_pixels(dtype: str) -> None:
    image = np.random.default_rng(0).integers(0, 99, (30, 40)).astype(dtype)
    other = image.copy()
    other[-1, -1] += 1
    assert ImageStatistics.from_image(image, "YX").sha256 == ImageStatistics.from_image(image.copy(), "YX").sha256
    assert ImageStatistics.from_image(image, "YX").sha256 != ImageStatistics.from_image(other, "YX").sha256


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(1, 12), st.integers(1, 500))
def test_slabs_cover_an_image_once_and_are_bounded(shape: list[int], chunk: int, most: int) -> None:
    image = da.zeros(shape, chunks=chunk)
    seen = np.zeros(shape, int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "_SLAB_VALUES", most)
        for slab in slabs(image):
            seen[slab] += 1
            assert seen[slab].size <= most
    assert (seen == 1).all()


def test_it_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_SLAB_VALUES", 50)
    told: list[tuple[int, int]] = []
    ImageStatistics.from_image(np.zeros((20, 10)), "YX", on_slab=lambda *done: told.append(done))
    assert len(told) > 3
    assert told[-1] == (200, 200)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    image = np.zeros((20, 10))
    image[3, 3] = bad
    with pytest.raises(InputError, match="NaN or infinite"):
        ImageStatistics.from_image(image, "YX")


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(InputError, match="real numbers"):
        ImageStatistics.from_image(np.zeros((3, 3), complex), "YX")
    with pytest.raises(InputError, match="names 3 axes"):
        ImageStatistics.from_image(np.zeros((3, 3)), "ZYX")
