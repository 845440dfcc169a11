"""`Source`: the image of a fit block by block, in memory or on the disk."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.alpha import with_visible_colours
from napari_siren.core.image.arrays import ArrayForm
from napari_siren.core.image.axes import Axes, check_axes, guess_axes, notes_on_guess, singleton_axes
from napari_siren.core.image.labels import Labels
from napari_siren.core.image.statistics import LazyArray
from napari_siren.errors import InputError
from napari_siren.io.details import Details
from napari_siren.io.images import loss_notes, read_image
from napari_siren.io.lazy import array_of_zarr, import_zarr
from napari_siren.io.picture import Picture

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
    missing
        Mask of the array's shape or its spatial shape, True for pixels without data. None if there are none.
    notes
        What was guessed, converted or left out: one sentence each. They are in the log already.
    """

    array: LazyArray
    axes: str | None
    spacing: Sequence[float] | float | None
    unit: str | None = None
    channel_names: tuple[str, ...] | None = None
    details: Details = field(default_factory=Details)
    missing: Any = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_input(
        cls, source: Any, axes: str | None = None, spacing: float | Sequence[float] | None = None, level: int = 0
    ) -> Source:
        """Open an image from a path or an address, or from an array of numpy, dask, zarr or xarray.

        Axes of one entry are left out of the fit. The output has them again.
        """
        if isinstance(source, str | Path):
            picture = read_image(source, axes, level=level, lazily=True)
            array: Any = picture.array
            given = (array, picture.axes, picture.spacing if spacing is None else spacing)
            image = cls(*given, picture.unit, picture.channel_names, picture.details, picture.missing, picture.notes)
            if picture.details.has_alpha and isinstance(array, np.ndarray):
                image = replace(image, array=with_visible_colours(array))
            elif picture.details.has_alpha:
                image = image._noted("transparent pixels keep the colours that are stored in the file")
        else:
            image = cls._from_array(source, axes, spacing)
        return image._squeezed()

    @classmethod
    def _from_array(cls, source: Any, axes: str | None, spacing: float | Sequence[float] | None) -> Source:
        labels = Labels.from_array(source)
        if labels is None:
            masked = isinstance(source, np.ma.MaskedArray)
            return cls(np.ma.getdata(source) if masked else source, axes, spacing, missing=_mask_of(source))
        named = labels.axes() if axes is None else axes
        known = labels.spacing(named) if spacing is None and named is not None else spacing
        names = None if named is None else labels.channel_names(named)
        missing = None if labels.fill_value is None else source.data == labels.fill_value
        return cls(source.data, named, known, None, names, missing=missing)

    def complete(self) -> LazyArray:
        """Return the array, which raises an `InputError` if a part that is read has pixels without data."""
        return _Complete(self.array, Axes(self.axes or guess_axes(self.array.shape)), self.missing)

    def losses(self, path: Path) -> list[str]:
        """Return a sentence on the metadata that an OME-Zarr image cannot hold, if there is any."""
        picture = Picture(np.empty(0), Axes(self.axes or ""), None, None, path, details=self.details)
        return loss_notes(path, picture, self.details.interval, "ome.zarr")

    def _noted(self, *sentences: str) -> Source:
        """Log sentences, and return the image with them among its notes."""
        for sentence in sentences:
            _LOG.warning("%s", sentence)
        return replace(self, notes=(*self.notes, *sentences))

    def _squeezed(self) -> Source:
        """Return the image without axes of one entry."""
        shape = tuple(self.array.shape)
        axes = guess_axes(shape) if self.axes is None else check_axes(self.axes, shape)
        if self.axes is None:
            return replace(self._noted(*notes_on_guess(axes)), axes=axes)._squeezed()
        form = ArrayForm(axes, singleton_axes(axes, shape))
        if not form.singletons:
            return self
        letters = "".join(letter for i, letter in enumerate(axes) if i not in form.singletons)
        # A zarr array would read all its pixels here.
        lazy: Any = self.array if hasattr(self.array, "transpose") else array_of_zarr("the image", self.array)
        array = lazy[tuple(0 if i in form.singletons else slice(None) for i in range(len(shape)))]
        details = replace(self.details, file_axes=self.details.file_axes or axes)
        missing = self.missing
        if missing is not None:
            of_mask = axes if missing.ndim == len(axes) else axes.coordinates
            missing = missing[tuple(slice(None) if letter in letters else 0 for letter in of_mask)]
        return replace(
            self,
            array=array,
            axes=letters,
            spacing=form.without_singletons(self.spacing, spatial=True),
            details=details,
            missing=missing,
        )


class _Complete:
    """An image that raises an error if a part that is read has pixels without data.

    Parameters
    ----------
    image, axes
        The image and its axes.
    missing
        Mask of the image's shape or its spatial shape, or None.
    """

    def __init__(self, image: LazyArray, axes: Axes, missing: Any) -> None:
        self._image, self._axes, self._missing = image, axes, missing
        self.shape, self.dtype, self.chunks = tuple(image.shape), image.dtype, getattr(image, "chunks", None)

    def __getitem__(self, block: tuple[slice, ...]) -> npt.NDArray[Any]:
        parts = [self._image[block]]
        if self._missing is not None:
            parts.append(self._missing[block if self._missing.ndim == len(block) else self._axes.pick(block)])
        # Both are read at once: the mask of a file depends on its pixels.
        pixels, *masks = import_zarr("dask").compute(*parts)
        if np.ma.is_masked(pixels) or any(mask.any() for mask in masks):
            raise InputError(
                "the image has pixels without data. Fill them in first, because an image that is fitted block by block "
                "cannot have missing pixels."
            )
        return np.asarray(pixels)


def _mask_of(array: Any) -> npt.NDArray[np.bool_] | None:
    """Return the mask of a masked array, or None."""
    return np.ma.getmaskarray(array) if np.ma.is_masked(array) else None
