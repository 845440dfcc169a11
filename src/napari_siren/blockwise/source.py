"""`Source`: the image of a fit block by block, in memory or on the disk."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_siren.core.image.alpha import with_visible_colours
from napari_siren.core.image.arrays import ArrayForm
from napari_siren.core.image.axes import check_axes, guess_axes, notes_on_guess, singleton_axes
from napari_siren.core.image.labels import Labels
from napari_siren.core.image.statistics import LazyArray
from napari_siren.io.details import Details
from napari_siren.io.images import read_image
from napari_siren.io.lazy import array_of_zarr

_LOG = logging.getLogger("napari_siren")


@dataclass(frozen=True)
class Source:
    """An image in memory or on the disk.

    Parameters
    ----------
    array
        Pixels, readable by slices.
    axes, spacing, unit, channel_names, details
        Axes, distance between pixel centres and its unit, names of the channels and other metadata, as in `Picture`.
    """

    array: LazyArray
    axes: str | None
    spacing: Sequence[float] | float | None
    unit: str | None = None
    channel_names: tuple[str, ...] | None = None
    details: Details = field(default_factory=Details)

    @classmethod
    def from_input(
        cls, source: Any, axes: str | None = None, spacing: float | Sequence[float] | None = None, level: int = 0
    ) -> Source:
        """Open an image from a path or an address, or from an array of numpy, dask, zarr or xarray.

        Axes of one entry are left out of the fit. The output has them again.
        """
        if isinstance(source, str | Path):
            picture = read_image(source, axes, level=level, lazily=True)
            given = (picture.array, picture.axes, picture.spacing if spacing is None else spacing)
            image = cls(*given, picture.unit, picture.channel_names, picture.details)
            if picture.missing is not None:
                _LOG.warning("%s: pixels without data are used as they are, block by block", picture.path.name)
            if picture.details.has_alpha and isinstance(picture.array, np.ndarray):
                image = replace(image, array=with_visible_colours(picture.array))
        else:
            labels = Labels.from_array(source)
            if labels is None:
                image = cls(source, axes, spacing)
            else:
                named = labels.axes() if axes is None else axes
                known = labels.spacing(named) if spacing is None and named is not None else spacing
                image = cls(source.data, named, known, None, None if named is None else labels.channel_names(named))
        return image._squeezed()

    def _squeezed(self) -> Source:
        """Return the image without axes of one entry."""
        shape = tuple(self.array.shape)
        axes = guess_axes(shape) if self.axes is None else check_axes(self.axes, shape)
        for note in notes_on_guess(axes) if self.axes is None else ():
            _LOG.warning("%s", note)
        form = ArrayForm(axes, singleton_axes(axes, shape))
        if not form.singletons:
            return self
        letters = "".join(letter for i, letter in enumerate(axes) if i not in form.singletons)
        # A zarr array would read all its pixels here.
        lazy: Any = self.array if hasattr(self.array, "transpose") else array_of_zarr("the image", self.array)
        array = lazy[tuple(0 if i in form.singletons else slice(None) for i in range(len(shape)))]
        details = replace(self.details, file_axes=self.details.file_axes or axes)
        return replace(
            self,
            array=array,
            axes=letters,
            spacing=form.without_singletons(self.spacing, spatial=True),
            details=details,
        )
