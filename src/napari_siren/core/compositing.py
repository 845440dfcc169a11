"""Pictures made in the gradient domain: uneven illumination taken away, one picture blended seamlessly into another.

Both change gradients, find the image of these by Poisson's equation, and fit a field to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn, idctn

from napari_siren.core.image.dtypes import cast_values
from napari_siren.core.image.samples import ImageFormat, Samples
from napari_siren.core.preprocessing.gradients import Mask, Prepared
from napari_siren.core.preprocessing.poisson import Array, Derivatives, potential
from napari_siren.errors import InputError

if TYPE_CHECKING:
    from napari_siren.core.result import FitResult

# Pixels over which the image is smoothed before it is asked for its slopes.
_SMOOTHING = 2.0
# The light's slope is the mean of small ones over this share of each side.
_SURROUNDINGS = 1 / 8
_ROUNDS = 6
# Added to an image before its logarithm is taken, so that its darkest pixels do not count most; of its range.
_DARKNESS = 0.01
_LIGHTEST_PERCENTILE = 99.9


@dataclass(frozen=True)
class Flattening:
    """What `flatten_illumination` does to an image before the fit; its parameters are described there."""

    below: float | Literal["auto"] = "auto"
    multiplicative: bool = True

    def __post_init__(self) -> None:
        number = isinstance(self.below, int | float) and not isinstance(self.below, bool)
        if self.below != "auto" and not (number and 0 < float(self.below) < np.inf):
            raise InputError(f'below={self.below!r}: give a positive number, or "auto".')

    def prepare(
        self,
        data: npt.ArrayLike,
        axes: str | None = None,
        spacing: float | Sequence[float] | None = None,
        missing: npt.ArrayLike | None = None,
    ) -> Prepared:
        """Take the illumination away; the parameters are those of `fit`."""
        samples = Samples.from_array(data, axes, spacing, missing)
        layout, observed = samples.format, samples.observed
        values = _colours(layout, samples.image)
        if self.multiplicative and values[:, observed].min() < 0:
            raise InputError(
                "the image has values below 0, of which illumination cannot be a factor. Take multiplicative=False, or "
                "take the camera's offset away in another manner."
            )
        seen = np.stack([self._seen(channel, observed) for channel in values])
        light, below, share = self._light(seen, observed, layout.spacing)
        image = samples.image.copy()
        flat = layout.to_channels_first(image)
        for channel, value, shade in zip(flat, values, light, strict=False):
            even = value * np.exp(-shade) if self.multiplicative else value - shade
            channel[...] = self._of_mean(even, value, observed, image.dtype)
        told = {"below": below, "multiplicative": self.multiplicative, "dropped": share}
        return Prepared(image, ~observed, {"flattened": told})

    def _seen(self, channel: Array, observed: Mask) -> Array:
        """Return what light is added to: the channel or its logarithm."""
        there = channel[observed]
        if self.multiplicative:
            least = float(there.min())
            dark = _DARKNESS * (float(np.percentile(there, _LIGHTEST_PERCENTILE)) - least) or 1.0
            channel, there = np.log(np.where(observed, channel, least) + dark), np.log(there + dark)
        # Slopes into missing pixels are large ones mostly, and do not count.
        return np.where(observed, channel, there.mean())

    def _light(self, seen: Array, observed: Mask, spacing: tuple[float, ...]) -> tuple[Array, float, float]:
        """Return the illumination of (channels, *spatial), the bound of its slopes, and the share that is below."""
        shape = observed.shape
        operator = Derivatives("forward", shape, spacing)
        slopes = operator.gradient(_smoothed(seen, [_SMOOTHING] * len(shape)))
        below = float(np.median(_size(slopes)[observed])) if self.below == "auto" else float(self.below)
        light, small = np.zeros_like(slopes), observed
        # Their mean moves to where most are: those that noise adds are as often greater as they are less.
        for _ in range(_ROUNDS):
            small = observed & (_size(slopes - light) <= below)
            reach = [_SURROUNDINGS * n for n in shape]
            weight = _smoothed(small.astype(np.float64)[np.newaxis], reach)
            light = _smoothed(np.where(small, slopes, 0.0), reach) / (weight + 1e-3)
        return potential(operator, light), below, float(small[observed].mean())

    def _of_mean(self, even: Array, value: Array, observed: Mask, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return pixels the mean that they had, after what their dtype clips."""
        wanted = value[observed].mean()
        for _ in range(_ROUNDS):
            found = cast_values(even[observed], dtype).mean()
            if not self.multiplicative:
                even = even + (wanted - found)
            elif found > 0:
                even = even * (wanted / found)
        return cast_values(even, dtype)


