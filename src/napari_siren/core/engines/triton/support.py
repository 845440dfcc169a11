"""Support of networks and devices by the Triton engine."""

from __future__ import annotations

import importlib.util

import torch

from napari_siren.core.engines.self_check import verdict_on
from napari_siren.core.network.siren import NetworkSpec

# Largest networks that the kernels support: sine layers, hidden features, inputs and outputs.
_MOST_LAYERS, _MOST_WIDTH, _MOST_INPUTS, _MOST_OUTPUTS = 8, 64, 4, 16
# Least compute capability: that of Ampere, which introduced bfloat16 and products of float32 on tensor cores.
_CAPABILITY = (8, 0)


def unsupported_reason(device: torch.device, dtype: torch.dtype, spec: NetworkSpec) -> str | None:
    """Return the reason against a Triton engine for such networks on a device, or None if it is supported."""
    if device.type != "cuda" or dtype != torch.float32:
        return f"it computes in float32 on a CUDA GPU, not in {dtype} on {device}"
    if (
        spec.hidden_layers > _MOST_LAYERS
        or spec.hidden_features > _MOST_WIDTH
        or spec.inputs > _MOST_INPUTS
        or spec.outputs > _MOST_OUTPUTS
    ):
        return (
            f"it supports networks of up to {_MOST_LAYERS} sine layers of {_MOST_WIDTH} features, {_MOST_INPUTS} "
            f"dimensions and {_MOST_OUTPUTS} channels"
        )
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed (pip install triton)"
    if torch.version.hip is not None:
        return "it does not support AMD GPUs"
    if torch.cuda.get_device_capability(device) < _CAPABILITY:
        return (
            f"{torch.cuda.get_device_name(device)} is older than compute capability {_CAPABILITY[0]}.{_CAPABILITY[1]}"
        )
    return verdict_on(device).kernels or None
