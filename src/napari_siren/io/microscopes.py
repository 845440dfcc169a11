"""Files of microscopes (CZI, LIF, ND2, …), by bioio and its readers. The extra "formats" installs them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from napari_siren.core.image.axes import SPATIAL_AXES, Axes, check_axes
from napari_siren.errors import InputError
from napari_siren.io.details import Details
from napari_siren.io.formats import MICROSCOPE_READERS
from napari_siren.io.picture import ImageInfo, Picture, Request
from napari_siren.io.sizes import spacing_of

# First bytes of TIFF files, which have a codec of their own.
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


class MicroscopeCodec:
    """Reads the formats of microscopes without a codec of their own. It writes none."""

    def matches(self, path: Path, start: bytes) -> bool:
        """Return whether a file has the suffix of a microscope's format."""
        return path.suffix.lower() in MICROSCOPE_READERS and not start.startswith(_TIFF)

    def read(self, path: Path, request: Request) -> Picture:
        """Read an image; see `Codec`."""
        image, notes = _opened(path, request.scene)
        array, names, time = _squeezed(path, image, request.axes)
        if request.frame is not None and time is not None:
            array, names = array[(slice(None),) * time + (request.frame,)], names.without("T")
        sizes = {a: (v, "µm") for a, v in _sizes(image).items() if a in names}
        spacing, unit, guessed, on_sizes = spacing_of(names, sizes)
        channels = 1 if names.channel is None else array.shape[names.channel]
        labels = tuple(map(str, image.channel_names or ()))
        details = Details(image.dims.order.replace("S", ""), guessed=guessed, interval=_interval(image))
        return Picture(
            array if request.lazily else np.asarray(array),
            names,
            spacing,
            unit,
            path,
            labels if len(labels) == channels else None,
            details,
            (*notes, *on_sizes),
        )

    def inspect(self, path: Path, request: Request, each: bool) -> ImageInfo:
        """Return the properties of an image; see `Codec`."""
        image, _ = _opened(path, request.scene)
        array, names, time = _squeezed(path, image, request.axes)
        time = time if each else None
        frames = None if time is None else array.shape[time]
        shape, axes = tuple(array.shape), names
        if time is not None:
            shape, axes = shape[:time] + shape[time + 1 :], names.without("T")
        sizes = {a: (v, "µm") for a, v in _sizes(image).items() if a in axes}
        return ImageInfo(shape, array.dtype.name, axes, spacing_of(axes, sizes)[0], frames, _interval(image))

    def write(self, path: Path, picture: Picture, interval: tuple[float, str] | None) -> None:
        """Raise an error: no format of microscopes is written."""
        raise InputError(f"a {path.suffix} file cannot be written. Choose a name ending in .ome.tif.")

    def losses(self, picture: Picture, interval: tuple[float, str] | None) -> list[str]:
        """Return nothing; see `Codec`."""
        return []


def _opened(path: Path, scene: int | str | None) -> tuple[Any, list[str]]:
    """Open a file by bioio at one of its scenes, and return notes on the others."""
    reader = MICROSCOPE_READERS[path.suffix.lower()]
    try:
        bioio = import_module("bioio")
    except ImportError:
        raise InputError(
            f'{path} needs bioio. Install it with: pip install "napari-siren[formats]" {reader}.'
        ) from None
    try:
        image = bioio.BioImage(path)
    except Exception as error:
        if type(error).__name__ != "UnsupportedFileFormatError":
            raise
        raise InputError(
            f"{path} cannot be read: its reader is missing, or the file is damaged. Install the reader with: "
            f"pip install {reader}."
        ) from None
    # A delayed array keeps an ND2 file open until it is deleted, which nd2 warns of at any time later.
    warnings.filterwarnings("ignore", "ND2File file not closed", UserWarning)
    scenes = [str(name) for name in image.scenes]
    if scene is not None:
        number = scenes.index(scene) if isinstance(scene, str) and scene in scenes else scene
        if not isinstance(number, int) or not 0 <= number < len(scenes):
            raise InputError(f"{path} has no scene {scene!r}. Choose one of {', '.join(scenes)}.")
        image.set_scene(number)
    notes = [f"the file has {len(scenes)} scenes; only {image.current_scene} is read"] if len(scenes) > 1 else []
    return image, notes


def _squeezed(path: Path, image: Any, axes: str | None) -> tuple[Any, Axes, int | None]:
    """Return the pixels without axes of one entry, their axes, and the position of time."""
    order, array = str(image.dims.order), image.dask_data
    letters = order.replace("S", "C") if "C" not in order or array.shape[order.index("C")] == 1 else order
    kept = [i for i, n in enumerate(array.shape) if n > 1 or order[i] in "YX"]
    if sum(letters[i] in SPATIAL_AXES and array.shape[i] > 1 for i in kept) >= 2:
        kept = [i for i in kept if array.shape[i] > 1]
    own = "".join(letters[i] for i in kept)
    array = array[tuple(slice(None) if i in kept else 0 for i in range(array.ndim))]
    names = check_axes(axes or own, tuple(array.shape))
    return array, names, names.time


def _sizes(image: Any) -> Mapping[str, float]:
    """Return the pixel sizes in µm along the axes, as far as the file gives them."""
    known = {a: getattr(image.physical_pixel_sizes, a, None) for a in SPATIAL_AXES}
    return {a: float(v) for a, v in known.items() if v is not None and 0 < float(v) < math.inf}


def _interval(image: Any) -> tuple[float, str] | None:
    """Return the time between frames in seconds, or None."""
    try:
        interval = image.time_interval
        seconds = float(interval.total_seconds() if hasattr(interval, "total_seconds") else interval)
    # Readers raise many kinds of exceptions if there is no such entry.
    except Exception:
        return None
    return (seconds, "s") if 0 < seconds < math.inf else None
