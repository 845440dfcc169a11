"""`read_images`: the planes of a folder of images, for training and for validation."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from napari_siren.core.image.axes import Axes
from napari_siren.core.image.samples import Samples
from napari_siren.core.pretraining.planes import Plane, are_noisy
from napari_siren.core.restoration.pretrained.components import Components
from napari_siren.errors import InputError, SirenError
from napari_siren.io.formats import readable_suffixes
from napari_siren.io.images import read_image
from napari_siren.io.zarr.group import is_zarr

_LOG = logging.getLogger(__name__)
# Smallest number of rows and columns of a plane for training, and of one for validation.
LEAST_SIDE, LEAST_HELD_OUT = 48, 32
# Share of the images that is held out, and share of a single image.
_HELD_OUT, _HELD_OUT_PART = 1 / 8, 1 / 4
# Largest number of pixels in memory: 0.3 GB.
_MOST_PIXELS = 1 << 26
# Number of skipped files in a message.
_NAMED = 3


@dataclass(frozen=True)
class Images:
    """The images of a folder.

    Parameters
    ----------
    training, held_out
        Planes for training and for validation.
    names
        Names of the files in use, relative to the folder.
    held_out_names
        Names of those held out. With a single file, it is the file itself: a part of it is held out.
    skipped
        Names of the other files, and the reasons.
    noisy
        Whether the planes have noise themselves.
    data
        SHA-256 of the planes.
    """

    training: list[Plane]
    held_out: list[Plane]
    names: tuple[str, ...]
    held_out_names: tuple[str, ...]
    skipped: dict[str, str]
    noisy: bool
    data: str


def read_images(folder: Path, seed: int, excluded: Path, noisy: bool | None = False) -> Images:
    """Read the images of a folder and of its subfolders, and choose those to hold out.

    One in eight images is held out, at least one. Of a single image a quarter of the longer side is held out.

    Parameters
    ----------
    folder
        The folder.
    seed
        Seed of the choice. If there are more pixels than fit in memory, it chooses the images to read, too.
    excluded
        File in the folder that is not an image to learn from.
    noisy
        Whether the images have noise. None estimates whether most of them have. If not, noisy ones are skipped, since a
        network would learn to keep noise.

    Raises
    ------
    InputError
        The folder does not exist, has no images, no readable ones, or too small ones.
    """
    paths = _find(folder, excluded)
    rng = np.random.default_rng(seed)
    read: dict[str, list[Plane]] = {}
    skipped: dict[str, str] = {}
    pixels = 0
    for path in (paths[i] for i in rng.permutation(len(paths))):
        name = path.relative_to(folder).as_posix()
        if pixels >= _MOST_PIXELS:
            skipped[name] = "there are enough images without it"
            continue
        try:
            read[name] = list(_planes(path, max(1, _MOST_PIXELS // len(paths))))
        except SirenError as error:
            skipped[name] = str(error)
            _LOG.warning("%s is skipped: %s", name, error)
            continue
        pixels += sum(plane.values.size for plane in read[name])
    if not read:
        reasons = " ".join(list(skipped.values())[:_NAMED])
        raise InputError(f"no image of the folder {folder} can be used. {reasons}")
    if noisy is None:
        noisy = are_noisy([plane for planes in read.values() for plane in planes])
        for name in [] if noisy else [name for name, planes in read.items() if are_noisy(planes)]:
            skipped[name] = "it is noisy, unlike most of the images, and the network would learn to keep noise"
            _LOG.warning("%s is skipped: %s", name, skipped[name])
            del read[name]
    training, held_out, names = _split(read)
    return Images(training, held_out, tuple(read), names, skipped, noisy, _fingerprint(read))


def _find(folder: Path, excluded: Path) -> list[Path]:
    suffixes = readable_suffixes()
    paths = sorted(
        path
        for path in (folder.rglob("*") if folder.is_dir() else ())
        if path.suffix.lower() in suffixes
        and (path.is_file() or is_zarr(path))
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.absolute() != excluded.absolute()
    )
    if not paths:
        raise InputError(
            f"the folder {folder} has no images. Choose a folder with images ({', '.join(suffixes)}), or check its "
            "name."
        )
    return paths


def _planes(path: Path, most_pixels: int) -> Iterator[Plane]:
    """Yield the planes of an image, up to about a number of pixels: the luminance of colours, or each channel.

    Raises
    ------
    InputError
        The file cannot be read, has no planes, too small ones, or only ones of a constant value.
    """
    picture = read_image(path).prepared()
    axes = picture.axes or Axes()
    if not {"Y", "X"} <= set(axes):
        raise InputError(f"{path} has no rows and columns (axes {axes}). Remove it from the folder.")
    if picture.missing is not None:
        raise InputError(f"{path} has missing pixels. Remove it from the folder.")
    array = picture.array[..., :-1] if picture.details.has_alpha else picture.array
    array = _thinned(array, axes, most_pixels)
    rows, columns = (array.shape[axes.index(letter)] for letter in "YX")
    if min(rows, columns) < LEAST_SIDE:
        raise InputError(
            f"{path} has {rows} x {columns} pixels. At least {LEAST_SIDE} x {LEAST_SIDE} are needed: use larger images."
        )
    samples = Samples.from_array(array, axes, axes_as_coordinates=axes.coordinates)
    layout, components = samples.layout, Components(samples.layout, False)
    values = components.split(torch.from_numpy(samples.values.reshape(layout.channels, -1))[:, None]).numpy()[:, 0]
    shape = layout.spatial_shape
    letters = layout.axes.coordinates
    order = [*(i for i, letter in enumerate(letters) if letter not in "YX"), letters.index("Y"), letters.index("X")]
    empty = True
    for channel in range(1 if components.are_colours else layout.channels):
        if not layout.scale[channel]:  # a constant channel
            continue
        empty = False
        black, contrast = _limits(layout.dtype, layout.offset[channel], layout.scale[channel])
        planes = values[channel].reshape(shape).transpose(order).reshape(-1, rows, columns)
        yield from (Plane(np.ascontiguousarray(plane), black, contrast) for plane in planes)
    if empty:
        raise InputError(f"all pixels of {path} have the same value. Remove it from the folder.")


def _limits(dtype: str, offset: float, scale: float) -> tuple[float, float]:
    """Return black and contrast of a plane, from the normalisation of its channel."""
    return ((offset - scale) / 255, 2 * scale / 255) if dtype == "uint8" else (0.0, 1.0)


def _thinned(array: npt.NDArray[Any], axes: Axes, most_pixels: int) -> npt.NDArray[Any]:
    """Return an image with evenly chosen frames or slices if there are too many pixels."""
    others = [i for i, letter in enumerate(axes) if letter in "TZ"]
    if others and array.size > most_pixels:
        axis = max(others, key=lambda i: array.shape[i])
        step = min(array.shape[axis], -(-array.size // most_pixels))
        array = array[(slice(None),) * axis + (slice(None, None, step),)]
    return np.asarray(array)


def _split(read: dict[str, list[Plane]]) -> tuple[list[Plane], list[Plane], tuple[str, ...]]:
    """Return the planes for training and for validation, and the names of the files held out."""
    names = list(read)
    if len(names) > 1:
        count = max(1, round(_HELD_OUT * len(names)))
        held_out, training = (
            [plane for name in part for plane in read[name]] for part in (names[:count], names[count:])
        )
        return training, held_out, tuple(names[:count])
    # The same part of all planes: neighbouring slices are too similar to hold out whole ones.
    parts = [_parts(plane, names[0]) for plane in read[names[0]]]
    return [first for first, _ in parts], [second for _, second in parts], tuple(names)


def _parts(plane: Plane, name: str) -> tuple[Plane, Plane]:
    """Return the two parts of a single image.

    Raises
    ------
    InputError
        The image has too few pixels.
    """
    shape = plane.values.shape
    axis = int(np.argmax(shape))
    length = max(LEAST_HELD_OUT, round(_HELD_OUT_PART * shape[axis]))
    if shape[axis] - length < LEAST_SIDE:
        raise InputError(
            f"{name} is the only image, and has {shape[0]} x {shape[1]} pixels. A single image needs at least "
            f"{LEAST_SIDE} x {LEAST_SIDE + LEAST_HELD_OUT} pixels: use a larger one, or more images."
        )
    spans = slice(0, shape[axis] - length), slice(shape[axis] - length, shape[axis])
    first, second = (plane.part(span, slice(None)) if axis == 0 else plane.part(slice(None), span) for span in spans)
    return first, second


def _fingerprint(read: dict[str, list[Plane]]) -> str:
    digest = hashlib.sha256()
    for name, planes in read.items():
        digest.update(name.encode())
        for plane in planes:
            digest.update(plane.values.data)
    return digest.hexdigest()


def megapixels(planes: Sequence[Plane]) -> float:
    """Return the number of pixels of planes, in millions."""
    return sum(plane.values.size for plane in planes) / 1e6
