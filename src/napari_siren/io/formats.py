"""`FORMATS`: the file formats of images, and the facts about each that are needed without the libraries that read them.

This is the only list of formats. `io.images` registers their codecs; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from napari_siren.errors import InputError

FormatName = Literal["png", "jpg", "tif", "ome.tif", "ome.zarr", "npy"]
FORMAT_NAMES: tuple[FormatName, ...] = get_args(FormatName)
# Suffixes of files that are read and not written: those of Pillow, and TIFF under other names.
_READ_ONLY = (
    *(".webp", ".bmp", ".gif", ".pgm", ".ppm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".jpx", ".jfif", ".jpe", ".mpo"),
    *(".avif", ".tga", ".apng", ".psd", ".lsm", ".stk", ".svs", ".ndpi", ".scn", ".btf", ".tf8", ".qptiff", ".gtiff"),
)
# Package of bioio with the reader of each format of microscopes, by the suffix.
MICROSCOPE_READERS = {
    ".czi": "bioio-czi",
    ".nd2": "bioio-nd2",
    ".lif": "bioio-lif",
    ".dv": "bioio-dv",
    ".r3d": "bioio-dv",
    ".sldy": "bioio-sldy",
    **dict.fromkeys(
        (".oir", ".oib", ".oif", ".ims", ".vsi", ".mrxs", ".zvi", ".lei", ".ids", ".ics"), "bioio-bioformats"
    ),
}


@dataclass(frozen=True)
class FileFormat:
    """A file format for writing images.

    Parameters
    ----------
    name
        Name in options.
    title
        Name in menus.
    suffixes
        Suffixes of file names, in lower case. Results get the first one.
    holds
        Numbers of channels of each dtype that a file can hold, in two dimensions. None is no limit.
    is_folder
        Whether an image is a folder.
    for_batches
        Whether it is offered for the results of batches.
    """

    name: FormatName
    title: str
    suffixes: tuple[str, ...]
    holds: Mapping[str, tuple[int, ...]] | None = None
    is_folder: bool = False
    for_batches: bool = True


# In the order of the menu. A file name has the format with the longest suffix that fits.
FORMATS: dict[FormatName, FileFormat] = {
    entry.name: entry
    for entry in (
        FileFormat("png", "PNG", (".png",), {"uint8": (1, 2, 3, 4), "uint16": (1,), "bool": (1,)}),
        FileFormat("jpg", "JPEG", (".jpg", ".jpeg"), {"uint8": (1, 3)}, for_batches=False),
        FileFormat("tif", "TIFF", (".tif", ".tiff")),
        FileFormat("ome.tif", "OME-TIFF", (".ome.tif", ".ome.tiff")),
        FileFormat("ome.zarr", "OME-Zarr", (".ome.zarr", ".zarr"), is_folder=True),
        FileFormat("npy", "NumPy", (".npy",)),
    )
}


def readable_suffixes() -> tuple[str, ...]:
    """Return the last suffix of every file name that may be an image, sorted."""
    last = {"." + suffix.rsplit(".", 1)[-1] for entry in FORMATS.values() for suffix in entry.suffixes}
    return tuple(sorted(last | set(_READ_ONLY) | set(MICROSCOPE_READERS)))


def format_of(path: str | Path) -> FileFormat:
    """Return the format that a file name stands for.

    Raises
    ------
    InputError
        The suffix is not known.
    """
    name = Path(path).name
    fitting = [
        (suffix, entry) for entry in FORMATS.values() for suffix in entry.suffixes if name.lower().endswith(suffix)
    ]
    if not fitting:
        known = ", ".join(suffix for entry in FORMATS.values() for suffix in entry.suffixes)
        raise InputError(f"{name} has no known suffix. The name should end in one of {known}.")
    return max(fitting, key=lambda pair: len(pair[0]))[1]
