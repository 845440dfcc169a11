"""`Labels`: the names and coordinates of an xarray.DataArray. xarray need not be installed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import SPATIAL_AXES, Axes

_LOG = logging.getLogger("napari_siren")

# Letters of dimensions, by their names in lower case: those of bioio, rioxarray, xarray's own examples and CF.
_LETTERS = {
    **dict.fromkeys(("c", "ch", "channel", "channels", "band", "bands", "s", "sample", "samples", "rgb", "rgba"), "C"),
    **dict.fromkeys(("t", "time", "frame", "frames"), "T"),
    **dict.fromkeys(("z", "depth", "plane", "slice", "level", "altitude"), "Z"),
    **dict.fromkeys(("y", "lat", "latitude", "row", "rows", "northing"), "Y"),
    **dict.fromkeys(("x", "lon", "longitude", "col", "cols", "column", "columns", "easting"), "X"),
}
# Largest relative deviation of a distance between coordinates from their mean, for a regular grid.
_REGULAR = 1e-3


@dataclass(frozen=True)
class Labels:
    """The labels of an xarray.DataArray, as plain values.

    Parameters
    ----------
    dims
        Names of the dimensions.
    coords
        Coordinates along the dimensions, by the name of the dimension, and single coordinates by their own name:
        numbers or strings. Times are whole numbers.
    units
        Units of the coordinates, by the name of the dimension.
    name
        Name of the array.
    attrs
        Attributes of the array that are plain values.
    times
        Dtypes of the coordinates that are times, by their names.
    """

    dims: tuple[str, ...]
    coords: Mapping[str, Any]
    units: Mapping[str, str]
    name: str | None
    attrs: Mapping[str, Any]
    times: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_array(cls, image: Any) -> Labels | None:
        """Return the labels of an xarray.DataArray, or None for any other object."""
        if isinstance(image, np.ndarray) or not all(hasattr(image, name) for name in ("dims", "coords", "attrs")):
            return None
        dims = tuple(map(str, image.dims))
        coords, units, omitted, times = {}, {}, [], {}
        for key in image.coords:
            coordinate = image.coords[key]
            values = np.asarray(coordinate.values)
            if values.dtype.kind in "Mm":
                times[str(key)] = values.dtype.str
                values = values.astype(np.int64)
            if tuple(coordinate.dims) in ((key,), ()) and values.dtype.kind in "biufUO":
                entries = [v if isinstance(v, int | float) else str(v) for v in values.ravel().tolist()]
                coords[str(key)] = entries if coordinate.dims else entries[0]
                if "units" in coordinate.attrs:
                    units[str(key)] = str(coordinate.attrs["units"])
            else:
                omitted.append(str(key))
        if omitted:
            _LOG.warning("the coordinates %s of the image are not carried to its result", ", ".join(sorted(omitted)))
        attrs = {str(k): v for k, v in image.attrs.items() if isinstance(v, str | int | float | bool)}
        return cls(dims, coords, units, None if image.name is None else str(image.name), attrs, times)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Labels:
        """Return the labels from the output of `as_json`."""
        return cls(**{**fields, "dims": tuple(fields["dims"])})

    def as_json(self) -> dict[str, Any]:
        """Return the labels as plain values."""
        return asdict(self)

    def axes(self) -> Axes | None:
        """Return the letters of the dimensions, or None if none of them has a known name.

        Dimensions with other names are space, in the order of Z, Y, X.
        """
        known = [_LETTERS.get(dim.lower()) for dim in self.dims]
        if not any(known) or len([k for k in known if k]) != len({k for k in known if k}):
            return None
        free = [letter for letter in SPATIAL_AXES if letter not in known]
        unnamed = known.count(None)
        if unnamed > len(free):
            return None
        rest = iter(free[len(free) - unnamed :])
        return Axes("".join(letter or next(rest) for letter in known))

    def spacing(self, axes: str) -> tuple[float, ...] | None:
        """Return the distance between the coordinates along each spatial axis; None if they have no coordinates."""
        steps = [
            self._step(dim) for dim, letter in zip(self.dims, axes.upper(), strict=False) if letter in SPATIAL_AXES
        ]
        if not any(steps):
            return None
        smallest = min(step for step in steps if step)
        if not all(steps):
            _LOG.warning("some dimensions of the image have no coordinates: their spacing is taken to be %g", smallest)
        return tuple(step or smallest for step in steps)

    def channel_names(self, axes: str) -> tuple[str, ...] | None:
        """Return the coordinates of the channels as names, or None if there are none."""
        position = Axes(axes).channel
        names = None if position is None else self.coords.get(self.dims[position])
        return None if names is None else tuple(map(str, names))

    @property
    def fill_value(self) -> int | float | None:
        """Value of the pixels without data by the attributes (`_FillValue`, `nodata`), or None."""
        fill = next((self.attrs[key] for key in ("_FillValue", "nodata") if key in self.attrs), None)
        return fill if isinstance(fill, int | float) else None

    def missing(self, image: Any) -> npt.NDArray[np.bool_] | None:
        """Return the pixels with the fill value, or None."""
        fill = self.fill_value
        if fill is None:
            return None
        values = np.asarray(image.values)
        mask: npt.NDArray[np.bool_] = np.isnan(values) if fill != fill else values == fill
        return mask if mask.any() else None

    def values(self, image: Any) -> npt.NDArray[Any]:
        """Return the pixels as a plain array."""
        return np.asarray(image.values)

    def attached(self, array: npt.NDArray[Any], positions: Mapping[int, npt.NDArray[np.float64]]) -> Any:
        """Return an array as an xarray.DataArray with these labels; as it is if xarray is not installed.

        Parameters
        ----------
        array
            Array of these dimensions; one with another number of axes is returned as it is.
        positions
            Positions of its pixels in pixels of the original (0 is the centre of the first), by the axis.
        """
        try:
            from xarray import DataArray
        except ImportError:
            return array
        if array.ndim != len(self.dims):
            return array
        coords: dict[str, Any] = {
            name: self._as_time(name, np.asarray(value)) for name, value in self.coords.items() if name not in self.dims
        }
        for axis, dim in enumerate(self.dims):
            values = self._coordinates(dim, positions.get(axis)) if dim in self.coords else np.empty(0)
            if len(values) == array.shape[axis]:
                coords[dim] = (dim, values, self._attributes(dim))
        return DataArray(array, coords, self.dims, self.name, dict(self.attrs))

    def _attributes(self, dim: str) -> dict[str, str]:
        return {"units": self.units[dim]} if dim in self.units else {}

    def _coordinates(self, dim: str, positions: npt.NDArray[np.float64] | None) -> npt.NDArray[Any]:
        """Return the coordinates at positions, linear between and beyond those of the original."""
        own = self._as_time(dim, np.asarray(self.coords[dim]))
        if positions is None or own.dtype.kind not in "iuf":
            return own
        if len(own) < 2:
            return own.astype(np.float64) if len(positions) == 1 else own[0] + np.zeros(len(positions))
        first = np.clip(np.floor(positions), 0, len(own) - 2).astype(int)
        interpolated: npt.NDArray[np.float64] = own[first] + (positions - first) * (own[first + 1] - own[first])
        return interpolated

    def _as_time(self, name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return values.astype(self.times[name]) if name in self.times else values

    def _step(self, dim: str) -> float | None:
        """Return the mean distance between the coordinates of a dimension, or None."""
        values = np.asarray(self.coords.get(dim, ()))
        if values.dtype.kind not in "iuf" or values.size < 2 or dim in self.times:
            return None
        steps = np.diff(values.astype(np.float64))
        mean = float(steps.mean())
        if not np.isfinite(mean) or mean == 0:
            return None
        if np.abs(steps - mean).max() > _REGULAR * abs(mean):
            _LOG.warning("the coordinates %s of the image are not regular: their mean distance is used", dim)
        return abs(mean)
