"""Colours, transparency and orientation: what a file stores becomes what an image viewer shows."""

from __future__ import annotations

import io
import json
import logging
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps, PngImagePlugin

from napari_siren import InputError
from napari_siren.io.colours import srgb_profile
from napari_siren.io.details import Details
from napari_siren.io.images import inspect_image, read_image, sample_path, write_picture
from napari_siren.io.pillow import PillowCodec

PHOTO = np.asarray(Image.open(sample_path()))[200:224, 150:190]
GREY = np.ascontiguousarray(PHOTO[..., 1])
SRGB = srgb_profile()


def shown(path: Path, mode: str = "RGB") -> npt.NDArray[Any]:
    """Return what Pillow shows of a file."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert(mode))


def agrees(path: Path) -> bool:
    """Return whether the properties of a file are those of the picture in it."""
    picture, outline = read_image(path), inspect_image(path)
    found = (outline.shape, outline.dtype, outline.axes, outline.has_alpha or picture.details.has_alpha)
    return found == (picture.array.shape, picture.array.dtype.name, picture.axes, picture.details.has_alpha)


def tiff(**options: Any) -> Callable[[Path, npt.NDArray[Any]], None]:
    return lambda path, array: tifffile.imwrite(path, array, **options)


def pillow(mode: str, **options: Any) -> Callable[[Path, npt.NDArray[Any]], None]:
    return lambda path, array: Image.fromarray(array).convert(mode).save(path, **options)


# ---- photometric interpretations -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("cmyk.tif", pillow("CMYK")),
        ("lab.tif", pillow("LAB")),
        ("ycbcr.tif", pillow("YCbCr")),
        ("palette.tif", lambda path, array: Image.fromarray(array).quantize(32).save(path)),
        ("palette.png", lambda path, array: Image.fromarray(array).quantize(32).save(path)),
        ("palette.gif", lambda path, array: Image.fromarray(array).quantize(32).save(path)),
        ("jpeg.tif", pillow("RGB", compression="jpeg")),
        ("lzw.tif", pillow("RGB", compression="tiff_lzw")),
        ("cmyk.jpg", pillow("CMYK")),
        ("photo.jpg", pillow("RGB")),
        ("planes.tif", lambda path, a: tiff(photometric="rgb", planarconfig="separate")(path, np.moveaxis(a, 2, 0))),
        ("deflate.tif", tiff(photometric="rgb", compression="zlib")),
        ("photo.ppm", pillow("RGB")),
        ("photo.webp", pillow("RGB", lossless=True)),
    ],
)
def test_colours_are_those_that_a_viewer_shows(tmp_path: Path, name: str, save: Callable[..., None]) -> None:
    save(tmp_path / name, PHOTO)
    picture = read_image(tmp_path / name)
    assert picture.axes == "YXC"
    # Pillow stores a profile with CIELAB, by which the colours are converted.
    np.testing.assert_allclose(picture.array, shown(tmp_path / name), atol=name == "lab.tif")
    assert agrees(tmp_path / name)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "bool"])
@pytest.mark.parametrize("pages", [1, 3])
def test_white_may_be_the_lowest_value(tmp_path: Path, dtype: str, pages: int) -> None:
    grey = (GREY > 99) if dtype == "bool" else GREY.astype(dtype)
    stack = np.stack([grey] * pages) if pages > 1 else grey
    stored = ~stack if dtype in ("bool", "int16") else np.iinfo(dtype).max - stack
    tifffile.imwrite(tmp_path / "negative.tif", stored, photometric="miniswhite")
    picture = read_image(tmp_path / "negative.tif")
    assert picture.axes == ("ZYX" if pages > 1 else "YX")
    assert picture.array.dtype == dtype
    np.testing.assert_array_equal(picture.array, stack)


def test_a_palette_of_imagej_is_a_lookup_table_and_its_index_the_value(tmp_path: Path) -> None:
    fire = np.stack([np.arange(256), np.arange(256)[::-1], np.full(256, 7)]).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "fire.tif", GREY, imagej=True, photometric="palette", colormap=fire.astype(np.uint16) * 257
    )
    picture = read_image(tmp_path / "fire.tif")
    np.testing.assert_array_equal(picture.array, GREY)
    assert picture.details.luts == (fire.tobytes(),)
    write_picture(tmp_path / "again.tif", picture)
    again = read_image(tmp_path / "again.tif")
    assert again.details.luts == (fire.tobytes(),)
    np.testing.assert_array_equal(again.array, GREY)


@pytest.mark.parametrize("levels", [256, 1])
def test_a_palette_in_pages_or_of_8_bits(tmp_path: Path, levels: int) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (3, 256))
    stored = (colours * (257 if levels == 256 else 1)).astype(np.uint16)
    stack = np.stack([GREY, GREY // 2])
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="palette", colormap=stored, metadata=None)
    picture = read_image(tmp_path / "stack.tif")
    assert picture.axes == "ZYXC"
    np.testing.assert_array_equal(picture.array, colours.T[stack])
    assert agrees(tmp_path / "stack.tif")


def test_inks_of_16_bits(tmp_path: Path) -> None:
    inks = np.asarray(Image.fromarray(PHOTO).convert("CMYK")).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "cmyk.tif", inks, photometric="separated")
    picture = read_image(tmp_path / "cmyk.tif")
    np.testing.assert_allclose(picture.array / 257, PHOTO, atol=1)
    assert agrees(tmp_path / "cmyk.tif")


def test_colour_in_planes_in_a_stack(tmp_path: Path) -> None:
    stack = np.stack([PHOTO, PHOTO[::-1]])
    planes = np.moveaxis(stack, -1, 1)
    tifffile.imwrite(tmp_path / "stack.tif", planes, photometric="rgb", planarconfig="separate")
    picture = read_image(tmp_path / "stack.tif")
    assert picture.axes == "ZYXC"
    np.testing.assert_array_equal(picture.array, stack)


# ---- transparency ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "save", "mode"),
    [
        ("palette.png", lambda path, a: Image.fromarray(a).quantize(16).save(path, transparency=0), "RGBA"),
        ("palette.gif", lambda path, a: Image.fromarray(a).quantize(16).save(path, transparency=3), "RGBA"),
        ("key.png", lambda path, a: Image.fromarray(a).save(path, transparency=tuple(map(int, a[0, 0]))), "RGBA"),
        ("grey.png", lambda path, a: Image.fromarray(a[..., 1]).save(path, transparency=int(a[0, 0, 1])), "LA"),
        ("alpha.png", pillow("LA"), "LA"),
        ("alpha.webp", lambda path, a: Image.fromarray(np.dstack([a, a[..., 0]])).save(path, lossless=True), "RGBA"),
        ("alpha.tif", lambda path, a: Image.fromarray(np.dstack([a, a[..., 0]])).save(path), "RGBA"),
    ],
)
def test_transparency_becomes_an_alpha_channel(tmp_path: Path, name: str, save: Callable[..., None], mode: str) -> None:
    save(tmp_path / name, PHOTO)
    picture = read_image(tmp_path / name)
    assert picture.axes == "YXC"
    np.testing.assert_array_equal(picture.array, shown(tmp_path / name, mode))
    assert agrees(tmp_path / name)
    if name.endswith(".png"):
        write_picture(tmp_path / "again.png", picture)
        np.testing.assert_array_equal(read_image(tmp_path / "again.png").array, picture.array)


def test_a_transparent_value_of_16_bits_is_missing(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 100
    Image.fromarray(deep).save(tmp_path / "deep.png", transparency=int(deep[2, 3]))
    picture = read_image(tmp_path / "deep.png")
    np.testing.assert_array_equal(picture.array, deep)
    if picture.missing is not None:  # older versions of Pillow do not store the value
        np.testing.assert_array_equal(picture.missing, deep == deep[2, 3])


@pytest.mark.parametrize(
    ("kind", "dtype"), [("assocalpha", "uint8"), ("unassalpha", "uint8"), ("assocalpha", "uint16")]
)
def test_colours_are_not_multiplied_with_alpha(tmp_path: Path, kind: str, dtype: str) -> None:
    top = np.iinfo(dtype).max
    colours = (PHOTO.astype(np.float64) / 255 * top).astype(dtype)
    alpha = np.full_like(colours[..., :1], top // 2)
    stored = np.rint(colours * (alpha / top)).astype(dtype) if kind == "assocalpha" else colours
    rgba = np.concatenate([stored, alpha], axis=-1)
    tifffile.imwrite(tmp_path / "rgba.tif", rgba, photometric="rgb", extrasamples=[kind])
    picture = read_image(tmp_path / "rgba.tif")
    assert picture.details.has_alpha
    np.testing.assert_allclose(picture.array[..., :3], colours, atol=2)
    np.testing.assert_array_equal(picture.array[..., 3:], alpha)


# ---- orientation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo.webp", "photo.tif", "stack.tif", "planes.tif"])
def test_pictures_are_upright(tmp_path: Path, orientation: int, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    grey, path = Image.fromarray(GREY), tmp_path / name
    tag = [(274, "H", 1, orientation, True)]
    if name == "stack.tif":
        tifffile.imwrite(path, np.stack([GREY] * 2), extratags=tag, resolution=(20_000, 40_000), resolutionunit=3)
    elif name == "planes.tif":
        planes = np.moveaxis(PHOTO, 2, 0)
        tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate", extratags=tag)
    elif name == "photo.tif":
        tifffile.imwrite(path, GREY, extratags=tag)
    else:
        grey.save(path, exif=exif, **({"lossless": True} if name.endswith("webp") else {}))
    with Image.open(path) as image:
        image.getexif()[0x0112] = orientation
        expected = np.asarray(ImageOps.exif_transpose(image))
    picture = read_image(path)
    if name == "stack.tif":
        assert picture.spacing is not None
        sizes = picture.spacing[1:]
        assert sizes == pytest.approx((0.5, 0.25) if orientation > 4 else (0.25, 0.5))
    array = picture.array[1] if name == "stack.tif" else picture.array
    expected = ImageOps_of(PHOTO, orientation) if name == "planes.tif" else expected
    if name in ("photo.tif", "stack.tif"):
        expected = ImageOps_of(GREY, orientation)
    np.testing.assert_array_equal(array, expected if name != "photo.webp" else shown(path))
    assert agrees(path)
    assert any("upright" in note for note in picture.notes) == (orientation > 1)


def ImageOps_of(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Return an array as Pillow turns an image of an orientation."""
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(array).save(file, format="PNG", exif=exif)
    return np.asarray(ImageOps.exif_transpose(Image.open(file)))


