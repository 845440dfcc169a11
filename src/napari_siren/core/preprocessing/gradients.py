"""`Supervision`: data that are derivatives of an image, and the image that they stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import check_axes, check_spacing, guess_axes
from napari_siren.core.image.samples import ImageFormat, check_missing
from napari_siren.core.preprocessing.poisson import Array, Derivatives, Stencil, potential, solve
from napari_siren.errors import InputError

Kind = Literal["value", "gradient", "laplacian"]
Mask = npt.NDArray[np.bool_]

# In the order in which they are tried. A Laplacian of any of them is explained but for its mean, so that it tells
# nothing of the way it was taken; nor do forward differences along a single axis, hence they are the last.
_STENCILS: dict[Kind, tuple[Stencil, ...]] = {
    "value": (),
    "gradient": ("central", "exact", "forward"),
    "laplacian": ("forward", "exact"),
}
# A gradient is explained wholly where so little of it is left: that of float32.
_ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image to fit, made from data of another kind.

    Parameters
    ----------
    image, missing
        As `fit` takes them.
    told
        What the provenance of the fit tells of it, plain values.
    """

    image: npt.ArrayLike
    missing: npt.ArrayLike | None
    told: Mapping[str, Any] = field(default_factory=dict)


class Preparation(Protocol):
    """What makes the image to fit from the data that `fit` is given."""

    def prepare(
        self,
        data: npt.ArrayLike,
        axes: str | None = None,
        spacing: float | Sequence[float] | None = None,
        missing: npt.ArrayLike | None = None,
    ) -> Prepared:
        """Return the image; the parameters are those of `fit`."""
        ...


