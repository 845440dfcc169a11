"""`SeriesFit`: the fits of a layer's entries one by one, and their layers. Pure: no napari, no Qt."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from napari_siren.layers.outputs import ErrorKind, three_layers, with_layer
from napari_siren.layers.series import LayerSeries, LayerStack
from napari_siren.layers.spec import LayerData, LayerSpec

if TYPE_CHECKING:
    from napari_siren.core.result import FitResult


class SeriesFit:
    """The fits of the entries of a series, with the three layers of all entries.

    Only one entry is in memory at a time. Iterate over `entries`, and `add` the result of each before the next one.

    Parameters
    ----------
    series
        The entries.
    scale
        Scale of the upscaled layer, as in `fit_layer`.
    error
        Kind of the error layer.
    label
        Text in brackets in the name of the upscaled layer; None is the scale.
    """

    def __init__(
        self, series: LayerSeries, scale: float | Sequence[float], error: ErrorKind, label: str | None = None
    ) -> None:
        self.series, self.scale, self.error, self.label = series, scale, error, label
        self._stacks: dict[str, LayerStack] = {}
        self._current: tuple[tuple[int, ...], LayerSpec] | None = None

    def entries(self, arguments: Callable[[LayerSpec], dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Read each entry, and yield the arguments of its fit.

        Parameters
        ----------
        arguments
            Function that returns the arguments for the spec of an entry with its pixels.

        Raises
        ------
        InputError
            The layers of all entries would not fit into memory.
        """
        for index in self.series.indices:
            loaded = self.series.spec(index).loaded()
            if self._current is None:
                self._check_size(loaded)
            self._current = index, loaded
            yield arguments(loaded)

    def add(self, result: FitResult) -> FitResult:
        """Add the result of the entry that was read last. Return it with a description of its layer."""
        assert self._current is not None
        index, spec = self._current
        result = with_layer(result, spec)
        for role, layer in three_layers(spec, result, self.scale, self.error, self.label).items():
            self._stacks.setdefault(role, LayerStack(self.series)).add(index, layer)
        return result

    @property
    def layers(self) -> dict[str, LayerData]:
        """The layers of the entries so far, by their roles. Empty before the first one."""
        return {role: stack.layer for role, stack in self._stacks.items()}

    def _check_size(self, spec: LayerSpec) -> None:
        from napari_siren.core.series.entries import check_series_size

        shape, pixels = spec.scaled_shape(self.scale), math.prod(spec.coordinate_shape)
        assert spec.data is not None
        # Reconstruction, error map and the image of the result, beside the upscaled layer.
        others = 2 * spec.data.nbytes + 4 * spec.channels * pixels
        check_series_size(len(self.series.indices), shape, spec.data.nbytes / pixels + others / math.prod(shape))
