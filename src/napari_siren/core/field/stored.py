"""`StoredField`: a field too large for memory, in a folder of one file for each block of tiles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import Tensor

from napari_siren.core.atomic import write_json, written_aside
from napari_siren.core.field.blocks import Blocks, Ranges, numbers_within
from napari_siren.core.field.field import Derivative, Field
from napari_siren.core.field.partition import Blend
from napari_siren.core.field.tiling import AxisTiling, RenderGrid, Tiling
from napari_siren.core.image.samples import ImageFormat
from napari_siren.core.network.siren import Siren, SirenShape
from napari_siren.errors import StorageError

FORMAT = "napari-siren blocks"
FORMAT_VERSION = 1
INDEX = "index.json"


@dataclass(frozen=True)
class StoredField:
    """A field of which no more is in memory than what is asked for.

    Parameters
    ----------
    folder
        With an index, and a safetensors file for each block of tiles.
    blocks
        The tiles, and which of them each file has.
    network, omega_0, coordinate_scale
        Of every tile, as in `Siren` and `Blend`.
    format
        Axes, spacing and value range of the image.
    samples_per_pixel
        As in `Field`.
    about
        What else is known: settings, and what made it.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib, napari_siren as ns
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> image = np.random.default_rng(0).integers(0, 255, (48, 64), dtype=np.uint8)
    >>> _ = ns.fit_blocks(image, folder / "x2.ome.zarr", preset="fast", max_steps=20, field=folder / "field")
    >>> ns.StoredField.open(folder / "field").render(scale=4, region=[(0, 8), (8, 24)]).shape
    (32, 64)
    """

    folder: Path
    blocks: Blocks
    network: SirenShape
    omega_0: float
    coordinate_scale: tuple[float, ...]
    format: ImageFormat
    samples_per_pixel: int
    about: Mapping[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> StoredField:
        """Open a folder; its blocks are read when they are asked for.

        Raises
        ------
        StorageError
            There is no such folder, or it is not a stored field, or one of a later version.
        """
        folder = Path(folder)
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            if index["kind"] != FORMAT or index["version"] > FORMAT_VERSION:
                raise StorageError(f"{folder} is of a later version of napari-siren. Update napari-siren.")
            axes = tuple(AxisTiling(axis["size"], tuple(axis["borders"]), axis["overlap"]) for axis in index["tiling"])
            described: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in index["format"].items()}
            return cls(
                folder,
                Blocks(Tiling(axes), tuple(index["blocks"])),
                SirenShape(**index["network"]),
                index["omega_0"],
                tuple(index["coordinate_scale"]),
                ImageFormat(**described),
                index["samples_per_pixel"],
                index["about"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{folder} is not a folder of a stored field ({error}).") from error

    def create(self) -> StoredField:
        """Make the folder and write the index."""
        self.folder.mkdir(parents=True, exist_ok=True)
        index = {
            "kind": FORMAT,
            "version": FORMAT_VERSION,
            "format": asdict(self.format),
            "tiling": [asdict(axis) for axis in self.blocks.tiling.axes],
            "blocks": self.blocks.counts,
            "network": asdict(self.network),
            "omega_0": self.omega_0,
            "coordinate_scale": self.coordinate_scale,
            "samples_per_pixel": self.samples_per_pixel,
            "about": dict(self.about),
        }
        write_json(self.folder / INDEX, index)
        return self

    def has(self, block: int) -> bool:
        """Whether a block is there: it is written whole or not at all."""
        return self._path(block).is_file()

    def write(self, block: int, theta: Tensor, offset: Tensor, scale: Tensor, busy: Tensor) -> None:
        """Write a block: the parameters of the tiles `busy` (indices in the block), offset and scale of all."""
        tensors = {"theta": theta, "offset": offset, "scale": scale, "busy": busy}
        with written_aside(self._path(block)) as aside:
            aside.write_bytes(serialise({k: v.detach().cpu().contiguous() for k, v in tensors.items()}))

    def part(self, ranges: Ranges) -> tuple[tuple[int, ...], Field, bool]:
        """Read some tiles.

        Returns
        -------
        start : tuple of int
            The sample of the whole field's tiling that is the first one of the part.
        field : Field
            Of these tiles alone, in the samples that they were fitted to.
        busy : bool
            Whether any of them is more than constant.
        """
        start, tiling = self.blocks.tiling.part(ranges)
        theta = torch.zeros(tiling.count, self.network.parameters)
        offset, scale = torch.empty(tiling.count, self.network.outputs), torch.empty(tiling.count, 1)
        some = False
        for block, shared in self.blocks.touched(ranges):
            own = self.blocks.ranges(block)
            there = numbers_within(shared, own, [b - a for a, b in own])
            here = torch.from_numpy(numbers_within(shared, ranges, tiling.counts))
            stored = self._read(block)
            offset[here], scale[here] = stored["offset"][there], stored["scale"][there]
            place = torch.full((len(stored["offset"]),), -1)
            place[stored["busy"]] = torch.arange(len(stored["busy"]))
            rows = place[there]
            theta[here[rows >= 0]] = stored["theta"][rows[rows >= 0]]
            some |= bool((rows >= 0).any())
        blend = Blend(Siren(self.network, theta, self.omega_0), tiling, offset, scale, self.coordinate_scale)
        return start, Field(blend, self.part_format(tiling.shape), 1), some

    def render(
        self,
        scale: float | Sequence[float] | None = None,
        shape: Sequence[int] | None = None,
        spacing: float | Sequence[float] | None = None,
        region: Sequence[tuple[float, float]] | None = None,
        derivative: Derivative | None = None,
        dtype: npt.DTypeLike | None = None,
    ) -> npt.NDArray[Any]:
        """Evaluate on a regular grid, as `FitResult.render` does; of a large field, on a region at a time.

        Parameters
        ----------
        scale, shape, spacing
            One of them, or none for the image's own resolution: output pixels per pixel, their number, their size.
        region
            (start, stop) for each spatial axis, in pixels of the original; None is all of it.
        derivative, dtype
            As in `FitResult.render`.

        Returns
        -------
        ndarray
            In the image's order of axes.

        Raises
        ------
        InputError
            As `FitResult.render` does.
        StorageError
            A block is not there, or is damaged.
        """
        layout = self.format
        grid = RenderGrid.of(
            layout.spatial_shape, layout.spacing, scale=scale, shape=shape, spacing=spacing, region=region
        )
        return self.on_grid(grid, derivative, dtype)

    def on_grid(
        self,
        grid: RenderGrid,
        derivative: Derivative | None = None,
        dtype: npt.DTypeLike | None = None,
        device: torch.device | str = "cpu",
    ) -> npt.NDArray[Any]:
        """Evaluate on a grid that fits into memory; as `Field.render` does, with the tiles that it touches.

        Parameters
        ----------
        grid
            In pixels of the image: a `RenderGrid.block` of that of the whole.
        derivative, dtype
            As in `Field.render`.
        device
            Where to evaluate.
        """
        low = [a * f for a, f in zip(grid.start, self.refinement, strict=True)]
        step = tuple(d * f for d, f in zip(grid.step, self.refinement, strict=True))
        high = [a + n * d for a, n, d in zip(low, grid.shape, step, strict=True)]
        start, field, busy = self.part(self.blocks.seen_from(low, high))
        field = replace(field, samples_per_pixel=self._samples_per_sample)
        if not busy and derivative is None and bool((field.blend.offset == field.blend.offset[0]).all()):
            return self._constant(grid.shape, field.blend.offset[0], dtype)
        local = RenderGrid(grid.shape, tuple(a - b for a, b in zip(low, start, strict=True)), step)
        rendered: npt.NDArray[Any] = field.to(device).render(local, derivative, dtype)
        return rendered

    @property
    def refinement(self) -> tuple[float, ...]:
        """Samples per pixel along each axis that the tiles were fitted to."""
        return tuple(n / m for n, m in zip(self.blocks.tiling.shape, self.format.spatial_shape, strict=True))

    @property
    def _samples_per_sample(self) -> int:
        """How many samples an output pixel as large as one of the tiling's own is averaged over."""
        return max(1, round(self.samples_per_pixel / max(self.refinement)))

    def _constant(self, shape: Sequence[int], value: Tensor, dtype: npt.DTypeLike | None) -> npt.NDArray[Any]:
        """Return what constant tiles that are all the same have everywhere."""
        units = value.numpy().astype(np.float64) * np.array(self.format.scale) + np.array(self.format.offset)
        whole = np.broadcast_to(self.format.cast(units, dtype).reshape(-1, *(1,) * len(shape)), (len(units), *shape))
        return self.format.from_channels_first(whole)

    def part_format(self, shape: Sequence[int]) -> ImageFormat:
        """Format of a part as an image of its own, whose pixels are the samples that its tiles were fitted to."""
        sizes = list(shape)
        if self.format.channel_axis is not None:
            sizes.insert(self.format.channel_axis, self.format.channels)
        spacing = tuple(length / f for length, f in zip(self.format.spacing, self.refinement, strict=True))
        return replace(self.format, shape=tuple(sizes), spacing=spacing)

    def _path(self, block: int) -> Path:
        return self.folder / f"{block:06d}.safetensors"

    def _read(self, block: int) -> dict[str, Tensor]:
        path = self._path(block)
        try:
            tensors: dict[str, Tensor] = load_file(path)
            own = self.blocks.ranges(block)
            if len(tensors["offset"]) != np.prod([b - a for a, b in own]):
                raise StorageError(f"{path} is damaged: it has not the tiles that the index says.")
        except (OSError, SafetensorError, KeyError) as error:
            raise StorageError(f"{path} is not a whole block of a stored field ({error}).") from error
        return tensors
