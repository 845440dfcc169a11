"""The resolution of restored images: against the scene, against two frames, and images without a result."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.fft import rfft2
from scipy.ndimage import gaussian_filter, median_filter

import napari_siren as ns
from napari_siren.core.resolution.measure import Resolution
from napari_siren.core.resolution.restored import RestoredResolution
from napari_siren.core.resolution.rings import Rings, RingSums

Restore = Callable[[np.ndarray], np.ndarray]


def filaments(photons: float, seed: int = 0, n: int = 192) -> np.ndarray:
    """Return thin curves behind a lens that passes no frequency above a quarter of a cycle per pixel."""
    rng = np.random.default_rng(seed)
    scene = np.zeros((n, n))
    for _ in range(100):
        steps = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.1, 200))
        path = rng.uniform(0, n, 2)[:, None] + 0.5 * np.cumsum([np.sin(steps), np.cos(steps)], axis=1)
        np.add.at(scene, tuple(path.astype(int) % n), 1)
    frequency = np.clip(4 * np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n))), 0, 1)
    lens = 2 / np.pi * (np.arccos(frequency) - frequency * np.sqrt(1 - frequency**2))
    image = np.fft.ifft2(np.fft.fft2(scene) * lens).real.clip(0)
    return photons * (0.05 + image / image.max())


def counts(scene: np.ndarray, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(scene).astype(np.float32)


def smoothed(image: np.ndarray) -> np.ndarray:
    return gaussian_filter(image.astype(float), 1)


def despeckled(image: np.ndarray) -> np.ndarray:
    """Remove noise by a filter that is not linear, which keeps edges."""
    soft = median_filter(image.astype(float), 3)
    return np.where(abs(soft - smoothed(soft)) > soft.std() / 3, soft, smoothed(soft))


def identity(image: np.ndarray) -> np.ndarray:
    return image


def pixels(measured: Resolution) -> float:
    (value,), (reason,) = measured.pixels, measured.reason
    assert value is not None, reason
    return value


def with_the_scene(image: np.ndarray, scene: np.ndarray) -> float:
    """Return the period in pixels at which the correlation of an image with the scene falls below 1/2."""
    rings = Rings.from_plane(scene.shape, (1, 1), split=False)
    curve = RingSums.from_planes(rings, image[None], scene[None]).correlation()
    return float(1 / rings.frequency[np.flatnonzero(curve < 0.5)[0]])


@pytest.mark.parametrize("photons", [20, 60])
@pytest.mark.parametrize("restore", [smoothed, despeckled])
def test_both_are_the_correlations_with_the_scene(photons: float, restore: Restore) -> None:
    scene = filaments(photons)
    seen: list[np.ndarray] = []

    def watched(image: np.ndarray) -> np.ndarray:
        seen.append(image)
        return restore(image)

    image = counts(scene)
    measured = ns.restored_resolution(image, watched)
    np.testing.assert_allclose(np.mean(seen, axis=0), image, atol=1e-3)
    before, after = (np.mean([with_the_scene(f(half), scene) for half in seen]) for f in (identity, restore))
    assert pixels(measured.before) == pytest.approx(before, rel=0.15)
    assert pixels(measured.after) == pytest.approx(after, rel=0.15)
    # The resolution of the whole image is finer.
    assert pixels(measured.after) > 0.95 * with_the_scene(restore(image), scene)


def test_a_filter_changes_nothing_although_pixels_of_it_can_be_split() -> None:
    image = counts(filaments(30))
    measured = ns.restored_resolution(image, smoothed)
    assert pixels(measured.after) == pytest.approx(pixels(measured.before), rel=0.1)
    # The figure that this function is there to avoid.
    split = ns.resolution(smoothed(image))
    assert split.pixels[0] is None or split.pixels[0] < 0.7 * pixels(measured.after)


def test_a_restoration_that_invents_the_same_detail_twice_gains_nothing() -> None:
    image = counts(filaments(30))
    pattern = 3 * image.std() * np.random.default_rng(5).normal(size=image.shape)
    invented = ns.restored_resolution(image, lambda half: smoothed(half) + pattern)
    honest = ns.restored_resolution(image, smoothed)
    assert pixels(invented.after) > pixels(honest.after)


def test_two_frames_need_no_split() -> None:
    scene = filaments(30)
    frames = counts(scene, 1), counts(scene, 2)
    measured = ns.restored_resolution(frames[0], smoothed, other=frames[1], spacing=0.1)
    expected = np.mean([with_the_scene(frame, scene) for frame in frames])
    assert pixels(measured.before) == pytest.approx(expected, rel=0.15)
    assert measured.before.resolution[0] == pytest.approx(0.1 * pixels(measured.before))
    halves = ns.restored_resolution(frames[0], smoothed)
    assert pixels(measured.before) < pixels(halves.before)


def test_a_known_camera_and_an_estimate_agree() -> None:
    image = 2.5 * counts(filaments(40)) + 100
    known = ns.restored_resolution(image, smoothed, camera_gain=2.5, camera_offset=100)
    assert pixels(known.before) == pytest.approx(pixels(ns.restored_resolution(image, smoothed).before), rel=0.1)


def test_channels_planes_and_dtypes() -> None:
    sharp, soft = counts(filaments(40)), counts(gaussian_filter(filaments(40), 3))
    image = np.stack([np.stack([sharp, sharp[::-1]]), np.stack([soft, soft[::-1]])], axis=-1).astype(np.uint16)
    shapes = []

    def restore(half: np.ndarray) -> np.ndarray:
        shapes.append((half.shape, half.dtype))
        return gaussian_filter(half, (0, 1, 1, 0))

    measured = ns.restored_resolution(image, restore, axes="ZYXC", spacing=(3, 0.2, 0.2))
    assert shapes == [(image.shape, np.float32)] * 2
    assert measured.after.correlation.shape == (2, len(measured.after.frequency))
    assert measured.after.pixels[0] < measured.after.pixels[1]
    assert measured.after.resolution[0] == pytest.approx(0.2 * measured.after.pixels[0])
    single = ns.restored_resolution(sharp[np.newaxis], lambda half: smoothed(half[0])[np.newaxis], axes="ZYX")
    assert pixels(single.after) == pytest.approx(measured.after.pixels[0], rel=0.15)


def test_the_same_seed_is_the_same_result() -> None:
    image = counts(filaments(30))
    first, again, other = (pixels(ns.restored_resolution(image, smoothed, seed=seed).after) for seed in (0, 0, 1))
    assert first == again != other


def test_noise_alone_has_no_resolution() -> None:
    for seed in range(20):
        first, second = np.random.default_rng(seed).normal(size=(2, 48, 48))
        measured = ns.restored_resolution(first, smoothed, other=second)
        assert measured.before.pixels == measured.after.pixels == (None,)
        assert "too little contrast" in str(measured.after.reason[0])


def test_noise_that_two_images_share_is_not_detail() -> None:
    image = counts(filaments(30))
    shared = ns.restored_resolution(image, smoothed, other=image)
    assert shared.before.pixels == (None,)
    assert "correlated at all frequencies" in str(shared.before.reason[0])


def test_detail_below_the_noise_is_not_measured() -> None:
    scene = filaments(20)
    known = ns.restored_resolution(counts(scene), lambda half: scene)
    assert known.after.resolution == (None,)
    assert "pixels or finer" in str(known.after.reason[0])
    assert pixels(known.before) == pytest.approx(pixels(ns.restored_resolution(counts(scene), smoothed).before))


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.random.default_rng(1).normal(size=(64, 64)), "too little contrast"),
        (np.ones((40, 40)), "too little contrast"),
        (np.eye(31), "smaller than 32 pixels"),
        (np.where(np.eye(40) > 0, np.nan, 1.0), "missing"),
    ],
)
def test_reasons(image: np.ndarray, reason: str) -> None:
    measured: RestoredResolution = ns.restored_resolution(image, identity)
    for part in (measured.before, measured.after):
        assert part.resolution == part.pixels == (None,)
        assert reason in str(part.reason[0])


@pytest.mark.parametrize(
    ("restore", "message"),
    [
        (lambda half: half[1:], "restored image and the image differ in shape"),
        (lambda half: np.repeat(half, 2, axis=0), "restored image and the image differ in shape"),
        (lambda half: np.where(half > 0, np.nan, half), "not finite"),
    ],
)
def test_bad_restorations(restore: Restore, message: str) -> None:
    with pytest.raises(ns.InputError, match=message):
        ns.restored_resolution(counts(filaments(30, n=64)), restore)


def test_another_image_has_the_same_shape() -> None:
    with pytest.raises(ns.InputError, match="second image and the image differ"):
        ns.restored_resolution(np.ones((40, 40)), identity, other=np.ones((40, 41)))


def test_the_sums_are_those_of_the_spectra() -> None:
    planes = np.random.default_rng(0).normal(size=(2, 3, 64, 64))
    rings = Rings.from_plane((64, 64), (1, 1), split=False)
    sums = RingSums.from_planes(rings, *planes)
    window = np.multiply.outer(*2 * [np.hanning(66)[1:-1]])
    whole = sum((abs(rfft2((p - (p * window).sum() / window.sum()) * window)) ** 2).sum() for p in planes[0])
    # A smooth curve has the same sum, apart from its ends and the rings that are left out.
    assert sums.power.sum() == pytest.approx(whole * np.pi / 4, rel=0.1)
    assert np.abs(sums.correlation()).max() < 0.2
    assert sums.measurable() == 0
    assert RingSums.from_planes(rings, planes[0], planes[0]).measurable() == len(rings.count)
