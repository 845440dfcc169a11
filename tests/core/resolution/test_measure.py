"""The resolution: against the correlation of two images, noise alone, stacks, channels, and images without a result."""

from __future__ import annotations

import numpy as np
import pytest

import napari_siren as ns
from napari_siren.core.resolution.measure import Resolution


def texture(shape: tuple[int, int], blur: float, seed: int = 0) -> np.ndarray:
    """Return a random texture with a Gaussian blur, and a standard deviation of 1. Its power falls as f^-2."""
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n) for n in shape), indexing="ij"))
    frequency[0, 0] = np.inf
    spectrum = np.fft.fft2(np.random.default_rng(seed).normal(size=shape))
    values = np.fft.ifft2(spectrum / frequency * np.exp(-2 * (np.pi * blur * frequency) ** 2)).real
    return values / values.std()


def noisy(scene: np.ndarray, noise: float, seed: int) -> np.ndarray:
    return scene + np.random.default_rng(seed).normal(0, noise, scene.shape)


def pixels(measured: Resolution) -> float:
    (value,), (reason,) = measured.pixels, measured.reason
    assert value is not None, reason
    return value


@pytest.mark.parametrize("shape", [(256, 256), (301, 240)])
@pytest.mark.parametrize("noise", [0.05, 0.1, 0.3, 1.0])
def test_one_image_agrees_with_two(shape: tuple[int, int], noise: float) -> None:
    sizes = []
    for blur in (1, 1.5, 2, 3, 4):
        scene = texture(shape, blur, seed=3)
        first, second = noisy(scene, noise, 5), noisy(scene, noise, 6)
        sizes.append(pixels(ns.resolution(first)))
        assert sizes[-1] == pytest.approx(pixels(ns.resolution(first, other=second)), rel=0.25)
    assert sizes == sorted(sizes)


def test_it_is_the_frequency_where_the_signal_has_a_sixth_of_the_power_of_the_noise() -> None:
    blur, noise, n = 2.0, 0.3, 512
    # A white texture after a Gaussian blur, whose power is known.
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n)))
    spectrum = np.fft.fft2(np.random.default_rng(0).normal(size=(n, n)))
    scene = np.fft.ifft2(spectrum * np.exp(-2 * (np.pi * blur * frequency) ** 2)).real
    expected = np.sqrt(np.log(6 / noise**2)) / (2 * np.pi * blur)
    assert 1 / pixels(ns.resolution(noisy(scene, noise, 1))) == pytest.approx(expected, rel=0.05)