# ---- further pictures, and sizes --------------------------------------------------------------------------


def test_the_first_picture_of_a_photograph_with_a_preview(tmp_path: Path) -> None:
    preview = Image.fromarray(PHOTO[::4, ::4])
    Image.fromarray(PHOTO).save(tmp_path / "p.jpg", format="MPO", save_all=True, append_images=[preview])
    picture = read_image(tmp_path / "p.jpg")
    np.testing.assert_array_equal(picture.array, shown(tmp_path / "p.jpg"))
    assert any("further pictures" in note for note in picture.notes)
    icon = Image.fromarray(PHOTO[:24, :24])
    icon.save(tmp_path / "icon.ico", sizes=[(16, 16), (24, 24)])
    assert read_image(tmp_path / "icon.ico").array.shape[:2] == (24, 24)


def test_films_are_still_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.roll(PHOTO, k, axis=0)) for k in range(3)]
    for name in ("film.gif", "film.png", "film.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(InputError, match="has 3 frames"):
            read_image(tmp_path / name)


def test_pictures_above_the_limit_of_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.fromarray(PHOTO).save(tmp_path / "large.png")
    np.testing.assert_array_equal(read_image(tmp_path / "large.png").array, PHOTO)
    assert inspect_image(tmp_path / "large.png").shape == PHOTO.shape
    assert Image.MAX_IMAGE_PIXELS == 100


def test_pictures_above_the_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "large.png")
    header = bytearray((tmp_path / "large.png").read_bytes())
    header[16:24] = (400_000).to_bytes(4, "big") * 2
    header[29:33] = __import__("zlib").crc32(bytes(header[12:29])).to_bytes(4, "big")
    (tmp_path / "large.png").write_bytes(bytes(header))
    with pytest.raises(InputError, match="free memory"):
        read_image(tmp_path / "large.png")


