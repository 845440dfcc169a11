"""Deconvolution: blurred images with a known truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

import napari_siren as ns
from napari_siren.core.forward.operator import FWHM, ForwardOperator
from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.model import NoiseModel
from napari_siren.core.restoration.richardson_lucy import RichardsonLucy, working_set
from napari_siren.errors import ConfigError, DeviceError, InputError

SIGMA = 1.5
OPTIONS = {"device": "cpu", "max_steps": 80}


def spots(shape: tuple[int, ...] = (48, 40), seed: int = 0, count: int = 30) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = np.zeros(shape)
    image[tuple(rng.integers(0, n, count) for n in shape)] = rng.uniform(500, 1000, count)
    return gaussian_filter(image, 0.6) * 4


def error(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.square(found.astype(float) - truth).mean()))


def deblurred(image: np.ndarray, **options: object) -> ns.FitResult:
    given = {"observation": "gaussian", "psf_width": SIGMA * FWHM, **OPTIONS, **options}
    return ns.fit(image, preset="deblur", **given)


def test_blur_is_taken_out_and_nothing_is_below_zero() -> None:
    truth = spots()
    image = gaussian_filter(truth, SIGMA, mode="constant").astype(np.float32)
    result = deblurred(image)
    assert error(result.reconstruction, truth) < 0.7 * error(image, truth)
    assert result.reconstruction.min() >= 0
    assert result.render(scale=2).min() >= 0
    assert result.render(scale=1, derivative="laplacian").min() < 0
    # The result with the blur applied again agrees with the image.
    assert result.metrics.consistency is not None
    assert result.metrics.consistency > 30
    assert 0 < result.provenance["task_steps"] <= 150


def test_photon_noise_is_not_sharpened() -> None:
    truth = spots(count=60)
    rng = np.random.default_rng(1)
    image = rng.poisson(gaussian_filter(truth, SIGMA) / 10 + 2).astype(np.uint16)
    result = deblurred(image, camera_gain=1.0)
    assert result.provenance["task_steps"] < 60
    assert error(result.reconstruction, truth / 10 + 2) < error(image, truth / 10 + 2)


def test_a_camera_s_offset_is_where_no_light_is() -> None:
    truth = spots()
    image = (gaussian_filter(truth, SIGMA) + 100).astype(np.float32)
    result = deblurred(image, camera_offset=100.0)
    assert result.reconstruction.min() >= 100
    assert result.metrics.consistency is not None
    assert result.metrics.consistency > 30


def test_light_beyond_the_edges_is_not_gathered_at_them() -> None:
    truth = np.full((40, 40), 50.0)
    result = deblurred(truth.astype(np.float32) + np.eye(40, dtype=np.float32))
    assert abs(float(result.reconstruction[:3].mean()) - 50) < 2


@pytest.mark.parametrize("noise", [0.0, 2.0])
@pytest.mark.parametrize(("shape", "axes"), [((48, 40), "YX"), ((14, 32, 28), "ZYX")])
def test_the_border_is_as_exact_as_the_inside(shape: tuple[int, ...], axes: str, noise: float) -> None:
    # The image is cut out of a larger one, so that it has light from outside.
    rng = np.random.default_rng(0)
    margin = 10
    larger = gaussian_filter(rng.random([n + 2 * margin for n in shape]), 1.5)
    scene = 60 + 120 * (larger - larger.min()) / np.ptp(larger)
    inner = tuple(slice(margin, -margin) for _ in shape)
    truth, blurred = scene[inner], gaussian_filter(scene, SIGMA)[inner]
    image = np.clip(np.rint(blurred + noise * rng.standard_normal(shape)), 0, 255).astype(np.uint8)
    result = deblurred(image, axes=axes).reconstruction
    core = tuple(slice(n // 4, -(n // 4)) for n in shape)
    for axis in range(len(shape)):
        for side in (0, -1):
            border, original = result.take(side, axis).astype(float), truth.take(side, axis)
            assert border.mean() == pytest.approx(original.mean(), rel=0.03)
            assert error(border, original) < 2 * error(result[core], truth[core])


def test_a_measured_psf_in_three_dimensions() -> None:
    truth = spots((12, 24, 24), count=20)
    offsets = [np.arange(-4, 5), np.arange(-3, 4), np.arange(-3, 4)]
    z, y, x = np.meshgrid(*offsets, indexing="ij")
    psf = np.exp(-0.5 * ((z / 1.6) ** 2 + (y / 0.9) ** 2 + (x / 0.9) ** 2))
    image = gaussian_filter(truth, (1.6, 0.9, 0.9), mode="constant").astype(np.float32)
    result = ns.fit(image, axes="ZYX", preset="deblur", psf=psf, **OPTIONS)
    assert error(result.reconstruction, truth) < 0.8 * error(image, truth)


def test_a_width_for_each_axis() -> None:
    truth = spots((12, 24, 24), count=20)
    image = gaussian_filter(truth, (1.6, 0.9, 0.9), mode="constant").astype(np.float32)
    widths = tuple(FWHM * s * w for s, w in zip((1.6, 0.9, 0.9), (0.4, 0.1, 0.1), strict=True))
    result = ns.fit(image, axes="ZYX", spacing=(0.4, 0.1, 0.1), preset="deblur", psf_width=widths, **OPTIONS)
    assert error(result.reconstruction, truth) < 0.8 * error(image, truth)


def test_a_sharp_image_stays_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8)
    result = ns.fit(image, preset="deblur", **OPTIONS)
    assert result.config.task_steps == 0
    assert result.metrics.psnr > 20
    assert any("no blur was found" in note for note in result.provenance["notes"])


def test_it_goes_on_where_it_was_to_the_same_bits() -> None:
    image = gaussian_filter(spots(), SIGMA).astype(np.float32)
    kernel = ForwardOperator.from_kind("gaussian", 2, psf_width=SIGMA * FWHM).kernel()
    values = torch.from_numpy(image)[None]

    def learner() -> RichardsonLucy:
        return RichardsonLucy(values, torch.zeros(1), kernel, torch.zeros_like(values))

    whole, first, second = learner(), learner(), learner()
    for _ in range(12):
        whole.step(0)
    for _ in range(5):
        first.step(0)
    second.load(first.state())
    for _ in range(7):
        second.step(0)
    torch.testing.assert_close(second.predict(image.shape), whole.predict(image.shape), rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="another shape"):
        RichardsonLucy(values[:, 1:], torch.zeros(1), kernel, values[:, 1:] * 0).load(first.state())


@given(st.floats(0.5, 4), st.floats(0.5, 4))
def test_kernels_are_odd_and_of_sum_one(tall: float, wide: float) -> None:
    kernel = ForwardOperator.from_kind("gaussian", 2, psf_width=(tall, wide)).kernel()
    assert all(n % 2 == 1 for n in kernel.shape)
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-5)
    assert kernel.argmax() == kernel.numel() // 2
    torch.testing.assert_close(kernel, kernel.flip((0, 1)))


def test_a_measured_kernel_is_the_psf() -> None:
    psf = np.random.default_rng(0).random((3, 5)) + 0.1
    kernel = ForwardOperator.from_kind("measured", 2, psf=psf).kernel().numpy()
    inner = kernel[tuple(slice((n - m) // 2, (n + m) // 2) for n, m in zip(kernel.shape, psf.shape, strict=True))]
    np.testing.assert_allclose(inner, psf / psf.sum(), atol=1e-3)


def test_memory_is_bounded() -> None:
    assert working_set((100, 100), (9, 9), 2) >= 2 * 104 * 104 * 4
    samples = Samples.from_array(np.eye(64), "YX", None)
    config = ns.FitConfig.preset("deblur", psf_width=3.0, max_memory=100_000)
    with pytest.raises(DeviceError, match="Deblur the image in parts"):
        RichardsonLucy.from_samples(samples, config, torch.device("cpu"))


def test_a_saved_result_comes_back_as_it_was(tmp_path: Path) -> None:
    result = deblurred(gaussian_filter(spots(), SIGMA).astype(np.float32))
    loaded = ns.load(result.save(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(loaded.reconstruction, result.reconstruction)
    assert loaded.field.floor == (0.0,)


def test_a_blur_is_needed() -> None:
    with pytest.raises(ConfigError, match="A blur is needed"):
        ns.FitConfig.preset("faithful", task="deconvolution", task_steps=10)
    with pytest.raises(ConfigError, match="Choose a task"):
        ns.FitConfig.preset("faithful", task_steps=10)


@given(st.floats(0.1, 10), st.floats(0, 200), st.floats(0, 20), st.floats(-50, 50), st.floats(0.5, 300))
def test_the_noise_of_a_camera_in_normalised_values(
    gain: float, dark: float, read_noise: float, offset: float, scale: float
) -> None:
    model = NoiseModel.from_camera(gain, dark, read_noise, offset, scale)
    for photons in (0.0, 3.0, 100.0):
        value = dark + gain * photons
        variance = gain**2 * photons + read_noise**2
        signal = np.array([(value - offset) / scale], dtype=np.float32)
        assert model.variance(signal)[0] == pytest.approx(variance / scale**2, rel=1e-3, abs=1e-3 / scale)


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (spots()[0], {}),
        (np.stack([spots()] * 3), {"axes": "TYX", "axes_as_coordinates": "TYX"}),
    ],
)
def test_where_the_blur_cannot_be_taken_out_it_is_said(image: np.ndarray, options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"two or three axes.*strict=False"):
        deblurred(image, **options)
    result = deblurred(image, strict=False, **options)
    assert any("by tiles alone" in note for note in result.provenance["notes"])


def test_a_blur_that_cannot_be_estimated_is_asked_for() -> None:
    image = spots()[:12, :12]
    with pytest.raises(InputError, match=r"shorter than 16 pixels.*Set psf_width"):
        ns.fit(image, preset="deblur", **OPTIONS)
    result = ns.fit(image, preset="deblur", strict=False, **OPTIONS)
    assert any("no blur was found" in note for note in result.provenance["notes"])


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_gaps_are_left_out_of_the_data(noise: float) -> None:
    image = gaussian_filter(spots(), SIGMA) + np.random.default_rng(0).normal(0, noise, spots().shape)
    gaps = np.random.default_rng(1).random(image.shape) < 0.05
    gaps[20:26, 20:26] = True
    whole = deblurred(image.astype(np.float32))
    spoilt = deblurred(np.where(gaps, np.nan, image).astype(np.float32), missing=gaps)
    heldout = deblurred(image.astype(np.float32), heldout=0.05)
    errors = [float(np.abs(result.render() - spots()).mean()) for result in (whole, spoilt, heldout)]
    assert max(errors[1:]) < 1.25 * errors[0] < np.abs(image - spots()).mean()
    assert spoilt.reconstruction.min() >= min(0, image.min())


def test_how_far_to_trust_it_is_not_known() -> None:
    result = deblurred(spots().astype(np.float32), task_steps=2)
    with pytest.raises(InputError, match="a blur that was taken out"):
        result.uncertainty(2)
