"""Code in new processes that need not import PyTorch again: they are copies of a process that has done it."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from waiting import LIMIT


@dataclass(frozen=True)
class Ended:
    """The exit code of a process, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def context() -> Any:
    """Return how to start processes: as copies of one with PyTorch. Only Linux is sure to have such processes."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    # Each process imports the main module of this process, which is pytest.
    chosen = multiprocessing.get_context("forkserver")
    chosen.set_forkserver_preload(["pytest", "napari_siren.core.fit"])
    return chosen


def start(code: str, *words: object, out: str = os.devnull, err: str = os.devnull) -> BaseProcess:
    """Start a process that runs code, with words as its arguments and files for what it prints."""
    process = context().Process(target=_run, args=(code, [str(word) for word in words], out, err))
    process.start()
    return process


def run(code: str, *words: object) -> Ended:
    """Run code in a process to its end."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = start(code, *words, out=str(out), err=str(err))
        process.join(LIMIT)
        assert process.exitcode is not None, "it did not end"
        return Ended(process.exitcode, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8"))


def _run(code: str, words: list[str], out: str, err: str) -> None:
    for number, name in ((1, out), (2, err)):
        file = os.open(name, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["-c", *words]
    exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})
