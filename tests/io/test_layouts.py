"""OME-Zarr as other programs lay it out, images that stay in their file, and remote addresses."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from typer.testing import CliRunner

import napari_siren as ns
from napari_siren import InputError
from napari_siren.cli.app import app
from napari_siren.io.images import inspect_image, read_image, write_picture
from napari_siren.io.remote import address_of, is_remote
from napari_siren.io.zarr import pyramid
from napari_siren.io.zarr.ome_zarr import open_ome_zarr, write_ome_zarr

GREY = np.random.default_rng(0).integers(0, 200, (24, 32), dtype=np.uint8)


def write_version(path: Path, version: str, image: Any = GREY) -> Path:
    """Write an image of one level as a version of OME-Zarr has it, with the axes T, C, Z, Y and X."""
    group = zarr.create_group(path, zarr_format=3 if version == "0.5" else 2)
    five = np.asarray(image).reshape(1, 1, 1, *image.shape)
    separator = "." if version == "0.1" else "/"
    keys = {} if version == "0.5" else {"chunk_key_encoding": {"name": "v2", "separator": separator}}
    group.create_array("0", shape=five.shape, dtype=five.dtype, chunks=(1, 1, 1, 8, 8), **keys)[:] = five
    letters = "tczyx"
    kinds = {"t": "time", "c": "channel"}
    multiscales: dict[str, Any] = {"version": version, "datasets": [{"path": "0"}]}
    if version == "0.3":
        multiscales["axes"] = list(letters)
    elif version in ("0.4", "0.5"):
        multiscales["axes"] = [{"name": a, "type": kinds.get(a, "space")} for a in letters]
        scale = {"type": "scale", "scale": [1, 1, 1, 0.5, 0.5]}
        multiscales["datasets"][0]["coordinateTransformations"] = [scale]
    metadata = {"multiscales": [multiscales]}
    group.attrs.update({"ome": {"version": version, **metadata}} if version == "0.5" else metadata)
    return path


# ---- versions and layouts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3", "0.4", "0.5"])
def test_every_version_is_read(tmp_path: Path, version: str) -> None:
    picture = read_image(write_version(tmp_path / "a.zarr", version))
    assert picture.axes == "YX"
    assert picture.spacing == ((0.5, 0.5) if version in ("0.4", "0.5") else None)
    np.testing.assert_array_equal(picture.array, GREY)
    # The axes of one entry come back.
    write_picture(tmp_path / "out.ome.zarr", picture)
    assert open_ome_zarr(tmp_path / "out.ome.zarr").levels[0] == (1, 1, 1, *GREY.shape)


@pytest.mark.parametrize("listed", [False, True])
def test_the_first_image_of_bioformats2raw_is_taken(tmp_path: Path, listed: bool) -> None:
    root = zarr.create_group(tmp_path / "root", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    write_version(tmp_path / "root" / "0", "0.4")
    write_version(tmp_path / "root" / "1", "0.4", GREY // 2)
    if listed:
        root.create_group("OME").attrs["series"] = ["0", "1"]
    picture = read_image(tmp_path / "root")
    np.testing.assert_array_equal(picture.array, GREY)
    assert picture.notes == ("the folder has 2 images; only 0 is read",)
    np.testing.assert_array_equal(read_image(tmp_path / "root", scene=1).array, GREY // 2)
    assert inspect_image(tmp_path / "root").shape == GREY.shape
    with pytest.raises(InputError, match=r"has no image 7\. Choose one of 0, 1"):
        read_image(tmp_path / "root", scene=7)


def test_plates_and_wells_name_their_images(tmp_path: Path) -> None:
    plate = zarr.create_group(tmp_path / "plate.zarr", zarr_format=2)
    plate.attrs["plate"] = {"wells": [{"path": "A/1"}, {"path": "A/2"}]}
    well = plate.create_group("A/1")
    well.attrs["well"] = {"images": [{"path": "0"}]}
    write_version(tmp_path / "plate.zarr" / "A" / "1" / "0", "0.4")
    np.testing.assert_array_equal(read_image(tmp_path / "plate.zarr" / "A" / "1" / "0").array, GREY)
    with pytest.raises(InputError, match=r"is a plate with 2 wells. Choose .*plate.zarr/A/1/0"):
        read_image(tmp_path / "plate.zarr")
    with pytest.raises(InputError, match=r"is a well with 1 images. Choose .*A/1/0"):
        read_image(tmp_path / "plate.zarr" / "A" / "1")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_damaged_chunk_is_one_line(tmp_path: Path, version: str) -> None:
    path = write_version(tmp_path / "a.zarr", version)
    chunk = next(p for p in sorted((path / "0").rglob("*")) if p.is_file() and p.name[0].isdigit())
    chunk.write_bytes(b"no chunk at all")
    picture = read_image(path)
    with pytest.raises(InputError, match=r"a.zarr is damaged: a part of it cannot be read"):
        np.asarray(picture.array)
    with pytest.raises(InputError, match="is damaged"):
        ns.fit(picture.array, max_steps=1)


def test_large_images_of_version_0_5_are_sharded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid, "_CHUNK_SIDES", {1: 8, 2: 8, 3: 8})
    monkeypatch.setattr(pyramid, "_SHARDED_CHUNKS", 16)
    monkeypatch.setattr(pyramid, "_TOP_SIDE", 16)
    image = np.random.default_rng(0).integers(0, 99, (70, 90), dtype=np.uint16)
    path = write_ome_zarr(tmp_path / "a.ome.zarr", image, "YX", version="0.5")
    group = zarr.open_group(path, mode="r")
    assert group["0"].shards == (32, 32)
    assert group["0"].chunks == (8, 8)
    np.testing.assert_array_equal(read_image(path).array, image)
    coarse = open_ome_zarr(path, level=1)
    np.testing.assert_allclose(coarse.array, image.reshape(35, 2, 45, 2).mean(axis=(1, 3)), atol=0.6)


def test_units_of_two_kinds_come_in_one(tmp_path: Path) -> None:
    path, units = tmp_path / "a.zarr", ("micrometer", "nanometer", "nanometer")
    group = zarr.create_group(path, zarr_format=2)
    group.create_array("1", shape=(3, *GREY.shape), dtype=GREY.dtype)[:] = np.stack([GREY] * 3)
    axes = [{"name": a, "type": "space", "unit": u} for a, u in zip("zyx", units, strict=True)]
    transformations = [{"type": "scale", "scale": [1, 65, 65]}, {"type": "translation", "translation": [2, 10, 20]}]
    datasets = [{"path": "1", "coordinateTransformations": transformations}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    picture = read_image(path)
    assert (picture.spacing, picture.unit) == ((1000, 65, 65), "nm")
    assert picture.details.origin == (2000, 10, 20)


# ---- images that stay in their file ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True, "tile": (16, 16)},
        {"tile": (16, 16), "compression": "zlib"},
        {"byteorder": ">"},
        {"photometric": "miniswhite"},
        {"extratags": [(274, "H", 1, 8, True)], "tile": (16, 16)},
        {"metadata": {"axes": "ZYX"}, "tile": (16, 16), "photometric": "minisblack"},
    ],
)
def test_tiff_stays_in_its_file(tmp_path: Path, options: dict[str, Any]) -> None:
    image = GREY.astype(np.uint16) * 7
    image = np.stack([image] * 3) if "metadata" in options else image
    tifffile.imwrite(tmp_path / "a.tif", image, **options)
    whole, lazy = read_image(tmp_path / "a.tif"), read_image(tmp_path / "a.tif", lazily=True)
    assert not isinstance(lazy.array, np.ndarray)
    assert lazy.array.dtype == np.uint16
    assert (lazy.axes, lazy.array.shape) == (whole.axes, whole.array.shape)
    np.testing.assert_array_equal(np.asarray(lazy.array), whole.array)


def test_blocks_are_read_from_a_pyramid_of_tiles(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 200, (48, 64, 3), dtype=np.uint8)
    options: dict[str, Any] = {"tile": (16, 16), "photometric": "rgb", "compression": "zlib"}
    with tifffile.TiffWriter(tmp_path / "slide.tif", bigtiff=True) as file:
        file.write(image, subifds=1, **options)
        file.write(image[::2, ::2], subfiletype=1, **options)
    options = {"preset": "fast", "max_steps": 4}
    lazy = ns.fit_blocks(tmp_path / "slide.tif", tmp_path / "a.ome.zarr", 1, **options)
    memory = ns.fit_blocks(image, tmp_path / "b.ome.zarr", 1, axes="YXC", **options)
    assert lazy.psnr == memory.psnr
    np.testing.assert_array_equal(read_image(tmp_path / "a.ome.zarr").array, read_image(tmp_path / "b.ome.zarr").array)


@pytest.mark.parametrize("shape", [(1, 1, 1, 24, 32), (1, 24, 32)])
def test_blocks_of_an_array_with_axes_of_one_entry(tmp_path: Path, shape: tuple[int, ...]) -> None:
    options = {"preset": "fast", "max_steps": 4}
    ns.fit_blocks(GREY, tmp_path / "a.ome.zarr", 2, **options)
    ns.fit_blocks(GREY.reshape(shape), tmp_path / "b.ome.zarr", 2, **options)
    finer = (48, 64)
    assert open_ome_zarr(tmp_path / "b.ome.zarr").levels[0] == (*shape[:-2], *finer)
    first, second = (read_image(tmp_path / name).array for name in ("a.ome.zarr", "b.ome.zarr"))
    np.testing.assert_array_equal(first, second)


def test_blocks_keep_names_colours_and_the_place(tmp_path: Path) -> None:
    stack = np.stack([GREY, GREY // 2])
    write_ome_zarr(tmp_path / "a.ome.zarr", stack, "CYX", (0.5, 0.5), "µm", ("DAPI", "GFP"))
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="r+")
    attributes = dict(group.attrs)
    attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"][1]["translation"] = [0, 100, 200]
    attributes["omero"]["channels"][0]["color"] = "0000FF"
    group.attrs.update(attributes)
    ns.fit_blocks(tmp_path / "a.ome.zarr", tmp_path / "out.ome.zarr", 4, preset="fast", max_steps=4)
    picture = read_image(tmp_path / "out.ome.zarr")
    assert picture.channel_names == ("DAPI", "GFP")
    assert picture.details.colours == ("0000FF", "FFFFFF")
    assert picture.details.origin == pytest.approx((99.8125, 199.8125))


# ---- remote addresses ----------------------------------------------------------------------------------------------


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Yield the address of a server of the folder, on this machine."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_addresses_are_recognised() -> None:
    for text in ("https://a.b/c.zarr", "https:/a.b/c.zarr", "s3://bucket/c.zarr", "S3:/bucket/c.zarr"):
        assert is_remote(text)
        assert is_remote(Path(text))
    assert address_of(Path("https://a.b/c.zarr")) == "https://a.b/c.zarr"
    for text in ("c:/images/a.tif", "image.tif", "http.tif", "/https:/a"):
        assert not is_remote(text)


def test_images_at_an_address(tmp_path: Path, address: str) -> None:
    pytest.importorskip("aiohttp")
    write_version(tmp_path / "a.zarr", "0.4")
    Image.fromarray(GREY).save(tmp_path / "a b.png")
    np.testing.assert_array_equal(read_image(f"{address}/a.zarr").array, GREY)
    np.testing.assert_array_equal(read_image(Path(f"{address}/a.zarr")).array, GREY)
    picture = read_image(f"{address}/a%20b.png")
    np.testing.assert_array_equal(picture.array, GREY)
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(InputError, match=rf"^{address}/text.png is not an image"):
        read_image(f"{address}/text.png")
    with pytest.raises(InputError, match=rf"there is no file {address}/none.png. Check the address"):
        read_image(f"{address}/none.png")


def test_an_image_at_an_address_is_upscaled_by_blocks(tmp_path: Path, address: str) -> None:
    pytest.importorskip("aiohttp")
    write_version(tmp_path / "a.zarr", "0.4")
    Image.fromarray(GREY).save(tmp_path / "b.png")
    for name in ("a.zarr", "b.png"):
        assert inspect_image(f"{address}/{name}").shape == inspect_image(tmp_path / name).shape == GREY.shape
        out = tmp_path / f"{name}_x2.ome.zarr"
        words = ["upscale", f"{address}/{name}", "-o", str(out), "--preset", "fast", "--max-steps", "2"]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.stderr
        assert read_image(out).array.shape == (48, 64)


def test_a_store_in_memory(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    source = write_version(tmp_path / "a.zarr", "0.5")
    files.put(str(source), "/bucket/a.zarr", recursive=True)
    np.testing.assert_array_equal(read_image("memory://bucket/a.zarr").array, GREY)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(InputError, match=r"Install it with: pip install .napari-siren\[remote\]"):
        read_image("https://127.0.0.1/a.zarr")
