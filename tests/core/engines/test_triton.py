"""Tests of the Triton engine against the plain engine, on a GPU if there is one, else in Triton's interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from benchmarks.gpu.compiled import SHARED_BYTES
from napari_siren.core.engines import TorchEngine, TritonEngine, Verdict, choose_engine, low_precision_engine, registry
from napari_siren.core.engines.triton import engine as triton_engine
from napari_siren.core.engines.triton import support as triton_there
from napari_siren.core.engines.triton.graphs import Graphs
from napari_siren.core.image.samples import Samples
from napari_siren.core.network.losses import Loss, ObservedLoss, SquaredLoss
from napari_siren.core.network.optimizer import Optimizer
from napari_siren.core.network.siren import NetworkSpec, Siren
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.trainer import TileTrainer
from napari_siren.errors import ConfigError

# One command runs all tests that need a GPU: pytest -m gpu.
pytestmark = [pytest.mark.gpu] if torch.cuda.is_available() else []
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PLAIN = TorchEngine(DEVICE)


@pytest.fixture(autouse=True)
def bfloat16_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert bfloat16 factors to float32: the interpreter of Triton 3.9 multiplies their bits as integers."""
    if DEVICE.type == "cuda":
        return
    import triton.language as tl
    from triton.runtime.interpreter import InterpreterBuilder

    dot = InterpreterBuilder.create_dot

    def widened(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        a, b = (self.create_fp_ext(f, tl.float32) if f.dtype.scalar == tl.bfloat16 else f for f in (a, b))
        return dot(self, a, b, *rest)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", widened)


def make_engine(programs: int = 1, **options: Any) -> TritonEngine:
    engine = TritonEngine(DEVICE, **options)
    engine.programs = programs
    return engine


def make_siren(shape: NetworkSpec, tiles: int = 2, omega_0: float = 1.0) -> Siren:
    config = FitConfig(standardise=False, omega_0=omega_0, weight_scale=1.0, band=0.7)
    return Siren.initialise(shape, tiles, config, 0).to(DEVICE)


def make_coordinates(shape: NetworkSpec, samples: int, tiles: int = 1) -> Tensor:
    x = 8 * torch.rand(tiles, shape.inputs, samples, generator=torch.Generator().manual_seed(1)) - 4
    return x.to(DEVICE)


def make_squared(siren: Siren, samples: int) -> SquaredLoss:
    generator = torch.Generator().manual_seed(2)
    target = torch.randn(siren.tiles, siren.spec.outputs, samples, generator=generator)
    weight = torch.rand(siren.tiles, samples, generator=generator)
    return SquaredLoss(target.to(DEVICE), (weight * (weight > 0.2)).to(DEVICE))


def make_observed(siren: Siren) -> ObservedLoss:
    """Return a loss on 5 x 7 pixels of 2 x 2 samples each: 140 samples."""
    return ObservedLoss(make_squared(siren, 35), (5, 7), 2, torch.linspace(0, 0.2, siren.tiles, device=DEVICE))


def gradient_of(engine: Any, siren: Siren, x: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    out = torch.full_like(siren.theta, torch.nan)
    return engine.gradient(siren, x, loss, out), out


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Assert equality up to roundings of the largest element."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 2e-5 * expected.abs().max()


def assert_about(found: Tensor, expected: Tensor) -> None:
    """Assert equality in the norm to about three digits, but not to seven.

    The interpreter truncates bfloat16 instead of rounding it.
    """
    error = (found - expected).norm() / expected.norm()
    assert 1e-5 < error <= 2e-2


# Inputs, outputs, layers, width; samples; whether tiles have coordinates of their own.
CASES = [
    pytest.param(NetworkSpec(2, 1, 1, 5), 1, False, id="one layer, one sample"),
    pytest.param(NetworkSpec(1, 1, 2, 5), 64, False, id="1-D, a whole block"),
    pytest.param(NetworkSpec(2, 3, 3, 28), 65, False, id="a block and one"),
    pytest.param(NetworkSpec(3, 4, 4, 16), 100, True, id="3-D, 4 layers"),
    pytest.param(NetworkSpec(2, 2, 2, 33), 150, True, id="width 33"),
    pytest.param(NetworkSpec(4, 16, 2, 8), 20, False, id="4-D, 16 channels"),
]


@pytest.mark.parametrize("omega_0", [1.0, 30.0])
@pytest.mark.parametrize(("shape", "samples", "own"), CASES)
def test_values_losses_and_gradients_are_the_plain_ones(
    shape: NetworkSpec, samples: int, own: bool, omega_0: float
) -> None:
    siren = make_siren(shape, omega_0=omega_0)
    x = make_coordinates(shape, samples, siren.tiles if own else 1) / omega_0
    loss = make_squared(siren, samples)
    engine = make_engine()
    assert_close(engine.forward(siren, x), PLAIN.forward(siren, x))
    for found, expected in zip(gradient_of(engine, siren, x, loss), gradient_of(PLAIN, siren, x, loss), strict=True):
        assert_close(found, expected)
    assert_close(engine.losses(siren, x, loss), PLAIN.losses(siren, x, loss))


@pytest.mark.parametrize("own", [False, True], ids=["shared coordinates", "own coordinates"])
@pytest.mark.parametrize("block_bytes", [None, 2 * 4 * 3 * 140], ids=["whole", "small blocks"])
def test_samples_may_see_each_other(own: bool, block_bytes: int | None) -> None:
    siren = make_siren(NetworkSpec(2, 3, 3, 21), tiles=3)
    x = make_coordinates(siren.spec, 140, 3 if own else 1)
    loss, engine = make_observed(siren), make_engine(block_bytes=block_bytes)
    expected = gradient_of(PLAIN, siren, x, loss)
    for found, wanted in zip(gradient_of(engine, siren, x, loss), expected, strict=True):
        assert_close(found, wanted)
    assert_close(engine.losses(siren, x, loss), expected[0])


@pytest.mark.parametrize("programs", [4, 1000])
def test_programs_that_share_a_tile_add_up(programs: int) -> None:
    siren = make_siren(NetworkSpec(2, 1, 2, 8))
    x, loss = make_coordinates(siren.spec, 200), make_squared(siren, 200)
    engine = make_engine(programs)
    for found, expected in zip(gradient_of(engine, siren, x, loss), gradient_of(PLAIN, siren, x, loss), strict=True):
        assert_close(found, expected)
    assert_close(engine.losses(siren, x, loss), PLAIN.losses(siren, x, loss))
    assert_close(engine.forward(siren, x), PLAIN.forward(siren, x))
    again = gradient_of(make_engine(programs), siren, x, loss)[1]
    assert torch.equal(gradient_of(engine, siren, x, loss)[1], again)


def test_partial_gradients_keep_to_the_bound() -> None:
    siren = make_siren(NetworkSpec(2, 1, 2, 8))
    bound = 3 * 4 * siren.theta.numel()
    assert make_engine(1000)._parts(siren, 6400, low_precision=False) == (200, 32)
    assert make_engine(1000, block_bytes=bound)._parts(siren, 6400, low_precision=False) == (3, 67 * 32)


def test_large_phases_keep_their_sines() -> None:
    """Check sin(z) for |z| up to 5000, since frequencies grow in a fit."""
    shape = NetworkSpec(1, 1, 1, 3)
    siren = make_siren(shape, tiles=1)
    values = ([[1.0], [1], [1]], [[1.0, 0, 0]], [[0.0], [1], [2]], [[0.0]])
    for view, value in zip((*shape.weights(siren.theta), *shape.biases(siren.theta)), values, strict=True):
        view.copy_(torch.tensor(value))
    z = torch.linspace(-5000, 5000, 4001, device=DEVICE).reshape(1, 1, -1)
    assert (make_engine().forward(siren, z) - z.double().sin().float()).abs().max() < 1e-6


def test_it_refuses_what_it_would_misread() -> None:
    siren = make_siren(NetworkSpec(2, 1, 2, 8)).to(dtype=torch.float64)
    with pytest.raises(TypeError, match="float32"):
        make_engine().forward(siren, make_coordinates(siren.spec, 5))


def test_shrinking_ends() -> None:
    engine = make_engine(block_bytes=1 << 18)
    assert [engine.shrink() for _ in range(3)] == [True, True, False]


# ---- gradients in low precision --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [NetworkSpec(2, 3, 3, 28), NetworkSpec(3, 1, 2, 33)])
def test_rough_is_plain_to_three_digits(shape: NetworkSpec) -> None:
    siren = make_siren(shape, omega_0=1.5)
    x, loss = make_coordinates(shape, 140), make_squared(siren, 140)
    low_precision = make_engine().low_precision()
    assert_about(low_precision.forward(siren, x), PLAIN.forward(siren, x))
    for found, expected in zip(
        gradient_of(low_precision, siren, x, loss), gradient_of(PLAIN, siren, x, loss), strict=True
    ):
        assert_about(found, expected)
    # Losses must be exact, since they are compared with those of other engines.
    assert_close(low_precision.losses(siren, x, loss), PLAIN.losses(siren, x, loss))


def test_rough_is_plain_where_samples_see_each_other() -> None:
    siren = make_siren(NetworkSpec(2, 3, 3, 21))
    x, loss = make_coordinates(siren.spec, 140), make_observed(siren)
    low_precision, (losses, expected) = make_engine(low_precision=True), gradient_of(PLAIN, siren, x, loss)
    found = gradient_of(low_precision, siren, x, loss)[1]
    # Signs in the gradient of the prior change if neighbours are nearly equal.
    assert 1e-5 < (found - expected).norm() / expected.norm() <= 3e-2
    assert_close(low_precision.losses(siren, x, loss), losses)


# ---- the optimiser's step --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5, 16, 28, 33, 64])
def test_matrices_are_orthogonalised_as_plainly(size: int) -> None:
    matrices = torch.randn(2, 2, size, size, generator=torch.Generator().manual_seed(size)).to(DEVICE)
    expected = PLAIN.orthogonalise(matrices.clone())
    torch.testing.assert_close(make_engine().orthogonalise(matrices.clone()), expected, atol=2e-4, rtol=0)


def test_orthogonalising_nothing_gives_nothing() -> None:
    assert not make_engine().orthogonalise(torch.zeros(1, 2, 6, 6, device=DEVICE)).any()


@pytest.mark.parametrize(
    "fields",
    [{}, {"optimizer": "adam"}, {"hidden_layers": 1}, {"beta1": 0.0, "beta2": 0.0, "momentum": 0.0}],
    ids=["muon", "adam", "one layer", "no memory"],
)
@pytest.mark.parametrize("width", [5, 33])
def test_steps_are_plain_steps(fields: dict[str, Any], width: int) -> None:
    config = FitConfig(averaging=0.7, **fields)
    shape = NetworkSpec(2, 3, config.hidden_layers, width)
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(3, shape.parameters, generator=generator).to(DEVICE)
    gradients = torch.randn(3, *theta.shape, generator=generator).to(DEVICE)
    rates = torch.rand(3, 3, generator=generator).to(DEVICE)
    ends = []
    for worker in (make_engine(), PLAIN):
        moved, average = theta.clone(), theta.clone()
        optimizer = Optimizer(config, shape, moved)
        for gradient, rate in zip(gradients, rates, strict=True):
            worker.update(optimizer, gradient, rate, average)
        ends.append((moved, average, *optimizer.state().values()))
    for found, expected in zip(*ends, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert not torch.equal(ends[0][0], theta)


def test_a_short_fit_goes_as_the_plain_one() -> None:
    image = np.hypot(*np.mgrid[-8:8, -8:8]).astype(np.float32)
    config = FitConfig(engine="torch", precision="float32", tile=8, hidden_features=10, max_steps=20)
    runs = [TileTrainer(Samples.from_array(image), config, DEVICE, seed=0) for _ in range(2)]
    runs[1].engine = make_engine()
    start = runs[0].exact_psnr()
    for run in runs:
        for _ in range(8):
            run.step()
    first, second = (run.exact_psnr() for run in runs)
    assert second == pytest.approx(first, abs=0.02)
    assert second > start + 3
    torch.testing.assert_close(runs[1].mean.theta, runs[0].mean.theta, atol=2e-3, rtol=0)


# ---- graphs ----------------------------------------------------------------------------------------------


class Recorder:
    """A substitute for CUDA graphs. Recording does nothing; a replay does the work and writes to the same result."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.recorded, self.replayed = fails, 0, 0

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        self.recorded += 1
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        result = torch.empty(0, device=DEVICE)

        def replay() -> None:
            self.replayed += 1
            found = work()
            result.resize_(found.shape).copy_(found)

        return replay, result


def counter() -> tuple[list[int], Callable[[], Tensor]]:
    calls: list[int] = []

    def work() -> Tensor:
        calls.append(1)
        return torch.tensor(float(len(calls)))

    return calls, work


def test_work_is_done_once_directly_then_recorded_then_replayed() -> None:
    recorder, (_, work) = Recorder(), counter()
    graphs = Graphs(recorder)
    assert [float(graphs.run("a", work)) for _ in range(4)] == [1, 2, 3, 4]
    assert (recorder.recorded, recorder.replayed) == (1, 3)
    graphs.run("b", work)
    assert (recorder.recorded, recorder.replayed) == (1, 3)
    graphs.clear()
    graphs.run("a", work)
    assert (recorder.recorded, recorder.replayed) == (1, 3)


@pytest.mark.parametrize("record", [None, Recorder(fails=True)], ids=["no graphs", "a failure"])
def test_what_cannot_be_recorded_is_done_directly(record: Recorder | None) -> None:
    calls, work = counter()
    graphs = Graphs(record)
    assert [float(graphs.run("a", work)) for _ in range(4)] == [1, 2, 3, 4]
    assert len(calls) == 4
    assert record is None or record.recorded == 1


def test_graphs_do_not_pile_up() -> None:
    recorder, (_, work) = Recorder(), counter()
    graphs = Graphs(recorder)
    for key in range(100):
        graphs.run(key, work)
    assert len(graphs._entries) < 50
    graphs.run(99, work)
    assert recorder.recorded == 1


def test_replayed_steps_are_direct_steps() -> None:
    config, shape = FitConfig(hidden_layers=2), NetworkSpec(2, 1, 2, 6)
    ends = []
    recorder = Recorder()
    for graphs in (Graphs(None), Graphs(recorder)):
        engine = make_engine()
        engine._graphs = graphs
        siren = make_siren(shape)
        x, halves = make_coordinates(shape, 20), [make_squared(siren, 20), make_squared(make_siren(shape), 20)]
        halves[1].target.neg_()
        optimizer, average = Optimizer(config, shape, siren.theta), siren.theta.clone()
        out, losses = torch.empty_like(siren.theta), []
        for step in range(6):
            losses.append(engine.gradient(siren, x, halves[step % 2], out))
            engine.update(optimizer, out, torch.full((2,), 1 / (1 + step), device=DEVICE), average)
        ends.append((siren.theta, average, torch.stack(losses)))
    for found, expected in zip(*ends, strict=True):
        assert torch.equal(found, expected)
    assert recorder.recorded == 3
    assert recorder.replayed == 2 + 2 + 5


def test_a_smaller_block_is_another_graph() -> None:
    engine, recorder = make_engine(1000), Recorder()
    engine._graphs = Graphs(recorder)
    siren = make_siren(NetworkSpec(2, 1, 2, 8))
    x, loss, out = make_coordinates(siren.spec, 200), make_squared(siren, 200), torch.empty_like(siren.theta)
    for _ in range(2):
        engine.gradient(siren, x, loss, out)
    engine.shrink()
    engine.gradient(siren, x, loss, out)
    assert (recorder.recorded, recorder.replayed) == (1, 1)


# ---- which engine ----------------------------------------------------------------------------------------

NARROW = NetworkSpec(2, 1, 3, 28)
GPU = torch.device("cuda", 0)


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Old Card")
    monkeypatch.setattr(triton_engine, "_multiprocessors", lambda _: 100)
    monkeypatch.setattr(triton_there, "verdict_on", lambda _: Verdict())
    monkeypatch.setattr(registry, "verdict_on", lambda _: Verdict())


@pytest.mark.usefixtures("a_gpu")
def test_auto_takes_triton_on_a_gpu() -> None:
    assert choose_engine("auto", GPU, NARROW, 1).name == "triton"
    assert choose_engine("triton", GPU, NARROW, 1, block_bytes=1 << 20).block_bytes == 1 << 20
    assert choose_engine("torch", GPU, NARROW, 1).name == "torch"
    assert low_precision_engine(choose_engine("auto", GPU, NARROW, 1), NARROW).name == "triton, bfloat16"


REASONS = {
    "double": ({"dtype": torch.float64}, "float64 on cuda"),
    "wide": ({"shape": NetworkSpec(2, 1, 3, 65)}, "64 features"),
    "deep": ({"shape": NetworkSpec(2, 1, 9, 8)}, "8 sine layers"),
    "channels": ({"shape": NetworkSpec(2, 17, 3, 8)}, "16 channels"),
}


@pytest.mark.usefixtures("a_gpu")
@pytest.mark.parametrize(("change", "message"), REASONS.values(), ids=REASONS)
def test_where_there_is_no_triton_engine_it_says_why(change: dict[str, Any], message: str) -> None:
    shape, dtype = change.get("shape", NARROW), change.get("dtype", torch.float32)
    assert choose_engine("auto", GPU, shape, 1, dtype=dtype).name == "torch"
    with pytest.raises(ConfigError, match=rf"{message}.*engine=\"auto\""):
        choose_engine("triton", GPU, shape, 1, dtype=dtype)


@pytest.mark.usefixtures("a_gpu")
@pytest.mark.parametrize(
    ("owner", "name", "value", "message"),
    [
        (triton_there.importlib.util, "find_spec", lambda _: None, "pip install triton"),
        (torch.version, "hip", "6.0", "AMD"),
        (torch.cuda, "get_device_capability", lambda _: (7, 5), r"Old Card is older than compute capability 8\.0"),
        (triton_there, "verdict_on", lambda _: Verdict("it does not run here (no compiler)"), "no compiler"),
    ],
    ids=["not installed", "AMD", "old", "broken"],
)
def test_where_triton_cannot_run_it_says_why(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, value: object, message: str
) -> None:
    monkeypatch.setattr(owner, name, value)
    assert choose_engine("auto", GPU, NARROW, 1).name == "torch"
    with pytest.raises(ConfigError, match=message):
        choose_engine("triton", GPU, NARROW, 1)


def test_triton_is_not_for_the_cpu() -> None:
    with pytest.raises(ConfigError, match="on a CUDA GPU"):
        choose_engine("triton", torch.device("cpu"), NARROW, 1)


def test_the_package_does_without_triton() -> None:
    code = (
        "import sys; sys.modules['triton'] = None; import napari_siren as ns; ns.fit; "
        "import napari_siren.core.training.trainer"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


# Each kernel, shape of network, precision and kind of loss once.
COMPILED = [
    *("gradient, faithful, bfloat16", "gradient, upscale, bfloat16", "gradient, stack, float32", "values, stack"),
    *("orthogonalisation", "Muon's step", "Adam's step"),
]


def test_the_kernels_compile_for_gpus(tmp_path: Path) -> None:
    """Compile the kernels, since the compiler rejects some code of the interpreter. It needs no GPU."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path / "cache")
    command = [sys.executable, "-m", "benchmarks.gpu.compiled", "--capability", "80", "--json", tmp_path / "rows.json"]
    command += ["--only", *COMPILED]
    root = Path(__file__).parents[3]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads((tmp_path / "rows.json").read_text())["sm_80"]
    assert list(rows) == COMPILED
    assert max(row["shared_bytes"] for row in rows.values()) <= SHARED_BYTES
    # The kernel of most steps must fit the registers.
    assert rows["gradient, faithful, bfloat16"]["stack_bytes"] == 0
