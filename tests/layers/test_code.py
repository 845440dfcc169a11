"""Code copied from the panel: it runs, and repeats the fit of the panel."""

from __future__ import annotations

import ast
from typing import Any

import napari
import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

import napari_siren as ns
from napari_siren.layers.code import as_python, viewer_layer

TINY = {"max_steps": 3, "hidden_features": 8, "hidden_layers": 1, "engine": "torch"}


@pytest.fixture
def viewer(monkeypatch: pytest.MonkeyPatch) -> ViewerModel:
    """Make `napari.current_viewer` return a viewer model."""
    model = ViewerModel()
    monkeypatch.setattr(napari, "current_viewer", lambda: model)
    return model


def add_noise(viewer: ViewerModel, name: str, *shape: int, **options: Any) -> Image:
    pixels = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    return viewer.add_image(pixels, name=name, **options)


def run(code: str) -> ns.LayerFit:
    namespace: dict[str, Any] = {}
    exec(compile(code, "<copied>", "exec"), namespace)
    fitted = namespace["fitted"]
    assert isinstance(fitted, ns.LayerFit)
    return fitted


def keywords(code: str) -> list[str | None]:
    """Return the keyword arguments of the call at the end of the code."""
    last = ast.parse(code).body[-1]
    assert isinstance(last, ast.Assign)
    assert isinstance(last.value, ast.Call)
    return [keyword.arg for keyword in last.value.keywords]


@pytest.mark.parametrize("name", ["cells", 'it\'s "so"', "back\\slash\nand {more}", "Zellkern ✓"])
def test_it_does_the_same_fit(viewer: ViewerModel, name: str) -> None:
    layer = add_noise(viewer, name, 12, 16, scale=(0.5, 2))
    code = as_python(name, 1.5, TINY, preset="fast", error="absolute", device="cpu", seed=5, region=((2, 9), None))
    fitted = run(code)
    wanted = ns.fit_layer(
        layer,
        1.5,
        preset="fast",
        error="absolute",
        device="cpu",
        seed=5,
        region=((2, 9), None),
        **TINY,
    )
    for (data, meta, _), (wanted_data, wanted_meta, _) in zip(fitted.layer_data, wanted.layer_data, strict=True):
        np.testing.assert_array_equal(data, wanted_data)
        assert (meta["name"], meta["translate"]) == (wanted_meta["name"], wanted_meta["translate"])
    assert [made.name for made in viewer.layers] == [name, *(meta["name"] for _, meta, _ in wanted.layer_data)]


@pytest.mark.parametrize(("kind", "shape"), [("Shapes", (8, 4)), ("Labels", (7, 15))])
def test_a_region_is_the_layer_that_marks_it(viewer: ViewerModel, kind: str, shape: tuple[int, int]) -> None:
    layer, name = add_noise(viewer, "cells", 20, 24), "the 'good' ones"
    if kind == "Labels":
        labels = np.zeros((20, 24), dtype=int)
        labels[4:11, 5:9] = labels[8:10, 3:18] = 1
        region: Any = viewer.add_labels(labels, name=name)
    else:
        corners = [[3.5, 4.5], [3.5, 8.5], [11.5, 8.5], [11.5, 4.5]]
        region = viewer.add_shapes([corners], shape_type="ellipse", name=name)
    fitted = run(as_python("cells", 2, TINY, preset="fast", region=viewer_layer(name)))
    wanted = ns.fit_layer(layer, 2, preset="fast", region=region, **TINY)
    assert fitted.result.reconstruction.shape == shape
    assert not fitted.layer_data[0][0].all()
    np.testing.assert_array_equal(fitted.layer_data[0][0], wanted.layer_data[0][0])


def test_a_plane_and_a_level(viewer: ViewerModel) -> None:
    levels = [np.random.default_rng(n).normal(size=(4, n, n)).astype(np.float32) for n in (32, 16)]
    viewer.add_image(levels, multiscale=True, name="pyramid")
    fitted = run(as_python("pyramid", 2.0, TINY, preset="fast", plane=(3, None, None), level=1))
    assert fitted.result.samples is not None
    np.testing.assert_array_equal(fitted.result.samples.image, levels[1][3])


def test_nan_are_filled_in(viewer: ViewerModel) -> None:
    pixels = np.random.default_rng(0).normal(size=(12, 16)).astype(np.float32)
    pixels[3, 4], pixels[5, 6] = np.nan, np.inf
    layer = viewer.add_image(pixels, name="holes", contrast_limits=(-3, 3))
    fitted = run(as_python("holes", 2.0, TINY, preset="fast", fill_nan=True))
    wanted = ns.fit_layer(layer, 2.0, preset="fast", missing=~np.isfinite(pixels), **TINY)
    for (data, _, _), (wanted_data, _, _) in zip(fitted.layer_data, wanted.layer_data, strict=True):
        assert np.isfinite(data).all()
        np.testing.assert_array_equal(data, wanted_data)


def test_it_says_no_more_than_is_needed() -> None:
    code = as_python(
        "cells",
        2,
        {},
        preset="faithful",
        region=None,
        plane=None,
        level=0,
        fill_nan=False,
        error="signed",
        device="auto",
        seed=0,
    )
    assert keywords(code) == ["scale", "viewer"]
    code = as_python("cells", 2, {"max_seconds": 5.5}, preset="fast", device="cpu", seed=1, error="absolute", level=2)
    assert keywords(code) == ["scale", "preset", "device", "seed", "error", "level", "max_seconds", "viewer"]


def test_what_is_left_out_is_what_fit_layer_does_anyway(viewer: ViewerModel) -> None:
    add_noise(viewer, "cells", 12, 16)
    fitted = run(as_python("cells", 2, {"max_steps": 1}, preset="faithful", error="signed", device="auto", seed=0))
    assert fitted.result.config == ns.FitConfig.preset("faithful", max_steps=1)
    assert fitted.result.provenance["seed"] == 0
    assert [made.name for made in fitted.layers][-1] == "cells [error]"
