"""`LazyRender`: a render as an array whose values are computed when they are read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from napari_siren.core.field.field import Derivative, Field
from napari_siren.core.field.tiling import RenderGrid


class LazyRender:
    """A render of a field on a grid, which may be larger than the memory.

    Parameters
    ----------
    field, grid, derivative
        Arguments of `Field.render`.
    on_progress
        Function to call after each reading with the share of all values that were read, 0 to 1.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> result = ns.fit(np.eye(24, dtype=np.float32), max_steps=5)
    >>> array = LazyRender(result.field, result.grid(scale=100))
    >>> array.shape, array[:8, 1000:1004].shape
    ((2400, 2400), (8, 4))
    """

    def __init__(
        self,
        field: Field,
        grid: RenderGrid,
        derivative: Derivative | None = None,
        on_progress: Callable[[float], object] | None = None,
    ) -> None:
        self._field, self._grid, self._derivative, self._on_progress = field, grid, derivative, on_progress
        shape = field.layout.full_shape(grid.shape)
        self.shape = (len(grid.shape), *shape) if derivative == "gradient" else shape
        self.dtype = np.dtype(np.float32 if derivative else field.layout.dtype)
        self.ndim = len(self.shape)
        self._read = 0

    def __getitem__(self, block: tuple[slice, ...]) -> npt.NDArray[np.generic]:
        axes = self._field.layout.axes
        extra, own = block[: self.ndim - len(axes)], block[self.ndim - len(axes) :]
        spatial = [slice(*s.indices(n)[:2]) for s, n in zip(axes.pick(own), self._grid.shape, strict=True)]
        rendered = self._field.render(self._grid.block(tuple(spatial)), self._derivative)
        # Along all other axes the whole was rendered.
        channels = slice(None) if axes.channel is None else own[axes.channel]
        inside = axes.with_channel([slice(None)] * len(spatial), channels)
        values: npt.NDArray[np.generic] = rendered[(*extra, *inside)]
        self._read += values.size
        if self._on_progress is not None:
            self._on_progress(self._read / max(1, int(np.prod(self.shape))))
        return values
