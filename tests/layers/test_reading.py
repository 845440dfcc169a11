"""Layers as they come from other plugins and files: axes of one entry, units, masks and labels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image

import napari_siren as ns
from napari_siren.layers.outputs import model_layer
from napari_siren.layers.spec import LayerSpec

GREY = np.random.default_rng(0).integers(0, 200, (16, 20), dtype=np.uint8)
FAST: dict[str, Any] = {"preset": "fast", "max_steps": 3, "hidden_features": 8, "hidden_layers": 1}


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 16, 20), {}),
        ((1, 1, 1, 16, 20), {}),
        ((16, 1, 20), {}),
        ((1, 16, 20), {"axis_labels": ("t", "y", "x")}),
        ((1, 16, 20), {"axis_labels": ("c", "y", "x")}),
        ((1, 1, 16, 20), {"axis_labels": ("t", "z", "y", "x")}),
    ],
)
@pytest.mark.parametrize("lazily", [False, True])
def test_axes_of_one_entry_come_back(shape: tuple[int, ...], options: dict[str, Any], lazily: bool) -> None:
    expected = ns.fit(GREY, **FAST).render(scale=2)
    data = da.from_array(GREY.reshape(shape)) if lazily else GREY.reshape(shape)
    layer = Image(data, scale=np.arange(1, len(shape) + 1), translate=np.arange(len(shape)), **options)
    fitted = ns.fit_layer(layer, 2, **FAST)
    found, meta, _ = fitted.layer_data[1]
    np.testing.assert_array_equal(found.squeeze(), expected)
    assert [n == 1 for n in found.shape] == [n == 1 for n in shape]
    for axis, n in enumerate(shape):
        assert meta["scale"][axis] == pytest.approx((axis + 1) / (1 if n == 1 else 2))
    assert meta["axis_labels"] == tuple(layer.axis_labels)


def test_a_scale_may_count_the_axes_of_one_entry() -> None:
    for scale in ((1, 2, 2), (2, 2), 2):
        assert ns.fit_layer(Image(GREY[None]), scale, **FAST).layer_data[1][0].shape == (1, 32, 40)


@pytest.mark.parametrize(
    ("units", "scale", "spacing", "unit"),
    [
        (("um", "nm", "nm"), (1, 65, 65), (1000, 65, 65), "nm"),
        (("nm", "um", "um"), (300, 0.1, 0.1), (0.3, 0.1, 0.1), "µm"),
        (("mm", "um", "um"), (0.002, 1, 1), (2, 1, 1), "µm"),
        (("um", "um", "um"), (2, 1, 1), (2, 1, 1), "µm"),
        (("pixel", "um", "um"), (2, 1, 1), (2, 1, 1), None),
        (("pixel", "pixel", "pixel"), (2, 1, 1), (2, 1, 1), None),
    ],
)
def test_spacing_is_in_one_unit(
    units: tuple[str, ...], scale: tuple[float, ...], spacing: tuple[float, ...], unit: str | None
) -> None:
    spec = LayerSpec.from_layer(Image(np.stack([GREY] * 5), scale=scale, units=units))
    assert spec.spacing == pytest.approx(spacing)
    assert spec.unit == unit
    # The layer stays in its own units.
    assert spec.like(np.zeros((5, 16, 20)), "x")[1]["scale"] == pytest.approx(scale)


def test_cubic_voxels_of_two_units() -> None:
    spec = LayerSpec.from_layer(Image(np.stack([GREY] * 5), scale=(1, 100, 100), units=("um", "nm", "nm")))
    assert spec.scales(1, isotropic=True) == pytest.approx((10, 1, 1))


@pytest.mark.parametrize("lazily", [False, True])
@pytest.mark.parametrize("colours", [False, True])
def test_masked_pixels_are_missing_and_filled_in(lazily: bool, colours: bool) -> None:
    image = np.dstack([GREY] * 3) if colours else GREY
    mask = np.zeros(image.shape, bool)
    mask[3:5] = True
    masked = np.ma.array(np.where(mask, 255, image), mask=mask)
    data = da.from_array(masked) if lazily else masked
    fitted = ns.fit_layer(Image(data, rgb=colours), **FAST)
    expected = ns.fit(masked, axes="YXC" if colours else "YX", **FAST)
    np.testing.assert_array_equal(fitted.result.samples.observed, expected.samples.observed)  # type: ignore[union-attr]
    np.testing.assert_array_equal(fitted.layer_data[0][0], expected.reconstruction)


def test_masked_pixels_beside_a_region_and_missing_pixels() -> None:
    mask = np.zeros(GREY.shape, bool)
    mask[3, 4] = True
    layer = Image(np.ma.array(GREY, mask=mask))
    inside = np.zeros(GREY.shape, bool)
    inside[2:10, 2:12] = True
    inside[5, 5] = False
    fitted = ns.fit_layer(layer, region=inside, **FAST)
    observed = fitted.result.samples.observed  # type: ignore[union-attr]
    assert not observed[1, 2]
    assert not observed[3, 3]
    assert observed.sum() == observed.size - 2
    reconstruction = fitted.layer_data[0][0]
    assert reconstruction[3, 3] == 0
    missing = np.zeros(GREY.shape, bool)
    missing[8, 8] = True
    both = ns.fit_layer(layer, missing=missing, **FAST).result.samples.observed  # type: ignore[union-attr]
    np.testing.assert_array_equal(~both, mask | missing)


def test_dimensions_of_xarray_label_the_axes() -> None:
    values = np.stack([GREY, GREY // 2])

    class Data(SimpleNamespace):
        def __array__(self, *_: Any, **__: Any) -> Any:
            return values

    layer = SimpleNamespace(data=Data(dims=("c", "y", "x"), shape=values.shape, ndim=3, dtype=values.dtype))
    assert LayerSpec.from_layer(layer).axes == "CYX"


def test_a_model_of_a_file_lies_where_the_file_was() -> None:
    result = ns.fit(GREY[None], spacing=(3, 0.5, 0.5), **FAST)
    details = {"unit": "µm", "details": {"origin": [100.0, 200.0]}}
    data, meta, _ = model_layer(ns.FitResult(**{**vars_of(result), "provenance": {**result.provenance, **details}}), 2)
    assert data.shape == (1, 32, 40)
    assert meta["scale"] == pytest.approx([1, 0.25, 0.25])
    assert meta["translate"] == pytest.approx([0, 99.875, 199.875])
    assert meta["units"] == ("pixel", "um", "um")


def vars_of(result: ns.FitResult) -> dict[str, Any]:
    names = ("field", "config", "metrics", "history", "provenance")
    return {name: getattr(result, name) for name in names}
