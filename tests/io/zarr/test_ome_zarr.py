"""OME-Zarr: images are written as specified and read back, and images of other libraries are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import ngff_zarr
import numpy as np
import numpy.typing as npt
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_siren.errors import InputError, StorageError
from napari_siren.io.zarr import pyramid
from napari_siren.io.zarr.group import is_zarr
from napari_siren.io.zarr.ome_zarr import open_ome_zarr, write_ome_zarr
from napari_siren.io.zarr.pyramid import Pyramid

VERSIONS = ("0.4", "0.5")
DTYPES = ("bool", "uint8", "int16", "uint16", "float32", "float64")
AXES = ("X", "YX", "XY", "YXC", "CYX", "ZYX", "XYZ", "ZYXC", "CZYX", "TYX", "TCZYX")


def random_image(shape: Sequence[int], dtype: str, seed: int = 0) -> npt.NDArray[Any]:
    return (np.random.default_rng(seed).random(shape) * 200).astype(dtype)


def in_order(axes: str) -> list[int]:
    """Return the positions of the file's axes among those of the array."""
    return [axes.index(a) for a in "TCZYX" if a in axes]


def told_by_another(path: Path, version: str) -> Any:
    """Return the image as another library reads it, validated against the specification."""
    return ngff_zarr.from_ngff_zarr(path, validate=True, version=version)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(data=st.data(), axes=st.sampled_from(AXES), version=st.sampled_from(VERSIONS), dtype=st.sampled_from(DTYPES))
def test_what_is_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, axes: str, version: Any, dtype: str
) -> None:
    shape = [data.draw(st.integers(2, 7)) for _ in axes]
    image = random_image(shape, dtype)
    spacing = [data.draw(st.floats(0.01, 100)) for a in axes if a not in "TC"]
    path = write_ome_zarr(
        tmp_path_factory.mktemp("zarr") / "image.ome.zarr", image, axes, spacing, "µm", version=version
    )
    found = open_ome_zarr(path)
    space = axes.translate(str.maketrans("", "", "TC"))
    # A line of pixels is an image of one row.
    line = len(space) == 1
    assert found.axes == "".join(a for a in "TCZYX" if a in axes or (line and a in "YX"))
    sizes = dict(zip(found.axes.translate(str.maketrans("", "", "TC")), found.spacing or (), strict=True))
    assert {a: sizes[a] for a in space} == pytest.approx(dict(zip(space, spacing, strict=True)))
    assert found.unit == "µm"
    np.testing.assert_array_equal(np.asarray(found.array).squeeze(), image.transpose(in_order(axes)))
    assert found.array.dtype == image.dtype


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("axes", "shape", "spacing"), [("YXC", (600, 333, 3), (0.5, 0.25)), ("ZYX", (9, 300, 70), (2, 0.5, 0.5))]
)
def test_another_library_finds_the_same_pixels_in_the_same_places(
    tmp_path: Path, version: Any, axes: str, shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    image = random_image(shape, "uint8")
    path = write_ome_zarr(tmp_path / "a.ome.zarr", image, axes, spacing, "nm", version=version)
    levels = told_by_another(path, version).images
    assert len(levels) > 1
    np.testing.assert_array_equal(levels[0].data, image.transpose(in_order(axes)))
    sizes = dict(zip(axes.replace("C", ""), spacing, strict=True))
    for level in levels:
        assert all(level.axes_units[a.lower()] == "nanometer" for a in sizes)
        for axis, size in sizes.items():
            # The first pixel is a mean of the first pixels of the finest level, and lies at their centre.
            factor = level.scale[axis.lower()] / size
            assert factor in (1, 2, 4, 8)
            assert level.translation[axis.lower()] == pytest.approx((factor - 1) / 2 * size)


@pytest.mark.parametrize("dtype", DTYPES)
def test_coarser_levels_are_means(tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid, "_BLOCK_VALUES", 1 << 14)
    image = random_image((530, 341), dtype)
    found = open_ome_zarr(write_ome_zarr(tmp_path / "a.zarr", image, "YX"), 1)
    assert found.array.shape == (265, 171)
    assert found.levels == ((530, 341), (265, 171), (133, 86))[: len(found.levels)]
    padded = np.pad(image.astype(np.float64), ((0, 0), (0, 1)), mode="edge")
    means = padded.reshape(265, 2, 171, 2).mean(axis=(1, 3))
    if dtype == "bool":
        means = means >= 0.5
    np.testing.assert_allclose(found.array, np.rint(means) if dtype in ("uint8", "int16", "uint16") else means, 1e-5)


def test_thick_slices_are_kept_until_pixels_are_as_large(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "a.zarr", np.zeros((8, 1100, 1100), np.uint8), "ZYX", (4.0, 1.0, 1.0))
    assert [shape[0] for shape in open_ome_zarr(path).levels] == [8, 8, 8, 4]


@pytest.mark.parametrize("version", VERSIONS)
def test_channels_have_their_names(tmp_path: Path, version: Any) -> None:
    names = ("DAPI", "GFP")
    path = write_ome_zarr(tmp_path / "a.zarr", random_image((2, 20, 30), "uint16"), "CYX", None, None, names, version)
    assert open_ome_zarr(path).channel_names == names
    omero = told_by_another(path, version).metadata.omero
    assert [channel.label for channel in omero.channels] == list(names)


def test_photos_have_the_names_of_colours(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "a.zarr", random_image((20, 30, 3), "uint8"), "YXC")
    assert open_ome_zarr(path).channel_names == ("red", "green", "blue")
    assert open_ome_zarr(path).spacing is None


@pytest.mark.parametrize("version", VERSIONS)
def test_what_another_library_wrote_is_read(tmp_path: Path, version: str) -> None:
    image = random_image((1, 2, 4, 40, 30), "uint16")
    other = ngff_zarr.to_ngff_image(
        image,
        dims=("t", "c", "z", "y", "x"),
        scale={"t": 1.0, "c": 1.0, "z": 1.5, "y": 0.3, "x": 0.2},
        axes_units={"y": "micrometer", "x": "micrometer", "z": "micrometer"},
    )
    ngff_zarr.to_ngff_zarr(tmp_path / "b.zarr", ngff_zarr.to_multiscales(other, scale_factors=[2]), version=version)
    found = open_ome_zarr(tmp_path / "b.zarr")
    assert (found.axes, found.unit) == ("CZYX", "µm")
    assert found.spacing == pytest.approx((1.5, 0.3, 0.2))
    np.testing.assert_array_equal(found.array, image[0])
    assert open_ome_zarr(tmp_path / "b.zarr", -1).array.shape == (2, 2, 20, 15)


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "a.zarr", random_image((40, 30), "uint8"), "YX")
    for chunk in (path / "0").rglob("0"):
        if chunk.is_file():
            chunk.write_bytes(b"damaged")
    found = open_ome_zarr(path)
    assert isinstance(found.array, da.Array)
    with pytest.raises((OSError, RuntimeError, ValueError)):
        found.array.compute()


