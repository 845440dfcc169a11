"""Tests of the engines: equal numbers, choice of an engine, messages if the native engine is not available."""

from __future__ import annotations

import ctypes
import math
import platform
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs
import pytest
import roundings
import torch
from roundings import Roundings
from torch import Tensor, nn

import napari_siren as ns
from napari_siren.core import engines
from napari_siren.core.engines import LowPrecisionEngine, NativeEngine, TorchEngine, choose_engine, forward, kernel
from napari_siren.core.engines.native import amx_ready
from napari_siren.core.field import partition as blend_module
from napari_siren.core.field.field import Field
from napari_siren.core.native import compiler, library
from napari_siren.core.network.losses import Loss, ObservedLoss, SquaredLoss
from napari_siren.core.network.optimizer import Optimizer
from napari_siren.core.network.siren import NetworkSpec, Siren
from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import ConfigError

CPU = torch.device("cpu")
PLAIN = TorchEngine(CPU)

# Compiler flags for the instruction sets of older machines, too. A vector has 16, 8 or 4 floats.
MACHINES = {
    "this machine": (),
    "AVX2": ("-mavx2", "-mfma", "-mno-avx512f"),
    "AVX": ("-mavx", "-mno-fma", "-mno-avx512f"),
    "SSE": ("-mno-avx",),
    "generic": (),
}


