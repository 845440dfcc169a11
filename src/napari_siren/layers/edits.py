"""Pictures made of napari layers in the gradient domain: what is fitted for them. Pure: no napari, no Qt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform, gaussian_filter

from napari_siren.core.compositing import Blending, Flattening
from napari_siren.core.preprocessing.gradients import Preparation, Prepared
from napari_siren.errors import InputError
from napari_siren.layers.reading import layer_title
from napari_siren.layers.region import between
from napari_siren.layers.spec import LayerSpec

# Of pixels: what is less does not move a picture.
_DIGITS = 6


@dataclass(frozen=True, eq=False)
class Edit:
    """A picture that is to be made of layers.

    Parameters
    ----------
    spec
        The pixels that are changed, with the name of what they become.
    supervision
        What changes them, as `fit` takes it.
    """

    spec: LayerSpec
    supervision: Preparation


class Evening:
    """`Flattening` of pixels that are not known before: where some are below 0, light is added, and else a factor."""

    def prepare(
        self,
        data: npt.ArrayLike,
        axes: str | None = None,
        spacing: float | Sequence[float] | None = None,
        missing: npt.ArrayLike | None = None,
    ) -> Prepared:
        """Take the illumination away; the parameters are those of `fit`."""
        below_zero = bool(np.any(np.asarray(data) < 0))
        return Flattening(multiplicative=not below_zero).prepare(data, axes, spacing, missing)


def even_edit(spec: LayerSpec) -> Edit:
    """Return how the illumination of a layer's pixels, which need not have been read, is evened out."""
    return Edit(replace(spec, name=f"{spec.name}, even"), Evening())


def blend_edit(
    picture: Any,
    target: Any,
    mask: Any,
    picture_plane: Sequence[int | None] | None = None,
    plane: Sequence[int | None] | None = None,
    mode: Literal["source", "mixed"] = "source",
) -> Edit:
    """Return how a picture is blended into another, where it lies over it in the world.

    Parameters
    ----------
    picture, target
        Image layers, or what looks like them; see `fit_layer`. The picture is read between its pixels where those of
        the two do not coincide; alpha that only it has is left out.
    mask
        What of the picture is put in: a Shapes or Labels layer, or a boolean array of the target's shape.
    picture_plane, plane
        Of each, as `plane` of `fit_layer`.
    mode
        As in `blend`.

    Raises
    ------
    InputError
        The layers do not go together, or the picture does not lie over the target within the mask.

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
    spec = LayerSpec.of(target, plane=plane, lazily=True)
    part = LayerSpec.of(target, None, mask, plane, lazily=True)
    source = LayerSpec.of(picture, plane=picture_plane)
    if len(source.coordinate_shape) != len(spec.coordinate_shape):
        raise InputError(
            f"{layer_title(picture)} has {len(source.coordinate_shape)} axes in space and time, {layer_title(target)} "
            f"{len(spec.coordinate_shape)}; they should have as many."
        )
    # With a pixel more on every side, whose slopes into the mask are the picture's, too.
    shape = tuple(n + 2 for n in part.coordinate_shape)
    values = _read_at(source, *_pixels_between(part, source), shape)
    marked = np.ones(part.coordinate_shape, np.bool_) if part.missing is None else ~part.missing
    inside = np.pad(marked, 1) & ~np.isnan(values).any(axis=0)
    if not inside.any():
        raise InputError(
            f"nothing of {layer_title(picture)} lies over {layer_title(target)} where the mask is. Move it there: "
            "Layers > Transform, or translate and scale in a script."
        )
    if spec.rgb and source.rgb and spec.channels < source.channels:
        values = values[: spec.channels]
    if len(values) != spec.channels:
        raise InputError(
            f"{layer_title(picture)} has {len(values)} channels or colours and {layer_title(target)} {spec.channels}; "
            "they should be alike."
        )
    position = np.rint(_pixels_between(part, spec)[1]).astype(int) - 1
    name = f"{spec.name}, with {source.name}"
    seen = np.ma.masked_invalid(np.moveaxis(values, 0, spec.axes.index("C")) if "C" in spec.axes else values[0])
    return Edit(replace(spec, name=name), Blending(seen, inside, tuple(map(int, position)), mode))


def _pixels_between(spec: LayerSpec, other: LayerSpec) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return where the pixels of a spec are among those of another: a matrix and an offset over their coordinates."""
    matrix = between(spec.placement, other.placement)
    missing = len(other.shape) - len(matrix)
    rows = [axis - missing for axis in other.coordinates]
    if min(rows) < 0:
        raise InputError(f"“{other.name}” has more axes than “{spec.name}”. Take a slice of it.")
    return matrix[rows][:, list(spec.coordinates)], matrix[rows, -1]


def _read_at(
    source: LayerSpec, matrix: npt.NDArray[np.float64], offset: npt.NDArray[np.float64], shape: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """Read a layer at such pixels of it, and one before them: (channels, *shape), NaN where it is not."""
    data = np.asarray(source.data)
    channels = np.moveaxis(data, source.axes.index("C"), 0) if "C" in source.axes else data[np.newaxis]
    matrix, first = np.round(matrix, _DIGITS), np.round(offset - matrix.sum(axis=1), _DIGITS)
    # Against aliasing where its pixels are the smaller ones, as in skimage.transform.resize.
    blur = np.maximum(0, np.linalg.norm(matrix, axis=1) - 1) / 2
    smooth = [gaussian_filter(channel.astype(np.float64), blur) for channel in channels]
    return np.stack([affine_transform(channel, matrix, first, shape, order=1, cval=np.nan) for channel in smooth])
