"""The entries of a series, its frames or channels, and their fits one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_siren.core.fit import check_seed, choose_settings, fit_iter
from napari_siren.core.image.axes import Axes, check_axes, guess_series_axes, spacing_in_space
from napari_siren.core.image.frames import take_frames
from napari_siren.core.image.samples import check_array
from napari_siren.core.options import FitOptions, FitSettings
from napari_siren.core.progress import Progress
from napari_siren.core.result import FitResult
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.steps import FitSteps, run_steps
from napari_siren.core.training.plan import check_size
from napari_siren.core.warm_start import plan_warm_start
from napari_siren.errors import InputError

Channels = Literal["together", "each"]

# Remedy for a series whose result is larger than the memory.
_SMALLER = (
    "Choose a lower resolution or fewer frames, or use a batch with each frame by itself (fit_batch, "
    "napari-siren batch --frames each), which has only one frame in memory."
)

# Arguments of `fit` that are no settings; of these, those that fits one by one cannot have, and those that they share.
_NO_SETTINGS = FitOptions.__optional_keys__ - FitSettings.__optional_keys__
_OF_ONE_FIT = ("start", "resume", "supervision", "axes_as_coordinates")
_SHARED = ("device", "seed", "progress", "on_progress")


def settings_of(options: FitOptions) -> FitConfig:
    """Return the settings among the arguments of `fit`. The errors are those of `choose_settings`."""
    overrides: Any = {name: value for name, value in options.items() if name not in _NO_SETTINGS}
    return choose_settings(options.get("preset"), options.get("config"), overrides)


def shared_arguments(options: FitOptions) -> FitOptions:
    """Return those arguments of `fit` that are no settings, and are the same for all fits of a series.

    Raises
    ------
    InputError
        An argument applies to a single fit.
    """
    check_no_single_fit(options)
    shared: Any = {name: value for name, value in options.items() if name in _SHARED}
    return shared  # type: ignore[no-any-return]


def check_no_single_fit(options: Mapping[str, object]) -> None:
    """Raise an InputError if one of the arguments applies to a single fit."""
    if invalid := [name for name in _OF_ONE_FIT if options.get(name) is not None]:
        raise InputError(f"{invalid[0]} applies to a single fit, not to a series of fits. Leave it out.")


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
    on_progress = same.get("on_progress")
    fits = iter_entries(entries, settings, same, warm_start=warm_start, alone=alone)
    for index, steps in enumerate(fits):
        report = None if on_progress is None else _counted(on_progress, index, count)
        yield run_steps(steps, same.get("progress", False), report)


def iter_entries(
    entries: Iterable[Mapping[str, Any]],
    settings: FitConfig,
    same: FitOptions,
    *,
    warm_start: bool = True,
    alone: int = 1,
) -> Iterator[FitSteps]:
    """Yield the fit of each entry of a series. Run it to its end before the next one is asked for.

    The parameters are those of `fit_entries`.
    """
    seed, device = check_seed(same.get("seed", 0)), same.get("device", "auto")
    earlier = deque[FitResult](maxlen=alone)
    for entry in entries:
        previous = earlier[0] if warm_start and len(earlier) == alone else None
        config, start = plan_warm_start(entry["image"], settings, previous)
        steps = fit_iter(**entry, config=config, start=start, seed=seed, device=device)
        yield steps
        earlier.append(steps.result)


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


def _counted(report: Callable[[Progress], object], index: int, count: int) -> Callable[[Progress], object]:
    return lambda progress: report(replace(progress, entry=index, entries=count))
