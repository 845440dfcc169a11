"""`fit_series`: a field for each frame or channel of a series; `fit_burst`: one field for all frames of a scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from napari_siren.core.fit import choose_settings, fit
from napari_siren.core.image.axes import Axes, guess_series_axes
from napari_siren.core.options import FitOptions, FitSettings
from napari_siren.core.progress import Progress
from napari_siren.core.result import FitResult
from napari_siren.core.series.entries import Channels, check_no_single_fit, fit_entries, split_series
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.settings.presets import PresetName
from napari_siren.errors import InputError


@dataclass(frozen=True)
class SeriesResult:
    """The result of `fit_series`: a field for each frame and each group of channels.

    Parameters
    ----------
    axes
        Axes of the series, and of its renders.
    parts
        Results of each frame; within a frame, of each channel that was fitted alone. Without T there is one frame.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> frames = np.random.default_rng(0).integers(0, 255, (2, 24, 32), dtype=np.uint8)
    >>> series = ns.fit_series(frames, axes="TYX", max_steps=20)
    >>> series.reconstruction.shape, series.render(scale=2).shape, len(series.metrics)
    ((2, 24, 32), (2, 48, 64), 2)
    """

    axes: Axes
    parts: tuple[tuple[FitResult, ...], ...]

    def __repr__(self) -> str:
        """Return a summary in one line."""
        layout = self.parts[0][0].field.layout
        psnrs = [metrics.psnr for metrics in self.metrics]
        return (
            f"SeriesResult({self.axes}, {len(psnrs)} x {layout.dtype} {layout.axes} {layout.shape}, "
            f"PSNR {min(psnrs):.2f} to {max(psnrs):.2f} dB)"
        )

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return the reconstruction as an array: ``np.asarray(series)``."""
        # NumPy 1 has no `copy=None`.
        array: npt.NDArray[Any] = np.asarray(self.reconstruction, dtype=dtype)
        return array.copy() if copy else array

    def _repr_html_(self) -> str:
        """Return pictures and figures of some parts for a notebook."""
        # As in `FitResult._repr_html_`.
        page: str = import_module("napari_siren.reporting.notebook").series_html(self)
        return page

    @property
    def metrics(self) -> tuple[Any, ...]:
        """Metrics of each part, frame by frame."""
        return tuple(part.metrics for frame in self.parts for part in frame)

    @property
    def reconstruction(self) -> npt.NDArray[Any]:
        """Reconstructed series, with the shape and dtype of the series."""
        return self._combine(lambda part: part.reconstruction)

    @property
    def error(self) -> npt.NDArray[np.float32]:
        """Signed error, reconstruction - series, float32, in the series' units."""
        return self._combine(lambda part: part.error)

    def render(self, **options: Any) -> npt.NDArray[Any]:
        """Render each part, and combine them to a series.

        Parameters
        ----------
        **options
            Arguments of `FitResult.render` except `out`: scale, shape, spacing, region, derivative, dtype.

        Returns
        -------
        ndarray
            Rendered values, in the series' order of axes.

        Raises
        ------
        SirenError
            The errors of `FitResult.render`.
        """
        return self._combine(lambda part: part.render(**options))

    def _combine(self, array: Callable[[FitResult], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        channel, time = self.axes.without("T").channel, self.axes.time
        if channel is not None and self.parts[0][0].field.layout.channel_axis is None:
            # Each channel was fitted alone.
            frames = [np.stack([array(part) for part in frame], axis=channel) for frame in self.parts]
        else:
            frames = [array(frame[0]) for frame in self.parts]
        return frames[0] if time is None else np.stack(frames, axis=time)


def fit_series(
    image: npt.ArrayLike,
    *,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    missing: npt.ArrayLike | None = None,
    preset: PresetName | None = None,
    config: FitConfig | None = None,
    device: str = "auto",
    seed: int | None = 0,
    progress: bool = False,
    on_progress: Callable[[int, int, Progress], object] | None = None,
    channels: Channels = "together",
    warm_start: bool = True,
    **overrides: Unpack[FitSettings],
) -> SeriesResult:
    """Fit a field to each frame of a time series, and optionally to each channel alone.

    Parameters
    ----------
    image
        Array with an axis T, or C, or both, beside 1 to 3 spatial axes.
    axes
        One letter for each axis, in any order; None takes the first axis as T, and guesses the others.
    spacing
        Distance between pixel centres: a number, or one for each spatial axis (a number for T is not needed).
    missing
        Boolean mask, True for missing pixels: of the shape of the series, or as in `fit`, the same for all frames.
    preset, config, device, seed, progress
        The same as in `fit`.
    on_progress
        Function to call after each step, with the index of the part, the number of parts, and a `Progress`. It returns
        ``"stop"`` to end the fit of that part. `napari_siren.fit_batch` can continue an interrupted series, frame by
        frame.
    channels
        "together" fits one field with many outputs to the channels of a frame. This is faster, and better if the
        channels show similar structures. "each" fits a field to each channel. Structures of one channel then never
        appear in another.
    warm_start
        Whether a frame starts from the fit of the frame before. It reuses the network that was trained on that frame
        ("upscale", "denoise"), with a third of the steps. It also reuses the tiles if the two frames are similar
        (correlation of 0.9 or more).
    **overrides
        Values of any fields of `FitConfig`.

    Returns
    -------
    SeriesResult
        Results of all parts, and their arrays in the shape of the series.

    Raises
    ------
    InputError
        The axes have neither T nor C, or the images cannot be used.
    SirenError
        The errors of `fit`.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> image = np.random.default_rng(0).integers(0, 255, (2, 24, 32), dtype=np.uint8)
    >>> series = ns.fit_series(image, axes="CYX", channels="each", max_steps=20)
    >>> [part.field.layout.axes for part in series.parts[0]]
    ['YX', 'YX']
    """
    if channels not in ("together", "each"):
        raise InputError(f'channels={channels!r} is unknown. Use "together" or "each".')
    check_no_single_fit(overrides)
    settings = choose_settings(preset, config, overrides)
    entries, alone, names = split_series(image, axes, spacing, missing, channels)
    report = None if on_progress is None else _with_index(on_progress)
    same: FitOptions = {"device": device, "seed": seed, "progress": progress, "on_progress": report}
    results = fit_entries(entries, len(entries), settings, same, warm_start=warm_start, alone=alone)
    return SeriesResult(names, tuple(zip(*[results] * alone, strict=True)))


def fit_burst(
    frames: npt.ArrayLike,
    *,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    **options: Unpack[FitOptions],
) -> FitResult:
    """Fit one field to several frames of a scene with unknown subpixel shifts: burst super-resolution.

    The scene and the shifts are estimated together. A render at twice the resolution has detail that no single frame
    has.

    Parameters
    ----------
    frames
        Array with an axis T, of frames of the same scene: a photo burst, or a time-lapse that drifts.
    axes
        One letter for each axis; None takes the first axis as T, and guesses the others.
    spacing
        Distance between pixel centres, along the spatial axes.
    **options
        Any other argument of `fit`; the default preset is "burst".

    Returns
    -------
    FitResult
        Result for the scene as the first frame sees it. Its `provenance` has "drifts": the drift of each frame, in
        pixels along each spatial axis. Pixel k of the frame sees the position k + drift of the first frame. The
        provenance also has "disagreement": the difference of each frame from the scene, relative to that of the median
        frame.

    Raises
    ------
    InputError
        There is only one frame, pixels are missing, or the frames cannot be used.
    SirenError
        The errors of `fit`.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> scene = np.random.default_rng(0).normal(size=(40, 40)).cumsum(0).cumsum(1)
    >>> frames = [scene[y : y + 32, x : x + 32].reshape(16, 2, 16, 2).mean((1, 3)) for y, x in ((0, 0), (1, 0), (1, 3))]
    >>> result = ns.fit_burst(np.stack(frames), task_steps=20, max_steps=20)
    >>> result.render(scale=2).shape, np.shape(result.provenance["drifts"])
    ((32, 32), (3, 2))
    """
    axes = guess_series_axes(np.shape(frames)) if axes is None else axes
    if options.get("config") is None:
        options = {"preset": "burst", **options}
    return fit(frames, axes=axes, spacing=spacing, **options)


def _with_index(report: Callable[[int, int, Progress], object]) -> Callable[[Progress], object]:
    return lambda progress: report(progress.entry, progress.entries, progress)
