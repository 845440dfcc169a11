"""How `benchmarks.gpu` runs its parts: each in a process of its own, with a limit."""

from __future__ import annotations

import json
import multiprocessing
import time
import traceback
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import PARTS, Options, Part

# Loaded once, for all parts; none of them starts the GPU.
PRELOADED = ["torch", "skimage.io", "scipy.ndimage", "benchmarks.gpu.parts", "napari_siren.core.fit"]


def work(part: Part, options: Options, path: Path) -> None:
    """Do a part in a process of its own: write its result to `path`, and what it prints beside it."""
    with path.with_suffix(".log").open("w") as log, redirect_stdout(log), redirect_stderr(log):
        try:
            found = part.measure(options, lambda so_far: write(path, so_far))
            write(path, {**found, "finished": True})
        except BaseException:
            traceback.print_exc()
            raise SystemExit(1) from None


def run_part(part: Part, options: Options, folder: Path, seconds: float) -> dict[str, Any]:
    """Run a part for so many seconds at most; what it has written by then is kept."""
    path = folder / f"{part.name}.json"
    process = _context().Process(target=work, args=(part, replace(options, seconds=0.9 * seconds), path))
    begin = time.perf_counter()
    process.start()
    process.join(seconds)
    late = process.is_alive()
    if late:
        process.kill()
        process.join()
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    found["seconds_taken"] = round(time.perf_counter() - begin, 2)
    log = path.with_suffix(".log")
    if not found.pop("finished", False):
        end = log.read_text(errors="replace")[-1500:] if log.exists() else ""
        found["failure"] = f"ended after {seconds:.0f} s" if late else end or f"exit status {process.exitcode}"
    return found


def run(options: Options, minutes: float, only: list[str]) -> dict[str, Any]:
    """Run all parts that there is time for."""
    deadline = time.perf_counter() + 60 * minutes
    options.out.mkdir(parents=True, exist_ok=True)
    folder = options.out / "parts"
    folder.mkdir(exist_ok=True)
    report: dict[str, Any] = {"minutes": minutes, "rehearsal": options.rehearse, "parts": {}}
    for part in PARTS:
        left = deadline - time.perf_counter()
        if only and part.name not in only:
            continue
        if left < min(10, part.seconds):
            report["parts"][part.name] = {"failure": "no time was left"}
        else:
            report["parts"][part.name] = run_part(part, options, folder, min(part.seconds, left))
        write(options.out / "gpu.json", report)
        for line in lines_of(part, report["parts"][part.name]):
            print(line, flush=True)
    return report


def lines_of(part: Part, found: Mapping[str, Any]) -> list[str]:
    """Return what the table has of a part."""
    head = f"({part.letter}) {part.name}, {found.get('seconds_taken', 0):.0f} s"
    try:
        lines = [] if set(found) <= {"failure", "seconds_taken"} else part.summarise(found)
    except (KeyError, TypeError, ValueError, IndexError) as error:  # of a part that was cut short
        lines = [f"nothing to show ({type(error).__name__}: {error})"]
    if "failure" in found:
        lines.append("FAILED: " + found["failure"].strip().splitlines()[-1][:150])
    return [head, *(f"    {line}" for line in lines)]


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON; a process that is killed meanwhile leaves what was there."""
    aside = path.with_suffix(".part")
    aside.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    aside.replace(path)


def _context() -> Any:
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(PRELOADED)
    return context
