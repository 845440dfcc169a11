"""The guard of the Blosc codec against damaged chunks of zarr arrays."""

from __future__ import annotations

from functools import cache, wraps
from typing import Any

import numpy as np

# Header of a chunk of Blosc 1: its length, and the position of the length of the whole chunk, in bytes.
_HEADER, _LENGTH = 16, slice(12, 16)


@cache
def guard_blosc() -> None:
    """Make the codec of numcodecs raise a ValueError if a chunk is shorter than its header states.

    numcodecs 0.16 does not compare the two. It reads beyond the end of such a chunk, which may crash the program. The
    guard applies to the whole process.
    """
    from numcodecs.blosc import Blosc

    decode = Blosc.decode

    @wraps(decode)
    def decode_guarded(self: Any, buf: Any, out: Any = None) -> Any:
        header = np.frombuffer(buf, dtype=np.uint8)[:_HEADER].tobytes()
        if len(header) < _HEADER or int.from_bytes(header[_LENGTH], "little") > memoryview(buf).nbytes:
            raise ValueError("a chunk is shorter than its header states")
        return decode(self, buf, out)

    Blosc.decode = decode_guarded
