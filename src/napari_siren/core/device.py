"""Compute devices, and their memory."""

from __future__ import annotations

import psutil
import torch

from napari_siren.errors import DeviceError


def available_devices() -> list[str]:
    """Return the names of the devices available for a fit, the best first."""
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    mps = ["mps"] if torch.backends.mps.is_available() else []
    return [*cuda, *mps, "cpu"]


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device with a name.

    Parameters
    ----------
    device
        Name of the device: ``"auto"`` (the best one available), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.

    Raises
    ------
    DeviceError
        The name is unknown, or the device is not available; the message lists the available ones.
    """
    available = available_devices()
    if device == "auto":
        return torch.device(available[0])
    choices = "This machine has: " + ", ".join(available) + "."
    try:
        target = torch.device(device)
    except (RuntimeError, TypeError):
        raise DeviceError(f"the device {device!r} is unknown. {choices} Choose one of these.") from None
    if str(target) == "cuda" and "cuda:0" in available:
        target = torch.device("cuda:0")
    if str(target) not in available:
        raise DeviceError(f'the device {str(device)!r} is not available. {choices} Choose one, or use device="auto".')
    return target


def describe_device(device: torch.device) -> str:
    """Return a description of a device: its name, with the GPU's model or the number of CPU threads."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"cpu ({threads} thread{'' if threads == 1 else 's'})"
    return str(device)


def free_memory(device: torch.device) -> int:
    """Return the free memory of a device, in bytes."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    return int(psutil.virtual_memory().available)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means out of memory (PyTorch has no single class for it)."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "not enough memory" in text)
