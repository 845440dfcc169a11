"""Whether there is a Triton engine, for given networks on a given device."""

from __future__ import annotations

import importlib.util

import torch

from napari_siren.core.engines.self_check import verdict_on
from napari_siren.core.network.siren import SirenShape

_MOST_LAYERS, _MOST_WIDTH, _MOST_INPUTS, _MOST_OUTPUTS = 8, 64, 4, 16
# Products of float32 on tensor cores, and bfloat16, came with Ampere.
_CAPABILITY = (8, 0)


def why_not(device: torch.device, dtype: torch.dtype, shape: SirenShape) -> str | None:
    """Say why there is no Triton engine for such networks on a device; None where there is."""
    if device.type != "cuda" or dtype != torch.float32:
        return f"it computes in float32 on a CUDA GPU, not in {dtype} on {device}"
    if (
        shape.hidden_layers > _MOST_LAYERS
        or shape.hidden_features > _MOST_WIDTH
        or shape.inputs > _MOST_INPUTS
        or shape.outputs > _MOST_OUTPUTS
    ):
        return (
            f"it is for networks of up to {_MOST_LAYERS} sine layers of {_MOST_WIDTH} features, {_MOST_INPUTS} "
            f"dimensions and {_MOST_OUTPUTS} channels"
        )
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (pip install triton)"
    if torch.version.hip is not None:
        return "it is not for AMD's GPUs"
    if torch.cuda.get_device_capability(device) < _CAPABILITY:
        return (
            f"{torch.cuda.get_device_name(device)} is older than compute capability {_CAPABILITY[0]}.{_CAPABILITY[1]}"
        )
    return verdict_on(device).kernels or None
