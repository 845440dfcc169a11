"""Sines of the decoder: in PyTorch, or in kernels with one pass over memory (see `sine_kernels`)."""

from __future__ import annotations

import importlib.util
import logging
from functools import cache
from typing import Any

import torch
from torch import Tensor

_LOG = logging.getLogger(__name__)
# Largest relative difference between the gradients of the kernels and those of PyTorch, in bfloat16.
_AGREEMENT = 0.02


def sine(values: Tensor, phases: Tensor, fused: bool = False) -> Tensor:
    """Return sin(values + phases).

    Parameters
    ----------
    values
        Tensor (images, points, width).
    phases
        Tensor (points, width), or (width,) for the same phases at all points; float32.
    fused
        Whether to use the kernel in Triton, where it is available.
    """
    if fused and phases.ndim == 2 and has_kernels():
        result: Tensor = _Sine.apply(values, phases)  # type: ignore[no-untyped-call]
        return result
    # The sum is in float32, all else in the precision of the values.
    return (values + phases).sin().to(values.dtype)


def head(values: Tensor, phases: Tensor, weight: Tensor, fused: bool = False) -> Tensor:
    """Return sin(values + phases) @ weight: (images, points, width) -> (images, points), float32."""
    if fused and has_kernels():
        result: Tensor = _Head.apply(values, phases, weight)  # type: ignore[no-untyped-call]
        return result
    return (values + phases).sin().float() @ weight.float()


@cache
def has_kernels() -> bool:
    """Return whether the kernels can be imported."""
    return importlib.util.find_spec("triton") is not None


def kernels_agree(device: torch.device) -> bool:
    """Return whether the kernels run on a device, with the same results as PyTorch."""
    if not has_kernels():
        return False
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(5, 77, 48, generator=generator).to(device, torch.bfloat16).requires_grad_()
    phases = torch.randn(77, 48, generator=generator).to(device).requires_grad_()
    weight = torch.randn(48, generator=generator).to(device).requires_grad_()
    inputs = (values, phases, weight)

    def results(fused: bool) -> list[Tensor]:
        y = sine(values, phases, fused)
        output = head(y, phases[0], weight, fused)
        return [output, *torch.autograd.grad(output.square().sum(), inputs)]

    try:
        pairs = list(zip(results(True), results(False), strict=True))
    except Exception as error:  # A compiler may raise anything.
        _LOG.info("the kernels for sines do not run here (%s: %.200s)", type(error).__name__, error)
        return False
    return all(bool((a - b).detach().float().norm() < _AGREEMENT * b.detach().float().norm()) for a, b in pairs)


class _Sine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, phases: Tensor) -> Tensor:
        from napari_siren.core.pretrained_network.sine_kernels import sine_forward

        values, phases = values.contiguous(), phases.contiguous()
        ctx.save_for_backward(values, phases)
        return sine_forward(values, phases)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        from napari_siren.core.pretrained_network.sine_kernels import sine_backward

        return sine_backward(gradients[0].contiguous(), *ctx.saved_tensors)


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, phases: Tensor, weight: Tensor) -> Tensor:
        from napari_siren.core.pretrained_network.sine_kernels import head_forward

        values, phases, weight = values.contiguous(), phases.contiguous(), weight.contiguous()
        ctx.save_for_backward(values, phases, weight)
        return head_forward(values, phases, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        from napari_siren.core.pretrained_network.sine_kernels import head_backward

        return head_backward(gradients[0].contiguous(), *ctx.saved_tensors)
