"""Mirrors of the structures of the compiled library."""

from __future__ import annotations

import ctypes


class Network(ctypes.Structure):
    """Mirror of `Network` in siren.c."""

    _fields_ = (
        ("inputs", ctypes.c_int32),
        ("outputs", ctypes.c_int32),
        ("layers", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("samples", ctypes.c_int32),
        ("omega", ctypes.c_float),
        ("tile_stride", ctypes.c_int64),
        ("coords_stride", ctypes.c_int64),
        ("weights", ctypes.POINTER(ctypes.c_int64)),
        ("biases", ctypes.POINTER(ctypes.c_int64)),
    )


class Axis(ctypes.Structure):
    """Mirror of `Axis` in siren.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("starts", "counts", "positions", "windows")),
        *((name, ctypes.c_int64) for name in ("width", "stride")),
    )


class Rule(ctypes.Structure):
    """Mirror of `Rule` in update.c."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("parameters", "adam", "matrices", "size", "steps", "amx")),
        *((name, ctypes.c_float) for name in ("learning_rate", "beta1", "beta2", "epsilon")),
        *((name, ctypes.c_float) for name in ("muon_learning_rate", "momentum", "averaging")),
        ("coefficients", ctypes.c_void_p),
    )
