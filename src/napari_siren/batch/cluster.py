"""Dask clusters for a batch: one started on this machine, or one already running."""

from __future__ import annotations

import asyncio
import logging
import math
import platform
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_siren.batch.environments import Environments, compare_environments
from napari_siren.batch.plan import Job, Settings
from napari_siren.errors import ConfigError, InputError

logger = logging.getLogger(__name__)

# Memory of a process that has imported PyTorch, before it reads an image, in bytes.
_PROCESS_BYTES = 800_000_000
# Time to wait for each of the answers of a scheduler to a new client, and for the versions of a worker, in seconds.
_CONNECT_SECONDS = 8.0
# Time for a process on this machine to start again after its death, in seconds.
_RESTART_SECONDS = 120.0


@dataclass(frozen=True)
class Connection:
    """A connection to a Dask cluster.

    Parameters
    ----------
    client
        Client of the cluster.
    environments
        Workers to use.
    wait
        Time that the cluster may be without workers, in seconds.
    """

    client: Any
    environments: Environments
    wait: float


@contextmanager
def connected(
    scheduler: str | None, workers: int | None, settings: Settings, jobs: Sequence[Job], wait: float = 30.0
) -> Iterator[Connection]:
    """Yield a connection to a Dask cluster with workers.

    Parameters
    ----------
    scheduler
        Address of a running scheduler, ``"tcp://host:8786"``. None starts a cluster on this machine, and closes it at
        the end.
    workers
        Number of processes to start on this machine. None chooses a number that suits the machine; see `local_size`.
    settings, jobs
        Settings and jobs of the batch. The number of processes depends on them.
    wait
        Time to wait for a worker of a running scheduler, in seconds.

    Raises
    ------
    ConfigError
        Both `scheduler` and `workers` were given, `workers` is not a positive whole number, or `wait` is not a positive
        number.
    InputError
        There is no scheduler at the address or no worker, no worker has this version of the package, Dask is missing
        or cannot be started, or each process would run the script again.
    DeviceError
        The device is not available.
    """
    if scheduler is not None and workers is not None:
        raise ConfigError(
            f"scheduler={scheduler!r} and workers={workers!r} were both given. Give the address of a running "
            "scheduler, or the number of workers to start on this machine."
        )
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise ConfigError(f"workers={workers!r} is not a positive whole number. Give 1 or more.")
    if isinstance(wait, bool) or not isinstance(wait, int | float) or not 0 < wait < math.inf:
        raise ConfigError(f"wait={wait!r} is not a positive number of seconds. Give a number above 0, such as 30.")
    _import_dask()
    with ExitStack() as stack:
        if scheduler is not None:
            yield _connect(stack, scheduler, wait)
        else:
            check_script()
            client = _start(stack, *local_size(workers, settings, jobs))
            yield Connection(client, Environments(), max(wait, _RESTART_SECONDS))


def _import_dask() -> None:
    """Import Dask.

    Raises
    ------
    InputError
        Dask is missing, or its configuration is invalid.
    """
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise InputError('Dask is not installed. Install it with: pip install "napari-siren[batch]".') from None
    except Exception as error:
        raise InputError(_configuration_fault(error)) from error


def _connect(stack: ExitStack, scheduler: str, wait: float) -> Connection:
    """Return a connection to a running scheduler, after its workers have been compared with this process."""
    from distributed import Client
    from distributed.versions import VersionMismatchWarning

    try:
        # A client that cannot connect would print tracebacks and delay the end of the process. In a notebook this
        # thread has an event loop already.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(asyncio.run, _answer_of(scheduler)).result()
        # The versions are compared below.
        with warnings.catch_warnings(action="ignore", category=VersionMismatchWarning):
            client = stack.enter_context(Client(scheduler, timeout=_CONNECT_SECONDS, set_as_default=False))
    except Exception as error:
        raise InputError(
            f"there is no Dask scheduler at {scheduler}: {_brief(error)}. Check the address, and Dask's configuration."
        ) from error
    try:
        # A cluster that adapts to its work starts its first worker for this job.
        probe = client.submit(platform.python_version, pure=False)
        client.wait_for_workers(1, timeout=wait)
        probe.release()
        environments = compare_environments(client, _CONNECT_SECONDS)
    except TimeoutError:
        raise InputError(
            f"the Dask scheduler at {scheduler} has no worker after {wait:.0f} s. Start workers, or wait longer "
            "(wait, on the command line --wait)."
        ) from None
    for note in environments.notes:
        logger.warning("%s", note)
    return Connection(client, environments, wait)


