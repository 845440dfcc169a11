"""Tests of the self-check: a device is compared with float64 on the CPU; failed parts are logged and not used."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import napari_siren as ns
from napari_siren.core import device
from napari_siren.core import engines as accel
from napari_siren.core import fit as fit_module
from napari_siren.core.engines import NativeEngine, TorchEngine, Verdict, choose_device, kernel, self_check
from napari_siren.core.engines.comparisons import (
    Problem,
    bfloat16_error,
    float32_error,
    problem,
    problems,
    replay_error,
    update_error,
)
from napari_siren.core.engines.self_check import check_cuda, check_plain, verdict_on
from napari_siren.core.network.siren import NetworkSpec

CPU = torch.device("cpu")
# A substitute for a GPU. The functions that inspect it are replaced.
GPU = torch.device("cuda", 0)


@pytest.fixture
def small() -> Problem:
    return problem("a small image", NetworkSpec(2, 1, 2, 8), (5, 7))


# ---- comparisons -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", list(problems()), ids=lambda case: case.name)
def test_right_engines_pass(case: Problem) -> None:
    engines: list[Any] = [TorchEngine(CPU)]
    library = kernel().library
    engines += [] if library is None else [NativeEngine(library, threads=1)]
    assert [float32_error(engine, case, CPU) for engine in engines] == [""] * len(engines)
    assert bfloat16_error(TorchEngine(CPU).low_precision(), case, CPU) == ""
    assert [update_error(engine, CPU) for engine in engines] == [""] * len(engines)


def spoil(monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Tensor], object]) -> None:
    """Change the result of a method of the plain engine in float32, or its output in the last argument."""
    method = getattr(TorchEngine, name)

    def spoiled(self: TorchEngine, *arguments: Any) -> Tensor:
        found: Tensor = method(self, *arguments)
        if self.device != CPU or arguments[0].theta.dtype == torch.float32:
            change(arguments[-1] if name == "gradient" else found)
        return found

    monkeypatch.setattr(TorchEngine, name, spoiled)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("forward", lambda out: out[0, 0, :1].add_(1e-3), "the values of a small image are off"),
        ("forward", lambda out: out[-1, -1, -1].fill_(torch.nan), "the values of a small image are off by nan"),
        ("losses", lambda out: out[-1:].mul_(1.001), "the losses of"),
        ("gradient", lambda out: out[:, -1].fill_(torch.nan), "the gradient of"),
        ("gradient", lambda out: out[0, 3].add_(0.1), "the gradient of"),
    ],
    ids=["a value", "not written", "a loss", "a column not written", "an element"],
)
def test_one_wrong_element_is_found(
    monkeypatch: pytest.MonkeyPatch, small: Problem, name: str, change: Callable[[Tensor], object], message: str
) -> None:
    assert small.expected
    spoil(monkeypatch, name, change)
    assert float32_error(TorchEngine(CPU), small, CPU).startswith(message)


def test_bfloat16_is_too_rough_for_float32_and_noise_for_bfloat16(small: Problem) -> None:
    assert small.expected
    low_precision = TorchEngine(CPU).low_precision()
    assert "the gradient" in float32_error(low_precision, small, CPU)
    wrong = replace(small, siren=replace(small.siren, theta=small.siren.theta * 1.05))
    wrong.__dict__["expected"] = small.expected
    assert "the gradient" in bfloat16_error(low_precision, wrong, CPU)


def test_a_wrong_step_of_the_optimiser_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = TorchEngine(CPU)
    monkeypatch.setattr(engine, "update", lambda optimizer, *_: optimizer.theta.add_(1e-3))
    assert "weights after 4 updates" in update_error(engine, CPU)


def test_a_replay_that_gives_other_bits_is_found(small: Problem) -> None:
    assert replay_error(TorchEngine(CPU), TorchEngine(CPU), small, CPU) == ""
    assert "other bits" in replay_error(TorchEngine(CPU).low_precision(), TorchEngine(CPU), small, CPU)


# ---- the verdict -----------------------------------------------------------------------------------------


def test_plain_pytorch_is_checked_where_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_plain(CPU).values == ""
    monkeypatch.setattr(self_check, "_seconds", lambda engine, _: 2.0 if isinstance(engine, TorchEngine) else 1.0)
    if kernel().library is not None:
        assert check_plain(CPU).slower == "a step takes 2000.0 ms on this device and 1000.0 ms on the CPU"
    spoil(monkeypatch, "forward", lambda out: out.add_(1))
    assert "the values of an image are off" in check_plain(CPU).values


class TestKernels:
    """Tests of the kernels in Triton's interpreter, on a small problem."""

    @pytest.fixture(autouse=True)
    def small_problems(self, monkeypatch: pytest.MonkeyPatch, small: Problem) -> None:
        pytest.importorskip("triton")
        monkeypatch.setattr(self_check, "problems", lambda: [small])

    def test_right_kernels_pass(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Not every version of the interpreter multiplies bfloat16 correctly.
        monkeypatch.setattr(self_check, "bfloat16_error", lambda *_: "")
        assert check_cuda(CPU) == Verdict()

    def test_wrong_kernels_are_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(self_check, "float32_error", lambda *_: "the values are off")
        verdict = check_cuda(CPU)
        assert (verdict.kernels, verdict.graphs) == ("the values are off", "they need the kernels")
        assert len(verdict.events()) == 2

    def test_what_does_not_run_is_a_reason_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> str:
            raise RuntimeError("Failed to find C compiler\nTrace")

        monkeypatch.setattr(self_check, "float32_error", fail)
        assert check_cuda(CPU).kernels == "it does not run here (Failed to find C compiler)"


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[torch.device]:
    """Replace the check of a GPU by a fixed verdict; return the checked devices."""
    checked: list[torch.device] = []

    def check(where: torch.device) -> Verdict:
        checked.append(where)
        return Verdict(graphs="other bits")

    monkeypatch.setenv("NAPARI_SIREN_CACHE", str(tmp_path))
    monkeypatch.setattr(self_check, "check_cuda", check)
    monkeypatch.setattr(self_check, "_name", lambda _: "Some Card")
    monkeypatch.setattr(self_check, "driver_version", lambda: "580")
    verdict_on.cache_clear()
    return checked


def test_a_verdict_is_kept_for_the_next_process(checks: list[torch.device], caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        verdict_on.cache_clear()
        assert verdict_on(GPU) == Verdict(graphs="other bits")
        assert "CUDA graphs are not used: other bits" in caplog.messages[-1]
        assert caplog.records[-1].levelno == logging.WARNING
    assert checks == [GPU]


def test_another_driver_is_checked_anew(checks: list[torch.device], monkeypatch: pytest.MonkeyPatch) -> None:
    verdict_on(GPU)
    verdict_on.cache_clear()
    monkeypatch.setattr(self_check, "driver_version", lambda: "590")
    verdict_on(GPU)
    assert len(checks) == 2


def test_a_damaged_verdict_is_found_anew(checks: list[torch.device], tmp_path: Path) -> None:
    verdict_on(GPU)
    for path in tmp_path.rglob("*.json"):
        path.write_text("[1")
    verdict_on.cache_clear()
    verdict_on(GPU)
    assert len(checks) == 2


def test_a_cache_that_cannot_be_written_is_no_harm(
    checks: list[torch.device], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NAPARI_SIREN_CACHE", str(tmp_path / "file"))
    assert verdict_on(GPU).graphs
    assert len(checks) == 1


def test_the_system_has_a_driver_or_a_name() -> None:
    assert self_check.driver_version()


# ---- consequences of a verdict ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [(Verdict(), "mps"), (Verdict(slower="by far"), "cpu"), (Verdict(values="wrong"), "cpu")],
)
def test_auto_leaves_out_a_device_that_the_cpu_outruns(
    monkeypatch: pytest.MonkeyPatch, verdict: Verdict, expected: str
) -> None:
    monkeypatch.setattr(device, "available_devices", lambda: ["mps", "cpu"])
    monkeypatch.setattr(accel, "verdict_on", lambda _: verdict)
    assert str(choose_device("auto")) == expected
    assert str(choose_device("mps")) == "mps"
    assert str(choose_device("cpu")) == "cpu"


def test_a_fit_tells_what_was_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = ns.fit(np.eye(12), device="cpu", max_steps=1).samples
    config = ns.FitConfig(max_steps=1)
    monkeypatch.setattr(accel, "verdict_on", lambda _: Verdict("the values are off", "they need the kernels"))
    run = fit_module._run(samples, config, torch.device("meta"), 0, None, None)
    assert next(event for _, event in run.history.events) == "Triton's kernels are not used: the values are off"
