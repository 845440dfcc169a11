"""Image editing in the gradient domain: flattening of uneven illumination, and seamless blending of two images.

Both change the gradients of an image, solve Poisson's equation for the image of the new gradients, and fit a field to
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn, idctn

from napari_siren.core.image.dtypes import cast_values
from napari_siren.core.image.samples import ImageLayout, Samples
from napari_siren.core.options import FitOptions
from napari_siren.core.preprocessing.gradients import Mask, PreprocessedImage
from napari_siren.core.preprocessing.poisson import Array, Derivatives, potential
from napari_siren.errors import InputError

if TYPE_CHECKING:
    from napari_siren.core.result import FitResult

# Standard deviation of the gaussian, in pixels, for smoothing the image before its gradients are taken.
_SMOOTHING = 2.0
# Standard deviation of the gaussian for the mean of small gradients, as a share of each side.
_SURROUNDINGS = 1 / 8
# Number of iterations: for the mean of the small gradients, and for the mean of the pixels after clipping.
_ROUNDS = 6
# Offset added before the logarithm, as a share of the image's range, so that the darkest pixels do not dominate.
_DARKNESS = 0.01
# Percentile of the pixels at the upper end of that range.
_LIGHTEST_PERCENTILE = 99.9


@dataclass(frozen=True)
class Flattening:
    """A preprocessor for `flatten_illumination`; its parameters are described there."""

    below: float | Literal["auto"] = "auto"
    multiplicative: bool = True

    def __post_init__(self) -> None:
        number = isinstance(self.below, int | float) and not isinstance(self.below, bool)
        if self.below != "auto" and not (number and 0 < float(self.below) < np.inf):
            raise InputError(f'below={self.below!r} is invalid. Give a positive number, or "auto".')

    def prepare(
        self,
        data: npt.ArrayLike,
        axes: str | None = None,
        spacing: float | Sequence[float] | None = None,
        missing: npt.ArrayLike | None = None,
    ) -> PreprocessedImage:
        """Return the image without its illumination; the parameters are those of `fit`."""
        samples = Samples.from_array(data, axes, spacing, missing)
        layout, observed = samples.layout, samples.observed
        values = _colours(layout, samples.image)
        if self.multiplicative and values[:, observed].min() < 0:
            raise InputError(
                "the image has values below 0, so illumination cannot be a factor of it. Use multiplicative=False, or "
                "correct the camera's offset in another way."
            )
        sums = np.stack([self._as_sum(channel, observed) for channel in values])
        light, below, share = self._light(sums, observed, layout.spacing)
        image = samples.image.copy()
        flat = layout.to_channels_first(image)
        for channel, value, shade in zip(flat, values, light, strict=False):
            reflectance = value * np.exp(-shade) if self.multiplicative else value - shade
            channel[...] = self._with_mean(reflectance, value, observed, image.dtype)
        metadata = {"below": below, "multiplicative": self.multiplicative, "dropped": share}
        return PreprocessedImage(image, ~observed, {"flattened": metadata})

    def _as_sum(self, channel: Array, observed: Mask) -> Array:
        """Return the channel in a form with additive illumination: as it is, or its logarithm."""
        pixels = channel[observed]
        if self.multiplicative:
            least = float(pixels.min())
            dark = _DARKNESS * (float(np.percentile(pixels, _LIGHTEST_PERCENTILE)) - least) or 1.0
            channel, pixels = np.log(np.where(observed, channel, least) + dark), np.log(pixels + dark)
        # Gradients at the border of missing pixels are mostly large, so they do not count.
        return np.where(observed, channel, pixels.mean())

    def _light(self, sums: Array, observed: Mask, spacing: tuple[float, ...]) -> tuple[Array, float, float]:
        """Return the illumination, (channels, *spatial), the bound of its gradients, and the share below the bound."""
        shape = observed.shape
        operator = Derivatives("forward", shape, spacing)
        slopes = operator.gradient(_smoothed(sums, [_SMOOTHING] * len(shape)))
        below = float(np.median(_magnitude(slopes)[observed])) if self.below == "auto" else float(self.below)
        light, small = np.zeros_like(slopes), observed
        # The mean moves to the most frequent gradients: noise makes gradients greater as often as smaller.
        for _ in range(_ROUNDS):
            small = observed & (_magnitude(slopes - light) <= below)
            reach = [_SURROUNDINGS * n for n in shape]
            weight = _smoothed(small.astype(np.float64)[np.newaxis], reach)
            # The 1e-3 avoids a division by 0 far from small gradients.
            light = _smoothed(np.where(small, slopes, 0.0), reach) / (weight + 1e-3)
        return potential(operator, light), below, float(small[observed].mean())

    def _with_mean(self, reflectance: Array, value: Array, observed: Mask, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return the flattened pixels with the mean of the original ones, after clipping to the range of the dtype."""
        target = value[observed].mean()
        for _ in range(_ROUNDS):
            mean = cast_values(reflectance[observed], dtype).mean()
            if not self.multiplicative:
                reflectance = reflectance + (target - mean)
            elif mean > 0:
                reflectance = reflectance * (target / mean)
        return cast_values(reflectance, dtype)


