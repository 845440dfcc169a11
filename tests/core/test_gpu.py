"""What needs a CUDA GPU: the same fits, renders and files as on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import napari_siren as ns
from napari_siren.core.image import Samples
from napari_siren.core.run import Run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


@pytest.fixture
def image() -> np.ndarray:
    y, x = np.mgrid[:80, :96] / 10
    waves = np.stack([np.sin(x) * np.cos(y), np.sin(x * y / 3), np.cos(x - 2 * y)], axis=-1)
    return np.rint(127.5 * (1 + waves)).astype(np.uint8)


def test_a_fit_is_as_good_as_on_the_cpu(image: np.ndarray) -> None:
    psnr = {device: ns.fit(image, device=device, max_steps=100).metrics.psnr for device in ("cpu", "cuda")}
    assert psnr["cuda"] > psnr["cpu"] - 1.5


def test_one_gradient_agrees_with_the_cpu(image: np.ndarray) -> None:
    samples = Samples.from_array(image)
    config = ns.FitConfig(engine="plain", standardise=False)
    gradients = []
    for device in ("cpu", "cuda"):
        run = Run(samples, config, torch.device(device), seed=0)
        run.engine.gradient(run.siren, run.x, run.loss, run.gradient)
        gradients.append(run.gradient.cpu())
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-5 * float(gradients[0].abs().max()))


@pytest.mark.parametrize("preset", ["fast", "upscale"])
def test_presets_render_and_differentiate(image: np.ndarray, preset: str) -> None:
    result = ns.fit(image, preset=preset, device="cuda", max_steps=20)
    assert result.render(scale=2).shape == (160, 192, 3)
    assert result.render(derivative="laplacian").shape == image.shape
    assert np.isfinite(result.field.gradient([[3.2, 8.1], [40.0, 50.0]])).all()


def test_a_model_made_on_the_gpu_is_read_on_the_cpu(image: np.ndarray, tmp_path: Path) -> None:
    result = ns.fit(image, device="cuda", max_steps=20)
    loaded = ns.load(result.save(tmp_path / "model.safetensors"))
    difference = loaded.reconstruction.astype(int) - result.reconstruction.astype(int)
    assert np.abs(difference).max() <= 1


def test_memory_is_given_back(image: np.ndarray) -> None:
    ns.fit(image, device="cuda", max_steps=3)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    ns.fit(image, device="cuda", max_steps=3)
    assert torch.cuda.memory_allocated() <= before + (1 << 20)


def test_a_bound_on_memory_is_kept(image: np.ndarray) -> None:
    torch.cuda.reset_peak_memory_stats()
    start = torch.cuda.memory_allocated()
    bound = 64 << 20
    ns.fit(np.tile(image, (4, 4, 1)), device="cuda", max_steps=3, max_memory=bound)
    assert torch.cuda.max_memory_allocated() - start <= bound
