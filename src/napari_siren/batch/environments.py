"""The packages of a cluster's workers, compared with those of this process before the first image."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from napari_siren.errors import InputError

# The package without which a worker has no use. Another version of it is no use either: its results differ.
_OURS = "napari-siren"
# Packages whose versions may change the last bits of a result.
_COMPARED = ("torch", "numpy", "distributed")
# Longest list of addresses in a message.
_SHOWN = 3

# Versions by the name of the package; None for a package that is not installed.
Versions = Mapping[str, str | None]


@dataclass(frozen=True)
class Environments:
    """The usable workers of a batch.

    Parameters
    ----------
    addresses
        Addresses of the workers to use; None for all workers, also those that come later.
    notes
        Sentences on workers that are not used, and on versions that differ.
    """

    addresses: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def own_versions() -> dict[str, str | None]:
    """Return the versions of Python and of the compared packages in this process."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, **{name: version(name) for name in (_OURS, *_COMPARED)}}


def compare_environments(client: Any, timeout: float) -> Environments:
    """Return the workers of a cluster that have this version of napari-siren.

    Parameters
    ----------
    client
        Client of a Dask cluster with at least one worker.
    timeout
        Time to wait for the answer of a worker, in seconds.

    Raises
    ------
    InputError
        The scheduler lacks the package, or no worker has this version of it.
    """
    return judge_environments(own_versions(), *client.sync(_versions_of_all, client, timeout))


def judge_environments(
    ours: Versions, scheduler: Versions | None, workers: Mapping[str, Versions | None]
) -> Environments:
    """Return the usable workers of a batch, from the versions on all of them.

    Parameters
    ----------
    ours
        Versions in this process.
    scheduler, workers
        Versions on the scheduler, and on each worker by its address. None means that there was no answer in time.

    Raises
    ------
    InputError
        The scheduler lacks the package, or no worker has this version of it.
    """
    if scheduler is not None and scheduler[_OURS] is None:
        raise InputError(
            f"the Dask scheduler cannot read the jobs, because its Python has no {_OURS}. Start the scheduler in the "
            "environment of the workers."
        )
    faults = {address: fault for address, found in workers.items() if (fault := _fault(found, ours[_OURS]))}
    good = tuple(address for address in workers if address not in faults)
    if not good:
        reasons = "; ".join(_grouped(faults))
        raise InputError(f"no worker can be used: {reasons}. Install {_OURS} {ours[_OURS]} on the workers.")
    notes = [f"some workers are not used: {reason}" for reason in _grouped(faults)]
    for name in ("Python", *_COMPARED):
        theirs = {address: found[name] for address, found in workers.items() if found is not None and address in good}
        others = {address: str(found) for address, found in theirs.items() if found != ours[name]}
        notes += [
            f"{name} differs ({group}, here {ours[name]}): results may differ in their last bits"
            for group in _grouped(others)
        ]
    return Environments(good if faults else None, tuple(notes))


def _fault(found: Versions | None, wanted: str | None) -> str | None:
    """Return why a worker cannot be used, or None."""
    if found is None:
        return "no answer"
    version_there = found[_OURS]
    if version_there is None:
        return f"{_OURS} is not installed"
    return None if version_there == wanted else f"{_OURS} {version_there} instead of {wanted}"


def _grouped(facts: Mapping[str, str]) -> list[str]:
    """Return one phrase for each different fact, with the addresses that it is true for."""
    phrases = []
    for fact in dict.fromkeys(facts.values()):
        addresses = [address for address, other in facts.items() if other == fact]
        more = f" and {len(addresses) - _SHOWN} more" if len(addresses) > _SHOWN else ""
        phrases.append(f"{fact} on {', '.join(addresses[:_SHOWN])}{more}")
    return phrases


async def _versions_of_all(client: Any, timeout: float) -> tuple[Versions | None, dict[str, Versions | None]]:
    """Return the versions on the scheduler and on each worker. All are asked at the same time."""
    addresses = list((await client.scheduler.identity())["workers"])

    async def ask(address: str | None) -> Versions | None:
        try:
            return await asyncio.wait_for(_versions_of(client, address), timeout)
        except (TimeoutError, OSError):
            return None

    scheduler, *workers = await asyncio.gather(ask(None), *map(ask, addresses))
    return scheduler, dict(zip(addresses, workers, strict=True))


async def _versions_of(client: Any, address: str | None) -> Versions:
    """Return the versions on a worker, or on the scheduler if there is no address.

    The functions are of the standard library, so that the worker needs nothing of this package to answer.
    """
    found: dict[str, str | None] = {}
    for name in (_OURS, *_COMPARED):
        found[name] = await _answer(client, address, version, name)
    python = await _answer(client, address, platform.python_version)
    return {"Python": python and ".".join(python.split(".")[:2]), **found}


async def _answer(client: Any, address: str | None, function: Any, *arguments: str) -> str | None:
    """Return the answer of a worker or of the scheduler; None if the function raises an error there."""
    if address is None:
        try:
            return str(await client.run_on_scheduler(function, *arguments))
        except ImportError:  # also a package without metadata
            return None
    answers = await client.run(function, *arguments, workers=[address], on_error="return")
    answer = answers.get(address, OSError("the worker has left"))
    if isinstance(answer, OSError):
        raise answer
    return None if isinstance(answer, Exception) else str(answer)
