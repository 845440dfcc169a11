"""`Previewer`: looks at a fit while it goes on, no more closely than a share of its time allows. No Qt."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_siren.layers.spec import LayerSpec
from napari_siren.ui.logic.viewport import Box

if TYPE_CHECKING:
    from napari_siren.core.progress import Progress

# Share of the time that may go into previews, and pixels of the first one, whose speed tells how large the next may be.
_SHARE = 0.15
_FIRST = 100_000


@dataclass(frozen=True, eq=False)
class Preview:
    """A part of the reconstruction, as it is now.

    Parameters
    ----------
    box
        Where, in pixels of each coordinate.
    data
        Of the fitted axes.
    """

    box: Box
    data: npt.NDArray[Any]


class Previewer:
    """Looks at what is in view, as finely as there is time for.

    Parameters
    ----------
    spec
        Of what is fitted.
    interval
        Seconds between two looks.
    """

    def __init__(self, spec: LayerSpec, interval: float) -> None:
        self.spec = spec
        self.whole: Box = tuple((0, n) for n in spec.coordinate_shape)
        self._seen_whole = False
        self._seconds = _SHARE * interval
        self._affordable: float = _FIRST

    def look(self, progress: Progress, view: Box | None) -> Preview:
        """Look at what is in view; the first time at all of it, so that there is something everywhere.

        Parameters
        ----------
        progress
            Of the fit.
        view
            Box of coordinates; None is everything.
        """
        box = (self._seen_whole and view) or self.whole
        self._seen_whole = True
        pixels = math.prod(stop - start for start, stop in box)
        stride = max(1, math.ceil((pixels / self._affordable) ** (1 / len(box))))
        # No coarser than leaves something to see.
        stride = min(stride, max(1, max(stop - start for start, stop in box) // 4))
        began = time.perf_counter()
        data = coarse_preview(progress, box, stride, self.spec)
        took = max(time.perf_counter() - began, 1e-6)
        self._affordable = max(1.0, pixels / stride ** len(box) * self._seconds / took)
        return Preview(box, data)


def coarse_preview(progress: Progress, box: Box, stride: int, spec: LayerSpec) -> npt.NDArray[Any]:
    """Render a box of pixels, with only every so-many-th computed along each axis.

    Parameters
    ----------
    progress
        Of the fit.
    box
        (start, stop) of each coordinate, in pixels.
    stride
        1 computes every pixel.
    spec
        Of what is fitted.

    Returns
    -------
    ndarray
        Of the fitted axes, the box's size.
    """
    data = progress.preview(1 / stride, region=box, antialias=False)
    if stride > 1:
        letters = iter(box)
        for axis, letter in enumerate(spec.axes):
            if letter != "C":
                start, stop = next(letters)
                nearest = np.minimum(np.arange(stop - start) // stride, data.shape[axis] - 1)
                data = np.take(data, nearest, axis=axis)
    if spec.missing is None:
        return data
    inside = tuple(slice(start, stop) for start, stop in box)
    return replace(spec, missing=spec.missing[inside]).within(data)


def box_slices(box: Sequence[tuple[int, int]], spec: LayerSpec) -> tuple[slice, ...]:
    """Where a box of coordinates lies in data of a layer of its own, held axes and channels included."""
    edges = iter(box)
    fitted = [slice(None) if letter == "C" else slice(*next(edges)) for letter in spec.axes]
    for axis in spec.held:
        fitted.insert(axis, slice(None))
    return tuple(fitted)
