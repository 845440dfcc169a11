"""`Estimate`: the expected time and memory of a fit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """The expected time and memory of a fit.

    Parameters
    ----------
    seconds
        Seconds of the whole fit: all steps, and the work before and after them. None if it is not known.
    memory
        Working set in bytes.
    tiles, parameters
        Number of tiles, and total number of parameters of their networks. Without tiles: 0, and the number of restored
        samples.
    engine
        Name of the engine, such as "native" or "torch".
    device
        Description of the device, such as ``"cpu (8 threads)"``.
    fits
        Whether `memory` is within the bound of the settings, which may depend on the free memory of the device.
    seconds_per_step
        Seconds of a step. None if they are not known.
    """

    seconds: float | None
    memory: int
    tiles: int
    parameters: int
    engine: str
    device: str
    fits: bool
    seconds_per_step: float | None
