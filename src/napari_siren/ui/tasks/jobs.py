"""`Job`: a fit to do. `Origin`: the fit that a result is from. No Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_siren.ui.tasks.fit import FitRequest


@dataclass(frozen=True, eq=False)
class Job:
    """A fit to do.

    Parameters
    ----------
    request
        The pixels and the settings.
    source
        The layer of the pixels.
    code
        Python code that repeats the fit; empty if there is none.
    """

    request: FitRequest
    source: Any
    code: str = ""


@dataclass(frozen=True, eq=False)
class Origin:
    """The origin of a result of this session.

    Parameters
    ----------
    job
        The fit.
    finished
        Time of its end, by `time.monotonic`.
    """

    job: Job
    finished: float
