"""`encode_blocks`: the residual blocks of a pretrained network by the compiled library, on the CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import torch
from torch import Tensor

from napari_siren.core.native.library import kernel

# Number of parts of the tiles for each thread: threads that are done sooner take more of them.
_PARTS = 4
# Transform of 3 values of a kernel to 6 points, for tiles of 4 pixels (Lavin and Gray 2016, arXiv 1509.09308).
_TRANSFORM = torch.tensor([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24


class _Convolution(ctypes.Structure):
    """Mirror of `Convolution` in convolution.c."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("rows", "columns", "inputs", "outputs", "dilation")),
        ("leak", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("image", "kernels", "bias", "added", "result")),
    )


def can_encode(features: int) -> bool:
    """Return whether the compiled library exists and supports convolutions of a number of features."""
    library = kernel().library
    return library is not None and features % int(library.siren_vector_length()) == 0


def encode_blocks(values: Tensor, kernels: Tensor, biases: Tensor, dilations: Sequence[int], leak: float) -> None:
    """Apply residual blocks x <- f(x + K2 f(K1 x)) in place, with a leaky rectifier f and zeros beyond the ends.

    All tensors are float32 on the CPU. The result is that of convolutions up to rounding: Winograd's filtering has ten
    times the rounding errors, 1e-5 of the values.

    Parameters
    ----------
    values
        (rows, columns, features), contiguous; the result is written there.
    kernels
        Kernels of both convolutions of each block, (2 * blocks, features, 9 * features), the input feature last.
    biases
        (2 * blocks, features).
    dilations
        Dilation of the second convolution of each block; that of the first is 1.
    leak
        Slope of the rectifier below zero.

    Raises
    ------
    ValueError
        The shapes do not agree.
    MemoryError
        There is no memory for the work of a thread.
    """
    _check(values, kernels, biases, len(dilations))
    features = values.shape[2]
    points = torch.kron(_TRANSFORM, _TRANSFORM)
    # One contiguous kernel [inputs][outputs] for each point.
    transformed = torch.einsum("pk,noki->npio", points, kernels.reshape(-1, features, 9, features)).contiguous()
    biases, inner = biases.contiguous(), torch.empty_like(values)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for block, dilation in enumerate(dilations):
            first, second = (slice(2 * block + i, 2 * block + i + 1) for i in range(2))
            _convolve(pool, values, inner, transformed[first], biases[first], 1, leak)
            _convolve(pool, inner, values, transformed[second], biases[second], dilation, leak, added=values)


def _convolve(
    pool: Executor,
    image: Tensor,
    result: Tensor,
    kernels: Tensor,
    bias: Tensor,
    dilation: int,
    leak: float,
    added: Tensor | None = None,
) -> None:
    """Convolve an image. `added` may be the result: a pixel is read before it is written, by the same thread."""
    library = kernel().library
    assert library is not None
    pointers = (image, kernels, bias, added, result)
    description = _Convolution(
        *image.shape, result.shape[2], dilation, leak, *(None if t is None else t.data_ptr() for t in pointers)
    )
    library.siren_convolution_tiles.restype = ctypes.c_int64
    tiles = library.siren_convolution_tiles(ctypes.byref(description))
    parts = min(tiles, _PARTS * torch.get_num_threads())
    bounds = [tiles * part // parts for part in range(parts + 1)]

    def run(part: int) -> int:
        start, stop = (ctypes.c_int64(bound) for bound in bounds[part : part + 2])
        return int(library.siren_convolve(ctypes.byref(description), start, stop))

    if any(pool.map(run, range(parts))):
        raise MemoryError("there is no memory for the encoder of a pretrained network")


def _check(values: Tensor, kernels: Tensor, biases: Tensor, blocks: int) -> None:
    """Compare all shapes and dtypes: the library does not."""
    features = values.shape[-1]
    shapes = ((values, (*values.shape[:2], features)), (kernels, (2 * blocks, features, 9 * features)))
    for tensor, shape in (*shapes, (biases, (2 * blocks, features))):
        if tensor.dtype != torch.float32 or tensor.shape != shape or tensor.device.type != "cpu":
            raise ValueError("the tensors of the encoder do not have the same sizes, or are not float32 on the CPU")
    if not (can_encode(features) and values.is_contiguous()):
        raise ValueError(
            f"the compiled encoder does not support {features} features, or values that are not contiguous"
        )
