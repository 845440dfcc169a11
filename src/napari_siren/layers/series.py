"""`LayerSeries`: a layer of more axes than a field has, as entries to fit one by one. Pure: no napari, no Qt."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.layers.outputs import METADATA_KEY, RESULT_KEY
from napari_siren.layers.part import LayerPart
from napari_siren.layers.reading import Placement, axis_kind
from napari_siren.layers.spec import LayerData, LayerSpec

# Entries of the metadata of a layer that are different for each fit.
_OF_ONE_FIT = ("layer", "metrics", "history", "notes")


@dataclass(frozen=True, eq=False)
class LayerSeries:
    """The entries of a layer along its axes beyond three in space and time.

    Parameters
    ----------
    labels
        Label of each of these axes.
    axes
        Their positions among the layer's axes.
    shape
        Number of entries along each.
    specs
        Spec of each entry with pixels to fit, by its index. The pixels are not read yet.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> layer = SimpleNamespace(data=np.zeros((5, 3, 8, 6)), axis_labels=("t", "z", "y", "x"))
    >>> series = LayerSeries.from_layer(layer)
    >>> series.axes, series.shape, series.specs[4,].axes
    ((0,), (5,), 'ZYX')
    """

    labels: tuple[str, ...]
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    specs: Mapping[tuple[int, ...], LayerSpec]

    @classmethod
    def from_layer(
        cls,
        layer: Any,
        axes: str | None = None,
        region: Any = None,
        plane: Sequence[int | None] | None = None,
        level: int = 0,
        fill_nan: bool = False,
    ) -> LayerSeries:
        """Return the entries of a layer. A layer that is fitted as a whole, also because of `axes`, is a single entry.

        The parameters and errors are those of `LayerSpec.from_layer`.
        """
        part = LayerPart.from_layer(layer, axes, region, plane, level)
        further = part.further_axes() if axes is None else ()
        shape = tuple(part.region.shape[i] for i in further)
        entries = {index: part.entry(further, index) for index in np.ndindex(*shape)}
        specs = {
            index: LayerSpec.from_part(entry, axes, lazily=True, fill_nan=fill_nan)
            for index, entry in entries.items()
            if not entry.region.is_empty
        }
        return cls(tuple(part.labels[i] for i in further), further, shape, specs)

    @property
    def has_time(self) -> bool:
        """Whether time is one of the axes."""
        return "T" in map(axis_kind, self.labels)

    def mapped(self, change: Callable[[LayerSpec], LayerSpec]) -> LayerSeries:
        """Return the series with changed specs."""
        return replace(self, specs={index: change(spec) for index, spec in self.specs.items()})


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
        """The layer, as a LayerDataTuple."""
        return self._data, {**self._meta, "metadata": self._metadata()}, "image"

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
