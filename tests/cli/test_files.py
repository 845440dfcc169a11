"""Real files through every command: the results have the pixels, the shape and the metadata that they should have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

import napari_siren as ns
from napari_siren.cli.app import app
from napari_siren.io.colours import srgb_profile
from napari_siren.io.images import read_image, sample_path
from napari_siren.io.zarr.ome_zarr import open_ome_zarr, write_ome_zarr

PHOTO = np.asarray(Image.open(sample_path()))[200:224, 150:182]
GREY = np.ascontiguousarray(PHOTO[..., 1])
SETTINGS: dict[str, Any] = {"preset": "fast", "max_steps": 4, "hidden_features": 8, "hidden_layers": 1}
OPTIONS = ["--preset", "fast", "--max-steps", "4", "--set", "hidden_features=8", "--set", "hidden_layers=1", "--quiet"]
PROFILE = srgb_profile()
NAMES = ["DAPI", "GFP", "Cy5"]


def run(*words: object) -> Any:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


def fails(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 1
    assert result.stderr.count("Error: ") == 1
    assert "Traceback" not in result.output
    return str(result.stderr)


def upscaled(image: npt.NDArray[Any], **options: Any) -> npt.NDArray[Any]:
    """Return what a script makes of the pixels that a file shows."""
    rendered: npt.NDArray[Any] = ns.fit(image, **SETTINGS, **options).render(scale=2)
    return rendered


def by_command(command: str, path: Path, suffix: str) -> npt.NDArray[Any]:
    """Return the result of a command for a file, at twice the resolution."""
    folder = path.parent / command
    if command == "upscale":
        run("upscale", path, "-o", folder.with_suffix(suffix), "--scale", "2", *OPTIONS)
        return np.asarray(read_image(folder.with_suffix(suffix)).array)
    run("fit", path, "-o", folder, "--scale", "2", *OPTIONS)
    if command == "render":
        run("render", folder / "model.safetensors", "-o", folder.with_suffix(suffix), "--scale", "2", "-q")
        return np.asarray(read_image(folder.with_suffix(suffix)).array)
    return np.asarray(read_image(next(folder.glob("upscaled_x2.*"))).array)


# ---- the pixels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["upscale", "fit", "render"])
@pytest.mark.parametrize(
    ("name", "save", "shown"),
    [
        ("c.tif", lambda path: Image.fromarray(PHOTO).convert("CMYK").save(path), PHOTO),
        ("w.tif", lambda path: tifffile.imwrite(path, 255 - GREY, photometric="miniswhite"), GREY),
        ("p.png", lambda path: Image.fromarray(GREY).convert("P").save(path), np.dstack([GREY] * 3)),
        ("o.tif", lambda path: tifffile.imwrite(path, PHOTO, extratags=[(274, "H", 1, 3, True)]), PHOTO[::-1, ::-1]),
        ("row.tif", lambda path: tifffile.imwrite(path, GREY[:1]), GREY[:1]),
        ("la.png", lambda path: Image.fromarray(np.dstack([GREY, GREY | 1])).save(path), np.dstack([GREY, GREY | 1])),
    ],
)
def test_results_are_those_of_the_pixels_that_are_shown(
    tmp_path: Path, command: str, name: str, save: Callable[[Path], None], shown: npt.NDArray[Any]
) -> None:
    save(tmp_path / name)
    axes = "YXC" if shown.ndim == 3 else "YX"
    expected = upscaled(shown, axes=axes)
    found = by_command(command, tmp_path / name, ".png" if name == "la.png" else ".tif")
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


def test_axes_of_one_entry_come_back(tmp_path: Path) -> None:
    expected = upscaled(GREY)
    np.save(tmp_path / "a.npy", GREY[None, None, None])
    run("upscale", tmp_path / "a.npy", "-o", tmp_path / "out.npy", "--scale", "2", *OPTIONS)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected[None, None, None])
    run("upscale", tmp_path / "a.npy", "-o", tmp_path / "out.png", "--scale", "1,2,2", *OPTIONS)
    np.testing.assert_array_equal(read_image(tmp_path / "out.png").array, expected)
    write_ome_zarr(tmp_path / "a.ome.zarr", GREY[None, None, None], "TCZYX", (1, 0.5, 0.5), "µm")
    run("upscale", tmp_path / "a.ome.zarr", "-o", tmp_path / "out.ome.zarr", "--scale", "2", *OPTIONS)
    assert open_ome_zarr(tmp_path / "out.ome.zarr").levels[0] == (1, 1, 1, 48, 64)


def test_colours_under_transparent_pixels_do_not_show(tmp_path: Path) -> None:
    y, x = np.mgrid[:32, :32]
    disc = np.hypot(y - 15.5, x - 15.5) < 9
    image = np.where(disc[..., None], np.uint8([220, 30, 30, 255]), np.uint8([255, 255, 255, 0])).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "disc.png")
    run("upscale", tmp_path / "disc.png", "-o", tmp_path / "out.png", "--scale", "4", *OPTIONS)
    found = read_image(tmp_path / "out.png").array
    assert (found[found[..., 3] > 0][:, :3] == (220, 30, 30)).all()


# ---- the metadata ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["upscale", "fit", "render"])
def test_names_sizes_and_colours_are_kept(tmp_path: Path, command: str) -> None:
    metadata = {
        "axes": "CYX",
        "Channel": {"Name": NAMES, "Color": [0x0000FFFF, 0x00FF00FF, -16776961]},
        "PhysicalSizeX": 0.5,
        "PhysicalSizeY": 0.5,
    }
    tifffile.imwrite(tmp_path / "in.ome.tif", np.stack([GREY] * 3), metadata=metadata)
    by_command(command, tmp_path / "in.ome.tif", ".ome.tif")
    result = next(tmp_path.glob(f"{command}/upscaled_x2.tif" if command == "fit" else f"{command}*.tif"))
    picture = read_image(result)
    assert picture.channel_names == tuple(NAMES)
    assert picture.details.colours == ("0000FF", "00FF00", "FF0000")
    assert (picture.spacing, picture.unit) == ((0.25, 0.25), "µm")


@pytest.mark.parametrize("command", ["upscale", "fit", "render"])
def test_profile_and_print_size_are_kept(tmp_path: Path, command: str) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "photo.jpg", icc_profile=PROFILE, dpi=(300, 300))
    by_command(command, tmp_path / "photo.jpg", ".png")
    result = tmp_path / command / "upscaled_x2.png" if command == "fit" else tmp_path / f"{command}.png"
    details = read_image(result).details
    assert details.profile == PROFILE
    assert details.dpi == pytest.approx((600, 600), rel=1e-3)


@pytest.mark.parametrize("command", ["upscale", "render"])
def test_the_place_is_kept(tmp_path: Path, command: str) -> None:
    path = write_ome_zarr(tmp_path / "in.ome.zarr", GREY, "YX", (0.5, 0.5), "µm")
    attributes = path / ".zattrs"
    attributes.write_text(attributes.read_text().replace("0.0", "100.0", 1))
    assert read_image(path).details.origin == (100, 0)
    by_command(command, path, ".zarr")
    assert read_image(tmp_path / f"{command}.zarr").details.origin == pytest.approx((99.875, -0.125))


def test_a_part_lies_where_it_was(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "in.ome.zarr", GREY, "YX", (0.5, 0.5), "µm")
    run("fit", path, "-o", tmp_path / "fit", *OPTIONS)
    model, region = tmp_path / "fit" / "model.safetensors", ["--region", "4:8,6:10"]
    run("render", model, "-o", tmp_path / "part.zarr", "--scale", "2", *region, "-q")
    assert read_image(tmp_path / "part.zarr").details.origin == pytest.approx((1.875, 2.875))


# ---- values that are no numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["upscale", "fit", "batch"])
def test_nan_can_be_filled_in(tmp_path: Path, scheduler: str, command: str) -> None:
    image = GREY.astype(np.float32)
    image[4, 5] = np.nan
    image[9, 2] = np.inf
    tifffile.imwrite(tmp_path / "a.tif", image)
    out = tmp_path / ("out.tif" if command == "upscale" else "out")
    arguments = [command, tmp_path / "a.tif", "-o", out, "--scale", "2", *OPTIONS]
    workers = ["--scheduler", scheduler] if command == "batch" else []
    if command != "batch":
        assert "--fill-nan" in fails(*arguments)
    run(*arguments, *workers, "--fill-nan")
    names = {"upscale": "out.tif", "fit": "out/upscaled_x2.tif", "batch": "out/a.ome.tif"}
    expected = upscaled(np.where(np.isfinite(image), image, 0), missing=~np.isfinite(image))
    np.testing.assert_array_equal(read_image(tmp_path / names[command]).array, expected)


def test_nodata_are_filled_in(tmp_path: Path) -> None:
    image = GREY.astype(np.float32)
    image[4:6, 5:9] = -9999
    tifffile.imwrite(tmp_path / "map.tif", image, extratags=[(42113, "s", 0, "-9999", True)])
    run("upscale", tmp_path / "map.tif", "-o", tmp_path / "out.tif", "--scale", "2", *OPTIONS)
    found = read_image(tmp_path / "out.tif").array
    np.testing.assert_array_equal(found, upscaled(image, missing=image == -9999))
    assert found.min() > -1000


# ---- one line and one set of results --------------------------------------------------------------------------


def test_a_second_fit_leaves_one_set_of_results(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", GREY.astype(np.uint16))
    run("fit", tmp_path / "a.png", "-o", tmp_path / "out", "--scale", "4", *OPTIONS)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    run("fit", tmp_path / "a.tif", "-o", tmp_path / "out", "--scale", "2", "--overwrite", *OPTIONS)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    pictures = {"reconstruction.tif", "upscaled_x2.tif", "error.png", "overview.png"}
    assert names == pictures | {"model.safetensors", "report.json", "notes.txt"}


def test_faults_are_one_line(tmp_path: Path) -> None:
    huge = GREY.astype(np.float64)
    huge[3, 3] = 1e300
    tifffile.imwrite(tmp_path / "huge.tif", huge)
    out = tmp_path / "out.tif"
    assert "Divide the image by a number" in fails("upscale", tmp_path / "huge.tif", "-o", out, *OPTIONS)
    path = write_ome_zarr(tmp_path / "a.ome.zarr", GREY, "YX")
    (path / "0" / "0" / "0").write_bytes(b"damaged")
    assert "is damaged" in fails("upscale", path, "-o", out, *OPTIONS)
    assert "is damaged" in fails("upscale", path, "-o", tmp_path / "out.ome.zarr", *OPTIONS)
    assert "files of this computer" in fails("batch", "https://127.0.0.1/a.zarr", "-o", tmp_path / "out")


def test_a_long_name_is_written(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    name = "ü" * 122 + ".tif"
    assert len(name.encode()) == 248
    run("upscale", tmp_path / "a.png", "-o", tmp_path / name, "--scale", "1", *OPTIONS)
    assert read_image(tmp_path / name).array.shape == GREY.shape


def test_one_of_several_images_is_chosen(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "two.ome.tif") as file:
        file.write(GREY, metadata={"axes": "YX", "Name": "first"})
        file.write(GREY[:8, :9], metadata={"axes": "YX", "Name": "second"})
    for scene in ("1", "second"):
        out = tmp_path / f"{scene}.tif"
        run("upscale", tmp_path / "two.ome.tif", "-o", out, "--scale", "1", "--scene", scene, *OPTIONS)
        assert read_image(out).array.shape == (8, 9)
    assert "Choose a number" in fails("fit", tmp_path / "two.ome.tif", "-o", tmp_path / "o", "--scene", "x", *OPTIONS)
