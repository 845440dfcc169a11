"""What needs a CUDA GPU: the same fits, renders and files as on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import napari_siren as ns
from napari_siren.core.engines import Engine, TorchEngine, TritonEngine
from napari_siren.core.engines.triton.graphs import Graphs, record_cuda
from napari_siren.core.engines.triton.support import unsupported_reason
from napari_siren.core.image.samples import Samples
from napari_siren.core.training.trainer import TileTrainer

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
    config = ns.FitConfig(engine="torch", standardise=False)
    gradients = []
    for device in ("cpu", "cuda"):
        run = TileTrainer(samples, config, torch.device(device), seed=0)
        run.engine.gradient(run.siren, run.batches[0].x, run.batches[0].loss, run.gradient)
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


# ---- the Triton engine; tests/core/engines/test_triton.py runs on a GPU too, where there is one ---------------------


@pytest.fixture
def run(image: np.ndarray) -> TileTrainer:
    """A fit that has just begun, on the GPU, with the Triton engine."""
    run = TileTrainer(Samples.from_array(image), ns.FitConfig(standardise=False), torch.device("cuda"), seed=0)
    reason = unsupported_reason(run.device, torch.float32, run.siren.spec)
    if reason is not None:
        pytest.skip(reason)
    return run


def gradient_by(engine: Engine, run: TileTrainer) -> torch.Tensor:
    out = torch.full_like(run.siren.theta, torch.nan)
    engine.gradient(run.siren, run.batches[0].x, run.batches[0].loss, out)
    return out


@pytest.mark.parametrize(("low_precision", "tolerance"), [(False, 1e-4), (True, 1e-2)], ids=["float32", "bfloat16"])
def test_triton_gradients_are_the_plain_ones(run: TileTrainer, low_precision: bool, tolerance: float) -> None:
    expected = gradient_by(TorchEngine(run.device), run)
    found = gradient_by(TritonEngine(run.device, low_precision=low_precision), run)
    assert (found - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("programs", [1, 100_000], ids=["whole tiles", "shared tiles"])
def test_replayed_graphs_give_what_direct_steps_give(run: TileTrainer, programs: int) -> None:
    start, ends = run.siren.theta.clone(), []
    recorded = []

    def record(work):
        recorded.append(record_cuda(work))
        return recorded[-1]

    for graphs in (Graphs(None), Graphs(record)):
        engine = TritonEngine(run.device)
        engine.programs = programs
        engine._graphs = graphs
        run.engine, run.low_precision = engine, None
        run.siren.theta.copy_(start)
        run.mean.theta.copy_(start)
        run.optimizer.reset(torch.ones(len(start), dtype=torch.bool, device=run.device))
        # Not run.step(), whose schedule goes on.
        for step in range(8):
            batch = run.batches[step % len(run.batches)]
            engine.gradient(run.siren, batch.x, batch.loss, run.gradient)
            engine.update(run.optimizer, run.gradient, run.best.rates / (1 + step), run.mean.theta)
        ends.append((run.siren.theta.clone(), run.mean.theta.clone()))
    assert len(recorded) == len(run.batches) + 1
    for found, expected in zip(*ends, strict=True):
        assert torch.equal(found, expected)


def test_what_cannot_be_recorded_leaves_the_gpu_as_it_was(run: TileTrainer) -> None:
    stream, graphs = torch.cuda.current_stream(), Graphs(record_cuda)

    def work() -> torch.Tensor:
        # Asks the GPU for an answer, which a recording does not allow.
        return run.best.rates * float(run.best.rates.sum())

    found = [graphs.run("sum", work) for _ in range(3)]
    assert torch.cuda.current_stream() == stream
    assert all(torch.equal(each, work()) for each in found)
    assert torch.isfinite(gradient_by(run.engine, run)).all()


def test_a_fit_by_triton_is_as_good_as_a_plain_one(image: np.ndarray, run: TileTrainer) -> None:
    assert run.engine.name == "triton"
    psnr = {
        engine: ns.fit(image, device="cuda", engine=engine, max_steps=100).metrics.psnr for engine in ("auto", "torch")
    }
    assert psnr["auto"] > psnr["torch"] - 0.5
