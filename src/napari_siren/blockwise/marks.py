"""The files of unfinished work on a large image, and the metadata of the finished output, validated when read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field

from napari_siren.core.storage.atomic import write_json
from napari_siren.core.storage.records import Count, Finite, Record, parse_hashed_json, with_hash
from napari_siren.errors import StorageError
from napari_siren.io.zarr.group import is_zarr, zarr_attributes

_Record = TypeVar("_Record", bound=Record)

# Key of the metadata of a job in the attributes of the output.
ABOUT = "napari_siren"


class JobMark(Record):
    """The mark of a folder of unfinished work."""

    job: str


class BoxMark(Record):
    """The mark of a rendered box of the output: the hash of its pixels, and the errors of the field in it."""

    pixels: str
    squared: Annotated[Finite, Field(ge=0)]
    largest: Annotated[Finite, Field(ge=0)]
    count: Count


class Notes(Record):
    """The notes on the work of all sessions."""

    notes: tuple[str, ...] = ()


class About(Notes):
    """The metadata of a finished output."""

    job: str
    blocks: Count
    psnr: float
    rmse: float
    max_abs: float


def read_about(out: Path) -> About | None:
    """Return the metadata of a finished output, or None if there is no output of `fit_blocks`."""
    if not is_zarr(out):
        return None
    try:
        return About.model_validate(zarr_attributes(out).get(ABOUT))
    except ValueError:
        return None  # an image of another program


def check_absent(path: Path, there: bool) -> None:
    """Raise a StorageError if a result is there that must not be replaced."""
    if there:
        raise StorageError(
            f"{path} exists already. Give another name, or replace it with overwrite=True (--overwrite)."
        )


def read_mark(path: Path, record: type[_Record]) -> _Record:
    """Read a file of the work.

    Raises
    ------
    StorageError
        The file is damaged.
    """
    with damage_named(path, OSError, ValueError):
        return record.model_validate(parse_hashed_json(path.read_bytes()))


def write_mark(path: Path, values: Mapping[str, Any]) -> None:
    """Write a file of the work, with its hash."""
    write_json(path, with_hash(values))


@contextmanager
def damage_named(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Raise a StorageError with the damaged file of the work and the remedy instead of other errors."""
    try:
        yield
    except errors as error:
        raise StorageError(
            f"{path} is damaged: the unfinished work cannot be continued. Start again with resume=False (--no-resume)."
        ) from error
