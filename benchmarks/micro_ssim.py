"""MicroSSIM (Ashesh, Deschamps and Jug 2024, arXiv 2408.08747), by the package `microssim` of its authors.

The backgrounds (the percentile 3) of both images are subtracted, and both are divided by the largest value of the
truth. The structural similarity is then computed with one factor for the result, which makes it largest. A result with
other units or less contrast is therefore not punished for these.
"""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from importlib.util import find_spec

import numpy as np


def micro_ssim(truth: np.ndarray, found: np.ndarray) -> float | None:
    """Give the mean of the planes, with one background and one factor for all; None without the package.

    Parameters
    ----------
    truth, found
        (planes, rows, columns), float64.
    """
    if find_spec("microssim") is None:
        return None
    from microssim import MicroSSIM

    measure = MicroSSIM()
    # Its bar of progress.
    with redirect_stderr(io.StringIO()):
        measure.fit(truth, found)
    return float(np.mean([measure.score(*pair) for pair in zip(truth, found, strict=True)]))
