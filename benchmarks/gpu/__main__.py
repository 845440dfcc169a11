"""All that a machine with a GPU can tell, in one command.

    python -m benchmarks.gpu [--out DIR] [--minutes 8] [--data FOLDER] [--device cuda] [--only NAME ...] [--rehearse]

The parts go in order of importance, each in a process of its own with a limit, so that none can stop the others. The
report, DIR/gpu.json, is written anew after each part; a table of at most 40 lines comes last. It needs PyTorch, Triton,
NumPy, SciPy, scikit-image, tifffile, imageio, safetensors, matplotlib, pytest and, in pure Python, pydantic, rich,
psutil and platformdirs. `--rehearse` goes through it on a CPU, in tiny sizes whose figures mean nothing, for which
TRITON_INTERPRET=1 has to be set.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from benchmarks import machine
from benchmarks.gpu.parts import PARTS, Options
from benchmarks.gpu.runner import lines_of, run

MOST_LINES = 40


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/gpu"))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--data", type=Path, default=machine.DATA, help="folder with kodak/, sr/ and large/")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help=", ".join(part.name for part in PARTS))
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on the CPU, to try it out")
    given = parser.parse_args(arguments)
    if given.rehearse and os.environ.get("TRITON_INTERPRET") != "1":
        raise SystemExit("a rehearsal needs TRITON_INTERPRET=1 in the environment")
    device = "cpu" if given.rehearse else given.device
    report = run(Options(device, given.data, given.out, given.rehearse), given.minutes, given.only)
    lines = [line for part in PARTS if (found := report["parts"].get(part.name)) for line in lines_of(part, found)]
    print("\n".join(["", "=" * 100, *lines[: MOST_LINES - 3], f"written to {given.out / 'gpu.json'}"]))


if __name__ == "__main__":
    main()