@dataclass(frozen=True, eq=False)
class Blending:
    """What `blend` does to the image `into` before the fit; its parameters are described there."""

    picture: npt.ArrayLike
    mask: npt.ArrayLike
    at: Sequence[int] | None = None
    mode: Literal["source", "mixed"] = "source"

    def __post_init__(self) -> None:
        if self.mode not in ("source", "mixed"):
            raise InputError(f'mode={self.mode!r}: it is "source" or "mixed".')

    def prepare(
        self,
        data: npt.ArrayLike,
        axes: str | None = None,
        spacing: float | Sequence[float] | None = None,
        missing: npt.ArrayLike | None = None,
    ) -> Prepared:
        """Put the picture in; the parameters are those of `fit`, of the image that it is put into."""
        samples = Samples.from_array(data, axes, spacing, missing)
        layout, image = samples.format, samples.image.copy()
        source, mask, at = self._placed(layout)
        inside = np.argwhere(mask)
        # One pixel around the mask is what the solution joins.
        box = tuple(slice(max(0, a - 1), b + 2) for a, b in zip(inside.min(axis=0), inside.max(axis=0), strict=True))
        there = np.where(samples.observed, _colours(layout, image), np.nan)
        old, new, free = there[:, *box], source[:, *box], mask[box]
        unknown = free | ~samples.observed[box]
        if unknown.all():
            raise InputError("the mask leaves no pixel of the image to join. Leave some of it out.")
        operator = Derivatives("forward", free.shape, layout.spacing)
        guidance = self._guidance(operator.gradient(new), operator.gradient(old))
        solved = potential(operator, guidance, None, np.where(unknown, np.nan, old))
        for channel, found in zip(layout.to_channels_first(image), solved, strict=False):
            channel[box][free] = cast_values(found[free], image.dtype)
        return Prepared(image, ~samples.observed, {"blended": {"mode": self.mode, "at": list(at)}})

    def _placed(self, layout: ImageFormat) -> tuple[Array, Mask, tuple[int, ...]]:
        """Return the picture and the mask on the image's pixels, the picture NaN where it is not."""
        picture = Samples.from_array(self.picture, layout.axes)
        mask = np.asarray(self.mask)
        small, whole = picture.format.spatial_shape, layout.spatial_shape
        if picture.format.channels != layout.channels:
            raise InputError(
                f"the picture has {picture.format.channels} channels and the image {layout.channels}; they should be "
                "alike."
            )
        if mask.dtype != np.bool_ or mask.shape != small:
            raise InputError(
                f"mask is {mask.dtype} of shape {mask.shape}; it should be boolean, of the picture's shape in space "
                f"{small}."
            )
        at = _check_position(self.at, len(whole))
        # What lies beyond the image is cut off.
        there = tuple(slice(max(0, a), max(0, a + n)) for a, n in zip(at, small, strict=True))
        cut = tuple(slice(max(0, -a), max(0, m - a)) for a, m in zip(at, whole, strict=True))
        values, inside = np.full((layout.channels, *whole), np.nan), np.zeros(whole, dtype=np.bool_)
        seen = np.where(picture.observed, picture.format.to_channels_first(picture.image), np.nan)
        values[:, *there] = seen[:, *cut]
        inside[there] = mask[cut]
        if not inside.any():
            raise InputError("no pixel of the mask lies within the image. Is `at` right?")
        return values[: _colour_count(layout)], inside, at

    def _guidance(self, source: Array, target: Array) -> Array:
        """Return the slopes that are to be (equations 11 and 13); those into nowhere, which are NaN, are 0."""
        take = ~np.isnan(source)
        if self.mode == "mixed":
            take &= ~(np.abs(source) <= np.abs(target))
        return np.nan_to_num(np.where(take, source, target))


def flatten_illumination(
    image: npt.ArrayLike,
    below: float | Literal["auto"] = "auto",
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    multiplicative: bool = True,
    **options: Any,
) -> FitResult:
    """Take uneven illumination away, and fit a field to what is left.

    Edges of things are steep and light changes slowly, so that gradients below a size are those of the light, and are
    dropped (Land and McCann 1971; Horn 1974). They are those of the logarithm, of the image smoothed over 2 pixels and
    of all channels jointly. Texture and noise have small gradients too: what is dropped, around every pixel, is the
    mean of the small ones, over a gaussian of an eighth of each side, so that they stay.

    Parameters
    ----------
    image, axes, spacing
        As in `fit`.
    below
        Size of a gradient that is an edge: relative change per physical length where the light is a factor, else in the
        image's units per length. "auto" takes the median of the image's own.
    multiplicative
        Whether the light is a factor, or something that is added.
    **options
        Any other argument of `fit`.

    Returns
    -------
    FitResult
        Of the even image, whose dtype and mean are those of the image; its provenance tells `below`, and which share of
        the gradients was below.

    Raises
    ------
    SirenError
        As `fit` does; `InputError` for values below 0 where the light is a factor.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> things = np.where(np.hypot(*np.mgrid[-32:32, -32:32]) < 20, 150.0, 50.0)
    >>> light = np.linspace(0.5, 1.5, 64)
    >>> result = ns.flatten_illumination(things * light, max_steps=50)
    >>> left = result.samples.image / things
    >>> bool(np.ptp(left) < 0.3)
    True
    """
    from napari_siren.core.fit import fit

    return fit(image, axes, spacing, supervision=Flattening(below, multiplicative), **options)


