"""`BlockJob`: the work on a large image, with its state on the disk.

Each part of the work is marked on the disk when it is done. If the process is killed, another one continues the job.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_siren.blockwise.marks import (
    ABOUT,
    BoxMark,
    JobMark,
    Notes,
    check_absent,
    damage_named,
    read_about,
    read_mark,
    write_mark,
)
from napari_siren.core.field.stored import INDEX, StoredField
from napari_siren.core.field.tiling import RenderGrid
from napari_siren.core.forward.operator import pixel_model
from napari_siren.core.image.metrics import psnr_of
from napari_siren.core.image.samples import Samples
from napari_siren.core.image.statistics import ImageStatistics, LazyArray
from napari_siren.core.restoration.blockwise import BlockRestorer, Windows, block_detail
from napari_siren.core.restoration.pipeline import tile_config
from napari_siren.core.restoration.pretrained.plan import can_enlarge, tile_settings
from napari_siren.core.restoration.super_resolution import allows_zero_shot
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.storage.atomic import check_folder_free, move_folder
from napari_siren.core.storage.tensors import read_tensors, write_tensors
from napari_siren.core.training.plan import cut_blocks, memory_bound, plan_fit
from napari_siren.core.training.targets import variation_for
from napari_siren.core.training.trainer import TileSubset, TileTrainer
from napari_siren.errors import StorageError
from napari_siren.io.details import Details
from napari_siren.io.zarr.group import is_zarr
from napari_siren.io.zarr.ngff import Version
from napari_siren.io.zarr.pyramid import Pyramid

_LOG = logging.getLogger("napari_siren")

# Longest name of a result, in bytes, that is a part of the name of its folder of unfinished work.
_LONG_NAME = 240
# Width of the margin around a box, in pixels. The outermost pixels of the box depend on its samples.
_BOX_MARGIN = 8


@dataclass(frozen=True)
class BlockJob:
    """The work on an image, with its state on the disk.

    Parameters
    ----------
    image, scan
        The image, and its statistics.
    spacing, unit, channel_names
        Metadata for the output: spacing of the image's pixels along each spatial axis, or None; unit of the spacing;
        names of the channels.
    config, device, seed
        Settings, device and seed of the fit.
    grid
        Grid of the output.
    out
        Path of the OME-Zarr image to write.
    keep
        Folder to keep the field in, or None.
    version
        Version of OME-Zarr.
    """

    image: LazyArray
    scan: ImageStatistics
    spacing: Sequence[float] | None
    unit: str | None
    channel_names: Sequence[str] | None
    details: Details
    config: FitConfig
    device: torch.device
    seed: int
    grid: RenderGrid
    out: Path
    keep: Path | None
    version: Version

    @property
    def work(self) -> Path:
        """Folder of the unfinished work."""
        name = self.out.name
        if len(name.encode()) > _LONG_NAME:
            name = hashlib.sha256(name.encode()).hexdigest()
        return self.out.with_name(f".{name}.work")

    @property
    def described(self) -> dict[str, Any]:
        """Everything with an influence on the result, as plain values."""
        return {
            "image": {"sha256": self.scan.sha256, **asdict(self.scan.layout)},
            "config": self.config.described(),
            "seed": self.seed,
            "shape": self.grid.shape,
            "version": self.version,
        }

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything with an influence on the result."""
        return hashlib.sha256(json.dumps(self.described, sort_keys=True).encode()).hexdigest()

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the output, in the image's order of axes."""
        return self.scan.layout.full_shape(self.grid.shape)

    def finished(self) -> dict[str, Any] | None:
        """Return the metadata of the output if an earlier job has finished the same work, or None."""
        about = read_about(self.out)
        if about is None or about.job != self.fingerprint:
            return None
        if self.keep is not None and not (self.keep / INDEX).is_file():
            return None
        shutil.rmtree(self.work, ignore_errors=True)
        return about.model_dump()

    def check_nothing_replaced(self) -> None:
        """Check whether the work can be done without replacing a result. A field of this job is continued.

        Raises
        ------
        StorageError
            The output exists, or the folder to keep the field in has a field of another job.
        """
        check_absent(self.out, is_zarr(self.out))
        if self.keep is not None and (self.keep / INDEX).is_file():
            try:
                about = StoredField.open(self.keep).about
            except StorageError:
                about = {}
            check_absent(self.keep, about.get("job") != self.fingerprint)

    def prepare(self, resume: bool) -> StoredField:
        """Make the folders, or open those of earlier work.

        Parameters
        ----------
        resume
            Whether to continue earlier work. Otherwise it is deleted.

        Returns
        -------
        StoredField
            The field, with the finished blocks.

        Raises
        ------
        StorageError
            The folders cannot be written, or contain unfinished work of another kind.
        """
        path, mark = self.keep or self.work / "field", self.work / "job.json"
        if not resume or not mark.is_file():
            # Without its mark, work may be on another image.
            shutil.rmtree(self.work, ignore_errors=True)
        else:
            if read_mark(mark, JobMark).job != self.fingerprint:
                raise StorageError(
                    f"{self.work} contains unfinished work on another image or with other settings. Continue with "
                    "those, or start again with resume=False."
                )
            if (path / INDEX).is_file():
                with damage_named(path / INDEX, StorageError):
                    stored = StoredField.open(path)
                # A folder to keep the field in may have that of another job.
                if stored.about.get("job") == self.fingerprint:
                    return stored
        if self.keep is not None:
            check_folder_free(self.keep, lambda folder: (folder / INDEX).is_file())
        shutil.rmtree(path, ignore_errors=True)
        self.work.mkdir(exist_ok=True)
        write_mark(mark, {"job": self.fingerprint, **self.described})
        return self._new_field(path).create()

    def store_notes(self, sentences: Sequence[str]) -> None:
        """Store notes on the work, with those of earlier sessions."""
        earlier = self._notes()
        notes = tuple(dict.fromkeys([*earlier, *sentences]))
        if notes != earlier:
            write_mark(self.work / "notes.json", {"notes": notes})

    def _notes(self) -> tuple[str, ...]:
        """Return the stored notes."""
        path = self.work / "notes.json"
        return read_mark(path, Notes).notes if path.is_file() else ()

    # ---- the fit ---------------------------------------------------------------------------------------

    def train(self, on_step: Callable[[int, int], object]) -> BlockRestorer | None:
        """Return the trained network for super-resolution, or None if the settings need none.

        It is trained on windows of the image, and stored. A stored network is loaded instead.
        """
        layout = self.scan.layout
        if not allows_zero_shot(layout.spatial_shape, self.config):
            return None
        restorer, path = BlockRestorer(self._pixels, layout, self.config, self.device, self.seed), self.work / "teacher"
        if path.is_file():
            with damage_named(path, StorageError):
                tensors = read_tensors(path)
            with damage_named(path, KeyError, RuntimeError, ValueError):
                restorer.load(tensors)
            return restorer
        restorer.train(on_step)
        write_tensors(path, restorer.state())
        return restorer

    @cached_property
    def tile_config(self) -> FitConfig:
        """Settings of the fit of the tiles, with the values estimated from the whole image."""
        config, layout = self.config, self.scan.layout
        if allows_zero_shot(layout.spatial_shape, config):
            settings = tile_settings(config, config.detail) if can_enlarge(layout, config) else {}
            return tile_config(config, config.max_steps).override(**settings)
        if config.total_variation == "auto":
            config = config.override(total_variation=variation_for(Windows.from_image(self._pixels, layout).noise))
        return config

    def fit(
        self, stored: StoredField, block: int, restorer: BlockRestorer | None, on_step: Callable[[float], object]
    ) -> list[str]:
        """Fit a block, write it, and return notes on the fit.

        Parameters
        ----------
        stored
            The field to write to.
        block
            Number of the block.
        restorer
            Trained network for super-resolution, or None.
        on_step
            Function to call with the finished share of the block, 0 to 1.
        """
        ranges = stored.blocks.ranges(block)
        start, tiling = stored.blocks.tiling.part(ranges)
        if restorer is None:
            samples = Samples.from_part(self._pixels(start, tiling.shape), self.scan.layout)
        else:
            samples = restorer.samples(start, stored.part_format(tiling.shape))
        part = TileSubset(tiling, stored.blocks.numbers(ranges))
        run = TileTrainer(samples, self.tile_config, self.device, self.seed, part=part)
        steps = 0 if run.idle else self.tile_config.max_steps
        for step in range(steps):
            run.step()
            on_step((step + 1) / (steps + 1))
        busy = run.busy[:0] if run.idle else run.busy
        stored.write(block, run.best_field().siren.theta[busy], run.offset, run.scale, busy)
        return run.history.notes

    def _new_field(self, path: Path) -> StoredField:
        """Return the field without blocks, with the tiles of the whole image."""
        layout, config = self.scan.layout, self.tile_config
        restored = allows_zero_shot(layout.spatial_shape, self.config)
        detail = block_detail(self.config) if restored else 1
        plan = plan_fit([n * detail for n in layout.spatial_shape], layout.channels, config)
        blocks = cut_blocks(plan.tiling, plan.network, config, memory_bound(config, self.device))
        about = {"config": self.config.model_dump(), "seed": self.seed, "image_sha256": self.scan.sha256}
        about["job"] = self.fingerprint
        ones, subsamples = (1.0,) * len(layout.spatial_shape), config.subsamples if config.sees_area else detail
        return StoredField(path, blocks, plan.network, config.omega_0, ones, layout, subsamples, about)

    def _pixels(self, start: Sequence[int], shape: Sequence[int]) -> npt.NDArray[Any]:
        """Read a box of the image, with all channels."""
        slices = [slice(a, a + n) for a, n in zip(start, shape, strict=True)]
        return np.asarray(self.image[self.scan.layout.axes.with_channel(slices, slice(None))])

    # ---- the output ------------------------------------------------------------------------------------

    def pyramid(self) -> Pyramid:
        """Return the unfinished output. Pixels of earlier work stay in it, and its metadata are written anew."""
        folder, aside, layout = self.work / "image", self.work / "empty", self.scan.layout
        finer = self.spacing and [n * d for n, d in zip(layout.spacing, self.grid.step, strict=True)]
        details = self.details.resampled(layout.axes.coordinates, self.spacing, self.grid.step)
        description = (layout.axes, finer, self.unit, self.channel_names, self.version, details)
        shutil.rmtree(aside, ignore_errors=True)
        Pyramid.create(aside, self.out_shape, layout.dtype, *description)
        with damage_named(folder, OSError):
            shutil.copytree(aside, folder, dirs_exist_ok=True)
            (self.work / "rendered").mkdir(exist_ok=True)
        return Pyramid(folder, layout.axes, self.out_shape)

    def render(self, stored: StoredField, pyramid: Pyramid, number: int, box: tuple[slice, ...]) -> Mapping[str, Any]:
        """Render a box of the output, unless it is done, and return its mark with the errors of the field in it."""
        path = self.work / "rendered" / f"{number:06d}.json"
        if path.is_file():
            mark = read_mark(path, BoxMark)
            if mark.pixels == _hash_of(pyramid, box):
                return mark.model_dump()
            _LOG.warning("%s is damaged; a part of it is rendered again", pyramid.folder)
        grid = self.grid.block(self.scan.layout.axes.pick(box))
        pyramid.finest[box] = stored.on_grid(grid, device=self.device)
        entries = {"pixels": _hash_of(pyramid, box), **self._errors(stored, grid)}
        write_mark(path, entries)
        return entries

    def finish(self, pyramid: Pyramid, missed: Sequence[Mapping[str, Any]], blocks: int) -> dict[str, Any]:
        """Make the coarser levels, move the output to its path, and return its metadata.

        Parameters
        ----------
        pyramid
            The output.
        missed
            Marks of all boxes, as returned by `render`.
        blocks
            Number of blocks.
        """
        pyramid.finish()
        mse = sum(box["squared"] for box in missed) / max(1.0, sum(box["count"] for box in missed))
        about = {
            "job": self.fingerprint,
            "blocks": blocks,
            "psnr": psnr_of(mse, self.scan.peak),
            "rmse": math.sqrt(mse),
            "max_abs": max(box["largest"] for box in missed),
            "notes": list(self._notes()),
            "config": self.described["config"],
        }
        pyramid.note(ABOUT, about)
        move_folder(pyramid.folder, self.out)
        shutil.rmtree(self.work, ignore_errors=True)
        return about

    def _errors(self, stored: StoredField, grid: RenderGrid) -> dict[str, float]:
        """Return the errors of the field at the pixels of the image with centres in a part of the output.

        They are the sum of the squares, the largest absolute value, and the number of values.
        """
        edges = [(a, a + n * d) for a, n, d in zip(grid.start, grid.shape, grid.step, strict=True)]
        pixels = [(math.ceil(a - 0.5 - 1e-9), math.ceil(b - 0.5 - 1e-9)) for a, b in edges]
        start, shape = [a for a, _ in pixels], [b - a for a, b in pixels]
        if 0 in shape:
            return {"squared": 0.0, "largest": 0.0, "count": 0}
        error = np.subtract(self._reconstruct(stored, start, shape), self._pixels(start, shape), dtype=np.float64)
        return {"squared": float(np.square(error).sum()), "largest": float(np.abs(error).max()), "count": error.size}

    def _reconstruct(self, stored: StoredField, start: Sequence[int], shape: Sequence[int]) -> npt.NDArray[Any]:
        """Return the rounded reconstruction of a box of the image's pixels; see `Field.reconstruct`."""
        layout, detail = self.scan.layout, round(stored.refinement[0])
        if detail == 1:
            own = RenderGrid(tuple(shape), tuple(map(float, start)), (1.0,) * len(shape))
            return stored.on_grid(own, device=self.device)
        ends = zip(start, shape, layout.spatial_shape, strict=True)
        box = [(max(0, a - _BOX_MARGIN), min(n, a + m + _BOX_MARGIN)) for a, m, n in ends]
        fine = RenderGrid(
            tuple(detail * (b - a) for a, b in box), tuple(float(a) for a, _ in box), (1 / detail,) * len(box)
        )
        values = layout.to_channels_first(stored.on_grid(fine, dtype=np.float64, device=self.device))
        observation = pixel_model(self.config, layout.spacing)
        pixels = observation(torch.from_numpy(np.ascontiguousarray(values)), [b - a for a, b in box])
        inside = (slice(a - low, a - low + n) for a, n, (low, _) in zip(start, shape, box, strict=True))
        return layout.cast(layout.from_channels_first(pixels.numpy()[(slice(None), *inside)]))


def _hash_of(pyramid: Pyramid, box: tuple[slice, ...]) -> str | None:
    """Return the hash of the pixels in a box of the output, or None if they cannot be read."""
    try:
        return hashlib.sha256(np.ascontiguousarray(pyramid.finest[box]).data).hexdigest()
    # Decoders raise many kinds of exceptions on damaged data.
    except Exception:
        return None
