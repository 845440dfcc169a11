"""Edits of napari layers in the gradient domain, to be fitted: flattening and blending. Pure: no napari, no Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform, gaussian_filter

from napari_siren.core.compositing import Flattening, SeamlessCloning
from napari_siren.core.image.axes import Axes
from napari_siren.core.preprocessing.gradients import PreprocessedImage, Preprocessor
from napari_siren.errors import InputError
from napari_siren.layers.reading import layer_title
from napari_siren.layers.region import between
from napari_siren.layers.spec import LayerSpec

# Decimal places of positions in pixels. Smaller differences are rounding errors.
_DIGITS = 6


@dataclass(frozen=True, eq=False)
class Edit:
    """A new picture made of one or two layers, to be fitted.

    Parameters
    ----------
    spec
        Pixels to change, with the name of the new picture.
    supervision
        Preprocessor of the pixels, an argument of `fit`.
    """

    spec: LayerSpec
    supervision: Preprocessor


class AutoFlattening:
    """A `Flattening` of unread pixels.

    The light is additive if any value is below 0, else a factor.
    """

    def prepare(
        self,
        data: npt.ArrayLike,
        axes: str | None = None,
        spacing: float | Sequence[float] | None = None,
        missing: npt.ArrayLike | None = None,
    ) -> PreprocessedImage:
        """Remove the illumination from an image. The parameters are those of `fit`."""
        values = np.asarray(data)
        if axes is not None and missing is not None:
            values = Axes(axes).to_channels_first(values)[:, ~np.asarray(missing)]
        below_zero = bool(np.any(values < 0))
        return Flattening(multiplicative=not below_zero).prepare(data, axes, spacing, missing)


def flatten_edit(spec: LayerSpec) -> Edit:
    """Return the edit to flatten the illumination of a layer. Its pixels need not have been read."""
    return Edit(replace(spec, name=f"{spec.name}, flattened"), AutoFlattening())


def blend_edit(
    picture: Any,
    target: Any,
    mask: Any,
    picture_plane: Sequence[int | None] | None = None,
    plane: Sequence[int | None] | None = None,
    mode: Literal["source", "mixed"] = "source",
    fill_nan: bool = False,
) -> Edit:
    """Return the edit to blend a picture into another at its position in the world.

    Parameters
    ----------
    picture, target
        Image layers, or objects with the same attributes; see `fit_layer`. The picture is interpolated if its pixels
        do not coincide with those of the target. Its alpha is left out if the target has none.
    mask
        Part of the picture to put in: a Shapes or Labels layer, or a boolean array of the target's shape.
    picture_plane, plane
        Plane of the picture and of the target, like `plane` of `fit_layer`.
    mode
        Choice of the gradients, as in `blend`.
    fill_nan
        Whether NaN and infinite values of the target are missing pixels. Those of the picture always are.

    Raises
    ------
    InputError
        The layers do not fit together, or the picture does not lie over the target within the mask.

    Examples
    --------
    >>> import numpy as np
    >>> from types import SimpleNamespace
    >>> target = SimpleNamespace(data=np.zeros((20, 30)), name="sea")
    >>> picture = SimpleNamespace(data=np.ones((8, 8)), name="boat", translate=(4, 10))
    >>> mask = np.zeros((20, 30), bool)
    >>> mask[5:9, 12:16] = True
    >>> edit = blend_edit(picture, target, mask)
    >>> edit.spec.name, edit.supervision.at, int(edit.supervision.mask.sum())
    ('sea, with boat', (4, 11), 16)
    """
    spec = LayerSpec.from_layer(target, plane=plane, lazily=True, fill_nan=fill_nan)
    part = LayerSpec.from_layer(target, None, mask, plane, lazily=True)
    source = LayerSpec.from_layer(picture, plane=picture_plane)
    if len(source.coordinate_shape) != len(spec.coordinate_shape):
        raise InputError(
            f"{layer_title(picture)} has {len(source.coordinate_shape)} axes in space and time, but "
            f"{layer_title(target)} has {len(spec.coordinate_shape)}. Use layers with the same number of axes."
        )
    # Include one more pixel on every side: the gradients at the edge of the mask are also those of the picture.
    shape = tuple(n + 2 for n in part.coordinate_shape)
    values = _read_at(source, *_pixels_between(part, source), shape)
    selection = np.ones(part.coordinate_shape, np.bool_) if part.missing is None else ~part.missing
    blend_mask = np.pad(selection, 1) & ~np.isnan(values).any(axis=0)
    if not blend_mask.any():
        raise InputError(
            f"no pixel of {layer_title(picture)} lies over {layer_title(target)} within the mask. Move it there with "
            "Layers > Transform, or with translate and scale in a script."
        )
    if spec.rgb and source.rgb and spec.channels < source.channels:
        values = values[: spec.channels]
    if len(values) != spec.channels:
        raise InputError(
            f"{layer_title(picture)} has {len(values)} channels or colours, but {layer_title(target)} has "
            f"{spec.channels}. Use layers with the same number."
        )
    position = np.rint(_pixels_between(part, spec)[1]).astype(int) - 1
    name = f"{spec.name}, with {source.name}"
    picture_values = np.ma.masked_invalid(spec.axes.from_channels_first(values))
    return Edit(replace(spec, name=name), SeamlessCloning(picture_values, blend_mask, tuple(map(int, position)), mode))


def _pixels_between(spec: LayerSpec, other: LayerSpec) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the map from pixels of a spec to pixels of another: a matrix and an offset over their coordinates."""
    matrix = between(spec.placement, other.placement)
    missing = len(other.shape) - len(matrix)
    rows = [axis - missing for axis in other.coordinates]
    if min(rows) < 0:
        raise InputError(f"“{other.name}” has more axes than “{spec.name}”. Take a slice of it.")
    return matrix[rows][:, list(spec.coordinates)], matrix[rows, -1]


def _read_at(
    source: LayerSpec, matrix: npt.NDArray[np.float64], offset: npt.NDArray[np.float64], shape: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """Interpolate a layer at mapped pixels, from the pixel before the first: (channels, *shape), NaN outside of it."""
    data = np.asarray(source.data)
    channels = source.axes.to_channels_first(data)
    matrix, first = np.round(matrix, _DIGITS), np.round(offset - matrix.sum(axis=1), _DIGITS)
    # Smoothing prevents aliasing if the pixels of the source are smaller, as in skimage.transform.resize.
    blur = np.maximum(0, np.linalg.norm(matrix, axis=1) - 1) / 2
    smooth_channels = [gaussian_filter(channel.astype(np.float64), blur) for channel in channels]
    return np.stack(
        [affine_transform(channel, matrix, first, shape, order=1, cval=np.nan) for channel in smooth_channels]
    )
