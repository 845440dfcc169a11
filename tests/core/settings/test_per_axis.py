"""Tests of `per_axis`: a number for all spatial axes, or one for each."""

from __future__ import annotations

import numpy as np
import pytest

from napari_siren.core.settings.per_axis import per_axis
from napari_siren.errors import ConfigError, InputError


@pytest.mark.parametrize(
    ("value", "expected"), [(2, [2, 2]), ((3,), [3, 3]), ((2, 0.5), [2, 0.5]), (np.array([2, 3], np.uint8), [2, 3])]
)
def test_a_number_for_each_axis(value: object, expected: list[float]) -> None:
    numbers = per_axis("scale", value, 2)
    assert numbers.dtype == np.float64
    assert numbers.tolist() == expected


def test_the_numbers_are_a_new_array() -> None:
    value = np.array([1.0, 2.0])
    per_axis("scale", value, 2)[0] = 9
    assert value[0] == 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("wide", "scale='wide' is not numeric. 2 numbers are needed, one for each spatial axis"),
        (None, "scale=None is out of range"),
        ({}, "not numeric"),
        ((1, (2, 3)), "not numeric"),
        ((1, 2, 3), "has 3 numbers. 2 numbers are needed"),
        ((), "has 0 numbers. 2 numbers are needed"),
        ([[1, 2]], "2 numbers are needed"),
        (0, "scale=0 is out of range. Every number must be positive and finite"),
        ((1, -1), "out of range"),
        (np.inf, "out of range"),
        ((1, np.nan), "out of range"),
    ],
    ids=repr,
)
def test_other_values_are_refused(value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        per_axis("scale", value, 2)


def test_a_single_number_may_be_refused() -> None:
    assert per_axis("shape", (4, 5), 2, single=False).tolist() == [4, 5]
    for value in (4, (4,)):
        with pytest.raises(InputError, match=r"has 1 numbers\. 2 numbers are needed, one for each spatial axis\.$"):
            per_axis("shape", value, 2, single=False)


def test_zero_may_be_valid() -> None:
    assert per_axis("width", (0, 1), 2, zero=True).tolist() == [0, 1]
    with pytest.raises(InputError, match="must be finite and not negative"):
        per_axis("width", -1, 2, zero=True)


def test_the_class_of_the_error_is_chosen() -> None:
    with pytest.raises(ConfigError, match="width"):
        per_axis("width", 0, 2, error=ConfigError)
