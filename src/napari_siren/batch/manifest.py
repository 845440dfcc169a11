"""What a batch has done: a line of JSON for each job, so that a batch that was killed goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from napari_siren.core.atomic import prepare_folder, strict_values
from napari_siren.errors import StorageError

_NAME = "manifest.jsonl"
# What the batch keeps beside the results: a record of each job, the models that others start from, finished frames.
_KEPT = ".batch"


@dataclass(frozen=True)
class Entry:
    """What became of a job.

    Parameters
    ----------
    job
        Name of the job: that of its file in the folder of the results, and the frame where there are several.
    input, output
        The image's file, and the file of the result, relative to the folder.
    status
        "done" or "failed".
    settings
        Hash of the settings, see `Settings.digest`.
    size, changed
        Of the image's file: bytes, and time of its last change in nanoseconds.
    sha256
        Of the pixels, their axes and size; None where they could not be read.
    reason
        Why it failed.
    traceback
        Where it failed, for errors that were not foreseen.
    start
        Name of the job whose model the fit started from; None for a cold start.
    metrics
        As `Metrics.as_dict` gives them.
    shape, rendered
        Shape of the image and of the result.
    steps, seconds
        Steps of the fit, and time of the job.
    worker
        Name of the worker that did it.
    finished
        When, ISO 8601.
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
    seconds: float = 0.0
    worker: str = ""
    finished: str = ""

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Entry:
        """Make an entry of what `as_json` gave.

        Raises
        ------
        TypeError
            It is something else.
        """
        known = {name: value for name, value in told.items() if name in {f.name for f in fields(cls)}}
        for name in ("shape", "rendered"):
            known[name] = tuple(known.get(name, ()))
        # Strict JSON has "inf" for an infinite number.
        known["metrics"] = {name: None if v is None else float(v) for name, v in known.get("metrics", {}).items()}
        return cls(**known)

    def as_json(self) -> dict[str, Any]:
        """Return plain values of strict JSON."""
        plain: dict[str, Any] = strict_values(asdict(self))
        return plain


class Manifest:
    """The file `manifest.jsonl` of a folder of results. One process writes it; a line that was torn is passed over.

    Parameters
    ----------
    folder
        The folder.

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
        """Return the last entry of each job, by its name.

        Raises
        ------
        StorageError
            The file is there and cannot be read.
        """
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StorageError(f"cannot read {self.path}: {error.strerror}.") from error
        return {entry.job: entry for line in text.split("\n") if (entry := _parsed(line)) is not None}

    def add(self, entry: Entry) -> None:
        """Append an entry; once it returns, the entry outlasts a crash.

        Raises
        ------
        StorageError
            The file cannot be written.
        """
        line = json.dumps(entry.as_json(), ensure_ascii=False, allow_nan=False) + "\n"
        try:
            with self.path.open("a+b") as file:
                if file.tell() and not _ends_a_line(file):
                    line = "\n" + line  # what a killed process left of a line stays a line by itself
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror}. Is the disk full?") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other batches out of the folder; a lock of a process that was killed is no lock.

        Raises
        ------
        StorageError
            Another batch is at work in the folder.
        """
        for part in ("records", "models"):
            prepare_folder(kept(self.folder, part))
        try:
            with FileLock(kept(self.folder, "lock"), timeout=0):
                yield
        except Timeout:
            raise StorageError(
                f"another batch is at work in {self.folder}. Wait for its end, or choose another folder."
            ) from None


def kept(folder: Path, *parts: str) -> Path:
    """Return the place of something that a batch keeps beside its results."""
    return folder.joinpath(_KEPT, *parts)


def _ends_a_line(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def _parsed(line: str) -> Entry | None:
    try:
        return Entry.from_json(json.loads(line))
    except (ValueError, TypeError, AttributeError):
        return None
