"""Images of a fit block by block: pixels without data are refused, and notes are kept with the result."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tifffile
from PIL import Image

import napari_siren as ns
from napari_siren import InputError

IMAGE = np.random.default_rng(0).integers(1, 200, (40, 48), dtype=np.uint8)
QUICK: dict[str, Any] = {"tile": 8, "hidden_features": 6, "hidden_layers": 2, "max_steps": 3}
TILED: dict[str, Any] = {"tile": (16, 16)}


def nodata(value: object) -> dict[str, Any]:
    """Return the options of tifffile for the nodata value of GDAL."""
    return {"extratags": [(42113, "s", 0, str(value), True)], **TILED}


def with_hole(path: Path, value: int | None = 0) -> Path:
    """Write a TIFF file with pixels of a value, which is the nodata value of GDAL or not."""
    image = IMAGE.copy()
    image[5:9, 30:35] = 0
    tifffile.imwrite(path, image, **(TILED if value is None else nodata(value)))
    return path


def with_mask(path: Path) -> Path:
    """Write a TIFF file with a transparency mask, as GDAL does."""
    mask = np.ones(IMAGE.shape, np.bool_)
    mask[5:9, 30:35] = False
    with tifffile.TiffWriter(path) as file:
        file.write(IMAGE, metadata=None, **TILED)
        file.write(mask, photometric=4, subfiletype=4, metadata=None, **TILED)
    return path


def with_key(path: Path) -> Path:
    """Write a PNG file of 16 bits with a transparent value."""
    Image.fromarray(IMAGE.astype(np.uint16)).save(path, transparency=int(IMAGE[0, 0]))
    return path


def with_fill_value(path: Path) -> Any:
    xarray = pytest.importorskip("xarray")
    return xarray.DataArray(da.from_array(IMAGE, chunks=16), dims=("y", "x"), attrs={"_FillValue": int(IMAGE[0, 0])})


def nan(path: Path) -> Path:
    image = IMAGE.astype(np.float32)
    image[7, 7] = np.nan
    tifffile.imwrite(path, image, **nodata("nan"))
    return path


INCOMPLETE: dict[str, Callable[[Path], Any]] = {
    "nodata.tif": with_hole,
    "mask.tif": with_mask,
    "key.png": with_key,
    "nan.tif": nan,
    "xarray": with_fill_value,
    "masked": lambda _: np.ma.masked_less(IMAGE, 20),
    "dask": lambda _: da.ma.masked_less(da.from_array(IMAGE, chunks=16), 20),
    "colours.tif": lambda path: (
        tifffile.imwrite(path, np.dstack([IMAGE] * 3), photometric="rgb", **nodata(IMAGE.max())) or path
    ),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_pixels_without_data_are_refused(tmp_path: Path, name: str) -> None:
    source = INCOMPLETE[name](tmp_path / name)
    with pytest.raises(InputError, match=r"cannot have missing pixels\.$"):
        ns.fit_blocks(source, tmp_path / "x.ome.zarr", 2, **QUICK)
    assert [path.name for path in tmp_path.iterdir() if path.name != name] == []


def test_a_nodata_value_that_no_pixel_has(tmp_path: Path) -> None:
    plain = ns.fit_blocks(with_hole(tmp_path / "a.tif", None), tmp_path / "x.ome.zarr", 2, **QUICK)
    done = ns.fit_blocks(with_hole(tmp_path / "b.tif", -9999), tmp_path / "y.ome.zarr", 2, **QUICK)
    assert done.psnr == plain.psnr
    assert done.notes == ()
    # A mask with the shape of the file, of which axes of one entry are left out.
    source = np.ma.MaskedArray(IMAGE[None], np.zeros((1, *IMAGE.shape), np.bool_))
    assert ns.fit_blocks(source, tmp_path / "z.ome.zarr", 2, **QUICK).shape == (80, 96)
    source.mask[0, 4, 4] = True
    with pytest.raises(InputError, match="missing pixels"):
        ns.fit_blocks(source, tmp_path / "z.ome.zarr", 2, **QUICK)


# ---- notes ---------------------------------------------------------------------------------------------------


def test_notes_are_in_the_result_and_in_the_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stack = np.stack([IMAGE[:12, :16]] * 3)
    np.save(tmp_path / "stack.npy", stack)
    done = ns.fit_blocks(tmp_path / "stack.npy", tmp_path / "x.ome.zarr", 2, preset="upscale", **QUICK)
    assert [note[:8] for note in done.notes] == ["the axes", done.notes[1][:8]]
    assert done.notes[1].endswith("this image is fitted by tiles alone")
    assert list(done.notes) == caplog.messages
    attributes = json.loads((tmp_path / "x.ome.zarr" / ".zattrs").read_text())
    assert attributes["napari_siren"]["notes"] == list(done.notes)
    again = ns.fit_blocks(tmp_path / "stack.npy", tmp_path / "x.ome.zarr", 2, preset="upscale", **QUICK)
    assert (again.fitted, again.notes) == (0, done.notes)


def test_lost_metadata_are_noted(tmp_path: Path) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.png", dpi=(300, 300))
    done = ns.fit_blocks(tmp_path / "a.png", tmp_path / "x.ome.zarr", 2, **QUICK)
    assert done.notes == ("x.ome.zarr cannot hold the resolution of the print of the image",)


def test_stored_colours_of_transparent_pixels_are_noted(tmp_path: Path) -> None:
    rgba = np.dstack([IMAGE] * 4)
    tifffile.imwrite(tmp_path / "a.tif", rgba, photometric="rgb", extrasamples=["unassalpha"], **TILED)
    done = ns.fit_blocks(tmp_path / "a.tif", tmp_path / "x.ome.zarr", 2, **QUICK)
    assert done.notes == ("transparent pixels keep the colours that are stored in the file",)


def test_notes_of_an_interrupted_session_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_siren.blockwise import fit

    class StoppedError(Exception):
        """An interruption."""

    def stop(progress: ns.BlockProgress) -> None:
        if progress.phase == "render":
            raise StoppedError

    monkeypatch.setattr(fit, "fallbacks", lambda *_: ["the engine is slow"])
    with pytest.raises(StoppedError):
        ns.fit_blocks(IMAGE, tmp_path / "x.ome.zarr", 2, on_progress=stop, **QUICK)
    monkeypatch.setattr(fit, "fallbacks", lambda *_: [])
    assert ns.fit_blocks(IMAGE, tmp_path / "x.ome.zarr", 2, **QUICK).notes == ("the engine is slow",)
