"""`fit_iter`: a fit as a generator of `Progress`. `fit`: the same, run to its end."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt
import torch

from napari_siren.core.blur.estimate import with_known_blur
from napari_siren.core.device import describe_device
from napari_siren.core.engines import choose_device, fallbacks
from napari_siren.core.image.arrays import ImageInput
from napari_siren.core.image.axes import notes_on_guess, spacing_in_space
from napari_siren.core.image.frames import burst_values, take_frames
from napari_siren.core.image.outliers import far_values, outlier_notes, pixels_apart
from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.record import shared_noise_note
from napari_siren.core.options import FitSettings
from napari_siren.core.preprocessing.gradients import Preprocessor, preparation
from napari_siren.core.progress import Progress
from napari_siren.core.restoration.base import Restoration
from napari_siren.core.restoration.pipeline import RestorationFit
from napari_siren.core.restoration.tasks import plan_restoration
from napari_siren.core.result import FitResult, load
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.settings.notes import notes_on_settings
from napari_siren.core.settings.presets import PresetName
from napari_siren.core.steps import STOP, FitSteps, run_steps
from napari_siren.core.storage.versions import make_provenance
from napari_siren.core.training.base import FitInProgress
from napari_siren.core.training.checkpoint import Checkpoint
from napari_siren.core.training.measures import measure_fit
from napari_siren.core.training.trainer import TileTrainer
from napari_siren.errors import ConfigError, InputError

# Largest range of values: its square is a float64 with room for sums.
_LARGEST_RANGE = 1e145
# Note of a fit whose blur is unknown, if none was found.
_NO_BLUR = "no blur was found in the image, and none was removed (see `FitConfig.psf_width`)"
# Note of a fit whose settings ask for adaptation, if there is none.
_NOT_ADAPTED = (
    "no network was adapted to the image: it is too small, or no pretrained network enlarges it (see `FitConfig.adapt`)"
)
# Note of a fit whose settings name pretrained weights that do not apply.
_NOT_PRETRAINED = "pretrained networks do not apply here, and were not used (see `FitConfig.pretrained`)"


def fit_iter(
    image: npt.ArrayLike,
    *,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    missing: npt.ArrayLike | None = None,
    preset: PresetName | None = None,
    config: FitConfig | None = None,
    device: str = "auto",
    seed: int | None = 0,
    resume: FitResult | str | Path | None = None,
    start: FitResult | str | Path | None = None,
    supervision: str | Preprocessor = "value",
    axes_as_coordinates: str | None = None,
    **overrides: Unpack[FitSettings],
) -> FitSteps:
    """Fit a field to an image, step by step.

    Parameters and errors are those of `fit`, without `progress` and `on_progress`. Invalid input raises an error
    immediately, before the first step.

    Returns
    -------
    FitSteps
        A generator of a `Progress` after every step. ``send("stop")`` ends the fit and keeps the best result so far.
        ``close()`` ends it without a result. After the end, `result` is the same as that of `fit`.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> steps = ns.fit_iter(np.eye(24, dtype=np.float32), max_steps=10)
    >>> for progress in steps:
    ...     pass
    >>> progress.step, steps.result.reconstruction.shape
    (10, (24, 24))
    """
    if not (resume is None or start is None):
        raise InputError("resume continues a fit, and start begins a new one. Give only one of them.")
    earlier = None if resume is None else _resumable(resume)
    state = None if earlier is None else earlier.state
    settings = choose_settings(preset, config, overrides, None if earlier is None else earlier.config)
    target = choose_device(device)
    number = check_seed(seed) if state is None else state.seed
    given = ImageInput.from_arguments(image, axes, spacing, missing, axes_as_coordinates)
    if settings.restoration is not None and settings.restoration.along_time:
        given = given.with_time_as_coordinate()
    frames = None
    if settings.joins_frames:
        if given.missing is not None:
            raise InputError("a burst cannot have missing pixels. Crop the frames to a part without missing pixels.")
        frames, given = _burst_of(given)
    prepared = preparation(supervision).prepare(given.image, given.axes, given.spacing, given.missing)
    given, form = replace(given, image=prepared.image, missing=prepared.missing).prepared()
    metadata = {**prepared.provenance, "axes_guessed": axes is None and form.labels is None, **form.as_provenance()}
    samples = Samples.from_array(
        given.image,
        given.axes,
        given.spacing,
        given.missing,
        settings.value_range,
        settings.heldout,
        number,
        given.axes_as_coordinates,
    )
    if frames is not None:
        frames = np.squeeze(frames, tuple(i + 1 for i in form.singletons))
    _check_range(samples)
    known = with_known_blur(settings, samples)
    run = _run(samples, known, target, number, state, None if frames is None else burst_values(frames, samples))
    if settings.psf_width is not None and known.psf_width is None:
        run.history.note(0, _NO_BLUR)
    for sentence in notes_on_guess(form.axes) if metadata["axes_guessed"] else ():
        run.history.note(0, sentence)
    metadata["notes"] = [] if earlier is None else list(earlier.provenance.get("notes", ()))
    if start is not None:
        similar = _opened("start", start)
        run.warm_start(similar.field.to(target), similar.state)
    if state is not None and state.step >= run.max_steps:
        further = "Set a larger max_steps." if run.has_tiles else 'Further steps need representation="tiles".'
        raise InputError(f"the fit to continue has done {state.step} steps already. {further}")
    return FitSteps(_iterate(run, metadata), lambda: _result(run, metadata), run.clock, run.cancellation)


def fit(
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
    on_progress: Callable[[Progress], object] | None = None,
    resume: FitResult | str | Path | None = None,
    start: FitResult | str | Path | None = None,
    supervision: str | Preprocessor = "value",
    axes_as_coordinates: str | None = None,
    **overrides: Unpack[FitSettings],
) -> FitResult:
    """Fit a field to an image.

    Parameters
    ----------
    image
        Array with 1 to 3 spatial axes, and optionally channels and time. Its dtype is boolean, integer or floating.
    axes
        One letter for each axis: Z, Y, X, C or T, in any order. If None, the axes are guessed from the shape: a last
        axis of length 3 or 4 after two others is taken as colours. T is used by the preset "burst", which combines
        frames, and by `axes_as_coordinates`. `fit_series` fits frame by frame.
    spacing
        Distance between pixel centres in any unit: one number, or one for each spatial axis. None is 1.
    missing
        Mask of the shape of the image or of its spatial shape, bool: True where a pixel is missing. Missing pixels
        have no weight, and the field fills them in.
    preset
        Name of the preset: "faithful", "upscale", "denoise", "deblur", "burst", "fast" or "paper"; see
        `FitConfig.preset`. None is "faithful", or the settings of `resume`.
    config
        Settings instead of a preset.
    device
        Device of the fit: "auto", "cpu", "cuda", "cuda:1", "mps".
    seed
        Seed of the random initialisation, a whole number. On the CPU, the same seed gives the same bits. None draws a
        seed; the provenance of the result has it.
    progress
        Whether to show a progress bar, in a terminal or a notebook.
    on_progress
        Function to call with a `Progress` after each step. If it returns ``"stop"``, the fit ends and keeps the best
        result so far.
    resume
        A `FitResult` of the same image to continue from, or a file that was saved with ``resumable=True``. Its settings
        and seed are used, unless `config` is given. Its steps count: set a larger `max_steps`.
    start
        A `FitResult` of a similar image, or its file, to start from instead of random weights. The next frame of a time
        series then needs fewer steps (with "upscale" a third). Networks and tiles of another shape are ignored. With
        the preset "upscale", the file must have been saved with ``resumable=True``, because it then contains the
        trained network.
    supervision
        Content of `image`. "value": pixels. "gradient" or "laplacian": derivatives, from which the image is
        reconstructed up to its mean; a `Supervision` sets the mean.
    axes_as_coordinates
        All axes except C, such as "TZYX", to make time a coordinate of the field like those of space, also between
        frames. Frames are 1 apart, unless `spacing` has a number for T too. Films TYX are denoised so by default.
    **overrides
        Values of any fields of `FitConfig`, such as max_seconds, max_steps and target_psnr.

    Returns
    -------
    FitResult
        Result with the best weights of every tile.

    Raises
    ------
    InputError
        The image or an argument cannot be used.
    ConfigError
        A setting is unknown or impossible.
    DeviceError
        The device does not exist, or has too little memory.
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
        axes=axes,
        spacing=spacing,
        missing=missing,
        preset=preset,
        config=config,
        device=device,
        seed=seed,
        resume=resume,
        start=start,
        supervision=supervision,
        axes_as_coordinates=axes_as_coordinates,
        **overrides,
    )
    return run_steps(steps, progress, on_progress)