@dataclass(frozen=True, eq=False)
class SeamlessCloning:
    """A preprocessor for `blend`, for the image `into`; its parameters are described there."""

    picture: npt.ArrayLike
    mask: npt.ArrayLike
    at: Sequence[int] | None = None
    mode: Literal["source", "mixed"] = "source"

    def __post_init__(self) -> None:
        if self.mode not in ("source", "mixed"):
            raise InputError(f'mode={self.mode!r} is unknown. Use "source" or "mixed".')

    def prepare(
        self,
        data: npt.ArrayLike,
        axes: str | None = None,
        spacing: float | Sequence[float] | None = None,
        missing: npt.ArrayLike | None = None,
    ) -> PreprocessedImage:
        """Return the image with the picture in it; the parameters are those of `fit`, for the image `into`."""
        samples = Samples.from_array(data, axes, spacing, missing)
        layout, image = samples.layout, samples.image.copy()
        source, mask, at = self._place(layout)
        inside = np.argwhere(mask)
        # The solution joins the image in the one pixel around the mask.
        box = tuple(slice(max(0, a - 1), b + 2) for a, b in zip(inside.min(axis=0), inside.max(axis=0), strict=True))
        values = np.where(samples.observed, _colours(layout, image), np.nan)
        old, new, free = values[:, *box], source[:, *box], mask[box]
        unknown = free | ~samples.observed[box]
        if unknown.all():
            raise InputError("the mask leaves no pixel of the image to join. Make the mask smaller.")
        operator = Derivatives("forward", free.shape, layout.spacing)
        guidance = self._guidance(operator.gradient(new), operator.gradient(old))
        solutions = potential(operator, guidance, None, np.where(unknown, np.nan, old))
        for channel, solution in zip(layout.to_channels_first(image), solutions, strict=False):
            channel[box][free] = cast_values(solution[free], image.dtype)
        return PreprocessedImage(image, ~samples.observed, {"blended": {"mode": self.mode, "at": list(at)}})

    def _place(self, layout: ImageLayout) -> tuple[Array, Mask, tuple[int, ...]]:
        """Return picture, mask and position on the image's pixels; the picture is NaN outside its own pixels."""
        picture = Samples.from_array(self.picture, layout.axes)
        mask = np.asarray(self.mask)
        size, whole = picture.layout.spatial_shape, layout.spatial_shape
        if picture.layout.channels != layout.channels:
            raise InputError(
                f"the picture has {picture.layout.channels} channels and the image {layout.channels}. Give both the "
                "same channels."
            )
        if mask.dtype != np.bool_ or mask.shape != size:
            raise InputError(
                f"mask is {mask.dtype} of shape {mask.shape}. Give a boolean mask of the picture's spatial shape, "
                f"{size}."
            )
        at = _check_position(self.at, len(whole))
        # Pixels of the picture beyond the image are cut off.
        area = tuple(slice(max(0, a), max(0, a + n)) for a, n in zip(at, size, strict=True))
        part = tuple(slice(max(0, -a), max(0, m - a)) for a, m in zip(at, whole, strict=True))
        values, inside = np.full((layout.channels, *whole), np.nan), np.zeros(whole, dtype=np.bool_)
        pixels = np.where(picture.observed, picture.layout.to_channels_first(picture.image), np.nan)
        values[:, *area] = pixels[:, *part]
        inside[area] = mask[part]
        if not inside.any():
            raise InputError("no pixel of the mask lies within the image. Check `mask` and `at`.")
        return values[: _colour_count(layout)], inside, at

    def _guidance(self, source: Array, target: Array) -> Array:
        """Return the gradients of the solution (equations 11 and 13); unknown gradients, NaN, become 0."""
        from_source = ~np.isnan(source)
        if self.mode == "mixed":
            from_source &= ~(np.abs(source) <= np.abs(target))
        return np.nan_to_num(np.where(from_source, source, target))


