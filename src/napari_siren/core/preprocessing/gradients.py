"""`Supervision`: the image from data that are its derivatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import check_axes, check_spacing, guess_axes
from napari_siren.core.image.samples import ImageLayout, check_missing
from napari_siren.core.preprocessing.poisson import Array, Derivatives, Stencil, potential, solve
from napari_siren.errors import InputError

Kind = Literal["value", "gradient", "laplacian"]
Mask = npt.NDArray[np.bool_]

# Stencils of each kind, in the order in which "auto" tries them. Every stencil explains any Laplacian except for its
# mean, so the first one is used. Forward differences explain any gradient along a single axis, so they are the last.
_STENCILS: dict[Kind, tuple[Stencil, ...]] = {
    "value": (),
    "gradient": ("central", "exact", "forward"),
    "laplacian": ("forward", "exact"),
}
# Relative residual below which a gradient is fully explained: rounding errors of float32.
_ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class PreprocessedImage:
    """An image to fit, made from data of another kind.

    Parameters
    ----------
    image, missing
        Image and mask of missing pixels, as `fit` expects them.
    provenance
        Entries for the provenance of the fit, plain values by name.
    """

    image: npt.ArrayLike
    missing: npt.ArrayLike | None
    provenance: Mapping[str, Any] = field(default_factory=dict)


class Preprocessor(Protocol):
    """A converter of the data for `fit` to the image to fit."""

    def prepare(
        self,
        data: npt.ArrayLike,
        axes: str | None = None,
        spacing: float | Sequence[float] | None = None,
        missing: npt.ArrayLike | None = None,
    ) -> PreprocessedImage:
        """Return the image to fit. The parameters are those of `fit`."""
        ...


@dataclass(frozen=True, eq=False)
class Supervision:
    """The supervision of a fit: the values, the gradient or the Laplacian of an image.

    From derivatives, the image u is computed by least squares on the pixel grid, and the field f is fitted to it. The
    SIREN paper's loss on derivatives is |grad f - grad u|^2 (Sitzmann et al. 2020, section 4.1). The loss |f - u|^2 is
    that loss preconditioned by the inverse Laplacian: the residual of the derivatives in the norm of H^-1 (a Sobolev
    gradient; Neuberger 1997). Low frequencies hardly count in a loss on derivatives, but are fitted at once here.
    Derivatives leave a free constant to each tile, and yet the tiles agree where they overlap.

    Parameters
    ----------
    kind
        "value", "gradient" or "laplacian".
    stencil
        Method of the differentiation. ``"forward"``: differences to the next pixel (the entries at the last pixel are
        ignored), and the sum of second differences of the image with mirrored edges, as in `scipy.ndimage.laplace`.
        ``"central"``: as in `numpy.gradient`; not for a Laplacian. ``"exact"``: exact derivatives at pixel centres, of
        a function without detail finer than pixels can represent. ``"auto"``: the stencil that explains a gradient
        best, or "forward" for a Laplacian. Along a single axis with missing pixels all explain a gradient equally, and
        "central" is used.
    mean
        Mean of the image, a number or one for each channel, because derivatives do not determine it. None is 0.
    known
        Known pixels, an array of the image's shape, NaN or masked where nothing is known. Known pixels keep their
        values, and replace the mean.

    Raises
    ------
    InputError
        The kind or the stencil is unknown, or an argument is for derivatives only.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> image = 50 * np.sin(np.arange(24) / 4)[:, None] * np.ones(20)
    >>> supervision = ns.Supervision("gradient", mean=image.mean())
    >>> result = ns.fit(np.stack(np.gradient(image)), supervision=supervision, max_steps=100)
    >>> bool(np.abs(result.reconstruction - image).max() < 2)
    True
    """

    kind: Kind
    stencil: Stencil | Literal["auto"] = "auto"
    mean: float | Sequence[float] | None = None
    known: npt.ArrayLike | None = None

    def __post_init__(self) -> None:
        if self.kind not in _STENCILS:
            raise InputError(
                f'supervision={self.kind!r} is not known. Use "value", "gradient", "laplacian", or a Supervision.'
            )
        choices = ("auto", *_STENCILS[self.kind])
        if self.stencil not in choices:
            raise InputError(f"stencil={self.stencil!r} is not for a {self.kind}. Use one of {', '.join(choices)}.")
        if self.kind == "value" and not (self.mean is None and self.known is None):
            raise InputError("mean and known are only for derivatives. Leave them out for values.")

    def prepare(
        self,
        data: npt.ArrayLike,
        axes: str | None = None,
        spacing: float | Sequence[float] | None = None,
        missing: npt.ArrayLike | None = None,
    ) -> PreprocessedImage:
        """Compute the image from the data.

        Parameters
        ----------
        data
            Values, gradient or Laplacian. A gradient has one more axis than the image, in front, with an entry for each
            spatial axis, per physical length. `FitResult.render` and ``np.stack(np.gradient(image))`` return such
            arrays. A Laplacian has the image's shape, per squared physical length.
        axes, spacing
            Axes and spacing of the image, as in `fit`.
        missing
            Mask of the pixels without a usable derivative, as in `fit`. The image is a membrane there. For a Laplacian
            the membrane has a uniform load.

        Returns
        -------
        PreprocessedImage
            The image as float32, without missing pixels. Its metadata are the kind, the stencil and the residual. The
            residual is the part of the data that no image explains (root mean square, relative to that of the data).
            Values are returned unchanged, without metadata.

        Raises
        ------
        InputError
            The data or an argument cannot be used.
        """
        if self.kind == "value":
            return PreprocessedImage(data, missing)
        array, layout, observed = _check_data(self.kind, data, axes, spacing, missing)
        mean, known = _check_mean(self.mean, layout.channels), _check_known(self.known, layout)
        stencil, image, residual = self._solve(array, layout, observed, known)
        metadata = {"kind": self.kind, "stencil": stencil, "residual": residual}
        for channel, constant, pixels in zip(image, mean, known, strict=True):
            channel += constant if np.isnan(pixels).all() else 0.0
        return PreprocessedImage(layout.from_channels_first(image.astype(np.float32)), None, {"supervision": metadata})

    def _solve(self, array: Array, layout: ImageLayout, observed: Mask, known: Array) -> tuple[Stencil, Array, float]:
        """Return the stencil, the image and the residual. The stencil "auto" becomes that of the smallest residual."""
        choices = _STENCILS[self.kind] if self.stencil == "auto" else (self.stencil,)
        # Every stencil explains an incomplete gradient along a single axis.
        identifiable = self.kind == "gradient" and (len(array) > 1 or observed.all())
        solve_by = _from_gradient if self.kind == "gradient" else _from_laplacian

        def candidate(stencil: Stencil) -> tuple[Stencil, Array, float]:
            operator = Derivatives(stencil, layout.spatial_shape, layout.spacing)
            return stencil, *solve_by(operator, array, observed, known)

        return min(map(candidate, choices if identifiable else choices[:1]), key=lambda one: max(one[2], _ROUNDING))


def preparation(supervision: str | Preprocessor) -> Preprocessor:
    """Return the preprocessor for the argument `supervision` of `fit`, a name or a preprocessor."""
    if isinstance(supervision, str):
        return Supervision(cast(Kind, supervision))
    if not hasattr(supervision, "prepare"):
        raise InputError(
            f'supervision={supervision!r} cannot be used. Use "value", "gradient", "laplacian", or a Supervision.'
        )
    return supervision


def _from_gradient(operator: Derivatives, gradient: Array, observed: Mask, known: Array) -> tuple[Array, float]:
    data = _mirrored(gradient, operator.stencil)
    image = potential(operator, data, ~observed, known)
    return image, _relative(operator.gradient(image) - data, data, observed)


def _from_laplacian(operator: Derivatives, laplacian: Array, observed: Mask, known: Array) -> tuple[Array, float]:
    data = np.where(observed, laplacian[0], 0.0)
    if not observed.all():
        # The Laplacian of an image sums to 0, so the missing part sums to minus the observed part.
        excess = data.reshape(len(data), -1).sum(axis=1) / (~observed).sum()
        data[:, ~observed] = -excess[:, np.newaxis]
    image = solve(operator, -data, None, known)
    return image, _relative(operator.laplacian(image) - data, data, observed & np.isnan(known))


def _mirrored(gradient: Array, stencil: Stencil) -> Array:
    """Convert the border of a gradient to the convention of an image with mirrored edges."""
    if stencil == "exact":
        return gradient
    data = gradient.copy()
    for part, axis in zip(data, range(1, data.ndim), strict=False):
        along = np.moveaxis(part, axis, 0)
        if stencil == "forward":
            along[-1] = 0
        else:
            # numpy takes the full difference to the only neighbour. With a mirrored edge it is half of that.
            along[0] /= 2
            along[-1] /= 2
    return data


def _relative(residual: Array, data: Array, counted: Mask) -> float:
    """Return the root mean square of the residual relative to the data, over the counted pixels, or 0 without data."""
    weights = np.broadcast_to(counted, data.shape)
    size = float(np.mean(np.square(data), where=weights)) if weights.any() else 0.0
    return float(np.sqrt(np.mean(np.square(residual), where=weights) / size)) if size else 0.0


def _check_data(
    kind: Kind,
    data: npt.ArrayLike,
    axes: str | None,
    spacing: float | Sequence[float] | None,
    missing: npt.ArrayLike | None,
) -> tuple[Array, ImageLayout, Mask]:
    """Check derivatives, and bring them to a common layout.

    Returns
    -------
    values : ndarray
        Derivatives, float64, (parts, channels, *spatial), with a single part for a Laplacian.
    layout : ImageLayout
        Layout of the image.
    observed : ndarray
        Mask of the pixels with a usable derivative, bool, (*spatial).
    """
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise InputError(f"the {kind} is not an array of numbers ({error}). Give a regular array.") from None
    if array.dtype.kind not in "uif" or array.size == 0:
        raise InputError(
            f"the {kind} is {array.dtype} of shape {array.shape}. It should be a non-empty array of real numbers."
        )
    parts = array if kind == "gradient" else array[np.newaxis]
    shape = parts.shape[1:]
    if not shape:
        raise InputError("the gradient of an image of one axis has shape (1, pixels). Give gradient[np.newaxis].")
    names = guess_axes(shape) if axes is None else check_axes(axes, shape)
    dimensions = len(names.coordinates)
    if kind == "gradient" and len(parts) != dimensions:
        raise InputError(
            f"the gradient has shape {parts.shape}. For an image with axes {names} its first axis should have "
            f"{dimensions} entries, one for each spatial axis, as in np.stack(np.gradient(image))."
        )
    layout = ImageLayout(names, shape, "float32", check_spacing(spacing, dimensions), (), ())
    if isinstance(data, np.ma.MaskedArray) and missing is None:
        missing = np.ma.getmaskarray(data).any(axis=0) if kind == "gradient" else np.ma.getmaskarray(data)
    observed = ~check_missing(missing, layout)
    values = np.stack([layout.to_channels_first(part) for part in parts]).astype(np.float64)
    bad = int(np.count_nonzero(~np.isfinite(values[..., observed])))
    if bad:
        raise InputError(
            f"the {kind} has {bad} value{'s' if bad > 1 else ''} that cannot be used (NaN or infinite). Mark these "
            "pixels as missing, and they are interpolated."
        )
    return values, layout, observed


def _check_mean(mean: float | Sequence[float] | None, channels: int) -> Array:
    try:
        values = np.broadcast_to(np.asarray(0.0 if mean is None else mean, dtype=np.float64), channels)
    except (TypeError, ValueError):
        values = np.full(1, np.nan)
    if not np.isfinite(values).all():
        raise InputError(
            f"mean={mean!r} cannot be used. Give a finite number, or one for each of the {channels} channels."
        )
    return values


def _check_known(known: npt.ArrayLike | None, layout: ImageLayout) -> Array:
    """Return the known pixels, float64, (channels, *spatial), with NaN for unknown pixels."""
    if known is None:
        return np.full((layout.channels, *layout.spatial_shape), np.nan)
    if isinstance(known, np.ma.MaskedArray):
        known = np.ma.filled(known.astype(np.float64), np.nan)
    array = np.asarray(known)
    if array.dtype.kind not in "uif" or array.shape != layout.shape:
        raise InputError(
            f"known is {array.dtype} of shape {array.shape}. Give numbers of the image's shape {layout.shape}, "
            "with NaN for unknown pixels."
        )
    values: Array = layout.to_channels_first(array).astype(np.float64)
    if np.isinf(values).any() or np.isnan(values).all():
        raise InputError(
            "known has infinite values, or NaN only. It should be finite where it is not NaN, in one pixel at least."
        )
    return values
