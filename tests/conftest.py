"""What tests of several folders share."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from waiting import LIMIT

# Triton reads it when it is imported, whatever imports it first. Without a GPU its interpreter runs the kernels.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# On a busy machine an example may take any time, and so may drawing it: neither says anything of what is tested.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a cluster of threads in this process."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def hold_fits(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., threading.Event]]:
    """Call it to hold the fits of that cluster at their first step, but for so many, until the event is set."""
    from napari_siren.batch import worker as batch_task

    go_on = threading.Event()

    def hold(but: int = 0) -> threading.Event:
        numbers, original = itertools.count(), batch_task._teller

        def teller(name: str) -> Callable[[Any], None]:
            tell, free = original(name), next(numbers) < but

            def told(progress: Any) -> None:
                tell(progress)
                assert free or go_on.wait(LIMIT)

            return told

        monkeypatch.setattr(batch_task, "_teller", teller)
        return go_on

    yield hold
    go_on.set()
