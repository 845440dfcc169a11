"""`fit_blocks`: upscale an image that is never in memory as a whole, from zarr to OME-Zarr, a block of tiles at a time.

The work goes by steps, of which each may be broken off and gone on with: a look at every pixel; a network's learning,
where the settings want one; a fit of each block of tiles; a render of each box of the output; the pyramid.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from napari_siren.blockwise.job import BlockJob
from napari_siren.core.atomic import check_folder_free
from napari_siren.core.config import LEARNING, FitConfig, detail_for
from napari_siren.core.engines import choose_device
from napari_siren.core.field.tiling import RenderGrid
from napari_siren.core.image.statistics import LazyArray, Scan, outline
from napari_siren.errors import ConfigError
from napari_siren.io.images import read_image
from napari_siren.io.ngff import Version
from napari_siren.io.ome_zarr import is_zarr, open_ome_zarr

Phase = Literal["scan", "learn", "fit", "render", "pyramid"]


@dataclass(frozen=True)
class BlockProgress:
    """Where the work stands.

    Parameters
    ----------
    phase
        "scan" (values looked at), "learn" (steps), "fit" (blocks of tiles), "render" (boxes of the output), "pyramid".
    done, total
        Of this phase; `done` may have a fraction of the block under way.
    seconds
        Since the phase began, in this session.
    began_at
        What of it an earlier session had done.
    """

    phase: Phase
    done: float
    total: int
    seconds: float
    began_at: float = 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated for this phase; None while there is nothing to estimate from."""
        did = self.done - self.began_at
        return self.seconds * (self.total - self.done) / did if did > 0 and self.seconds > 0 else None


