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

from napari_siren.core.image.alpha import with_visible_colours
from napari_siren.core.image.axes import Axes
from napari_siren.core.image.units import in_one_unit, unit_symbol
from napari_siren.errors import InputError
from napari_siren.layers.part import LayerPart
from napari_siren.layers.reading import Placement, axis_kind, layer_name, mask_of, read_display
from napari_siren.layers.region import either_mask, mask_from_text, mask_to_text

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
    masked
        bool array like `missing`, True for the masked pixels of a masked array, and with `fill_nan` for NaN. Unlike
        pixels outside the region, they are filled in. None if there are none, or the pixels have not been read.

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
    masked: npt.NDArray[np.bool_] | None = None

    @classmethod
    def from_layer(
        cls,
        layer: Any,
        axes: str | None = None,
        region: Any = None,
        plane: Sequence[int | None] | None = None,
        level: int = 0,
        lazily: bool = False,
        fill_nan: bool = False,
    ) -> LayerSpec:
        """Read a layer, or a part of it. Of lazy data only this part is read.

        Parameters
        ----------
        layer, region, plane, level, fill_nan
            Layer, its part, and the treatment of NaN, as in `fit_layer`.
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
        part = LayerPart.from_layer(layer, axes, region, plane, level)
        return cls.from_part(part, axes, lazily=lazily, fill_nan=fill_nan)

    @classmethod
    def from_part(cls, part: LayerPart, axes: str | None, *, lazily: bool, fill_nan: bool) -> LayerSpec:
        """Read a part of a layer. The parameters and errors are those of `from_layer`."""
        region, rgb, letters = part.region, part.rgb, part.letters(axes)
        spec = cls(
            layer_name(part.layer),
            region.shape,
            letters,
            region.held,
            rgb,
            part.placement.shifted(region.starts),
            read_display(part.layer, rgb),
            part.data.shape[-1] if rgb else region.channels(letters),
            None,
            region.missing(None if rgb else letters.channel),
            lambda: part.read(fill_nan),
        )
        # Pixels are read after the checks, because a lazy series can have any size.
        return spec if lazily else spec.loaded()

    def loaded(self) -> LayerSpec:
        """Return the same spec with its pixels in memory."""
        if self.data is not None or self.read is None:
            return self
        pixels = self.read()
        mask, channel = mask_of(pixels), Axes(self.series or self.axes).channel
        if mask is not None and channel is not None:
            mask = np.any(mask, axis=channel, keepdims=False)
        return replace(self, data=np.ma.getdata(pixels), masked=mask)

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
        """Distance between pixel centres along each coordinate: the layer's scale without its sign, in one unit."""
        scales = [abs(float(scale)) for scale, _ in self._coordinates(self.placement.scale)]
        in_space = [i for i, letter in enumerate(self.axes.coordinates) if letter != "T"]
        sizes, _ = self._sizes(scales, in_space)
        for i, size in zip(in_space, sizes, strict=True):
            scales[i] = size
        return tuple(scales)

    @property
    def unit(self) -> str | None:
        """Symbol of the unit of the spacing; None for pixels, or if the units differ and are not lengths."""
        in_space = [i for i, letter in enumerate(self.axes.coordinates) if letter != "T"]
        return self._sizes([1.0] * len(self.axes.coordinates), in_space)[1]

    @property
    def ndim(self) -> int:
        """Number of axes of the fitted data, including channels and colours."""
        return len(self.axes)

    def fit_arguments(self) -> dict[str, Any]:
        """Return the arguments of `fit` for these pixels."""
        rgba = self.rgb and self.channels == 4
        return {
            "image": with_visible_colours(self.data) if rgba and self.data is not None else self.data,
            "axes": self.series or self.axes,
            "spacing": self.spacing,
            "missing": either_mask(self.missing, self.masked),
            "axes_as_coordinates": None if self.axes.time is None else self.axes.coordinates,
        }

    def joined(self) -> LayerSpec:
        """Return the spec of the same frames joined to one scene, which lies over all frames."""
        if self.axes.time is None:
            return self
        fitted = [axis for axis in range(len(self.shape)) if axis not in self.held]
        time = fitted[self.axes.time]
        shape = tuple(1 if axis == time else n for axis, n in enumerate(self.shape))
        placement = self.placement.resized([new / old for new, old in zip(shape, self.shape, strict=True)])
        held = tuple(sorted((*self.held, time)))
        return replace(self, shape=shape, held=held, axes=self.axes.without("T"), series=self.axes, placement=placement)

    def scales(self, factor: float, isotropic: bool) -> float | tuple[float, ...]:
        """Return the scale of a render: the same for all axes, or one with cubic voxels.

        Parameters
        ----------
        factor
            Output pixels per pixel. For cubic voxels it is the factor of the spatial axis with the smallest spacing.
        isotropic
            Whether voxels should be cubes. The factor along time is then 1, so that no frames are added in between.
        """
        pairs = list(zip(self.spacing, self.axes.coordinates, strict=True))
        finest = min((size for size, letter in pairs if letter != "T"), default=1.0)
        factors = tuple(factor if letter == "T" else factor * size / finest for size, letter in pairs)
        if not isotropic or len(set(factors)) == 1:
            return factor
        return tuple(1.0 if letter == "T" else f for f, (_, letter) in zip(factors, pairs, strict=True))

    def fitted_scale(self, scale: float | Sequence[float]) -> float | Sequence[float]:
        """Return the scale of a render without numbers for omitted axes of one entry.

        Parameters
        ----------
        scale
            A number, or one for each coordinate; or one for each of the layer's axes that are not channels.
        """
        labels = [axis_kind(label) for label in self.placement.axis_labels]
        axes = [i for i, kind in enumerate(labels) if kind != "C" or i in self.held]
        if not isinstance(scale, Sequence | np.ndarray) or len(scale) == len(self.coordinates) or not self.held:
            return scale
        return [scale[n] for n, i in enumerate(axes) if i not in self.held] if len(scale) == len(axes) else scale

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

    def _sizes(self, scales: Sequence[float], in_space: Sequence[int]) -> tuple[list[float], str | None]:
        """Return the scales along the spatial coordinates in one unit, and this unit."""
        units = [unit_symbol(str(unit)) for unit, _ in self._coordinates(self.placement.units)]
        sizes = [scales[i] for i in in_space]
        return in_one_unit(sizes, [units[i] for i in in_space]) or (sizes, None)

    def _coordinates(self, values: Sequence[Any] | npt.NDArray[Any]) -> list[tuple[Any, str]]:
        """Return the coordinates' entries of a sequence over the layer's axes, with the letters of the coordinates."""
        fitted = [value for i, value in enumerate(values) if i not in self.held]
        return [(value, letter) for value, letter in zip(fitted, self.axes, strict=False) if letter != "C"]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
