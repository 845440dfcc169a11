"""The list of file formats, and what depends on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_siren.batch.plan import FORMAT_CHOICES
from napari_siren.errors import InputError
from napari_siren.io.formats import FORMAT_NAMES, FORMATS, format_of, readable_suffixes
from napari_siren.io.images import CODECS, inspect_image, read_image, write_image

PICTURE = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)


def test_every_format_has_a_name_facts_and_a_codec() -> None:
    assert tuple(FORMATS) == FORMAT_NAMES
    assert set(CODECS) == set(FORMATS)
    assert FORMAT_CHOICES == ("auto", "png", "tif", "ome.tif", "ome.zarr", "npy")


@pytest.mark.parametrize("name", FORMAT_NAMES)
def test_a_picture_goes_through_every_format(name: str, tmp_path: Path) -> None:
    for number, suffix in enumerate(FORMATS[name].suffixes):  # type: ignore[index]
        path = write_image(tmp_path / f"{number}{suffix}", PICTURE, "YXC")
        assert path.is_dir() == FORMATS[name].is_folder  # type: ignore[index]
        read, info = read_image(path), inspect_image(path)
        pixels = np.asarray(read.array)
        assert info.shape == pixels.shape
        # OME-Zarr has the channels first.
        pixels = np.moveaxis(pixels, 0, -1) if read.axes == "CYX" else pixels
        assert pixels.shape == PICTURE.shape
        # JPEG is not exact.
        assert np.abs(pixels.astype(int) - PICTURE).max() <= (0 if name != "jpg" else 255)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.PNG", "png"),
        ("a.tif", "tif"),
        ("a.b.ome.TIFF", "ome.tif"),
        ("x.zarr", "ome.zarr"),
        ("x.ome.zarr", "ome.zarr"),
    ],
)
def test_the_longest_suffix_counts(file: str, name: str) -> None:
    assert format_of(file).name == name


def test_suffixes() -> None:
    assert {".tif", ".zarr", ".webp", ".jpeg"} <= set(readable_suffixes())
    with pytest.raises(InputError, match=r"should end in one of \.png"):
        format_of("picture.gif")