def check_seed(seed: int | None) -> int:
    """Return a seed as an int, or draw one.

    Raises
    ------
    InputError
        It is not a whole number of 0 or more.
    """
    if seed is None:
        return secrets.randbelow(2**31)
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed={seed!r} is not valid. Use a whole number of 0 or more, or None for a random one.")
    return int(seed)


def choose_settings(
    preset: PresetName | None, config: FitConfig | None, overrides: FitSettings, earlier: FitConfig | None = None
) -> FitConfig:
    """Return the settings of a fit from a preset, or from given or earlier settings, with some fields changed.

    Raises
    ------
    ConfigError
        Several of them were given, or a setting is unknown or impossible.
    """
    if not (config is None or isinstance(config, FitConfig)):
        raise ConfigError(f"config is a {type(config).__name__}, not a FitConfig. Make one with FitConfig(**fields).")
    if preset is not None and config is not None:
        raise ConfigError("both preset and config were given. Give one of them.")
    if preset is not None and earlier is not None and preset != earlier.name:
        raise ConfigError(
            f"the fit to resume has the preset {earlier.name!r}, not {preset!r}. Leave out preset, or start a new fit."
        )
    base = earlier if config is None else config
    return FitConfig.preset(preset or "faithful", **overrides) if base is None else base.override(**overrides)


