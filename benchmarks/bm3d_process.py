"""BM3D of one image in a process of its own: `PYTHON bm3d_process.py IMAGE RESULT SIGMA`.

PYTHON has the package `bm3d`. It is for non-commercial use only, so it is not among the requirements of this project.
This file uses nothing else of the project. It prints the seconds of the filter, and those of the processor.
"""

from __future__ import annotations

import sys
import time

import numpy as np


def main(image: str, result: str, sigma: str) -> None:
    """Read an array (rows, columns) with white noise of a known standard deviation, and write the result."""
    import bm3d

    values = np.load(image)
    begin, used = time.perf_counter(), time.process_time()
    filtered = bm3d.bm3d(values, float(sigma))
    print(time.perf_counter() - begin, time.process_time() - used)
    np.save(result, filtered)


if __name__ == "__main__":
    main(*sys.argv[1:])
