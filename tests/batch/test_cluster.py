"""Clusters for batches: bad addresses, broken configurations, and the number of processes on this machine."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from batching import photos, settings
from dask import config
from waiting import LIMIT

from napari_siren.batch import cluster
from napari_siren.batch.cluster import check_script, connected, local_size
from napari_siren.batch.environments import Environments
from napari_siren.batch.plan import make_plan
from napari_siren.errors import ConfigError, InputError


def assert_refused(message: str, **options: object) -> None:
    """Assert that there is one error of one line."""
    with (
        pytest.raises(InputError, match=message) as error,
        connected(**{"scheduler": None, "workers": None, **options}, settings=settings(), jobs=()),
    ):  # type: ignore[arg-type]
        pass
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:1",
        "tcp://nobody.invalid:8786",
        "tcp://host name:1",
        "tcp://127.0.0.1:99999",
        "tls://127.0.0.1:1",
        "http://127.0.0.1:1",
        "nonsense://x",
        "127.0.0.1",
        "8786",
        "",
    ],
)
def test_an_address_without_a_scheduler(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 0.2)
    assert_refused("there is no Dask scheduler at", scheduler=address)


@contextlib.contextmanager
def server(answer: bytes | None) -> Iterator[str]:
    """Yield the address of a server of another kind: it answers and waits, or it closes each connection."""
    connections = []

    def serve() -> None:
        with contextlib.suppress(OSError):  # the socket is closed at the end
            while True:
                connection, _ = listener.accept()
                if answer is None:
                    connection.close()
                    continue
                connection.sendall(answer)
                connections.append(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", None])
def test_a_server_of_another_kind(answer: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 0.5)
    with server(answer) as address:
        assert_refused("there is no Dask scheduler at", scheduler=address)


@pytest.mark.parametrize(
    "broken",
    [
        {"distributed.scheduler.worker-ttl": "never ever"},
        {"distributed.scheduler.worker-saturation": "lots"},
        {"distributed.admin.tick.interval": "foo"},
        {"distributed.scheduler.preload": ["missing_module"]},
        {"distributed.nanny.preload": ["missing_module"]},
        {"distributed.comm.require-encryption": True},
        {"temporary-directory": "/proc/nowhere"},
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of Dask's cluster that does not start
def test_a_broken_configuration(broken: dict[str, object]) -> None:
    with config.set(broken):
        assert_refused("Dask cannot be started .*Check its configuration", workers=1)


def test_a_cluster_that_starts_workers_on_demand() -> None:
    from distributed import LocalCluster

    options = {"n_workers": 0, "threads_per_worker": 1, "processes": False, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(protocol="tcp", **options) as adaptive:
        adaptive.adapt(minimum=0, maximum=1, interval="100ms")
        with connected(adaptive.scheduler_address, None, settings(), (), LIMIT) as connection:
            assert connection.environments == Environments()


def test_contradictory_options() -> None:
    for given, message in (
        ({"scheduler": "tcp://127.0.0.1:1", "workers": 2}, "both given"),
        ({"workers": 0}, "workers=0"),
        ({"wait": 0}, "wait=0 is not a positive number"),
        ({"wait": float("nan")}, "wait=nan"),
    ):
        options = {"scheduler": None, "workers": None, **given}
        with pytest.raises(ConfigError, match=message), connected(**options, settings=settings(), jobs=()):  # type: ignore[arg-type]
            pass


def test_the_size_of_a_cluster_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path / "in", 5)
    jobs = make_plan(tmp_path / "in", tmp_path / "out", settings(), {}).jobs
    monkeypatch.setattr("dask.system.CPU_COUNT", 8)
    assert local_size(None, settings(), jobs) == (5, 1)
    assert local_size(None, settings(), jobs[:2]) == (2, 4)
    assert local_size(3, settings(), jobs) == (3, 2)
    assert local_size(20, settings(), jobs) == (20, 1)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 2_000_000_000}))
    assert local_size(None, settings(), jobs) == (2, 4)


@pytest.mark.parametrize(
    ("text", "refused"), [("fit_batch(...)", True), ('if __name__ == "__main__":\n    fit_batch(...)', False)]
)
def test_a_script_that_processes_would_run_again_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, refused: bool
) -> None:
    script = tmp_path / "script.py"
    script.write_text(text)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(script), raising=False)
    with pytest.raises(InputError, match=r"imports script\.py") if refused else contextlib.nullcontext():
        check_script()
