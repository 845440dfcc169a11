"""`fit_blocks`: the fit of an image larger than memory, from zarr to OME-Zarr, block by block.

The work has these parts: a pass over every pixel, the training of a network if the settings need one, a fit of each
block of tiles, a render of each box of the output, and the pyramid. The work can be interrupted at any time, and
continued later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack, get_args

from napari_siren.blockwise.job import BlockJob
from napari_siren.blockwise.marks import check_absent, read_about
from napari_siren.blockwise.source import Source
from napari_siren.core.engines import choose_device, fallbacks
from napari_siren.core.field.tiling import RenderGrid
from napari_siren.core.fit import check_seed, choose_settings
from napari_siren.core.image.statistics import ImageStatistics, outline
from napari_siren.core.options import FitSettings
from napari_siren.core.progress import History
from napari_siren.core.progress_bar import ProgressBar, progress_bar
from napari_siren.core.restoration.super_resolution import allows_zero_shot
from napari_siren.core.settings.config import FitConfig, detail_for
from napari_siren.core.settings.presets import PresetName
from napari_siren.core.storage.atomic import check_folder_free
from napari_siren.errors import ConfigError
from napari_siren.io.lazy import import_zarr
from napari_siren.io.zarr.group import is_zarr
from napari_siren.io.zarr.ngff import Version

Phase = Literal["scan", "learn", "fit", "render", "pyramid"]


@dataclass(frozen=True)
class BlockProgress:
    """The state of the work.

    Parameters
    ----------
    phase
        Current part of the work, with the unit of `done` and `total`: "scan" (values), "learn" (steps), "fit" (blocks
        of tiles), "render" (boxes of the output), "pyramid".
    done, total
        Finished amount of this phase, and total amount. `done` may include a fraction of the current block.
    seconds
        Seconds since the beginning of the phase in this session.
    began_at
        Amount of this phase from an earlier session.
    """

    phase: Phase
    done: float
    total: int
    seconds: float
    began_at: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated remaining seconds of this phase; None if there is no basis for an estimate yet."""
        amount = self.done - self.began_at
        return self.seconds * (self.total - self.done) / amount if amount > 0 and self.seconds > 0 else None


@dataclass(frozen=True)
class BlocksResult:
    """The result of `fit_blocks`.

    Parameters
    ----------
    path
        Path of the OME-Zarr image.
    shape, axes
        Shape and axes of its finest level.
    psnr, rmse, max_abs
        Errors of the rounded reconstruction of the image's pixels: PSNR in dB, root mean square error and largest
        absolute error in the image's units.
    blocks
        Number of blocks.
    fitted
        Number of blocks that were fitted in this session. The others were fitted earlier.
    field
        Folder of the field, or None if it was not kept.
    notes
        What was guessed, left out, or done otherwise than it was asked for: one sentence each. The attributes of the
        OME-Zarr image contain them too.
    """

    path: Path
    shape: tuple[int, ...]
    axes: str
    psnr: float
    rmse: float
    max_abs: float
    blocks: int
    fitted: int
    field: Path | None = None
    notes: tuple[str, ...] = ()


