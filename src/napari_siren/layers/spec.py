"""`LayerSpec`: properties of a napari image layer for a fit and for new layers. Pure: no napari, no Qt.

A LayerDataTuple inherits nothing from the original layer, so that it has to be complete. There are two units of
length. In *data pixels* napari puts the centre of sample k at k, so that an axis of n pixels spans
[-0.5, n - 0.5]. *World* units are those of the layer's `units`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import Axes
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
"""A LayerDataTuple of napari: the data, the layer's keyword arguments, and its type, "image"."""


@dataclass(frozen=True, eq=False)
class LayerSpec:
    """The pixels of a layer for a fit, with their position in the world and their display settings.

    Parameters
    ----------
    name
        Name of the layer.
    shape
        Number of pixels along each of the layer's axes, as napari counts them: without the colours.
    axes
        One letter for each fitted axis: T, Z, Y, X or C.
    held
        Positions of the layer's axes with a fixed index. They have no letter.
    rgb
        Whether the last axis of the data is colours. napari does not count it among the layer's axes.
    placement
        Position of the pixels in the world.
    display
        Keyword arguments of a napari image layer, as plain values: colormap, contrast_limits and others.
    channels
        Number of channels or colours; 1 if there is no such axis.
    data
        Pixels of the fitted axes. None if they have not been read, or do not exist any more.
    missing
        bool array of the fitted axes' shape without channels, True for pixels outside the region. None if there are no
        such pixels.
    read
        Function to read the pixels.
    series
        Axes of the pixels if they are frames to be joined to one scene (see `joined`), else empty.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> layer = SimpleNamespace(data=np.zeros((8, 6)), name="cells", scale=(0.5, 0.5), units=("um", "um"))
    >>> spec = LayerSpec.from_layer(layer, region=((2, 6), None))
    >>> spec.axes, spec.spacing, spec.shape
    ('YX', (0.5, 0.5), (4, 6))
    >>> data, meta, kind = spec.like(np.zeros((8, 12)), "x2")
    >>> meta["name"], meta["scale"], meta["translate"], kind
    ('cells [x2]', [0.25, 0.25], [0.875, -0.125], 'image')
    """

    name: str
    shape: tuple[int, ...]
    axes: Axes
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
    def from_layer(
        cls,
        layer: Any,
        axes: str | None = None,
        region: Any = None,
        plane: Sequence[int | None] | None = None,
        level: int = 0,
        lazily: bool = False,
    ) -> LayerSpec:
        """Read a layer, or a part of it. Of lazy data only this part is read.

        Parameters
        ----------
        layer, region, plane, level
            Layer and its part, as in `fit_layer`.
        lazily
            Whether to leave the reading of the pixels to `loaded`.
        axes
            One letter for each axis of the data. None uses the layer's `rgb` and `axis_labels`: an axis labelled
            "c" or "channel" is channels, and "t" or "time" is time. The others are space, by their labels z, y and x or
            else in this order.

        Raises
        ------
        InputError
            The layer is not an image, has too many axes or an invalid transform, or the region has no pixel.
        """
        check_is_image(layer)
        levels = list(layer.data) if attribute(layer, "multiscale", False) else [layer.data]
        if not (isinstance(level, int | np.integer) and 0 <= level < len(levels)):
            raise InputError(f"{layer_title(layer)} has no level {level!r}. Choose one from 0 to {len(levels) - 1}.")
        lazy = levels[level] if hasattr(levels[level], "shape") else to_array(levels[level], layer)
        whole = tuple(lazy.shape)
        rgb = is_rgb(layer, whole, axes)
        shape = whole[: len(whole) - rgb]
        placement = Placement.from_layer(layer, len(shape))
        if level:
            placement = placement.resized([n / m for n, m in zip(shape, levels[0].shape, strict=False)])
        part = Region.from_layer(region, plane, shape, placement, layer_title(layer))
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
        # Pixels are read after the checks, because a lazy series can have any size.
        return spec if lazily else spec.loaded()

    def loaded(self) -> LayerSpec:
        """Return the same spec with its pixels in memory."""
        return self if self.data is not None or self.read is None else replace(self, data=self.read())

    @property
    def coordinates(self) -> tuple[int, ...]:
        """Positions of the field's coordinates among the layer's axes."""
        return tuple(axis for axis, _ in self._coordinates(range(len(self.shape))))

    @property
    def coordinate_shape(self) -> tuple[int, ...]:
        """Number of pixels along each coordinate of the field: the axes in space and time."""
        return tuple(n for n, _ in self._coordinates(self.shape))

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between pixel centres along each coordinate: the layer's scale without its sign."""
        return tuple(abs(float(scale)) for scale, _ in self._coordinates(self.placement.scale))

    @property
    def ndim(self) -> int:
        """Number of axes of the fitted data, including channels and colours."""
        return len(self.axes)

    def fit_arguments(self) -> dict[str, Any]:
        """Return the arguments of `fit` for these pixels."""
        return {
            "image": self.data,
            "axes": self.series or self.axes,
            "spacing": self.spacing,
            "missing": self.missing,
            "axes_as_coordinates": None if self.axes.time is None else self.axes.coordinates,
        }

    def joined(self) -> LayerSpec:
        """Return the spec of the same frames joined to one scene, at the position of the first frame."""
        if self.axes.time is None:
            return self
        fitted = [axis for axis in range(len(self.shape)) if axis not in self.held]
        time = fitted[self.axes.time]
        shape = tuple(1 if axis == time else n for axis, n in enumerate(self.shape))
        held = tuple(sorted((*self.held, time)))
        return replace(self, shape=shape, held=held, axes=self.axes.without("T"), series=self.axes)

    def scales(self, factor: float, isotropic: bool) -> float | tuple[float, ...]:
        """Return the scale of a render: the same for all axes, or one with cubic voxels.

        Parameters
        ----------
        factor
            Output pixels per pixel. For cubic voxels it is the factor of the spatial axis with the smallest spacing.
        isotropic
            Whether voxels should be cubes. The factor along time is then 1, so that no frames are added in between.
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
            The scale is not positive and finite, or has the wrong length.
        """
        from napari_siren.core.field.tiling import RenderGrid

        if np.ndim(scale) == 0 and self.axes.time is not None:
            # A single number is for space only. It adds no frames in between.
            scale = [1.0 if letter == "T" else scale for letter in self.axes.coordinates]  # type: ignore[misc]
        return RenderGrid.from_shape(self.coordinate_shape, self.spacing, scale=scale).shape

    def like(
        self,
        data: npt.NDArray[np.generic],
        label: str,
        metadata: Mapping[str, Any] | None = None,
        **display: Any,
    ) -> LayerData:
        """Make a layer of other data over the same part of the world.

        Parameters
        ----------
        data
            Array of the fitted axes, with any number of pixels along each. For an RGB layer, the colours may be absent.
        label
            Text in brackets after the original's name.
        metadata
            Metadata of the new layer. The original's metadata are not copied, since much of them would be wrong for
            other pixels.
        **display
            Keyword arguments of a napari image layer, instead of the original's.

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
            raise InputError(
                f"data of shape {data.shape} cannot lie over a layer with axes {self.axes}. Give data with these axes."
            )
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
        """Return data with 0 outside of the region. The array itself is not changed.

        Parameters
        ----------
        data
            Array of the fitted axes, with any number of pixels along each, with or without channels.
        """
        if self.missing is None:
            return data
        # Data without channels has one axis for each coordinate.
        letters = self.axes if data.ndim == self.ndim else self.axes.coordinates
        sizes = letters.pick(data.shape)
        nearest = [((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(sizes, self.missing.shape, strict=True)]
        outside = self.missing[np.ix_(*nearest)]
        if letters.channel is not None:
            outside = np.expand_dims(outside, letters.channel)
        return np.where(outside, np.zeros((), data.dtype), data)

    def as_provenance(self) -> dict[str, Any]:
        """Return the spec without its pixels, as plain values."""
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
        """Return the spec described by the output of `as_provenance`."""
        spec = cls(
            provenance["name"],
            tuple(provenance["shape"]),
            Axes(provenance["axes"]),
            tuple(provenance["held"]),
            provenance["rgb"],
            Placement.from_meta(provenance["placement"]),
            provenance["display"],
            provenance["channels"],
        )
        return replace(spec, missing=mask_from_text(provenance["missing"], spec.coordinate_shape))

    def placed_as(self, layer: Any) -> LayerSpec:
        """Return the same pixels with the current position, units and labels of a layer.

        The layer covers the same part of the world, with any number of pixels.
        """
        placement = Placement.from_layer(layer, len(self.shape))
        factors = [new / old for new, old in zip(self.shape, layer.data.shape, strict=False)]
        return replace(self, placement=placement.resized(factors))

    def _coordinates(self, values: Sequence[Any] | npt.NDArray[Any]) -> list[tuple[Any, str]]:
        """Return the coordinates' entries of a sequence over the layer's axes, with the letters of the coordinates."""
        fitted = [value for i, value in enumerate(values) if i not in self.held]
        return [(value, letter) for value, letter in zip(fitted, self.axes, strict=False) if letter != "C"]


def _channels(part: Region, axes: Axes, whole: Sequence[int], rgb: bool) -> int:
    if rgb:
        return whole[-1]
    fitted = [n for i, n in enumerate(part.shape) if i not in part.held]
    return 1 if axes.channel is None else fitted[axes.channel]


def _missing(part: Region, axes: Axes, rgb: bool) -> npt.NDArray[np.bool_] | None:
    """Return the mask of the pixels of the box outside the region, over the fitted coordinates."""
    if part.mask is None:
        return None
    inside: npt.NDArray[np.bool_] = np.squeeze(part.mask, part.held)
    if axes.channel is not None and not rgb:
        # A field has all channels at every point: a point is inside if it is inside for any channel.
        inside = np.any(inside, axis=axes.channel, keepdims=False)
    return None if inside.all() else np.logical_not(inside)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
