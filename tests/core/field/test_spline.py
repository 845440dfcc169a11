"""The spline through restored samples: values, derivatives, edges, and its place in fields and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

import napari_siren as ns
from napari_siren.core.field.spline import SampleSpline
from napari_siren.errors import InputError, StorageError

SHAPES = [(17,), (9, 14), (5, 8, 7)]


def spline_of(shape: tuple[int, ...], channels: int = 2) -> SampleSpline:
    values = np.random.default_rng(0).standard_normal((channels, *shape)).astype(np.float32)
    return SampleSpline(torch.from_numpy(values))


def centres(shape: tuple[int, ...]) -> list[npt.NDArray[np.float64]]:
    return [np.arange(n) + 0.5 for n in shape]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_passes_through_the_samples(shape: tuple[int, ...]) -> None:
    spline = spline_of(shape)
    assert torch.equal(spline.on_grid(centres(shape), "value")[0], spline.samples)
    points = torch.from_numpy(np.stack(np.meshgrid(*centres(shape), indexing="ij"), axis=-1).reshape(-1, len(shape)))
    values = spline.at_points(points, "value")[0].T.reshape(2, *shape)
    torch.testing.assert_close(values, spline.samples, atol=1e-5, rtol=0)
    # The same by the spline itself, when one position is not a sample.
    moved = [along + 1e-7 for along in centres(shape)]
    torch.testing.assert_close(spline.on_grid(moved, "value")[0], spline.samples, atol=1e-5, rtol=0)


@pytest.mark.parametrize("order", ["value", "first", "second"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_grid_and_points_agree(shape: tuple[int, ...], order: str) -> None:
    spline = spline_of(shape).to(dtype=torch.float64)
    rng = np.random.default_rng(1)
    positions = [np.sort(rng.uniform(-1, n + 1, 6)) for n in shape]
    points = torch.from_numpy(np.stack(np.meshgrid(*positions, indexing="ij"), axis=-1).reshape(-1, len(shape)))
    grid = spline.on_grid(positions, order)  # type: ignore[arg-type]
    at_points = spline.at_points(points, order)  # type: ignore[arg-type]
    assert grid.dtype == at_points.dtype == torch.float64
    torch.testing.assert_close(grid.flatten(2).mT, at_points)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_derivatives_are_those_of_the_values(shape: tuple[int, ...]) -> None:
    spline = spline_of(shape).to(dtype=torch.float64)
    points = torch.from_numpy(np.random.default_rng(2).uniform(0.6, np.array(shape) - 0.6, (40, len(shape))))
    step = 1e-4
    for axis in range(len(shape)):
        move = torch.zeros(len(shape), dtype=torch.float64)
        move[axis] = step
        before, here, after = (spline.at_points(p, "value")[0] for p in (points - move, points, points + move))
        first, second = (spline.at_points(points, order)[axis] for order in ("first", "second"))
        torch.testing.assert_close(first, (after - before) / (2 * step), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(second, (after - 2 * here + before) / step**2, atol=1e-2, rtol=1e-2)


def test_a_cubic_is_reproduced() -> None:
    x = np.arange(30) + 0.5
    cubic = torch.from_numpy((0.001 * x**3 - 0.02 * x**2 + x).astype(np.float32))[None]
    spline = SampleSpline(cubic).to(dtype=torch.float64)
    inside = torch.linspace(9, 21, 33, dtype=torch.float64)[:, None]
    at = inside[:, 0]
    torch.testing.assert_close(
        spline.at_points(inside, "value")[0, :, 0], 0.001 * at**3 - 0.02 * at**2 + at, atol=2e-4, rtol=0
    )
    torch.testing.assert_close(spline.at_points(inside, "second")[0, :, 0], 0.006 * at - 0.04, atol=2e-3, rtol=0)


def test_beyond_the_ends_it_is_constant() -> None:
    spline = spline_of((6, 7))
    outside = torch.tensor([[-3.0, 2.2], [0.0, 2.2], [6.0, 2.2], [9.5, 2.2]], dtype=torch.float64)
    values = spline.at_points(outside, "value")[0]
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[2], values[3])
    assert spline.at_points(outside[[0, 3]], "first")[0].abs().max() == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 3)], ids=str)
def test_short_axes(shape: tuple[int, int]) -> None:
    # The prefilter of SciPy is less accurate on axes this short.
    spline = spline_of(shape)
    assert torch.isfinite(spline.on_grid([np.linspace(-1, n + 1, 9) for n in shape], "second")).all()
    torch.testing.assert_close(
        spline.on_grid([along + 1e-6 for along in centres(shape)], "value")[0], spline.samples, atol=2e-3, rtol=0
    )


def picture() -> npt.NDArray[np.uint8]:
    y, x = np.mgrid[:24, :30]
    return np.rint(127.5 + 100 * np.stack([np.sin(x / 3), np.cos(y / 4), np.sin((x + y) / 5)], -1)).astype(np.uint8)


def test_a_result_of_samples() -> None:
    result = ns.fit(picture(), preset="upscale", spacing=0.5)
    field = result.field
    assert (field.has_tiles, field.refinement, field.representation.shape) == (False, (2, 2), (48, 60))
    assert "8,640 samples" in repr(result)
    # Points of the grid have the values of the grid.
    rendered = result.render(scale=2, dtype=np.float64)
    points = (np.indices((48, 60)).transpose(1, 2, 0) + 0.5) * 0.25
    np.testing.assert_allclose(field(points.astype(np.float64)), rendered, atol=1e-3)
    # A step along a gradient changes the value as the gradient says.
    point, step = np.array([[5.1, 6.2]]), 1e-4
    gradient = field.gradient(point)[0, 0]
    change = [(field(point + move) - field(point - move))[0, 0] / (2 * step) for move in step * np.eye(2)]
    np.testing.assert_allclose(gradient, change, rtol=1e-3)
    assert result.render(scale=1.3, derivative="laplacian").shape == (31, 39, 3)
    with pytest.raises(InputError, match='representation="tiles"'):
        _ = field.siren


def test_a_saved_result_of_samples_renders_the_same(tmp_path: Path) -> None:
    result = ns.fit(picture(), preset="upscale")
    path = result.save(tmp_path / "model.safetensors", resumable=True)
    loaded = ns.load(path)
    for scale in (1, 2, 3.3):
        np.testing.assert_array_equal(loaded.render(scale=scale), result.render(scale=scale))
    assert loaded.metrics == result.metrics
    np.testing.assert_array_equal(loaded.reconstruction, result.reconstruction)


def test_tiles_can_be_fitted_later() -> None:
    first = ns.fit(picture(), preset="upscale")
    with pytest.raises(InputError, match='need representation="tiles"'):
        ns.fit(picture(), resume=first)
    second = ns.fit(picture(), resume=first, representation="tiles", max_steps=30)
    assert second.field.has_tiles
    difference = second.render(scale=2).astype(float) - first.render(scale=2)
    assert np.sqrt(np.square(difference).mean()) < 5


@pytest.mark.parametrize("options", [{"preset": "fast"}, {"preset": "upscale", "representation": "tiles"}], ids=str)
def test_a_result_of_samples_is_no_start_for_tiles(options: dict[str, str]) -> None:
    similar = ns.fit(picture(), preset="upscale")
    started = ns.fit(picture()[::-1].copy(), start=similar, max_steps=3, **options)
    assert started.field.has_tiles


@pytest.mark.parametrize("fields", [{}, {"samples": torch.zeros(2, 3, 4)}, {"samples": torch.zeros(3, 48)}], ids=str)
def test_damaged_samples_are_refused(tmp_path: Path, fields: dict[str, torch.Tensor]) -> None:
    from napari_siren.core.model_file import file as model_file

    path = ns.fit(picture(), preset="upscale").save(tmp_path / "model.safetensors")
    header, _ = model_file.read(path, lambda values: values)
    model_file.write(path, header, fields)
    with pytest.raises(StorageError, match="damaged"):
        ns.load(path)
