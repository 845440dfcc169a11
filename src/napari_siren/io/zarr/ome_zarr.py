"""OME-Zarr: images as pyramids of chunked arrays, read lazily and written block by block.

The specification: https://ngff.openmicroscopy.org. Versions 0.1 to 0.5 are read, 0.4 and 0.5 are written (zarr formats
2 and 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_siren.core.image.axes import Axes
from napari_siren.core.storage.atomic import atomic_directory
from napari_siren.core.storage.records import describe_error
from napari_siren.errors import InputError
from napari_siren.io.details import Details
from napari_siren.io.lazy import array_of_zarr
from napari_siren.io.sizes import spacing_of
from napari_siren.io.zarr.group import is_zarr, open_group
from napari_siren.io.zarr.ngff import Multiscales, Version, read_details
from napari_siren.io.zarr.pyramid import Pyramid


@dataclass(frozen=True)
class ZarrImage:
    """A level of an OME-Zarr image: its metadata and its pixels, which have not been read yet.

    Parameters
    ----------
    array
        Pixels as a lazy dask array of the file's dtype, without axes of one entry. At least two spatial axes stay.
    axes
        One letter for each axis of the array: T, C, Z, Y or X.
    spacing
        Distance between pixel centres along each spatial axis. None if the file does not give it.
    unit
        Unit of the spacing, such as "µm". None if the file does not give it.
    channel_names
        One name for each channel. None if the file does not give them.
    levels
        Shape of each level with all axes of the file, the finest level first.
    details
        Position, colours and displayed ranges.
    notes
        What was assumed or left out.
    """

    array: Any
    axes: Axes
    spacing: tuple[float, ...] | None
    unit: str | None
    channel_names: tuple[str, ...] | None
    levels: tuple[tuple[int, ...], ...]
    details: Details = field(default_factory=Details)
    notes: tuple[str, ...] = ()


def open_ome_zarr(path: str | Path, level: int = 0, scene: int | str | None = None) -> ZarrImage:
    """Open an OME-Zarr image of the versions 0.1 to 0.5, without reading its pixels.

    Parameters
    ----------
    path
        Path of the folder, or its address (https://, s3://, …). Of the root of a conversion by bioformats2raw, and if
        a folder has several images, the first is opened.
    level
        Index of the level in the pyramid: 0 is the finest, -1 the coarsest.
    scene
        Number or name of one of several images. None is the first.

    Raises
    ------
    InputError
        There is no such folder, it is not an OME-Zarr image, or there is no such level.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> from napari_siren.io.zarr.ome_zarr import open_ome_zarr, write_ome_zarr
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "cells.ome.zarr"
    >>> _ = write_ome_zarr(path, np.zeros((600, 400), dtype=np.uint8), "YX", spacing=(0.5, 0.5), unit="µm")
    >>> image = open_ome_zarr(path)
    >>> image.axes, image.array.shape, image.spacing, image.unit
    ('YX', (600, 400), (0.5, 0.5), 'µm')
    >>> open_ome_zarr(path, level=1).array.shape
    (300, 200)
    """
    root = open_group(path)
    group, metadata, notes = _image_group(path, root, scene)
    try:
        number = scene if isinstance(scene, int) and group is root else 0
        entries = metadata["multiscales"]
        multiscales = Multiscales.from_json(entries[min(number, len(entries) - 1)])
        arrays = [group[name] for name in multiscales.paths]
        if len(entries) > 1:
            notes.append(f"the folder has {len(entries)} images; only one is read")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} is not an OME-Zarr image of the versions 0.1 to 0.5 ({describe_error(error)}). Choose another "
            "folder."
        ) from error
    if not -len(arrays) <= level < len(arrays):
        raise InputError(f"{path} has no level {level}. Choose one from 0 to {len(arrays) - 1}.")
    stored, letters = arrays[level], multiscales.letters
    if len(stored.shape) != len(letters) or stored.dtype.kind not in "buif":
        raise InputError(
            f"level {level} of {path} is {stored.dtype} of shape {stored.shape}. Choose an image of real numbers or "
            f"booleans with the axes {letters}."
        )
    lazy, kept = array_of_zarr(path, stored), _kept_axes(letters, arrays[0].shape)
    axes = Axes("".join(letters[i] for i in kept))
    spacing, unit, guessed, on_sizes = spacing_of(axes, multiscales.sizes(level))
    channels = 1 if axes.channel is None else arrays[0].shape[letters.index("C")]
    names, details = read_details(metadata, channels)
    origin = None if spacing is None else multiscales.origin(level, axes, unit)
    details = Details(
        letters if len(kept) < len(letters) else "", details.colours, None, details.ranges, origin, guessed
    )
    squeezed = lazy[tuple(slice(None) if i in kept else 0 for i in range(lazy.ndim))]
    shapes = tuple(tuple(array.shape) for array in arrays)
    return ZarrImage(squeezed, axes, spacing, unit, names, shapes, details, (*notes, *on_sizes))


def write_ome_zarr(
    path: str | Path,
    array: Any,
    axes: str,
    spacing: Sequence[float] | None = None,
    unit: str | None = None,
    channel_names: Sequence[str] | None = None,
    version: Version = "0.4",
    details: Details | None = None,
) -> Path:
    """Write an image as an OME-Zarr pyramid.

    The folder is written under a temporary name, and then moved into place.

    Parameters
    ----------
    path
        Path of the folder to write. An OME-Zarr image of that name is replaced.
    array
        Image as a numpy, dask or zarr array. An array that is not in memory is read block by block.
    axes
        One letter for each axis of the array: T, C, Z, Y or X. The file stores the axes in this order.
    spacing
        Distance between pixel centres along each spatial axis, in the order of `axes`. None if it is not known.
    unit
        Unit of the spacing, such as "µm".
    channel_names
        One name for each channel.
    version
        "0.4" (zarr format 2), which more programs read, or "0.5" (zarr format 3). Large images of 0.5 are sharded.
    details
        Position, colours and displayed ranges, and the axes of one entry to add.

    Returns
    -------
    Path
        Path of the folder.

    Raises
    ------
    InputError
        The arguments contradict each other, or OME-Zarr cannot hold the image.
    StorageError
        The folder cannot be written.
    """
    path = Path(path)
    with atomic_directory(path, is_zarr) as temporary_path:
        description = (spacing, unit, channel_names, version, details)
        pyramid = Pyramid.create(temporary_path, array.shape, array.dtype, axes, *description)
        for block in pyramid.blocks():
            pyramid.finest[block] = np.asarray(array[block])
        pyramid.finish()
    return path


def _metadata(group: Any) -> Mapping[str, Any]:
    attributes = dict(group.attrs)
    metadata: Mapping[str, Any] = attributes.get("ome", attributes)
    return metadata


def _image_group(path: str | Path, group: Any, scene: int | str | None) -> tuple[Any, Mapping[str, Any], list[str]]:
    """Return the group of an image and its metadata, and notes; of the root of bioformats2raw, that of an image in it.

    Raises
    ------
    InputError
        The folder is a plate or a well, or has no such image.
    """
    metadata = _metadata(group)
    if "plate" in metadata:
        wells = [str(well.get("path", "")) for well in metadata["plate"].get("wells", ())]
        example = f"{wells[0]}/0" if wells else "A/1/0"
        raise InputError(f"{path} is a plate with {len(wells)} wells. Choose an image in it, such as {path}/{example}.")
    if "well" in metadata:
        images = [str(image.get("path", "")) for image in metadata["well"].get("images", ())]
        raise InputError(
            f"{path} is a well with {len(images)} images. Choose one of them, such as {path}/{(images or ['0'])[0]}."
        )
    if "multiscales" in metadata or "bioformats2raw.layout" not in metadata:
        return group, metadata, []
    series = _series(group)
    name = str(scene) if scene is not None else series[0]
    if name not in series:
        raise InputError(f"{path} has no image {scene!r}. Choose one of {', '.join(series)}.")
    notes = [f"the folder has {len(series)} images; only {name} is read"] if len(series) > 1 else []
    try:
        inner = group[name]
    except KeyError:
        raise InputError(f"{path} has no image {name}. Copy or convert it again.") from None
    return inner, _metadata(inner), notes


def _series(root: Any) -> list[str]:
    """Return the names of the images in the root of bioformats2raw, by its metadata; "0" without them."""
    try:
        series = _metadata(root["OME"]).get("series")
    except (KeyError, ValueError):
        series = None
    if series:
        return [str(name) for name in series]
    try:
        numbers = sorted((name for name in root.group_keys() if name.isdigit()), key=int)
    # Not every address can be listed.
    except Exception:
        numbers = []
    return numbers or ["0"]


def _kept_axes(letters: str, shape: Sequence[int]) -> list[int]:
    """Return the positions of the axes with more than one entry, and of X and Y if there would be no plane."""
    kept = [i for i, n in enumerate(shape) if n > 1]
    for letter in "XY":
        if sum(letters[i] in "ZYX" for i in kept) < 2 and letter in letters and letters.index(letter) not in kept:
            kept.append(letters.index(letter))
    return sorted(kept)
