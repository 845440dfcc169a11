"""How a pixel sees the continuous field: a linear map from fine samples to pixels, and its adjoint.

Samples and pixels cover the same extent. Every kind of observation is a short sum of terms that are separable, each of
them a `Profile` for each axis.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.config import FitConfig
from napari_siren.core.forward.kernels import Integrated, Profile, Sampled, profile_weights
from napari_siren.errors import ConfigError, InputError

Kind = Literal["point", "box", "gaussian", "bicubic", "measured"]
KINDS: tuple[str, ...] = get_args(Kind)

# Full width at half maximum of a Gaussian, in standard deviations.
FWHM = math.sqrt(8 * math.log(2))
# A measured PSF is taken apart into separable terms up to this error, relative to its root of the sum of squares.
SEPARATION_ERROR = 1e-3
# A pixel that has less of a measured PSF's weight within the image has no value that could be told.
_LEAST_SEEN = 1e-3


@dataclass(frozen=True)
class Observation:
    """A linear map from fine samples of a field to the pixels that see it.

    What lies beyond the image's edge is not seen: the weights that are left are divided by their sum, as Pillow does,
    so that a constant stays the same constant.

    Parameters
    ----------
    kind
        What it was made as.
    terms
        Their sum is the map; a profile for each axis.

    Examples
    --------
    >>> import torch
    >>> from napari_siren.core.forward.operator import Observation
    >>> box = Observation.of("box", dimensions=1)
    >>> box.matrix(axis=0, fine=3, pixels=2)
    tensor([[0.6667, 0.3333, 0.0000],
            [0.0000, 0.3333, 0.6667]])
    >>> Observation.of("bicubic", dimensions=2)(torch.rand(3, 64, 48), (20, 15)).shape
    torch.Size([3, 20, 15])
    """

    kind: Kind
    terms: tuple[tuple[Profile, ...], ...]

    @classmethod
    def of(
        cls,
        kind: Kind,
        dimensions: int,
        *,
        spacing: float | Sequence[float] | None = None,
        psf_width: float | Sequence[float] | None = None,
        area: bool | Sequence[bool] = True,
        psf: npt.ArrayLike | None = None,
        psf_spacing: float | Sequence[float] | None = None,
    ) -> Observation:
        """Say how a pixel sees the field.

        Parameters
        ----------
        kind
            ``"point"``, the value at the pixel's centre, between samples by cubic interpolation; ``"box"``, the mean
            over the pixel's area; ``"gaussian"``, that of the field blurred by a Gaussian PSF; ``"bicubic"``, cubic
            interpolation with the kernel stretched so that there is no aliasing, as Pillow's and MATLAB's resizing;
            ``"measured"``, the PSF given as an array.
        dimensions
            Number of spatial axes.
        spacing
            Physical size of a pixel: a number, or one for each axis. None gives all lengths in pixels.
        psf_width
            For "gaussian": full width at half maximum, since this is what is measured on a bead and what the formulas
            of optics give; a standard deviation times `FWHM`. A number or one for each axis, in the unit of `spacing`.
        area
            For "gaussian": whether a pixel integrates over its area (a camera's does); a bool or one for each axis.
            False for an axis that was sampled at points, such as that of the slices of a stack.
        psf
            For "measured": array with an axis for each spatial one. What a point is seen as by the instrument, so
            that the pixel's area is in it; the point is at index n // 2 of each axis. It is divided by its sum.
        psf_spacing
            For "measured": distance of the samples of `psf`, a number or one for each axis, in the unit of `spacing`.
            None where they are as far apart as pixels.

        Raises
        ------
        ConfigError
            An unknown kind, a width or a spacing that cannot be, or a setting of another kind.
        InputError
            A PSF of the wrong number of axes, with values that are not finite, or without a positive sum.
        """
        if kind not in KINDS:
            close = difflib.get_close_matches(str(kind), KINDS, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise ConfigError(f"there is no observation {kind!r}{hint} There are: {', '.join(KINDS)}.")
        _check_needs(kind, "gaussian", psf_width=psf_width, area=None if area is True else area)
        _check_needs(kind, "measured", psf=psf, psf_spacing=psf_spacing)
        sizes = _lengths("spacing", 1.0 if spacing is None else spacing, dimensions)
        if kind == "gaussian":
            return cls(kind, (tuple(_gaussian(psf_width, area, sizes)),))
        if kind == "measured":
            steps = sizes if psf_spacing is None else _lengths("psf_spacing", psf_spacing, dimensions)
            return cls(kind, tuple(_measured(psf, steps / sizes)))
        profiles: dict[str, Profile] = {"point": Sampled(0.0), "box": Integrated(0.0), "bicubic": Sampled(1.0)}
        return cls(kind, ((profiles[kind],) * dimensions,))

    @property
    def dimensions(self) -> int:
        """Number of spatial axes."""
        return len(self.terms[0])

    def kernel(self) -> Tensor:
        """Return what a point is seen as, where samples are as far apart as pixels.

        Returns
        -------
        Tensor
            float32, odd along each axis, the point in the middle; not negative, and of sum 1.
        """
        sizes = [2 * math.ceil(max(p.reach(1.0) for p in profiles)) + 1 for profiles in zip(*self.terms, strict=True)]
        whole = torch.zeros(sizes, dtype=torch.float64)
        for profiles in self.terms:
            # A column of the weights: all pixels that see the sample in the middle.
            columns = [profile_weights(p, n, n)[:, n // 2] for p, n in zip(profiles, sizes, strict=True)]
            whole += reduce(lambda product, column: product[..., None] * column, columns)
        kept = whole.clamp_min(0)
        return (kept / kept.sum()).float()

    def matrix(self, axis: int, fine: int, pixels: int) -> Tensor:
        """Weights along one axis, where the map is separable.

        Parameters
        ----------
        axis
            Spatial axis, from 0 on.
        fine, pixels
            Number of samples and of pixels of the axis; either may be the larger.

        Returns
        -------
        Tensor
            (pixels, fine), float32, every row summing to one.

        Raises
        ------
        InputError
            The map is not separable (a measured PSF that took more than one term), or some pixel sees next to nothing.
        """
        if len(self.terms) > 1:
            raise InputError(f"the measured PSF is not separable ({len(self.terms)} terms): there is no matrix of it.")
        weights = profile_weights(self.terms[0][axis], *_counts((fine, pixels), 2))
        seen = weights.sum(dim=1, keepdim=True)
        self._check_seen(seen)
        return (weights / seen).float()

    def __call__(self, values: Tensor, shape: Sequence[int]) -> Tensor:
        """See a field: from samples to pixels.

        Parameters
        ----------
        values
            (..., *fine_shape), floating.
        shape
            Number of pixels along each spatial axis.

        Returns
        -------
        Tensor
            (..., *shape), of the same dtype and on the same device.

        Raises
        ------
        InputError
            Values that are not floating or have too few axes, a shape that cannot be, or a measured PSF of which
            some pixel sees next to nothing within the image.
        """
        terms, seen = self._matrices(self._spatial_shape(values), _counts(shape, self.dimensions), values)
        return _sum(_along_axes(values, matrices) for matrices in terms) / seen

    def adjoint(self, values: Tensor, fine_shape: Sequence[int]) -> Tensor:
        """Carry pixels back to samples by the transposed map, for gradients and back-projection.

        Parameters
        ----------
        values
            (..., *shape), floating.
        fine_shape
            Number of samples along each spatial axis.

        Returns
        -------
        Tensor
            (..., *fine_shape), of the same dtype and on the same device; its inner product with any samples is that
            of `values` with what is seen of them.

        Raises
        ------
        InputError
            As for the map itself.
        """
        terms, seen = self._matrices(_counts(fine_shape, self.dimensions), self._spatial_shape(values), values)
        shares = values / seen
        return _sum(_along_axes(shares, [m.T for m in matrices]) for matrices in terms)

    def _matrices(
        self, fine_shape: Sequence[int], shape: Sequence[int], like: Tensor
    ) -> tuple[list[list[Tensor]], Tensor]:
        """Return the weights of each term along each axis, and what every pixel sees in all, (*shape)."""
        terms = [[profile_weights(*axis) for axis in zip(term, fine_shape, shape, strict=True)] for term in self.terms]
        seen = _sum(_outer([m.sum(dim=1) for m in matrices]) for matrices in terms)
        self._check_seen(seen)
        return [[matrix.to(like) for matrix in matrices] for matrices in terms], seen.to(like)

    def _check_seen(self, seen: Tensor) -> None:
        if self.kind == "measured" and bool((seen < _LEAST_SEEN).any()):
            raise InputError("some pixels see next to nothing of the image: centre the PSF in its array, or crop it.")

    def _spatial_shape(self, values: Tensor) -> tuple[int, ...]:
        if not values.is_floating_point() or values.ndim < self.dimensions:
            raise InputError(
                f"values should be floating with {self.dimensions} spatial axes at the end, not {values.dtype} "
                f"of shape {tuple(values.shape)}."
            )
        return _counts(values.shape[values.ndim - self.dimensions :], self.dimensions)


def pixel_model(config: FitConfig, spacing: Sequence[float]) -> Observation:
    """Return the observation that the settings of a fit name, for an image of that spacing.

    "bicubic" is about pictures; the voxels of a stack are taken for "box". A `psf_width` of "auto" must have been
    replaced by `blur.with_known_blur`.
    """
    width = config.psf_width
    assert width != "auto"
    unit = None if width is None else spacing
    kind = "box" if config.observation == "bicubic" and len(spacing) == 3 else config.observation
    return Observation.of(kind, len(spacing), spacing=unit, psf_width=width, psf=config.psf)


def _along_axes(values: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Apply a matrix to each of the last axes."""
    for axis, matrix in enumerate(matrices, start=-len(matrices)):
        values = (values.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return values


def _sum(tensors: Iterable[Tensor]) -> Tensor:
    # One after the other, so that there are never more than two.
    return reduce(torch.add, tensors)


def _outer(vectors: Sequence[Tensor]) -> Tensor:
    return reduce(lambda product, vector: product[..., None] * vector, vectors)


def _gaussian(width: Any, area: bool | Sequence[bool], sizes: npt.NDArray[np.float64]) -> Iterator[Profile]:
    """Return the profile of a Gaussian PSF along each axis."""
    if width is None:
        raise ConfigError('observation "gaussian" needs psf_width, the full width of the PSF at half maximum.')
    sigmas = _lengths("psf_width", width, len(sizes), zero=True) / sizes / FWHM
    areas = np.atleast_1d(np.asarray(area))
    if areas.dtype != bool or areas.shape not in ((1,), sigmas.shape):
        raise ConfigError(f"area={area!r}: true or false is needed, or {len(sizes)} of them, one for each axis.")
    for sigma, has_area in zip(sigmas, np.broadcast_to(areas, sigmas.shape), strict=True):
        if sigma == 0 and not has_area:
            raise ConfigError("psf_width must be positive along an axis with area=False.")
        yield Integrated(float(sigma), bool(has_area))


def _measured(psf: Any, spacing: npt.NDArray[np.float64]) -> Iterator[tuple[Profile, ...]]:
    """Return the terms of a measured PSF, whose samples are `spacing` pixels apart."""
    if psf is None:
        raise ConfigError('observation "measured" needs psf, an array with an axis for each spatial one.')
    try:
        array = np.asarray(psf, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("psf is not an array of numbers.") from None
    if array.ndim != len(spacing) or array.size == 0:
        raise InputError(f"psf has the shape {array.shape}: {len(spacing)} axes are needed, one for each spatial one.")
    if not np.isfinite(array).all():
        raise InputError("psf has values that are not finite.")
    if not array.sum() > 0:
        raise InputError("psf must have a positive sum: take the background out of it, but not more.")
    for vectors in _separate(array / array.sum()):
        yield tuple(Sampled(float(s), tuple(v.tolist())) for s, v in zip(spacing, vectors, strict=True))


def _separate(array: npt.NDArray[np.float64]) -> list[list[npt.NDArray[np.float64]]]:
    """Take an array apart into as few outer products of a vector for each axis as `SEPARATION_ERROR` allows."""
    terms = sorted(_outer_products(array), key=_size)
    squares = np.cumsum([_size(vectors) ** 2 for vectors in terms])
    # The terms are orthogonal to one another, so that their squares add.
    return terms[int(np.searchsorted(squares, SEPARATION_ERROR**2 * squares[-1])) :]


def _outer_products(array: npt.NDArray[np.float64]) -> Iterator[list[npt.NDArray[np.float64]]]:
    """Return orthogonal outer products that sum to an array, by one singular value decomposition after the other."""
    if array.ndim == 1:
        yield [array]
        return
    left, sizes, right = np.linalg.svd(array.reshape(len(array), -1), full_matrices=False)
    for column, size, row in zip(left.T, sizes, right, strict=True):
        for rest in _outer_products(row.reshape(array.shape[1:])):
            yield [column * size, *rest]


def _size(vectors: Sequence[npt.NDArray[np.float64]]) -> float:
    return math.prod(float(np.linalg.norm(v)) for v in vectors)


def _check_needs(kind: str, owner: str, **settings: Any) -> None:
    for name, value in settings.items():
        if value is not None and kind != owner:
            raise ConfigError(f'{name} goes with the observation "{owner}", not with "{kind}".')


def _counts(shape: Sequence[int], dimensions: int) -> tuple[int, ...]:
    counts = tuple(int(n) for n in shape)
    if len(counts) != dimensions or counts != tuple(shape) or min(counts) < 1:
        raise InputError(f"shape {tuple(shape)}: {dimensions} whole numbers of 1 or more are needed.")
    return counts


def _lengths(name: str, value: Any, dimensions: int, zero: bool = False) -> npt.NDArray[np.float64]:
    """Return one length for each axis, positive and finite (or zero, where that is allowed)."""
    try:
        lengths = np.atleast_1d(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        lengths = np.full(1, np.nan)
    if lengths.shape not in ((1,), (dimensions,)):
        raise ConfigError(f"{name}={value!r}: a number is needed, or {dimensions} of them, one for each axis.")
    if not (np.isfinite(lengths) & (lengths >= 0) & (zero | (lengths > 0))).all():
        raise ConfigError(
            f"{name}={value!r}: it must be {'finite and not negative' if zero else 'positive and finite'}."
        )
    return np.broadcast_to(lengths, (dimensions,))