async def _answer_of(scheduler: str) -> None:
    """Ask a scheduler for its identity."""
    from distributed import Security, rpc

    async with rpc(scheduler, connection_args=Security().get_connection_args("client")) as server:
        try:
            identity = await asyncio.wait_for(server.identity(), _CONNECT_SECONDS)
        except MemoryError:  # the first bytes of any other protocol are read as a length
            raise ValueError("its answer is not that of Dask") from None
    if "Scheduler" not in identity["type"]:
        raise ValueError(f"it is the address of a {identity['type']}")


def _start(stack: ExitStack, count: int, threads: int) -> Any:
    """Return the client of a new cluster on this machine."""
    from dask import config
    from distributed import Client, LocalCluster

    try:
        # Processes are spawned, because a process that is forked after a PyTorch computation hangs.
        stack.enter_context(config.set({"distributed.worker.multiprocessing-method": "spawn"}))
        cluster = LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            env={name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")},
        )
        return stack.enter_context(Client(stack.enter_context(cluster), set_as_default=False))
    except Exception as error:
        raise InputError(_configuration_fault(error)) from error


def _configuration_fault(error: Exception) -> str:
    from_files = "the files in ~/.config/dask and the variables DASK_*"
    return f"Dask cannot be started ({_brief(error)}). Check its configuration: {from_files}."


def _brief(error: Exception) -> str:
    """Return the type and the first line of the first cause of an error of another library."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def check_script() -> None:
    """Raise an error if each new process would run the calling script again.

    Raises
    ------
    InputError
        The script has no ``if __name__ == "__main__":``.
    """
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    path = Path(file) if file else None
    if path is None or path.suffix != ".py" or not path.is_file():
        return
    if "__main__" not in path.read_text(encoding="utf-8", errors="replace"):
        raise InputError(
            f"each process of a batch imports {path.name}, and would run all of it again. Put its code under "
            'if __name__ == "__main__":, or give the address of a scheduler.'
        )


def local_size(workers: int | None, settings: Settings, jobs: Sequence[Job]) -> tuple[int, int]:
    """Return the number of processes for this machine, and the number of threads of each process.

    Together the processes have one thread for each core. With GPUs there is one process for each GPU. Otherwise there
    is one process for each core: many small fits side by side use a machine better than one fit with many threads.
    There are fewer processes if there are fewer jobs, or if the memory is too small for one process for each core.
    """
    import torch
    from dask.system import CPU_COUNT
    from psutil import virtual_memory

    from napari_siren.core.cost.estimate import estimate
    from napari_siren.core.engines import choose_device

    cores = int(CPU_COUNT)
    device = choose_device(settings.device)
    if workers is None and device.type != "cpu":
        workers = max(1, torch.cuda.device_count()) if settings.device in ("auto", "cuda") else 1
    if workers is None:
        layouts = {_layout(job) for job in jobs}
        fits = [estimate(*layout, settings.config, "cpu", trial=False).memory for layout in layouts]
        need = _PROCESS_BYTES + max(fits, default=0)
        workers = max(1, min(cores, len(jobs), int(virtual_memory().available // need)))
    return workers, max(1, cores // workers)


def _layout(job: Job) -> tuple[tuple[int, ...], int]:
    """Return the shape in space and the number of channels of a job's image."""
    sizes = dict(zip(job.outline.axes, job.outline.shape, strict=True))
    channels = sizes.pop("C", 1)
    return tuple(sizes.values()), channels
