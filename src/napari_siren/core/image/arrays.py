"""`ImageInput` and `ArrayForm`: the image of a fit without axes of one entry and labels, and the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.alpha import is_rgba, with_visible_colours
from napari_siren.core.image.axes import Axes, check_axes, guess_axes, singleton_axes
from napari_siren.core.image.labels import Labels
from napari_siren.core.image.samples import check_array, has_only_dlpack

# Key of the form in the provenance of a result.
FORM_KEY = "array_form"


@dataclass(frozen=True)
class ArrayForm:
    """The form of an image: its axes, and the labels of an xarray.DataArray.

    Parameters
    ----------
    axes
        One letter for each axis of the original, including those of one entry.
    singletons
        Positions of the axes of one entry that are left out of the fit.
    labels
        Labels of the axes. None if the image is a plain array.
    """

    axes: Axes
    singletons: tuple[int, ...] = ()
    labels: Labels | None = None

    @classmethod
    def from_provenance(cls, provenance: Mapping[str, Any]) -> ArrayForm | None:
        """Return the form in the provenance of a result, or None if the image is a plain array without such axes."""
        values: Any = provenance.get(FORM_KEY)
        try:
            labels = values["labels"] and Labels.from_json(values["labels"])
            return cls(Axes(values["axes"]), tuple(values["singletons"]), labels or None)
        except (KeyError, TypeError):
            # There is none, or the file is damaged: the values are valid without their form.
            return None

    def as_provenance(self) -> dict[str, Any]:
        """Return the entry for the provenance of a result: nothing for a plain array without such axes."""
        if not self.singletons and self.labels is None:
            return {}
        labels = None if self.labels is None else self.labels.as_json()
        return {FORM_KEY: {"axes": str(self.axes), "singletons": list(self.singletons), "labels": labels}}

    def without_singletons(self, entries: Any, spatial: bool = False) -> Any:
        """Return the entries of the fitted coordinates, if there is one for each coordinate of the original.

        Other values, such as a single number for all axes, are returned unchanged.

        Parameters
        ----------
        entries
            Argument of a fit or of a render.
        spatial
            Whether entries for the spatial axes only are accepted too.
        """
        count = len(entries) if isinstance(entries, Sequence | np.ndarray) and np.ndim(entries) else 0
        for letters in (self.axes.coordinates, *((self.axes.spatial,) if spatial else ())):
            if self.singletons and count == len(letters):
                omitted = {self.axes[i] for i in self.singletons}
                return [entry for letter, entry in zip(letters, entries, strict=True) if letter not in omitted]
        return entries

    def squeezed_mask(self, mask: npt.ArrayLike | None, shape: Sequence[int]) -> npt.ArrayLike | None:
        """Return a mask of the original's shape or its spatial shape without the axes of one entry."""
        if mask is None or np.shape(mask) not in (tuple(shape), self.axes.pick(shape)):
            return mask
        letters = self.axes if np.ndim(mask) == len(shape) else self.axes.coordinates
        omitted = {self.axes[i] for i in self.singletons}
        return np.squeeze(np.asarray(mask), tuple(i for i, letter in enumerate(letters) if letter in omitted))

    def expanded(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view of an array with the axes of one entry. Axes in front of those of the image stay in front."""
        extra = array.ndim + len(self.singletons) - len(self.axes)
        return np.expand_dims(array, tuple(i + extra for i in self.singletons))

    def without_axes(self, out: Any) -> Any:
        """Return an array to fill, without the axes of one entry."""
        return out if not self.singletons or out is None else _WithoutAxes(out, self)

    def restored(self, array: npt.NDArray[Any], positions: Mapping[str, npt.NDArray[np.float64]]) -> Any:
        """Return a render with the axes of one entry, and as an xarray.DataArray if the image was one.

        Parameters
        ----------
        array
            Render with the fitted axes; a gradient has one more in front.
        positions
            Positions of the pixels of the render along each fitted coordinate, in pixels of the image.
        """
        expanded = self.expanded(array)
        if self.labels is None:
            return expanded
        return self.labels.attached(expanded, {self.axes.index(letter): at for letter, at in positions.items()})


@dataclass(frozen=True)
class ImageInput:
    """The arguments of a fit for its image.

    Parameters
    ----------
    image, axes, spacing, missing, axes_as_coordinates
        Arguments of `fit`.
    labels
        Labels of an xarray.DataArray. None if the image is a plain array.
    """

    image: npt.ArrayLike
    axes: str | None
    spacing: float | Sequence[float] | None
    missing: npt.ArrayLike | None = None
    axes_as_coordinates: str | None = None
    labels: Labels | None = None

    @classmethod
    def from_arguments(
        cls,
        image: npt.ArrayLike,
        axes: str | None,
        spacing: float | Sequence[float] | None,
        missing: npt.ArrayLike | None = None,
        axes_as_coordinates: str | None = None,
    ) -> ImageInput:
        """Read the labels of an xarray.DataArray: axes, spacing and missing pixels that were not given."""
        labels = Labels.from_array(image)
        image = check_array(image) if has_only_dlpack(image) else image
        if labels is None:
            return cls(image, axes, spacing, missing, axes_as_coordinates)
        named = labels.axes() if axes is None else axes
        known = labels.spacing(named) if spacing is None and named is not None else spacing
        masked = labels.missing(image) if missing is None else missing
        return cls(labels.values(image), named, known, masked, axes_as_coordinates, labels)

    def with_time_as_coordinate(self) -> ImageInput:
        """Return the arguments with time as a coordinate if the image is a film of planes, otherwise the same ones."""
        if not isinstance(self.axes, str) or self.axes_as_coordinates is not None:
            return self
        letters = self.axes.upper().replace("C", "")
        return replace(self, axes_as_coordinates=letters) if sorted(letters) == sorted("TYX") else self

    def prepared(self) -> tuple[ImageInput, ArrayForm]:
        """Return the arguments without axes of one entry, and the form of the original.

        The colours of transparent pixels are replaced; see `with_visible_colours`.

        Raises
        ------
        InputError
            The image is not an array of numbers, or the axes do not fit it.
        """
        array = self.image if isinstance(self.image, np.ma.MaskedArray) else check_array(self.image)
        axes = guess_axes(array.shape) if self.axes is None else check_axes(self.axes, array.shape)
        if is_rgba(array.dtype, axes, array.shape):
            array = with_visible_colours(array)
        form = ArrayForm(axes, singleton_axes(axes, array.shape), self.labels)
        if not form.singletons:
            return (self if array is self.image else replace(self, image=array)), form
        letters = Axes("".join(letter for i, letter in enumerate(axes) if i not in form.singletons))
        coordinates = self.axes_as_coordinates
        if coordinates is not None and sorted(coordinates.upper()) == sorted(axes.coordinates):
            coordinates = None if letters.time is None else letters.coordinates
        squeezed = ImageInput(
            np.squeeze(array, form.singletons),
            letters,
            form.without_singletons(self.spacing, spatial=True),
            form.squeezed_mask(self.missing, array.shape),
            coordinates,
            self.labels,
        )
        return squeezed, form


class _WithoutAxes:
    """An array to fill by slices, seen without its axes of one entry.

    Parameters
    ----------
    out
        Array to fill, or any object with assignment by slices.
    form
        Form of the image. A gradient has one more axis in front.
    """

    def __init__(self, out: Any, form: ArrayForm) -> None:
        extra = len(out.shape) - len(form.axes)
        self._out, self._positions = out, tuple(i + extra for i in form.singletons)
        self.shape = tuple(n for i, n in enumerate(out.shape) if i not in self._positions or n != 1)
        self.dtype = out.dtype

    def __setitem__(self, slices: tuple[slice, ...], values: npt.NDArray[Any]) -> None:
        key = list(slices)
        for position in self._positions:
            key.insert(position, slice(None))
        self._out[tuple(key)] = np.expand_dims(values, self._positions)
