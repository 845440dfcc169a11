"""Where the work is done: a cluster on this machine, or one that is there."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_siren.batch.plan import Job, Settings
from napari_siren.errors import ConfigError, InputError

# Of a process with PyTorch in it, before there is an image.
_PROCESS_BYTES = 800_000_000


@contextmanager
def connected(
    scheduler: str | None, workers: int | None, settings: Settings, jobs: Sequence[Job], timeout: float = 20.0
) -> Iterator[Any]:
    """Return a client of a Dask cluster.

    Parameters
    ----------
    scheduler
        Address of one that is there, ``"tcp://host:8786"``; None starts one on this machine, and ends it at the end.
    workers
        Number of processes of that; None takes what suits the machine.
    settings, jobs
        What is to be done.
    timeout
        Seconds to wait for a scheduler that is there.

    Raises
    ------
    ConfigError
        Both were given, or a number that cannot be.
    InputError
        There is no scheduler at the address, Dask is missing, or the script would be run again by each process.
    DeviceError
        The device is not there.
    """
    if scheduler is not None and workers is not None:
        raise ConfigError("give a scheduler, whose workers are there, or a number of workers to start: one of the two.")
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise ConfigError(f"workers={workers!r}: a whole number of 1 or more is needed.")
    try:
        from dask import config
        from distributed import Client, LocalCluster
    except ImportError:
        raise InputError('a batch needs Dask. Install it with: pip install "napari-siren[batch]".') from None
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=timeout, set_as_default=False)
        except (OSError, ValueError) as error:
            raise InputError(f"there is no Dask scheduler at {scheduler}: {error}. Is the address right?") from None
        with client:
            yield client
        return
    check_script()
    count, threads = local_size(workers, settings, jobs)
    # A process that is forked after PyTorch has computed hangs.
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
    """Refuse to start processes from a script that would be run again in each of them.

    Raises
    ------
    InputError
        It has no ``if __name__ == "__main__":``.
    """
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    path = Path(file) if file else None
    if path is None or path.suffix != ".py" or not path.is_file():
        return
    if "__main__" not in path.read_text(encoding="utf-8", errors="replace"):
        raise InputError(
            f"each process of a batch reads {path.name} anew, and would run it all again. Put what it does under "
            'if __name__ == "__main__":, or give the address of a scheduler.'
        )


def local_size(workers: int | None, settings: Settings, jobs: Sequence[Job]) -> tuple[int, int]:
    """Return the number of processes that suits this machine, and of threads of each, so that each core has one.

    With GPUs it is a process for each. Otherwise one for each core: many small fits side by side use a machine better
    than one with many threads; fewer where there are fewer jobs, or not enough memory for so many.
    """
    import torch
    from dask.system import CPU_COUNT
    from psutil import virtual_memory

    from napari_siren.core.cost import estimate
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
    """Shape in space, and number of channels."""
    sizes = dict(zip(job.outline.axes, job.outline.shape, strict=True))
    channels = sizes.pop("C", 1)
    return tuple(sizes.values()), channels