def test_more_noise_is_a_coarser_resolution() -> None:
    scene = texture((256, 256), 1.5)
    sizes = [pixels(ns.resolution(noisy(scene, noise, 1))) for noise in (0.03, 0.1, 0.3, 1, 3)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("n", [32, 64, 200])
@pytest.mark.parametrize("both", [False, True])
def test_noise_alone_has_no_resolution(n: int, both: bool) -> None:
    for seed in range(20):
        first, second = np.random.default_rng(seed).normal(size=(2, n, n))
        measured = ns.resolution(first, other=second if both else None)
        assert measured.resolution == measured.pixels == (None,)
        assert "noise" in str(measured.reason[0])


def test_the_curve_and_the_unit_of_the_spacing() -> None:
    frame = noisy(texture((256, 200), 2), 0.1, 1)
    plain, spaced = ns.resolution(frame), ns.resolution(frame, spacing=0.25)
    assert plain.resolution == plain.pixels
    assert pixels(spaced) == pytest.approx(pixels(plain))
    assert spaced.resolution[0] == pytest.approx(0.25 * pixels(plain))
    np.testing.assert_allclose(spaced.frequency, plain.frequency / 0.25)
    assert plain.correlation.shape == (1, len(plain.frequency))
    at = np.interp(1 / pixels(plain), plain.frequency, plain.correlation[0])
    assert at == pytest.approx(1 / 7, abs=1e-9)
    assert plain.correlation[0, 0] > 0.95


def test_pixels_that_are_not_square() -> None:
    frame = noisy(texture((256, 512), 3), 0.1, 1)
    square, oblong = ns.resolution(frame), ns.resolution(frame[:, ::2] * 1.0, spacing=(1, 2))
    assert oblong.resolution[0] == pytest.approx(square.resolution[0], rel=0.2)
    assert oblong.pixels[0] == oblong.resolution[0] / 2


def test_channels_and_planes() -> None:
    sharp, soft = (np.stack([noisy(texture((128, 128), blur, z), 0.2, z) for z in range(8)]) for blur in (1.5, 3))
    together = ns.resolution(np.stack([sharp, soft], axis=-1), axes="ZYXC", spacing=(3, 1, 1))
    assert together.pixels == (pixels(ns.resolution(sharp, axes="ZYX")), pixels(ns.resolution(soft, axes="ZYX")))
    assert together.pixels[0] < together.pixels[1]
    turned = ns.resolution(np.moveaxis(sharp, 0, 2), axes="YXZ", spacing=(1, 1, 3))
    assert turned.pixels == together.pixels[:1]
    np.testing.assert_allclose(pixels(ns.resolution(sharp[:1], axes="ZYX")), pixels(ns.resolution(sharp[0])))


def test_dtypes_are_the_same_image() -> None:
    frame = np.clip(noisy(texture((128, 128), 2), 0.2, 1) * 1000 + 20000, 0, 65535).astype(np.uint16)
    assert ns.resolution(frame).pixels == ns.resolution(frame.astype(np.float64)).pixels


def test_a_dataarray_has_its_own_spacing() -> None:
    xarray = pytest.importorskip("xarray")
    frame = noisy(texture((96, 96), 2), 0.1, 1)
    at = np.arange(96) * 0.5
    labelled = xarray.DataArray(frame, dims=("y", "x"), coords={"y": at, "x": at})
    assert ns.resolution(labelled).resolution == ns.resolution(frame, spacing=0.5).resolution


def test_an_image_without_noise_is_finer_than_the_measure() -> None:
    rows, columns = np.indices((128, 128))
    measured = ns.resolution(np.random.default_rng(0).normal(size=(128, 128)), other=rows * 0 + columns)
    assert measured.resolution == (None,)
    sharp = ns.resolution(np.eye(128), other=np.eye(128))
    assert sharp.resolution == (None,)
    assert "finer than 2.0 pixels" in str(sharp.reason[0])


def gaps() -> np.ndarray:
    frame = np.ones((40, 40))
    frame[3, 3] = np.nan
    return frame


@pytest.mark.parametrize(
    ("image", "options", "reason"),
    [
        (np.eye(31), {}, "smaller than 32 pixels"),
        (np.ones((64, 40)), {"spacing": (1, 0.1)}, "smaller than 32 pixels"),
        (gaps(), {}, "missing"),
        (np.ma.masked_invalid(gaps()), {}, "missing"),
        (np.ones((40, 40)), {}, "too little contrast"),
        (np.ones((3, 40, 40), np.uint8), {"axes": "ZYX"}, "too little contrast"),
    ],
)
def test_reasons(image: np.ndarray, options: dict[str, object], reason: str) -> None:
    measured = ns.resolution(image, **options)
    assert measured.resolution == measured.pixels == (None,)
    assert reason in str(measured.reason[0])
    assert measured.correlation.shape == (1, len(measured.frequency))


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.ones((4, 40, 40)), {"axes": "TYX"}, "not those of a plane"),
        (np.ones(40), {}, "not those of a plane"),
        (np.ones((40, 40)), {"other": np.ones((40, 41))}, "differ in shape"),
        (np.ones((40, 40)), {"spacing": -1}, "spacing"),
        (np.ones((40, 40), complex), {}, "complex"),
    ],
)
def test_bad_input(image: np.ndarray, options: dict[str, object], message: str) -> None:
    with pytest.raises(ns.InputError, match=message):
        ns.resolution(image, **options)
