"""`LayerSpec`: what of a napari image layer matters to a fit, and to the layers made from it. Pure: no napari, no Qt.

A tuple given to napari inherits nothing from the layer that it was made from, so that it says everything. Two
units of length: *data pixels*, in which napari puts the centre of sample k at k, so that an axis of n pixels
spans [-0.5, n - 0.5]; and *world* units, those of `units`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.errors import InputError
from napari_siren.layers.reading import (
    Placement,
    attribute,
    check_is_image,
    given_axes,
    is_rgb,
    layer_name,
    layer_title,
    read_axes,
    read_display,
    to_array,
)
from napari_siren.layers.region import Region, mask_from_text, mask_to_text

LayerData = tuple[npt.NDArray[np.generic], dict[str, Any], str]
"""What napari calls a LayerDataTuple: the data, the layer's keyword arguments, and its type, "image"."""


@dataclass(frozen=True, eq=False)
class LayerSpec:
    """The pixels of a layer that are to be fitted, or have been: where they are, and how they are shown.

    Parameters
    ----------
    name
        The layer's name.
    shape
        Number of pixels along each of the layer's axes, as napari counts them: without the colours.
    axes
        One letter for each axis that is fitted, of T, Z, Y, X and C.
    held
        Axes of the layer of which only one index is fitted; they have no letter.
    rgb
        Whether the last axis is colours, which napari does not count among a layer's axes.
    placement
        Where the pixels are in the world.
    display
        Keyword arguments of a napari image layer, plain values: colormap, contrast_limits and others.
    channels
        Number of channels or colours, 1 where there is no such axis.
    data
        The pixels, of the axes that are fitted; None where they have not been read, or there are none any more.
    missing
        bool, of the fitted axes' shape without channels: True where a pixel is outside the region; None is nowhere.
    read
        Reads the pixels.
    series
        Axes of the pixels, where they are frames that are joined to one (see `joined`).

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> layer = SimpleNamespace(data=np.zeros((8, 6)), name="cells", scale=(0.5, 0.5), units=("um", "um"))
    >>> spec = LayerSpec.of(layer, region=((2, 6), None))
    >>> spec.axes, spec.spacing, spec.shape
    ('YX', (0.5, 0.5), (4, 6))
    >>> data, meta, kind = spec.like(np.zeros((8, 12)), "x2")
    >>> meta["name"], meta["scale"], meta["translate"], kind
    ('cells [x2]', [0.25, 0.25], [0.875, -0.125], 'image')
    """

    name: str
    shape: tuple[int, ...]
    axes: str
    held: tuple[int, ...]
    rgb: bool
    placement: Placement
    display: Mapping[str, Any]
    channels: int = 1
    data: npt.NDArray[np.generic] | None = None
    missing: npt.NDArray[np.bool_] | None = None
    read: Callable[[], npt.NDArray[np.generic]] | None = None
    series: str = ""

    @classmethod
    def of(
        cls,
        layer: Any,
        axes: str | None = None,
        region: Any = None,
        plane: Sequence[int | None] | None = None,
        level: int = 0,
        lazily: bool = False,
    ) -> LayerSpec:
        """Read a layer, or a part of it. Of lazy data only that part is read.

        Parameters
        ----------
        layer, region, plane, level
            As `fit_layer` takes them.
        lazily
            Leave the pixels for `loaded` to read.
        axes
            One letter for each axis of the data; None asks the layer's `rgb` and `axis_labels`: one called
            "c" or "channel" is channels, "t" or "time" is time, the others are space, by labels z, y and x or
            else in this order.

        Raises
        ------
        InputError
            Another type of layer, too many axes, a transform that makes no sense, or a region without a pixel.
        """
        check_is_image(layer)
        levels = list(layer.data) if attribute(layer, "multiscale", False) else [layer.data]
        if not (isinstance(level, int | np.integer) and 0 <= level < len(levels)):
            raise InputError(f"{layer_title(layer)} has no level {level!r}; it has {len(levels)}, counted from 0.")
        lazy = levels[level] if hasattr(levels[level], "shape") else to_array(levels[level], layer)
        whole = tuple(lazy.shape)
        rgb = is_rgb(layer, whole, axes)
        shape = whole[: len(whole) - rgb]
        placement = Placement.of(layer, len(shape))
        if level:
            placement = placement.resized([n / m for n, m in zip(shape, levels[0].shape, strict=False)])
        part = Region.of(region, plane, shape, placement, layer_title(layer))
        if axes is None:
            letters = read_axes(layer, placement.axis_labels, whole, rgb, part.held)
        else:
            letters = given_axes(axes, whole, part.held)
        spec = cls(
            layer_name(layer),
            part.shape,
            letters,
            part.held,
            rgb,
            placement.shifted(part.starts),
            read_display(layer, rgb),
            _channels(part, letters, whole, rgb),
            None,
            _missing(part, letters, rgb),
            lambda: to_array(lazy if part.shape == shape and not part.held else lazy[part.slices], layer),
        )
        # Only now: before the checks above, a lazy series of any size would have been read.
        return spec if lazily else spec.loaded()

    def loaded(self) -> LayerSpec:
        """Return the same with its pixels read."""
        return self if self.data is not None or self.read is None else replace(self, data=self.read())

    @property
    def coordinates(self) -> tuple[int, ...]:
        """Which of the layer's axes are coordinates of the field."""
        return tuple(axis for axis, _ in self._coordinates(range(len(self.shape))))

    @property
    def coordinate_shape(self) -> tuple[int, ...]:
        """Number of pixels along each axis that is a coordinate of the field: space and time."""
        return tuple(n for n, _ in self._coordinates(self.shape))

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between pixel centres along each coordinate: the layer's scale without its sign."""
        return tuple(abs(float(scale)) for scale, _ in self._coordinates(self.placement.scale))

    @property
    def ndim(self) -> int:
        """Number of axes of data that are fitted, channels and colours included."""
        return len(self.axes)

    def fit_arguments(self) -> dict[str, Any]:
        """Return the arguments of `fit` that say what is fitted."""
        return {
            "image": self.data,
            "axes": self.series or self.axes,
            "spacing": self.spacing,
            "missing": self.missing,
            "axes_as_coordinates": self.axes.replace("C", "") if "T" in self.axes else None,
        }

    def joined(self) -> LayerSpec:
        """Return the same pixels, the frames of which are to be joined to what the first one shows, where that lies."""
        if "T" not in self.axes:
            return self
        fitted = [axis for axis in range(len(self.shape)) if axis not in self.held]
        time = fitted[self.axes.index("T")]
        shape = tuple(1 if axis == time else n for axis, n in enumerate(self.shape))
        held = tuple(sorted((*self.held, time)))
        return replace(self, shape=shape, held=held, axes=self.axes.replace("T", ""), series=self.axes)

    def scales(self, factor: float, isotropic: bool) -> float | tuple[float, ...]:
        """Return the scale of a render: the same for all axes, or such that its voxels are cubes.

        Parameters
        ----------
        factor
            Output pixels per pixel; of cubes, along the axis in space on which pixels are closest.
        isotropic
            Whether voxels are to be cubes; frames in between are not made.
        """
        pairs = self._coordinates(self.placement.scale)
        finest = min((abs(float(size)) for size, letter in pairs if letter != "T"), default=1.0)
        factors = tuple(factor if letter == "T" else factor * abs(float(size)) / finest for size, letter in pairs)
        if not isotropic or len(set(factors)) == 1:
            return factor
        return tuple(1.0 if letter == "T" else f for f, (_, letter) in zip(factors, pairs, strict=True))

    def scaled_shape(self, scale: float | Sequence[float]) -> tuple[int, ...]:
        """Return the number of pixels along each coordinate after scaling, at least 1 each.

        Parameters
        ----------
        scale
            Output pixels per pixel: a number for all axes in space, or one for each coordinate.

        Raises
        ------
        InputError
            The scale is not positive and finite, or of a wrong length.
        """
        from napari_siren.core.field.tiling import RenderGrid

        letters = [letter for _, letter in self._coordinates(self.shape)]
        if np.ndim(scale) == 0 and "T" in letters:
            # A number for the space does not make frames in between.
            scale = [1.0 if letter == "T" else scale for letter in letters]  # type: ignore[misc]
        return RenderGrid.of(self.coordinate_shape, self.spacing, scale=scale).shape

    def like(
        self,
        data: npt.NDArray[np.generic],
        label: str,
        metadata: Mapping[str, Any] | None = None,
        **display: Any,
    ) -> LayerData:
        """Make a layer over the same piece of the world from other data.

        Parameters
        ----------
        data
            Of the fitted axes, with any number of pixels along each; or, if RGB, without the colours.
        label
            Goes behind the original's name, in brackets.
        metadata
            Of the layer; the original's own is not passed on, since much of it would be untrue of other pixels.
        **display
            Keyword arguments of a napari image layer, in place of the original's.

        Returns
        -------
        LayerData
            (data, keyword arguments, "image").

        Raises
        ------
        InputError
            `data` has another number of axes, or an axis without pixels.
        """
        rgb = self.rgb and data.ndim == self.ndim
        if data.ndim != self.ndim - self.rgb + rgb or 0 in data.shape:
            raise InputError(f"data of shape {data.shape} cannot lie over a layer with axes {self.axes}.")
        data = np.expand_dims(data, self.held)
        factors = [new / old for new, old in zip(data.shape, self.shape, strict=False)]
        meta = {
            "name": f"{self.name} [{label}]",
            "rgb": rgb,
            "metadata": dict(metadata or {}),
            **self.placement.resized(factors).as_meta(),
            **self.display,
            **display,
        }
        return data, meta, "image"

    def within(self, data: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Put 0 where data lies outside of the region; data of the fitted axes, of any size, is left as it was.

        Parameters
        ----------
        data
            With or without channels.
        """
        if self.missing is None:
            return data
        # Without channels it has as many axes as there are coordinates.
        letters = self.axes if data.ndim == self.ndim else self.axes.replace("C", "")
        sizes = [n for n, letter in zip(data.shape, letters, strict=True) if letter != "C"]
        nearest = [((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(sizes, self.missing.shape, strict=True)]
        outside = self.missing[np.ix_(*nearest)]
        if data.ndim > outside.ndim:
            outside = np.expand_dims(outside, letters.index("C"))
        return np.where(outside, np.zeros((), data.dtype), data)

    def as_provenance(self) -> dict[str, Any]:
        """Return all but the pixels, as plain values."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "axes": self.axes,
            "held": list(self.held),
            "rgb": self.rgb,
            "channels": self.channels,
            "placement": {name: _plain(value) for name, value in self.placement.as_meta().items()},
            "display": dict(self.display),
            "missing": mask_to_text(self.missing),
        }

    @classmethod
    def from_provenance(cls, provenance: Mapping[str, Any]) -> LayerSpec:
        """Read what `as_provenance` gave."""
        spec = cls(
            provenance["name"],
            tuple(provenance["shape"]),
            provenance["axes"],
            tuple(provenance["held"]),
            provenance["rgb"],
            Placement.from_meta(provenance["placement"]),
            provenance["display"],
            provenance["channels"],
        )
        return replace(spec, missing=mask_from_text(provenance["missing"], spec.coordinate_shape))

    def placed_as(self, layer: Any) -> LayerSpec:
        """Return the same pixels where a layer over the same piece of the world is now, with its units and labels."""
        placement = Placement.of(layer, len(self.shape))
        factors = [new / old for new, old in zip(self.shape, layer.data.shape, strict=False)]
        return replace(self, placement=placement.resized(factors))

    def _coordinates(self, values: Sequence[Any] | npt.NDArray[Any]) -> list[tuple[Any, str]]:
        """Return what of a sequence over the layer's axes belongs to coordinates, with the letters of these."""
        fitted = [value for i, value in enumerate(values) if i not in self.held]
        return [(value, letter) for value, letter in zip(fitted, self.axes, strict=False) if letter != "C"]


def _channels(part: Region, axes: str, whole: Sequence[int], rgb: bool) -> int:
    if rgb:
        return whole[-1]
    fitted = [n for i, n in enumerate(part.shape) if i not in part.held]
    return fitted[axes.index("C")] if "C" in axes else 1


def _missing(part: Region, axes: str, rgb: bool) -> npt.NDArray[np.bool_] | None:
    """Return what of a region's box is outside, over the coordinates that are fitted."""
    if part.mask is None:
        return None
    inside: npt.NDArray[np.bool_] = np.squeeze(part.mask, part.held)
    letters = axes[: len(axes) - rgb]
    if "C" in letters:
        # A field has its channels at every point: a point belongs where any of them does.
        inside = np.any(inside, axis=letters.index("C"), keepdims=False)
    return None if inside.all() else np.logical_not(inside)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
