"""Tests of devices by name, and of the errors for unavailable ones."""

from __future__ import annotations

import pytest
import torch

from napari_siren.core import device
from napari_siren.errors import DeviceError


@pytest.fixture
def cpu_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.usefixtures("cpu_only")
@pytest.mark.parametrize("name", ["auto", "cpu", torch.device("cpu")])
def test_the_cpu_is_always_there(name: str) -> None:
    assert device.resolve_device(name) == torch.device("cpu")


@pytest.mark.usefixtures("cpu_only")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "banana", "", "meta", None, 3])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(DeviceError, match=r"This machine has: cpu\."):
        device.resolve_device(name)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("name", "expected"), [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")]
)
def test_gpus_come_first(name: str, expected: str) -> None:
    assert str(device.resolve_device(name)) == expected


@pytest.mark.usefixtures("two_gpus")
def test_a_third_gpu_of_two_is_refused() -> None:
    with pytest.raises(DeviceError, match="cuda:0, cuda:1, cpu"):
        device.resolve_device("cuda:2")


@pytest.mark.parametrize(("threads", "text"), [(1, "cpu (1 thread)"), (8, "cpu (8 threads)")])
def test_the_cpu_says_how_many_threads(threads: int, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert device.describe_device(torch.device("cpu")) == text


def test_some_memory_is_free() -> None:
    assert device.free_memory(torch.device("cpu")) > 1 << 20


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
    ids=repr,
)
def test_memory_that_ran_out_is_told_from_other_errors(error: BaseException, expected: bool) -> None:
    assert device.is_out_of_memory(error) is expected
