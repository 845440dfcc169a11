"""Tests of `Axes`: the positions of its letters, and the entries of sequences along them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_siren.core.image.axes import Axes, check_axes, guess_axes, guess_series_axes


@pytest.mark.parametrize(
    ("letters", "spatial", "coordinates", "channel", "time"),
    [
        ("YX", "YX", "YX", None, None),
        ("YXC", "YX", "YX", 2, None),
        ("CZYX", "ZYX", "ZYX", 0, None),
        ("TYXC", "YX", "TYX", 3, 0),
        ("YCTX", "YX", "YTX", 1, 2),
        ("", "", "", None, None),
    ],
)
def test_letters_and_their_positions(
    letters: str, spatial: str, coordinates: str, channel: int | None, time: int | None
) -> None:
    axes = Axes(letters)
    assert (axes.spatial, axes.coordinates, axes.channel, axes.time) == (spatial, coordinates, channel, time)


def test_axes_are_text_in_every_respect() -> None:
    axes = Axes("TYX")
    assert axes == "TYX"
    assert (repr(axes), f"{axes}", json.dumps(axes), {axes: 1}["TYX"]) == ("'TYX'", "TYX", '"TYX"', 1)


def test_axes_without_a_letter() -> None:
    assert Axes("TCYX").without("T").without("Z") == "CYX"
    assert Axes("TCYX").without("T").channel == 0


@pytest.mark.parametrize(
    ("letters", "picked"), [(None, (2, 5, 6)), ("YX", (5, 6)), ("XT", (2, 6)), ("C", (3,)), ("Z", ()), ("", ())]
)
def test_entries_are_picked_in_the_order_of_the_array(letters: str | None, picked: tuple[int, ...]) -> None:
    assert Axes("TCYX").pick((2, 3, 5, 6), letters) == picked


def test_one_entry_is_needed_for_each_axis() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Axes("TYX").pick((5, 6))


@pytest.mark.parametrize(
    ("letters", "whole"), [("YX", (5, 6)), ("CYX", (9, 5, 6)), ("YCX", (5, 9, 6)), ("YXC", (5, 6, 9))]
)
def test_an_entry_for_the_channels_is_added_at_their_position(letters: str, whole: tuple[int, ...]) -> None:
    axes = Axes(letters)
    assert axes.with_channel([5, 6], 9) == whole
    assert axes.pick(whole) == (5, 6)


@pytest.mark.parametrize("letters", ["YX", "CYX", "YCX", "YXC"])
def test_channels_first_and_back(letters: str) -> None:
    axes = Axes(letters)
    array = np.arange(np.prod(axes.with_channel((5, 6), 3))).reshape(axes.with_channel((5, 6), 3))
    channels = axes.to_channels_first(array)
    assert channels.shape == (1 if axes.channel is None else 3, 5, 6)
    np.testing.assert_array_equal(axes.from_channels_first(channels), array)
    assert np.shares_memory(channels, array)


def test_guessed_and_checked_axes_are_axes() -> None:
    assert guess_axes((5, 6, 3)).channel == 2
    assert guess_series_axes((9, 5, 6, 3)) == "TYXC"
    assert guess_series_axes((9, 5, 6, 3)).time == 0
    assert check_axes("tyx", (9, 5, 6)).spatial == "YX"
