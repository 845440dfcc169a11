"""Files of microscopes by bioio: pixels, scenes, names and sizes."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import napari_siren as ns
from napari_siren import InputError
from napari_siren.io.images import inspect_image, read_image

GREY = np.random.default_rng(0).integers(0, 200, (24, 32), dtype=np.uint16)


class Dims:
    order = "TCZYX"


class Image:
    """What a `bioio.BioImage` has, of two scenes: a stack of two channels, and a plane."""

    dims, scenes = Dims, ("stack", "plane")
    physical_pixel_sizes = type("Sizes", (), {"Z": 2.0, "Y": 0.5, "X": 0.5})

    def __init__(self, path: Any) -> None:
        self.current_scene, self.time_interval = "stack", 4.0

    def set_scene(self, number: int) -> None:
        self.current_scene = self.scenes[number]

    @property
    def dask_data(self) -> Any:
        import dask.array as da

        shape = (1, 2, 3) if self.current_scene == "stack" else (1, 1, 1)
        return da.from_array(np.broadcast_to(GREY, (*shape, *GREY.shape)))

    @property
    def channel_names(self) -> list[str]:
        return ["DAPI", "GFP"] if self.current_scene == "stack" else ["DAPI"]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(sys.modules, "bioio", type("bioio", (), {"BioImage": Image}))
    (tmp_path / "a.lif").write_bytes(b"a file of a microscope")
    return tmp_path / "a.lif"


def test_scenes_names_and_sizes(file: Path) -> None:
    picture = read_image(file)
    assert (picture.axes, picture.array.shape) == ("CZYX", (2, 3, 24, 32))
    assert (picture.spacing, picture.unit) == ((2, 0.5, 0.5), "µm")
    assert picture.channel_names == ("DAPI", "GFP")
    assert picture.notes == ("the file has 2 scenes; only stack is read",)
    outline = inspect_image(file)
    assert (outline.shape, outline.axes, outline.dtype) == (picture.array.shape, "CZYX", "uint16")
    for scene in (1, "plane"):
        plane = read_image(file, scene=scene)
        assert (plane.axes, plane.spacing) == ("YX", (0.5, 0.5))
        np.testing.assert_array_equal(plane.array, GREY)
    with pytest.raises(InputError, match=r"has no scene 'x'\. Choose one of stack, plane"):
        read_image(file, scene="x")
    assert not isinstance(read_image(file, lazily=True).array, np.ndarray)


def test_blocks_are_read_from_a_microscope(file: Path, tmp_path: Path) -> None:
    ns.fit_blocks(file, tmp_path / "out.ome.zarr", 1, preset="fast", max_steps=2)
    assert read_image(tmp_path / "out.ome.zarr").channel_names == ("DAPI", "GFP")


# The package to install for each suffix. Those of SVS are TIFF files, which need none.
READERS = {".czi": "bioio-czi", ".nd2": "bioio-nd2", ".lif": "bioio-lif", ".dv": "bioio-dv", ".sldy": "bioio-sldy"}
READERS |= dict.fromkeys((".OIR", ".oib", ".vsi", ".ims", ".mrxs"), "bioio-bioformats")


class UnsupportedFileFormatError(Exception):
    """The error of bioio without a reader for a file."""


@pytest.mark.parametrize(("suffix", "reader"), READERS.items())
def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, reader: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"a file of a microscope")
    monkeypatch.setitem(sys.modules, "bioio", None)
    with pytest.raises(InputError, match=rf"pip install .napari-siren\[formats\]. {reader}\.$"):
        read_image(path)

    def refuse(_: Path) -> None:
        raise UnsupportedFileFormatError

    monkeypatch.setitem(sys.modules, "bioio", type("bioio", (), {"BioImage": refuse}))
    with pytest.raises(InputError, match=rf"pip install {reader}\.$"):
        read_image(path)


def test_svs_needs_no_reader(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.svs", GREY)
    np.testing.assert_array_equal(read_image(tmp_path / "a.svs").array, GREY)


def test_a_real_czi(tmp_path: Path) -> None:
    pytest.importorskip("bioio_czi")
    czi = pytest.importorskip("pylibCZIrw.czi")
    path = tmp_path / "a.czi"
    with czi.create_czi(str(path)) as writer:
        for z in range(3):
            for c in range(2):
                writer.write(data=GREY * (c + 1) + z, plane={"Z": z, "C": c, "T": 0})
        sizes = {"scale_x": 0.25e-6, "scale_y": 0.25e-6, "scale_z": 2e-6}
        writer.write_metadata(document_name="a", channel_names={0: "DAPI", 1: "GFP"}, **sizes)
    picture = read_image(path)
    assert (picture.axes, picture.array.shape) == ("CZYX", (2, 3, 24, 32))
    np.testing.assert_array_equal(picture.array[1, 2], GREY * 2 + 2)
    assert (picture.spacing, picture.unit) == (pytest.approx((2, 0.25, 0.25)), "µm")
    assert picture.channel_names == ("DAPI", "GFP")
    (tmp_path / "bad.czi").write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=r"bad\.czi"):
        read_image(tmp_path / "bad.czi")


def test_the_warning_of_an_open_nd2_is_ignored(file: Path) -> None:
    """The array of a frame keeps the file open, and nd2 warns when it is deleted."""
    read_image(file, lazily=True)
    warnings.warn("ND2File file not closed before garbage collection. Please use ...", UserWarning, stacklevel=1)
