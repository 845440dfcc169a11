"""The decoder's sines: in PyTorch, or in kernels that read and write each value once (see `sine_kernels`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

try:
    from training import sine_kernels
except ImportError:  # There is no Triton.
    sine_kernels = None


def sine(values: Tensor, phases: Tensor, fused: bool = False) -> Tensor:
    """Give sin(values + phases).

    Parameters
    ----------
    values
        (images, points, width).
    phases
        (points, width), or (width,) for the same at all points; float32.
    fused
        Whether to use a kernel of our own.
    """
    if fused and sine_kernels is not None and phases.ndim == 2:
        return _Sine.apply(values, phases)
    # In the precision of the values, but for the sum.
    return (values + phases).sin().to(values.dtype)


def head(values: Tensor, phases: Tensor, weight: Tensor, fused: bool = False) -> Tensor:
    """Give sin(values + phases) @ weight: (images, points, width) -> (images, points), float32."""
    if fused and sine_kernels is not None:
        return _Head.apply(values, phases, weight)
    return (values + phases).sin().float() @ weight.float()


def kernels_agree(device: torch.device) -> bool:
    """Whether the kernels run on a device, and give what PyTorch does."""
    if sine_kernels is None:
        return False
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(5, 77, 48, generator=generator).to(device, torch.bfloat16).requires_grad_()
    phases = torch.randn(77, 48, generator=generator).to(device).requires_grad_()
    weight = torch.randn(48, generator=generator).to(device).requires_grad_()
    inputs = (values, phases, weight)

    def work(fused: bool) -> list[Tensor]:
        y = sine(values, phases, fused)
        told = head(y, phases[0], weight, fused)
        return [told, *torch.autograd.grad(told.square().sum(), inputs)]

    try:
        pairs = list(zip(work(True), work(False), strict=True))
    except Exception as error:  # Whatever a compiler may raise.
        print(f"the kernels for sines do not run here ({type(error).__name__}: {str(error)[:200]})", flush=True)
        return False
    return all(bool((a - b).detach().float().norm() < 0.02 * b.detach().float().norm()) for a, b in pairs)


class _Sine(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, phases: Tensor) -> Tensor:
        values, phases = values.contiguous(), phases.contiguous()
        ctx.save_for_backward(values, phases)
        return sine_kernels.sine_forward(values, phases)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return sine_kernels.sine_backward(gradient.contiguous(), *ctx.saved_tensors)


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, phases: Tensor, weight: Tensor) -> Tensor:
        values, phases, weight = values.contiguous(), phases.contiguous(), weight.contiguous()
        ctx.save_for_backward(values, phases, weight)
        return sine_kernels.head_forward(values, phases, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return sine_kernels.head_backward(gradient.contiguous(), *ctx.saved_tensors)
