"""`Plan`: the size and the memory of a fit, before it starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from napari_siren.core.device import free_memory
from napari_siren.core.field.blocks import Blocks
from napari_siren.core.field.tiling import Tiling
from napari_siren.core.network.siren import NetworkSpec
from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import DeviceError, InputError

# Bytes per value of the image, for copies of it, its render and the metrics. Measured: 24 to 39.
_VALUE_BYTES = 40
# Largest number of values in a block of a large image. Larger blocks are no faster, and more work is lost if one is
# interrupted.
_MOST_VALUES = 1 << 22
# Smallest side of a tile in pixels. A smaller tile has no room for the cross-fade with its neighbours.
LEAST_TILE = 4


@dataclass(frozen=True)
class Plan:
    """The size of a fit: its tiles and networks, and its memory in bytes.

    Parameters
    ----------
    tiling, network
        Tiles of the image, and sizes of the network of each.
    data
        Bytes of the image's samples: cut into tiles, and in double precision for the metrics.
    parameters
        Bytes of the parameters, with their gradients, means, best copies and the state of the optimiser.
    block
        Bytes of the smallest block of activations.
    """

    tiling: Tiling
    network: NetworkSpec
    data: int
    parameters: int
    block: int

    @property
    def total(self) -> int:
        """Total memory in bytes."""
        return self.data + self.parameters + self.block


def plan_fit(spatial_shape: Sequence[int], channels: int, config: FitConfig) -> Plan:
    """Plan a fit: the size of its tiles, the size of its networks, and its memory.

    Parameters
    ----------
    spatial_shape, channels
        Number of pixels along each spatial axis, and number of channels of the image.
    config
        The settings.
    """
    dimensions = len(spatial_shape)
    network = NetworkSpec(dimensions, channels, config.hidden_layers, config.hidden_features)
    if config.tile == "whole":
        tile: float | tuple[float, ...] = max(spatial_shape)
    elif config.tile == "auto":
        tile = _tiles_for_budget(spatial_shape, channels, network.parameters, config.parameters_per_value)
    else:
        tile = config.tile
    return plan_tiles(Tiling.cut(spatial_shape, tile, config.overlap), network, config)


def plan_tiles(tiling: Tiling, network: NetworkSpec, config: FitConfig) -> Plan:
    """Plan a fit of given tiles.

    Parameters
    ----------
    tiling, network
        Tiles of the image, and sizes of the network of each.
    config
        The settings.
    """
    dimensions, channels = network.inputs, network.outputs
    samples = math.prod(tiling.tile_shape)
    values = math.prod(tiling.shape) * channels
    data = 2 * 4 * tiling.count * samples * (channels + 1) + _VALUE_BYTES * values
    parameters = 4 * tiling.count * network.parameters * 7
    sines = (2 * network.hidden_layers + 2) * network.hidden_features * 4
    # Pixels at points are independent, so that a block may be a part of a tile. Otherwise it needs all its samples.
    together = min(samples, 1024) if not config.sees_area else samples * config.subsamples**dimensions
    return Plan(tiling, network, data, parameters, sines * together)


def memory_bound(config: FitConfig, device: torch.device) -> int:
    """Return the allowed memory of a fit in bytes."""
    return config.max_memory or int(config.memory_fraction * free_memory(device))


def check_memory(plan: Plan, bound: int) -> None:
    """Compare the memory of a fit with a bound in bytes.

    Raises
    ------
    DeviceError
        The fit needs more. The message lists the remedies.
    """
    if plan.total > bound:
        raise DeviceError(
            f"this fit needs about {_megabytes(plan.total)} MB ({_megabytes(plan.data)} for the samples, "
            f"{_megabytes(plan.parameters)} for the networks) and may use {_megabytes(bound)} MB. Free memory, raise "
            "max_memory or memory_fraction, lower parameters_per_value, or fit the image block by block (`fit_blocks`; "
            "on the command line, write the result to a name that ends in .ome.zarr)."
        )


_SMALLER = (
    "Choose a lower resolution, or render the image region by region. The commands upscale and render also write block "
    "by block, to a name that ends in .ome.zarr."
)


def check_size(shape: Sequence[int], bytes_per_pixel: float, remedy: str = _SMALLER) -> None:
    """Compare an output, and a copy of it for writing, with the free memory.

    Parameters
    ----------
    shape
        Shape of the output in pixels.
    bytes_per_pixel
        Bytes of a pixel with all its channels.
    remedy
        End of the message of the error: what to do.

    Raises
    ------
    InputError
        The free memory is too small.
    """
    size, free = math.prod(shape) * bytes_per_pixel, free_memory(torch.device("cpu"))
    if 2 * size > free:
        raise InputError(
            f"an image of {' x '.join(map(str, shape))} pixels takes {size / 1e9:.1f} GB, too much for the "
            f"{free / 1e9:.1f} GB of free memory. {remedy}"
        )


def _tiles_for_budget(
    spatial_shape: Sequence[int], channels: int, parameters: int, per_value: float
) -> tuple[float, ...]:
    """Return the sides of a tile within the budget of parameters. An axis too short for two tiles is not cut."""
    values = parameters / (channels * per_value)
    tiles = [float(side) for side in spatial_shape]
    shortest_first = sorted(range(len(tiles)), key=tiles.__getitem__)
    for i, axis in enumerate(shortest_first):
        tile = max(values ** (1 / (len(tiles) - i)), LEAST_TILE)
        if 2 * tile <= tiles[axis]:
            for other in shortest_first[i:]:
                tiles[other] = tile
            break
        values /= tiles[axis]
    return tuple(tiles)


def _megabytes(n: int) -> int:
    return -(-n // 1_000_000)


def cut_blocks(tiling: Tiling, network: NetworkSpec, config: FitConfig, bound: int) -> Blocks:
    """Cut a tiling into as few blocks as the memory allows, with sizes as equal as possible.

    Parameters
    ----------
    tiling, network, config
        Tiles, sizes of their networks, and settings of the fit.
    bound
        Largest memory for the fit of a block, in bytes.

    Raises
    ------
    DeviceError
        A single tile needs more memory.
    """
    counts = [1] * len(tiling.axes)
    while True:
        blocks = Blocks(tiling, tuple(counts))
        largest = plan_tiles(blocks.largest, network, config)
        values = math.prod(largest.tiling.shape) * network.outputs
        tiles = largest.tiling.counts
        if largest.total <= bound and (values <= _MOST_VALUES or max(tiles) == 1):
            return blocks
        if max(tiles) == 1:
            raise DeviceError(
                f"a single tile of {' x '.join(map(str, largest.tiling.shape))} pixels needs {largest.total:,} "
                f"bytes, and may use {bound:,} bytes. Raise max_memory, or choose a smaller tile."
            )
        longest = max(range(len(tiles)), key=lambda i: (tiles[i] > 1, largest.tiling.shape[i]))
        counts[longest] = -(-tiling.counts[longest] // (tiles[longest] - max(1, tiles[longest] // 8)))
