"""Damaged files through the command line: a result, or one line and exit code 1, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import fuzz
from benchmarks.fuzz_cases import KINDS, Case, cases, damage

# The whole files are read before the first test, and have to give the same results later.
pytestmark = [pytest.mark.full_length, pytest.mark.usefixtures("no_figures")]
# Mutants of the suite; `python -m benchmarks.fuzz` tries more.
MUTANTS = 120


@pytest.fixture(scope="module")
def all_cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    return cases(tmp_path_factory.mktemp("whole"))


def test_whole_files_give_results(all_cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "damage", lambda case, target, _: copy(case, target))
    outcomes = [fuzz.try_mutant([case], number, 0, folder(tmp_path, number)) for number, case in enumerate(all_cases)]
    assert {outcome.fault for outcome in outcomes} == {"result"}
    assert {outcome.kind for outcome in outcomes} == set(KINDS)


def copy(case: Case, target: Path) -> None:
    target.symlink_to(case.source)


def folder(parent: Path, number: int) -> Path:
    path = parent / str(number)
    path.mkdir()
    return path


@pytest.mark.slow
def test_damaged_files_are_refused_or_read(all_cases: list[Case], tmp_path: Path) -> None:
    outcomes = [fuzz.try_mutant(all_cases, number, 7, folder(tmp_path, number)) for number in range(MUTANTS)]
    assert [outcome for outcome in outcomes if not outcome.good] == []
    assert sum(outcome.fault == "refused" for outcome in outcomes) > MUTANTS // 4


def test_damage_is_repeatable(all_cases: list[Case], tmp_path: Path) -> None:
    for case in all_cases:
        if case.source.is_file():
            for name in ("a", "b"):
                damage(case, tmp_path / name, np.random.default_rng(3))
            assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.slow
def test_the_benchmark_counts(tmp_path: Path) -> None:
    options = ["--mutants", "4", "--kinds", "settings", "manifest", "--json", str(tmp_path / "x.json")]
    outcomes = fuzz.run(fuzz.parse(options))
    assert len(outcomes) == 4
    assert all(outcome.good for outcome in outcomes)
    assert fuzz.table_of(outcomes).row_count == 2
