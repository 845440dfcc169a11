"""Time: frames of a series, time as a coordinate, and the errors without either."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import napari_siren as ns
from napari_siren.core.image.axes import coordinate_spacing, spacing_in_space
from napari_siren.core.image.frames import burst_values, take_frames
from napari_siren.core.image.samples import Samples
from napari_siren.errors import InputError

FAST = {"device": "cpu", "max_steps": 20}


@given(st.permutations("TCYX"))
def test_frames_are_taken_from_any_order(order: list[str]) -> None:
    axes = "".join(order)
    whole = np.arange(120).reshape([{"T": 3, "C": 2, "Y": 4, "X": 5}[a] for a in axes])
    frames, letters = take_frames(whole, axes.lower())
    assert (frames.shape[0], letters) == (3, axes.replace("T", ""))
    np.testing.assert_array_equal(frames[1], np.take(whole, 1, axes.index("T")))


def test_without_axes_the_first_is_time() -> None:
    frames, letters = take_frames(np.zeros((5, 8, 9, 3)), None)
    assert (frames.shape, letters) == ((5, 8, 9, 3), "YXC")


@pytest.mark.parametrize("axes", ["ZYX", "YXC"])
def test_a_series_has_an_axis_of_frames(axes: str) -> None:
    with pytest.raises(InputError, match="has no T"):
        take_frames(np.zeros((4, 8, 9)), axes)


def test_time_is_a_coordinate_if_said_so() -> None:
    rows = np.arange(24.0)
    film = np.stack([np.sin((rows[:, None] + rows + 2 * t) / 6) for t in range(6)]).astype(np.float32)
    result = ns.fit(film, axes="TYX", axes_as_coordinates="TYX", spacing=0.5, device="cpu", max_steps=80)
    assert result.field.layout.spacing == (1.0, 0.5, 0.5)
    assert result.metrics.psnr > 35
    between = result.render(scale=(2, 1, 1))
    assert between.shape == (12, 24, 24)
    # The scene at frame 2.25, counted from the centre of the first frame.
    truth = np.sin((rows[:, None] + rows + 4.5) / 6)
    assert np.abs(between[5] - truth).mean() < 0.05


def test_four_coordinates() -> None:
    film = np.random.default_rng(0).random((3, 2, 12, 10), dtype=np.float32)
    result = ns.fit(film, axes="TZYX", axes_as_coordinates="XYZT", **FAST)
    assert result.render(scale=(1, 2, 1, 1)).shape == (3, 4, 12, 10)


@pytest.mark.parametrize(
    ("axes", "coordinates", "message"),
    [
        ("TYX", None, 'fit_series.*axes_as_coordinates="TYX"'),
        ("TYX", "YX", "should name all axes"),
        ("ZYX", "TYX", "should name all axes"),
        ("TYX", 3, "should name all axes"),
    ],
)
def test_what_is_to_be_done_with_time_is_asked(axes: str, coordinates: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ns.fit(np.zeros((3, 8, 8)), axes=axes, axes_as_coordinates=coordinates, **FAST)


def test_spacings_with_and_without_time() -> None:
    assert coordinate_spacing((0.5, 0.1, 0.2), "TYX") == (0.5, 0.1, 0.2)
    assert coordinate_spacing((0.1, 0.2), "CYTX") == (0.1, 1.0, 0.2)
    assert coordinate_spacing(None, "TX") == (1.0, 1.0)
    assert spacing_in_space((0.5, 0.1, 0.2), "TYX") == [0.1, 0.2]
    assert spacing_in_space((0.1, 0.2), "TCYX") == (0.1, 0.2)
    with pytest.raises(InputError, match="has 3 numbers"):
        coordinate_spacing((1, 2, 3), "TX")


def test_frames_of_a_burst_are_normalised_as_the_first() -> None:
    frames = np.stack([np.eye(8), 2 * np.eye(8)])
    first = Samples.from_array(frames[0], "YX", None)
    values = burst_values(frames, first)
    assert values.shape == (2, 1, 8, 8)
    np.testing.assert_allclose(values[0], first.values)
    with pytest.raises(InputError, match="one frame"):
        burst_values(frames[:1], first)
    with pytest.raises(InputError, match="missing"):
        burst_values(frames, Samples.from_array(frames[0], "YX", None, np.eye(8, dtype=bool)))
