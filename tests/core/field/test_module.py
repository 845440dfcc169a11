"""Tests of `FieldModule`: the values of the field, derivatives by autograd, and what PyTorch does with modules."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packaging.version import Version
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.export import Dim

from napari_siren.core.field.field import Field
from napari_siren.core.field.module import FieldModule
from napari_siren.core.field.outliers import Outliers
from napari_siren.core.field.partition import PartitionOfUnity
from napari_siren.core.field.spline import SampleSpline
from napari_siren.core.image.axes import Axes
from napari_siren.core.image.samples import ImageLayout
from napari_siren.errors import InputError

MakeField = Callable[..., Field]
FREE = ({0: Dim.DYNAMIC},)


def spline_field(shape: tuple[int, ...], channels: int = 1) -> Field:
    """Return a field of random samples, two for each pixel along each axis."""
    samples = np.random.default_rng(0).standard_normal((channels, *(2 * n for n in shape)))
    axes = Axes("ZYX"[-len(shape) :] + ("C" if channels > 1 else ""))
    spacing, offset, scale = (0.5, 2.0, 0.7)[: len(shape)], (3.0, 13.0)[:channels], (2.0, 3.0)[:channels]
    layout = ImageLayout(axes, axes.with_channel(shape, channels), "uint8", spacing, offset, scale)
    return Field(SampleSpline(torch.from_numpy(samples.astype(np.float32))), layout)


def with_outliers(field: Field) -> Field:
    """Return the field with outliers in a corner, inside, and side by side."""
    numbers = torch.tensor([0, 7, 50, 51, 100])
    amounts = torch.arange(5.0 * field.layout.channels, dtype=torch.float64).reshape(5, -1) + 3
    return replace(field, outliers=Outliers(field.layout.spatial_shape, numbers, amounts))


@pytest.fixture(
    params=[
        "1-D",
        "2-D",
        "2-D, 3 channels",
        "3-D",
        "single tile",
        "row of tiles",
        "outliers",
        "1-D spline",
        "2-D spline",
    ]
)
def field(request: pytest.FixtureRequest, random_field: MakeField) -> Field:
    """A field of each representation."""
    fields: dict[str, Callable[[], Field]] = {
        "1-D": lambda: random_field((17,)),
        "2-D": lambda: random_field((17, 13)),
        "2-D, 3 channels": lambda: random_field((13, 17), 3, spacing=(0.5, 2.0), channel_axis=0),
        "3-D": lambda: random_field((7, 13, 12), spacing=(3.0, 0.4, 0.7)),
        "single tile": lambda: random_field((9, 8), 2, tile=20, spacing=(0.5, 2.0)),
        "row of tiles": lambda: random_field((5, 30)),
        "outliers": lambda: with_outliers(random_field((17, 13), 2, spacing=(0.5, 2.0))),
        "1-D spline": lambda: spline_field((7,)),
        "2-D spline": lambda: spline_field((6, 5), channels=2),
    }
    return fields[request.param]()


def points_of(field: Field, count: int, seed: int = 0) -> Tensor:
    """Return random points, float64: inside the image, around it, and on borders of tiles."""
    rng = np.random.default_rng(seed)
    shape, spacing = np.array(field.layout.spatial_shape), np.array(field.layout.spacing)
    pixels = rng.uniform(-0.2, 1.2, (count, len(shape))) * shape
    pixels[::3] = np.rint(pixels[::3])
    return torch.from_numpy(pixels * spacing)


def expected(field: Field, points: Tensor) -> Tensor:
    """Return the values of the field, with an axis of channels."""
    return torch.as_tensor(field(points)).reshape(*points.shape[:-1], field.layout.channels)


def test_it_has_the_values_of_the_field(field: Field) -> None:
    module, points = field.module(torch.float64), points_of(field, 300)
    torch.testing.assert_close(module(points), expected(field, points), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(module(points[0]), expected(field, points[0]), rtol=1e-10, atol=1e-10)
    folded = points.reshape(2, 150, -1)
    torch.testing.assert_close(module(folded), expected(field, folded), rtol=1e-10, atol=1e-10)
    assert module(points[:0]).shape == (0, field.layout.channels)


def test_in_float32_it_has_the_values_of_the_field(field: Field) -> None:
    points = points_of(field, 300)
    values = field.module(torch.float32)(points.float())
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.double(), expected(field, points), rtol=1e-4, atol=2e-4)


def test_the_points_of_one_tile_fill_many_blocks(random_field: MakeField) -> None:
    field = random_field((17, 13))
    points = torch.from_numpy(np.random.default_rng(0).uniform(1, 3, (500, 2)))
    torch.testing.assert_close(field.module()(points), expected(field, points), rtol=1e-10, atol=1e-10)


def test_a_part_of_a_larger_tiling(random_field: MakeField) -> None:
    """Such a part is cross-faded at its ends with tiles that it does not have."""
    whole = random_field((18, 18))
    _, tiling = whole.tiling.part([(1, 3), (0, 2)])
    blend, tiles = whole.blend, slice(0, tiling.count)
    networks = PartitionOfUnity(
        blend.siren.pick(tiles), tiling, blend.offset[tiles], blend.scale[tiles], blend.coordinate_scale
    )
    layout = ImageLayout(Axes("YX"), tiling.shape, "float64", (1.0, 1.0), (0.0,), (1.0,))
    part = Field(networks, layout)
    points = points_of(part, 200)
    torch.testing.assert_close(part.module()(points), expected(part, points), rtol=1e-10, atol=1e-10)


def test_its_derivatives_are_those_of_the_field(field: Field) -> None:
    module, points = field.module(torch.float64), points_of(field, 60).requires_grad_()
    array, values = points.detach().numpy(), module(points)
    first = field.gradient(array).reshape(*values.shape, -1)
    second = field.laplacian(array).reshape(values.shape)
    for channel in range(values.shape[1]):
        (gradient,) = torch.autograd.grad(values[:, channel].sum(), points, create_graph=True)
        np.testing.assert_allclose(gradient.detach(), first[:, channel], rtol=1e-9, atol=1e-9)
        parts = [torch.autograd.grad(g.sum(), points, retain_graph=True)[0] for g in gradient.unbind(1)]
        laplacian = sum(part[:, axis] for axis, part in enumerate(parts))
        np.testing.assert_allclose(laplacian, second[:, channel], rtol=1e-9, atol=1e-8)


def test_autograd_agrees_with_differences_to_second_order(field: Field) -> None:
    module = field.module(torch.float64)
    # A third of a step of differences away from the samples, where the spline has no third derivative.
    points = (points_of(field, 4, seed=1) + 0.0123).requires_grad_()
    (parameter,) = module.parameters()
    some = parameter.detach().flatten()[:40].clone().requires_grad_()

    def function(coordinates: Tensor, values: Tensor) -> Tensor:
        full = torch.cat([values, parameter.detach().flatten()[40:]]).reshape(parameter.shape)
        (name,) = (name for name, _ in module.named_parameters())
        result: Tensor = torch.func.functional_call(module, {name: full}, (coordinates,))
        return result

    assert gradcheck(function, (points, some), fast_mode=True)
    assert gradgradcheck(function, (points, some), fast_mode=True)


def test_float32_gradients_are_those_of_float64(random_field: MakeField) -> None:
    field = random_field((17, 13), dtype=torch.float32, image_dtype="float32")
    gradients = []
    for dtype in (torch.float32, torch.float64):
        points = points_of(field, 50).to(dtype).requires_grad_()
        module = field.module(dtype)
        (first,) = torch.autograd.grad(module(points).sum(), points, create_graph=True)
        first.square().sum().backward()
        gradients.append((first.detach().double(), *(p.grad.double() for p in module.parameters())))
    for low_precision, exact in zip(*gradients, strict=True):
        assert exact.abs().max() > 0
        torch.testing.assert_close(low_precision, exact, rtol=1e-3, atol=1e-3 * float(exact.abs().max()))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # of torch.func
def test_transforms_of_functions(field: Field) -> None:
    module, points = field.module(torch.float64), points_of(field, 9)
    hessians = torch.vmap(torch.func.hessian(lambda point: module(point)[0]))(points)
    laplacian = field.laplacian(points.numpy()).reshape(9, -1)[:, 0]
    np.testing.assert_allclose(hessians.detach().diagonal(dim1=1, dim2=2).sum(1), laplacian, rtol=1e-9, atol=1e-8)


# ---- as a module ---------------------------------------------------------------------------------------


def test_parameters_and_buffers(random_field: MakeField) -> None:
    tiles, spline = random_field((17, 13)).module(), spline_field((6, 5)).module()
    assert [name for name, _ in tiles.named_parameters()] == ["function.theta"]
    assert [name for name, _ in spline.named_parameters()] == ["function.coefficients"]
    assert {"spacing", "offset", "scale", "function.centres", "function.low"} <= dict(tiles.named_buffers()).keys()
    # float32 has too few digits for an image of float64.
    assert tiles.scale.dtype == torch.float64
    assert spline.scale.dtype == torch.float32
    assert spline.double()(torch.ones(1, 2, dtype=torch.float64)).dtype == torch.float64


def test_training_does_not_change_the_field(field: Field) -> None:
    module, points = field.module(torch.float64), points_of(field, 200)
    before, target = field(points), torch.zeros(1, dtype=torch.float64)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = (module(points) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.95 * losses[0]
    np.testing.assert_array_equal(field(points), before)


def test_the_state_restores_a_module(random_field: MakeField, tmp_path: Path) -> None:
    module, other = random_field((17, 13)).module(), random_field((17, 13), seed=1).module()
    points = points_of(random_field((17, 13)), 30)
    assert not torch.allclose(module(points), other(points))
    torch.save(module.state_dict(), tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert torch.equal(module(points), other(points))
    assert torch.equal(copy.deepcopy(module)(points), module(points))


def test_part_of_a_model(random_field: MakeField) -> None:
    field = random_field((17, 13))
    shift = torch.nn.Linear(2, 2, dtype=torch.float64)
    model = torch.nn.Sequential(shift, field.module())
    model(points_of(field, 20)).sum().backward()
    assert shift.weight.grad is not None
    assert shift.weight.grad.abs().min() > 0


@pytest.mark.parametrize(
    "coordinates",
    [
        torch.ones(3, 3),
        torch.tensor(1.0),
        torch.ones(3, 2, dtype=torch.int64),
        torch.ones(3, 2, dtype=torch.float64),
        np.ones((3, 2), dtype=np.float32),
        torch.ones(3, 2, device="meta"),
    ],
    ids=["three axes", "no axis", "integers", "float64", "array", "another device"],
)
def test_coordinates_that_do_not_match_are_refused(random_field: MakeField, coordinates: Any) -> None:
    module = random_field((12, 12)).module(torch.float32)
    with pytest.raises(InputError, match="coordinates is"):
        module(coordinates)


def test_half_precision_is_refused(random_field: MakeField) -> None:
    field = random_field((12, 12))
    with pytest.raises(InputError, match="float16 is not supported"):
        field.module(torch.float16)
    with pytest.raises(InputError, match="does not work in"):
        field.module().bfloat16()(torch.ones(1, 2, dtype=torch.bfloat16))


def test_nan_stays_nan(field: Field) -> None:
    points = points_of(field, 5)
    points[2] = torch.nan
    values = field.module(torch.float64)(points)
    assert values.isnan().all(dim=1).tolist() == [False, False, True, False, False]


# ---- exported ------------------------------------------------------------------------------------------


@pytest.mark.skipif(Version(torch.__version__) < Version("2.13"), reason="older exporters fail, or were not tried")
def test_an_exported_program_takes_any_number_of_points(field: Field) -> None:
    module, points = field.module(torch.float64), points_of(field, 120)
    program = torch.export.export(module, (points[:64],), dynamic_shapes=FREE)
    for count in (1, 2, 120):
        torch.testing.assert_close(program.module()(points[:count]), module(points[:count]))


@pytest.mark.slow
@pytest.mark.skipif(Version(torch.__version__) < Version("2.13"), reason="older exporters fail, or were not tried")
@pytest.mark.filterwarnings("ignore")  # of the exporter
@pytest.mark.parametrize("kind", ["tiles", "outliers", "spline"])
def test_onnx_has_the_values_of_the_field(random_field: MakeField, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("onnxscript")
    from onnx.reference import ReferenceEvaluator

    field = spline_field((7,), channels=2) if kind == "spline" else random_field((13, 17), 3)
    field = with_outliers(field) if kind == "outliers" else field
    points = points_of(field, 50).float()
    path = tmp_path / "field.onnx"
    torch.onnx.export(field.module(torch.float32), (points,), path, dynamo=True, dynamic_shapes=FREE, verbose=False)
    evaluator = ReferenceEvaluator(str(path))
    for count in (1, 33, 50):
        (values,) = evaluator.run(None, {evaluator.input_names[0]: points[:count].numpy()})
        np.testing.assert_allclose(values, expected(field, points[:count]), rtol=1e-4, atol=2e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_it_has_the_same_values(field: Field) -> None:
    points = points_of(field, 100)
    module = field.to("cuda").module(torch.float64)
    assert {tensor.device.type for tensor in module.state_dict().values()} == {"cuda"}
    values = module(points.cuda())
    assert values.device.type == "cuda"
    torch.testing.assert_close(values.cpu(), expected(field, points), rtol=1e-9, atol=1e-9)
    assert isinstance(module.cpu(), FieldModule)
    torch.testing.assert_close(module(points), values.cpu(), rtol=1e-9, atol=1e-9)
