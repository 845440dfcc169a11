"""`decode`: the decoder of a pretrained network by the compiled library, on the CPU."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from napari_siren.core.native.library import kernel

# Number of parts of the rows for each thread: threads that are done sooner take more of them.
_PARTS = 4


class _Decoder(ctypes.Structure):
    """Mirror of `Decoder` in decoder.c."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("width", "layers", "columns", "outputs", "row_taps", "column_taps")),
        *((name, ctypes.c_float) for name in ("bias", "scale")),
        *((name, ctypes.c_void_p) for name in ("first", "row_pixels", "column_pixels", "row_weights")),
        *((name, ctypes.c_void_p) for name in ("column_weights", "of_rows", "of_columns", "weights", "biases")),
        *((name, ctypes.c_void_p) for name in ("head", "values")),
        ("rows", ctypes.c_int64),
    )


def can_decode(width: int) -> bool:
    """Return whether the compiled library exists and supports sine layers of a width."""
    library = kernel().library
    return library is not None and width % int(library.siren_vector_length()) == 0


def decode(
    values: Tensor,
    first: Tensor,
    rows: tuple[Tensor, Tensor, Tensor],
    columns: tuple[Tensor, Tensor, Tensor],
    layers: tuple[Tensor, Tensor],
    head: tuple[Tensor, float, float],
) -> None:
    """Add the outputs of the decoder to values. All tensors are on the CPU, and floating ones are float32.

    Parameters
    ----------
    values
        (rows, columns) of the result, contiguous. The outputs are added to it.
    first
        First layer at the pixels, (pixel rows, pixel columns, width), before the interpolation.
    rows, columns
        For each axis of the result: pixels, int64, and their weights, (taps, length); and phases, (length, width).
    layers
        Matrices (layers - 1, width, width) and biases (layers - 1, width) of the later sine layers.
    head
        Weights (width,) of the output, its bias, and a factor of the result.

    Raises
    ------
    ValueError
        The shapes do not agree, or a pixel is outside of `first`.
    MemoryError
        There is no memory for the work of a thread.
    """
    library = kernel().library
    assert library is not None
    _check(values, first, (rows, columns), layers, head[0])
    matrices, biases = layers[0].mT.contiguous(), layers[1].contiguous()
    kept = [t.contiguous() for t in (first, rows[0], columns[0], rows[1], columns[1], rows[2], columns[2])]
    pointers = [t.data_ptr() for t in (*kept, matrices, biases, head[0].contiguous(), values)]
    sizes = (first.shape[2], 1 + len(matrices), first.shape[1], values.shape[1], len(rows[0]), len(columns[0]))
    description = _Decoder(*sizes, head[1], head[2], *pointers, len(values))
    threads = torch.get_num_threads()
    parts = min(len(values), _PARTS * threads)
    bounds = [len(values) * part // parts for part in range(parts + 1)]

    def run(part: int) -> int:
        start, stop = (ctypes.c_int64(bound) for bound in bounds[part : part + 2])
        return int(library.siren_decode(ctypes.byref(description), start, stop))

    with ThreadPoolExecutor(threads) as pool:
        if any(pool.map(run, range(parts))):
            raise MemoryError("there is no memory for the decoder of a pretrained network")


def _check(
    values: Tensor,
    first: Tensor,
    axes: Sequence[tuple[Tensor, Tensor, Tensor]],
    layers: tuple[Tensor, Tensor],
    head: Tensor,
) -> None:
    """Compare all shapes and dtypes: the library does not."""
    width, later = first.shape[2], len(layers[0])
    tensors = [(values, values.shape), (first, first.shape), (layers[0], (later, width, width)), (head, (width,))]
    tensors.append((layers[1], (later, width)))
    for length, pixels, (numbers, weights, phases) in zip(values.shape, first.shape[:2], axes, strict=True):
        tensors += [(weights, numbers.shape), (phases, (length, width))]
        if numbers.dtype != torch.int64 or numbers.shape[1] != length or int(numbers.min()) < 0:
            raise ValueError("the pixels of the decoder's axes are not int64 numbers for each row or column")
        if int(numbers.max()) >= pixels:
            raise ValueError("a pixel of the decoder's axes is outside of the image")
    if any(t.dtype != torch.float32 or t.shape != shape or t.device.type != "cpu" for t, shape in tensors):
        raise ValueError("the tensors of the decoder do not have the same sizes, or are not float32 on the CPU")
    if not (can_decode(width) and values.is_contiguous()):
        raise ValueError(f"the compiled decoder does not support a width of {width}, or values that are not contiguous")