def test_pgm_of_16_bits(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 257
    (tmp_path / "deep.pgm").write_bytes(b"P5 40 24 65535\n" + deep.astype(">u2").tobytes())
    picture = read_image(tmp_path / "deep.pgm")
    assert picture.array.dtype == np.uint16
    np.testing.assert_array_equal(picture.array, deep)
    assert agrees(tmp_path / "deep.pgm")


# ---- profiles and resolution -------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["photo.jpg", "photo.png", "photo.tif", "photo.webp"])
@pytest.mark.parametrize("target", ["out.png", "out.jpg", "out.tif", "out.ome.tif"])
def test_profile_and_print_size_are_kept(tmp_path: Path, source: str, target: str) -> None:
    options: dict[str, Any] = {"icc_profile": SRGB}
    if not source.endswith("webp"):
        options["dpi"] = (300, 300)
    Image.fromarray(PHOTO).save(tmp_path / source, **options)
    picture = read_image(tmp_path / source)
    assert picture.details.profile == SRGB
    large = picture.resampled(np.repeat(np.repeat(PHOTO, 2, 0), 2, 1), "YXC", (0.5, 0.5))
    write_picture(tmp_path / target, large)
    found = read_image(tmp_path / target)
    assert found.details.profile == SRGB
    if "dpi" in options and target != "out.ome.tif":
        assert found.details.dpi == pytest.approx((600, 600), rel=1e-3)
        with Image.open(tmp_path / target) as image:
            assert image.info["dpi"] == pytest.approx((600, 600), rel=1e-3)


def test_gamma_is_kept(tmp_path: Path) -> None:
    chunks = __import__("PIL.PngImagePlugin", fromlist=["PngInfo"]).PngInfo()
    chunks.add(b"gAMA", (100_000).to_bytes(4, "big"))
    Image.fromarray(PHOTO).save(tmp_path / "linear.png", pnginfo=chunks)
    picture = read_image(tmp_path / "linear.png")
    assert picture.details.gamma == 1
    write_picture(tmp_path / "again.png", picture)
    with Image.open(tmp_path / "again.png") as image:
        assert image.info["gamma"] == 1


def png_with(path: Path, array: npt.NDArray[Any], **chunks: bytes) -> Path:
    """Write a PNG file with chunks of colour."""
    info = PngImagePlugin.PngInfo()
    for name, content in chunks.items():
        info.add(name.encode(), content)
    Image.fromarray(array).save(path, pnginfo=info)
    return path


def test_code_points_of_colours_are_told(tmp_path: Path) -> None:
    """The chunk cICP stands for a colour space by numbers of ITU-T H.273: here BT.2020 with PQ."""
    path = png_with(tmp_path / "a.png", PHOTO, cICP=bytes([9, 16, 0, 1]))
    assert read_image(path).notes == ("the code points of the colours (cICP) are not carried over",)
    assert read_image(png_with(path, PHOTO)).notes == ()


PRIMARIES = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def test_the_chunks_of_colour_of_a_png_are_kept(tmp_path: Path) -> None:
    path = png_with(tmp_path / "a.png", PHOTO, gAMA=(45455).to_bytes(4, "big"), cHRM=PRIMARIES, sRGB=bytes([0]))
    picture = read_image(path)
    assert Details.from_json(json.loads(json.dumps(picture.details.as_json()))) == picture.details
    write_picture(tmp_path / "again.png", picture)
    with Image.open(path) as image, Image.open(tmp_path / "again.png") as again:
        assert [again.info[name] for name in ("gamma", "chromaticity", "srgb")] == [
            image.info[name] for name in ("gamma", "chromaticity", "srgb")
        ]
    assert picture.as_map().details.srgb is None


@pytest.mark.parametrize("target", ["out.jpg", "out.tif", "out.ome.tif"])
def test_srgb_becomes_a_profile_in_other_formats(tmp_path: Path, target: str, caplog: pytest.LogCaptureFixture) -> None:
    path = png_with(tmp_path / "a.png", PHOTO, gAMA=(45455).to_bytes(4, "big"), cHRM=PRIMARIES, sRGB=bytes([0]))
    write_picture(tmp_path / target, read_image(path))
    profile = read_image(tmp_path / target).details.profile
    assert profile is not None
    assert "sRGB" in ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    assert not caplog.records


@pytest.mark.parametrize(
    ("array", "chunks", "lost"),
    [
        (PHOTO, {"gAMA": bytes(2) + b"\xb1\x8f"}, "the gamma of the file"),
        (PHOTO, {"cHRM": PRIMARIES}, "the primaries of the file"),
        (GREY, {"sRGB": bytes(1)}, "the mark of sRGB"),
    ],
)
@pytest.mark.parametrize("target", ["out.jpg", "out.tif", "out.ome.zarr"])
def test_lost_chunks_of_colour_are_noted(
    tmp_path: Path,
    array: npt.NDArray[Any],
    chunks: dict[str, bytes],
    lost: str,
    target: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_picture(tmp_path / target, read_image(png_with(tmp_path / "a.png", array, **chunks)))
    assert caplog.messages == [f"{target} cannot hold {lost} of the image"]


def test_an_unknown_intent_is_no_mark_of_srgb(tmp_path: Path) -> None:
    assert read_image(png_with(tmp_path / "a.png", PHOTO, sRGB=bytes([9]))).details.srgb is None


def test_inks_with_a_profile_are_managed(tmp_path: Path) -> None:
    # There is no profile of inks in Pillow: one of Lab stands for the path through the colour management.
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    image = Image.fromarray(PHOTO).convert("LAB")
    image.save(tmp_path / "lab.tif", icc_profile=lab)
    picture = read_image(tmp_path / "lab.tif")
    np.testing.assert_allclose(picture.array, PHOTO, atol=12)
    assert any("LAB" in note for note in picture.notes)


def test_a_profile_for_other_channels_is_left_out(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "grey.tif", GREY, iccprofile=SRGB)
    assert read_image(tmp_path / "grey.tif").details.profile is None


def test_what_a_file_cannot_hold_is_said_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "photo.jpg", icc_profile=SRGB, dpi=(300, 300))
    picture = read_image(tmp_path / "photo.jpg")
    with caplog.at_level(logging.WARNING, logger="napari_siren"):
        write_picture(tmp_path / "photo.npy", picture)
    assert [record.getMessage() for record in caplog.records] == ["photo.npy cannot hold the metadata of the image"]
    assert PillowCodec(".png").losses(picture, None) == []