def fit_blocks(
    source: Any,
    out: str | Path,
    scale: float | Sequence[float] = 2,
    *,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    preset: PresetName | None = None,
    config: FitConfig | None = None,
    device: str = "auto",
    seed: int | None = 0,
    progress: bool = False,
    on_progress: Callable[[BlockProgress], object] | None = None,
    level: int = 0,
    field: str | Path | None = None,
    resume: bool = True,
    overwrite: bool = False,
    version: Version = "0.4",
    **overrides: Unpack[FitSettings],
) -> BlocksResult:
    """Fit an image of any size block by block, and write it at another resolution as OME-Zarr.

    The image may be larger than memory. The field is the same as that of `fit`: the same tiles, with the same random
    initialisation, fitted to the same values. Therefore there are no seams. Neither `max_memory` nor an interruption
    changes the result. Tiles of constant value are not fitted.

    Parameters
    ----------
    source
        Path or address of an image. OME-Zarr, TIFF and NPY are read by parts, other images into memory. Or an array of
        dask, zarr, numpy or xarray.
    out
        Path of the OME-Zarr image to write. Unfinished work is kept in the folder ``.NAME.work`` next to it.
    scale
        Number of output pixels per pixel: a number, or one for each spatial axis.
    axes, spacing
        Axes and distance between pixel centres, as in `fit`. None uses those of the file.
    preset, config
        Preset, or settings to use instead, as in `fit`.
    device, seed
        Device, and seed of the random initialisation, as in `fit`. With the seed None, work cannot be continued.
    progress
        Whether to show a progress bar.
    on_progress
        Function to call with a `BlockProgress` during the work.
    level
        Level of a pyramid (OME-Zarr, TIFF); 0 is the finest.
    field
        Folder to keep the field in; it needs four bytes for each parameter. None keeps the field only until the image
        is written.
    resume
        Whether to continue the work of an earlier call with the same image and settings. False starts again.
    overwrite
        Whether to replace an existing image of that name, or the field of another image in the folder `field`.
        Otherwise they are an error. The result of an earlier call with the same image and settings is returned, unless
        `resume` is False.
    version
        Version of OME-Zarr, "0.4" or "0.5".
    **overrides
        Values of any fields of `FitConfig`, except those that need the whole image: max_seconds, target_psnr, heldout.
        `max_memory` is the memory for the fit of a block, in bytes; PyTorch and the program itself need about 0.4 GB in
        addition.

    Returns
    -------
    BlocksResult
        Path, shape and errors of the image, and number of blocks.

    Raises
    ------
    InputError, ConfigError, DeviceError
        The same errors as those of `fit`, or the image has missing pixels.
    StorageError
        A file cannot be written, an existing result would be replaced, or unfinished work belongs to another image or
        to other settings.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib, napari_siren as ns
    >>> image = np.random.default_rng(0).integers(0, 255, (48, 64), dtype=np.uint8)
    >>> out = pathlib.Path(tempfile.mkdtemp()) / "finer.ome.zarr"
    >>> ns.fit_blocks(image, out, scale=2, preset="fast", max_steps=20).shape
    (96, 128)
    """
    if config is None:
        overrides = {"detail": detail_for(scale), **overrides}
    settings, number = _checked(choose_settings(preset, config, overrides)), check_seed(seed)
    image, target = Source.from_input(source, axes, spacing, level), choose_device(device)
    path, keep = Path(out), None if field is None else Path(field)
    # Invalid input must raise an error before the pass over every pixel, not after it.
    layout = outline(image.array, image.axes, image.spacing)
    history = History(events=[(0, note) for note in image.notes])
    grid = RenderGrid.from_layout(layout, scale=scale)
    import_zarr("zarr")
    check_folder_free(path, is_zarr)
    if not overwrite and not (resume and read_about(path)):
        check_absent(path, is_zarr(path))
    if settings.restoration is not None and not allows_zero_shot(layout.spatial_shape, settings):
        history.note(0, f"{settings.restoration.needs}; this image is fitted by tiles alone")
    for sentence in (*fallbacks(target, settings), *image.losses(path)):
        history.note(0, sentence)
    with progress_bar("fit", shown=progress) as bar:
        report = _ProgressReporter(on_progress, bar)
        scan = ImageStatistics.from_image(
            image.complete(), layout.axes, layout.spacing, settings.value_range, lambda *done: report("scan", *done)
        )
        pixel_spacing = None if image.spacing is None else scan.layout.spacing
        description = (pixel_spacing, image.unit, image.channel_names, image.details)
        job = BlockJob(image.array, scan, *description, settings, target, number, grid, path, keep, version)
        fitted, about = 0, job.finished()
        if about is None or not resume:
            if not overwrite:
                job.check_nothing_replaced()
            fitted, about = _work(job, resume, history, report)
    psnr, rmse, largest = (float(about[name]) for name in ("psnr", "rmse", "max_abs"))
    errors, notes = (psnr, rmse, largest), tuple(about["notes"])
    return BlocksResult(path, job.out_shape, scan.layout.axes, *errors, about["blocks"], fitted, keep, notes)


def _work(job: BlockJob, resume: bool, history: History, report: _ProgressReporter) -> tuple[int, dict[str, Any]]:
    """Do the remaining work. Return the number of fitted blocks, and the metadata of the output."""
    stored = job.prepare(resume)
    job.store_notes(history.notes)
    count = len(stored.blocks)
    missing = [block for block in range(count) if not stored.has(block)]
    restorer = job.train(lambda *done: report("learn", *done)) if missing else None
    report("fit", count - len(missing), count)
    for done, block in enumerate(missing, count - len(missing)):
        job.store_notes(job.fit(stored, block, restorer, partial(report.within, "fit", done, count)))
        report("fit", done + 1, count)
    pyramid = job.pyramid()
    boxes, errors = list(pyramid.blocks()), []
    for number, box in enumerate(boxes):
        errors.append(job.render(stored, pyramid, number, box))
        report("render", number + 1, len(boxes))
    report("pyramid", 0, 1)
    about = job.finish(pyramid, errors, count)
    report("pyramid", 1, 1)
    return len(missing), about


class _ProgressReporter:
    """A reporter of the progress of the work."""

    def __init__(self, on_progress: Callable[[BlockProgress], object] | None, bar: ProgressBar) -> None:
        self._on_progress, self._bar = on_progress, bar
        self._phase, self._began, self._began_at = "", 0.0, 0.0

    def within(self, phase: Phase, done: int, total: int, share: float) -> None:
        """Report a share of the current block."""
        self(phase, done + share, total)

    def __call__(self, phase: Phase, done: float, total: int) -> None:
        """Report the finished amount of a phase."""
        if phase != self._phase:
            self._phase, self._began, self._began_at = phase, time.perf_counter(), done
        phases = get_args(Phase)
        self._bar.show((phases.index(phase) + done / max(1, total)) / len(phases), phase)
        if self._on_progress is not None:
            self._on_progress(BlockProgress(phase, done, total, time.perf_counter() - self._began, self._began_at))


def _checked(settings: FitConfig) -> FitConfig:
    """Return the settings, or raise an error if they are not possible block by block."""
    if settings.restoration is not None and not settings.restoration.blockwise:
        raise ConfigError(
            f"the task {settings.task!r} needs the whole image at once. Crop the image into parts, and fit each part."
        )
    if settings.tile == "whole":
        raise ConfigError(
            'tile="whole" is one network for the image, and cannot be fitted block by block. Use tile="auto" and '
            'coordinates="pixel".'
        )
    remedies = {
        "max_seconds": "Set max_steps instead",
        "target_psnr": "Set max_steps instead",
        "heldout": "Leave it out",
    }
    for name, remedy in remedies.items():
        if getattr(settings, name):
            raise ConfigError(f"{name} needs the whole image, and is not possible block by block. {remedy}.")
    if settings.psf_width == "auto":
        raise ConfigError(
            'psf_width="auto" needs the whole image. Estimate the width from a part of it, and set the number.'
        )
    return settings
