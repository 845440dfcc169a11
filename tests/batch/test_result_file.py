"""A result that is damaged, or only copied."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from napari_siren.batch.result_file import ResultFile


def folder(path: Path) -> Path:
    (path / "0").mkdir(parents=True)
    (path / ".zattrs").write_text("{}")
    (path / "0" / "0").write_bytes(b"1234")
    return path


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"1234")
    written = ResultFile.of(path)
    assert written.matches(path)
    os.utime(path, ns=(7, 7))
    assert written.matches(path)
    path.write_bytes(b"1235")
    assert not written.matches(path)
    path.write_bytes(b"")
    assert not written.matches(path)
    path.unlink()
    assert not written.matches(path)


@pytest.mark.parametrize("damage", ["none", "cut", "changed", "removed", "moved"])
def test_a_folder(tmp_path: Path, damage: str) -> None:
    path = folder(tmp_path / "a.ome.zarr")
    chunk = path / "0" / "0"
    written = ResultFile.of(path)
    if damage in ("cut", "changed"):
        chunk.write_bytes({"cut": b"12", "changed": b"1235"}[damage])
        os.utime(chunk, ns=(7, 7))
        os.utime(path / ".zattrs", ns=(7, 7))
    elif damage == "removed":
        chunk.unlink()
    elif damage == "moved":
        chunk.rename(path / "0" / "1")
        os.utime(path / "0" / "1", ns=(7, 7))
        os.utime(path / ".zattrs", ns=(7, 7))
    assert written.matches(path) == (damage == "none")
