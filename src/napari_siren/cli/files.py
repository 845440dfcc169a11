"""The files of the command line: the image, the result, streams, and names for results."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from napari_siren.cli.options import numbers
from napari_siren.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_siren.cli.flags import ImageFlags
    from napari_siren.io.picture import ImageInfo, Picture

# Name of standard input and standard output.
_STREAM = Path("-")


def open_picture(image: Path | None, flags: ImageFlags, level: int = 0, sample: bool = False) -> Picture:
    """Read the image, or the sample of the package, as a fit takes it.

    Axes and spacing from the command line override those of the file. `level` is the level of a pyramid.

    Raises
    ------
    InputError
        Neither or both of image and sample were given, or the image cannot be used.
    """
    from napari_siren.core.image.axes import Axes
    from napari_siren.io.images import read_image, sample_path

    if (image is None) != sample:
        raise InputError("one image is needed. Give an image file, or --sample for the photograph in the package.")
    number = int(flags.scene) if flags.scene is not None and flags.scene.isdecimal() else flags.scene
    with input_file(sample_path() if image is None else image) as path:
        picture = read_image(path, flags.axes, scene=number, level=level).prepared()
    override = numbers("--spacing", flags.spacing)
    if override is not None:
        # A spacing from the command line has the unit of the file, if the file has one.
        sizes = tuple(picture.fitted(override))
        sizes = sizes * len((picture.axes or Axes()).spatial) if len(sizes) == 1 else sizes
        picture = replace(picture, spacing=sizes, details=replace(picture.details, guessed=""))
    return picture.with_filled_nan() if flags.fill_nan else picture


@contextmanager
def input_file(path: Path) -> Iterator[Path]:
    """Return the file of an image or a model. The bytes of standard input are written to a temporary file."""
    if path != _STREAM:
        yield path
        return
    with TemporaryDirectory() as folder:
        file = Path(folder) / "standard-input"
        file.write_bytes(sys.stdin.buffer.read())
        yield file


@contextmanager
def output_file(
    out: Path | None, image: Path, picture: Picture, word: str, axes: str | None = None, shape: Sequence[int] = ()
) -> Iterator[Path]:
    """Return the file of a result: the given one as in `result_file`, or one beside the image.

    Parameters
    ----------
    out
        File from the command line; - is standard output, and None is a file beside the image.
    image, picture
        The image's file, and its content.
    word
        Part of the name of a file beside the image.
    axes, shape
        Axes and shape of the result. None stands for those of a frame of the image.
    """
    from napari_siren.io.picture import suffix_for

    if axes is None:
        axes, shape = picture.frame
    suffix = suffix_for(picture.array.dtype, axes, shape, picture.details.has_alpha)
    if out is None:
        yield default_file(image, word) or image.with_name(f"{_stem(image)}_{word}{suffix}")
        return
    with result_file(out, suffix) as file:
        yield file


@contextmanager
def result_file(out: Path, suffix: str) -> Iterator[Path]:
    """Return the file of a result. After the block, one for standard output is copied to it from a temporary file.

    Parameters
    ----------
    out
        File from the command line; - is standard output.
    suffix
        Suffix of the temporary file, which chooses the format.
    """
    if out != _STREAM:
        yield out
        return
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"standard-output{suffix}"
        yield file
        sys.stdout.buffer.write(file.read_bytes())
        sys.stdout.buffer.flush()


def is_series(info: ImageInfo) -> bool:
    """Return whether an image has several frames of a time series."""
    return info.axes.time is not None and info.shape[info.axes.time] > 1


def is_stream(path: Path | None) -> bool:
    """Return whether a path stands for standard input or standard output."""
    return path == _STREAM


def default_file(image: Path, word: str) -> Path | None:
    """Return the file beside an image of a format for any pixels and pixel sizes. Otherwise the pixels decide: None.

    Raises
    ------
    InputError
        The image is from standard input or from an address, and there is no place beside it.
    """
    from napari_siren.io.remote import is_remote

    if image == _STREAM or is_remote(image):
        raise InputError("a name for the result is needed. Give --out FILE, or --out - for standard output.")
    for suffix in (".ome.zarr", ".zarr", ".ome.tif", ".ome.tiff", ".tif", ".tiff", ".npy"):
        if image.name.lower().endswith(suffix):
            return image.with_name(f"{image.name[: -len(suffix)]}_{word}{suffix}")
    return None


def default_folder(image: Path | None) -> Path:
    """Return the folder for the results of a fit: beside the image, or in the working folder for the sample."""
    if image is None:
        return Path("sample_fit")
    if image == _STREAM:
        raise InputError("a folder for the results is needed. Give --out FOLDER.")
    return image.with_name(f"{_stem(image)}_fit")


def _stem(image: Path) -> str:
    return image.stem.removesuffix(".ome")


def check_replaced(path: Path, overwrite: bool) -> None:
    """Raise an InputError if a result would replace an existing file without leave."""
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already. Give another name with --out, or replace it with --overwrite.")


def open_psf(path: Path) -> npt.NDArray[Any]:
    """Read a point spread function from an image without channels.

    Raises
    ------
    InputError
        The file cannot be read as an image, or it has channels.
    """
    from napari_siren.io.images import read_image

    picture = read_image(path).prepared()
    if "C" in (picture.axes or ""):
        raise InputError(f"{path} has channels, and a point spread function has none. Save one channel of it.")
    psf: npt.NDArray[Any] = picture.array
    return psf


def open_mask(path: Path) -> npt.NDArray[np.bool_]:
    """Read a mask from an image: True at the pixels with any colour other than 0.

    An alpha channel is ignored.

    Raises
    ------
    InputError
        The file cannot be read as an image.
    """
    import numpy as np

    from napari_siren.core.image.axes import guess_axes
    from napari_siren.io.images import read_image

    picture = read_image(path)
    mask: npt.NDArray[np.bool_] = picture.array != 0
    if (picture.axes or guess_axes(mask.shape)).endswith("C"):
        colours = mask[..., :-1] if picture.details.has_alpha else mask[..., :3]
        mask = np.any(colours, axis=-1, keepdims=False)
    return mask