def flatten_illumination(
    image: npt.ArrayLike,
    *,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    below: float | Literal["auto"] = "auto",
    multiplicative: bool = True,
    **options: Unpack[FitOptions],
) -> FitResult:
    """Remove uneven illumination from an image, and fit a field to the result.

    Edges of objects are steep, and light changes slowly. So gradients below a bound belong to the light, and are
    removed (Land and McCann 1971; Horn 1974). The gradients are those of the logarithm of the image, smoothed over 2
    pixels, and of all channels jointly. Texture and noise have small gradients too, and are to stay. So only the mean
    of the small gradients around each pixel is removed, over a gaussian of an eighth of each side.

    Parameters
    ----------
    image, axes, spacing
        The image, its axes and its spacing, as in `fit`.
    below
        Size above which a gradient is an edge: the relative change per physical length if the light is a factor,
        otherwise in the image's units per physical length. "auto" takes the median of the image's own gradients.
    multiplicative
        Whether the light is a factor of the image. Otherwise it is added to the image, and the gradients are those of
        the image itself instead of its logarithm.
    **options
        Any other argument of `fit`.

    Returns
    -------
    FitResult
        Result for the flattened image, which has the dtype and the mean of the original. Its provenance has `below`,
        and the share of the gradients below it.

    Raises
    ------
    SirenError
        The errors of `fit`; `InputError` for values below 0 if the light is a factor.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> disc = np.where(np.hypot(*np.mgrid[-32:32, -32:32]) < 20, 150.0, 50.0)
    >>> light = np.linspace(0.5, 1.5, 64)
    >>> result = ns.flatten_illumination(disc * light, max_steps=50)
    >>> remaining_light = result.samples.image / disc
    >>> bool(np.ptp(remaining_light) < 0.3)
    True
    """
    from napari_siren.core.fit import fit

    _check_no_supervision(options)
    options = {**options, "supervision": Flattening(below, multiplicative)}
    return fit(image, axes=axes, spacing=spacing, **options)


def blend(
    picture: npt.ArrayLike,
    into: npt.ArrayLike,
    mask: npt.ArrayLike,
    *,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    at: Sequence[int] | None = None,
    mode: Literal["source", "mixed"] = "source",
    **options: Unpack[FitOptions],
) -> FitResult:
    """Insert a part of a picture into an image without a seam, and fit a field to the result.

    The method is seamless cloning (Perez, Gangnet and Blake 2003, equations 10 to 13). Within the mask, the gradients
    of the picture are kept, and the colours follow from those of the image around the mask.

    Parameters
    ----------
    picture, into
        The picture, and the image to insert it into, with the same axes and channels. For RGBA images in uint8, alpha
        is that of `into`.
    mask
        Boolean mask of the picture's spatial shape: True for the pixels to insert. Outside the mask, the pixels of
        `into` do not change.
    axes, spacing
        Axes and spacing of both images, as in `fit`.
    at
        Pixel of `into` for the first pixel of the picture, along each spatial axis; None is the first pixel of `into`.
        Pixels of the picture beyond the image are cut off.
    mode
        "source" takes the gradients of the picture. "mixed" takes, between any two pixels, the stronger gradient of
        picture and image; it is for objects with holes, or of glass.
    **options
        Any other argument of `fit`, for the resulting image.

    Returns
    -------
    FitResult
        Result for the resulting image, which has the dtype of `into`.

    Raises
    ------
    SirenError
        The errors of `fit`; `InputError` for pictures that do not match, and for a mask with no pixel of the image, or
        with all of them.

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

    _check_no_supervision(options)
    options = {**options, "supervision": SeamlessCloning(picture, mask, at, mode)}
    return fit(into, axes=axes, spacing=spacing, **options)


def _check_no_supervision(options: FitOptions) -> None:
    if options.get("supervision", "value") != "value":
        raise InputError("supervision is chosen by this function itself. Leave it out.")


def _colours(layout: ImageLayout, array: npt.NDArray[Any]) -> Array:
    """Return the channels of an image as float64, (channels, *spatial); for RGBA in uint8, without alpha."""
    values: Array = layout.to_channels_first(array)[: _colour_count(layout)].astype(np.float64)
    return values


def _colour_count(layout: ImageLayout) -> int:
    rgba = layout.dtype == "uint8" and layout.axes.endswith("C") and layout.channels == 4
    return 3 if rgba else layout.channels


def _magnitude(slopes: Array) -> Array:
    """Return the magnitude of gradients (dimensions, channels, *spatial), jointly for all channels: (*spatial)."""
    magnitude: Array = np.sqrt(np.square(slopes).sum(axis=0).mean(axis=0))
    return magnitude


def _smoothed(array: Array, sigmas: Sequence[float]) -> Array:
    """Smooth along the last axes by gaussians with `sigmas` in pixels; the image is mirrored at its edges."""
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
        raise InputError(f"at={at!r} is invalid. Give {dimensions} whole numbers, one for each spatial axis.")
    return tuple(int(p) for p in position)
