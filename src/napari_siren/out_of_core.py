"""`fit_blocks`: upscale an image that is never in memory as a whole, from zarr to OME-Zarr, a block of tiles at a time.

The work goes by steps, of which each may be broken off and gone on with: a look at every pixel; a fit of each block of
tiles; a render of each block of output chunks; the pyramid. What is done is in a folder beside the output.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from napari_siren.core.blocks import Blocks
from napari_siren.core.config import FitConfig
from napari_siren.core.device import resolve_device
from napari_siren.core.geometry import RenderGrid
from napari_siren.core.image import Samples
from napari_siren.core.memory import memory_bound, plan_fit
from napari_siren.core.metrics import psnr_of
from napari_siren.core.run import Part, Run
from napari_siren.core.scan import LazyArray, Scan
from napari_siren.core.stored_field import StoredField
from napari_siren.errors import ConfigError, StorageError
from napari_siren.files import check_folder_free, folder_written_aside, move_folder, write_json
from napari_siren.ngff import Version
from napari_siren.ome_zarr import Pyramid, is_zarr, open_ome_zarr, zarr_attributes
from napari_siren.sources import read_image

_ABOUT = "napari_siren"
# What does not change the result.
_FREE_SETTINGS = {"engine", "threads", "max_memory", "memory_fraction"}
Phase = Literal["scan", "fit", "render", "pyramid"]


@dataclass(frozen=True)
class BlockProgress:
    """Where the work stands.

    Parameters
    ----------
    phase
        "scan", "fit", "render" or "pyramid".
    done, total
        Blocks of this phase; `done` may have a fraction of the one under way.
    seconds
        Since the phase began, in this session.
    """

    phase: Phase
    done: float
    total: int
    seconds: float


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
            return cls(picture.array, picture.axes, spacing or picture.spacing, picture.unit)
        image = open_ome_zarr(source, level)
        return cls(image.array, axes or image.axes, spacing or image.spacing, image.unit, image.channel_names)


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
    settings = _settings(config or FitConfig.preset(preset), {**overrides, "max_memory": max_memory})
    image, where, tell = Source.of(source, axes, spacing, level), resolve_device(device), _Teller(on_progress)
    scan = Scan.of(image.array, image.axes, image.spacing, settings.value_range, lambda *done: tell("scan", *done))
    grid = RenderGrid.of(scan.format.spatial_shape, scan.format.spacing, scale=scale)
    job = _Job(image, scan, settings, where, seed, grid, Path(out), None if field is None else Path(field), version)
    if resume and (finished := job.finished()) is not None:
        return finished
    stored = job.prepare(resume)
    missing = [block for block in range(len(stored.blocks)) if not stored.has(block)]
    for block in missing:
        job.fit(stored, block, tell)
    pyramid = job.pyramid()
    parts, sums = list(pyramid.blocks()), []
    for i, part in enumerate(parts):
        sums.append(job.rendered(stored, pyramid, i, part))
        tell("render", i + 1, len(parts))
    tell("pyramid", 0, 1)
    result = job.finish(pyramid, sums, len(stored.blocks), len(missing))
    tell("pyramid", 1, 1)
    return result


@dataclass(frozen=True)
class _Job:
    """What is to be done, and where it stands on the disk."""

    image: Source
    scan: Scan
    config: FitConfig
    device: torch.device
    seed: int
    grid: RenderGrid
    out: Path
    keep: Path | None
    version: Version

    @property
    def work(self) -> Path:
        """Folder of what is done so far."""
        return self.out.with_name(f".{self.out.name}.work")

    @property
    def described(self) -> dict[str, Any]:
        """What the result depends on."""
        return {
            "image": {"sha256": self.scan.sha256, **asdict(self.scan.format)},
            "config": json.loads(self.config.model_dump_json(exclude=_FREE_SETTINGS)),
            "seed": self.seed,
            "shape": self.grid.shape,
            "version": self.version,
        }

    @property
    def fingerprint(self) -> str:
        """Hash of what the result depends on."""
        return hashlib.sha256(json.dumps(self.described, sort_keys=True).encode()).hexdigest()

    def finished(self) -> BlocksResult | None:
        """Give the result where an earlier call came to its end."""
        if not is_zarr(self.out):
            return None
        about = zarr_attributes(self.out).get(_ABOUT, {})
        if about.get("job") != self.fingerprint or (self.keep is not None and not self.keep.is_dir()):
            return None
        shutil.rmtree(self.work, ignore_errors=True)
        return self._result(about["metrics"], about["blocks"], 0)

    def prepare(self, resume: bool) -> StoredField:
        """Make the folders, or find what is done in them."""
        check_folder_free(self.out, is_zarr)
        place, mark = self.keep or self.work / "field", self.work / "job.json"
        if not resume:
            shutil.rmtree(self.work, ignore_errors=True)
        if mark.is_file():
            if json.loads(mark.read_text(encoding="utf-8"))["job"] != self.fingerprint:
                raise StorageError(
                    f"{self.work} holds unfinished work on another image or with other settings. Go on with those, or "
                    "begin anew with resume=False."
                )
            if (place / "index.json").is_file():
                return StoredField.open(place)
        if self.keep is not None:
            check_folder_free(self.keep, lambda folder: (folder / "index.json").is_file())
            shutil.rmtree(self.keep, ignore_errors=True)
        self.work.mkdir(exist_ok=True)
        write_json(mark, {"job": self.fingerprint, **self.described})
        return self._new_field(place).create()

    def fit(self, stored: StoredField, block: int, tell: _Teller) -> None:
        """Fit a block, and write it."""
        ranges = stored.blocks.ranges(block)
        start, tiling = stored.blocks.tiling.part(ranges)
        samples = Samples.of_part(self._pixels(start, tiling.shape), self.scan.format)
        part = Part(tiling, stored.blocks.numbers(ranges))
        run = Run(samples, self.config, self.device, self.seed, part=part)
        steps = 0 if run.idle else self.config.max_steps
        for step in range(steps):
            run.step()
            tell("fit", block + (step + 1) / (steps + 1), len(stored.blocks))
        busy = run.busy[:0] if run.idle else run.busy
        stored.write(block, run.best_field().siren.theta[busy], run.offset, run.scale, busy)

    def pyramid(self) -> Pyramid:
        """Give the output in the making."""
        folder, layout = self.work / "image", self.scan.format
        if not folder.is_dir():
            shutil.rmtree(self.work / "rendered", ignore_errors=True)
            spacing = self.image.spacing and [n * d for n, d in zip(layout.spacing, self.grid.step, strict=True)]
            names, unit = self.image.channel_names, self.image.unit
            with folder_written_aside(folder, is_zarr) as aside:
                shape, dtype = self._out_shape(), layout.dtype
                Pyramid.create(aside, shape, dtype, layout.axes, spacing or None, unit, names, self.version)
        (self.work / "rendered").mkdir(exist_ok=True)
        return Pyramid(folder, layout.axes, self._out_shape())

    def rendered(self, stored: StoredField, pyramid: Pyramid, i: int, part: tuple[slice, ...]) -> dict[str, float]:
        """Render a block unless it is done; give how far the field is from the image's pixels in it."""
        mark = self.work / "rendered" / f"{i:06d}.json"
        if mark.is_file():
            known: dict[str, float] = json.loads(mark.read_text(encoding="utf-8"))
            return known
        grid = self.grid.block([s for s, a in zip(part, self.scan.format.axes, strict=True) if a != "C"])
        pyramid.finest[part] = stored.render(grid, device=self.device)
        found = self._missed(stored, grid)
        write_json(mark, found)
        return found

    def finish(self, pyramid: Pyramid, sums: Sequence[Mapping[str, float]], blocks: int, fitted: int) -> BlocksResult:
        """Make the coarser levels, and move all into place."""
        pyramid.finish()
        count = max(1.0, sum(s["count"] for s in sums))
        mse = sum(s["squared"] for s in sums) / count
        metrics = {
            "psnr": psnr_of(mse, self.scan.peak),
            "rmse": math.sqrt(mse),
            "max_abs": max(s["largest"] for s in sums),
        }
        about = {"job": self.fingerprint, "blocks": blocks, "metrics": metrics, "config": self.described["config"]}
        pyramid.note(_ABOUT, about)
        move_folder(pyramid.folder, self.out)
        shutil.rmtree(self.work, ignore_errors=True)
        return self._result(metrics, blocks, fitted)

    def _new_field(self, place: Path) -> StoredField:
        layout, config = self.scan.format, self.config
        plan = plan_fit(layout.spatial_shape, layout.channels, config)
        blocks = Blocks.cut(plan.tiling, plan.shape, config, memory_bound(config, self.device))
        about = {"config": config.model_dump(), "seed": self.seed, "image_sha256": self.scan.sha256}
        ones, samples = (1.0,) * len(layout.spatial_shape), config.subsamples if config.sees_area else 1
        return StoredField(place, blocks, plan.shape, config.omega_0, ones, layout, samples, about)

    def _pixels(self, start: Sequence[int], shape: Sequence[int]) -> npt.NDArray[Any]:
        """Read a box of the image, with all channels."""
        slices = [slice(a, a + n) for a, n in zip(start, shape, strict=True)]
        if self.scan.format.channel_axis is not None:
            slices.insert(self.scan.format.channel_axis, slice(None))
        return np.asarray(self.image.array[tuple(slices)])

    def _missed(self, stored: StoredField, grid: RenderGrid) -> dict[str, float]:
        """Compare the field, at the pixels whose centres lie in a part of the output, with the image."""
        edges = [(a, a + n * d) for a, n, d in zip(grid.start, grid.shape, grid.step, strict=True)]
        pixels = [(math.ceil(a - 0.5 - 1e-9), math.ceil(b - 0.5 - 1e-9)) for a, b in edges]
        start, shape = [a for a, _ in pixels], [b - a for a, b in pixels]
        if 0 in shape:
            return {"squared": 0.0, "largest": 0.0, "count": 0}
        own = RenderGrid(tuple(shape), tuple(map(float, start)), (1.0,) * len(shape))
        missed = np.subtract(stored.render(own, device=self.device), self._pixels(start, shape), dtype=np.float64)
        return {
            "squared": float(np.square(missed).sum()),
            "largest": float(np.abs(missed).max()),
            "count": missed.size,
        }

    def _out_shape(self) -> tuple[int, ...]:
        shape = list(self.grid.shape)
        if self.scan.format.channel_axis is not None:
            shape.insert(self.scan.format.channel_axis, self.scan.format.channels)
        return tuple(shape)

    def _result(self, metrics: Mapping[str, float], blocks: int, fitted: int) -> BlocksResult:
        numbers = {name: float(value) for name, value in metrics.items()}
        return BlocksResult(
            self.out,
            self._out_shape(),
            self.scan.format.axes,
            **numbers,
            blocks=blocks,
            fitted=fitted,
            field=self.keep,
        )


class _Teller:
    """Tells of the work as it goes on."""

    def __init__(self, on_progress: Callable[[BlockProgress], object] | None) -> None:
        self._on_progress = on_progress
        self._phase, self._began = "", 0.0

    def __call__(self, phase: Phase, done: float, total: int) -> None:
        if phase != self._phase:
            self._phase, self._began = phase, time.perf_counter()
        if self._on_progress is not None:
            self._on_progress(BlockProgress(phase, done, total, time.perf_counter() - self._began))


def _settings(config: FitConfig, overrides: Mapping[str, Any]) -> FitConfig:
    """Give the settings, unless there are some among them that a block on its own cannot follow."""
    settings = config.override(**overrides)
    if settings.tile == "whole":
        raise ConfigError('tile="whole" is one network for the image, which cannot be fitted block by block.')
    for name, off in (("max_seconds", None), ("target_psnr", None), ("heldout", 0.0)):
        if getattr(settings, name) != off:
            raise ConfigError(f"{name} is about the image as a whole; block by block, choose max_steps instead.")
    if settings.psf_width == "auto":
        raise ConfigError('psf_width="auto" needs the whole image: estimate it from a part, and give the number.')
    return settings