@dataclass(frozen=True)
class BlocksResult:
    """What `fit_blocks` gives back.

    Parameters
    ----------
    path
        The OME-Zarr image.
    shape, axes
        Of its finest level.
    psnr, rmse, max_abs
        Of the field, rounded at the image's own pixels, against the image: dB, and in the image's units.
    blocks
        How many there are.
    fitted
        How many of them were fitted in this session; the others were there.
    field
        Folder of the field, or None where it was not kept.
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


def fit_blocks(
    source: Any,
    out: str | Path,
    scale: float | Sequence[float] = 2,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    *,
    level: int = 0,
    preset: str = "faithful",
    config: FitConfig | None = None,
    device: str = "auto",
    seed: int = 0,
    max_memory: int | None = None,
    field: str | Path | None = None,
    resume: bool = True,
    version: Version = "0.4",
    on_progress: Callable[[BlockProgress], object] | None = None,
    **overrides: Any,
) -> BlocksResult:
    """Fit an image that may be larger than memory, block by block, and write it at a higher resolution as OME-Zarr.

    The field is that of `fit`: the same tiles, with the same random start, fitted to the same values. So there are no
    seams, and neither `max_memory` nor a break changes the result. Tiles in which nothing is to be seen are not fitted.

    Parameters
    ----------
    source
        Path of an OME-Zarr image, or of another image, which is read into memory; or an array of dask, zarr or numpy.
    out
        The OME-Zarr image to write. What is done is kept beside it, in the folder ``.NAME.work``, until all is.
    scale
        Output pixels per pixel: a number, or one for each spatial axis.
    axes, spacing
        As in `fit`; None takes what the file says.
    level
        Of an OME-Zarr image: 0 is the finest.
    preset, config
        As in `fit`.
    device, seed
        As in `fit`.
    max_memory
        Bound in bytes of what a block's fit takes; None takes half of the memory that is free. PyTorch and the
        program itself need about 0.4 GB beside it.
    field
        A folder to keep the field in, four bytes for each parameter. None keeps it until the image is written.
    resume
        Go on with what an earlier call with the same image and settings has done. False begins anew.
    version
        Of OME-Zarr: "0.4" or "0.5".
    on_progress
        Called with a `BlockProgress` now and then.
    **overrides
        Any field of `FitConfig`, but for those that a block cannot know: max_seconds, target_psnr, heldout.

    Returns
    -------
    BlocksResult

    Raises
    ------
    InputError, ConfigError, DeviceError
        As `fit` does.
    StorageError
        Something cannot be written, or what is there is of another image or of other settings.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib, napari_siren as ns
    >>> image = np.random.default_rng(0).integers(0, 255, (48, 64), dtype=np.uint8)
    >>> out = pathlib.Path(tempfile.mkdtemp()) / "finer.ome.zarr"
    >>> ns.fit_blocks(image, out, scale=2, preset="fast", max_steps=20).shape
    (96, 128)
    """
    chosen = config or FitConfig.preset(preset, detail=detail_for(scale))
    settings = _settings(chosen, overrides if max_memory is None else {**overrides, "max_memory": max_memory})
    image, where, tell = Source.of(source, axes, spacing, level), choose_device(device), _Teller(on_progress)
    place, kept = Path(out), None if field is None else Path(field)
    # What can be wrong should not come to light only after a look at every pixel.
    layout = outline(image.array, image.axes, image.spacing)
    grid = RenderGrid.of(layout.spatial_shape, layout.spacing, scale=scale)
    check_folder_free(place, is_zarr)
    scan = Scan.of(image.array, layout.axes, layout.spacing, settings.value_range, lambda *done: tell("scan", *done))
    spaced = None if image.spacing is None else scan.format.spacing
    described = (spaced, image.unit, image.channel_names)
    job = BlockJob(image.array, scan, *described, settings, where, seed, grid, place, kept, version)
    fitted, about = 0, job.finished() if resume else None
    if about is None:
        fitted, about = _work(job, resume, tell)
    psnr, rmse, largest = (float(about[name]) for name in ("psnr", "rmse", "max_abs"))
    return BlocksResult(place, job.out_shape, scan.format.axes, psnr, rmse, largest, about["blocks"], fitted, kept)


def _work(job: BlockJob, resume: bool, tell: _Teller) -> tuple[int, dict[str, Any]]:
    """Do what is left to do; give how many blocks that were, and what is noted of the whole."""
    stored = job.prepare(resume)
    count = len(stored.blocks)
    missing = [block for block in range(count) if not stored.has(block)]
    teacher = job.learn(lambda *done: tell("learn", *done)) if missing else None
    tell("fit", count - len(missing), count)
    for place, block in enumerate(missing, count - len(missing)):
        job.fit(stored, block, teacher, partial(tell.within, "fit", place, count))
        tell("fit", place + 1, count)
    pyramid = job.pyramid()
    boxes, missed = list(pyramid.blocks()), []
    for number, box in enumerate(boxes):
        missed.append(job.render(stored, pyramid, number, box))
        tell("render", number + 1, len(boxes))
    tell("pyramid", 0, 1)
    about = job.finish(pyramid, missed, count)
    tell("pyramid", 1, 1)
    return len(missing), about


@dataclass(frozen=True)
class Source:
    """An image that need not be in memory.

    Parameters
    ----------
    array
        Gives its pixels by slices.
    axes, spacing, unit, channel_names
        As in `ZarrImage`.
    """

    array: LazyArray
    axes: str | None
    spacing: Sequence[float] | float | None
    unit: str | None = None
    channel_names: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls, source: Any, axes: str | None = None, spacing: float | Sequence[float] | None = None, level: int = 0
    ) -> Source:
        """Open what a person may give: a path, or an array of numpy, dask or zarr."""
        if not isinstance(source, str | Path):
            return cls(source, axes, spacing)
        if not is_zarr(source):
            picture = read_image(source, axes)
            spaced = picture.spacing if spacing is None else spacing
            return cls(picture.array, picture.axes, spaced, picture.unit)
        image = open_ome_zarr(source, level)
        spaced = image.spacing if spacing is None else spacing
        return cls(image.array, axes or image.axes, spaced, image.unit, image.channel_names)


class _Teller:
    """Tells of the work as it goes on."""

    def __init__(self, on_progress: Callable[[BlockProgress], object] | None) -> None:
        self._on_progress = on_progress
        self._phase, self._began, self._began_at = "", 0.0, 0.0

    def within(self, phase: Phase, done: int, total: int, share: float) -> None:
        self(phase, done + share, total)

    def __call__(self, phase: Phase, done: float, total: int) -> None:
        if phase != self._phase:
            self._phase, self._began, self._began_at = phase, time.perf_counter(), done
        if self._on_progress is not None:
            self._on_progress(BlockProgress(phase, done, total, time.perf_counter() - self._began, self._began_at))


def _settings(config: FitConfig, overrides: Mapping[str, Any]) -> FitConfig:
    """Return the settings, unless there are some among them that a block on its own cannot follow."""
    settings = config.override(**overrides)
    for name in LEARNING:
        if name != "cross_scale_steps" and getattr(settings, name):
            raise ConfigError(f"{name} need an image as a whole. Cut it into parts, and take them one by one.")
    if settings.tile == "whole":
        raise ConfigError('tile="whole" is one network for the image, which cannot be fitted block by block.')
    for name, off in (("max_seconds", None), ("target_psnr", None), ("heldout", 0.0)):
        if getattr(settings, name) != off:
            raise ConfigError(f"{name} is about the image as a whole; block by block, choose max_steps instead.")
    if settings.psf_width == "auto":
        raise ConfigError('psf_width="auto" needs the whole image: estimate it from a part, and give the number.')
    return settings
