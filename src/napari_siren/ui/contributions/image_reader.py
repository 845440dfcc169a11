"""Images with metadata as layers: TIFF (OME, ImageJ, microscopes) and OME-Zarr. It never imports Qt.

A layer has the pixel size, units, position and axes of its file. Each channel is a layer with its name, colour and
displayed range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pint

from napari_siren.core.image.axes import Axes
from napari_siren.errors import SirenError
from napari_siren.io.details import colour_of_lut, lut_array
from napari_siren.io.images import read_pyramid
from napari_siren.io.lazy import import_zarr
from napari_siren.io.picture import Picture
from napari_siren.io.remote import is_remote
from napari_siren.io.zarr.group import is_zarr, zarr_attributes
from napari_siren.layers.spec import LayerData
from napari_siren.ui.logic.image_file import image_suffix

# Largest image in bytes that is read into memory. A larger one is read by parts when napari shows them.
_IN_MEMORY = 1 << 28
# Names and colormaps of the channels of colours.
_COLOURS = ("red", "green", "blue", "alpha")


@dataclass(frozen=True)
class _OpenImage:
    """An image in a file. Its pixels are not in memory yet.

    Parameters
    ----------
    levels
        The image with its metadata at each level of a pyramid, the finest level first.
    is_labels
        Whether the values are the numbers of objects.
    """

    levels: tuple[Picture, ...]
    is_labels: bool = False


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """Return a function to read images, if all paths are files or OME-Zarr.

    Parameters
    ----------
    path
        Path of one file or folder, or several paths.

    Returns
    -------
    callable or None
        A function of the path that returns the layers. It raises an `InputError` for a damaged file. None if one of the
        paths is a folder without an image.
    """
    paths = [path] if isinstance(path, str) else list(path)
    try:
        images = [image for image in map(_open, paths) if image is not None]
    except SirenError as error:
        return partial(_fail, error)
    return partial(_read, images) if paths and len(images) == len(paths) else None


def _open(path: str) -> _OpenImage | None:
    """Open a file or folder, or return None for another folder. Files without metadata have layers without it."""
    has_groups = is_zarr(path) or (is_remote(path) and ".zarr" in path)
    if not has_groups and (is_remote(path) or Path(path).is_dir()):
        return None
    levels = read_pyramid(path)
    attributes = zarr_attributes(path) if has_groups else {}
    is_labels = "image-label" in attributes.get("ome", attributes) and levels[0].array.dtype.kind in "iu"
    return _OpenImage(levels, is_labels)


def _fail(error: SirenError, path: str | Sequence[str]) -> NoReturn:
    """Raise the error of a file when napari reads it. A reader may not raise it while napari still chooses one."""
    raise error


def _read(images: Sequence[_OpenImage], path: str | Sequence[str]) -> list[LayerData]:
    return [_layer(image) for image in images]


def _layer(image: _OpenImage) -> LayerData:
    """Return a layer, or the layers of all channels in one tuple, as napari takes it."""
    picture, levels = image.levels[0], tuple(map(_pixels, image.levels))
    axes = picture.axes or Axes()
    if len(levels) == 1 and levels[0].nbytes <= _IN_MEMORY:
        levels = (levels[0].compute() if hasattr(levels[0], "compute") else np.asanyarray(levels[0]),)
    is_rgb = _is_rgb(picture)
    if is_rgb:
        levels = tuple(np.moveaxis(level, axes.index("C"), -1) for level in levels)
    data: Any = list(levels) if len(levels) > 1 else levels[0]
    name = picture.path.name
    meta = {"name": name[: len(name) - len(image_suffix(name))], "multiscale": len(levels) > 1, **_placement(picture)}
    if image.is_labels and axes.channel is None:
        return data, meta, "labels"
    meta["rgb"] = is_rgb
    return data, meta if is_rgb else {**meta, **_channels(picture, meta["name"])}, "image"


def _pixels(picture: Picture) -> Any:
    """Return the pixels, as a masked array if some of them may be without data."""
    if picture.missing is None:
        return picture.array
    channel = (picture.axes or Axes()).channel
    mask = picture.missing if channel is None else np.expand_dims(picture.missing, channel)
    mask = np.broadcast_to(mask, picture.array.shape)
    masked = np.ma if isinstance(picture.array, np.ndarray) else import_zarr("dask.array").ma
    return masked.masked_array(picture.array, mask)


def _is_rgb(picture: Picture) -> bool:
    """Return whether the channels are colours, and not those of a microscope in the form of colours."""
    axes = picture.axes or Axes()
    if axes.channel is None or picture.array.shape[axes.channel] not in (3, 4):
        return False
    has_bytes = picture.array.dtype == np.uint8
    if picture.channel_names in (_COLOURS[:3], _COLOURS):
        return has_bytes
    measured = picture.channel_names is not None or picture.details.ranges is not None
    return axes.endswith("C") and (has_bytes or not measured)


def _placement(picture: Picture) -> dict[str, Any]:
    """Return the axes, pixel size, units and position of a layer."""
    axes, details = picture.axes or Axes(), picture.details
    interval, unit = details.interval or (1.0, "pixel")
    steps = {"T": interval if 0 < interval < math.inf else 1.0}
    steps |= dict(zip(axes.spatial, picture.spacing or (), strict=False))
    origin = dict(zip(axes.spatial, details.origin or (), strict=False))
    units = {a: _known_unit(picture.unit) for a in axes.spatial} | {"T": _known_unit(unit)}
    return {
        "axis_labels": tuple(a.lower() for a in axes.coordinates),
        "scale": [steps.get(a, 1.0) for a in axes.coordinates],
        "translate": [origin.get(a, 0.0) for a in axes.coordinates],
        "units": tuple(units[a] for a in axes.coordinates),
    }


def _known_unit(unit: str | None) -> str:
    """Return a unit if napari knows it, and otherwise "pixel"."""
    try:
        return unit if unit and pint.Unit(unit) else "pixel"
    except (pint.PintError, ValueError):
        return "pixel"


def _channels(picture: Picture, name: str) -> dict[str, Any]:
    """Return names, colormaps and displayed ranges: one of each, or a list for the channels."""
    axes, names = picture.axes or Axes(), picture.channel_names
    lists = {
        "colormap": _colormaps(picture),
        "contrast_limits": _ranges(picture),
        "metadata": [{"channel_names": [label]} for label in names or ()],
    }
    known: dict[str, Any] = {key: values for key, values in lists.items() if values}
    if axes.channel is None:
        return {key: values[0] for key, values in known.items()}
    numbers = [f"channel {i}" for i in range(picture.array.shape[axes.channel])]
    labels = names or (_COLOURS[:3] if _has_colours(picture) else numbers)
    return {**known, "channel_axis": axes.channel, "name": [f"{name} {label}" for label in labels]}


def _has_colours(picture: Picture) -> bool:
    """Return whether the channels of a microscope are stored in the form of red, green and blue."""
    return bool((picture.axes or Axes()).endswith("C") and picture.array.shape[-1] == 3)


def _ranges(picture: Picture) -> list[tuple[float, float]] | None:
    """Return the displayed ranges, or None if napari would refuse one of them."""
    ranges = picture.details.ranges or ()
    return list(ranges) if all(-math.inf < low < high < math.inf for low, high in ranges) else None


def _colormaps(picture: Picture) -> list[Any] | None:
    """Return the colormap of each channel, or None for the defaults of napari."""
    details = picture.details
    if details.colours is not None:
        return [f"#{colour}" for colour in details.colours]
    if details.luts is not None:
        return [_colormap_of(lut) for lut in details.luts]
    return list(_COLOURS[:3]) if _has_colours(picture) else None


def _colormap_of(lut: bytes) -> Any:
    """Return napari's colormap for a lookup table."""
    colour = colour_of_lut(lut)
    table = np.concatenate([lut_array(lut).T / 255, np.ones((256, 1))], axis=1)
    return {"name": "lookup table", "colors": table} if colour is None else f"#{colour}"
