"""Damaged files through the command line: the figures of docs/reliability.md.

    python -m benchmarks.fuzz [--minutes 10] [--mutants N] [--seed 0] [--kinds TIFF PNG ...] [--json FILE]
                              [--keep FOLDER]

Each mutant is a whole file with a random damage. A command reads it. The outcome is good if the command gives a result
that can be read, or if it prints one line, ends with exit code 1, and leaves nothing behind. A worker process takes the
mutants one by one; if it crashes or hangs, the next process goes on after the mutant.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

from benchmarks.fuzz_cases import KINDS, WORK, Case, cases, damage
from napari_siren.cli.app import app
from napari_siren.core.storage.atomic import write_json
from napari_siren.io.images import read_image

# Most seconds of a mutant. A fit of a whole file takes less than one.
_LIMIT = 30
# Memory of a worker in bytes, of addresses: PyTorch alone takes some.
_MEMORY = 16 << 30


@dataclass(frozen=True)
class Outcome:
    """The outcome of a mutant: "result", "refused" or a fault, with what the command printed."""

    kind: str
    number: int
    fault: str
    text: str = ""

    @property
    def good(self) -> bool:
        """Whether the command gave a result or refused the file."""
        return self.fault in ("result", "refused")


def try_mutant(all_cases: list[Case], number: int, seed: int, folder: Path) -> Outcome:
    """Damage a file, read it by its command, and return the outcome.

    Parameters
    ----------
    all_cases
        Cases to choose from.
    number, seed
        Number of the mutant, and seed of all mutants. They determine the case and the damage.
    folder
        Empty folder for the mutant and its results.
    """
    random = np.random.default_rng((seed, number))
    kinds = sorted({case.kind for case in all_cases})
    own = [case for case in all_cases if case.kind == kinds[number % len(kinds)]]
    case = own[random.integers(len(own))]
    mutant, out = folder / case.source.name, folder / "out"
    out.mkdir()
    damage(case, mutant, random)
    words = [str(word) for word in case.command(mutant, out)]
    before = set(out.rglob("*"))
    done = CliRunner().invoke(app, words)
    after = {path for path in set(out.rglob("*")) - before if path.is_file() or path.suffix == ".part"}
    return Outcome(case.kind, number, _fault(case, done, after, out), done.output[-2000:])


def _fault(case: Case, done: Any, written: set[Path], out: Path) -> str:
    """Return "result", "refused", or what is wrong with the outcome of a command."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return f"traceback: {type(done.exception).__name__}"
    if any(".part" in path.name for path in written):
        return "a temporary file is left"
    if done.exit_code == 1:
        # Unfinished work stays, to be continued.
        if any(WORK not in path.parts for path in written):
            return "a file of a refused input"
        one_line = len(lines) == 1 and lines[0].startswith("Error: ")
        return "refused" if one_line else f"{len(lines)} lines of error"
    if done.exit_code:
        return f"exit code {done.exit_code}"
    pictures = [*(path for path in written if path.suffix == ".tif"), *out.glob("*.ome.zarr")]
    try:
        for path in pictures:
            np.asarray(read_image(path).array)
    except Exception as error:
        return f"a result that cannot be read: {type(error).__name__}"
    if case.exact and _same_header(case, out) and _contents(out) != _expected(case):
        return "another result than that of the whole file"
    return "result"


def _same_header(case: Case, out: Path) -> bool:
    """Return whether the mutant claims to be the file as it was written: hostile descriptions have their own hash."""
    from safetensors import safe_open

    if case.source.is_dir():
        return True
    hashes = []
    for path in (case.source, out.parent / case.source.name):
        with safe_open(path, framework="pt") as file:
            hashes.append((file.metadata() or {}).get("sha256"))
    return hashes[0] == hashes[1]


def _contents(out: Path) -> dict[Path, bytes]:
    """Return the bytes of every file in a folder of results."""
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def _expected(case: Case) -> dict[Path, bytes]:
    """Return the files with the results of the command of a case for the whole file."""
    if case.source not in _EXPECTED:
        with tempfile.TemporaryDirectory() as name:
            CliRunner().invoke(app, [str(word) for word in case.command(case.source, Path(name))])
            _EXPECTED[case.source] = _contents(Path(name))
    return _EXPECTED[case.source]


