"""Tests of opening images with their metadata in napari: pixel size, axes, channels, pyramids, labels, bad files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.errors import MultipleReaderError
from napari.layers import Image, Labels
from napari.settings import get_settings
from waiting import LIMIT

import napari_siren as ns
from napari_siren import InputError
from napari_siren.core.image.axes import Axes
from napari_siren.io.details import Details
from napari_siren.io.images import write_picture
from napari_siren.io.picture import Picture
from napari_siren.io.zarr.ome_zarr import write_ome_zarr
from napari_siren.ui.contributions import image_reader
from napari_siren.ui.contributions.image_reader import get_reader

STACK = np.random.default_rng(0).integers(0, 200, (5, 24, 32), dtype=np.uint8)
# A size whose decimal digits are not those of its float.
SIZE = 0.1 + 0.2
OME = {"PhysicalSizeX": SIZE, "PhysicalSizeY": 0.3, "PhysicalSizeZ": 1.7}


def opened(path: Path) -> list[Any]:
    """Return the layers of a file, opened by this plugin."""
    return ViewerModel().open(path, plugin="napari-siren")


def units(layer: Any) -> list[str]:
    return [str(unit) for unit in layer.units]


def as_ome(path: Path, array: np.ndarray, **metadata: Any) -> Path:
    tifffile.imwrite(path, array, ome=True, metadata=metadata)
    return path


# ---- metadata ----------------------------------------------------------------------------------------


def test_a_stack_has_its_voxel_size_to_the_bit(tmp_path: Path) -> None:
    [layer] = opened(as_ome(tmp_path / "cells.ome.tif", STACK, axes="ZYX", **OME))
    assert isinstance(layer, Image)
    assert layer.name == "cells"
    assert layer.scale.tolist() == [1.7, 0.3, SIZE]
    assert (units(layer), layer.axis_labels) == (["micrometer"] * 3, ("z", "y", "x"))
    assert type(layer.data) is np.ndarray
    np.testing.assert_array_equal(layer.data, STACK)


def test_each_channel_is_a_layer_with_name_colour_and_range(tmp_path: Path) -> None:
    details = Details(colours=("00FF00", "FF8000"), ranges=((3.0, 90.0), (0.0, 50.0)), origin=(4.0, -2.0))
    picture = Picture(STACK[:2], Axes("CYX"), (0.25, 0.5), "nm", tmp_path, ("DAPI", "GFP"), details)
    first, second = opened(write_picture(tmp_path / "two.ome.zarr", picture))
    assert (first.name, second.name) == ("two DAPI", "two GFP")
    assert second.colormap.map(1.0).ravel()[:3] == pytest.approx(np.array([1, 128 / 255, 0]), abs=0.01)
    assert (first.contrast_limits, second.contrast_limits) == ([3, 90], [0, 50])
    assert (second.scale.tolist(), second.translate.tolist()) == ([0.25, 0.5], [4, -2])
    assert (units(second), second.axis_labels) == (["nanometer"] * 2, ("y", "x"))
    assert second.metadata["channel_names"] == ["GFP"]
    np.testing.assert_array_equal(second.data, STACK[1])


def test_an_imagej_series_has_its_interval_and_lookup_table(tmp_path: Path) -> None:
    lut = np.stack([np.linspace(0, 255, 256), np.linspace(255, 0, 256), np.zeros(256)]).astype(np.uint8)
    metadata = {"axes": "TYX", "unit": "um", "finterval": 2.5, "min": 5, "max": 60, "LUTs": [lut]}
    path = tmp_path / "film.tif"
    tifffile.imwrite(path, STACK, imagej=True, resolution=(4, 8), metadata=metadata)
    [layer] = opened(path)
    assert (layer.scale.tolist(), units(layer)) == ([2.5, 0.125, 0.25], ["second", "micrometer", "micrometer"])
    assert (layer.axis_labels, layer.contrast_limits) == (("t", "y", "x"), [5, 60])
    assert layer.colormap.map(0.0).ravel()[:3] == pytest.approx(np.array([0, 1, 0]))


def test_colours_are_rgb(tmp_path: Path) -> None:
    colours = np.moveaxis(STACK[:3], 0, -1)
    tifffile.imwrite(tmp_path / "photo.tif", colours, photometric="rgb", resolution=(9000, 9000), resolutionunit=2)
    [photo] = opened(tmp_path / "photo.tif")
    assert photo.rgb
    np.testing.assert_array_equal(photo.data, colours)
    # Our OME-Zarr of a photograph has its colours as the first axis.
    large = np.tile(colours, (12, 12, 1))
    [layer] = opened(write_ome_zarr(tmp_path / "photo.ome.zarr", large, "YXC", (1.0, 2.0), "µm"))
    assert (layer.rgb, layer.multiscale) == (True, True)
    np.testing.assert_array_equal(np.asarray(layer.data[0]), large)


def test_channels_that_imagej_stores_as_colours_are_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    # tifffile cannot write such a file.
    colours = np.moveaxis(STACK[:3], 0, -1).astype(np.uint16)
    details = Details(ranges=((0.0, 90.0), (5.0, 80.0), (0.0, 0.0)))
    picture = Picture(colours, Axes("YXC"), (0.5, 0.5), "µm", Path("three.tif"), details=details)
    monkeypatch.setattr(image_reader, "read_pyramid", lambda *_: (picture,))
    reader = get_reader("three.tif")
    assert reader is not None
    [(data, meta, kind)] = reader("three.tif")
    assert (data.shape, meta["channel_axis"], meta["rgb"], kind) == ((24, 32, 3), 2, False, "image")
    assert meta["name"] == ["three red", "three green", "three blue"]
    assert meta["colormap"] == ["red", "green", "blue"]
    # napari refuses an empty range.
    assert "contrast_limits" not in meta


def test_a_mask_stays_a_mask(tmp_path: Path) -> None:
    mask = STACK > 100
    [layer] = opened(write_ome_zarr(tmp_path / "mask.zarr", mask, "ZYX", (2.0, 1.0, 1.0), "µm"))
    assert layer.dtype == bool
    np.testing.assert_array_equal(layer.data, mask)


def test_labels_of_ome_zarr_are_a_labels_layer(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "nuclei.zarr", STACK.astype(np.int32), "ZYX", (2.0, 1.0, 1.0), "µm")
    attributes = json.loads((path / ".zattrs").read_text())
    (path / ".zattrs").write_text(json.dumps({**attributes, "image-label": {"version": "0.4"}}))
    [layer] = opened(path)
    assert isinstance(layer, Labels)
    assert (layer.scale.tolist(), units(layer)) == ([2, 1, 1], ["micrometer"] * 3)
    np.testing.assert_array_equal(layer.data, STACK)


# ---- large images ------------------------------------------------------------------------------------


def test_levels_are_a_multiscale_layer_that_stays_in_its_folder(tmp_path: Path) -> None:
    large = np.random.default_rng(0).integers(0, 200, (2, 600, 400), dtype=np.uint8)
    layers = opened(write_ome_zarr(tmp_path / "large.zarr", large, "CYX", (0.5, 0.25), "µm", ("a", "b")))
    assert [layer.multiscale for layer in layers] == [True, True]
    assert [level.shape for level in layers[1].data][:2] == [(600, 400), (600, 200)]
    assert all(hasattr(level, "dask") for level in layers[1].data)
    assert layers[1].scale.tolist() == [0.5, 0.25]
    np.testing.assert_array_equal(np.asarray(layers[1].data[0]), large[1])


@pytest.mark.parametrize("is_ome", [True, False])
def test_a_pyramid_in_a_tiff_is_a_multiscale_layer_that_stays_in_its_file(tmp_path: Path, is_ome: bool) -> None:
    large = np.random.default_rng(0).integers(0, 200, (96, 128, 3), dtype=np.uint8)
    path = tmp_path / ("slide.ome.tif" if is_ome else "slide.tif")
    metadata: Any = {"PhysicalSizeX": SIZE, "PhysicalSizeY": 0.3} if is_ome else None
    options: dict[str, Any] = {"tile": (16, 16), "photometric": "rgb", "compression": "zlib"}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(large, subifds=2, metadata=metadata, **options)
        for step in (2, 4):
            file.write(large[::step, ::step], subfiletype=1, **options)
    [layer] = opened(path)
    assert (layer.multiscale, layer.rgb, layer.name) == (True, True, "slide")
    assert all(hasattr(level, "dask") for level in layer.data)
    assert [level.shape for level in layer.data] == [(96, 128, 3), (48, 64, 3), (24, 32, 3)]
    assert layer.scale.tolist() == ([0.3, SIZE] if is_ome else [1, 1])
    for level, step in zip(layer.data, (1, 2, 4), strict=True):
        np.testing.assert_array_equal(np.asarray(level), large[::step, ::step])


def test_pixels_without_data_are_masked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = STACK.copy()
    stack[0, 3, 4] = 0
    tifffile.imwrite(tmp_path / "map.tif", stack, extratags=[(42113, "s", 0, "0", True)])
    [layer] = opened(tmp_path / "map.tif")
    np.testing.assert_array_equal(np.ma.getmaskarray(layer.data), stack == 0)
    fitted = ns.fit_layer(layer, plane=(0, None, None), preset="fast", max_steps=1)
    assert not fitted.result.samples.observed[3, 4]
    monkeypatch.setattr(image_reader, "_IN_MEMORY", 1000)
    [layer] = opened(tmp_path / "map.tif")
    np.testing.assert_array_equal(np.ma.getmaskarray(layer.data.compute()), stack == 0)


def test_a_large_tiff_stays_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_reader, "_IN_MEMORY", 1000)
    [layer] = opened(as_ome(tmp_path / "cells.ome.tif", STACK, axes="ZYX", **OME))
    assert hasattr(layer.data, "dask")
    np.testing.assert_array_equal(np.asarray(layer.data), STACK)


# ---- the choice of a reader --------------------------------------------------------------------------


def test_files_without_metadata_are_opened_too(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "plain.tif", STACK)
    [layer] = opened(tmp_path / "plain.tif")
    np.testing.assert_array_equal(layer.data, STACK)
    (tmp_path / "folder").mkdir()
    assert get_reader(str(tmp_path / "folder")) is None
    assert get_reader([]) is None


def test_napari_uses_its_own_reader_unless_another_one_is_chosen(tmp_path: Path) -> None:
    path = as_ome(tmp_path / "cells.ome.tif", STACK, axes="ZYX", **OME)
    [layer] = ViewerModel().open(path)
    assert (layer.source.reader_plugin, layer.scale.tolist()) == ("napari", [1, 1, 1])
    with pytest.raises(MultipleReaderError):
        ViewerModel().open(path, plugin=None)
    get_settings().plugins.extension2reader = {"*.ome.tif": "napari-siren"}
    [layer] = ViewerModel().open(path, plugin=None)
    assert (layer.source.reader_plugin, layer.scale.tolist()) == ("napari-siren", [1.7, 0.3, SIZE])
    # A reader that is chosen for all files opens those without metadata, too.
    tifffile.imwrite(tmp_path / "plain.ome.tif", STACK, ome=False)
    [layer] = ViewerModel().open(tmp_path / "plain.ome.tif", plugin=None)
    assert layer.source.reader_plugin == "napari-siren"


def test_damaged_files_are_told_of_in_words(tmp_path: Path) -> None:
    path = as_ome(tmp_path / "cells.ome.tif", STACK, axes="ZYX", **OME)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(InputError, match=r"cells\.ome\.tif"):
        opened(path)
    (tmp_path / "empty.tif").touch()
    with pytest.raises(InputError, match="is empty"):
        opened(tmp_path / "empty.tif")
    folder = write_ome_zarr(tmp_path / "cells.zarr", STACK, "ZYX")
    (folder / ".zattrs").write_text("{}")
    with pytest.raises(InputError, match="is not an OME-Zarr image"):
        opened(folder)


def test_the_reader_needs_neither_qt_nor_torch(tmp_path: Path) -> None:
    path = as_ome(tmp_path / "cells.ome.tif", STACK, axes="ZYX", **OME)
    code = (
        "import sys; from napari_siren.ui.contributions.image_reader import get_reader; "
        "print(get_reader(sys.argv[1])(sys.argv[1])[0][2], *sys.modules)"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT)
    assert done.stdout.startswith("image")
    assert not {"qtpy", "PyQt6", "torch"} & set(done.stdout.split())


# ---- fits --------------------------------------------------------------------------------------------


def test_a_fit_uses_the_axes_and_sizes_of_the_layer(tmp_path: Path) -> None:
    path = as_ome(tmp_path / "cells.ome.tif", np.stack([STACK, STACK], 1), axes="ZCYX", **OME)
    layer = opened(path)[1]
    fitted = ns.fit_layer(layer, preset="fast", max_steps=1, engine="torch", device="cpu")
    assert fitted.result.provenance["layer"]["axes"] == "ZYX"
    assert fitted.result.field.layout.spacing == (1.7, 0.3, SIZE)
    assert fitted.layer_data[1][1]["axis_labels"] == ("z", "y", "x")