@pytest.fixture(scope="module", params=MACHINES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NativeEngine:
    """Return the native engine, compiled for this machine and for older ones."""
    if request.param == "this machine":
        built = kernel()
        if built.library is None:
            pytest.skip(built.message)
        return NativeEngine(built.library, threads=2)
    command = compiler.find_compiler()
    if command is None:
        pytest.skip("no C compiler")
    if request.param != "generic" and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip(f"needs {request.param} (x86), this is a {processor()}")
    if request.param in ("AVX", "AVX2") and torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip(f"needs {request.param}, this is a {processor()}")
    path = tmp_path_factory.mktemp("kernel") / "siren.so"
    compiler.compile_library([command], MACHINES[request.param], path)
    return NativeEngine(ctypes.CDLL(str(path)), threads=2)


def processor() -> str:
    return next(iter(cpu_info("model name")), platform.processor() or platform.machine())


def cpu_info(field: str) -> list[str]:
    """Return a field of /proc/cpuinfo, once for each processor; nothing on systems other than Linux."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return [line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == field]


def make_siren(shape: NetworkSpec, tiles: int = 3, omega_0: float = 1.0, seed: int = 0) -> Siren:
    config = FitConfig(standardise=False, omega_0=omega_0, weight_scale=1.0, band=0.7)
    return Siren.initialise(shape, tiles, config, seed)


def make_coordinates(shape: NetworkSpec, samples: int, tiles: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return 8 * torch.rand(tiles, shape.inputs, samples, generator=generator) - 4


def make_squared(siren: Siren, samples: int) -> SquaredLoss:
    generator = torch.Generator().manual_seed(2)
    target = torch.randn(siren.tiles, siren.spec.outputs, samples, generator=generator)
    weight = torch.rand(siren.tiles, samples, generator=generator)
    return SquaredLoss(target, weight * (weight > 0.2))


def gradient_of(engine: object, siren: Siren, x: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    out = torch.full_like(siren.theta, torch.nan)
    return engine.gradient(siren, x, loss, out), out


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Assert equality up to roundings of the largest element."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 2e-5 * expected.abs().max()


# Inputs, outputs, layers, width; samples; whether tiles have coordinates of their own.
CASES = [
    pytest.param(NetworkSpec(2, 1, 1, 5), 1, False, id="one layer, one sample"),
    pytest.param(NetworkSpec(1, 1, 2, 5), 7, False, id="1-D"),
    pytest.param(NetworkSpec(2, 3, 2, 27), 37, False, id="width 27"),
    pytest.param(NetworkSpec(2, 3, 3, 32), 256, False, id="a whole chunk"),
    pytest.param(NetworkSpec(2, 5, 3, 28), 257, True, id="a chunk and one"),
    pytest.param(NetworkSpec(3, 1, 4, 16), 343, True, id="3-D"),
    pytest.param(NetworkSpec(3, 5, 2, 33), 530, False, id="3-D, width 33"),
    pytest.param(NetworkSpec(2, 1, 2, 1), 40, True, id="width 1"),
]


@pytest.mark.parametrize("omega_0", [1.0, 30.0])
@pytest.mark.parametrize(("shape", "samples", "own"), CASES)
class TestNativeIsPlain:
    def test_values(self, engine: NativeEngine, shape: NetworkSpec, samples: int, own: bool, omega_0: float) -> None:
        siren = make_siren(shape, omega_0=omega_0)
        x = make_coordinates(shape, samples, siren.tiles if own else 1) / omega_0
        assert_close(engine.forward(siren, x), PLAIN.forward(siren, x))

    def test_gradients_of_the_squared_loss(
        self, engine: NativeEngine, shape: NetworkSpec, samples: int, own: bool, omega_0: float
    ) -> None:
        siren = make_siren(shape, omega_0=omega_0)
        x = make_coordinates(shape, samples, siren.tiles if own else 1) / omega_0
        loss = make_squared(siren, samples)
        for found, expected in zip(
            gradient_of(engine, siren, x, loss), gradient_of(PLAIN, siren, x, loss), strict=True
        ):
            assert_close(found, expected)
        assert_close(engine.losses(siren, x, loss), PLAIN.losses(siren, x, loss))


@pytest.mark.parametrize("own", [False, True], ids=["shared coordinates", "own coordinates"])
@pytest.mark.parametrize("blocks", ["whole", "small blocks"])
def test_native_is_plain_for_a_loss_in_which_samples_see_each_other(
    engine: NativeEngine, own: bool, blocks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    siren = make_siren(NetworkSpec(2, 3, 3, 21), tiles=5)
    x = make_coordinates(siren.spec, 6 * 7 * 4, 5 if own else 1)
    loss = ObservedLoss(make_squared(siren, 42), (6, 7), 2, torch.linspace(0, 0.2, 5))
    if blocks == "small blocks":
        monkeypatch.setattr(engine, "block_bytes", 2 * 4 * 3 * 168)
    expected = gradient_of(PLAIN, siren, x, loss)
    for found, wanted in zip(gradient_of(engine, siren, x, loss), expected, strict=True):
        assert_close(found, wanted)
    assert_close(engine.losses(siren, x, loss), expected[0])


def test_large_phases_keep_their_sines(engine: NativeEngine) -> None:
    """Check sin(z) for |z| up to 5000, since frequencies grow in a fit."""
    shape = NetworkSpec(1, 1, 1, 3)
    siren = make_siren(shape, tiles=1)
    for view, values in zip(
        (*shape.weights(siren.theta), *shape.biases(siren.theta)),
        ([[1.0], [1], [1]], [[1.0, 0, 0]], [[0.0], [1], [2]], [[0.0]]),
        strict=True,
    ):
        view.copy_(torch.tensor(values))
    z = torch.linspace(-5000, 5000, 4001).reshape(1, 1, -1)
    expected = z.double().sin().float()
    assert (engine.forward(siren, z) - expected).abs().max() < 1e-6


@pytest.mark.parametrize("threads", [1, 3, 7])
@pytest.mark.parametrize("tiles", [1, 2, 5, 40])
def test_threads_do_not_change_a_bit(engine: NativeEngine, threads: int, tiles: int) -> None:
    siren = make_siren(NetworkSpec(2, 1, 2, 8), tiles=tiles)
    x, loss = make_coordinates(siren.spec, 50, 1), make_squared(siren, 50)
    other = NativeEngine(engine.library, threads)
    for found, expected in zip(gradient_of(other, siren, x, loss), gradient_of(engine, siren, x, loss), strict=True):
        assert torch.equal(found, expected)


def test_the_native_engine_refuses_what_it_would_misread(engine: NativeEngine) -> None:
    siren = make_siren(NetworkSpec(2, 1, 2, 8)).to(dtype=torch.float64)
    x = make_coordinates(siren.spec, 5, 1)
    with pytest.raises(TypeError, match="float32"):
        engine.forward(siren, x)


# Shape, channels, positions per pixel. Tiles have more samples than a chunk, fewer samples, or none.
FIELDS = [
    pytest.param((17,), 1, 61.0, id="1-D"),
    pytest.param((23, 19), 3, 5.3, id="2-D"),
    pytest.param((23, 19), 2, 0.2, id="2-D, coarse"),
    pytest.param((4, 31), 1, 2.0, id="2-D, one row of tiles"),
    pytest.param((9, 13, 20), 2, 1.7, id="3-D"),
]


def positions_of(shape: tuple[int, ...], density: float) -> list[npt.NDArray[np.float64]]:
    """Return ascending positions along each axis, unevenly spaced, some of them outside the image."""
    rng = np.random.default_rng(0)
    return [np.sort(rng.uniform(-1, n + 1, max(1, round(density * n)))) for n in shape]


@pytest.mark.parametrize(("shape", "channels", "density"), FIELDS)
class TestGridsByTheKernel:
    def test_are_those_of_float64(
        self,
        engine: NativeEngine,
        random_field: Callable[..., Field],
        shape: tuple[int, ...],
        channels: int,
        density: float,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        blend, positions = random_field(shape, channels).blend, positions_of(shape, density)
        expected = blend.on_grid(positions, "value")
        monkeypatch.setattr(blend_module, "choose_engine", lambda *_, **__: engine)
        assert_close(blend.to(dtype=torch.float32).on_grid(positions, "value").double(), expected)

    def test_are_the_same_to_the_bit_by_any_threads_and_in_any_parts(
        self,
        engine: NativeEngine,
        random_field: Callable[..., Field],
        shape: tuple[int, ...],
        channels: int,
        density: float,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        blend, positions = random_field(shape, channels, dtype=torch.float32).blend, positions_of(shape, density)
        monkeypatch.setattr(blend_module, "choose_engine", lambda *_, **__: engine)
        whole = blend.on_grid(positions, "value")
        first, *others = positions
        parts = [blend.on_grid([part, *others], "value") for part in np.array_split(first, 3) if len(part)]
        assert torch.equal(torch.cat(parts, dim=2), whole)
        monkeypatch.setattr(blend_module, "choose_engine", lambda *_, **__: NativeEngine(engine.library, threads=5))
        assert torch.equal(blend.on_grid(positions, "value"), whole)


def test_native_orthogonalisation_is_the_plain_one(engine: NativeEngine) -> None:
    for size in (1, 5, 16, 27, 33):
        matrices = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size))
        expected = PLAIN.orthogonalise(matrices.clone())
        found = engine.orthogonalise(matrices.clone())
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)
        if engine._has_amx(size):
            expected_error = roundings.expected_orthogonalisation_error(matrices)
            assert (found - expected).norm() <= roundings.MOST_DEVIATIONS * expected_error


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e6])
@pytest.mark.parametrize("size", [4, 28, 64])
def test_orthogonalised_matrices_have_singular_values_near_one_and_turn_nowhere_else(size: int, scale: float) -> None:
    u, _, v = torch.linalg.svd(torch.randn(3, size, size, generator=torch.Generator().manual_seed(0)))
    spectrum = torch.logspace(0, -1, size)
    spectrum[-1] = 0.0005 * spectrum.norm()  # It is too small to reach one, but is enlarged.
    found = PLAIN.orthogonalise(scale * (u * spectrum) @ v)
    aligned = u.mT @ found @ v.mT
    values = aligned.diagonal(dim1=1, dim2=2)
    assert (aligned - torch.diag_embed(values)).abs().max() < 1e-3
    assert (values[:, :-1] - 1).abs().max() < 0.1
    assert ((values[:, -1] > 0.02) & (values[:, -1] < 0.2)).all()


def test_orthogonalising_nothing_gives_nothing(engine: NativeEngine) -> None:
    for each in (PLAIN, engine):
        assert not each.orthogonalise(torch.zeros(1, 2, 6, 6)).any()


# ---- the plain engine ----------------------------------------------------------------------------------


@pytest.mark.parametrize("block_bytes", [1, 30_000, 1 << 30], ids=["chunks", "blocks", "whole"])
@pytest.mark.parametrize("omega_0", [1.0, 30.0])
@pytest.mark.parametrize("layers", [1, 3, 5])
def test_the_plain_gradient_is_that_of_autograd_in_any_blocks(
    block_bytes: int, omega_0: float, layers: int, paper_network: Callable[[Siren, int], nn.Module]
) -> None:
    siren = make_siren(NetworkSpec(2, 3, layers, 12), tiles=4, omega_0=omega_0).to(dtype=torch.float64)
    x = make_coordinates(siren.spec, 700, 1).double() / omega_0
    low_precision = make_squared(siren, 700)
    loss = SquaredLoss(low_precision.target.double(), low_precision.weight.double())
    losses, gradient = gradient_of(TorchEngine(CPU, block_bytes), siren, x, loss)
    weight_views, bias_views = siren.spec.weights(gradient), siren.spec.biases(gradient)
    for tile in range(siren.tiles):
        network = paper_network(siren, tile)
        squares = (network(x[0].T).T - loss.target[tile]).square().sum(dim=0)
        total = (squares * loss.weight[tile]).sum()
        (total / loss.weight[tile].sum() / 3).backward()
        torch.testing.assert_close(losses[tile], total.detach())
        for view, parameter in zip(weight_views, network.weights, strict=True):
            torch.testing.assert_close(view[tile], parameter.grad)
        for view, parameter in zip(bias_views, network.biases, strict=True):
            torch.testing.assert_close(view[tile, :, 0], parameter.grad)


@pytest.mark.parametrize("block_bytes", [1, 30_000, 1 << 30])
def test_plain_values_and_losses_do_not_depend_on_the_blocks(block_bytes: int) -> None:
    siren = make_siren(NetworkSpec(2, 3, 2, 12), tiles=4)
    x, loss = make_coordinates(siren.spec, 700, 4), make_squared(siren, 700)
    engine = TorchEngine(CPU, block_bytes)
    torch.testing.assert_close(engine.forward(siren, x), siren.forward(x))
    torch.testing.assert_close(engine.losses(siren, x, loss), loss.value_and_gradient(siren.forward(x), slice(None))[0])


def test_shrinking_halves_blocks_until_there_is_no_smaller() -> None:
    engine = TorchEngine(CPU, 1 << 20)
    sizes = []
    while engine.shrink():
        sizes.append(engine.block_bytes)
    assert sizes == [1 << 19, 1 << 18, 1 << 17, 1 << 16]


# ---- which engine --------------------------------------------------------------------------------------

NARROW, WIDE = NetworkSpec(2, 1, 3, 28), NetworkSpec(2, 1, 3, 256)


@pytest.fixture
def fresh_kernel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[], library.Kernel]]:
    """Return the function that builds the kernel, with an empty cache, and without the libraries of a wheel."""
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_: tmp_path / "cache")
    monkeypatch.delenv("NAPARI_SIREN_NATIVE", raising=False)
    monkeypatch.delenv("NAPARI_SIREN_CACHE", raising=False)
    monkeypatch.setattr(library, "load_prebuilt", lambda: None)
    kernel.cache_clear()
    yield kernel
    kernel.cache_clear()


def fake_compiler(folder: Path, script: str) -> str:
    path = folder / "fakecc"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_switched_off_by_the_environment(
    fresh_kernel: Callable[[], library.Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAPARI_SIREN_NATIVE", "0")
    assert fresh_kernel().library is None
    assert choose_engine("auto", CPU, NARROW, 100).name == "torch"
    with pytest.raises(ConfigError, match=r"NAPARI_SIREN_NATIVE=0.*engine=\"auto\""):
        choose_engine("native", CPU, NARROW, 100)


@pytest.mark.parametrize("cc", [None, "no-such-compiler"])
def test_without_a_compiler_the_plain_engine_steps_in(
    fresh_kernel: Callable[[], library.Kernel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cc: str | None
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if cc is None:
        monkeypatch.delenv("CC", raising=False)
    else:
        monkeypatch.setenv("CC", cc)
    assert "no C compiler" in fresh_kernel().message
    assert choose_engine("auto", CPU, NARROW, 100).name == "torch"
    with pytest.raises(ConfigError, match="no C compiler"):
        choose_engine("native", CPU, NARROW, 100)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'error: out of ideas' >&2; exit 1", "error: out of ideas"),
        ('for last; do :; done; echo "not a library" > "$last"', "siren-"),
        ("exit 0", ""),
    ],
    ids=["fails", "writes nonsense", "writes nothing"],
)
def test_a_broken_compiler_is_told_of_and_the_plain_engine_steps_in(
    fresh_kernel: Callable[[], library.Kernel],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    script: str,
    message: str,
) -> None:
    monkeypatch.setenv("CC", fake_compiler(tmp_path, script))
    built = fresh_kernel()
    assert built.library is None
    assert "could not compile the kernel" in built.message
    assert message in built.message
    assert choose_engine("auto", CPU, NARROW, 100).name == "torch"


def test_a_cache_that_cannot_be_written_is_no_harm(
    fresh_kernel: Callable[[], library.Kernel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda *_: file)
    assert fresh_kernel().message
    assert choose_engine("auto", CPU, NARROW, 100).name in ("torch", "native")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_kernel_is_compiled_once_and_then_from_the_cache(fresh_kernel: Callable[[], library.Kernel]) -> None:
    assert fresh_kernel().message.startswith("compiled")
    kernel.cache_clear()
    assert fresh_kernel().message.startswith("from the cache")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_environment_names_another_folder_for_the_cache(
    fresh_kernel: Callable[[], library.Kernel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NAPARI_SIREN_CACHE", str(tmp_path / "chosen"))
    assert fresh_kernel().library is not None
    assert list((tmp_path / "chosen").rglob("*.so"))
    assert not (tmp_path / "cache").exists()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_damaged_library_in_the_cache_is_no_harm(fresh_kernel: Callable[[], library.Kernel], tmp_path: Path) -> None:
    fresh_kernel()
    for path in (tmp_path / "cache").rglob("*.so"):
        path.unlink()
        path.write_bytes(b"cut short")
    kernel.cache_clear()
    assert fresh_kernel().library is not None


def test_auto_takes_the_native_engine_for_many_narrow_networks_only() -> None:
    if kernel().library is None:
        pytest.skip(kernel().message)
    assert choose_engine("auto", CPU, NARROW, 100).name == "native"
    assert choose_engine("auto", CPU, WIDE, 100).name == "torch"
    assert choose_engine("auto", CPU, NARROW, 100, dtype=torch.float64).name == "torch"
    assert choose_engine("torch", CPU, NARROW, 100).name == "torch"
    assert choose_engine("native", CPU, WIDE, 1).name == "native"


def test_native_is_for_float32_on_the_cpu() -> None:
    for device, dtype in ((torch.device("cuda"), torch.float32), (CPU, torch.float64)):
        with pytest.raises(ConfigError, match="float32 on the CPU"):
            choose_engine("native", device, NARROW, 100, dtype=dtype)


def test_forward_takes_any_dtype() -> None:
    siren = make_siren(NARROW, tiles=50)
    x = make_coordinates(NARROW, 30, 1)
    expected = siren.to(dtype=torch.float64).forward(x.double())
    assert_close(forward(siren, x).double(), expected)
    torch.testing.assert_close(forward(siren.to(dtype=torch.float64), x.double()), expected)
    assert math.isfinite(float(expected.sum()))


# ---- the optimiser's step ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"optimizer": "adam"}, {"hidden_layers": 1}], ids=["muon", "adam", "one layer"])
@pytest.mark.parametrize("width", [1, 16, 33])
def test_native_steps_are_plain_steps(engine: NativeEngine, fields: dict[str, Any], width: int) -> None:
    config = FitConfig(averaging=0.7, **fields)
    shape = NetworkSpec(2, 3, config.hidden_layers, width)
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(5, shape.parameters, generator=generator)
    gradients = torch.randn(4, *theta.shape, generator=generator)
    rate = torch.rand(5, generator=generator)
    ends = []
    for worker in (engine, PLAIN):
        moved, average = theta.clone(), theta.clone()
        optimizer = Optimizer(config, shape, moved)
        for gradient in gradients:
            worker.update(optimizer, gradient, rate, average)
        ends.append((moved, average, *optimizer.state().values()))
    for found, expected in zip(*ends, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert not torch.equal(ends[0][0], theta)


# ---- gradients in low precision --------------------------------------------------------------------------


def low_precision_engine(shape: NetworkSpec) -> LowPrecisionEngine:
    built = kernel()
    if built.library is None:
        pytest.skip(built.message)
    if not all(name in " ".join(cpu_info("flags")).split() for name in ("amx_tile", "amx_bf16", "avx512_bf16")):
        pytest.skip(f"needs AMX (amx_tile, amx_bf16) and avx512_bf16, this is a {processor()}")
    assert amx_ready(built.library)
    low_precision = LowPrecisionEngine.from_engine(NativeEngine(built.library, threads=2), shape)
    assert low_precision is not None
    return low_precision


def assert_rounded(
    found: Iterable[Tensor], siren: Siren, x: Tensor, loss: Loss, where: Roundings, *, tight: bool = True
) -> None:
    """Compare losses, gradient and perhaps values with float64, with emulated roundings and without.

    The error without roundings must be within the expected size of the roundings. Without `tight`, the comparison with
    emulated roundings is omitted.
    """
    rounded = roundings.gradient(siren, x, loss, where)
    exact = roundings.gradient(siren, x, loss, roundings.EXACT)
    errors = roundings.expected_errors(siren, x, loss, where)
    for of_engine, emulated, true, error in zip(found, rounded, exact, errors, strict=False):
        assert of_engine.shape == true.shape
        if tight:
            assert (of_engine - emulated).norm() <= roundings.SHARE_OF_FLIPS * error
        assert (of_engine - true).norm() <= roundings.MOST_DEVIATIONS * error


@pytest.mark.parametrize(
    ("shape", "samples", "own"),
    [
        pytest.param(NetworkSpec(2, 1, 1, 5), 1, False, id="one layer, one sample"),
        pytest.param(NetworkSpec(1, 1, 2, 7), 33, False, id="1-D"),
        pytest.param(NetworkSpec(2, 3, 3, 28), 676, False, id="faithful"),
        pytest.param(NetworkSpec(2, 16, 4, 32), 65, True, id="full width"),
        pytest.param(NetworkSpec(3, 2, 8, 16), 343, True, id="3-D, deep"),
    ],
)
def test_rough_is_exact_but_for_the_roundings_of_bfloat16(shape: NetworkSpec, samples: int, own: bool) -> None:
    low_precision, siren = low_precision_engine(shape), make_siren(shape, omega_0=1.5)
    x = make_coordinates(shape, samples, siren.tiles if own else 1)
    loss = make_squared(siren, samples)
    found = (*gradient_of(low_precision, siren, x, loss), low_precision.forward(siren, x))
    assert_rounded(found, siren, x, loss, roundings.AMX)
    # Losses must be exact, since they are compared with those of other engines.
    assert_close(low_precision.losses(siren, x, loss), PLAIN.losses(siren, x, loss))


def test_rough_is_exact_but_for_roundings_where_samples_see_each_other() -> None:
    siren = make_siren(NetworkSpec(2, 3, 3, 21), tiles=5)
    low_precision, x = low_precision_engine(siren.spec), make_coordinates(siren.spec, 6 * 7 * 4, 1)
    loss = ObservedLoss(make_squared(siren, 42), (6, 7), 2, torch.linspace(0, 0.2, 5))
    found = (*gradient_of(low_precision, siren, x, loss), low_precision.forward(siren, x))
    assert_rounded(found, siren, x, loss, roundings.AMX)


@pytest.mark.parametrize("shape", [NetworkSpec(2, 3, 2, 33), NetworkSpec(2, 17, 2, 8), NetworkSpec(2, 3, 9, 8)])
def test_there_is_no_rough_engine_for_larger_networks(shape: NetworkSpec) -> None:
    low_precision_engine(NetworkSpec(2, 1, 1, 5))
    assert LowPrecisionEngine.from_engine(NativeEngine(kernel().library, threads=1), shape) is None
    assert LowPrecisionEngine.from_engine(PLAIN, NetworkSpec(2, 1, 1, 5)) is None


@pytest.mark.parametrize("block_bytes", [None, 1 << 20])
def test_rough_gradients_of_a_wide_network_are_exact_but_for_the_roundings_of_bfloat16(block_bytes: int | None) -> None:
    low_precision = TorchEngine(CPU, block_bytes).low_precision()
    siren = make_siren(NetworkSpec(2, 3, 4, 128), tiles=2, omega_0=1.5)
    x = make_coordinates(siren.spec, 300, 1)
    loss = make_squared(siren, 300)
    found = gradient_of(low_precision, siren, x, loss)
    assert not torch.equal(found[0], gradient_of(PLAIN, siren, x, loss)[0])
    # With blocks, the gradient of each block is rounded separately.
    assert_rounded(found, siren, x, loss, roundings.WIDE, tight=block_bytes is None)
    # Losses and values must be exact, since they are compared with those of other engines.
    assert_close(low_precision.losses(siren, x, loss), PLAIN.losses(siren, x, loss))
    assert_close(low_precision.forward(siren, x), PLAIN.forward(siren, x))


@pytest.mark.parametrize("there", [True, False])
def test_wide_networks_have_rough_gradients_where_the_processor_has_them(
    monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: there)
    assert (engines.low_precision_engine(PLAIN, NetworkSpec(2, 3, 5, 256)) is not None) == there
    assert engines.low_precision_engine(PLAIN, NetworkSpec(2, 3, 5, 64)) is None
    image = np.hypot(*np.mgrid[-8:8, -8:8]).astype(np.float32)
    assert ns.fit(image, preset="paper", max_steps=10).metrics.psnr > 5


def test_only_the_first_steps_of_a_fit_are_rough(monkeypatch: pytest.MonkeyPatch) -> None:
    low_precision_engine(NetworkSpec(2, 1, 1, 5))
    rough_steps: list[int] = []
    gradient = LowPrecisionEngine.gradient

    def counted(self: LowPrecisionEngine, *arguments: Any) -> Tensor:
        rough_steps.append(1)
        return gradient(self, *arguments)

    monkeypatch.setattr(LowPrecisionEngine, "gradient", counted)
    image = np.hypot(*np.mgrid[-12:12, -12:12]).astype(np.float32)
    options = {"max_steps": 20, "engine": "native", "tile": 8}
    ns.fit(image, **options)
    assert len(rough_steps) == 17
    ns.fit(image, precision="float32", **options)
    assert len(rough_steps) == 17
