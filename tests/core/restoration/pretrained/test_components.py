"""The components of images: a linear transform of the channels and its inverse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_siren.core.image.samples import ImageLayout, Samples
from napari_siren.core.restoration.pretrained.components import Components

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(20, 230, (12, 14, 3), dtype=np.uint8)
CASES = pytest.mark.parametrize(
    ("image", "axes"),
    [
        (COLOURS, "YXC"),
        (COLOURS[..., 0], "YX"),
        (COLOURS[..., :2], "YXC"),
        (RNG.random((4, 12, 14)).astype(np.float32), "CYX"),
        (1000 * RNG.random((12, 14, 3)), "YXC"),
        (RNG.integers(0, 4000, (3, 12, 14), dtype=np.uint16), "CYX"),
    ],
    ids=["colours", "grey", "two channels", "four channels", "colours as floats", "three channels"],
)


def components_of(image: np.ndarray, axes: str, absolute: bool = True) -> tuple[Components, Tensor, ImageLayout]:
    samples = Samples.from_array(image, axes)
    return Components(samples.layout, absolute), torch.from_numpy(samples.values), samples.layout


@CASES
@pytest.mark.parametrize("absolute", [True, False])
def test_join_is_the_inverse_of_split(image: np.ndarray, axes: str, absolute: bool) -> None:
    components, values, _ = components_of(image, axes, absolute)
    parts = components.split(values)
    assert parts.shape == values.shape
    assert parts.dtype == torch.float32
    torch.testing.assert_close(components.join(parts), values, atol=2e-6, rtol=1e-5)


def test_the_first_component_of_colours_is_luminance() -> None:
    components, values, _ = components_of(COLOURS, "YXC")
    assert components.are_colours
    luminance = COLOURS @ np.array([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(components.split(values)[0], luminance, atol=1e-6)


def test_channels_of_a_micrograph_are_not_colours() -> None:
    components, values, _ = components_of(np.moveaxis(COLOURS, -1, 0), "CYX")
    assert not components.are_colours
    np.testing.assert_allclose(components.split(values), np.moveaxis(COLOURS, -1, 0) / 255, atol=1e-6)


@pytest.mark.parametrize(("dtype", "absolute"), [("uint8", False), ("uint16", True), ("float32", True)])
def test_other_images_are_known_by_their_range(dtype: str, absolute: bool) -> None:
    components, values, _ = components_of(COLOURS[..., 0].astype(dtype), "YX", absolute)
    torch.testing.assert_close(components.split(values), (values + 1) / 2)


@CASES
def test_variances_are_those_of_noise(image: np.ndarray, axes: str) -> None:
    components, _, layout = components_of(image, axes)
    deviations = torch.linspace(0.1, 0.4, layout.channels)[:, None, None]
    size = (layout.channels, 200, 200)
    noise = deviations * torch.randn(size, generator=torch.Generator().manual_seed(0))
    zeros = torch.zeros(size)
    measured = (components.split(noise) - components.split(zeros)).var(dim=(1, 2))
    expected = components.variances((deviations**2).expand(size))
    assert expected.shape == size
    torch.testing.assert_close(measured, expected[:, 0, 0], rtol=0.05, atol=0)


def test_equal_channels_have_no_differences() -> None:
    components, values, _ = components_of(np.repeat(COLOURS[..., :1], 3, axis=-1), "YXC")
    torch.testing.assert_close(components.split(values)[1:], torch.full((2, 12, 14), 0.5))


def test_a_change_of_luminance_leaves_the_colours() -> None:
    components, values, _ = components_of(COLOURS, "YXC")
    change = 0.1 * torch.rand(12, 14, generator=torch.Generator().manual_seed(0))
    shares = torch.tensor(components.per_luminance)[:, None, None]
    before, after = components.split(values), components.split(values + shares * change)
    torch.testing.assert_close(after[0], before[0] + change, atol=1e-6, rtol=0)
    torch.testing.assert_close(after[1:], before[1:], atol=1e-6, rtol=0)


@pytest.mark.parametrize("image", [np.full((9, 9), 7, np.uint8), np.full((9, 9, 3), 0.5)], ids=["grey", "colours"])
def test_a_constant_image_has_finite_components(image: Any) -> None:
    components, values, _ = components_of(image, "YXC"[: image.ndim])
    parts = components.split(values)
    assert parts.isfinite().all()
    torch.testing.assert_close(components.join(parts), values, atol=1e-6, rtol=0)