@dataclass(frozen=True, eq=False)
class Supervision:
    """What a fit is told of an image: its values, its gradient or its Laplacian.

    From derivatives the image u is found by least squares on the pixel grid, and the field f is fitted to it: the loss
    |f - u|^2 is the SIREN paper's loss on derivatives, |grad f - grad u|^2 (Sitzmann et al. 2020, section 4.1),
    preconditioned by the inverse Laplacian, which is the residual of the derivatives in the norm of H^-1 (a Sobolev
    gradient; Neuberger 1997). So low frequencies, which hardly count in a loss on derivatives, come at once, and tiles
    agree where they overlap, although derivatives leave a constant of its own to each.

    Parameters
    ----------
    kind
        "value", "gradient" or "laplacian".
    stencil
        How the derivatives were taken. ``"forward"``: differences to the next pixel (what stands at the last does not
        count), and the sum of second differences, with the image going on beyond its edge as its mirror image, as
        `scipy.ndimage.laplace` has it. ``"central"``: as `numpy.gradient`, and no Laplacian. ``"exact"``: at pixel
        centres, of a function that has no more detail than pixels can hold. ``"auto"``: of a gradient the one that
        explains it best ("central" where none does, along a single axis with missing pixels), of a Laplacian "forward".
    mean
        The image's mean, which derivatives do not tell: a number, or one for each channel. None is 0.
    known
        Array of the image's shape, NaN or masked where nothing is known: pixels that are kept as they are. They take
        the place of the mean.

    Raises
    ------
    InputError
        An unknown kind or stencil, or something that goes with derivatives only.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> image = 50 * np.sin(np.arange(24) / 4)[:, None] * np.ones(20)
    >>> told = ns.Supervision("gradient", mean=image.mean())
    >>> result = ns.fit(np.stack(np.gradient(image)), supervision=told, max_steps=100)
    >>> bool(np.abs(result.reconstruction - image).max() < 2)
    True
    """

    kind: Kind
    stencil: Stencil | Literal["auto"] = "auto"
    mean: float | Sequence[float] | None = None
    known: npt.ArrayLike | None = None

    def __post_init__(self) -> None:
        if self.kind not in _STENCILS:
            raise InputError(f'supervision={self.kind!r}: it is "value", "gradient", "laplacian", or a Supervision.')
        choices = ("auto", *_STENCILS[self.kind])
        if self.stencil not in choices:
            raise InputError(f"stencil={self.stencil!r}: for a {self.kind} it is one of {', '.join(choices)}.")
        if self.kind == "value" and not (self.mean is None and self.known is None):
            raise InputError("values need no mean and no known pixels; these go with derivatives.")

    def prepare(
        self,
        data: npt.ArrayLike,
        axes: str | None = None,
        spacing: float | Sequence[float] | None = None,
        missing: npt.ArrayLike | None = None,
    ) -> Prepared:
        """Find the image.

        Parameters
        ----------
        data
            A gradient has an axis more than the image, in front, with an entry for each axis in space, as
            `FitResult.render` and ``np.stack(np.gradient(image))`` give it; per physical length. A Laplacian has the
            image's shape; per squared length.
        axes, spacing
            Of the image, as in `fit`.
        missing
            Where the derivative says nothing, as in `fit`: there the image is spanned by a membrane, which for a
            Laplacian bears an even load.

        Returns
        -------
        Prepared
            The image as float32, no pixel of it missing; what is told of it is the stencil, and the part of the data
            that no image explains (root mean square, relative to that of the data).

        Raises
        ------
        InputError
            The data, or an argument, cannot be used.
        """
        if self.kind == "value":
            return Prepared(data, missing)
        array, layout, observed = _check_data(self.kind, data, axes, spacing, missing)
        mean, known = _check_mean(self.mean, layout.channels), _check_known(self.known, layout)
        stencil, image, residual = self._solve(array, layout, observed, known)
        told = {"kind": self.kind, "stencil": stencil, "residual": residual}
        for channel, constant, kept in zip(image, mean, known, strict=True):
            channel += constant if np.isnan(kept).all() else 0.0
        return Prepared(layout.from_channels_first(image.astype(np.float32)), None, {"supervision": told})

    def _solve(self, array: Array, layout: ImageFormat, observed: Mask, known: Array) -> tuple[Stencil, Array, float]:
        """Return the stencil, where it is to be told the one of the least misfit, with the image and what is left."""
        choices = _STENCILS[self.kind] if self.stencil == "auto" else (self.stencil,)
        # Along a single axis any part of a gradient is explained by each of them.
        tells = self.kind == "gradient" and (len(array) > 1 or observed.all())
        solve_by = _from_gradient if self.kind == "gradient" else _from_laplacian

        def found(stencil: Stencil) -> tuple[Stencil, Array, float]:
            operator = Derivatives(stencil, layout.spatial_shape, layout.spacing)
            return stencil, *solve_by(operator, array, observed, known)

        return min(map(found, choices if tells else choices[:1]), key=lambda one: max(one[2], _ROUNDING))


def preparation(supervision: str | Preparation) -> Preparation:
    """Return what a word that `fit` takes stands for."""
    if isinstance(supervision, str):
        return Supervision(cast(Kind, supervision))
    if not hasattr(supervision, "prepare"):
        raise InputError(f'supervision={supervision!r}: it is "value", "gradient", "laplacian", or a Supervision.')
    return supervision


def _from_gradient(operator: Derivatives, gradient: Array, observed: Mask, known: Array) -> tuple[Array, float]:
    data = _mirrored(gradient, operator.stencil)
    image = potential(operator, data, ~observed, known)
    return image, _relative(operator.gradient(image) - data, data, observed)


def _from_laplacian(operator: Derivatives, laplacian: Array, observed: Mask, known: Array) -> tuple[Array, float]:
    data = np.where(observed, laplacian[0], 0.0)
    if not observed.all():
        # The Laplacian of an image sums to 0, so that this is what those at the missing pixels sum to.
        excess = data.reshape(len(data), -1).sum(axis=1) / (~observed).sum()
        data[:, ~observed] = -excess[:, np.newaxis]
    image = solve(operator, -data, None, known)
    return image, _relative(operator.laplacian(image) - data, data, observed & np.isnan(known))


