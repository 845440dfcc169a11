"""`Picture` and `ImageInfo`: an image from a file, with and without its pixels."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.alpha import with_visible_colours
from napari_siren.core.image.arrays import ArrayForm
from napari_siren.core.image.axes import Axes, guess_axes, notes_on_guess, singleton_axes
from napari_siren.errors import InputError
from napari_siren.io.details import Details
from napari_siren.io.formats import format_of

_LOG = logging.getLogger("napari_siren")


@dataclass(frozen=True)
class Picture:
    """An image from a file.

    Parameters
    ----------
    array
        Pixels of the image. The pixels of OME-Zarr are a dask array; none of them has been read yet.
    axes
        One letter for each axis of the array: Z, Y, X, C or T. None if the file does not name them.
    spacing
        Distance between pixel centres along each spatial axis. None if the file does not give it.
    unit
        Unit of the spacing, such as "µm". None if the file does not give it.
    path
        Path of the file.
    channel_names
        One name for each channel. None if the file does not give them.
    details
        Metadata that a fit does not use, and that its result keeps.
    notes
        What was assumed, converted or left out in the reading of the file: one sentence each.
    missing
        Mask of the spatial shape, bool: True for pixels without data (nodata, masks). None if there are none. It is a
        dask array if the pixels are, and may then be False everywhere.
    levels
        Number of levels of the file's pyramid.
    """

    array: npt.NDArray[Any]
    axes: Axes | None
    spacing: tuple[float, ...] | None
    unit: str | None
    path: Path
    channel_names: tuple[str, ...] | None = None
    details: Details = field(default_factory=Details)
    notes: tuple[str, ...] = ()
    missing: npt.NDArray[np.bool_] | None = None
    levels: int = 1

    @property
    def frame(self) -> tuple[Axes, tuple[int, ...]]:
        """Axes and shape of a single frame: all axes but time. ("", ()) if the axes are not known.

        The field of a frame has these axes and this shape.
        """
        if self.axes is None:
            return Axes(), ()
        letters = self.axes.without("T")
        return letters, self.axes.pick(self.array.shape, letters)

    def prepared(self) -> Picture:
        """Return the picture as a fit takes it.

        Axes of one entry are left out, unknown axes are guessed, and transparent pixels get the colours of visible
        ones.

        Raises
        ------
        InputError
            The axes are not known, and cannot be guessed.
        """
        shape = tuple(self.array.shape)
        axes = self.axes or guess_axes(shape)
        guesses = notes_on_guess(axes) if self.axes is None else []
        for note in guesses:
            _LOG.warning("%s: %s", self.path.name, note)
        channel = axes.channel
        single = [] if channel is None or shape[channel] > 1 else [channel]
        omitted = tuple(sorted([*singleton_axes(axes, shape), *single]))
        letters = Axes("".join(a for i, a in enumerate(axes) if i not in omitted))
        array = (
            self.array[tuple(0 if i in omitted else slice(None) for i in range(len(shape)))] if omitted else self.array
        )
        if self.details.has_alpha and letters.endswith("C") and isinstance(array, np.ndarray):
            array = with_visible_colours(array)
        longer = omitted and len(axes) > len(self.details.file_axes)
        details = replace(self.details, file_axes=str(axes)) if longer else self.details
        missing = None if self.missing is None else self.missing.reshape(letters.pick(array.shape))
        form = ArrayForm(axes, omitted)
        spacing = form.without_singletons(self.spacing, spatial=True)
        known = None if spacing is None else tuple(spacing)
        return replace(
            self,
            array=array,
            axes=letters,
            spacing=known,
            details=details,
            missing=missing,
            notes=(*self.notes, *guesses),
        )

    def with_filled_nan(self) -> Picture:
        """Return the picture with its NaN and infinite values among the missing pixels, which a fit fills in."""
        axes, array = self.axes or Axes(), np.asarray(self.array)
        invalid = np.any(~np.isfinite(axes.to_channels_first(array)), axis=0, keepdims=False)
        missing = invalid if self.missing is None else invalid | self.missing
        return replace(self, array=array, missing=missing if missing.any() else None)

    def fit_arguments(self) -> dict[str, Any]:
        """Return the arguments of `fit` for this picture; see `prepared`."""
        return {"image": self.array, "axes": self.axes, "spacing": self.spacing, "missing": self.missing}

    def frame_at(self, index: int) -> Picture:
        """Return the picture of one frame of a time series, with its pixels in memory."""
        axes = self.axes or Axes()
        # The mask has no channels.
        key = tuple(index if letter == "T" else slice(None) for letter in axes)
        pixels = np.asarray(self.array[key])
        missing = None if self.missing is None else np.asarray(self.missing[axes.pick(key)])
        return replace(self, array=pixels, axes=axes.without("T"), missing=missing)

    def as_map(self) -> Picture:
        """Return the picture without the metadata of its values, for a map of other values over it."""
        plain = replace(self.details, colours=None, luts=None, ranges=None, has_alpha=False)
        plain = replace(plain, profile=None, gamma=None, chromaticities=None, srgb=None)
        return replace(self, details=plain, channel_names=None)

    def fitted(self, entries: Any) -> Any:
        """Return entries without those for axes of one entry of the file, if there is one for each axis of the file."""
        full, axes = Axes(self.details.file_axes), self.axes or Axes()
        omitted = tuple(i for i, letter in enumerate(full) if letter not in axes and letter != "C")
        return ArrayForm(full, omitted).without_singletons(entries, spatial=True)

    def resampled(
        self,
        array: npt.NDArray[Any],
        axes: str,
        step: Sequence[float],
        start: Sequence[float] | None = None,
    ) -> Picture:
        """Return a picture of a render over this picture, with its pixel size, position and other metadata.

        Parameters
        ----------
        array, axes
            Render and its axes.
        step
            Size of its pixels along each of the spatial axes, in pixels of this picture.
        start
            Edge of its first pixel along each axis, in pixels of this picture. None is 0.
        """
        spacing = None if self.spacing is None else tuple(s * d for s, d in zip(self.spacing, step, strict=True))
        own = self.axes or Axes()
        details = self.details.resampled(Axes(axes).spatial, self.spacing, step, start)
        # An axis that the render does not have any more, such as the joined frames, is not added again.
        file_axes = "".join(a for a in details.file_axes if a in axes or a not in own)
        details = replace(details, file_axes=file_axes)
        return replace(self, array=array, axes=Axes(axes), spacing=spacing, details=details, missing=None)

    def as_provenance(self) -> dict[str, Any]:
        """Return the entries for the provenance of a fit, as plain values: all metadata except axes and spacing."""
        names = None if self.channel_names is None else list(self.channel_names)
        entries: dict[str, Any] = {"image": self.path.name, "unit": self.unit, "channel_names": names}
        entries |= {"details": self.details.as_json(), "notes": list(self.notes)}
        return {name: value for name, value in entries.items() if value}

    @classmethod
    def from_provenance(
        cls, provenance: Mapping[str, Any], array: npt.NDArray[Any], axes: str, spacing: Sequence[float] | None
    ) -> Picture:
        """Return a picture with the metadata in the provenance of a fit; see `as_provenance`.

        Parameters
        ----------
        provenance
            Provenance of a result.
        array, axes, spacing
            Pixels of the fitted image or a render of it, their axes, and the spacing of the fitted image.
        """
        names = provenance.get("channel_names")
        details = Details.from_json(provenance.get("details", {}))
        form = ArrayForm.from_provenance(provenance)
        return cls(
            array,
            Axes(axes),
            None if spacing is None else tuple(spacing),
            provenance.get("unit"),
            Path(str(provenance.get("image", ""))),
            None if names is None else tuple(map(str, names)),
            details if form is None else replace(details, file_axes=str(form.axes)),
        )


@dataclass(frozen=True)
class ImageInfo:
    """Properties of the image in a file, without its pixels.

    Parameters
    ----------
    shape, dtype, axes
        Shape, name of the dtype and axes: of the image, or of each of its frames.
    spacing
        Distance between pixel centres, as in `Picture`.
    frames
        Number of frames. None if frames were not requested, or if the file has no time axis.
    interval
        Time between frames and its unit. None if the file does not give it.
    has_alpha
        Whether the last channel is an alpha channel.
    """

    shape: tuple[int, ...]
    dtype: str
    axes: Axes
    spacing: tuple[float, ...] | None = None
    frames: int | None = None
    interval: tuple[float, str] | None = None
    has_alpha: bool = False

    @property
    def frame(self) -> tuple[Axes, tuple[int, ...]]:
        """Axes and shape of a single frame: all axes but time."""
        letters = self.axes.without("T")
        return letters, self.axes.pick(self.shape, letters)


@dataclass(frozen=True)
class Request:
    """The part of a file to read.

    Parameters
    ----------
    axes
        Letters to use instead of the file's axes. None uses the axes of the file.
    frame
        Index of the only frame of a time series. None is all frames.
    scene
        Name or index of one of several images in the file. None is the first.
    level
        Index of the level of a pyramid; 0 is the finest.
    lazily
        Whether the pixels may stay in the file, as a dask array.
    """

    axes: str | None = None
    frame: int | None = None
    scene: int | str | None = None
    level: int = 0
    lazily: bool = False


class Codec(Protocol):
    """Reads and writes files of a format."""

    def matches(self, path: Path, start: bytes) -> bool:
        """Return whether a file has the format.

        Parameters
        ----------
        path
            Path of the file or folder.
        start
            First bytes of a file; b"" for a folder.
        """
        ...

    def read(self, path: Path, request: Request) -> Picture:
        """Read an image; see `read_image`."""
        ...

    def inspect(self, path: Path, request: Request, each: bool) -> ImageInfo:
        """Return the properties of an image; see `inspect_image`."""
        ...

    def write(self, path: Path, picture: Picture, interval: tuple[float, str] | None) -> None:
        """Write a picture, with named axes; see `write_image`."""
        ...

    def losses(self, picture: Picture, interval: tuple[float, str] | None) -> list[str]:
        """Return the names of the metadata of a picture that a file cannot hold."""
        ...


def check_kind(path: Path, dtype: npt.DTypeLike, axes: str, shape: Sequence[int]) -> None:
    """Check whether the format of a file name can hold an image.

    Raises
    ------
    InputError
        The format cannot hold the image, or the suffix is not known.
    """
    kind, name = format_of(path), np.dtype(dtype).name
    if kind.holds is not None and picture_channels(axes, shape) not in kind.holds.get(name, ()):
        raise InputError(
            f"a {path.suffix.lower()} file cannot hold {name} of shape {tuple(shape)} (axes {axes}). Choose a name "
            "ending in .tif."
        )


def suffix_for(dtype: npt.DTypeLike, axes: str, shape: Sequence[int], has_alpha: bool = False) -> str:
    """Return the suffix for an image: ".png" for 8 bits, two dimensions and 1, 3 or 4 channels, else ".tif".

    Channels count as colours only if they are the last axis, as in photographs. Two channels are grey values and alpha
    if `has_alpha` is True.
    """
    counts = (1, 2, 3, 4) if has_alpha else (1, 3, 4)
    return ".png" if np.dtype(dtype) == np.uint8 and picture_channels(axes, shape) in counts else ".tif"


def picture_channels(axes: str, shape: Sequence[int]) -> int | None:
    """Return the number of channels of a plain picture; None for any other image.

    A plain picture has two dimensions in space, followed by colours or nothing.
    """
    letters = Axes(axes)
    if len(shape) != len(letters) or len(letters.coordinates) != 2 or letters.channel not in (None, 2):
        return None
    return 1 if letters.channel is None else shape[-1]
