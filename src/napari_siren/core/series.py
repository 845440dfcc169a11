"""`fit_series`: a field for each frame of a time series, and for each channel if wanted; `fit_burst`: one for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_siren.core.config import FitConfig
from napari_siren.core.fit import fit
from napari_siren.core.image.axes import check_axes, guess_series_axes, spacing_in_space
from napari_siren.core.image.frames import take_frames
from napari_siren.core.image.samples import check_array
from napari_siren.core.progress import Progress
from napari_siren.core.result import FitResult
from napari_siren.core.warm_start import beginning
from napari_siren.errors import InputError

Channels = Literal["together", "each"]


@dataclass(frozen=True)
class SeriesResult:
    """What `fit_series` gives back: a field for each frame and each group of channels.

    Parameters
    ----------
    axes
        Of the series, and of what is rendered.
    parts
        For each frame, and in it for each channel that was fitted alone, the result. Without T there is one frame.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> frames = np.random.default_rng(0).integers(0, 255, (2, 24, 32), dtype=np.uint8)
    >>> series = ns.fit_series(frames, axes="TYX", max_steps=20)
    >>> series.reconstruction.shape, series.render(scale=2).shape, len(series.metrics)
    ((2, 24, 32), (2, 48, 64), 2)
    """

    axes: str
    parts: tuple[tuple[FitResult, ...], ...]

    @property
    def metrics(self) -> tuple[Any, ...]:
        """Metrics of each part, frame after frame."""
        return tuple(part.metrics for frame in self.parts for part in frame)

    @property
    def reconstruction(self) -> npt.NDArray[Any]:
        """The series' own shape and dtype."""
        return self._gathered(lambda part: part.reconstruction)

    @property
    def error(self) -> npt.NDArray[np.float32]:
        """Reconstruction - series, in the series' units, float32."""
        return self._gathered(lambda part: part.error)

    def render(self, **options: Any) -> npt.NDArray[Any]:
        """Render each part, and put them together.

        Parameters
        ----------
        **options
            As of `FitResult.render`, but for `out`: scale, shape, spacing, region, derivative, dtype.

        Returns
        -------
        ndarray
            In the series' order of axes.

        Raises
        ------
        SirenError
            As `FitResult.render` does.
        """
        return self._gathered(lambda part: part.render(**options))

    def _gathered(self, of: Callable[[FitResult], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        one = self.parts[0]
        letters = self.axes.replace("T", "")
        alone = len(one) > 1 or ("C" in letters and one[0].field.format.channel_axis is None)
        frames = [np.stack([of(p) for p in f], axis=letters.index("C")) if alone else of(f[0]) for f in self.parts]
        return np.stack(frames, axis=self.axes.index("T")) if "T" in self.axes else frames[0]


def fit_series(
    image: npt.ArrayLike,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    preset: str = "faithful",
    config: FitConfig | None = None,
    missing: npt.ArrayLike | None = None,
    channels: Channels = "together",
    warm_start: bool = True,
    on_progress: Callable[[int, int, Progress], object] | None = None,
    **options: Any,
) -> SeriesResult:
    """Fit a field to each frame of a time series, and, if wanted, to each channel alone.

    Parameters
    ----------
    image
        Array with an axis T, or C, or both, beside 1 to 3 of space.
    axes
        One letter for each axis, in any order; None takes the first for T, and guesses the others.
    spacing
        Distance between pixel centres, one number or one for each axis in space (a number for T is not needed).
    preset, config
        As in `fit`.
    missing
        bool: True where a pixel is missing; of the shape of the series, or as `fit` takes it, the same for all frames.
    channels
        "together", one field with many outputs for the channels of a frame, which is faster, and better where they show
        alike structures; "each", a field for each: what one channel shows is then nowhere in another.
    warm_start
        Whether a frame starts from the fit of the one before it: with what was learned of that one ("upscale",
        "denoise"), in a third of the steps; and with its tiles, where the two are alike (correlate by 0.9 or more).
    on_progress
        Called with the number of the part, that of all parts, and a `Progress`, after each step; return ``"stop"`` to
        end the fit of that part. `napari_siren.fit_batch` goes on with a series that was interrupted, frame by frame.
    **options
        Any other argument of `fit`, but `start` and `resume`.

    Returns
    -------
    SeriesResult
        Results, and arrays like the series.

    Raises
    ------
    InputError
        There is neither T nor C, or the images cannot be used.
    SirenError
        As `fit` does.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> image = np.random.default_rng(0).integers(0, 255, (2, 24, 32), dtype=np.uint8)
    >>> series = ns.fit_series(image, axes="CYX", channels="each", max_steps=20)
    >>> [part.field.format.axes for part in series.parts[0]]
    ['YX', 'YX']
    """
    if channels not in ("together", "each"):
        raise InputError(f'channels={channels!r}: it is "together" or "each".')
    if refused := {"start", "resume"} & options.keys():
        raise InputError(f"{refused.pop()} is about a single fit; the frames of a series start from one another.")
    pictures, inner, names = _pictures(image, axes, channels)
    holes = _holes(missing, names, channels, pictures)
    given = {name: options.pop(name) for name in list(options) if name in FitConfig.model_fields}
    settings = FitConfig.preset(preset, **given) if config is None else config.override(**given)
    count, parts = sum(map(len, pictures)), list[tuple[FitResult, ...]]()
    in_space = spacing_in_space(spacing, names)
    for frame, gaps in zip(pictures, holes, strict=True):
        found: list[FitResult] = []
        for number, (picture, gap) in enumerate(zip(frame, gaps, strict=True)):
            chosen, start = beginning(picture, settings, parts[-1][number] if parts and warm_start else None)
            place = sum(map(len, parts)) + number
            tell = None if on_progress is None else _teller(on_progress, place, count)
            found.append(fit(picture, inner, in_space, gap, config=chosen, start=start, on_progress=tell, **options))
        parts.append(tuple(found))
    return SeriesResult(names, tuple(parts))


def fit_burst(
    frames: npt.ArrayLike, axes: str | None = None, spacing: float | Sequence[float] | None = None, **options: Any
) -> FitResult:
    """Fit one field to several frames of a scene, each shifted by an unknown part of a pixel: burst super-resolution.

    Scene and shifts are found together. A render at twice the resolution has detail that none of the frames has.

    Parameters
    ----------
    frames
        Array with an axis T, of frames of the same scene: a photo burst, or a time-lapse that drifts.
    axes
        One letter for each axis; None takes the first for T, and guesses the others.
    spacing
        Distance between pixel centres in space.
    **options
        Any other argument of `fit`; "burst" is the preset.

    Returns
    -------
    FitResult
        Of the scene as the first frame sees it. Its `provenance` has "drifts", for each frame in pixels along each axis
        in space: pixel k of the frame sees what lies at k + drift in the first; and "disagreement", how much more than
        the median frame each frame differs from the scene.

    Raises
    ------
    InputError
        There is one frame only, pixels are missing, or the frames cannot be used.
    SirenError
        As `fit` does.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> scene = np.random.default_rng(0).normal(size=(40, 40)).cumsum(0).cumsum(1)
    >>> frames = [scene[y : y + 32, x : x + 32].reshape(16, 2, 16, 2).mean((1, 3)) for y, x in ((0, 0), (1, 0), (1, 3))]
    >>> result = ns.fit_burst(np.stack(frames), burst_steps=20, max_steps=20)
    >>> result.render(scale=2).shape, np.shape(result.provenance["drifts"])
    ((32, 32), (3, 2))
    """
    axes = guess_series_axes(np.shape(frames)) if axes is None else axes
    return fit(frames, axes, spacing, **{"preset": "burst", **options})


def _pictures(
    image: npt.ArrayLike, axes: str | None, channels: Channels
) -> tuple[list[list[npt.NDArray[Any]]], str, str]:
    """Return what is fitted, frame by frame and part by part; the axes of each part, and those of the series."""
    array = check_array(image)
    names = guess_series_axes(array.shape) if axes is None else check_axes(axes, array.shape)
    if not {"T", "C"} & set(names):
        raise InputError(f"axes={axes!r} has neither frames, T, nor channels, C; fit takes a single image.")
    frames, letters = take_frames(array, names) if "T" in names else (array[np.newaxis], names)
    if channels == "together":
        return [[frame] for frame in frames], letters, names
    if "C" not in letters:
        raise InputError(f'channels="each": the axes {letters} of a frame have no C.')
    parts = [list(np.moveaxis(frame, letters.index("C"), 0)) for frame in frames]
    return parts, letters.replace("C", ""), names


def _holes(
    missing: npt.ArrayLike | None, names: str, channels: Channels, pictures: list[list[npt.NDArray[Any]]]
) -> list[list[npt.NDArray[Any] | None]]:
    """Return what is missing of each part: its own, where it is told for the whole series."""
    mask = None if missing is None else np.asarray(missing)
    if mask is None or mask.ndim != len(names):
        return [[mask] * len(frame) for frame in pictures]
    return [list(frame) for frame in _pictures(mask, names, channels)[0]]


def _teller(tell: Callable[[int, int, Progress], object], place: int, count: int) -> Callable[[Progress], object]:
    return lambda progress: tell(place, count, progress)