def _mirrored(gradient: Array, stencil: Stencil) -> Array:
    """Return a gradient that was taken in the usual way as that of an image which goes on as its mirror image."""
    if stencil == "exact":
        return gradient
    data = gradient.copy()
    for part, axis in zip(data, range(1, data.ndim), strict=False):
        along = np.moveaxis(part, axis, 0)
        if stencil == "forward":
            along[-1] = 0
        else:
            # numpy takes the difference to the one neighbour; half of it is that between this one and the pixel itself.
            along[0] /= 2
            along[-1] /= 2
    return data


def _relative(rest: Array, data: Array, counted: Mask) -> float:
    """Return the root mean square of what is left over that of the data, where it counts; 0 for no data."""
    weights = np.broadcast_to(counted, data.shape)
    size = float(np.mean(np.square(data), where=weights)) if weights.any() else 0.0
    return float(np.sqrt(np.mean(np.square(rest), where=weights) / size)) if size else 0.0


def _check_data(
    kind: Kind,
    data: npt.ArrayLike,
    axes: str | None,
    spacing: float | Sequence[float] | None,
    missing: npt.ArrayLike | None,
) -> tuple[Array, ImageFormat, Mask]:
    """Check derivatives.

    Returns
    -------
    tuple
        (parts, channels, *spatial), with a single part for a Laplacian; the layout of the image; where the derivative
        says something, (*spatial).
    """
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise InputError(f"the {kind} is not an array of numbers: {error}.") from None
    if array.dtype.kind not in "uif" or array.size == 0:
        raise InputError(f"the {kind} should be real numbers, not {array.dtype} of shape {array.shape}.")
    parts = array if kind == "gradient" else array[np.newaxis]
    shape = parts.shape[1:]
    if not shape:
        raise InputError("the gradient of an image of one axis has shape (1, pixels); give gradient[np.newaxis].")
    names = guess_axes(shape) if axes is None else check_axes(axes, shape)
    dimensions = len(names.replace("C", ""))
    if kind == "gradient" and len(parts) != dimensions:
        raise InputError(
            f"the gradient has shape {parts.shape}: of an image with axes {names} its first axis should have "
            f"{dimensions} entries, one for each axis in space. np.stack(np.gradient(image)) makes such an array."
        )
    layout = ImageFormat(names, shape, "float32", check_spacing(spacing, dimensions), (), ())
    if isinstance(data, np.ma.MaskedArray) and missing is None:
        missing = np.ma.getmaskarray(data).any(axis=0) if kind == "gradient" else np.ma.getmaskarray(data)
    observed = ~check_missing(missing, layout)
    values = np.stack([layout.to_channels_first(part) for part in parts]).astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(values[..., observed])))
    if bad:
        raise InputError(
            f"the {kind} has {bad} value{'s' if bad > 1 else ''} that cannot be used (NaN or infinite). Mark such "
            "pixels as missing, and they are spanned."
        )
    return values, layout, observed


def _check_mean(mean: float | Sequence[float] | None, channels: int) -> Array:
    try:
        values = np.broadcast_to(np.asarray(0.0 if mean is None else mean, dtype=np.float64), channels)
    except (TypeError, ValueError):
        values = np.full(1, np.nan)
    if not np.isfinite(values).all():
        raise InputError(f"mean={mean!r}: give a finite number, or one for each of the {channels} channels.")
    return values


def _check_known(known: npt.ArrayLike | None, layout: ImageFormat) -> Array:
    """Return the known pixels, (channels, *spatial), NaN where nothing is known."""
    if known is None:
        return np.full((layout.channels, *layout.spatial_shape), np.nan)
    if isinstance(known, np.ma.MaskedArray):
        known = np.ma.filled(known.astype(np.float64), np.nan)
    array = np.asarray(known)
    if array.dtype.kind not in "uif" or array.shape != layout.shape:
        raise InputError(
            f"known is {array.dtype} of shape {array.shape}; it should be numbers of the image's shape {layout.shape}, "
            "NaN where nothing is known."
        )
    values: Array = layout.to_channels_first(array).astype(np.float64)
    if np.isinf(values).any() or np.isnan(values).all():
        raise InputError("known should be finite where it is not NaN, in one pixel at least.")
    return values
