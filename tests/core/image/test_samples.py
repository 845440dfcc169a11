"""`Samples`: arrays to normalised samples and back; errors with their advice."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_siren.core.image.axes import guess_axes
from napari_siren.core.image.dtypes import cast_values
from napari_siren.core.image.samples import ImageLayout, Samples
from napari_siren.errors import InputError

INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
FLOATS = ["float16", "float32", "float64"]
FINITE = hnp.arrays(np.float64, 8, elements=st.floats(-1e30, 1e30))


# ---- casting -------------------------------------------------------------------------------------------


@given(FINITE, st.sampled_from(INTEGERS))
def test_casting_to_integers_rounds_and_never_wraps_around(values: npt.NDArray[np.float64], dtype: str) -> None:
    limits = np.iinfo(dtype)
    cast = cast_values(values, np.dtype(dtype))
    assert cast.dtype == dtype
    for value, found in zip(values.tolist(), cast.tolist(), strict=True):
        nearest = min(max(round(value), limits.min), limits.max)
        # Near the limits of 64-bit integers, floats are 2,048 apart.
        assert abs(found - nearest) <= (2048 if limits.bits == 64 and nearest >= 2**62 else 0)


@given(st.sampled_from(INTEGERS), st.sampled_from([-np.inf, np.inf]))
def test_infinite_values_become_the_ends_of_the_range(dtype: str, value: float) -> None:
    limits = np.iinfo(dtype)
    found = int(cast_values(np.array([value]), np.dtype(dtype))[0])
    assert found == pytest.approx(limits.max if value > 0 else limits.min)


@given(FINITE, st.sampled_from(FLOATS))
def test_casting_to_floats_keeps_values_finite_and_in_order(values: npt.NDArray[np.float64], dtype: str) -> None:
    cast = cast_values(np.sort(values), np.dtype(dtype))
    assert cast.dtype == dtype
    assert np.isfinite(cast).all()
    assert (cast[1:] >= cast[:-1]).all()


@given(hnp.arrays(np.float32, 8, elements=st.floats(0, 255, width=32)))
def test_whole_numbers_in_range_stay_as_they_are(values: npt.NDArray[np.float32]) -> None:
    whole = np.rint(values)
    np.testing.assert_array_equal(cast_values(whole, np.dtype("uint8")), whole)


def test_booleans_are_true_from_one_half() -> None:
    values = np.array([-3, 0.49, 0.5, 7])
    assert cast_values(values, np.dtype(bool)).tolist() == [False, False, True, True]


@pytest.mark.parametrize("dtype", ["complex64", "U3", "M8[s]", "O"])
def test_values_cannot_become_what_is_not_a_number(dtype: str) -> None:
    with pytest.raises(InputError, match="boolean, integer or floating"):
        cast_values(np.zeros(3), np.dtype(dtype))


# ---- normalising ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value_range", ["robust", "full"])
@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS, "bool"])
def test_normalised_values_lead_back_to_the_image(dtype: str, value_range: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 100, (6, 7, 3)).astype(dtype)
    samples = Samples.from_array(values, axes="YXC", value_range=value_range)
    layout = samples.layout
    column = (3, 1, 1)
    back = samples.values.astype(float) * np.reshape(layout.scale, column) + np.reshape(layout.offset, column)
    precision = np.iinfo(dtype).max * 2e-7 if value_range == "full" and dtype in INTEGERS else 1e-4
    np.testing.assert_allclose(layout.from_channels_first(back), values.astype(float), atol=precision)
    assert layout.dtype == dtype


@pytest.mark.parametrize(("dtype", "top"), [("uint8", 255), ("uint16", 65535)])
def test_the_full_range_takes_a_dtype_to_zero_and_one(dtype: str, top: int) -> None:
    samples = Samples.from_array(np.array([[0, top], [7, 9]], dtype=dtype), value_range="full")
    np.testing.assert_allclose(samples.values[0], np.array([[0, top], [7, 9]]) / top, atol=1e-7)


def test_the_full_range_takes_floats_between_their_own_ends() -> None:
    samples = Samples.from_array(np.array([-3.0, 5.0, 1.0]), value_range="full")
    np.testing.assert_allclose(samples.values[0], [0, 1, 0.5])


def test_the_robust_range_is_not_stretched_by_hot_pixels() -> None:
    image = np.random.default_rng(0).integers(100, 1000, (100, 100)).astype(np.uint16)
    image[3, 4] = 65535
    values = Samples.from_array(image).values
    assert np.abs(np.delete(values, 304)).max() < 1.05
    assert values.max() > 100


def test_a_few_spots_on_nothing_keep_their_contrast() -> None:
    mask = np.zeros((100, 100), bool)
    mask[5, 5] = True
    values = Samples.from_array(mask).values
    assert np.ptp(values) == 2


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e9, 1e-30, 1e300])
def test_a_constant_image_is_its_offset(value: float) -> None:
    samples = Samples.from_array(np.full((3, 4), value))
    assert samples.layout.offset == (value,)
    assert not samples.values.any()


@given(
    hnp.arrays(np.float64, (5, 4), elements=st.floats(-1e150, 1e150)),
    st.sampled_from(["robust", "full"]),
)
def test_normalised_values_are_always_finite(image: npt.NDArray[np.float64], value_range: str) -> None:
    samples = Samples.from_array(image, value_range=value_range)
    assert np.isfinite(samples.values).all()
    assert np.isfinite(samples.layout.offset + samples.layout.scale).all()


def test_channels_of_a_photograph_share_their_range_and_others_do_not() -> None:
    image = np.random.default_rng(0).integers(0, 200, (9, 9, 3), dtype=np.uint8)
    image[..., 2] //= 4
    photo, markers = Samples.from_array(image).layout, Samples.from_array(image.astype(np.uint16)).layout
    assert len(set(photo.scale)) == 1
    assert markers.scale[2] < markers.scale[0] / 3


def test_channels_come_first_and_go_back(photo: npt.NDArray[np.uint8]) -> None:
    image = np.stack([photo, 255 - photo, photo // 2, photo // 3, photo // 4], axis=1)
    samples = Samples.from_array(image, axes="YCX")
    layout = samples.layout
    assert (layout.channels, layout.channel_axis, layout.spatial_shape) == (5, 1, (24, 20))
    assert samples.values.shape == (5, 24, 20)
    np.testing.assert_array_equal(layout.from_channels_first(layout.to_channels_first(image)), image)


@pytest.mark.parametrize(("axes", "whole"), [("YX", (48, 40)), ("CYX", (3, 48, 40)), ("YXC", (48, 40, 3))])
def test_the_shape_of_a_larger_array_of_the_same_axes(axes: str, whole: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).random(tuple({"Y": 24, "X": 20, "C": 3}[letter] for letter in axes))
    layout = Samples.from_array(image, axes=axes).layout
    assert layout.full_shape((48, 40)) == whole
    assert layout.full_shape(layout.spatial_shape) == image.shape
    assert layout.full_shape((48, 40), channels=7) == tuple(7 if n == 3 else n for n in whole)


def test_a_layout_is_the_same_after_its_storage_as_json() -> None:
    layout = Samples.from_array(np.random.default_rng(0).random((2, 24, 20)), axes="CYX", spacing=(1, 2)).layout
    again = ImageLayout.from_json(json.loads(json.dumps(asdict(layout))))
    assert again == layout
    assert (repr(again), again.axes.channel) == (repr(layout), 0)
    assert repr(layout).startswith("ImageLayout(axes='CYX', shape=(2, 24, 20), dtype='float64', spacing=(1.0, 2.0), ")


@pytest.mark.parametrize(
    "change",
    [np.asfortranarray, lambda a: a[::-1, ::2], lambda a: a.astype(">u2"), lambda a: a.tolist()],
    ids=["Fortran", "strides", "big-endian", "lists"],
)
def test_memory_layout_does_not_matter(photo: npt.NDArray[np.uint8], change: object) -> None:
    image = change(photo)
    plain = np.ascontiguousarray(np.asarray(image).astype(int))
    np.testing.assert_array_equal(Samples.from_array(image).values, Samples.from_array(plain).values)


# ---- axes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((9,), "X"),
        ((9, 8), "YX"),
        ((9, 3), "YX"),
        ((9, 8, 3), "YXC"),
        ((9, 8, 4), "YXC"),
        ((9, 8, 5), "ZYX"),
        ((3, 9, 8), "ZYX"),
        ((5, 9, 8, 3), "ZYXC"),
        ((2, 5, 9, 8), "CZYX"),
    ],
)
def test_guessed_axes(shape: tuple[int, ...], axes: str) -> None:
    assert guess_axes(shape) == axes


@pytest.mark.parametrize("shape", [(), (2, 2, 2, 2, 2)])
def test_axes_of_too_few_or_too_many_are_not_guessed(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="1 to 4 axes"):
        guess_axes(shape)


def test_axes_may_be_in_lower_case() -> None:
    assert Samples.from_array(np.eye(4), axes="yx").layout.axes == "YX"


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("Y", "names 1 axes, but the image has 2"),
        ("ZYX", "names 3 axes, but the image has 2"),
        ("", "names 0 axes|no spatial axis"),
        ("YY", "twice"),
        ("QX", "unknown letters: 'Q'"),
        ("TX", "has a time axis, T"),
        (["Y", "X"], "should be a string"),
        (7, "should be a string"),
    ],
)
def test_wrong_axes_are_refused(axes: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Samples.from_array(np.eye(4), axes=axes)


def test_channels_alone_are_no_image() -> None:
    with pytest.raises(InputError, match="no spatial axis"):
        Samples.from_array(np.arange(4.0), axes="C")


# ---- spacing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spacing", "expected"), [(None, (1, 1)), (0.5, (0.5, 0.5)), ((2, 3), (2, 3)), (np.array([2, 3]), (2, 3))]
)
def test_spacing_is_one_number_an_axis(spacing: object, expected: tuple[float, float]) -> None:
    assert Samples.from_array(np.eye(4), spacing=spacing).layout.spacing == expected


@pytest.mark.parametrize(
    "spacing",
    [(1, 2, 3), (), 0, -1, (1, 0), (1, -2), float("nan"), float("inf"), (1, float("nan")), "wide", {}, [[1, 2]]],
    ids=repr,
)
def test_wrong_spacing_is_refused(spacing: object) -> None:
    with pytest.raises(InputError, match="spacing"):
        Samples.from_array(np.eye(4), spacing=spacing)


# ---- missing pixels ------------------------------------------------------------------------------------


def test_missing_pixels_may_hold_anything() -> None:
    image = np.arange(12.0).reshape(3, 4)
    image[0, 0], image[2, 3] = np.nan, np.inf
    samples = Samples.from_array(image, missing=~np.isfinite(image))
    assert samples.observed.sum() == 10
    assert np.isfinite(samples.values).all()
    assert samples.layout.offset[0] < 11


def test_a_pixel_is_missing_where_any_of_its_channels_is() -> None:
    missing = np.zeros((3, 4, 2), bool)
    missing[1, 2, 0] = True
    samples = Samples.from_array(np.ones((3, 4, 2)), axes="YXC", missing=missing)
    assert np.argwhere(~samples.observed).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (np.zeros((4, 4), int), "should be boolean"),
        (np.zeros((4, 4)), "should be boolean"),
        (np.zeros((4, 5), bool), r"shape \(4, 5\)"),
        (np.zeros(4, bool), r"shape \(4,\)"),
        (np.ones((4, 4), bool), "every pixel"),
    ],
    ids=["integers", "floats", "shape", "dimensions", "all"],
)
def test_wrong_missing_is_refused(missing: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Samples.from_array(np.eye(4), missing=missing)


# ---- images that cannot be used ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((0, 4)), "empty"),
        ([], "empty"),
        (np.zeros((4, 0, 3)), "empty"),
        (np.zeros((1, 1)), "single pixel"),
        (np.zeros((1, 1, 3)), "single pixel"),
        (np.float64(3), "1 to 4 axes"),
        (np.zeros((2,) * 5), "1 to 4 axes"),
        (np.zeros((4, 4), complex), "complex.*magnitude"),
        (np.full((4, 4), None), "object"),
        (np.full((4, 4), "a"), "string"),
        (np.zeros((4, 4), "M8[s]"), "datetime64"),
        ([[1.0, 2.0], [3.0]], "not an array of numbers"),
        (None, "object"),
    ],
    ids=lambda v: None if isinstance(v, str) else f"{type(v).__name__} {getattr(v, 'shape', '')}",
)
def test_an_image_that_is_none_is_refused(image: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Samples.from_array(image)


@pytest.mark.parametrize("dtype", FLOATS)
def test_values_that_are_not_finite_are_counted_and_the_way_out_is_named(dtype: str) -> None:
    image = np.zeros((4, 4), dtype)
    image[0, :3] = np.nan
    image[1, :2] = -np.inf
    with pytest.raises(InputError, match=r"3 NaN and 2 infinite values.*missing=~np.isfinite\(image\)"):
        Samples.from_array(image)
    image[0, :2], image[1] = 0, 0
    with pytest.raises(InputError, match=r"1 NaN value\."):
        Samples.from_array(image)


def test_a_constant_channel_is_its_offset_whatever_the_others_are() -> None:
    image = np.random.default_rng(0).integers(0, 255, (6, 7, 4), dtype=np.uint8)
    image[..., 3] = 200
    samples = Samples.from_array(image, "YXC")
    assert (samples.layout.offset[3], samples.layout.scale[3]) == (200, 0)
    assert not samples.values[3].any()
    assert min(samples.layout.scale[:3]) > 0
