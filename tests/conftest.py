"""Fixtures for tests of several folders."""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import typer.main
import typer.testing
from hypothesis import HealthCheck, settings
from shortening import shorten_computations
from waiting import LIMIT

# Without a GPU, Triton's interpreter runs the kernels. Triton reads the variable when it is first imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# On a busy machine an example, and the generation of an example, may take any time. This is not a failure of the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(autouse=True, scope="session")
def one_command_line() -> Iterator[None]:
    """Build the parsers of the command line once: each command that runs in this process would build them again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.testing, "_get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Yield the address of a Dask cluster of threads in this process."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def hold_fits(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., threading.Event]]:
    """Yield a function to hold the fits of this cluster at their first step until the returned event is set.

    Its argument `but` is the number of fits, from the first on, to exclude.
    """
    from napari_siren.batch import worker as batch_task

    go_on = threading.Event()

    def hold(but: int = 0) -> threading.Event:
        numbers, original = itertools.count(), batch_task._progress_reporter

        def reporter(name: str) -> Callable[[Any], None]:
            report, free = original(name), next(numbers) < but

            def report_and_wait(progress: Any) -> None:
                report(progress)
                assert free or go_on.wait(LIMIT)

            return report_and_wait

        monkeypatch.setattr(batch_task, "_progress_reporter", reporter)
        return go_on

    yield hold
    go_on.set()


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write reports without their figures, which take a second."""
    monkeypatch.setattr("napari_siren.reporting.fit_report._draw", lambda *_: {})


@pytest.fixture(autouse=True)
def short_computations(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten what takes long and is not the subject of most tests.

    Tests with the mark "full_length" compute the same as users do.
    """
    if request.node.get_closest_marker("full_length") is None:
        shorten_computations(monkeypatch.setattr)
