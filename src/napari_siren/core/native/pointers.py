"""Pointers for the compiled library. The library checks nothing, so each is compared with its buffer first."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Largest count that the library takes as a 32-bit integer, with space to round it up to whole blocks of samples.
MOST_ITEMS = 2**31 - 2**10
# Most sine layers, hidden features, and inputs or outputs: products of two of them stay below 32 bits in the library.
MOST_LAYERS, MOST_FEATURES, MOST_ENDS = 64, 4096, 65536


def pointer(tensor: Tensor, shape: Sequence[int], name: str) -> ctypes.c_void_p:
    """Return the address of a tensor of a shape.

    Parameters
    ----------
    tensor
        Tensor to check: contiguous, float32, on the CPU.
    shape
        Shape that the library reads or writes.
    name
        Name of the tensor for messages.

    Raises
    ------
    TypeError
        The tensor has another dtype, is on another device, or is not contiguous.
    ValueError
        The tensor has another shape.
    """
    if tensor.dtype != torch.float32 or tensor.device.type != "cpu" or not tensor.is_contiguous():
        raise TypeError(
            f"{name} is {tensor.dtype} on {tensor.device} with strides {tensor.stride()}. "
            "The native engine needs contiguous float32 on the CPU."
        )
    if tuple(tensor.shape) != tuple(shape):
        raise ValueError(f"{name} has the shape {tuple(tensor.shape)}. The native engine needs {tuple(shape)}.")
    # The storage may be shorter than the shape if it was resized.
    if tensor.untyped_storage().nbytes() < 4 * (tensor.storage_offset() + math.prod(shape)):
        raise ValueError(f"{name} is larger than its memory.")
    return ctypes.c_void_p(tensor.data_ptr())


def array_pointer(
    array: npt.NDArray[Any], dtype: npt.DTypeLike, shape: Sequence[int], bounds: tuple[int, int], name: str
) -> ctypes.c_void_p:
    """Return the address of an array of whole numbers.

    Parameters
    ----------
    array
        Array to check: contiguous, in the memory's byte order.
    dtype, shape
        Dtype and shape that the library reads.
    bounds
        Smallest value, and largest value plus one.
    name
        Name of the array for messages.

    Raises
    ------
    ValueError
        The array has another dtype or shape, is not contiguous, or has a value out of bounds.
    """
    if array.dtype != np.dtype(dtype) or array.shape != tuple(shape) or not array.flags.c_contiguous:
        raise ValueError(
            f"{name} is {array.dtype} of the shape {array.shape}. The native engine needs contiguous "
            f"{np.dtype(dtype)} of the shape {tuple(shape)}."
        )
    if array.size and not bounds[0] <= int(array.min()) <= int(array.max()) < bounds[1]:
        raise ValueError(f"{name} has a value outside of {bounds[0]} to {bounds[1] - 1}.")
    return ctypes.c_void_p(array.ctypes.data)


def check_counts(**counts: tuple[int, int]) -> None:
    """Compare counts with their largest values.

    Raises
    ------
    ValueError
        A count is negative, or larger than the library can take.
    """
    for name, (count, most) in counts.items():
        if not 0 <= count <= most:
            raise ValueError(f"{count} {name} are not possible in the native engine. It takes 0 to {most}.")