def _run(
    samples: Samples,
    config: FitConfig,
    device: torch.device,
    seed: int,
    state: Checkpoint | None,
    frames: npt.NDArray[np.float32] | None,
) -> FitInProgress:
    restoration = plan_restoration(samples, config, frames)
    far = far_values(samples)
    # A pixel at a point is a sample of the field. An area or a restored sample is not.
    apart = pixels_apart(samples, far) if restoration is None and not config.sees_area else None
    run: FitInProgress
    if restoration is None:
        run = TileTrainer(samples, config, device, seed, state, apart=apart)
    else:
        run = RestorationFit(samples, config, device, seed, state, restoration)
    if restoration is None and config.restoration is not None:
        run.history.note(0, f"{config.restoration.needs}; this image was fitted by tiles alone")
    if config.restoration is not None and config.pretrained not in (None, "auto") and not _is_pretrained(restoration):
        run.history.note(0, _NOT_PRETRAINED)
    if isinstance(config.adapt, int) and state is None and not _adapts(run):
        run.history.note(0, _NOT_ADAPTED)
    for sentence in (*fallbacks(device, config), *notes_on_settings(config)):
        run.history.note(0, sentence)
    for sentence in outlier_notes(far, apart):
        run.history.note(0, sentence)
    return run


def _is_pretrained(restoration: Restoration | None) -> bool:
    return restoration is not None and restoration.uses_pretrained


def _adapts(run: FitInProgress) -> bool:
    return isinstance(run, RestorationFit) and run.restorer.steps_left.get("adapting", 0) > 0


def _check_range(samples: Samples) -> None:
    """Raise an InputError if the squares of the differences of values are out of range."""
    if samples.image.dtype != np.float64:
        return
    values = samples.layout.to_channels_first(samples.image)[:, samples.observed]
    if float(values.max()) / 2 - float(values.min()) / 2 > _LARGEST_RANGE:
        raise InputError(
            f"the image has values from {values.min():.3g} to {values.max():.3g}, and the squares of their differences "
            "are out of range. Divide the image by a number."
        )


def _burst_of(given: ImageInput) -> tuple[npt.NDArray[Any], ImageInput]:
    """Return the frames to combine, and the arguments for the first of them."""
    if given.axes is None or "T" not in given.axes.upper():
        raise InputError(
            f"axes={given.axes!r} has no T, and a burst needs frames along T. Name the axis, for example axes='TYX'. "
            "In napari, label an axis of the layer t, and set the extent to the whole stack instead of a slice."
        )
    frames, letters = take_frames(given.image, given.axes)
    spacing = spacing_in_space(given.spacing, given.axes)
    return frames, ImageInput(frames[0], letters, spacing)


def _iterate(run: FitInProgress, metadata: Mapping[str, Any]) -> Generator[Progress, str | None, FitResult]:
    config = run.config
    reason = ""
    while not reason:
        run.cancellation.check()
        if run.step_count >= run.max_steps:
            reason = "max_steps"
        elif config.max_seconds is not None and run.seconds >= config.max_seconds:
            reason = "max_seconds"
        else:
            progress = run.step()
            reason = "target_psnr" if run.reached_target() else ""
            if (yield progress) == STOP:
                reason = "asked"
    run.history.stopped = reason
    return _result(run, metadata)


def _result(run: FitInProgress, metadata: Mapping[str, Any]) -> FitResult:
    field = run.best_field()
    extra = run.extra_metadata()
    metrics = measure_fit(run, field, extra.get("noise"))
    if "noise" in extra and (note := shared_noise_note(extra["noise"])) is not None:
        run.history.note(run.step_count, note)
    notes = list(dict.fromkeys([*metadata["notes"], *run.history.notes]))
    return FitResult(
        field,
        run.config,
        metrics,
        run.history.copy(),
        {**_provenance(run), **metadata, **extra, "notes": notes},
        run.samples,
        run.state(),
    )


def _provenance(run: FitInProgress) -> dict[str, Any]:
    return make_provenance(run.samples.image, describe_device(run.device), run.seed, run.engine_name)


def _opened(name: str, source: FitResult | str | Path) -> FitResult:
    if not isinstance(source, FitResult | str | Path):
        raise InputError(f"{name} is a {type(source).__name__}. Give a FitResult, or the path of a saved one.")
    return source if isinstance(source, FitResult) else load(source)


def _resumable(resume: FitResult | str | Path) -> FitResult:
    result = _opened("resume", resume)
    if result.state is None:
        raise InputError(
            "the result has no state to continue from. Save results with result.save(path, resumable=True)."
        )
    return result
