"""Noise of cameras, its map, and JPEG."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from training_cases import CPU, pictures

from napari_siren.core.degradation import camera
from napari_siren.core.pretrained_network import resampling


@pytest.mark.parametrize("quality", [10, 40, 50, 75, 90, 100])
def test_jpeg_is_that_of_libjpeg(quality: int) -> None:
    from PIL import Image

    image = np.asarray(Image.fromarray(pictures(1, 64)[0]).convert("L").resize((64, 48), Image.Resampling.BICUBIC))
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    with Image.open(file) as saved:
        table = saved.quantization[0]
        true = torch.from_numpy(np.array(saved)).float()
    qualities = torch.tensor([float(quality)])
    assert camera.jpeg_tables(qualities, CPU)[0].flatten().tolist() == list(table)
    found = camera.jpeg(torch.from_numpy(image.copy())[None].float() / 255, qualities)[0]
    difference = (found * 255 - true).abs()
    # libjpeg's cosine transforms are of whole numbers, so that a coefficient is at times rounded to the other side.
    assert (difference > 0.5).float().mean() < 0.09
    assert (difference > 1.5).float().mean() < 0.03


def test_blocks_of_jpeg_begin_where_they_are_to() -> None:
    image = resampling.rounded(torch.rand(1, 40, 40, generator=torch.Generator().manual_seed(0)))
    quality = torch.tensor([60.0])
    found = camera.shifted_jpeg(image, quality, torch.tensor([3.0]), torch.tensor([6.0]))[0]
    inner = camera.jpeg(image[:, 5:37, 2:34], quality)[0]
    torch.testing.assert_close(found[5:37, 2:34], inner, rtol=0, atol=1.01 / 255)
    assert ((found[5:37, 2:34] - inner).abs() > 0.5 / 255).float().mean() < 0.01


@pytest.mark.parametrize(("a", "b"), [(0.01, 0.0), (0.0004, 0.02), (0.0, 0.05)])
def test_noise_has_the_variance_of_its_model(a: float, b: float) -> None:
    torch.manual_seed(0)
    for signal in (0.05, 0.7):
        clean = torch.full((2, 200, 200), signal)
        # The second image has passed an electron multiplier.
        noisy = camera.add_noise(clean, torch.full((2,), a), torch.full((2,), b), multiplied=torch.tensor([0.0, 1.0]))
        for image in noisy:
            assert float(image.mean()) == pytest.approx(signal, abs=4 * (a + b * signal) ** 0.5 / 200)
            assert float(image.var()) == pytest.approx(a + b * signal, rel=0.05)


def test_the_map_of_noise_is_what_its_description_says() -> None:
    from scipy import ndimage

    noisy = np.random.default_rng(0).normal(0.2, 0.3, (30, 41)).astype(np.float32)
    smooth = ndimage.gaussian_filter(noisy, 1.5, mode="nearest", radius=4)
    for a, b in ((0.001, 0.02), (-0.002, 0.02)):
        found = camera.deviation(torch.from_numpy(noisy)[None], torch.tensor([a]), torch.tensor([b]))[0]
        true = np.sqrt(np.maximum(0, a + b * np.maximum(0, smooth)))
        np.testing.assert_allclose(found.numpy(), true, atol=2e-4)


def test_cameras_are_as_described() -> None:
    a, b = camera.draw_cameras(np.random.default_rng(0), 20000)
    assert (b == 0).mean() == pytest.approx(0.5, abs=0.02)
    assert np.sqrt(a[b == 0]).max() <= 60 / 255
    assert (np.sqrt(a[b == 0]) < 2 / 255).mean() > 0.15
    photons = 1 / b[b > 0]
    assert photons.min() >= 20
    assert photons.max() <= 2000
