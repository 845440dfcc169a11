"""Layers of more than three axes in space and time: their entries are fitted one by one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import dask.array
import numpy as np
import numpy.typing as npt
import pytest
from napari.layers import Image, Layer
from placements import assert_same_corners

import napari_siren as ns
from napari_siren.layers.outputs import METADATA_KEY, RESULT_KEY
from napari_siren.layers.series import LayerSeries
from napari_siren.layers.spec import LayerSpec

FAST: dict[str, Any] = {"preset": "fast", "max_steps": 3}


def pixels(*shape: int) -> npt.NDArray[np.uint16]:
    return np.random.default_rng(0).integers(0, 999, shape, dtype=np.uint16)


def layer(labels: str, *shape: int, **display: Any) -> Any:
    return SimpleNamespace(data=pixels(*shape), name="cells", axis_labels=tuple(labels), **display)


@pytest.mark.parametrize(
    ("labels", "further", "fitted"),
    [
        ("tzyx", "t", "ZYX"),
        ("zyxt", "t", "ZYX"),
        ("tczyx", "t", "CZYX"),
        ("pzyx", "p", "ZYX"),
        ("ptyx", "p", "TYX"),
        ("tpyx", "p", "TYX"),
        ("ptzyx", "pt", "ZYX"),
        ("abzyx", "ab", "ZYX"),
        ("tzy", "", "TZY"),
    ],
)
def test_the_axes_beyond_three_are_done_one_by_one(labels: str, further: str, fitted: str) -> None:
    series = LayerSeries.from_layer(layer(labels, *range(5, 5 + len(labels))))
    assert ("".join(series.labels), series.axes) == (further, tuple(map(labels.index, further)))
    assert series.shape == tuple(5 + i for i in series.axes)
    assert len(series.indices) == np.prod(series.shape)
    assert {series.spec(index).axes for index in series.indices} == {fitted}


def test_the_first_axes_of_a_layer_without_labels_are_done_one_by_one() -> None:
    series = LayerSeries.from_layer(SimpleNamespace(data=pixels(2, 3, 4, 5, 6)))
    assert (series.axes, series.shape) == ((0, 1), (2, 3))
    # Axes of one entry are no entries.
    assert LayerSeries.from_layer(layer("tzyx", 2, 1, 4, 5)).axes == ()
    assert LayerSeries.from_layer(layer("tczyx", 1, 2, 4, 5, 6)).axes == ()


def test_any_axes_can_be_done_one_by_one() -> None:
    photos = SimpleNamespace(data=pixels(5, 8, 10), name="photos", scale=(2, 1, 1), translate=(6, 0, 0))
    series = LayerSeries.from_layer(photos, one_by_one=(0,))
    assert (series.axes, series.shape, series.first.axes) == ((0,), (5,), "YX")
    film = layer("tzyx", 3, 4, 8, 10)
    assert LayerSeries.from_layer(film, one_by_one=(1, 0)).shape == (3, 4)
    assert LayerSeries.from_layer(film, one_by_one=(1,)).first.axes == "TYX"
    assert LayerSeries.from_layer(layer("zyx", 1, 8, 10), one_by_one=(0,)).axes == ()
    fitted = ns.fit_layer(photos, one_by_one=[0], **FAST)
    each = [ns.fit(image, spacing=1, **FAST) for image in photos.data]
    np.testing.assert_array_equal(fitted.layer_data[0][0][0], each[0].reconstruction)
    made = Layer.create(*fitted.layer_data[1])
    assert made.data.shape == (5, 16, 20)
    assert_same_corners(Image(photos.data, scale=photos.scale, translate=photos.translate), made)


@pytest.mark.parametrize("one_by_one", [(3,), (0, 0), (-1,), (1,), (0, 2, 3), (9,)])
def test_axes_that_cannot_be_done_one_by_one(one_by_one: tuple[int, ...]) -> None:
    with pytest.raises(ns.InputError, match=r"one_by_one=.* is invalid. Give positions of axes .* has \(0, 2\)"):
        LayerSeries.from_layer(layer("tcyz", 3, 2, 8, 10), plane=(None, None, None, 1), one_by_one=one_by_one)


def test_letters_and_one_by_one_are_one_too_many() -> None:
    with pytest.raises(ns.InputError, match="both axes and one_by_one"):
        ns.fit_layer(layer("zyx", 3, 8, 10), axes="ZYX", one_by_one=(0,), **FAST)


def test_four_axes_are_no_single_fit() -> None:
    with pytest.raises(ns.InputError, match=r"has 4 axes .* Take one frame"):
        LayerSpec.from_layer(layer("tzyx", 3, 2, 8, 9))


def test_only_the_pixels_of_an_entry_are_read() -> None:
    read: list[int] = []

    def block(values: Any, block_info: Any = None) -> Any:
        read.append(block_info[0]["chunk-location"][0])
        return values

    film = dask.array.from_array(pixels(3, 2, 6, 7), chunks=(1, 2, 6, 7))
    lazy = film.map_blocks(block, dtype=film.dtype, meta=np.empty(0, film.dtype))
    series = LayerSeries.from_layer(SimpleNamespace(data=lazy, axis_labels=tuple("tzyx")))
    assert read == []
    np.testing.assert_array_equal(series.spec((1,)).loaded().data, film[1].compute())
    assert read == [1]


def test_the_layers_of_all_entries_lie_over_the_image() -> None:
    scale, translate = (5, 1, 2, 1, 0.5), (50, 0, 8, 3, 1)
    original = Image(pixels(2, 3, 4, 8, 10), name="cells", scale=scale, translate=translate, axis_labels=tuple("tczyx"))
    original.units = ("s", "pixel", "um", "um", "um")
    original.contrast_limits = (10, 800)
    fitted = ns.fit_layer(original, scale=2, **FAST)
    made = [Layer.create(*data) for data in fitted.layer_data]
    assert [(new.name, new.data.shape, new.data.dtype) for new in made] == [
        ("cells [reconstruction]", (2, 3, 4, 8, 10), np.uint16),
        ("cells [x2]", (2, 3, 8, 16, 20), np.uint16),
        ("cells [error]", (2, 3, 4, 8, 10), np.float32),
    ]
    for new in made:
        assert_same_corners(original, new)
        assert (new.axis_labels, new.units) == (original.axis_labels, original.units)
    assert made[0].contrast_limits == [10, 800]
    np.testing.assert_allclose(made[2].data, made[0].data.astype(float) - original.data, atol=1e-3)
    assert made[2].contrast_limits[0] == -made[2].contrast_limits[1]


def test_the_entries_are_those_of_a_series_and_progress_counts_all() -> None:
    film = layer("tzyx", 3, 4, 8, 10)
    seen: list[tuple[int, int]] = []
    fitted = ns.fit_layer(film, on_progress=lambda p: seen.append((p.entry, p.entries)), **FAST)
    series = ns.fit_series(film.data, axes="TZYX", **FAST)
    np.testing.assert_array_equal(fitted.layer_data[0][0], series.reconstruction)
    np.testing.assert_array_equal(fitted.layer_data[1][0], series.render(scale=2))
    assert sorted(set(seen)) == [(0, 3), (1, 3), (2, 3)]
    assert [result.state for result in fitted.results] == [None] * 3
    assert fitted.result is fitted.results[0]
    metadata = fitted.layer_data[2][1]["metadata"]
    assert RESULT_KEY not in metadata
    entries = metadata[METADATA_KEY]["entries"]
    assert [entry["index"] for entry in entries] == [[0], [1], [2]]
    assert [entry["metrics"]["psnr"] for entry in entries] == [result.metrics.psnr for result in fitted.results]
    assert metadata[METADATA_KEY]["largest_error"] == np.abs(fitted.layer_data[2][0]).max()


def test_each_burst_is_joined_by_itself() -> None:
    bursts = layer("ptyx", 2, 3, 16, 16)
    fitted = ns.fit_layer(bursts, preset="burst", task_steps=2, max_steps=2)
    assert fitted.layer_data[1][0].shape == (2, 1, 32, 32)
    alone = ns.fit_burst(bursts.data[1], task_steps=2, max_steps=2)
    np.testing.assert_array_equal(fitted.layer_data[1][0][1, 0], alone.render(scale=2))


def test_a_stop_ends_one_entry() -> None:
    fitted = ns.fit_layer(layer("tzyx", 2, 4, 8, 10), on_progress=lambda p: "stop" if p.entry else None, **FAST)
    assert [result.history.stopped for result in fitted.results] == ["max_steps", "asked"]


def test_a_region_of_some_entries() -> None:
    film = layer("tzyx", 3, 4, 8, 10, translate=(10, 0, 0, 0))
    mask = np.zeros(film.data.shape, bool)
    mask[0, :, 1:6, 2:9] = mask[2, :, 2:6, 3:9] = True
    reconstruction, upscaled, _ = ns.fit_layer(film, region=mask, **FAST).layer_data
    assert (reconstruction[0].shape, upscaled[0].shape) == ((3, 4, 5, 7), (3, 8, 10, 14))
    assert (reconstruction[1]["translate"], reconstruction[1]["scale"]) == ([10, 0, 1, 2], [1, 1, 1, 1])
    assert not reconstruction[0][1].any()
    assert not reconstruction[0][2, :, 0].any()
    assert reconstruction[0][2, :, 1:].any()
    # The first entry has no pixel.
    mask[0], mask[1] = False, mask[2]
    reconstruction, *_ = ns.fit_layer(film, region=((1, 3), None, (0, 4), None), **FAST).layer_data
    assert (reconstruction[0].shape, reconstruction[1]["translate"]) == ((2, 4, 4, 10), [11, 0, 0, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "burst"}, "a burst has one or two axes"),
        ({"start": "model", "max_steps": 3}, "start applies to a single fit"),
        ({"missing": np.zeros((4, 8, 10), bool)}, "missing= can only be used"),
        ({"scale": 0, "max_steps": 3}, "scale"),
    ],
)
def test_what_entries_cannot_have_is_refused_before_the_fit(
    options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_siren.core.series.entries.fit_iter", lambda *_, **__: pytest.fail("it fits"))
    with pytest.raises(ns.InputError, match=message):
        ns.fit_layer(layer("tzyx", 2, 4, 8, 10), **options)


def test_layers_that_do_not_fit_into_memory_are_refused_before_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_siren.core.series.entries.fit_iter", lambda *_, **__: pytest.fail("it fits"))
    monkeypatch.setattr("napari_siren.core.training.plan.free_memory", lambda device: 10_000)
    with pytest.raises(ns.InputError, match="Choose a lower resolution or fewer frames"):
        ns.fit_layer(layer("tzyx", 2, 4, 8, 10), **FAST)
