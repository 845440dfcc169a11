"""`ResultFile`: how the file of a result was written, to find later whether it is still whole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ResultFile:
    """Size, time and hash of a file, or of all files in a folder such as an OME-Zarr image.

    Parameters
    ----------
    size
        Size in bytes.
    changed
        Time of the last change in nanoseconds.
    sha256
        SHA-256 of the bytes. For a folder, also of the names of its files.
    """

    size: int
    changed: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> ResultFile:
        """Return the description of a file or folder."""
        return cls(*_size_and_time(path), _sha256(path))

    def matches(self, path: Path) -> bool:
        """Return whether a file or folder is there with the same content.

        The content is read only if the time differs: results may be many and large.
        """
        try:
            size, changed = _size_and_time(path)
            return size == self.size and (changed == self.changed or _sha256(path) == self.sha256)
        except OSError:
            return False


def _files(path: Path) -> list[Path]:
    return sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]


def _size_and_time(path: Path) -> tuple[int, int]:
    states = [file.stat() for file in _files(path)]
    return sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)


def _sha256(path: Path) -> str:
    whole = hashlib.sha256()
    for part in _files(path):
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if part == path:
            return digest
        whole.update(f"{part.relative_to(path).as_posix()} {digest}\n".encode())
    return whole.hexdigest()
