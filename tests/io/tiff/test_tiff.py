"""Time series read frame by frame, and OME-TIFF files read by another library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import ome_types
import pytest
import tifffile
from ome_types.model import UnitsLength, UnitsTime

from napari_siren.errors import InputError
from napari_siren.io.images import inspect_image, read_image, read_pyramid, write_image


def series(axes: str, **sizes: int) -> np.ndarray:
    shape = [sizes[a] for a in axes]
    return np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)


# ---- frame by frame ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "options"),
    [
        ("TCYX", {"imagej": True}),
        ("TZCYX", {"imagej": True}),
        ("TZCYX", {"ome": True}),
        ("TZCYX", {"ome": True, "compression": "zlib"}),
        ("ZTCYX", {"ome": True, "compression": "zlib"}),
        ("CZTYX", {"ome": True}),
        ("TYX", {"compression": "zlib"}),
    ],
)
def test_each_frame_is_that_of_the_series(tmp_path: Path, written: str, options: dict[str, Any]) -> None:
    path = tmp_path / "series.tif"
    array = series(written, T=4, Z=3, C=2, Y=5, X=6)
    tifffile.imwrite(path, array, metadata={"axes": written}, photometric="minisblack", **options)
    outline = inspect_image(path, each=True)
    assert (outline.frames, outline.axes) == (4, written.replace("T", ""))
    for frame in range(4):
        picture = read_image(path, frame=frame)
        np.testing.assert_array_equal(picture.array, array.take(frame, written.index("T")))
        assert (picture.axes, picture.array.shape) == (outline.axes, outline.shape)


def test_pages_without_a_name_are_frames_where_frames_are_wanted(tmp_path: Path) -> None:
    path, array = tmp_path / "pages.tif", series("TYX", T=3, Y=5, X=6)
    tifffile.imwrite(path, array, photometric="minisblack", metadata=None)
    assert (inspect_image(path, each=True).frames, inspect_image(path, each=True).axes) == (3, "YX")
    assert (inspect_image(path).frames, inspect_image(path).axes) == (None, "ZYX")
    assert inspect_image(path, "ZYX", each=True).frames is None
    np.testing.assert_array_equal(read_image(path, frame=2).array, array[2])


@pytest.mark.parametrize("axes", ["TYX", "tyx", "YX"])
def test_axes_are_those_of_the_file_or_of_a_frame(tmp_path: Path, axes: str) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, series("TYX", T=3, Y=5, X=6), imagej=True, metadata={"axes": "TYX"})
    outline = inspect_image(path, axes, each=True)
    assert (outline.frames, outline.axes, outline.shape) == (3, "YX", (5, 6))
    with pytest.raises(InputError):
        inspect_image(path, "ZCYX", each=True)


def test_a_file_without_time_has_no_frames(tmp_path: Path) -> None:
    path = write_image(tmp_path / "stack.tif", series("ZYX", Z=3, Y=5, X=6), "ZYX")
    assert inspect_image(path, each=True).frames is None
    assert read_image(path, frame=0).array.shape == (3, 5, 6)


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.tif"])
def test_an_outline_is_what_the_image_is(tmp_path: Path, name: str) -> None:
    path = write_image(tmp_path / name, np.zeros((5, 6, 3), np.uint8), "YXC")
    outline, picture = inspect_image(path), read_image(path)
    assert (outline.shape, outline.dtype, outline.axes) == (picture.array.shape, "uint8", "YXC")


# ---- OME-TIFF, read by ome-types --------------------------------------------------------------------------


def test_ome_tiff_tells_pixel_size_channels_and_time(tmp_path: Path) -> None:
    array = series("TZCYX", T=2, Z=3, C=2, Y=5, X=6)
    written = (array, "TZCYX", (0.5, 0.2, 0.1), "nm", ("DAPI", "GFP ä"), (5.0, "min"))
    path = write_image(tmp_path / "a.ome.tif", *written)
    pixels = ome_types.from_tiff(path).images[0].pixels
    assert (pixels.size_t, pixels.size_z, pixels.size_c, pixels.size_y, pixels.size_x) == array.shape
    assert (pixels.physical_size_z, pixels.physical_size_y, pixels.physical_size_x) == (0.5, 0.2, 0.1)
    assert pixels.physical_size_x_unit == UnitsLength.NANOMETER
    assert [channel.name for channel in pixels.channels] == ["DAPI", "GFP ä"]
    assert (pixels.time_increment, pixels.time_increment_unit) == (5.0, UnitsTime.MINUTE)
    outline, picture = inspect_image(path, each=True), read_image(path, frame=1)
    assert (picture.spacing, picture.unit, picture.channel_names) == ((0.5, 0.2, 0.1), "nm", ("DAPI", "GFP ä"))
    assert outline.interval == (5.0, "min")


def test_ome_tiff_tells_programs_that_know_no_ome_the_pixel_size(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.ome.tif", np.zeros((5, 6), np.uint16), "YX", (0.2, 0.1), "µm")
    with tifffile.TiffFile(path) as file:
        tags = file.pages.first.tags
        per_unit = [tags[name].value[0] / tags[name].value[1] for name in ("XResolution", "YResolution")]
        assert tags["ResolutionUnit"].value == 3  # centimetres
    assert per_unit == pytest.approx([1e4 / 0.1, 1e4 / 0.2])


def test_the_time_between_frames_of_imagej(tmp_path: Path) -> None:
    array = series("TYX", T=3, Y=5, X=6)
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, metadata={"axes": "TYX", "finterval": 2.5})
    assert inspect_image(tmp_path / "a.tif", each=True).interval == (2.5, "s")


def test_names_for_other_channels_than_there_are_do_not_count(tmp_path: Path) -> None:
    array = np.zeros((2, 5, 6), np.uint16)
    metadata: dict[str, Any] = {"axes": "CYX", "Channel": {"Name": ["only one", ""]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", array, ome=True, metadata=metadata)
    assert read_image(tmp_path / "a.ome.tif").channel_names is None


def test_a_size_without_its_tiles_is_refused(tmp_path: Path) -> None:
    """A damaged width would make a large image of zeros from a small file."""
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.zeros((20, 24), np.uint8), tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages.first.tags["ImageWidth"].overwrite(5_000_000)
    with pytest.raises(InputError, match=r"has 4 of its \d+ strips or tiles"):
        read_image(path)


# ---- pyramids ---------------------------------------------------------------------------------------------


def write_pyramid(path: Path, finest: np.ndarray, **options: Any) -> list[np.ndarray]:
    """Write an OME-TIFF whose coarser levels are in SubIFDs, and return the levels."""
    levels = [finest, finest[..., ::2, ::2], finest[..., ::4, ::4]]
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(levels[0], subifds=2, tile=(16, 16), **options)
        for level in levels[1:]:
            file.write(level, subfiletype=1, tile=(16, 16))
    return levels


@pytest.mark.parametrize("lazily", [False, True])
@pytest.mark.parametrize("axes", ["YX", "CYX", "ZYX"])
def test_levels_of_a_pyramid(tmp_path: Path, axes: str, lazily: bool) -> None:
    path, array = tmp_path / "pyramid.ome.tif", series(axes, C=2, Z=3, Y=48, X=64)
    metadata = {"axes": axes, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
    levels = write_pyramid(path, array, metadata=metadata, photometric="minisblack")
    for number, level in enumerate(levels):
        picture = read_image(path, level=number, lazily=lazily)
        assert (picture.axes, picture.levels) == (axes, 3)
        assert isinstance(picture.array, np.ndarray) is not lazily
        np.testing.assert_array_equal(picture.array, level)
        assert picture.spacing is not None
        assert picture.spacing[-2:] == pytest.approx((0.25 * 2**number, 0.5 * 2**number))
        assert picture.spacing[0] == 2.0 or axes != "ZYX"
    assert read_image(path, level=-1).array.shape == levels[-1].shape
    with pytest.raises(InputError, match=r"has no level 3\. Choose one from 0 to 2"):
        read_image(path, level=3)
    assert [picture.array.shape for picture in read_pyramid(path)] == [level.shape for level in levels]


def test_other_files_have_one_level(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 5)))
    with pytest.raises(InputError, match=r"has no level 1: it is no pyramid\. Use level 0"):
        read_image(tmp_path / "a.npy", level=1)
    assert len(read_pyramid(tmp_path / "a.npy")) == 1
