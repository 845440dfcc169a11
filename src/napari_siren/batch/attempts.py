"""Attempts at a job on a worker. Each leaves a mark until its end, so that the next one knows of dead workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_siren.batch.manifest import MARKS, Entry, kept
from napari_siren.batch.plan import Job, Settings, Stack, short_hash
from napari_siren.core.storage.atomic import write_json
from napari_siren.core.storage.records import Count, Record, parse_json

# Number of workers that may die at a job beside other jobs.
ALLOWED_DEATHS = 2


class _Mark(Record):
    """Number of unfinished attempts of a batch at a job."""

    run: str
    attempts: Count


@dataclass(frozen=True)
class SetAside:
    """The answer of a worker that does not do a job, because other workers have died at it.

    Parameters
    ----------
    deaths
        Number of workers that have died.
    """

    deaths: int


def attempt(
    function: Callable[..., Entry],
    work: Job | Stack,
    settings: Settings,
    folder: Path,
    arguments: tuple[Any, ...],
    run: str,
    alone: bool,
) -> Entry | SetAside:
    """Do a job on a worker, unless too many workers have died at it.

    Parameters
    ----------
    function, work, settings, folder, arguments
        The function, and its arguments.
    run
        Identifier of the running batch. Earlier batches that were killed do not count.
    alone
        Whether there is no other job on the cluster. One more worker may then die.

    Returns
    -------
    Entry or SetAside
        The entry of the job, or the number of dead workers.
    """
    mark = _mark(folder, work)
    deaths = deaths_at(work, folder, run)
    if deaths >= ALLOWED_DEATHS + alone:
        return SetAside(deaths)
    write_json(mark, {"run": run, "attempts": deaths + 1})
    entry = function(work, settings, folder, *arguments)
    mark.unlink(missing_ok=True)
    return entry


def deaths_at(work: Job | Stack, folder: Path, run: str) -> int:
    """Return the number of unfinished attempts of a running batch at a job."""
    try:
        mark = _Mark.model_validate(parse_json(_mark(folder, work).read_bytes()))
    except (OSError, ValueError):
        return 0
    return mark.attempts if mark.run == run else 0


def _mark(folder: Path, work: Job | Stack) -> Path:
    return kept(folder, MARKS, f"{short_hash(work.name)}.json")
