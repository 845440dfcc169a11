"""Coordinates of points, from arrays and from tensors of any library with DLPack."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from napari_siren.errors import InputError

# Device types of DLPack whose memory NumPy can read: the CPU.
_CPU = 1


def check_coords(coords: Any, dimensions: int) -> npt.NDArray[Any]:
    """Return coordinates as an array, float32 or float64, (..., dimensions).

    Parameters
    ----------
    coords
        Real numbers, (..., dimensions): an array, a sequence, or an object with `__dlpack__` on the CPU.
    dimensions
        Number of spatial axes.

    Raises
    ------
    InputError
        The coordinates require a gradient or are on another device, have another shape or dtype, or are not finite.
    """
    array = _as_array(coords, dimensions)
    if array.dtype.kind not in "uif" or array.ndim == 0 or array.shape[-1] != dimensions:
        raise InputError(
            f"coords has dtype {array.dtype} and shape {array.shape}. Pass real numbers of shape (..., {dimensions})."
        )
    array = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError("coords has values that are not finite. Remove NaN and infinite coordinates.")
    return array


def check_no_gradient(*tensors: Tensor) -> None:
    """Raise if autograd would record an evaluation on tensors.

    The compiled kernels are outside autograd: the gradient would miss the networks, without an error.

    Raises
    ------
    InputError
        One of the tensors requires a gradient.
    """
    if any(tensor.requires_grad for tensor in tensors):
        raise InputError(
            "coords or parameters require a gradient, and this evaluation is outside autograd. Use `field.module()`, "
            "or detach the tensors."
        )


def _as_array(coords: Any, dimensions: int) -> npt.NDArray[Any]:
    if isinstance(coords, Tensor):
        check_no_gradient(coords)
    try:
        if isinstance(coords, np.ndarray) or not hasattr(coords, "__dlpack__"):
            return np.asarray(coords)
        if coords.__dlpack_device__()[0] == _CPU:
            return np.from_dlpack(coords)
    except (ValueError, TypeError, BufferError, RuntimeError) as error:
        raise InputError(f"coords is not an array ({error}). Pass numbers of shape (..., {dimensions}).") from None
    raise InputError(
        "coords is on another device than the CPU. Use `field.module()` for tensors on a GPU, or copy them to the CPU."
    )
