"""`Dispatcher`: jobs on the workers of a cluster. A job at which workers die does not prevent the others."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_siren.batch.attempts import ALLOWED_DEATHS, SetAside, attempt, deaths_at
from napari_siren.batch.cluster import Connection
from napari_siren.batch.environments import compare_environments
from napari_siren.batch.manifest import Entry
from napari_siren.batch.plan import Job, Settings, Stack
from napari_siren.batch.worker import TOPIC
from napari_siren.errors import InputError, SirenError

logger = logging.getLogger(__name__)

# Number of times that a job is repeated after a failure that is not its own.
_REPEATS = 2
# Interval between two checks for a request to stop, and between two checks for living workers, in seconds.
_POLL_SECONDS = 0.1
_LIVING_SECONDS = 5.0


@dataclass
class _Task:
    """A job on the cluster.

    Parameters
    ----------
    work, function, arguments
        The job or the stack, and the function that does it on a worker, with its further arguments.
    alone
        Whether no other job runs beside it.
    repeats
        Number of times that it was repeated after a failure that was not its own.
    """

    work: Job | Stack
    function: Callable[..., Entry]
    arguments: tuple[Any, ...]
    alone: bool = False
    repeats: int = 0


class Dispatcher:
    """The jobs of a batch on the workers of a cluster.

    Two workers may die at a job. It is then set aside until all other jobs are done, and tried once more, alone.

    Parameters
    ----------
    connection
        Connection to the cluster.
    settings, folder
        Settings of the batch, and folder of the results.
    stop
        Event that ends the work.
    on_share
        Called with the name of a job and its finished share, 0 to 1, in a thread of Dask.
    """

    def __init__(
        self,
        connection: Connection,
        settings: Settings,
        folder: Path,
        stop: threading.Event,
        on_share: Callable[[str, float], object],
    ) -> None:
        from distributed import as_completed

        self.client, self.wait = connection.client, connection.wait
        self.addresses = connection.environments.addresses
        self.notes = list(connection.environments.notes)
        self.settings, self.folder, self.stop, self.on_share = settings, folder, stop, on_share
        self._run = uuid.uuid4().hex
        self._tasks: dict[str, _Task] = {}
        self._aside: deque[_Task] = deque()
        self._futures = as_completed(loop=self.client.loop)
        self._living_since = time.monotonic()
        self._next_check = self._living_since + _LIVING_SECONDS
        self.client.subscribe_topic(TOPIC, self._receive)

    def submit(self, work: Job | Stack, function: Callable[..., Entry], *arguments: Any) -> None:
        """Submit a job or a stack to the cluster."""
        self._start(_Task(work, function, arguments))

    def entries(self) -> Iterator[tuple[Job | Stack, Entry]]:
        """Yield each job with its entry as it ends, until none is left or the batch is stopped.

        More jobs may be submitted between two entries.

        Raises
        ------
        InputError
            The cluster has had no worker for longer than its time to wait.
        """
        while not self.stop.is_set():
            if not self._tasks:
                if not self._aside:
                    return
                self._start(self._aside.popleft())
            for future in self._futures.next_batch(block=False):
                task = self._tasks[future.key]
                entry = self._ended(task, future)
                if entry is not None:
                    yield task.work, entry
            if not self._is_living():
                yield from self._abandoned()
            if not self._futures.has_ready():
                self.stop.wait(_POLL_SECONDS)

    # ---- the jobs --------------------------------------------------------------------------------------

    def _start(self, task: _Task) -> None:
        where = {"workers": list(self.addresses), "allow_other_workers": False} if self.addresses else {}
        work = (task.function, task.work, self.settings, self.folder, task.arguments)
        future = self.client.submit(attempt, *work, self._run, task.alone, pure=False, **where)
        self._tasks[future.key] = task
        self._futures.add(future)

    def _ended(self, task: _Task, future: Any) -> Entry | None:
        """Return the entry of a job whose future has ended, or None if the job goes on."""
        try:
            # The result may be lost with its worker, also at this moment. Dask then computes it again.
            answer = future.exception(timeout=_LIVING_SECONDS) or future.result(timeout=_LIVING_SECONDS)
        except TimeoutError:
            self._futures.add(future)
            return None
        except Exception as lost:  # the scheduler has stopped
            name = type(lost).__name__
            answer = InputError(f"the connection to the cluster was lost ({name}). Run the batch again to continue.")
        del self._tasks[future.key]
        if isinstance(answer, Entry):
            return answer
        if isinstance(answer, SetAside):
            return self._set_aside(task, answer.deaths)
        # Dask gives a job up also if workers die that only had it in their queues.
        killed, unknown = type(answer).__name__ == "KilledWorker", isinstance(answer, ImportError)
        if (killed or unknown) and task.repeats < _REPEATS:
            if unknown:  # a worker without the package came later
                self._choose_workers()
            task.repeats += 1
            self._start(task)
            return None
        if killed:
            return self._set_aside(task, deaths_at(task.work, self.folder, self._run))
        return self._failed(task, _reason(answer))

    def _set_aside(self, task: _Task, deaths: int) -> Entry | None:
        """Set a job aside after the deaths of workers. If it was alone, return the entry of its failure."""
        count = deaths or "several"
        if task.alone:
            return self._failed(
                task,
                f"{count} worker processes died at this image, the last of them without other jobs. Most likely it "
                "needs more memory than there is. Use a machine with more memory, or a smaller max_memory.",
            )
        self._note(f"{task.work.name}: {count} worker processes died at it. It is tried again after all others, alone.")
        task.alone = True
        self._aside.append(task)
        return None

    def _failed(self, task: _Task, reason: str) -> Entry:
        job = task.work if isinstance(task.work, Job) else task.work.whole
        return job.entry(self.settings, reason=reason)

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)
            logger.warning("%s", sentence)

    # ---- the workers -----------------------------------------------------------------------------------

    def _choose_workers(self) -> None:
        """Compare the workers again, and use only those with this version of the package."""
        environments = compare_environments(self.client, self.wait)
        self.addresses = environments.addresses
        for note in environments.notes:
            self._note(note)

    def _is_living(self) -> bool:
        """Return False if the cluster has had no worker for longer than the time to wait."""
        now = time.monotonic()
        if now < self._next_check:
            return True
        try:
            addresses = set(self.client.nthreads())
        except OSError:  # the scheduler has stopped: the futures end with an error
            addresses = set()
        if addresses & set(self.addresses or addresses):
            self._living_since = now
        self._next_check = time.monotonic() + min(_LIVING_SECONDS, self.wait)
        return now - self._living_since <= self.wait

    def _abandoned(self) -> Iterator[tuple[Job | Stack, Entry]]:
        """Yield the entry of a last job that killed the last worker.

        Raises
        ------
        InputError
            Other jobs remain.
        """
        tasks = [*self._tasks.values(), *self._aside]
        for task in tasks[:1]:
            deaths = deaths_at(task.work, self.folder, self._run)
            if not task.alone or deaths <= ALLOWED_DEATHS or len(tasks) > 1:
                raise InputError(
                    f"the cluster has had no worker for {self.wait:.0f} s, and {len(tasks)} jobs remain. Start "
                    "workers, and run the batch again to continue."
                )
            self._tasks.clear()
            entry = self._set_aside(task, deaths)
            assert entry is not None
            yield task.work, entry

    def _receive(self, event: tuple[float, Mapping[str, Any]]) -> None:
        self.on_share(event[1]["job"], event[1]["share"])


def _reason(answer: object) -> str:
    """Return the reason of a failure from the answer of a worker that is no entry."""
    if answer is None:
        return "the worker returned no entry. Install the same version of napari-siren on all workers."
    return str(answer) if isinstance(answer, SirenError) else f"{type(answer).__name__}: {answer}"
