"""`Previewer`: previews of a running fit, as fine as a share of the fit's time allows. No Qt."""

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

# Share of the time that previews may use.
_SHARE = 0.15
# Smallest number of pixels of a preview along the longest side of its box.
_LEAST_SIDE = 128
# Seconds of a preview that is too slow for the usual rate.
_SLOW = 0.5
# Pixels of the first preview. Its measured speed determines how large the next one may be.
_FIRST = 100_000


@dataclass(frozen=True, eq=False)
class Preview:
    """A part of the reconstruction of a running fit.

    Parameters
    ----------
    box
        Position of the part: (start, stop) in pixels for each coordinate.
    data
        Pixels of the part, in the order of the fitted axes.
    """

    box: Box
    data: npt.NDArray[Any]


class Previewer:
    """A renderer of the part in view, as fine as the time allows.

    Parameters
    ----------
    spec
        Description of the fitted pixels.
    interval
        Seconds between two previews.
    """

    def __init__(self, spec: LayerSpec, interval: float) -> None:
        self.spec = spec
        self.whole: Box = tuple((0, n) for n in spec.coordinate_shape)
        self._seen_whole = False
        self._seconds = _SHARE * interval
        self._affordable: float = _FIRST
        # Time before which there is no further preview.
        self._next = -math.inf

    def look(self, progress: Progress, view: Box | None) -> Preview | None:
        """Render the part in view, or return None if a preview would take more than its share of the time.

        The first preview is of all pixels, so that no part of the layer stays empty.

        Parameters
        ----------
        progress
            Latest step of the fit.
        view
            Box of coordinates in view, in pixels; None is all of them.
        """
        if time.perf_counter() < self._next:
            return None
        box = (self._seen_whole and view) or self.whole
        self._seen_whole = True
        pixels = math.prod(stop - start for start, stop in box)
        stride = max(1, math.ceil((pixels / self._affordable) ** (1 / len(box))))
        # A coarser preview would look worse than the image.
        stride = min(stride, max(1, max(stop - start for start, stop in box) // _LEAST_SIDE))
        start_time = time.perf_counter()
        data = coarse_preview(progress, box, stride, self.spec)
        seconds = max(time.perf_counter() - start_time, 1e-6)
        self._affordable = max(1.0, pixels / stride ** len(box) * self._seconds / seconds)
        if seconds > max(self._seconds, _SLOW):
            # A preview with the smallest number of pixels may be slow. Then there are fewer of them.
            self._next = time.perf_counter() + seconds / _SHARE - seconds
        return Preview(box, data)


def coarse_preview(progress: Progress, box: Box, stride: int, spec: LayerSpec) -> npt.NDArray[Any]:
    """Render a box of pixels, computing only one of `stride` pixels along each axis.

    Parameters
    ----------
    progress
        Latest step of the fit.
    box
        (start, stop) of each coordinate, in pixels.
    stride
        Distance between computed pixels along each axis; 1 computes every pixel.
    spec
        Description of the fitted pixels.

    Returns
    -------
    ndarray
        Pixels of the box, in the order of the fitted axes and in the size of the box. Pixels that were not computed
        repeat a computed one.
    """
    data = progress.preview(1 / stride, region=box, antialias=False)
    if stride > 1:
        for letter, (start, stop) in zip(spec.axes.coordinates, box, strict=True):
            axis = spec.axes.index(letter)
            nearest = np.minimum(np.arange(stop - start) // stride, data.shape[axis] - 1)
            data = np.take(data, nearest, axis=axis)
    if spec.missing is None:
        return data
    inside = tuple(slice(start, stop) for start, stop in box)
    return replace(spec, missing=spec.missing[inside]).within(data)


def box_slices(box: Sequence[tuple[int, int]], spec: LayerSpec) -> tuple[slice, ...]:
    """Return the slices of a box of coordinates in the data of a result layer, held axes and channels included."""
    fitted = list(spec.axes.with_channel([slice(*edges) for edges in box], slice(None)))
    for axis in spec.held:
        fitted.insert(axis, slice(None))
    return tuple(fitted)
