"""The noise of an image in words."""

from __future__ import annotations

from typing import Any

import pytest

from napari_siren.reporting.noise import describe_noise

CAMERA = {"gain": [2.1], "variance_at_zero": [-201.0], "least_deviation": [3.0]}
CHANNELS = {"gain": [0.0, 1.5], "variance_at_zero": [16.0, 9.0], "least_deviation": [4.0, 3.0]}
ERRORS = {"gain_error": [0.067], "variance_at_zero_error": [17.7]}


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (CAMERA, "variance 2.1 x value - 201, standard deviation at least 3"),
        (
            {**CAMERA, **ERRORS, "ratio": 0.98},
            "variance (2.1 ± 0.07) x value - (201 ± 20), standard deviation at least 3; "
            "independent from pixel to pixel",
        ),
        ({**CAMERA, "ratio": None}, "variance 2.1 x value - 201, standard deviation at least 3"),
        (
            {**CHANNELS, "ratio": 2.9},
            "channel 1: standard deviation 4; channel 2: variance 1.5 x value + 9, standard deviation at least 3; "
            "shared by neighbouring pixels",
        ),
    ],
)
def test_the_noise_in_words(record: dict[str, Any], text: str) -> None:
    assert describe_noise(record) == text
