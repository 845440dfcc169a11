"""`FieldHeader`: the description of a field in a file, validated before the tensors of the field are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from napari_siren.core.field.tiling import AxisTiling, Tiling
from napari_siren.core.image.axes import check_axes
from napari_siren.core.image.dtypes import check_dtype
from napari_siren.core.image.samples import ImageLayout
from napari_siren.core.network.siren import NetworkSpec
from napari_siren.core.storage.records import Finite, Length, Positive, Record

# Largest number of values of an image: 32 TiB in float32.
_MOST_VALUES = 2**43


class LayoutHeader(Record):
    """The fields of an `ImageLayout`."""

    axes: Annotated[str, Field(max_length=8)]
    shape: Annotated[tuple[Length, ...], Field(max_length=8)]
    dtype: Annotated[str, Field(max_length=16)]
    spacing: tuple[Positive, ...]
    offset: tuple[Finite, ...]
    scale: tuple[Finite, ...]

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        check_axes(self.axes, self.shape)
        check_dtype(self.dtype)
        layout = self.build()
        if math.prod(self.shape) > _MOST_VALUES:
            raise ValueError("the image has too many pixels")
        if len(self.spacing) != len(layout.spatial_shape):
            raise ValueError("the spacing has another number of axes than the image")
        if not len(self.offset) == len(self.scale) == layout.channels:
            raise ValueError("offset and scale do not have one number for each channel")
        return self

    def build(self) -> ImageLayout:
        """Return the layout."""
        return ImageLayout.from_json(self.model_dump())


class AxisHeader(Record):
    """The fields of an `AxisTiling`."""

    size: Length
    borders: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=2)]
    overlap: Positive
    widest: Annotated[int, Field(ge=0, le=2**31)] = 0
    goes_on: tuple[bool, bool] = (False, False)

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.borders[0] != 0 or self.borders[-1] != self.size:
            raise ValueError("the tiles do not cover the axis")
        if min(b - a for a, b in pairwise(self.borders)) < 1:
            raise ValueError("the borders of the tiles do not ascend")
        if len(self.borders) > 2 and 2 * self.overlap > min(b - a for a, b in pairwise(self.borders)):
            raise ValueError("the overlap is wider than a tile")
        if self.overlap > 2**31:
            raise ValueError("the overlap is wider than an image")
        return self

    def build(self) -> AxisTiling:
        """Return the axis."""
        return AxisTiling(**self.model_dump())


class NetworkHeader(Record):
    """The fields of a `NetworkSpec`, in the ranges of `FitConfig`."""

    inputs: Annotated[int, Field(ge=1, le=4)]
    outputs: Length
    hidden_layers: Annotated[int, Field(ge=1, le=16)]
    hidden_features: Annotated[int, Field(ge=1, le=1024)]

    def build(self) -> NetworkSpec:
        """Return the sizes of the network."""
        return NetworkSpec(**self.model_dump())


class TilesHeader(Record):
    """The tiles of a field and their networks."""

    tiling: Annotated[tuple[AxisHeader, ...], Field(min_length=1, max_length=4)]
    network: NetworkHeader
    omega_0: Annotated[float, Field(gt=0, le=1000)]
    coordinate_scale: tuple[Positive, ...]

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if not len(self.tiling) == len(self.coordinate_scale) == self.network.inputs:
            raise ValueError("the tiles, the networks and their coordinates have different numbers of axes")
        if math.prod(axis.size for axis in self.tiling) > _MOST_VALUES:
            raise ValueError("the field has too many samples")
        return self

    def build(self) -> Tiling:
        """Return the tiling."""
        return Tiling(tuple(axis.build() for axis in self.tiling))


class FieldHeader(Record):
    """The description of a field: the layout of its image, and its tiles. A field without tiles has samples."""

    format: LayoutHeader
    samples_per_pixel: Annotated[int, Field(ge=1, le=64)]
    tiles: TilesHeader | None

    @model_validator(mode="before")
    @classmethod
    def _collect(cls, header: Any) -> Any:
        # In files the entries of the tiles are beside the others.
        if not isinstance(header, Mapping):
            raise ValueError("the description is not an object")
        has_tiles = any(name in header for name in ("network", "tiling"))
        return {**header, "tiles": header if has_tiles else None}

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.tiles is not None:
            if self.tiles.network.outputs != self.layout.channels:
                raise ValueError("the networks have another number of outputs than the image has channels")
            self.check_samples([axis.size for axis in self.tiles.tiling])
        return self

    @property
    def layout(self) -> ImageLayout:
        """Layout of the image."""
        return self.format.build()

    def check_samples(self, shape: Sequence[int]) -> None:
        """Compare the number of samples along each axis with that of the image's pixels.

        Raises
        ------
        ValueError
            There are fewer samples than pixels along an axis, or the number of axes differs.
        """
        pixels = self.layout.spatial_shape
        if len(shape) != len(pixels) or any(n < m for n, m in zip(shape, pixels, strict=True)):
            raise ValueError(f"the field of {tuple(shape)} samples does not fit the image of {pixels} pixels")

    def check_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Compare the tensors of the field with the description.

        Raises
        ------
        ValueError
            A tensor is absent, has another shape or dtype, or contains a number that is not finite.
        """
        if self.tiles is None:
            samples = tensors.get("samples")
            if samples is None or samples.ndim < 2 or len(samples) != self.layout.channels:
                raise ValueError("the samples do not match the image")
            self.check_samples(samples.shape[1:])
            check_tensors(tensors, {"samples": tuple(samples.shape)})
        else:
            tiles = math.prod(len(axis.borders) - 1 for axis in self.tiles.tiling)
            network = self.tiles.network.build()
            check_tensors(
                tensors,
                {"theta": (tiles, network.parameters), "offset": (tiles, network.outputs), "scale": (tiles, 1)},
            )


def check_tensors(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Compare tensors with the expected shapes: float32, and every number finite.

    Raises
    ------
    ValueError
        A tensor is absent, has another shape or dtype, or contains a number that is not finite.
    """
    for name, shape in shapes.items():
        tensor = tensors.get(name)
        if tensor is None or tuple(tensor.shape) != shape or tensor.dtype != torch.float32:
            raise ValueError(f"the parameters {name!r} do not match the description")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"the parameters {name!r} contain numbers that are not finite")