def test_dask_goes_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid, "_BLOCK_VALUES", 600 * 600)
    image, asked = random_image((1200, 1300), "uint8"), []

    class Lazy:
        shape, dtype = image.shape, image.dtype

        def __getitem__(self, block: tuple[slice, ...]) -> npt.NDArray[Any]:
            asked.append(image[block].size)
            return image[block]

    np.testing.assert_array_equal(open_ome_zarr(write_ome_zarr(tmp_path / "a.zarr", Lazy(), "YX")).array, image)
    assert len(asked) > 4
    assert max(asked) <= 600 * 600
    lazily = write_ome_zarr(tmp_path / "b.zarr", da.from_array(image, chunks=500), "YX")
    np.testing.assert_array_equal(open_ome_zarr(lazily).array, image)


def test_an_image_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    for value in (1, 2):
        write_ome_zarr(path, np.full((9, 9), value, np.uint8), "YX")
    assert int(open_ome_zarr(path).array[0, 0]) == 2
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("much work")
    with pytest.raises(StorageError, match="in the way"):
        write_ome_zarr(folder, np.zeros((9, 9)), "YX")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "thesis"]


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    class Broken:
        shape, dtype = (30, 30), np.dtype("uint8")

        def __getitem__(self, block: object) -> None:
            raise OSError(5, "the disk is gone")

    path = write_ome_zarr(tmp_path / "a.zarr", np.ones((9, 9), np.uint8), "YX")
    with pytest.raises(StorageError, match="the disk is gone"):
        write_ome_zarr(path, Broken(), "YX")
    assert int(open_ome_zarr(path).array[0, 0]) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_an_image_in_the_making_is_gone_on_with(tmp_path: Path) -> None:
    image = random_image((50, 40, 3), "uint8")
    Pyramid.create(tmp_path / "a", image.shape, image.dtype, "YXC")
    first = Pyramid(tmp_path / "a", "YXC", image.shape)
    first.finest[slice(0, 20), slice(0, 40), slice(0, 3)] = image[:20]
    again = Pyramid(tmp_path / "a", "YXC", image.shape)
    again.finest[slice(20, 50), slice(0, 40), slice(0, 3)] = image[20:]
    again.finish()
    np.testing.assert_array_equal(again.finest[slice(0, 50), slice(0, 40), slice(0, 3)], image)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"axes": "YXQ"}, "one letter"),
        ({"axes": "Y"}, "one letter"),
        ({"spacing": (1.0,)}, "2 numbers are needed"),
        ({"channel_names": ("a", "b")}, "2 channel names for 1"),
        ({"version": "0.3"}, "no version '0.3'"),
        ({"array": np.zeros((3, 3), complex)}, "real numbers"),
    ],
    ids=str,
)
def test_what_cannot_be_written_is_said(tmp_path: Path, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        write_ome_zarr(tmp_path / "a.zarr", **{"array": np.zeros((3, 3)), "axes": "YX", **arguments})
    assert not list(tmp_path.iterdir())


def test_what_is_no_image_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder"):
        open_ome_zarr(tmp_path / "nothing.zarr")
    with pytest.raises(InputError, match="not an OME-Zarr image"):
        open_ome_zarr(tmp_path)
    zarr.create_group(store=tmp_path / "plain.zarr")
    assert is_zarr(tmp_path / "plain.zarr")
    with pytest.raises(InputError, match="not an OME-Zarr image"):
        open_ome_zarr(tmp_path / "plain.zarr")
    path = write_ome_zarr(tmp_path / "a.zarr", np.zeros((9, 9)), "YX")
    with pytest.raises(InputError, match="no level 3"):
        open_ome_zarr(path, 3)
