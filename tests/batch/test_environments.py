"""Workers with other packages than this process."""

from __future__ import annotations

from typing import Any

import pytest
from waiting import LIMIT

from napari_siren.batch.environments import Environments, compare_environments, judge_environments, own_versions
from napari_siren.errors import InputError

OURS = {"Python": "3.12", "napari-siren": "0.3", "torch": "2.13.0", "numpy": "2.3.0", "distributed": "2026.1"}


def other(**versions: str | None) -> dict[str, str | None]:
    return {**OURS, **{name.replace("_", "-"): value for name, value in versions.items()}}


def test_workers_of_this_environment_are_all_used(scheduler: str) -> None:
    from distributed import Client

    with Client(scheduler, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=LIMIT)
        assert compare_environments(client, LIMIT) == Environments()
    assert own_versions().keys() == OURS.keys()


@pytest.mark.parametrize(
    ("workers", "addresses", "words"),
    [
        ({"a": OURS, "b": OURS}, None, ()),
        ({"a": OURS, "b": other(napari_siren=None)}, ("a",), ("napari-siren is not installed on b",)),
        ({"a": OURS, "b": other(napari_siren="0.2")}, ("a",), ("napari-siren 0.2 instead of 0.3 on b",)),
        ({"a": OURS, "b": None}, ("a",), ("no answer on b",)),
        ({"a": OURS, "b": other(torch="2.9")}, None, ("torch differs (2.9 on b, here 2.13.0)",)),
        ({"a": OURS, "b": other(Python="3.13")}, None, ("Python differs (3.13 on b, here 3.12)",)),
        ({"a": other(torch=None)}, None, ("torch differs (None on a",)),
        ({name: other(numpy="1") for name in "abcde"}, None, ("1 on a, b, c and 2 more",)),
    ],
)
def test_which_workers_are_used(workers: dict[str, Any], addresses: tuple[str, ...] | None, words: tuple[str]) -> None:
    environments = judge_environments(OURS, OURS, workers)
    assert environments.addresses == addresses
    assert len(environments.notes) == len(words)
    for note, part in zip(environments.notes, words, strict=True):
        assert part in note


@pytest.mark.parametrize(
    ("scheduler", "workers", "words"),
    [
        (OURS, {"a": other(napari_siren=None)}, "napari-siren is not installed on a"),
        (OURS, {"a": other(napari_siren="0.2"), "b": None}, "0.2 instead of 0.3 on a; no answer on b"),
        (other(napari_siren=None), {"a": OURS}, "the Dask scheduler cannot read the jobs"),
    ],
)
def test_without_a_usable_worker_there_is_an_error(scheduler: Any, workers: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        judge_environments(OURS, scheduler, workers)
