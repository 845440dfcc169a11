"""`StoredField`: a field too large for memory, in a folder with one file for each block of tiles."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field as PydanticField
from pydantic import model_validator
from torch import Tensor

from napari_siren.core.field.blocks import Blocks, Ranges, numbers_within
from napari_siren.core.field.field import Derivative, Field
from napari_siren.core.field.header import FieldHeader, check_tensors
from napari_siren.core.field.partition import PartitionOfUnity
from napari_siren.core.field.tiling import RenderGrid
from napari_siren.core.image.samples import ImageLayout
from napari_siren.core.network.siren import NetworkSpec, Siren
from napari_siren.core.storage.atomic import write_json
from napari_siren.core.storage.records import Length, describe_error, parse_hashed_json, with_hash
from napari_siren.core.storage.tensors import read_tensors, write_tensors
from napari_siren.errors import StorageError

_LOG = logging.getLogger("napari_siren")

# Kind and version of the format, as the index file states them.
FORMAT = "napari-siren blocks"
FORMAT_VERSION = 1
# Name of the index file in the folder.
INDEX = "index.json"


@dataclass(frozen=True)
class StoredField:
    """A field on disk, with only the requested tiles in memory.

    Parameters
    ----------
    folder
        Folder with an index file, and a safetensors file for each block of tiles.
    blocks
        The tiles, and their division into blocks; each file has one block.
    network, omega_0, coordinate_scale
        Parameters of every tile's network, as for `Siren` and `PartitionOfUnity`.
    layout
        Axes, spacing and value range of the image.
    samples_per_pixel
        1 if a pixel observes the field at its centre. Otherwise the number of samples, along each axis, that it
        averages.
    about
        Further metadata: settings and seed of the fit, the SHA-256 of the image, and the hash of the job.

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
    network: NetworkSpec
    omega_0: float
    coordinate_scale: tuple[float, ...]
    layout: ImageLayout
    samples_per_pixel: int
    about: Mapping[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> StoredField:
        """Open a folder. Its blocks are read on demand.

        Raises
        ------
        StorageError
            The folder does not exist, is not a stored field, or is of a later version.
        """
        folder = Path(folder)
        try:
            index = _Index.model_validate(parse_hashed_json((folder / INDEX).read_bytes()))
        except (OSError, ValueError) as error:
            raise StorageError(
                f"{folder} is not a readable stored field ({describe_error(error)}). Pass a folder that `fit_blocks` "
                "wrote."
            ) from error
        if index.version > FORMAT_VERSION:
            raise StorageError(f"{folder} is of a later version of napari-siren. Update napari-siren.")
        assert index.tiles is not None
        return cls(
            folder,
            Blocks(index.tiles.build(), index.blocks),
            index.tiles.network.build(),
            index.tiles.omega_0,
            index.tiles.coordinate_scale,
            index.layout,
            index.samples_per_pixel,
            index.about,
        )

    def create(self) -> StoredField:
        """Create the folder and write the index."""
        self.folder.mkdir(parents=True, exist_ok=True)
        index = {
            "kind": FORMAT,
            "version": FORMAT_VERSION,
            "format": asdict(self.layout),
            "tiling": [asdict(axis) for axis in self.blocks.tiling.axes],
            "blocks": self.blocks.counts,
            "network": asdict(self.network),
            "omega_0": self.omega_0,
            "coordinate_scale": self.coordinate_scale,
            "samples_per_pixel": self.samples_per_pixel,
            "about": dict(self.about),
        }
        write_json(self.folder / INDEX, with_hash(index))
        return self

    def has(self, block: int) -> bool:
        """Return whether a block is stored, and is not damaged."""
        try:
            self._read(block)
        except StorageError:
            if self._path(block).exists():
                _LOG.warning("%s is damaged; the block is fitted again", self._path(block))
            return False
        return True

    def write(self, block: int, theta: Tensor, offset: Tensor, scale: Tensor, busy: Tensor) -> None:
        """Write a block to its file.

        Parameters
        ----------
        block
            Index of the block.
        theta
            (busy tiles, parameters): parameters of the tiles that are not constant.
        offset, scale
            (tiles, channels) and (tiles, 1), of all tiles of the block, as for `PartitionOfUnity`.
        busy
            int64, (busy tiles,): indices of the tiles that are not constant, within the block.
        """
        write_tensors(self._path(block), {"theta": theta, "offset": offset, "scale": scale, "busy": busy})

    def part(self, ranges: Ranges) -> tuple[tuple[int, ...], Field, bool]:
        """Read some tiles.

        Returns
        -------
        start : tuple of int
            First sample of the part, in the whole field's tiling.
        field : Field
            Field of these tiles alone; its pixels are the fitted samples.
        busy : bool
            Whether any of the tiles is not constant.
        """
        start, tiling = self.blocks.tiling.part(ranges)
        theta = torch.zeros(tiling.count, self.network.parameters)
        offset, scale = torch.empty(tiling.count, self.network.outputs), torch.empty(tiling.count, 1)
        any_busy = False
        for block, shared in self.blocks.touched(ranges):
            own = self.blocks.ranges(block)
            source = numbers_within(shared, own, [b - a for a, b in own])
            target = torch.from_numpy(numbers_within(shared, ranges, tiling.counts))
            stored = self._read(block)
            offset[target], scale[target] = stored["offset"][source], stored["scale"][source]
            row_of_tile = torch.full((len(stored["offset"]),), -1)
            row_of_tile[stored["busy"]] = torch.arange(len(stored["busy"]))
            rows = row_of_tile[source]
            theta[target[rows >= 0]] = stored["theta"][rows[rows >= 0]]
            any_busy |= bool((rows >= 0).any())
        blend = PartitionOfUnity(Siren(self.network, theta, self.omega_0), tiling, offset, scale, self.coordinate_scale)
        return start, Field(blend, self.part_format(tiling.shape), 1), any_busy

    def render(
        self,
        scale: float | Sequence[float] | None = None,
        shape: Sequence[int] | None = None,
        spacing: float | Sequence[float] | None = None,
        region: Sequence[tuple[float, float]] | None = None,
        derivative: Derivative | None = None,
        dtype: npt.DTypeLike | None = None,
    ) -> npt.NDArray[Any]:
        """Evaluate on a regular grid, as `FitResult.render` does. Render a large field region by region.

        Parameters
        ----------
        scale, shape, spacing
            At most one of: output pixels per pixel, number of output pixels, physical size of an output pixel. None of
            them is the image's own resolution.
        region
            (start, stop) for each spatial axis, in pixels of the original; None is the whole image.
        derivative, dtype
            The same as for `FitResult.render`.

        Returns
        -------
        ndarray
            The rendered values, with the axes in the image's order.

        Raises
        ------
        InputError
            An argument is invalid, as for `FitResult.render`.
        StorageError
            A block is missing or damaged.
        """
        grid = RenderGrid.from_layout(self.layout, scale=scale, shape=shape, spacing=spacing, region=region)
        return self.on_grid(grid, derivative, dtype)

    def on_grid(
        self,
        grid: RenderGrid,
        derivative: Derivative | None = None,
        dtype: npt.DTypeLike | None = None,
        device: torch.device | str = "cpu",
    ) -> npt.NDArray[Any]:
        """Evaluate on a grid small enough for memory, as `Field.render` does.

        Only the tiles with a weight on the grid are read.

        Parameters
        ----------
        grid
            Grid of output pixels, in pixels of the image: a `RenderGrid.block` of the whole grid.
        derivative, dtype
            The same as for `Field.render`.
        device
            Device of the evaluation.
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
        """Number of fitted samples per pixel along each axis."""
        return tuple(n / m for n, m in zip(self.blocks.tiling.shape, self.layout.spatial_shape, strict=True))

    @property
    def _samples_per_sample(self) -> int:
        """Number of samples, along each axis, of an output pixel as large as a fitted sample."""
        return max(1, round(self.samples_per_pixel / max(self.refinement)))

    def _constant(self, shape: Sequence[int], value: Tensor, dtype: npt.DTypeLike | None) -> npt.NDArray[Any]:
        """Return an array of the common value of constant tiles, in the image's units and order of axes."""
        units = value.numpy().astype(np.float64) * np.array(self.layout.scale) + np.array(self.layout.offset)
        whole = np.broadcast_to(self.layout.cast(units, dtype).reshape(-1, *(1,) * len(shape)), (len(units), *shape))
        return self.layout.from_channels_first(whole)

    def part_format(self, shape: Sequence[int]) -> ImageLayout:
        """Return the layout of a part as an image of its own. Its pixels are the fitted samples."""
        spacing = tuple(length / f for length, f in zip(self.layout.spacing, self.refinement, strict=True))
        return replace(self.layout, shape=self.layout.full_shape(shape), spacing=spacing)

    def _path(self, block: int) -> Path:
        return self.folder / f"{block:06d}.safetensors"

    def _read(self, block: int) -> dict[str, Tensor]:
        path = self._path(block)
        tensors = read_tensors(path)
        try:
            self._check(block, tensors)
        except ValueError as error:
            raise StorageError(
                f"{path} is missing or damaged ({describe_error(error)}). Fit the image again."
            ) from error
        return tensors

    def _check(self, block: int, tensors: Mapping[str, Tensor]) -> None:
        """Compare the tensors of a block with the index, and raise a ValueError if they do not match."""
        tiles = math.prod(b - a for a, b in self.blocks.ranges(block))
        busy = tensors.get("busy")
        if busy is None or busy.dtype != torch.int64 or busy.ndim != 1:
            raise ValueError("the numbers of its tiles are absent")
        if len(busy) and not 0 <= int(busy.min()) <= int(busy.max()) < tiles:
            raise ValueError("it has numbers of tiles that are not in the index")
        if len(torch.unique(busy)) < len(busy):
            raise ValueError("it has a tile twice")
        network = self.network
        shapes = {"theta": (len(busy), network.parameters), "offset": (tiles, network.outputs), "scale": (tiles, 1)}
        check_tensors(tensors, shapes)


class _Index(FieldHeader):
    """The index file of a stored field."""

    kind: Literal["napari-siren blocks"]
    version: Annotated[int, PydanticField(ge=1)]
    blocks: tuple[Length, ...]
    about: dict[str, Any]

    @model_validator(mode="after")
    def _check_blocks(self) -> Self:
        if self.tiles is None:
            raise ValueError("the tiles are absent")
        counts = self.tiles.build().counts
        if len(self.blocks) != len(counts) or any(n > m for n, m in zip(self.blocks, counts, strict=False)):
            raise ValueError("the blocks do not match the tiles")
        return self
