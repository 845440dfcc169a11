"""What a fit needs in memory, known before it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from napari_siren.core.config import FitConfig
from napari_siren.core.device import free_memory
from napari_siren.core.field.blocks import Blocks
from napari_siren.core.field.tiling import Tiling
from napari_siren.core.network.siren import SirenShape
from napari_siren.errors import DeviceError, InputError

# Bytes a value for copies of the image, its rendering and the metrics: measured, 24 to 39.
_VALUE_BYTES = 40
# Larger blocks gain no speed, and lose more work where one is broken off.
_MOST_VALUES = 1 << 22
# Fewer pixels a side leave no room to blend neighbours.
LEAST_TILE = 4


@dataclass(frozen=True)
class Plan:
    """Size of a fit: the tiles, the networks, and the memory, in bytes.

    Parameters
    ----------
    tiling, shape
        The tiles and the network of each.
    data
        Bytes of the image's samples: cut into tiles, and in double precision for the metrics.
    parameters
        Bytes of the parameters with gradient, mean, best copy and optimiser.
    block
        Bytes of the smallest block of activations.
    """

    tiling: Tiling
    shape: SirenShape
    data: int
    parameters: int
    block: int

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.data + self.parameters + self.block


def plan_fit(spatial_shape: Sequence[int], channels: int, config: FitConfig) -> Plan:
    """Lay out a fit: tile size, network size and memory.

    Parameters
    ----------
    spatial_shape, channels
        Of the image.
    config
        The settings.
    """
    dimensions = len(spatial_shape)
    shape = SirenShape(dimensions, channels, config.hidden_layers, config.hidden_features)
    if config.tile == "whole":
        tile: float | tuple[float, ...] = max(spatial_shape)
    elif config.tile == "auto":
        tile = _tiles_for_budget(spatial_shape, channels, shape.parameters, config.parameters_per_value)
    else:
        tile = config.tile
    return plan_tiles(Tiling.cut(spatial_shape, tile, config.overlap), shape, config)


def plan_tiles(tiling: Tiling, shape: SirenShape, config: FitConfig) -> Plan:
    """Lay out a fit of tiles that are cut already.

    Parameters
    ----------
    tiling, shape
        The tiles and the network of each.
    config
        The settings.
    """
    dimensions, channels = shape.inputs, shape.outputs
    samples = math.prod(tiling.tile_shape)
    values = math.prod(tiling.shape) * channels
    data = 2 * 4 * tiling.count * samples * (channels + 1) + _VALUE_BYTES * values
    parameters = 4 * tiling.count * shape.parameters * 7
    sines = (2 * shape.hidden_layers + 2) * shape.hidden_features * 4
    # Pixels that see a point do not need each other; those that see an area need the whole tile's samples at once.
    together = min(samples, 1024) if not config.sees_area else samples * config.subsamples**dimensions
    return Plan(tiling, shape, data, parameters, sines * together)


def memory_bound(config: FitConfig, device: torch.device) -> int:
    """Bytes that a fit may use."""
    return config.max_memory or int(config.memory_fraction * free_memory(device))


def check_memory(plan: Plan, bound: int) -> None:
    """Refuse a fit that cannot stay within a bound.

    Raises
    ------
    DeviceError
        The samples and parameters alone are too much; the message says what would do.
    """
    if plan.total > bound:
        raise DeviceError(
            f"this fit needs about {_megabytes(plan.total)} MB ({_megabytes(plan.data)} for the samples, "
            f"{_megabytes(plan.parameters)} for the networks) and may use {_megabytes(bound)}. Free memory, raise "
            "max_memory or memory_fraction, lower parameters_per_value, or fit the image block by block (`fit_blocks`, "
            "or on the command line a name for the result that ends in .ome.zarr)."
        )


def check_size(shape: Sequence[int], bytes_per_pixel: float) -> None:
    """Refuse an output that would not fit into memory, with a copy for the writing.

    Raises
    ------
    InputError
        It would not.
    """
    size, free = math.prod(shape) * bytes_per_pixel, free_memory(torch.device("cpu"))
    if 2 * size > free:
        raise InputError(
            f"an image of {' x '.join(map(str, shape))} pixels takes {size / 1e9:.1f} GB, too much for the "
            f"{free / 1e9:.1f} GB of memory that are free. Choose a lower resolution, render it region by "
            "region, or write it block by block, to a name that ends in .ome.zarr."
        )


def _tiles_for_budget(
    spatial_shape: Sequence[int], channels: int, parameters: int, per_value: float
) -> tuple[float, ...]:
    """Sides of a tile at which the parameters are within the budget; axes too short for two tiles are left uncut."""
    wanted = parameters / (channels * per_value)
    tiles = [float(side) for side in spatial_shape]
    shortest_first = sorted(range(len(tiles)), key=tiles.__getitem__)
    for i, axis in enumerate(shortest_first):
        tile = max(wanted ** (1 / (len(tiles) - i)), LEAST_TILE)
        if 2 * tile <= tiles[axis]:
            for other in shortest_first[i:]:
                tiles[other] = tile
            break
        wanted /= tiles[axis]
    return tuple(tiles)


def _megabytes(n: int) -> int:
    return -(-n // 1_000_000)


def cut_blocks(tiling: Tiling, shape: SirenShape, config: FitConfig, bound: int) -> Blocks:
    """Cut a tiling into the fewest blocks whose fit stays within a bound, as even as can be.

    Parameters
    ----------
    tiling, shape, config
        Of the fit.
    bound
        In bytes.

    Raises
    ------
    DeviceError
        A single tile is too much.
    """
    counts = [1] * len(tiling.axes)
    while True:
        blocks = Blocks(tiling, tuple(counts))
        largest = plan_tiles(blocks.largest, shape, config)
        values = math.prod(largest.tiling.shape) * shape.outputs
        tiles = largest.tiling.counts
        if largest.total <= bound and (values <= _MOST_VALUES or max(tiles) == 1):
            return blocks
        if max(tiles) == 1:
            raise DeviceError(
                f"a single tile of {' x '.join(map(str, largest.tiling.shape))} pixels needs {largest.total:,} "
                f"bytes, and may use {bound:,}. Raise max_memory, or choose a smaller tile."
            )
        longest = max(range(len(tiles)), key=lambda i: (tiles[i] > 1, largest.tiling.shape[i]))
        counts[longest] = -(-tiling.counts[longest] // (tiles[longest] - max(1, tiles[longest] // 8)))
