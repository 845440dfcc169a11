"""`fit_series`: a field for each frame or channel of a series; `fit_burst`: one field for all frames of a scene."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Unpack

import numpy as np
import numpy.typing as npt

from napari_siren.core.config import FitConfig
from napari_siren.core.fit import check_seed, choose_settings, fit
from napari_siren.core.image.axes import Axes, check_axes, guess_series_axes, spacing_in_space
from napari_siren.core.image.frames import take_frames
from napari_siren.core.image.samples import check_array
from napari_siren.core.options import FitOptions, FitSettings, copy_options
from napari_siren.core.presets import PresetName
from napari_siren.core.progress import Progress
from napari_siren.core.result import FitResult
from napari_siren.core.training.plan import check_size
from napari_siren.core.warm_start import plan_warm_start
from napari_siren.errors import InputError

Channels = Literal["together", "each"]

OF_ONE_FIT = {"start", "resume", "supervision", "axes_as_coordinates"}
"""Arguments of `fit` that a series cannot have."""


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


# Remedy for a series whose result is larger than the memory.
_SMALLER = (
    "Choose a lower resolution or fewer frames, or use a batch with each frame by itself (fit_batch, "
    "napari-siren batch --frames each), which has only one frame in memory."
)


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
    if invalid := OF_ONE_FIT & overrides.keys():
        raise InputError(f"{invalid.pop()} applies to a single fit, not to a series. Leave it out.")
    settings = choose_settings(preset, config, overrides)
    entries, alone, names = split_series(image, axes, spacing, missing, channels)
    report = None if on_progress is None else _with_index(on_progress)
    same: FitOptions = {"device": device, "seed": seed, "progress": progress, "on_progress": report}
    results = fit_entries(entries, len(entries), settings, same, warm_start=warm_start, alone=alone)
    return SeriesResult(names, tuple(zip(*[results] * alone, strict=True)))


def split_series(
    image: npt.ArrayLike,
    axes: str | None,
    spacing: float | Sequence[float] | None,
    missing: npt.ArrayLike | None,
    channels: Channels = "together",
) -> tuple[list[dict[str, Any]], int, Axes]:
    """Return the arguments of the fit of each entry of a series, without copying pixels.

    The parameters and errors are those of `fit_series`.

    Returns
    -------
    entries : list of dict
        Arguments of `fit`: image, axes, spacing and missing, frame by frame.
    alone : int
        Number of entries for each frame.
    axes : Axes
        Axes of the series.
    """
    if isinstance(image, np.ma.MaskedArray):
        missing, image = _joined_mask(image, missing), np.ma.getdata(image)
    pictures, inner, names = _pictures(image, axes, channels)
    masks, in_space = _masks(missing, names, channels, pictures), spacing_in_space(spacing, names)
    entries = [
        {"image": picture, "axes": inner, "spacing": in_space, "missing": mask}
        for frame, frame_masks in zip(pictures, masks, strict=True)
        for picture, mask in zip(frame, frame_masks, strict=True)
    ]
    return entries, len(pictures[0]), names


def fit_entries(
    entries: Iterable[Mapping[str, Any]],
    count: int,
    settings: FitConfig,
    same: FitOptions,
    *,
    warm_start: bool = True,
    alone: int = 1,
) -> Iterator[FitResult]:
    """Fit the entries of a series one by one, each when its result is asked for.

    Parameters
    ----------
    entries
        Arguments of `fit` for the image of each entry, of one shape: image, axes, spacing and others.
    count
        Number of entries.
    settings
        Settings of a fit that does not start from another one.
    same
        Other arguments of `fit`, the same for all entries: device, seed, progress and on_progress. If ``on_progress``
        returns ``"stop"``, the fit of the entry ends, but not the series.
    warm_start
        Whether a fit starts from an earlier one; see `fit_series`.
    alone
        Number of channels that are fitted alone. A fit starts from the one that is so many entries before.

    Yields
    ------
    FitResult
        Result of each entry. Only as many of them are kept here as later fits start from.
    """
    seed, on_progress = check_seed(same.get("seed", 0)), same.get("on_progress")
    earlier = deque[FitResult](maxlen=alone)
    for index, entry in enumerate(entries):
        previous = earlier[0] if warm_start and len(earlier) == alone else None
        config, start = plan_warm_start(entry["image"], settings, previous)
        report = None if on_progress is None else _counted(on_progress, index, count)
        own: dict[str, Any] = {"config": config, "start": start, "seed": seed, "on_progress": report}
        result = fit(**copy_options(same, **entry, **own))
        earlier.append(result)
        yield result


def stack_frames(frames: Iterable[npt.NDArray[Any]], count: int, axis: int) -> npt.NDArray[Any]:
    """Combine frames along an axis. They are copied one by one, so that two copies of all frames never exist.

    Parameters
    ----------
    frames
        Arrays of one shape and dtype, at least one.
    count
        Number of frames. If there are fewer, the result has fewer.
    axis
        Position of the new axis.
    """
    done, stack = 0, np.empty(0)
    for done, frame in enumerate(frames, start=1):
        if done == 1:
            stack = np.empty((count, *frame.shape), frame.dtype)
        stack[done - 1] = frame
    return np.moveaxis(stack[:done], 0, axis)


def check_series_size(count: int, shape: Sequence[int], bytes_per_pixel: float) -> None:
    """Compare a series of renders with the free memory, before the first fit.

    Parameters
    ----------
    count
        Number of frames.
    shape, bytes_per_pixel
        Shape of the render of a frame, and bytes of one of its pixels, as in `check_size`.

    Raises
    ------
    InputError
        The free memory is too small.
    """
    check_size((count, *shape), bytes_per_pixel, _SMALLER)


def is_one_by_one(axes: str | None, shape: Sequence[int], settings: FitConfig) -> bool:
    """Return whether the settings leave no other use for the time axis of an image than to fit its frames one by one.

    Bursts are joined. Films of planes are denoised as a whole.

    Parameters
    ----------
    axes, shape
        Axes of the image, and its shape.
    settings
        Settings of the fits.

    Examples
    --------
    >>> from napari_siren import FitConfig
    >>> denoise = FitConfig.preset("denoise")
    >>> is_one_by_one("TZYX", (5, 8, 64, 64), denoise), is_one_by_one("TYX", (5, 64, 64), denoise)
    (True, False)
    """
    letters = Axes("" if axes is None else axes.upper())
    if letters.time is None or len(letters) != len(shape) or shape[letters.time] == 1 or settings.joins_frames:
        return False
    task = settings.restoration
    film = sorted(letters.coordinates) == sorted("TYX")
    return not (film and task is not None and task.along_time)


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


def _pictures(
    image: npt.ArrayLike, axes: str | None, channels: Channels
) -> tuple[list[list[npt.NDArray[Any]]], Axes, Axes]:
    """Return the images to fit, frame by frame and part by part, the axes of each part, and those of the series."""
    array = check_array(image)
    names = guess_series_axes(array.shape) if axes is None else check_axes(axes, array.shape)
    if names.time is None and names.channel is None:
        raise InputError(f"axes={axes!r} has neither frames (T) nor channels (C). Use fit for a single image.")
    frames, letters = (array[np.newaxis], names) if names.time is None else take_frames(array, names)
    if channels == "together":
        return [[frame] for frame in frames], letters, names
    if letters.channel is None:
        raise InputError(f'channels="each": the axes {letters} of a frame have no C. Use channels="together".')
    parts = [list(letters.to_channels_first(frame)) for frame in frames]
    return parts, letters.coordinates, names


def _masks(
    missing: npt.ArrayLike | None, names: str, channels: Channels, pictures: list[list[npt.NDArray[Any]]]
) -> list[list[npt.NDArray[Any] | None]]:
    """Return the mask of missing pixels of each part; a mask of the whole series is split into parts."""
    mask = None if missing is None else np.asarray(missing)
    if mask is None or mask.ndim != len(names):
        return [[mask] * len(frame) for frame in pictures]
    return [list(frame) for frame in _pictures(mask, names, channels)[0]]


def _joined_mask(image: np.ma.MaskedArray[Any, Any], missing: npt.ArrayLike | None) -> npt.NDArray[np.bool_]:
    """Return the mask of a masked array together with other missing pixels of the same shape."""
    mask = np.ma.getmaskarray(image)
    if missing is not None and np.shape(missing) != mask.shape:
        raise InputError(f"the image is a masked array, and missing has shape {np.shape(missing)}. Use {mask.shape}.")
    return mask if missing is None else np.logical_or(mask, missing)


def _with_index(report: Callable[[int, int, Progress], object]) -> Callable[[Progress], object]:
    return lambda progress: report(progress.entry, progress.entries, progress)


def _counted(report: Callable[[Progress], object], index: int, count: int) -> Callable[[Progress], object]:
    return lambda progress: report(replace(progress, entry=index, entries=count))
