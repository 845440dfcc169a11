"""`fit_iter`: a generator that yields `Progress`; `fit`: the same, run to its end."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_siren.core.config import FitConfig, detail_for
from napari_siren.core.device import describe_device
from napari_siren.core.engines import choose_device, verdict_on
from napari_siren.core.field.tiling import RenderGrid
from napari_siren.core.image.axes import spacing_in_space
from napari_siren.core.image.blur import with_known_blur
from napari_siren.core.image.frames import burst_values, take_frames
from napari_siren.core.image.metrics import measure
from napari_siren.core.image.samples import Samples
from napari_siren.core.preprocessing.gradients import Preparation, preparation
from napari_siren.core.progress import Progress
from napari_siren.core.restoration.base import Lesson
from napari_siren.core.restoration.pipeline import Upscaling
from napari_siren.core.result import FitResult, load, make_provenance
from napari_siren.core.steps import STOP, FitSteps
from napari_siren.core.training.trainer import Run, State
from napari_siren.errors import ConfigError, InputError

# Said of a fit whose settings ask for more than its image can teach.
_NOTHING_LEARNED = "nothing could be learned from this image, which was fitted by tiles alone (see `FitConfig`)"


def fit_iter(
    image: npt.ArrayLike,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    missing: npt.ArrayLike | None = None,
    preset: str = "faithful",
    config: FitConfig | None = None,
    device: str = "auto",
    seed: int = 0,
    resume: FitResult | str | Path | None = None,
    supervision: str | Preparation = "value",
    start: FitResult | str | Path | None = None,
    axes_as_coordinates: str | None = None,
    **overrides: Any,
) -> FitSteps:
    """Fit a field to an image, step by step. Parameters and errors are those of `fit`.

    Bad input raises at once, not at the first step.

    Returns
    -------
    FitSteps
        A generator that yields a `Progress` after every step. ``send("stop")`` ends the fit and keeps the best so far;
        ``close()`` ends it without a result. Once it has ended, its `result` is that of `fit`.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> steps = ns.fit_iter(np.eye(24, dtype=np.float32), max_steps=10)
    >>> for progress in steps:
    ...     pass
    >>> progress.step, steps.result.reconstruction.shape
    (10, (24, 24))
    """
    if not (config is None or isinstance(config, FitConfig)):
        raise ConfigError(
            f"config should be a FitConfig, not a {type(config).__name__}: FitConfig(**fields) makes one."
        )
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed={seed!r}: a whole number of 0 or more is needed.")
    if not (resume is None or start is None):
        raise InputError("resume goes on with a fit and start begins a new one: give one of them.")
    earlier = None if resume is None else _resumable(resume)
    state = None if earlier is None else earlier.state
    given = config if earlier is None or config is not None else earlier.config
    settings = FitConfig.preset(preset, **overrides) if given is None else given.override(**overrides)
    where = choose_device(device)
    seed = seed if state is None else state.seed
    frames = None
    if settings.burst_steps:
        if missing is not None:
            raise InputError("of a burst no pixel may be missing. Cut out the part where all are there.")
        frames, axes, spacing = _burst_of(image, axes, spacing)
        image, axes_as_coordinates = frames[0], None
    prepared = preparation(supervision).prepare(image, axes, spacing, missing)
    told = {**prepared.told, "axes_guessed": axes is None}
    samples = Samples.from_array(
        prepared.image,
        axes,
        spacing,
        prepared.missing,
        settings.value_range,
        settings.heldout,
        seed,
        axes_as_coordinates,
    )
    settings = with_known_blur(settings, samples)
    run = _run(samples, settings, where, seed, state, None if frames is None else burst_values(frames, samples))
    if start is not None:
        alike = _opened("start", start)
        run.begin_from(alike.field.to(where), alike.state)
    if state is not None and state.step >= run.max_steps:
        raise InputError(f"the fit to go on from has done {state.step} steps already; ask for more with max_steps.")
    return FitSteps(_iterate(run, told), lambda: _result(run, told), run.clock)


def fit(
    image: npt.ArrayLike,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    missing: npt.ArrayLike | None = None,
    preset: str = "faithful",
    config: FitConfig | None = None,
    device: str = "auto",
    seed: int = 0,
    on_progress: Callable[[Progress], object] | None = None,
    resume: FitResult | str | Path | None = None,
    supervision: str | Preparation = "value",
    start: FitResult | str | Path | None = None,
    axes_as_coordinates: str | None = None,
    **overrides: Any,
) -> FitResult:
    """Fit a field to an image.

    Parameters
    ----------
    image
        Array of 1 to 3 spatial axes and perhaps channels and time; boolean, integer or floating.
    axes
        One letter for each axis, of Z, Y, X, C and T, in any order; None guesses: a last axis of 3 or 4 after two
        others is colours. What is done with T is up to the preset ("burst" joins frames) or `axes_as_coordinates`;
        `fit_series` fits frame by frame.
    spacing
        Distance between pixel centres, one number or one for each spatial axis, in any unit; None is 1.
    missing
        bool, the image's shape or its spatial shape: True where a pixel is missing. Such pixels do not count, and the
        field fills them in.
    preset
        "faithful", "upscale", "denoise", "deblur", "burst", "fast" or "paper"; see `FitConfig.preset`.
    config
        Settings, in the preset's place.
    device
        "auto", "cpu", "cuda", "cuda:1", "mps".
    seed
        Of the random start; on the CPU the same seed gives the same bits.
    on_progress
        Called with a `Progress` after each step; return ``"stop"`` to end the fit and keep the best so far.
    resume
        A `FitResult` of the same image to go on from, or a file saved with ``resumable=True``. Its settings and seed
        are taken too, unless `config` is given. Steps count on: ask for a larger `max_steps`.
    supervision
        What `image` holds: "value", its pixels; "gradient" or "laplacian", derivatives from which the image is to be
        found, but for its mean, which a `Supervision` tells.
    start
        A `FitResult` of an alike image, or its file, to begin with in place of random weights: the next frame of a time
        series then needs fewer steps (with "upscale" a third). Nothing is taken of networks, or tiles, of another
        shape. With the preset "upscale" the file has to be saved with ``resumable=True``, to hold what was learned.
    axes_as_coordinates
        All axes but C, such as "TZYX", to make time a coordinate of the field like those of space, so that it can be
        asked for frames in between. Frames are 1 apart, unless `spacing` has a number for T too.
    **overrides
        Any field of `FitConfig`, among them max_seconds, max_steps, target_psnr.

    Returns
    -------
    FitResult
        With the best weights of every tile.

    Raises
    ------
    InputError
        The image or an argument cannot be used.
    ConfigError
        An unknown or impossible setting.
    DeviceError
        The device is not there, or has too little memory.
    StorageError
        The file to resume from cannot be read.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> image = np.hypot(*np.mgrid[-12:12, -12:12]).astype(np.float32)
    >>> result = ns.fit(image, max_steps=100)
    >>> result.metrics.psnr > 30
    True
    """
    steps = fit_iter(
        image,
        axes,
        spacing,
        missing,
        preset,
        config,
        device,
        seed,
        resume,
        supervision,
        start,
        axes_as_coordinates,
        **overrides,
    )
    for progress in steps:
        if on_progress is not None and on_progress(progress) == STOP:
            steps.stop()
    return steps.result


def upscale(
    image: npt.ArrayLike,
    scale: float | Sequence[float],
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    **options: Any,
) -> npt.NDArray[Any]:
    """Upscale an image: `fit` with the preset "upscale", then render.

    Parameters
    ----------
    image
        As in `fit`.
    scale
        Output pixels per pixel: a number, or one for each spatial axis.
    axes
        As in `fit`.
    spacing
        As in `fit`.
    **options
        Any other argument of `fit`.

    Returns
    -------
    ndarray
        The image's order of axes and dtype.

    Raises
    ------
    SirenError
        As `fit` does, and `InputError` for a scale that is not positive.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> ns.upscale(np.eye(16, dtype=np.float32), 2, cross_scale_steps=20, max_steps=20).shape
    (32, 32)
    """
    # A bad scale should not come to light only after the fit.
    shown, letters = image, axes
    if axes is not None and "T" in axes.upper() and options.get("axes_as_coordinates") is None:
        spacing = spacing_in_space(spacing, axes)
        frames, letters = take_frames(image, axes)
        shown = frames[0]
    given = preparation(options.pop("supervision", "value")).prepare(
        shown, letters, spacing, options.pop("missing", None)
    )
    layout = Samples.from_array(
        given.image, letters, spacing, given.missing, axes_as_coordinates=options.get("axes_as_coordinates")
    ).format
    RenderGrid.of(layout.spatial_shape, layout.spacing, scale=scale)
    whole = given.image if shown is image else image
    if options.get("config") is None:
        options = {"preset": "upscale", "detail": detail_for(scale), **options}
    rendered: npt.NDArray[Any] = fit(whole, axes, spacing, given.missing, **options).render(scale=scale)
    return rendered


def _run(
    samples: Samples,
    config: FitConfig,
    device: torch.device,
    seed: int,
    state: State | None,
    frames: npt.NDArray[np.float32] | None,
) -> Run | Upscaling:
    lesson = Lesson.of(samples, config, frames)
    if lesson is None and config.deconvolution_steps:
        raise InputError(
            "the blur can be taken out of images of two or three axes in space, of which no pixel is missing or held "
            "out (a region has to be a box). Others: choose another preset, or deconvolution_steps=0."
        )
    if lesson is None:
        run: Run | Upscaling = Run(samples, config, device, seed, state)
    else:
        run = Upscaling(samples, config, device, seed, state, lesson)
    if lesson is None and config.learning_steps:
        run.history.events.append((0, _NOTHING_LEARNED))
    if device.type != "cpu":
        run.history.events += [(0, event) for event in verdict_on(device).events()]
    return run


def _burst_of(
    image: npt.ArrayLike, axes: str | None, spacing: float | Sequence[float] | None
) -> tuple[npt.NDArray[Any], str, float | Sequence[float] | None]:
    """Return the frames to join, and the axes and the spacing of each."""
    if axes is None or "T" not in axes.upper():
        raise InputError(
            f"axes={axes!r} has no T, whose frames a burst would join. Name it, for example axes='TYX'; in napari "
            "the layer needs an axis labelled t, and the extent that is fitted has to be the stack, not a slice."
        )
    return *take_frames(image, axes), spacing_in_space(spacing, axes)


def _iterate(run: Run | Upscaling, told: Mapping[str, Any]) -> Generator[Progress, str | None, FitResult]:
    config = run.config
    asked = ""
    while not asked:
        run.clock.check()
        if run.step_count >= run.max_steps:
            asked = "max_steps"
        elif config.max_seconds is not None and run.seconds >= config.max_seconds:
            asked = "max_seconds"
        else:
            progress = run.step()
            asked = "target_psnr" if run.reached_target() else ""
            if (yield progress) == STOP:
                asked = "asked"
    run.history.stopped = asked
    return _result(run, told)


def _result(run: Run | Upscaling, told: Mapping[str, Any]) -> FitResult:
    field = run.best_field()
    metrics = measure(run.samples, field.reconstruct())
    if isinstance(run, Upscaling):
        seen = measure(run.samples, run.seen_again(field), with_ssim=False)
        metrics = replace(metrics, consistency=seen.psnr)
    return FitResult(
        field,
        run.config,
        metrics,
        run.history.copy(),
        {**_provenance(run), **told, **run.findings()},
        run.samples,
        run.state(),
    )


def _provenance(run: Run | Upscaling) -> dict[str, Any]:
    return make_provenance(run.samples, describe_device(run.device), run.seed, run.engine_name)


def _opened(name: str, given: FitResult | str | Path) -> FitResult:
    if not isinstance(given, FitResult | str | Path):
        raise InputError(f"{name} should be a FitResult or a file, not a {type(given).__name__}.")
    return given if isinstance(given, FitResult) else load(given)


def _resumable(resume: FitResult | str | Path) -> FitResult:
    result = _opened("resume", resume)
    if result.state is None:
        raise InputError("there is no state to go on from in it; save it with result.save(path, resumable=True).")
    return result
