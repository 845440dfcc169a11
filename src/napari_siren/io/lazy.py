"""Arrays that stay in their file, as dask arrays that read it by parts."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.errors import InputError, SirenError


def import_zarr(name: str) -> Any:
    """Import a module of the extra "zarr".

    Raises
    ------
    InputError
        The module is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise InputError('OME-Zarr needs zarr and dask. Install them with: pip install "napari-siren[zarr]".') from None


def array_of_zarr(path: Any, stored: Any, close: Callable[[], object] | None = None) -> Any:
    """Return the pixels of a zarr array as a dask array, which raises an `InputError` at a damaged chunk.

    Parameters
    ----------
    path
        Path of the image, for messages.
    stored
        The array of zarr.
    close
        Function to call when the array is not used any more.
    """
    chunks = getattr(stored, "shards", None) or stored.chunks
    checked = _Checked(path, stored)
    if close is not None:
        weakref.finalize(checked, close)
    return import_zarr("dask.array").from_array(checked, chunks=chunks, meta=np.empty(0, stored.dtype))


def array_of_store(path: Any, store: Any) -> Any:
    """Return the pixels of a store of tifffile as a dask array. The file is closed with the array."""
    zarr = import_zarr("zarr")
    return array_of_zarr(path, zarr.open(store, mode="r"), store.close)


def array_of_values(values: npt.NDArray[Any]) -> Any:
    """Return the pixels of an array, such as one in a file, as a dask array of native byte order."""
    lazy = import_zarr("dask.array").from_array(values, chunks="auto")
    return lazy.astype(values.dtype.newbyteorder("="))


class _Checked:
    """An array of zarr with one-line errors.

    Parameters
    ----------
    path
        Path of the image.
    stored
        The array of zarr.
    """

    def __init__(self, path: Any, stored: Any) -> None:
        self._path, self._stored = path, stored
        self.shape, self.dtype, self.ndim = tuple(stored.shape), stored.dtype, len(stored.shape)

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        try:
            return np.asarray(self._stored[key])
        except (SirenError, MemoryError):
            raise
        # Codecs and stores raise many kinds of exceptions.
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise InputError(
                f"{self._path} is damaged: a part of it cannot be read ({reason}). Copy or write it again."
            ) from error