def blend(
    picture: npt.ArrayLike,
    into: npt.ArrayLike,
    mask: npt.ArrayLike,
    at: Sequence[int] | None = None,
    axes: str | None = None,
    mode: Literal["source", "mixed"] = "source",
    **options: Any,
) -> FitResult:
    """Put a part of a picture into an image without a seam, and fit a field to it.

    Seamless cloning (Perez, Gangnet and Blake 2003, equations 10 to 13): within the mask the gradients of the picture
    are kept, and its colours follow from those of the image around the mask.

    Parameters
    ----------
    picture, into
        Images of the same axes and channels. Of RGBA images in uint8, alpha is that of `into`.
    mask
        bool, the picture's shape in space: True where a pixel of it is put in. Beyond the mask, the pixels of `into`
        stay as they are.
    at
        Pixel of `into` at which the picture's first lies, for each axis in space; None is its first. What lies beyond
        the image is cut off.
    axes
        Of both, as in `fit`.
    mode
        "source" takes the picture's gradients; "mixed", between any two pixels, the stronger of the picture's and the
        image's, for things with holes or of glass.
    **options
        Any other argument of `fit`, for the image that results.

    Returns
    -------
    FitResult
        Of the image that results, of the dtype of `into`.

    Raises
    ------
    SirenError
        As `fit` does; `InputError` for pictures that do not go together, or a mask with no pixel of the image, or with
        all of them.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> picture = np.full((16, 16), 200.0)
    >>> picture[6:10, 6:10] += 40
    >>> mask = np.zeros((16, 16), bool)
    >>> mask[2:14, 2:14] = True
    >>> blended = ns.blend(picture, np.full((24, 32), 50.0), mask, at=(4, 8), max_steps=20).samples.image
    >>> blended[[0, 7, 12], [0, 11, 16]].round().tolist()
    [50.0, 50.0, 90.0]
    """
    from napari_siren.core.fit import fit

    return fit(into, axes, supervision=Blending(picture, mask, at, mode), **options)


def _colours(layout: ImageFormat, array: npt.NDArray[Any]) -> Array:
    """Return an image's channels, (channels, *spatial); of RGBA in 8 bits without alpha."""
    values: Array = layout.to_channels_first(array)[: _colour_count(layout)].astype(np.float64)
    return values


def _colour_count(layout: ImageFormat) -> int:
    rgba = layout.dtype == "uint8" and layout.axes.endswith("C") and layout.channels == 4
    return 3 if rgba else layout.channels


def _size(slopes: Array) -> Array:
    """Return the size of gradients, (dimensions, channels, *spatial), of the channels jointly."""
    size: Array = np.sqrt(np.square(slopes).sum(axis=0).mean(axis=0))
    return size


def _smoothed(array: Array, sigmas: Sequence[float]) -> Array:
    """Smooth along the last axes by gaussians, in pixels, the image going on as its mirror image."""
    axes = tuple(range(array.ndim - len(sigmas), array.ndim))
    series = dctn(array, axes=axes, norm="ortho")
    for axis, sigma in zip(axes, sigmas, strict=True):
        n = array.shape[axis]
        falloff = np.exp(-0.5 * np.square(sigma * np.pi * np.arange(n) / n))
        series *= falloff.reshape([-1 if i == axis else 1 for i in range(array.ndim)])
    smooth: Array = idctn(series, axes=axes, norm="ortho")
    return smooth


def _check_position(at: Sequence[int] | None, dimensions: int) -> tuple[int, ...]:
    if at is None:
        return (0,) * dimensions
    position = np.asarray(at)
    if position.dtype.kind not in "iu" or position.shape != (dimensions,):
        raise InputError(f"at={at!r}: give {dimensions} whole numbers, one for each axis in space.")
    return tuple(int(p) for p in position)
