"""Kernels in Triton for the sines of the decoder: one pass over memory, where PyTorch needs several."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Values and rows of one program, and number of programs of the backward pass of the head (8 for each of the 132
# multiprocessors of an H100).
_BLOCK, _ROWS, _PROGRAMS = 1024, 16, 1056


@triton.jit
def _sine_of_turns(turns):
    """Return sin(2 pi turns) to about 4e-6, without the table of an exact reduction of large phases."""
    turns -= tl.floor(turns + 0.5)
    turns = tl.where(turns > 0.25, 0.5 - turns, tl.where(turns < -0.25, -0.5 - turns, turns))
    x = turns * 6.283185307179586
    y = x * x
    return x * (1 + y * (-1.0 / 6 + y * (1.0 / 120 + y * (-1.0 / 5040 + y * (1.0 / 362880)))))


@triton.jit
def _sin(x):
    return _sine_of_turns(x * 0.15915494309189535)


@triton.jit
def _cos(x):
    return _sine_of_turns(x * 0.15915494309189535 + 0.25)


@triton.jit
def _sine_forward(values, phases, result, SIZE, BLOCK: tl.constexpr):
    position = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = position < SIZE
    image = tl.program_id(1).to(tl.int64) * SIZE
    phase = tl.load(values + image + position, mask=valid, other=0.0).to(tl.float32)
    phase += tl.load(phases + position, mask=valid, other=0.0)
    tl.store(result + image + position, _sin(phase).to(result.dtype.element_ty), mask=valid)


@triton.jit
def _sine_backward(gradient, values, phases, to_values, to_phases, SIZE, IMAGES, BLOCK: tl.constexpr):
    position = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = position < SIZE
    phase = tl.load(phases + position, mask=valid, other=0.0)
    total = tl.zeros([BLOCK], tl.float32)
    for image in range(IMAGES):
        element = tl.cast(image, tl.int64) * SIZE + position
        value = tl.load(values + element, mask=valid, other=0.0).to(tl.float32)
        slope = tl.load(gradient + element, mask=valid, other=0.0).to(tl.float32) * _cos(value + phase)
        tl.store(to_values + element, slope.to(to_values.dtype.element_ty), mask=valid)
        total += slope
    tl.store(to_phases + position, total, mask=valid)


@triton.jit
def _head_forward(values, phases, weight, result, POINTS, WIDTH, ROWS: tl.constexpr, PADDED: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, PADDED)
    valid = (row < POINTS)[:, None] & (column < WIDTH)[None, :]
    phase = tl.load(phases + column, mask=column < WIDTH, other=0.0)
    factor = tl.load(weight + column, mask=column < WIDTH, other=0.0)
    value = tl.load(values + row[:, None] * WIDTH + column[None, :], mask=valid, other=0.0).to(tl.float32)
    output = tl.sum(_sin(value + phase[None, :]) * factor[None, :], axis=1)
    tl.store(result + row, output, mask=row < POINTS)


@triton.jit
def _head_backward(
    gradient, values, phases, weight, to_values, to_phases, to_weight, POINTS, WIDTH, TILES, PROGRAMS,
    ROWS: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    column = tl.arange(0, PADDED)
    phase = tl.load(phases + column, mask=column < WIDTH, other=0.0)
    factor = tl.load(weight + column, mask=column < WIDTH, other=0.0)
    phase_total = tl.zeros([PADDED], tl.float32)
    weight_total = tl.zeros([PADDED], tl.float32)
    for tile in range(program, TILES, PROGRAMS):
        row = tl.cast(tile, tl.int64) * ROWS + tl.arange(0, ROWS)
        valid = (row < POINTS)[:, None] & (column < WIDTH)[None, :]
        position = row[:, None] * WIDTH + column[None, :]
        value = tl.load(values + position, mask=valid, other=0.0).to(tl.float32) + phase[None, :]
        slope = tl.load(gradient + row, mask=row < POINTS, other=0.0)[:, None]
        weight_total += tl.sum(tl.where(valid, slope * _sin(value), 0.0), axis=0)
        slope = slope * _cos(value) * factor[None, :]
        phase_total += tl.sum(tl.where(valid, slope, 0.0), axis=0)
        tl.store(to_values + position, slope.to(to_values.dtype.element_ty), mask=valid)
    tl.store(to_phases + program * WIDTH + column, phase_total, mask=column < WIDTH)
    tl.store(to_weight + program * WIDTH + column, weight_total, mask=column < WIDTH)


def sine_forward(values: Tensor, phases: Tensor) -> Tensor:
    """Return sin(values + phases) for (images, points, width) and (points, width)."""
    result, size = torch.empty_like(values), phases.numel()
    _sine_forward[(triton.cdiv(size, _BLOCK), len(values))](values, phases, result, size, BLOCK=_BLOCK)
    return result


def sine_backward(gradient: Tensor, values: Tensor, phases: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of `sine_forward` with respect to the values and the phases."""
    to_values, to_phases, size = torch.empty_like(values), torch.empty_like(phases), phases.numel()
    block = _BLOCK // 2
    _sine_backward[(triton.cdiv(size, block),)](
        gradient, values, phases, to_values, to_phases, size, len(values), BLOCK=block
    )
    return to_values, to_phases


def head_forward(values: Tensor, phases: Tensor, weight: Tensor) -> Tensor:
    """Return sin(values + phases) @ weight for (images, points, width) and (width,) twice; float32."""
    width = values.shape[-1]
    points = values.numel() // width
    result = values.new_empty(values.shape[:-1], dtype=torch.float32)
    _head_forward[(triton.cdiv(points, _ROWS),)](
        values, phases, weight, result, points, width, ROWS=_ROWS, PADDED=triton.next_power_of_2(width)
    )
    return result


def head_backward(gradient: Tensor, values: Tensor, phases: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `head_forward` with respect to the values, the phases and the weight."""
    width = values.shape[-1]
    points = values.numel() // width
    tiles = triton.cdiv(points, _ROWS)
    programs = min(tiles, _PROGRAMS)
    to_values = torch.empty_like(values)
    to_phases, to_weight = (values.new_empty((programs, width), dtype=torch.float32) for _ in range(2))
    _head_backward[(programs,)](
        gradient, values, phases, weight, to_values, to_phases, to_weight, points, width, tiles, programs,
        ROWS=_ROWS, PADDED=triton.next_power_of_2(width),
    )  # fmt: skip
    return to_values, to_phases.sum(0), to_weight.sum(0)
