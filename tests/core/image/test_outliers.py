"""Values far outside the range of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import napari_siren as ns
from napari_siren.core.image.outliers import outlier_note
from napari_siren.core.image.samples import Samples


def noise() -> npt.NDArray[np.uint16]:
    return (200 + 4 * np.random.default_rng(0).normal(size=(64, 64))).round().astype(np.uint16)


def with_spikes(count: int) -> npt.NDArray[np.uint16]:
    image = noise()
    image[32, :count] = 65535
    return image


SMOOTH: list[npt.NDArray[Any]] = [
    noise(),
    np.eye(64),
    np.pad(np.ones((1, 1)), 30),
    np.full((8, 8), 7, np.uint8),
    np.random.default_rng(0).random((40, 40)) < 0.01,
]


@pytest.mark.parametrize("image", SMOOTH)
def test_ordinary_images_have_no_outliers(image: npt.NDArray[Any]) -> None:
    assert outlier_note(Samples.from_array(image)) is None


@pytest.mark.parametrize(("count", "text"), [(1, "1 value is far"), (2, "2 values are far")])
def test_outliers_are_counted(count: int, text: str) -> None:
    assert str(outlier_note(Samples.from_array(with_spikes(count)))).startswith(text)


def test_a_fit_has_a_note_and_missing_pixels_mend_it() -> None:
    image = with_spikes(1)
    bright = image == 65535
    result = ns.fit(image, max_steps=30)
    assert "mark such pixels as missing" in result.provenance["notes"][0]
    mended = ns.fit(image, missing=bright, max_steps=30)
    assert mended.provenance["notes"] == []
    errors = [np.abs(r.reconstruction.astype(float) - image)[~bright].mean() for r in (result, mended)]
    assert errors[1] < errors[0] / 10
