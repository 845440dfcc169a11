"""Tests of coordinates: tensors and objects with DLPack are arrays, unless autograd or a GPU has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from napari_siren.core.field.field import Field
from napari_siren.core.field.spline import SampleSpline
from napari_siren.errors import InputError

MakeField = Callable[..., Field]


class Capsule:
    """An array of another library: it has DLPack, and is no sequence."""

    def __init__(self, array: Any, device: int = 1) -> None:
        self.array, self.device = array, device

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("library", [torch.from_numpy, Capsule])
def test_what_has_dlpack_is_an_array(random_field: MakeField, library: Callable[[Any], Any], dtype: type) -> None:
    field = random_field((12, 12), dtype=torch.float32, image_dtype="float32")
    points = np.arange(10).reshape(5, 2).astype(dtype)
    values = field(library(points))
    np.testing.assert_array_equal(values, field(points))
    assert values.dtype == field(points).dtype
    np.testing.assert_array_equal(field.gradient(library(points)), field.gradient(points))
    np.testing.assert_array_equal(field.laplacian(library(points)), field.laplacian(points))


def test_values_have_dlpack(random_field: MakeField) -> None:
    values = random_field((12, 12), channels=3)(torch.ones(4, 2))
    tensor = torch.from_dlpack(values)
    tensor += 1
    np.testing.assert_array_equal(tensor, values)


def test_a_tensor_that_requires_a_gradient_is_refused(random_field: MakeField) -> None:
    field, points = random_field((12, 12)), torch.ones(4, 2, requires_grad=True)
    for function in (field, field.gradient, field.laplacian):
        with pytest.raises(InputError, match=r"field\.module\(\)"):
            function(points)


@pytest.mark.parametrize(
    "coords", [Capsule(np.ones((3, 2)), device=2), torch.ones(3, 2, device="meta")], ids=["capsule", "tensor"]
)
def test_another_device_is_refused(random_field: MakeField, coords: Any) -> None:
    with pytest.raises(InputError, match="coords is"):
        random_field((12, 12))(coords)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_tensor_on_a_gpu_is_refused(random_field: MakeField) -> None:
    with pytest.raises(InputError, match=r"field\.module\(\)"):
        random_field((12, 12))(torch.ones(3, 2, device="cuda"))


@pytest.mark.parametrize("coords", [torch.ones(3, 2, dtype=torch.bfloat16), torch.ones(3, 2, dtype=torch.cfloat)])
def test_numbers_that_numpy_does_not_have_are_refused(random_field: MakeField, coords: torch.Tensor) -> None:
    with pytest.raises(InputError, match="Pass"):
        random_field((12, 12))(coords)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_representations_are_outside_autograd(random_field: MakeField, dtype: torch.dtype) -> None:
    """The gradient of the compiled kernel was zero, without an error."""
    points = torch.full((3, 2), 5.0, dtype=dtype)
    tiles, spline = random_field((12, 12), dtype=dtype).blend, SampleSpline(torch.rand(1, 12, 12))
    for function in (tiles, spline):
        function.at_points(points, "value")
        with pytest.raises(InputError, match="outside autograd"):
            function.at_points(points.clone().requires_grad_(), "value")
    tiles.siren.theta.requires_grad_()
    with pytest.raises(InputError, match="outside autograd"):
        tiles.at_points(points, "value")
