"""`BlockJob`: what is to be done to a large image, and how far it is, on the disk.

Each step leaves its mark when it is done, so that a job whose process was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
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
from safetensors.torch import load_file
from safetensors.torch import save as serialise

from napari_siren.core.atomic import check_folder_free, folder_written_aside, move_folder, write_json, written_aside
from napari_siren.core.config import FitConfig
from napari_siren.core.field.stored import INDEX, StoredField
from napari_siren.core.field.tiling import RenderGrid
from napari_siren.core.forward.operator import pixel_model
from napari_siren.core.image.metrics import psnr_of
from napari_siren.core.image.samples import Samples
from napari_siren.core.image.statistics import LazyArray, Scan
from napari_siren.core.restoration.base import wants_cross_scale
from napari_siren.core.restoration.blockwise import BlockTeacher, Windows, block_detail
from napari_siren.core.restoration.pipeline import tile_config
from napari_siren.core.training.plan import cut_blocks, memory_bound, plan_fit
from napari_siren.core.training.targets import variation_for
from napari_siren.core.training.trainer import Part, Run
from napari_siren.errors import StorageError
from napari_siren.io.ngff import Version
from napari_siren.io.ome_zarr import Pyramid, is_zarr, zarr_attributes

_ABOUT = "napari_siren"
# What does not change the result.
_FREE_SETTINGS = {"engine", "threads", "max_memory", "memory_fraction"}
# Pixels about a block whose samples its outermost ones see.
_SEEN_MARGIN = 8


@dataclass(frozen=True)
class BlockJob:
    """What is to be done to an image, and where it stands on the disk.

    Parameters
    ----------
    image, scan
        The image, and what is known of it.
    spacing, unit, channel_names
        What the output is to tell: spacing of the image's pixels along each spatial axis, or None.
    config, device, seed
        Of the fit.
    grid
        Of the output.
    out
        The OME-Zarr image to write.
    keep
        Folder that the field is kept in, or None.
    version
        Of OME-Zarr.
    """

    image: LazyArray
    scan: Scan
    spacing: Sequence[float] | None
    unit: str | None
    channel_names: Sequence[str] | None
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

    @cached_property
    def fingerprint(self) -> str:
        """Hash of what the result depends on."""
        return hashlib.sha256(json.dumps(self.described, sort_keys=True).encode()).hexdigest()

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the output, in the image's order of axes."""
        layout, shape = self.scan.format, list(self.grid.shape)
        if layout.channel_axis is not None:
            shape.insert(layout.channel_axis, layout.channels)
        return tuple(shape)

    def finished(self) -> dict[str, Any] | None:
        """Return what an earlier job noted that did the same and came to its end."""
        if not is_zarr(self.out):
            return None
        about: dict[str, Any] = zarr_attributes(self.out).get(_ABOUT, {})
        if about.get("job") != self.fingerprint or (self.keep is not None and not (self.keep / INDEX).is_file()):
            return None
        shutil.rmtree(self.work, ignore_errors=True)
        return about

    def prepare(self, resume: bool) -> StoredField:
        """Make the folders, or find what is done in them.

        Raises
        ------
        StorageError
            Nothing can be written there, or there is unfinished work of another kind.
        """
        place, mark = self.keep or self.work / "field", self.work / "job.json"
        if not resume:
            shutil.rmtree(self.work, ignore_errors=True)
        if mark.is_file():
            if json.loads(mark.read_text(encoding="utf-8"))["job"] != self.fingerprint:
                raise StorageError(
                    f"{self.work} holds unfinished work on another image or with other settings. Go on with those, or "
                    "begin anew with resume=False."
                )
            if (place / INDEX).is_file():
                return StoredField.open(place)
        if self.keep is not None:
            check_folder_free(self.keep, lambda folder: (folder / INDEX).is_file())
            shutil.rmtree(self.keep, ignore_errors=True)
        self.work.mkdir(exist_ok=True)
        write_json(mark, {"job": self.fingerprint, **self.described})
        return self._new_field(place).create()

    # ---- the fit ---------------------------------------------------------------------------------------

    def learn(self, on_step: Callable[[int, int], object]) -> BlockTeacher | None:
        """Let a network learn from windows of the image, where the settings want one, unless that is done."""
        layout = self.scan.format
        if not wants_cross_scale(layout.spatial_shape, self.config):
            return None
        teacher, path = BlockTeacher(self._pixels, layout, self.config, self.device, self.seed), self.work / "teacher"
        if path.is_file():
            teacher.load(load_file(path))
            return teacher
        teacher.learn(on_step)
        with written_aside(path) as aside:
            aside.write_bytes(serialise({name: t.contiguous() for name, t in teacher.state().items()}))
        return teacher

    @cached_property
    def tile_config(self) -> FitConfig:
        """Settings that tiles are fitted with: what they need to know of the whole image is in them."""
        config, layout = self.config, self.scan.format
        if wants_cross_scale(layout.spatial_shape, config):
            return tile_config(config, config.max_steps)
        if config.total_variation == "auto":
            config = config.override(total_variation=variation_for(Windows.of(self._pixels, layout).noise))
        return config

    def fit(
        self, stored: StoredField, block: int, teacher: BlockTeacher | None, on_step: Callable[[float], object]
    ) -> None:
        """Fit a block, and write it; `on_step` is told what share is done."""
        ranges = stored.blocks.ranges(block)
        start, tiling = stored.blocks.tiling.part(ranges)
        if teacher is None:
            samples = Samples.of_part(self._pixels(start, tiling.shape), self.scan.format)
        else:
            samples = teacher.samples(start, stored.part_format(tiling.shape))
        part = Part(tiling, stored.blocks.numbers(ranges))
        run = Run(samples, self.tile_config, self.device, self.seed, part=part)
        steps = 0 if run.idle else self.tile_config.max_steps
        for step in range(steps):
            run.step()
            on_step((step + 1) / (steps + 1))
        busy = run.busy[:0] if run.idle else run.busy
        stored.write(block, run.best_field().siren.theta[busy], run.offset, run.scale, busy)

    def _new_field(self, place: Path) -> StoredField:
        layout, config = self.scan.format, self.tile_config
        crossed = wants_cross_scale(layout.spatial_shape, self.config)
        detail = block_detail(self.config) if crossed else 1
        plan = plan_fit([n * detail for n in layout.spatial_shape], layout.channels, config)
        blocks = cut_blocks(plan.tiling, plan.shape, config, memory_bound(config, self.device))
        about = {"config": self.config.model_dump(), "seed": self.seed, "image_sha256": self.scan.sha256}
        ones, averaged = (1.0,) * len(layout.spatial_shape), config.subsamples if config.sees_area else detail
        return StoredField(place, blocks, plan.shape, config.omega_0, ones, layout, averaged, about)

    def _pixels(self, start: Sequence[int], shape: Sequence[int]) -> npt.NDArray[Any]:
        """Read a box of the image, with all channels."""
        slices = [slice(a, a + n) for a, n in zip(start, shape, strict=True)]
        if self.scan.format.channel_axis is not None:
            slices.insert(self.scan.format.channel_axis, slice(None))
        return np.asarray(self.image[tuple(slices)])

    # ---- the output ------------------------------------------------------------------------------------

    def pyramid(self) -> Pyramid:
        """Return the output in the making."""
        folder, layout, marks = self.work / "image", self.scan.format, self.work / "rendered"
        if not folder.is_dir():
            shutil.rmtree(marks, ignore_errors=True)
            finer = self.spacing and [n * d for n, d in zip(layout.spacing, self.grid.step, strict=True)]
            with folder_written_aside(folder, is_zarr) as aside:
                described = (layout.axes, finer, self.unit, self.channel_names, self.version)
                Pyramid.create(aside, self.out_shape, layout.dtype, *described)
        marks.mkdir(exist_ok=True)
        return Pyramid(folder, layout.axes, self.out_shape)

    def render(self, stored: StoredField, pyramid: Pyramid, number: int, box: tuple[slice, ...]) -> Mapping[str, float]:
        """Render a box of the output, unless it is done; give how far the field is from the image in it."""
        mark = self.work / "rendered" / f"{number:06d}.json"
        if mark.is_file():
            known: dict[str, float] = json.loads(mark.read_text(encoding="utf-8"))
            return known
        grid = self.grid.block([s for s, a in zip(box, self.scan.format.axes, strict=True) if a != "C"])
        pyramid.finest[box] = stored.on_grid(grid, device=self.device)
        found = self._missed(stored, grid)
        write_json(mark, found)
        return found

    def finish(self, pyramid: Pyramid, missed: Sequence[Mapping[str, float]], blocks: int) -> dict[str, Any]:
        """Make the coarser levels, move all into place, and return what is noted in the output."""
        pyramid.finish()
        mse = sum(box["squared"] for box in missed) / max(1.0, sum(box["count"] for box in missed))
        about = {
            "job": self.fingerprint,
            "blocks": blocks,
            "psnr": psnr_of(mse, self.scan.peak),
            "rmse": math.sqrt(mse),
            "max_abs": max(box["largest"] for box in missed),
            "config": self.described["config"],
        }
        pyramid.note(_ABOUT, about)
        move_folder(pyramid.folder, self.out)
        shutil.rmtree(self.work, ignore_errors=True)
        return about

    def _missed(self, stored: StoredField, grid: RenderGrid) -> dict[str, float]:
        """Compare what the pixels whose centres lie in a part of the output see of the field with the image."""
        edges = [(a, a + n * d) for a, n, d in zip(grid.start, grid.shape, grid.step, strict=True)]
        pixels = [(math.ceil(a - 0.5 - 1e-9), math.ceil(b - 0.5 - 1e-9)) for a, b in edges]
        start, shape = [a for a, _ in pixels], [b - a for a, b in pixels]
        if 0 in shape:
            return {"squared": 0.0, "largest": 0.0, "count": 0}
        missed = np.subtract(self._seen(stored, start, shape), self._pixels(start, shape), dtype=np.float64)
        return {"squared": float(np.square(missed).sum()), "largest": float(np.abs(missed).max()), "count": missed.size}

    def _seen(self, stored: StoredField, start: Sequence[int], shape: Sequence[int]) -> npt.NDArray[Any]:
        """Return what a box of the image's pixels see of the field, rounded; see `Field.reconstruct`."""
        layout, detail = self.scan.format, round(stored.refinement[0])
        if detail == 1:
            own = RenderGrid(tuple(shape), tuple(map(float, start)), (1.0,) * len(shape))
            return stored.on_grid(own, device=self.device)
        ends = zip(start, shape, layout.spatial_shape, strict=True)
        box = [(max(0, a - _SEEN_MARGIN), min(n, a + m + _SEEN_MARGIN)) for a, m, n in ends]
        fine = RenderGrid(
            tuple(detail * (b - a) for a, b in box), tuple(float(a) for a, _ in box), (1 / detail,) * len(box)
        )
        values = layout.to_channels_first(stored.on_grid(fine, dtype=np.float64, device=self.device))
        observation = pixel_model(self.config, layout.spacing)
        seen = observation(torch.from_numpy(np.ascontiguousarray(values)), [b - a for a, b in box])
        inside = (slice(a - low, a - low + n) for a, n, (low, _) in zip(start, shape, box, strict=True))
        return layout.cast(layout.from_channels_first(seen.numpy()[(slice(None), *inside)]))