_EXPECTED: dict[Path, dict[Path, bytes]] = {}


def work(sources: Path, first: int, arguments: argparse.Namespace) -> None:
    """Try mutants until the process is ended, and print a line before and after each."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    chosen = cases(sources, arguments.kinds)
    print("ready", flush=True)
    number = first
    while True:
        print(json.dumps({"begun": number}), flush=True)
        signal.alarm(_LIMIT)
        with tempfile.TemporaryDirectory() as name:
            outcome = try_mutant(chosen, number, arguments.seed, Path(name))
            if not outcome.good and arguments.keep is not None:
                shutil.copytree(name, arguments.keep / str(number), dirs_exist_ok=True)
        signal.alarm(0)
        print(json.dumps(vars(outcome)), flush=True)
        number += 1


def run(arguments: argparse.Namespace) -> list[Outcome]:
    """Try mutants in worker processes until the time is over, or there are enough."""
    outcomes: list[Outcome] = []
    end = time.monotonic() + 60 * arguments.minutes
    number = 0
    while time.monotonic() < end and len(outcomes) < arguments.mutants:
        with tempfile.TemporaryDirectory() as sources:
            number = _run_worker(Path(sources), number, arguments, end, outcomes)
    return outcomes


def _run_worker(sources: Path, number: int, arguments: argparse.Namespace, end: float, outcomes: list[Outcome]) -> int:
    """Collect the outcomes of a worker until it ends, and return the number of the next mutant.

    The worker is ended when the time is over or there are enough mutants.
    """
    words = ["--worker", sources, "--first", number, "--seed", arguments.seed, "--kinds", *arguments.kinds]
    words += [] if arguments.keep is None else ["--keep", arguments.keep]
    command = [sys.executable, "-m", "benchmarks.fuzz", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    timer = threading.Timer(max(0.0, end - time.monotonic()), process.kill)
    timer.start()
    begun = number - 1
    assert process.stdout is not None
    for line in process.stdout:
        values = json.loads(line) if line.startswith("{") else {}
        if "begun" in values:
            begun = values["begun"]
        elif values:
            outcomes.append(Outcome(**values))
            number = values["number"] + 1
        if len(outcomes) >= arguments.mutants:
            process.kill()
            break
    timer.cancel()
    process.stdout.close()
    code = process.wait()
    if begun >= number and time.monotonic() < end and len(outcomes) < arguments.mutants:
        fault = "a hang" if code == -signal.SIGALRM else f"a crash ({code})"
        kinds = sorted(arguments.kinds)
        outcomes.append(Outcome(kinds[begun % len(kinds)], begun, fault))
        number = begun + 1
    return number


def table_of(outcomes: list[Outcome]) -> Table:
    """Return the numbers of mutants by kind and outcome."""
    table = Table(title=f"{len(outcomes)} mutants, {sum(not o.good for o in outcomes)} faults")
    for name in ("kind", "mutants", "result", "refused", "faults"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for kind in sorted({outcome.kind for outcome in outcomes}):
        own = [outcome for outcome in outcomes if outcome.kind == kind]
        counts = Counter("faults" if not outcome.good else outcome.fault for outcome in own)
        table.add_row(kind, str(len(own)), *(str(counts[name]) for name in ("result", "refused", "faults")))
    return table


def parse(options: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--mutants", type=float, default=math.inf, help="largest number of mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--json", type=Path, default=Path("out/benchmark-fuzz.json"))
    parser.add_argument("--keep", type=Path, default=None, metavar="FOLDER", help="folder for the mutants with a fault")
    parser.add_argument("--worker", type=Path, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(options)


def main(options: list[str] | None = None) -> None:
    arguments = parse(options)
    if arguments.worker is not None:
        work(arguments.worker, arguments.first, arguments)
    outcomes = run(arguments)
    console = Console(width=120)
    console.print(table_of(outcomes))
    faults = [outcome for outcome in outcomes if not outcome.good]
    for outcome in faults:
        console.print(f"{outcome.kind} {outcome.number}: {outcome.fault}", markup=False)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.json, {"seed": arguments.seed, "outcomes": [vars(outcome) for outcome in outcomes]})
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
