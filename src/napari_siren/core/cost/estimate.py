"""`estimate`: the expected time and memory of a fit, before it starts."""

from __future__ import annotations

from collections.abc import Sequence

from napari_siren.core.cost.base import Estimate
from napari_siren.core.cost.restoration import estimate_restoration, probe_for
from napari_siren.core.cost.tiles import EVALUATION_EVERY, TileJob, estimate_tiles
from napari_siren.core.result import FitResult
from napari_siren.core.settings.config import FitConfig


def estimate(
    spatial_shape: Sequence[int],
    channels: int,
    config: FitConfig,
    device: str = "auto",
    trial: bool = True,
    spacing: Sequence[float] | None = None,
) -> Estimate:
    """Estimate the time and the memory of a fit.

    The time is scaled from a trial: a fit of a few steps, with the same networks, to a small synthetic image. It takes
    about half a second. The results of trials are kept as long as the process runs. Other programs that run during a
    trial make it slower. The function may be called from any thread. Only one trial runs at a time.

    Parameters
    ----------
    spatial_shape, channels
        Number of pixels along each of the 1 to 3 spatial axes, and number of channels of the image.
    config
        Settings of the fit.
    device
        Device of the fit, as in `fit`.
    trial
        Whether to run a trial if there is no result of one. With False the time may be None, and the function returns
        immediately (except for the compilation of the kernel, the first time on a machine).
    spacing
        Distance between pixel centres along each spatial axis. Super-resolution of stacks depends on it. None is 1.

    Raises
    ------
    InputError
        An image cannot have this size.
    DeviceError
        The device does not exist.
    ConfigError
        The engine of the settings is not available.

    Examples
    --------
    >>> from napari_siren import FitConfig
    >>> expected = estimate((512, 768), 3, FitConfig.preset("faithful"), device="cpu", trial=False)
    >>> expected.tiles, expected.parameters
    (486, 1121202)
    """
    probe = probe_for(spatial_shape, channels, config, spacing)
    if probe is None:
        return estimate_tiles(spatial_shape, channels, config, device, trial)
    return estimate_restoration(probe, spatial_shape, channels, config, device, trial)


def record_timing(result: FitResult, device: str = "auto") -> None:
    """Correct later estimates of similar fits by the measured time of a finished fit.

    Nothing happens if there was no estimate for such a fit, or if the fit had too few steps.

    Parameters
    ----------
    result
        Result of a fit in this process.
    device
        Device that was passed to `fit`.
    """
    seconds = result.history.seconds
    job = TileJob.from_config(result.field.layout.spatial_shape, result.field.layout.channels, result.config, device)
    # The steps of a restoration are of several kinds.
    if result.config.restoration is None and len(seconds) > EVALUATION_EVERY:
        job.record((seconds[-1] - seconds[0]) / (len(seconds) - 1))
