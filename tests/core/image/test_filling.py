"""Values for pixels that are missing or held out."""

from __future__ import annotations

import numpy as np
import pytest

from napari_siren.core.image.filling import filled, interpolated
from napari_siren.core.image.samples import Samples


def plane(shape: tuple[int, ...]) -> np.ndarray:
    """Return values that rise evenly along each axis. The mean of the neighbours of a pixel is the pixel."""
    return sum(np.indices(shape) * np.arange(1, len(shape) + 1).reshape(-1, *(1,) * len(shape))).astype(np.float32)


def test_a_whole_image_is_not_copied() -> None:
    samples = Samples.from_array(plane((9, 8)))
    assert interpolated(samples) is samples.values


@pytest.mark.parametrize("shape", [(30,), (12, 11), (6, 9, 8)])
def test_a_single_gap_is_the_mean_of_its_neighbours(shape: tuple[int, ...]) -> None:
    image = plane(shape)
    missing = np.zeros(shape, bool)
    missing[tuple(n // 2 for n in shape)] = True
    whole = Samples.from_array(image, value_range="full").values
    spoilt = Samples.from_array(np.where(missing, np.nan, image), missing=missing, value_range="full")
    np.testing.assert_allclose(interpolated(spoilt), whole, atol=1e-5)


def test_a_large_gap_is_smoother_than_its_nearest_pixels() -> None:
    image = plane((40, 40))
    missing = np.zeros(image.shape, bool)
    missing[10:30, 10:30] = True
    samples = Samples.from_array(image, missing=missing, value_range="full")
    truth = Samples.from_array(image, value_range="full").values
    nearest = np.abs(filled(samples.values, samples.used) - truth).max()
    assert np.abs(interpolated(samples) - truth).max() < 0.9 * nearest
    np.testing.assert_array_equal(interpolated(samples)[:, ~missing], truth[:, ~missing])


def test_what_a_gap_holds_does_not_matter() -> None:
    image, missing = plane((12, 12)), np.eye(12) > 0
    first, second = (
        interpolated(Samples.from_array(np.where(missing, v, image), missing=missing)) for v in (np.nan, 1e9)
    )
    np.testing.assert_array_equal(first, second)


def test_held_out_pixels_are_not_seen() -> None:
    image = plane((20, 20))
    heldout = Samples.from_array(image, heldout=0.2).heldout
    first, second = (interpolated(Samples.from_array(a, heldout=0.2)) for a in (image, np.where(heldout, 0, image)))
    np.testing.assert_array_equal(first, second)
