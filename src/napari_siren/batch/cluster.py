"""Dask clusters for a batch: one started on this machine, or one already running."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_siren.batch.plan import Job, Settings
from napari_siren.errors import ConfigError, InputError

# Memory of a process that has imported PyTorch, before it reads an image, in bytes.
_PROCESS_BYTES = 800_000_000


@contextmanager
def connected(
    scheduler: str | None, workers: int | None, settings: Settings, jobs: Sequence[Job], timeout: float = 20.0
) -> Iterator[Any]:
    """Yield a client of a Dask cluster.

    Parameters
    ----------
    scheduler
        Address of a running scheduler, ``"tcp://host:8786"``. None starts a cluster on this machine, and closes it at
        the end.
    workers
        Number of processes to start on this machine. None chooses a number that suits the machine; see `local_size`.
    settings, jobs
        Settings and jobs of the batch. The number of processes depends on them.
    timeout
        Time to wait for a running scheduler, in seconds.

    Raises
    ------
    ConfigError
        Both `scheduler` and `workers` were given, or `workers` is not a positive whole number.
    InputError
        There is no scheduler at the address, Dask is missing, or each process would run the script again.
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
    try:
        from dask import config
        from distributed import Client, LocalCluster
    except ImportError:
        raise InputError('Dask is not installed. Install it with: pip install "napari-siren[batch]".') from None
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=timeout, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(f"there is no Dask scheduler at {scheduler}: {error}. Check the address.") from None
        with client:
            yield client
        return
    check_script()
    count, threads = local_size(workers, settings, jobs)
    # Processes are spawned, because a process that is forked after a PyTorch computation hangs.
    with (
        config.set({"distributed.worker.multiprocessing-method": "spawn"}),
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
            env={name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")},
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


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
