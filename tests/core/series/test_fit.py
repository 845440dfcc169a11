"""Tests of time series and channels: separate fields, combined in the series' order of axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import napari_siren as ns
from napari_siren.errors import InputError

OPTIONS: dict[str, Any] = {"device": "cpu", "max_steps": 60}


def film(shape: tuple[int, ...] = (3, 2, 16, 20)) -> np.ndarray:
    """Return a series with similar frames and different channels."""
    rng = np.random.default_rng(0)
    still = 100 + 20 * rng.normal(size=shape[1:]).cumsum(-1).cumsum(-2).clip(-5, 5)
    return np.stack([still + 2 * t for t in range(shape[0])]).astype(np.uint8)


def test_each_frame_is_a_field_that_starts_from_the_one_before() -> None:
    frames = film()
    series = ns.fit_series(frames, axes="TCYX", spacing=(0.5, 0.5), **OPTIONS)
    assert [len(frame) for frame in series.parts] == [1, 1, 1]
    assert series.parts[0][0].field.layout.axes == "CYX"
    assert [frame[0].config.max_steps for frame in series.parts] == [60, 60, 60]
    cold = ns.fit(frames[1], axes="CYX", **OPTIONS)
    assert series.metrics[1].psnr > cold.metrics.psnr
    assert series.reconstruction.shape == frames.shape
    assert series.reconstruction.dtype == frames.dtype
    np.testing.assert_allclose(series.error, series.reconstruction.astype(float) - frames, atol=1e-3)
    assert series.render(scale=2).shape == (3, 2, 32, 40)
    assert series.render(spacing=0.25, dtype="float32").dtype == np.float32
    assert len(series.metrics) == 3
    np.testing.assert_array_equal(np.asarray(series), series.reconstruction)
    assert np.array(series, dtype=np.float32).dtype == np.float32
    assert repr(series).startswith("SeriesResult(TCYX, 3 x uint8 CYX (2, 16, 20), PSNR ")


def test_without_a_warm_start_frames_are_alone() -> None:
    frames = film()[:, 0]
    series = ns.fit_series(frames, warm_start=False, **OPTIONS)
    alone = ns.fit(frames[1], **OPTIONS)
    np.testing.assert_array_equal(series.reconstruction[1], alone.reconstruction)


@pytest.mark.parametrize("axes", ["TCYX", "YXCT", "CYTX"])
def test_each_channel_alone_in_any_order(axes: str) -> None:
    frames = film()
    moved = np.transpose(frames, ["TCYX".index(a) for a in axes])
    series = ns.fit_series(moved, axes=axes, channels="each", **OPTIONS)
    assert [len(frame) for frame in series.parts] == [2, 2, 2]
    assert series.reconstruction.shape == moved.shape
    assert series.parts[0][0].field.layout.channels == 1
    alone = ns.fit(frames[0, 1], **OPTIONS)
    found = np.transpose(series.reconstruction, [axes.index(a) for a in "TCYX"])
    np.testing.assert_array_equal(found[0, 1], alone.reconstruction)


def test_channels_without_time() -> None:
    image = film()[0]
    series = ns.fit_series(image, axes="CYX", channels="each", **OPTIONS)
    assert len(series.parts) == 1
    assert series.render(scale=2).shape == (2, 32, 40)
    together = ns.fit_series(image, axes="CYX", **OPTIONS)
    assert together.reconstruction.shape == image.shape


def test_one_channel_of_its_own_keeps_its_axis() -> None:
    image = film()[:, :1]
    assert ns.fit_series(image, axes="TCYX", channels="each", **OPTIONS).reconstruction.shape == image.shape


def test_progress_counts_the_parts() -> None:
    told: list[tuple[int, int]] = []
    ns.fit_series(film(), axes="TCYX", channels="each", on_progress=lambda i, n, p: told.append((i, n)), **OPTIONS)
    assert sorted(set(told)) == [(i, 6) for i in range(6)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axes": "ZCYX", "channels": "some"}, "channels='some'"),
        ({"axes": "TZYX", "channels": "each"}, "have no C"),
        ({"axes": "QCYX"}, "unknown letters"),
        ({"axes": "TCYX", "max_step": 3}, "max_steps"),
    ],
)
def test_what_cannot_be_is_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ns.SirenError, match=message):
        ns.fit_series(film(), **options)


def test_a_single_image_is_for_fit() -> None:
    with pytest.raises(InputError, match="Use fit for a single image"):
        ns.fit_series(film()[0, 0], axes="YX")


def test_what_is_missing_of_each_frame() -> None:
    frames = film()
    missing = np.zeros(frames.shape, dtype=bool)
    missing[1, 0, :4] = True
    series = ns.fit_series(frames, axes="TCYX", missing=missing, channels="each", **OPTIONS)
    there = [[bool(part.samples.observed.all()) for part in frame] for frame in series.parts]  # type: ignore[union-attr]
    assert there == [[True, True], [False, True], [True, True]]
    # The same mask for all frames.
    series = ns.fit_series(frames, axes="TCYX", missing=missing[1, 0], **OPTIONS)
    assert not any(part.samples.observed.all() for frame in series.parts for part in frame)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["start", "resume"])
def test_a_series_starts_from_no_other_fit(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} applies to a single fit"):
        ns.fit_series(film(), axes="TCYX", **{name: "model.safetensors"})


def test_masked_pixels_are_missing() -> None:
    frames = film()[:, 0]
    masked = np.ma.MaskedArray(frames, mask=frames < frames.mean())
    series = ns.fit_series(masked, axes="TYX", **OPTIONS)
    expected = ns.fit_series(frames, axes="TYX", missing=masked.mask, **OPTIONS)
    np.testing.assert_array_equal(series.reconstruction, expected.reconstruction)
    assert not any(frame[0].samples.observed.all() for frame in series.parts)  # type: ignore[union-attr]
