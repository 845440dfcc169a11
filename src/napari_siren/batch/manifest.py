"""`Manifest`: one line of JSON for each job, so that an interrupted batch can be continued."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from napari_siren.batch.result_file import ResultFile
from napari_siren.core.storage.atomic import json_safe, prepare_folder
from napari_siren.core.storage.records import Finite, parse_json
from napari_siren.errors import StorageError

_NAME = "manifest.jsonl"
# Folder for the batch's own files: a record of each job, models for other fits to start from, and finished frames.
_KEPT = ".batch"
# Part of it for the marks of running jobs; see `attempts`.
MARKS = "running"


@dataclass(frozen=True)
class Entry:
    """The outcome of a job, one line of the manifest.

    Parameters
    ----------
    job
        Name of the job: the name of its file in the folder of results, and the number of the frame if there is one.
    input, output
        The image's file, and the file of the result relative to the folder of results.
    status
        "done" or "failed".
    settings
        Hash of the settings; see `Settings.digest`.
    size, changed
        Size of the image's file in bytes, and time of its last change in nanoseconds.
    sha256
        SHA-256 of the pixels, their axes, shape, dtype, pixel size and channel names. None if they could not be read.
    reason
        Reason of a failure, otherwise None.
    traceback
        Traceback of an unexpected error, otherwise None.
    start
        Name of the job whose model the fit started from. None for a cold start.
    metrics
        Values from `Metrics.as_dict`.
    shape, rendered
        Shape of the image, and shape of the result.
    steps, seconds
        Number of steps of the fit, and time of the job in seconds.
    notes
        What was guessed, left out or done otherwise than it was asked for; see `History.notes`.
    worker
        Name of the worker that did the job.
    finished
        Time of the end, in ISO 8601.
    written
        The file of the result as it was written. None for a failure.
    """

    job: str
    input: str
    output: str
    status: Literal["done", "failed"]
    settings: str
    size: int = 0
    changed: int = 0
    sha256: str | None = None
    reason: str | None = None
    traceback: str | None = None
    start: str | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    rendered: tuple[int, ...] = ()
    steps: int = 0
    seconds: Finite = 0.0
    worker: str = ""
    finished: str = ""
    notes: tuple[str, ...] = ()
    written: ResultFile | None = None

    @classmethod
    def from_json(cls, record: Any) -> Entry:
        """Return the validated entry with the values of `as_json`. Strict JSON has the string "inf" for infinite.

        Raises
        ------
        ValidationError
            The values are not those of an entry.
        """
        return _ENTRIES.validate_python(record)

    def as_json(self) -> dict[str, Any]:
        """Return plain values for strict JSON."""
        plain: dict[str, Any] = json_safe(asdict(self))
        return plain


_ENTRIES = TypeAdapter(Entry)


class Manifest:
    """The file `manifest.jsonl` of a folder of results.

    Only one process writes it. Incomplete lines are skipped when the file is read.

    Parameters
    ----------
    folder
        Folder of the results.

    Examples
    --------
    >>> import tempfile
    >>> from napari_siren.batch.manifest import Entry, Manifest
    >>> manifest = Manifest(tempfile.mkdtemp())
    >>> manifest.add(Entry("a.png", "/photos/a.png", "a.png", "done", "5f3a"))
    >>> manifest.read()["a.png"].status
    'done'
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.path = self.folder / _NAME

    def read(self) -> dict[str, Entry]:
        """Return the last entry of each job, by the name of the job.

        Raises
        ------
        StorageError
            The file exists and cannot be read.
        """
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StorageError(f"cannot read {self.path}: {error.strerror}. Check its permissions.") from error
        return {entry.job: entry for line in text.split("\n") if (entry := _parsed(line)) is not None}

    def add(self, entry: Entry) -> None:
        """Append an entry, and flush it to the disk, so that it survives a crash.

        Raises
        ------
        StorageError
            The file cannot be written.
        """
        line = json.dumps(entry.as_json(), ensure_ascii=False, allow_nan=False) + "\n"
        try:
            with self.path.open("a+b") as file:
                if file.tell() and not _ends_a_line(file):
                    line = "\n" + line  # the incomplete line of a killed process stays a line of its own
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(
                f"cannot write {self.path}: {error.strerror}. Check the disk space and the permissions."
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other batches. A killed process releases the lock.

        Raises
        ------
        StorageError
            Another batch is running in the folder.
        """
        for part in ("records", "models", MARKS):
            prepare_folder(kept(self.folder, part))
        try:
            with FileLock(kept(self.folder, "lock"), timeout=0):
                yield
        except Timeout:
            raise StorageError(
                f"another batch is running in {self.folder}. Wait until it ends, or choose another folder."
            ) from None


def kept(folder: Path, *parts: str) -> Path:
    """Return a path in the folder for the batch's own files, beside the results."""
    return folder.joinpath(_KEPT, *parts)


def _ends_a_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def _parsed(line: str) -> Entry | None:
    try:
        return Entry.from_json(parse_json(line))
    except ValueError:
        return None
