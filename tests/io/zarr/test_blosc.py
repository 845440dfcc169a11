"""Damaged chunks of Blosc are errors, and nothing is read beyond their end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_siren.errors import InputError
from napari_siren.io.images import read_image
from napari_siren.io.zarr.blosc import guard_blosc
from napari_siren.io.zarr.ome_zarr import write_ome_zarr

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 48), dtype=np.uint8)
# A header with the length of the chunk too large, an inserted byte in it, and cut chunks.
DAMAGE = {
    "length": lambda data: data[:12] + (2**31 - 1).to_bytes(4, "little") + data[16:],
    "inserted": lambda data: data[:3] + b"\xa9\x7c\xe4" + data[3:],
    "cut": lambda data: data[:-1],
    "header": lambda data: data[:7],
    "empty": lambda data: b"",
}


def test_whole_chunks_are_decoded() -> None:
    from numcodecs.blosc import Blosc

    guard_blosc()
    codec, out = Blosc(), np.empty_like(IMAGE)
    chunk = codec.encode(IMAGE)
    for data in (chunk, bytearray(chunk), np.frombuffer(chunk, np.uint8)):
        assert bytes(codec.decode(data)) == IMAGE.tobytes()
    codec.decode(chunk, out)
    np.testing.assert_array_equal(out, IMAGE)


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_chunks_of_an_image_are_errors(tmp_path: Path, name: str) -> None:
    path = write_ome_zarr(tmp_path / "x.ome.zarr", IMAGE, "YX", version="0.4")
    chunk = path / "0" / "0" / "0"
    assert chunk.read_bytes()[:1] == b"\x02", "Blosc"
    chunk.write_bytes(DAMAGE[name](chunk.read_bytes()))
    with pytest.raises(InputError, match="is damaged: a part of it cannot be read"):
        np.asarray(read_image(path).array)
