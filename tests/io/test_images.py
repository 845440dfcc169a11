"""Reading and writing of images: axes, physical pixel size, and errors for unreadable files."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from napari_siren import InputError, StorageError
from napari_siren.core.image.axes import Axes
from napari_siren.io.images import check_target, read_image, sample_path, write_image
from napari_siren.io.picture import Picture, suffix_for
from napari_siren.io.zarr.ome_zarr import write_ome_zarr

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real images, ../shared/data, is not here")

TIFF_DTYPES = ("uint8", "uint16", "int16", "int32", "float32", "float64", "int64", "bool")
AXES = ("YX", "XY", "ZX", "ZY", "YXC", "CYX", "ZYX", "ZYXC", "ZCYX", "CZYX")


def numbers(axes: str, dtype: str = "uint8", colours: int = 3) -> npt.NDArray[np.generic]:
    shape = [colours if a == "C" else 4 + "ZYX".index(a) for a in axes]
    return np.random.default_rng(len(axes)).integers(0, 2 if dtype == "bool" else 200, shape).astype(dtype)


def same_image(found: npt.NDArray[np.generic], axes: str, wanted: npt.NDArray[np.generic], wanted_axes: str) -> bool:
    """Return whether two arrays are the same image, with their axes in any order."""
    return np.array_equal(found, wanted.transpose([wanted_axes.index(a) for a in axes]))


# ---- round trips -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["image.tif", "image.ome.tif"])
@pytest.mark.parametrize(
    ("axes", "dtype"), [*itertools.product(AXES, ("uint8", "uint16")), *itertools.product(("ZYX", "YXC"), TIFF_DTYPES)]
)
def test_tiff_keeps_pixels_axes_and_spacing(tmp_path: Path, name: str, axes: str, dtype: str) -> None:
    image = numbers(axes, dtype)
    spatial = axes.replace("C", "")
    sizes = dict(zip(spatial, (0.4, 0.0941, 0.351), strict=False))
    write_image(tmp_path / name, image, axes, [sizes[a] for a in spatial], "µm")
    picture = read_image(tmp_path / name)
    assert picture.axes is not None
    assert sorted(picture.axes) == sorted(axes)
    assert picture.array.dtype == dtype
    assert same_image(picture.array, picture.axes, image, axes)
    assert picture.unit == "µm"
    assert picture.spacing == pytest.approx([sizes[a] for a in picture.axes if a != "C"], rel=1e-6)
    with tifffile.TiffFile(tmp_path / name) as file:
        assert file.is_ome if name.endswith(".ome.tif") and dtype != "int64" else True


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_tiff_keeps_channels_whatever_their_number(tmp_path: Path, channels: int) -> None:
    image = numbers("YXC", colours=channels)
    write_image(tmp_path / "image.tif", image, "YXC")
    picture = read_image(tmp_path / "image.tif")
    assert (picture.spacing, picture.unit) == (None, None)
    if channels == 1:
        np.testing.assert_array_equal(picture.array, image[..., 0])
    else:
        assert picture.axes == ("CYX" if channels == 2 else "YXC")
        assert same_image(picture.array, picture.axes, image, "YXC")


@pytest.mark.parametrize(("spacing", "unit"), [((2.0, 3.0), None), ((0.5, 0.5), "nm"), ((7.0, 7.0), "furlong")])
def test_imagej_tiff_tells_the_unit_that_it_was_given(
    tmp_path: Path, spacing: tuple[float, float], unit: str | None
) -> None:
    write_image(tmp_path / "image.tif", numbers("YX"), "YX", spacing, unit)
    picture = read_image(tmp_path / "image.tif")
    assert (picture.spacing, picture.unit) == (pytest.approx(spacing), unit)


def test_half_floats_are_written_as_floats(tmp_path: Path) -> None:
    write_image(tmp_path / "image.tif", numbers("YX", "float16"), "YX")
    assert read_image(tmp_path / "image.tif").array.dtype == np.float32


@pytest.mark.parametrize(
    ("axes", "dtype", "channels"),
    [("YX", "uint8", 1), ("YXC", "uint8", 3), ("YXC", "uint8", 4), ("YX", "uint16", 1), ("YX", "bool", 1)],
)
def test_png_keeps_every_value(tmp_path: Path, axes: str, dtype: str, channels: int) -> None:
    image = numbers(axes, dtype, channels)
    image = image * np.uint16(300) if dtype == "uint16" else image
    write_image(tmp_path / "image.png", image, axes)
    picture = read_image(tmp_path / "image.png")
    assert picture.axes == axes
    assert picture.array.dtype == image.dtype
    np.testing.assert_array_equal(picture.array, image)


def test_png_has_the_rows_first(tmp_path: Path) -> None:
    image = numbers("XY")
    write_image(tmp_path / "image.png", image, "XY")
    np.testing.assert_array_equal(read_image(tmp_path / "image.png").array, image.T)


def test_jpeg_is_close(tmp_path: Path) -> None:
    image = np.broadcast_to(np.linspace(0, 255, 32).astype(np.uint8)[:, None, None], (32, 24, 3))
    write_image(tmp_path / "image.jpg", image, "YXC")
    picture = read_image(tmp_path / "image.jpg")
    np.testing.assert_allclose(picture.array.astype(int), image, atol=8)


def test_npy_keeps_the_array_and_knows_no_axes(tmp_path: Path) -> None:
    image = numbers("CZYX", "float64")
    write_image(tmp_path / "image.npy", image, "CZYX")
    picture = read_image(tmp_path / "image.npy")
    assert (picture.axes, picture.spacing, picture.unit) == (None, None, None)
    np.testing.assert_array_equal(picture.array, image)
    assert read_image(tmp_path / "image.npy", "czyx").axes == "CZYX"


# ---- axes and spacing in files of other programs -------------------------------------------------------


def test_a_stack_whose_axis_has_no_name_is_taken_for_z(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", numbers("ZYX"), metadata=None, photometric="minisblack")
    assert read_image(tmp_path / "image.tif").axes == "ZYX"


def test_axes_of_one_entry_are_left_out(tmp_path: Path) -> None:
    image = numbers("ZYX").reshape(1, 4, 1, 5, 6)
    tifffile.imwrite(tmp_path / "image.tif", image, imagej=True, metadata={"axes": "TZCYX"})
    picture = read_image(tmp_path / "image.tif")
    assert picture.axes == "ZYX"
    np.testing.assert_array_equal(picture.array, image[0, :, 0])


def test_a_time_series_keeps_its_axis_unless_others_are_given(tmp_path: Path) -> None:
    path = tmp_path / "film.tif"
    tifffile.imwrite(path, numbers("ZYX"), imagej=True, metadata={"axes": "TYX"})
    film = read_image(path)
    assert film.axes == "TYX"
    assert film.frame == ("YX", film.array.shape[1:])
    assert read_image(path, "ZYX").axes == "ZYX"
    with pytest.raises(InputError, match="names 2 axes"):
        read_image(path, "YX")


def test_ome_sizes_in_two_units_come_in_one(tmp_path: Path) -> None:
    sizes = {"PhysicalSizeZ": 0.5, "PhysicalSizeZUnit": "µm", "PhysicalSizeY": 100, "PhysicalSizeYUnit": "nm"}
    metadata = {"axes": "ZYX", **sizes, "PhysicalSizeX": 90, "PhysicalSizeXUnit": "nm"}
    tifffile.imwrite(tmp_path / "image.tif", numbers("ZYX"), ome=True, metadata=metadata)
    picture = read_image(tmp_path / "image.tif")
    assert (picture.spacing, picture.unit) == (pytest.approx((500, 100, 90)), "nm")


def test_resolution_for_printing_is_no_pixel_size(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", numbers("YX"), resolution=(72, 72), resolutionunit="INCH")
    assert read_image(tmp_path / "image.tif").spacing is None


@needs_data
@pytest.mark.parametrize(
    ("name", "axes", "shape", "spacing"),
    [
        ("neubias_xyz_calibrated_16bit__golgi_bfa.tif", "ZYX", (25, 137, 147), (0.388, 0.351, 0.351)),
        ("neubias_xyz_16bit__spots.tif", "ZYX", (17, 88, 89), (0.4, 0.0941, 0.0941)),
        ("neubias_xyzc_16bit__spots.tif", "ZCYX", (17, 2, 88, 89), (0.4, 0.0941, 0.0941)),
        ("neubias_xyz_8bit__chromosomes.tif", "ZYX", (40, 152, 126), (0.15, 0.0339, 0.0339)),
        ("neubias_xyz_8bit__mitotic_plate_calibrated.tif", "ZYX", (6, 263, 263), (3.0, 0.0852, 0.0852)),
        ("neubias_xyz_8bit__nuclei_autothresh.tif", "ZYX", (37, 118, 132), (4.0, 0.829, 0.829)),
        ("neubias_xyc_16bit__hela-cells.tif", "YXC", (512, 672, 3), (0.0515, 0.0515)),
        ("neubias_xyc_16bit__nuclei_golgi.tif", "CYX", (2, 220, 204), (0.516, 0.516)),
        ("ndev_neuron-4Ch.tiff", "CYX", (4, 623, 502), (0.1241, 0.1241)),
        ("bars-25pct_data.tif", "ZYX", (32, 64, 64), None),
    ],
)
def test_real_microscopy(name: str, axes: str, shape: tuple[int, ...], spacing: tuple[float, ...] | None) -> None:
    picture = read_image(DATA / "microscopy" / name)
    assert (picture.axes, picture.array.shape) == (axes, shape)
    assert picture.spacing == (None if spacing is None else pytest.approx(spacing, rel=2e-3))
    assert picture.unit == (None if spacing is None else "µm")


@needs_data
@pytest.mark.parametrize(
    "name", ["ndev_scratch-assay-labeled-10T-2Ch.tiff", "neubias_xyt_calibrated_16bit__golgi_bfa_sum_projection.tif"]
)
def test_real_time_series(name: str) -> None:
    assert "T" in (read_image(DATA / "microscopy" / name).axes or "")


# ---- photographs ---------------------------------------------------------------------------------------


def test_the_sample_is_there() -> None:
    picture = read_image(sample_path())
    assert (picture.axes, picture.array.shape, picture.array.dtype) == ("YXC", (512, 768, 3), np.uint8)


def test_kinds_of_pillow(tmp_path: Path) -> None:
    grey = Image.fromarray(numbers("YX"))
    for name, image, axes, channels in (
        ("palette.png", grey.convert("P"), "YXC", 3),
        ("alpha.png", grey.convert("LA"), "YXC", 2),
        ("print.jpg", grey.convert("CMYK"), "YXC", 3),
        ("photo.webp", grey.convert("RGB"), "YXC", 3),
        ("old.bmp", grey, "YX", None),
    ):
        image.save(tmp_path / name)
        picture = read_image(tmp_path / name)
        assert (picture.axes, picture.array.shape) == (axes, (5, 6) if channels is None else (5, 6, channels)), name


def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(numbers("YX")).save(tmp_path / "photo.jpg", exif=exif)
    assert read_image(tmp_path / "photo.jpg").array.shape == (6, 5)


# ---- unreadable files ------------------------------------------------------------------------------------


def spoil(path: Path, kind: str) -> Path:
    """Return the path of an unreadable file of the given kind."""
    if kind == "folder":
        return path
    file = path / "image.tif"
    if kind == "empty":
        file.write_bytes(b"")
    elif kind == "text":
        file.write_text("hello, this is not an image at all")
    elif kind == "objects":
        np.save(path / "image.npy", np.array([{}, None], dtype=object), allow_pickle=True)
        return path / "image.npy"
    elif kind == "film":
        frames = [Image.fromarray(np.full((8, 9), 60 * k, np.uint8)) for k in range(3)]
        frames[0].save(path / "film.gif", save_all=True, append_images=frames[1:])
        return path / "film.gif"
    elif kind == "deep colours":
        # First bytes of a PNG of 4 x 4 pixels, 16 bits, RGB.
        head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x04\0\0\0\x04\x10\x02\0\0\0"
        file.write_bytes(head + bytes(20))
    elif kind in ("half a stack", "half a header"):
        tifffile.imwrite(file, np.ones((8, 20, 20), np.uint16), imagej=True, metadata={"axes": "ZYX"})
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2 if kind == "half a stack" else 12])
    elif kind == "half a photograph":
        write_image(path / "whole.png", np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8), "YX")
        file.write_bytes((path / "whole.png").read_bytes()[:2000])
    return file


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "there is no file"),
        ("folder", "is a folder"),
        ("empty", "is empty"),
        ("text", "not an image of a known kind"),
        ("objects", "cannot be read as an image"),
        ("film", "has 3 frames"),
        ("deep colours", "Save it as TIFF"),
        ("half a stack", "cut short"),
        ("half a header", "without an image|cannot be read"),
        ("half a photograph", "cannot be read as an image: .*truncated"),
    ],
)
def test_what_cannot_be_read_is_said_clearly(tmp_path: Path, kind: str, message: str) -> None:
    path = spoil(tmp_path, kind)
    with pytest.raises(InputError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


# ---- images and paths that cannot be written ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "axes", "dtype"),
    [
        ("image.png", "YX", "float32"),
        ("image.png", "ZYX", "uint8"),
        ("image.png", "YXC", "uint16"),
        ("image.png", "X", "uint8"),
        ("image.jpg", "YX", "uint16"),
    ],
)
def test_what_a_kind_cannot_hold_is_refused(tmp_path: Path, name: str, axes: str, dtype: str) -> None:
    image = numbers(axes, dtype)
    with pytest.raises(InputError, match=r"cannot hold .* ending in \.tif"):
        write_image(tmp_path / name, image, axes)
    with pytest.raises(InputError, match="cannot hold"):
        check_target(tmp_path / name, image.dtype, axes, image.shape)
    assert not list(tmp_path.iterdir())


def test_unknown_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"should end in one of \.png"):
        write_image(tmp_path / "image.xyz", numbers("YX"), "YX")


def test_places_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here already")
    (tmp_path / "folder.tif").mkdir()
    image = numbers("YX")
    for path, message in (
        (tmp_path / "nowhere" / "image.tif", "does not exist. Create it first"),
        (tmp_path / "file" / "image.tif", "cannot write"),
        (tmp_path / "folder.tif", "it is a folder"),
    ):
        with pytest.raises(StorageError, match=message):
            write_image(path, image, "YX")
        with pytest.raises(StorageError, match=message):
            check_target(path, image.dtype, "YX", image.shape)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may write to every folder")
def test_a_forbidden_folder_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        write_image(tmp_path / "image.tif", numbers("YX"), "YX")
    tmp_path.chmod(0o700)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image.tif"
    path.write_text("old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tifffile, "imwrite", fail)
    with pytest.raises(StorageError, match="No space left"):
        write_image(path, numbers("YX"), "YX")
    assert [p.name for p in tmp_path.iterdir()] == ["image.tif"]
    assert path.read_text() == "old"


def test_checking_leaves_no_trace(tmp_path: Path) -> None:
    check_target(tmp_path / "image.png", "uint8", "YX", (4, 5))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("axes", "shape", "dtype", "suffix"),
    [
        ("YX", (4, 5), "uint8", ".png"),
        ("YXC", (4, 5, 3), "uint8", ".png"),
        ("YXC", (4, 5, 4), "uint8", ".png"),
        ("YXC", (4, 5, 2), "uint8", ".tif"),
        ("CYX", (3, 4, 5), "uint8", ".tif"),
        ("YX", (4, 5), "uint16", ".tif"),
        ("YX", (4, 5), "float32", ".tif"),
        ("ZYX", (3, 4, 5), "uint8", ".tif"),
        ("X", (5,), "uint8", ".tif"),
    ],
)
def test_the_suffix_of_a_result(axes: str, shape: tuple[int, ...], dtype: str, suffix: str) -> None:
    assert suffix_for(dtype, axes, shape) == suffix


# ---- OME-Zarr -------------------------------------------------------------------------------------------


def test_ome_zarr_is_opened_lazily_and_written_as_others_are(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 999, (2, 30, 20), dtype=np.uint16)
    path = write_image(tmp_path / "a.ome.zarr", image, "CYX", (0.5, 0.25), "nm")
    check_target(path, image.dtype, "CYX", image.shape)  # an OME-Zarr image may be replaced
    found = read_image(path)
    assert hasattr(found.array, "compute")
    assert (found.axes, found.spacing, found.unit, found.path) == ("CYX", (0.5, 0.25), "nm", path)
    np.testing.assert_array_equal(found.array, image)
    assert read_image(path, "ZYX").axes == "ZYX"


def test_folders_that_are_no_ome_zarr_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no OME-Zarr image"):
        read_image(tmp_path)
    (tmp_path / "full.zarr").mkdir()
    (tmp_path / "full.zarr" / "thesis.txt").touch()
    with pytest.raises(StorageError, match="in the way"):
        check_target(tmp_path / "full.zarr", "uint8", "YX", (9, 9))


def test_time_in_ome_zarr_is_kept(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "a.zarr", np.zeros((3, 9, 9), np.uint8), "TYX")
    assert read_image(path).frame == ("YX", (9, 9))


def test_a_frame_of_a_picture_has_its_part_of_the_mask() -> None:
    pixels, mask = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5), np.arange(3 * 4 * 5).reshape(3, 4, 5) % 7 == 0
    picture = Picture(pixels, Axes("CTYX"), (1.0, 1.0), None, Path("film.tif"), missing=mask)
    frame = picture.frame_at(2)
    assert frame.axes == "CYX"
    np.testing.assert_array_equal(frame.array, pixels[:, 2])
    assert frame.missing is not None
    np.testing.assert_array_equal(frame.missing, mask[2])
