"""`LayerSeries`: a layer as entries to fit one by one, along some of its axes. Pure: no napari, no Qt."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.errors import InputError
from napari_siren.layers.outputs import METADATA_KEY, RESULT_KEY
from napari_siren.layers.part import LayerPart
from napari_siren.layers.reading import Placement, axis_kind
from napari_siren.layers.spec import LayerData, LayerSpec

# Entries of the metadata of a layer that are different for each fit.
_OF_ONE_FIT = ("layer", "metrics", "history", "notes")


@dataclass(frozen=True, eq=False)
class LayerSeries:
    """The entries of a layer along some of its axes: by default, those beyond three in space and time.

    Parameters
    ----------
    labels
        Label of each of these axes.
    axes
        Their positions among the layer's axes.
    shape
        Number of entries along each.
    indices
        Index of each entry with pixels to fit.
    spec
        Function that returns the spec of the entry at an index. Its pixels are not read yet.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> layer = SimpleNamespace(data=np.zeros((5, 3, 8, 6)), axis_labels=("t", "z", "y", "x"))
    >>> series = LayerSeries.from_layer(layer)
    >>> series.axes, series.shape, series.spec((4,)).axes
    ((0,), (5,), 'ZYX')
    """

    labels: tuple[str, ...]
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    indices: tuple[tuple[int, ...], ...]
    spec: Callable[[tuple[int, ...]], LayerSpec]

    @classmethod
    def from_layer(
        cls,
        layer: Any,
        axes: str | None = None,
        region: Any = None,
        plane: Sequence[int | None] | None = None,
        level: int = 0,
        fill_nan: bool = False,
        one_by_one: Sequence[int] | None = None,
    ) -> LayerSeries:
        """Return the entries of a layer. A layer that is fitted as a whole, also because of `axes`, is a single entry.

        The parameters and errors are those of `LayerSpec.from_layer` and `LayerPart.further_axes`.
        """
        part = LayerPart.from_layer(layer, axes, region, plane, level)
        if axes is not None and one_by_one is not None:
            raise InputError("both axes and one_by_one were given. Give one of them.")
        further = part.further_axes(one_by_one) if axes is None else ()
        shape = tuple(part.region.shape[i] for i in further)
        regions = {index: part.region.entry(further, index) for index in np.ndindex(*shape)}
        indices = tuple(index for index, at in regions.items() if not at.is_empty)

        def spec(index: tuple[int, ...]) -> LayerSpec:
            entry = replace(part, region=regions[index])
            return LayerSpec.from_part(entry, axes, lazily=True, fill_nan=fill_nan)

        return cls(tuple(part.labels[i] for i in further), further, shape, indices, spec)

    @property
    def first(self) -> LayerSpec:
        """Spec of the first entry."""
        return self.spec(self.indices[0])

    @property
    def has_time(self) -> bool:
        """Whether time is one of the axes."""
        return "T" in map(axis_kind, self.labels)

    def mapped(self, change: Callable[[LayerSpec], LayerSpec]) -> LayerSeries:
        """Return the series with changed specs."""
        return replace(self, spec=lambda index: change(self.spec(index)))


class LayerStack:
    """A layer of all entries of a series, filled entry by entry. Without axes, it is the layer of the only entry.

    Parameters
    ----------
    series
        The series.
    """

    def __init__(self, series: LayerSeries) -> None:
        self._series = series
        self._data: npt.NDArray[Any] = np.empty(0)
        self._meta: dict[str, Any] = {}
        self._entries: list[dict[str, Any]] = []

    def add(self, index: tuple[int, ...], layer: LayerData) -> None:
        """Copy the layer of an entry. Entries without pixels to fit stay 0."""
        data, meta, _ = layer
        axes = self._series.axes
        if not self._entries:
            shape = dict(zip(axes, self._series.shape, strict=True))
            self._data = np.zeros([shape.get(axis, n) for axis, n in enumerate(data.shape)], data.dtype)
            placement = Placement.from_meta(meta)
            start = dict(zip(axes, index, strict=True))
            first = placement.shifted([-start.get(axis, 0) for axis in range(len(placement.scale))])
            self._meta = {**meta, **first.as_meta()}
        at = dict(zip(axes, index, strict=True))
        self._data[tuple(slice(at[i], at[i] + 1) if i in at else slice(None) for i in range(data.ndim))] = data
        if (limits := meta.get("contrast_limits")) is not None:
            low, high = self._meta["contrast_limits"]
            self._meta["contrast_limits"] = [min(low, limits[0]), max(high, limits[1])]
        self._entries.append({"index": list(index), **meta["metadata"][METADATA_KEY]})

    @property
    def layer(self) -> LayerData:
        """The layer of the entries so far, as a LayerDataTuple. It ends at the last index along the first axis."""
        data = self._data
        if self._series.axes:
            stop = self._entries[-1]["index"][0] + 1
            data = data[tuple(slice(stop) if i == self._series.axes[0] else slice(None) for i in range(data.ndim))]
        return data, {**self._meta, "metadata": self._metadata()}, "image"

    def _metadata(self) -> dict[str, Any]:
        """Return the metadata of the layer: those of the first entry, and what is different for each.

        There is no result of all entries for `RESULT_KEY`.
        """
        first = {name: value for name, value in self._meta["metadata"].items() if name != RESULT_KEY}
        about = {name: value for name, value in first[METADATA_KEY].items() if name not in _OF_ONE_FIT}
        if "mean_error" in about:
            about["mean_error"] = math.fsum(entry["mean_error"] for entry in self._entries) / len(self._entries)
            about["largest_error"] = max(entry["largest_error"] for entry in self._entries)
        names = ("index", *_OF_ONE_FIT)
        about["entries"] = [{name: entry[name] for name in names if name in entry} for entry in self._entries]
        return {**first, METADATA_KEY: about}
