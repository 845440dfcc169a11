"""Metadata of files: sizes, names, colours and places, kept from input to output, or said to be lost."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_siren.core.image.axes import Axes
from napari_siren.io.details import Details, colour_of_lut, lut_of_colour
from napari_siren.io.images import inspect_image, read_image, write_picture
from napari_siren.io.picture import Picture
from napari_siren.io.zarr.ome_zarr import write_ome_zarr

GREY = np.random.default_rng(0).integers(0, 200, (24, 32), dtype=np.uint8)
CHANNELS = np.stack([GREY, GREY // 2, GREY // 3])
NAMES = ("DAPI", "GFP", "Cy5")
OME = {"axes": "CYX", "Channel": {"Name": list(NAMES)}}


def enlarged(picture: Picture) -> Picture:
    """Return a picture of twice as many pixels along Y and X."""
    axes = picture.axes or ""
    array = np.asarray(picture.array)
    for letter in "YX":
        array = np.repeat(array, 2, axes.index(letter))
    step = [0.5 if a in "YX" else 1.0 for a in axes if a not in "TC"]
    return picture.resampled(array, axes, step)


# ---- pixel sizes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "spacing", "unit", "said"),
    [
        ("part.ome.tif", {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1}, (0.1, 0.1, 0.1), "µm", "along Z"),
        ("one.ome.tif", {"PhysicalSizeX": 65, "PhysicalSizeXUnit": "nm"}, (65, 65, 65), "nm", "along Z, Y"),
        (
            "mixed.ome.tif",
            {"PhysicalSizeZ": 1, "PhysicalSizeY": 65, "PhysicalSizeYUnit": "nm", "PhysicalSizeX": 65}
            | {"PhysicalSizeXUnit": "nm"},
            (1000, 65, 65),
            "nm",
            "",
        ),
        (
            "zero.ome.tif",
            {"PhysicalSizeZ": 0, "PhysicalSizeY": 0.5, "PhysicalSizeX": 0.5},
            (0.5, 0.5, 0.5),
            "µm",
            "along Z is not valid",
        ),
    ],
)
def test_sizes_of_ome(
    tmp_path: Path, name: str, options: dict[str, Any], spacing: tuple[float, ...], unit: str, said: str
) -> None:
    tifffile.imwrite(tmp_path / name, CHANNELS, ome=True, metadata={"axes": "ZYX", **options})
    picture = read_image(tmp_path / name)
    assert (picture.spacing, picture.unit) == (pytest.approx(spacing), unit)
    assert said in " ".join(picture.notes)
    assert inspect_image(tmp_path / name).spacing == pytest.approx(spacing)
    # A size that was not known is not known in a copy either, and what was known is.
    write_picture(tmp_path / "again.ome.tif", enlarged(picture))
    with tifffile.TiffFile(tmp_path / "again.ome.tif") as file:
        pixels = tifffile.xml2dict(file.ome_metadata or "")
    written = pixels["OME"]["Image"]["Pixels"]
    for axis, size in zip("ZYX", spacing, strict=True):
        known = axis not in picture.details.guessed
        assert (f"PhysicalSize{axis}" in written) == known
        assert not known or written[f"PhysicalSize{axis}"] == pytest.approx(size / (1 if axis == "Z" else 2))


@pytest.mark.parametrize("unit", ["micrometers", "micron", "um", "\\u00B5m", "Micrometer", "microns", "micrometres"])
def test_units_of_imagej(tmp_path: Path, unit: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY, imagej=True, resolution=(2, 2), metadata={"unit": unit})
    picture = read_image(tmp_path / "a.tif")
    assert (picture.spacing, picture.unit) == (pytest.approx((0.5, 0.5)), "µm")


@pytest.mark.parametrize(
    ("resolution", "unit", "spacing", "dpi"),
    [
        ((40_000, 40_000), "CENTIMETER", (0.25, 0.25), None),
        ((20_000, 40_000), "CENTIMETER", (0.25, 0.5), None),
        ((254_000, 254_000), "INCH", (0.1, 0.1), None),
        ((300, 300), "INCH", None, (300, 300)),
        ((118, 118), "CENTIMETER", None, (299.72, 299.72)),
        ((1, 1), "NONE", None, None),
    ],
)
@pytest.mark.parametrize("imagej", [False, True])
def test_resolution_of_plain_tiff(
    tmp_path: Path, resolution: Any, unit: str, spacing: Any, dpi: Any, imagej: bool
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY, resolution=resolution, resolutionunit=unit, imagej=imagej)
    picture = read_image(tmp_path / "a.tif")
    assert picture.spacing == (None if spacing is None else pytest.approx(spacing))
    assert picture.details.dpi == (None if dpi is None else pytest.approx(dpi, rel=1e-3))


# ---- rows and single entries ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 32), (24, 1), (1, 1), (1, 32, 3), (1, 1, 1, 1, 32)])
@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.ome.zarr"])
def test_a_row_of_pixels_is_an_image(tmp_path: Path, shape: tuple[int, ...], name: str) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    axes = {2: "YX", 3: "YXS", 5: "TCZYX"}[len(shape)]
    if name.endswith("zarr"):
        write_ome_zarr(tmp_path / name, array, axes.replace("S", "C"))
    else:
        kind = {"ome": True} if ".ome." in name else {}
        photometric = "rgb" if "S" in axes else "minisblack"
        tifffile.imwrite(tmp_path / name, array, metadata={"axes": axes}, photometric=photometric, **kind)
    picture = read_image(tmp_path / name)
    assert set("YX") <= set(picture.axes or "")
    assert picture.array.size == array.size
    sizes = dict(zip(picture.axes or "", picture.array.shape, strict=True))
    assert (sizes["Y"], sizes["X"]) == shape[-3:-1] if "S" in axes else shape[-2:]
    if not name.endswith("zarr"):
        assert inspect_image(tmp_path / name).shape == picture.array.shape


# ---- names and colours of channels -----------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["out.tif", "out.ome.tif", "out.ome.zarr"])
@pytest.mark.parametrize("source", ["ome", "zarr"])
def test_names_and_colours_of_channels_are_kept(tmp_path: Path, source: str, target: str) -> None:
    colours, ranges = ("0000FF", "00FF00", "FF0000"), ((0.0, 100.0), (1.0, 50.0), (2.0, 60.0))
    if source == "ome":
        signed = [0x0000FFFF, 0x00FF00FF, 0xFF0000FF - (1 << 32)]
        metadata = {"axes": "CYX", "Channel": {"Name": list(NAMES), "Color": signed}}
        tifffile.imwrite(tmp_path / "in.ome.tif", CHANNELS, metadata=metadata)
        picture = read_image(tmp_path / "in.ome.tif")
    else:
        details = Details(colours=colours, ranges=ranges)
        write_ome_zarr(tmp_path / "in.ome.zarr", CHANNELS, "CYX", (0.5, 0.5), "µm", NAMES, details=details)
        picture = read_image(tmp_path / "in.ome.zarr")
        assert picture.details.ranges == ranges
    assert (picture.channel_names, picture.details.colours) == (NAMES, colours)
    write_picture(tmp_path / target, enlarged(picture))
    again = read_image(tmp_path / target)
    assert (again.channel_names, again.details.colours) == (NAMES, colours)
    if (source, target) == ("zarr", "out.ome.zarr"):
        assert again.details.ranges == ranges


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_lookup_tables_and_ranges_of_imagej_are_kept(tmp_path: Path, channels: int, dtype: str) -> None:
    luts = [np.stack([np.arange(256) * f for f in fs]).astype(np.uint8) for fs in ((1, 0, 0), (0, 1, 0), (0, 1, 1))]
    metadata: dict[str, Any] = {"LUTs": luts[:channels], "Ranges": (1.0, 9.0, 2.0, 8.0, 3.0, 7.0)[: 2 * channels]}
    if channels > 1:
        metadata |= {"mode": "composite", "axes": "CYX"}
    array = (CHANNELS if channels > 1 else GREY).astype(dtype)
    tifffile.imwrite(tmp_path / "in.tif", array, imagej=True, metadata=metadata)
    picture = read_image(tmp_path / "in.tif")
    assert picture.details.colours == ("FF0000", "00FF00", "00FFFF")[:channels]
    write_picture(tmp_path / "out.tif", enlarged(picture))
    again = read_image(tmp_path / "out.tif")
    for name in ("luts", "ranges", "colours"):
        assert getattr(again.details, name) == getattr(picture.details, name), name
    write_picture(tmp_path / "out.ome.tif", enlarged(picture))
    assert read_image(tmp_path / "out.ome.tif").details.colours == picture.details.colours


def test_ramps_are_colours_and_other_tables_are_not() -> None:
    assert colour_of_lut(lut_of_colour("3FA0FF")) == "3FA0FF"
    assert colour_of_lut(np.stack([np.arange(256)[::-1]] * 3).astype(np.uint8).tobytes()) is None


def test_details_in_json() -> None:
    details = Details("TCYX", ("FF0000",), (bytes(768),), ((0.0, 1.0),), (1.0, 2.0), "Z", b"icc", (300.0, 300.0), 0.5)
    assert Details.from_json({**details.as_json(), "unknown": 1}) == details


def test_what_is_lost_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metadata = {"ROI": b"roi", "LUTs": [np.zeros((3, 256), np.uint8)]}
    tifffile.imwrite(tmp_path / "in.tif", GREY, imagej=True, resolution=(2, 2), metadata={"unit": "um", **metadata})
    with caplog.at_level(logging.WARNING, logger="napari_siren"):
        picture = read_image(tmp_path / "in.tif")
        write_picture(tmp_path / "out.png", picture)
    assert picture.notes == ("ImageJ's regions of interest are not carried over",)
    assert [record.getMessage() for record in caplog.records] == [
        "in.tif: ImageJ's regions of interest are not carried over",
        "out.png cannot hold the pixel size and the colours of the channels of the image",
    ]


# ---- pixels without data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "text", "value"),
    [
        ("float32", "-9999", -9999),
        ("float32", "nan", np.nan),
        ("float32", "-3.4028234663852886e+38", -3.4028234663852886e38),
        ("float64", "1e+20", 1e20),
        ("int16", "-9999", -9999),
        ("uint8", "0", 0),
    ],
)
def test_nodata_are_missing_pixels(tmp_path: Path, dtype: str, text: str, value: float) -> None:
    image = (GREY.astype(dtype) % 90) + 1
    image[3:5, 4:9] = value
    tifffile.imwrite(tmp_path / "map.tif", image, extratags=[(42113, "s", 0, text, True)])
    picture = read_image(tmp_path / "map.tif")
    assert picture.missing is not None
    expected = np.zeros(GREY.shape, bool)
    expected[3:5, 4:9] = True
    np.testing.assert_array_equal(picture.missing, expected)
    assert "10 pixels without data" in " ".join(picture.notes)
    np.testing.assert_array_equal(read_image(tmp_path / "map.tif", lazily=True).missing, expected)


def test_nodata_in_a_file_that_pillow_reads(tmp_path: Path) -> None:
    image = (GREY % 90 + 1).astype(np.uint16)
    image[3:5, 4:9] = 0
    Image.fromarray(image).save(tmp_path / "map.tif", compression="tiff_lzw", tiffinfo={42113: "0"})
    picture = read_image(tmp_path / "map.tif")
    assert picture.missing is not None
    np.testing.assert_array_equal(picture.missing, image == 0)


def test_nodata_in_one_channel_and_turned(tmp_path: Path) -> None:
    image = np.dstack([GREY, GREY, GREY]) % 90 + 1
    image[3, 4, 1] = 0
    tags = [(42113, "s", 0, "0", True), (274, "H", 1, 6, True)]
    tifffile.imwrite(tmp_path / "map.tif", image, photometric="rgb", extratags=tags)
    picture = read_image(tmp_path / "map.tif")
    assert picture.missing is not None
    np.testing.assert_array_equal(picture.missing, (picture.array == 0).any(axis=-1))
    np.testing.assert_array_equal(read_image(tmp_path / "map.tif", lazily=True).missing, picture.missing)


def test_a_mask_page_of_gdal(tmp_path: Path) -> None:
    mask = np.full(GREY.shape, 255, np.uint8)
    mask[:4] = 0
    with tifffile.TiffWriter(tmp_path / "map.tif") as file:
        file.write(GREY, photometric="minisblack", metadata=None)
        file.write(mask > 0, photometric=4, subfiletype=4, metadata=None)
    picture = read_image(tmp_path / "map.tif")
    np.testing.assert_array_equal(picture.array, GREY)
    assert picture.missing is not None
    np.testing.assert_array_equal(picture.missing, mask == 0)
    np.testing.assert_array_equal(read_image(tmp_path / "map.tif", lazily=True).missing, picture.missing)


# ---- the place ---------------------------------------------------------------------------------------------------


def test_the_place_of_a_render(tmp_path: Path) -> None:
    details = Details(origin=(100.0, 200.0))
    write_ome_zarr(tmp_path / "in.ome.zarr", GREY, "YX", (0.5, 0.5), "µm", details=details)
    picture = read_image(tmp_path / "in.ome.zarr")
    assert picture.details.origin == (100, 200)
    finer = picture.resampled(np.zeros((96, 128), np.uint8), "YX", (0.25, 0.25))
    write_picture(tmp_path / "out.ome.zarr", finer)
    assert read_image(tmp_path / "out.ome.zarr").details.origin == pytest.approx((99.8125, 199.8125))
    write_picture(tmp_path / "out.ome.tif", finer)
    assert read_image(tmp_path / "out.ome.tif").details.origin == pytest.approx((99.8125, 199.8125))
    part = picture.resampled(np.zeros((8, 8), np.uint8), "YX", (1.0, 1.0), (4.0, 6.0))
    assert part.details.origin == pytest.approx((102, 203))


@pytest.mark.parametrize(("origin", "lost"), [(None, False), ((0.0, 0.0), False), ((0.0, 9.0), True)])
@pytest.mark.parametrize("name", ["out.tif", "out.png"])
def test_only_a_position_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, origin: Any, lost: bool
) -> None:
    """The centre of the first pixel of a finer grid is not that of the image. This is no position."""
    picture = Picture(GREY, Axes("YX"), (1.0, 1.0), "µm", tmp_path, details=Details(origin=origin))
    finer = picture.resampled(np.zeros((96, 128), np.uint8), "YX", (0.25, 0.25))
    finest = finer.resampled(np.zeros((192, 256), np.uint8), "YX", (0.5, 0.5))
    for render in (finer, finest):
        caplog.clear()
        write_picture(tmp_path / name, render)
        assert any("the position" in message for message in caplog.messages) == lost
    # A part of the image has a position.
    caplog.clear()
    write_picture(tmp_path / name, finer.resampled(np.zeros((8, 8), np.uint8), "YX", (1.0, 1.0), (4.0, 0.0)))
    assert any("the position" in message for message in caplog.messages)
