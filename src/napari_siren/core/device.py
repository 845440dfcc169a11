"""Devices, and the memory on them."""

from __future__ import annotations

import psutil
import torch

from napari_siren.errors import DeviceError


def available_devices() -> list[str]:
    """Names of the devices that a fit can run on, the best first."""
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*cuda, *mps, "cpu"]


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device of a name.

    Parameters
    ----------
    device
        ``"auto"`` (the best there is), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.

    Raises
    ------
    DeviceError
        The name means nothing, or the device is not there; the message names those that are.
    """
    there = available_devices()
    if device == "auto":
        return torch.device(there[0])
    named = "This machine has: " + ", ".join(there) + "."
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError):
        raise DeviceError(f"there is no device called {device!r}. {named}") from None
    if str(wanted) == "cuda" and "cuda:0" in there:
        wanted = torch.device("cuda:0")
    if str(wanted) not in there:
        raise DeviceError(f'the device {str(device)!r} is not there. {named} Or use device="auto".')
    return wanted


def describe_device(device: torch.device) -> str:
    """Name a device as people know it."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        return f"cpu ({torch.get_num_threads()} threads)"
    return str(device)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    return int(psutil.virtual_memory().available)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out (PyTorch has no single class for it)."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "not enough memory" in text)
