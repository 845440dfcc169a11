"""Tools for tests of layers: random transforms, and the world positions of pixels by napari's own transforms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st
from napari.layers import Layer


def vectors(n: int, elements: st.SearchStrategy[float]) -> st.SearchStrategy[list[float]]:
    return st.lists(elements, min_size=n, max_size=n)


@st.composite
def transforms(draw: st.DrawFn, ndim: int, largest: float = 1e3) -> dict[str, Any]:
    """Draw keyword arguments for the placement of a layer.

    They are all that napari knows: scale (from 1 / largest to largest), translation, rotation, shear and affine.
    """
    angle = st.floats(-360, 360)
    affine = np.eye(ndim + 1)
    affine[:-1, :-1] += np.array(draw(vectors(ndim**2, st.floats(-0.3, 0.3)))).reshape(ndim, ndim)
    affine[:-1, -1] = draw(vectors(ndim, st.floats(-largest, largest)))
    # napari treats a very small shear as none, so that shears are rounded.
    shear: Any = draw(vectors(ndim * (ndim - 1) // 2, st.floats(-2, 2).map(lambda value: round(value, 6))))
    if draw(st.booleans()):
        lower = np.eye(ndim)
        lower[np.tril_indices(ndim, -1)] = shear
        shear = lower
    sizes, signs = vectors(ndim, st.floats(1 / largest, largest)), vectors(ndim, st.sampled_from([1.0, -1.0]))
    return {
        "scale": np.multiply(draw(sizes), draw(signs)),
        "translate": draw(vectors(ndim, st.floats(-10 * largest, 10 * largest))),
        "rotate": _turn(ndim, draw(angle), draw(angle)),
        "shear": shear,
        "affine": affine,
    }


def _turn(ndim: int, first: float, second: float) -> Any:
    """Return a rotation for `ndim` axes: an angle for two axes, otherwise a matrix that rotates the last three."""
    if ndim == 2:
        return first
    one, two = (np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in np.radians([first, second]))
    turned = np.eye(ndim)
    turned[-2:, -2:] = one
    turned[-3:-1] = two @ turned[-3:-1]
    return turned


def shapes(ndim: int, most: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(1, most)] * ndim)


def world(layer: Layer, positions: Any) -> np.ndarray:
    """Return the world positions of positions in data pixels, (..., ndim), by napari's own transform."""
    return _affine(layer.data_to_world, np.asarray(positions))


def in_layer(layer: Layer, positions: np.ndarray) -> np.ndarray:
    """Return the positions in data pixels of world positions, (..., axes of the world), by napari's own transform."""
    return _affine(layer.world_to_data, positions)


def _affine(transform: Callable[[np.ndarray], Any], positions: np.ndarray) -> np.ndarray:
    """Apply an affine transform to many positions, with calls for the origin and the unit vectors only."""
    steps = np.eye(positions.shape[-1])
    origin = np.array(transform(0 * steps[0]))
    return positions @ (np.array([transform(step) for step in steps]) - origin) + origin


def pixels(shape: Sequence[int]) -> np.ndarray:
    """Return the positions of all pixel centres in data pixels, (*shape, ndim)."""
    return np.moveaxis(np.indices(tuple(shape)), 0, -1)


def box_corners(layer: Layer, box: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the world positions of the outer corners of the pixels from start to stop, (2 ** ndim, ndim)."""
    return np.array([layer.data_to_world(c) for c in product(*((a - 0.5, b - 0.5) for a, b in box))])


def corners(layer: Layer) -> np.ndarray:
    """Return the world positions of the outer corners of a layer, (2 ** ndim, ndim)."""
    shape = layer.level_shapes[0] if layer.multiscale else layer.data.shape
    return box_corners(layer, [(0, n) for n in shape[: layer.ndim]])


def assert_same_corners(original: Layer, derived: Layer) -> None:
    assert_close(corners(derived), corners(original))


def assert_close(found: np.ndarray, wanted: np.ndarray) -> None:
    """Assert that world positions agree up to rounding."""
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12 * (1 + np.abs(wanted).max()))


def ramp(shape: tuple[int, ...]) -> np.ndarray:
    return np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)
