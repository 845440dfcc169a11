"""Images with axes of one entry, with labels of xarray, and with transparent pixels: a fit takes and returns them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import napari_siren as ns
from napari_siren import InputError
from napari_siren.core.image.alpha import with_visible_colours
from napari_siren.core.image.arrays import ArrayForm, ImageInput
from napari_siren.core.image.axes import singleton_axes
from napari_siren.core.image.labels import Labels
from napari_siren.core.image.units import in_one_unit, unit_symbol

GREY = np.random.default_rng(0).integers(0, 200, (16, 20), dtype=np.uint8)
FAST: dict[str, Any] = {"preset": "fast", "max_steps": 3, "hidden_features": 8, "hidden_layers": 1}


def fitted(image: Any, **options: Any) -> ns.FitResult:
    return ns.fit(image, **FAST, **options)


# ---- axes of one entry -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "shape", "omitted"),
    [
        ("ZYX", (1, 5, 6), (0,)),
        ("ZYX", (4, 1, 6), (1,)),
        ("ZYX", (1, 1, 6), (0,)),
        ("YX", (1, 6), ()),
        ("TYX", (1, 5, 6), (0,)),
        ("TCZYX", (1, 1, 1, 5, 6), (0, 2)),
        ("YXC", (5, 6, 1), ()),
        ("X", (1,), ()),
    ],
)
def test_axes_that_are_left_out(axes: str, shape: tuple[int, ...], omitted: tuple[int, ...]) -> None:
    assert singleton_axes(axes, shape) == omitted


def test_arrays_of_other_libraries() -> None:
    """A tensor is read by `__array__`; an array with DLPack alone, like those of some libraries, by `from_dlpack`."""
    tensor = torch.from_numpy(GREY)
    only_dlpack = SimpleNamespace(__dlpack__=tensor.__dlpack__, __dlpack_device__=tensor.__dlpack_device__)
    for image in (tensor, only_dlpack):
        np.testing.assert_array_equal(fitted(image).samples.image, GREY)  # type: ignore[union-attr]
    with pytest.raises(InputError, match="not an array of numbers"):
        fitted(torch.ones(8, 8, requires_grad=True))


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((1, 16, 20), None),
        ((1, 1, 16, 20), None),
        ((1, 1, 1, 16, 20), None),
        ((16, 1, 20), None),
        ((1, 16, 20), "TYX"),
        ((1, 16, 20), "CYX"),
        ((16, 20, 1), "YXZ"),
        ((1, 16, 1, 20), "TYCX"),
    ],
)
def test_a_fit_gives_back_the_shape_it_was_given(shape: tuple[int, ...], axes: str | None) -> None:
    plain, result = fitted(GREY), fitted(GREY.reshape(shape), axes=axes)
    for expected, found in (
        (plain.reconstruction, result.reconstruction),
        (plain.render(scale=2), result.render(scale=2)),
        (plain.error, result.error),
    ):
        np.testing.assert_array_equal(found.squeeze(), expected)
        assert [n for n in found.shape if n > 1] == list(expected.shape)
        assert found.ndim == len(shape)
        assert [n == 1 for n in found.shape] == [n == 1 for n in shape]


def test_arguments_may_count_the_axes_of_one_entry(tmp_path: Any) -> None:
    missing = np.zeros((1, 16, 20), bool)
    missing[0, 3, 4] = True
    result = fitted(GREY[None], spacing=(5, 1, 2), missing=missing)
    assert result.field.layout.spacing == (1, 2)
    np.testing.assert_array_equal(~result.samples.observed, missing[0])  # type: ignore[union-attr]
    assert result.render(scale=(1, 2, 3)).shape == (1, 32, 60)
    assert result.render(scale=(2, 3)).shape == (1, 32, 60)
    assert result.render(region=[(0, 1), (2, 6), (0, 20)]).shape == (1, 4, 20)
    assert result.render(derivative="gradient").shape == (2, 1, 16, 20)
    out = np.zeros((1, 32, 40), np.uint8)
    assert result.render(scale=2, out=out) is out
    np.testing.assert_array_equal(out, result.render(scale=2))
    loaded = ns.load(result.save(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(loaded.render(scale=2), out)
    assert ns.upscale(GREY[None], (1, 2, 2), **FAST).shape == (1, 32, 40)
    with pytest.raises(InputError, match="1 to 4 axes"):
        fitted(np.zeros((2, 2, 2, 4, 4)))


# ---- xarray -------------------------------------------------------------------------------------------------------


class Array(SimpleNamespace):
    """An object with the attributes of an xarray.DataArray that a fit uses."""

    def __array__(self, *_: Any, **__: Any) -> npt.NDArray[Any]:
        return self.values  # type: ignore[no-any-return]


def labelled(dims: tuple[str, ...], values: npt.NDArray[Any], attrs: Any = None, **coords: Any) -> Array:
    entries = {
        name: SimpleNamespace(values=np.asarray(entry), dims=(name,), attrs={}) for name, entry in coords.items()
    }
    return Array(dims=dims, coords=entries, attrs=attrs or {}, values=values, name="n", shape=values.shape)


def test_axes_spacing_and_names_come_from_the_labels() -> None:
    values = np.stack([GREY, GREY // 2])
    image = labelled(("c", "y", "x"), values, c=["DAPI", "GFP"], y=np.arange(16) * 0.5, x=9 - np.arange(20) * 0.25)
    result = fitted(image)
    assert (result.field.layout.axes, result.field.layout.spacing) == ("CYX", (0.5, 0.25))
    labels = Labels.from_array(image)
    assert labels is not None
    assert labels.channel_names("CYX") == ("DAPI", "GFP")
    assert fitted(image, spacing=3).field.layout.spacing == (3, 3)


@pytest.mark.parametrize(
    ("dims", "axes"),
    [
        (("time", "lat", "lon"), "TYX"),
        (("band", "y", "x"), "CYX"),
        (("lat", "lon"), "YX"),
        (("plane", "row", "col"), "ZYX"),
        (("x", "y"), "XY"),
        (("depth_mm", "y", "x"), "ZYX"),
        (("dim_0", "dim_1", "dim_2"), None),
    ],
)
def test_letters_of_dimensions(dims: tuple[str, ...], axes: str | None) -> None:
    labels = Labels.from_array(labelled(dims, np.zeros((2, 3, 4)[: len(dims)])))
    assert labels is not None
    assert labels.axes() == axes


def test_fill_values_are_missing_pixels() -> None:
    values = np.where(GREY > 150, -1, GREY.astype(np.int16))
    result = fitted(labelled(("y", "x"), values, {"_FillValue": -1}))
    np.testing.assert_array_equal(~result.samples.observed, GREY > 150)  # type: ignore[union-attr]


def test_a_render_of_xarray_is_xarray(tmp_path: Any) -> None:
    xarray = pytest.importorskip("xarray")
    coords = {"c": ["DAPI", "GFP"], "y": np.arange(16) * 0.5 + 10, "x": 9 - np.arange(20) * 0.25}
    image = xarray.DataArray(np.stack([GREY, GREY // 2]), coords, ("c", "y", "x"), "cells", {"a": 1})
    result = fitted(image)
    np.testing.assert_array_equal(result.render(scale=2).values, fitted(image.values, axes="CYX").render(scale=2))
    for found in (result.render(scale=2), ns.load(result.save(tmp_path / "m.safetensors")).render(scale=2)):
        assert found.dims == ("c", "y", "x")
        assert (found.name, found.attrs) == ("cells", {"a": 1})
        assert list(found.c.values) == ["DAPI", "GFP"]
        np.testing.assert_allclose(found.y[:2], (9.875, 10.125))
        np.testing.assert_allclose(found.x[:2], (9.0625, 8.9375))
    assert result.reconstruction.equals(result.reconstruction.assign_coords(image.coords))
    assert ns.upscale(image.expand_dims("t"), 2, **FAST).dims == ("t", "c", "y", "x")


# ---- transparent pixels, and units -----------------------------------------------------------------------------


def test_hidden_colours_do_not_reach_visible_pixels() -> None:
    y, x = np.mgrid[:24, :24]
    disc = np.hypot(y - 11.5, x - 11.5) < 7
    image = np.where(disc[..., None], np.uint8([220, 30, 30, 255]), np.uint8([255, 255, 255, 0])).astype(np.uint8)
    rendered = fitted(image).render(scale=4)
    assert (rendered[rendered[..., 3] > 0][:, :3] == (220, 30, 30)).all()
    for opaque in (np.full((4, 4, 4), 255, np.uint8), np.zeros((4, 4, 4), np.uint8)):
        assert with_visible_colours(opaque) is opaque


def test_forms_of_plain_arrays_leave_no_trace() -> None:
    given, form = ImageInput.from_arguments(GREY, None, None).prepared()
    assert given.image is GREY
    assert form.as_provenance() == {}
    assert ArrayForm.from_provenance({}) is None


def test_units() -> None:
    names = ("um", "μm", "micrometers", "\\u00B5m", "Microns")
    assert {unit_symbol(name) for name in names} == {"µm"}
    assert [unit_symbol(name) for name in ("inches", "feet", "metre", "", "pixels")] == ["in", "ft", "m", None, None]
    assert in_one_unit((1, 65, 65), ("µm", "nm", "nm")) == ([1000, 65, 65], "nm")
    assert in_one_unit((1, 65), ("pixel", "nm")) is None
    assert in_one_unit((1, 2), (None, None)) == ([1, 2], None)
