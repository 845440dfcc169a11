"""`ForwardOperator`: a linear map from fine samples of the continuous field to pixels, and its adjoint.

Samples and pixels cover the same extent. Every kind of observation is a short sum of separable terms. Each term has an
`AxisKernel` for each axis.
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

from napari_siren.core.forward.kernels import AxisKernel, CubicKernel, GaussianKernel, band_weights, profile_weights
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.settings.per_axis import per_axis
from napari_siren.errors import ConfigError, InputError

Kind = Literal["point", "box", "gaussian", "bicubic", "measured"]
KINDS: tuple[str, ...] = get_args(Kind)

# Full width at half maximum of a Gaussian, in standard deviations: its exact value.
FWHM = math.sqrt(8 * math.log(2))
# Largest error of a measured PSF after its separation into terms, relative to the root of its sum of squares.
SEPARATION_ERROR = 1e-3
# Smallest weight of a measured PSF within the image. A pixel with less has no meaningful value.
_LEAST_WEIGHT = 1e-3
# Largest number of weights along an axis that are applied as a dense matrix. For larger ones, only the samples within
# reach are used, for so many pixels at a time.
_DENSE, _BAND_ROWS = 1 << 19, 256


@dataclass(frozen=True)
class ForwardOperator:
    """A linear map from fine samples of a field to pixels.

    Nothing beyond the image's edge contributes. The weights within the image are divided by their sum, as in Pillow, so
    that a constant stays the same constant.

    Parameters
    ----------
    kind
        Kind of observation, as in `from_kind`.
    terms
        Terms of the map, which is their sum. Each term has a kernel for each axis.

    Examples
    --------
    >>> import torch
    >>> from napari_siren.core.forward.operator import ForwardOperator
    >>> box = ForwardOperator.from_kind("box", dimensions=1)
    >>> box.matrix(axis=0, fine=3, pixels=2)
    tensor([[0.6667, 0.3333, 0.0000],
            [0.0000, 0.3333, 0.6667]])
    >>> ForwardOperator.from_kind("bicubic", dimensions=2)(torch.rand(3, 64, 48), (20, 15)).shape
    torch.Size([3, 20, 15])
    """

    kind: Kind
    terms: tuple[tuple[AxisKernel, ...], ...]

    @classmethod
    def from_kind(
        cls,
        kind: Kind,
        dimensions: int,
        *,
        spacing: float | Sequence[float] | None = None,
        psf_width: float | Sequence[float] | None = None,
        area: bool | Sequence[bool] = True,
        psf: npt.ArrayLike | None = None,
        psf_spacing: float | Sequence[float] | None = None,
    ) -> ForwardOperator:
        """Return the forward operator of a kind of observation.

        Parameters
        ----------
        kind
            Kind of observation. ``"point"``: the value at the pixel's centre, by cubic interpolation between samples.
            ``"box"``: the mean over the pixel's area. ``"gaussian"``: the same mean of the field blurred by a Gaussian
            PSF. ``"bicubic"``: cubic interpolation with a kernel stretched against aliasing, as in the resizing of
            Pillow and MATLAB. ``"measured"``: the PSF is given as an array.
        dimensions
            Number of spatial axes.
        spacing
            Physical size of a pixel: a number, or one for each axis. If None, all lengths are in pixels.
        psf_width
            For "gaussian": full width at half maximum, in the unit of `spacing`, a number or one for each axis. It is a
            standard deviation times `FWHM`. Measurements on beads and the formulas of optics use this width.
        area
            For "gaussian": whether a pixel integrates over its area, as that of a camera does. A bool, or one for each
            axis. Use False for an axis that was sampled at points, such as the axis of a stack's slices.
        psf
            For "measured": the instrument's image of a point, an array with an axis for each spatial axis. It includes
            the pixel's area. The point is at index n // 2 of each axis. The array is divided by its sum.
        psf_spacing
            For "measured": distance between the samples of `psf` in the unit of `spacing`, a number or one for each
            axis. None means the distance between pixels.

        Raises
        ------
        ConfigError
            The kind is unknown, a width or a spacing is invalid, or a setting belongs to another kind.
        InputError
            The PSF has the wrong number of axes, values that are not finite, or no positive sum.
        """
        if kind not in KINDS:
            close = difflib.get_close_matches(str(kind), KINDS, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise ConfigError(f"there is no observation {kind!r}{hint} Use one of: {', '.join(KINDS)}.")
        _check_needs(kind, "gaussian", psf_width=psf_width, area=None if area is True else area)
        _check_needs(kind, "measured", psf=psf, psf_spacing=psf_spacing)
        sizes = per_axis("spacing", 1.0 if spacing is None else spacing, dimensions, error=ConfigError)
        if kind == "gaussian":
            return cls(kind, (tuple(_gaussian(psf_width, area, sizes)),))
        if kind == "measured":
            steps = sizes
            if psf_spacing is not None:
                steps = per_axis("psf_spacing", psf_spacing, dimensions, error=ConfigError)
            return cls(kind, tuple(_measured(psf, steps / sizes)))
        profiles: dict[str, AxisKernel] = {
            "point": CubicKernel(0.0),
            "box": GaussianKernel(0.0),
            "bicubic": CubicKernel(1.0),
        }
        return cls(kind, ((profiles[kind],) * dimensions,))

    @property
    def dimensions(self) -> int:
        """Number of spatial axes."""
        return len(self.terms[0])

    def kernel(self) -> Tensor:
        """Return the point spread function on the pixel grid.

        Returns
        -------
        Tensor
            float32, of odd size along each axis, with the point in the middle. It is not negative, and its sum is 1.
        """
        sizes = [2 * math.ceil(max(p.reach(1.0) for p in profiles)) + 1 for profiles in zip(*self.terms, strict=True)]
        whole = torch.zeros(sizes, dtype=torch.float64)
        for profiles in self.terms:
            # The response of all pixels to the sample in the middle.
            columns = [
                p.weights(n // 2 - torch.arange(n, dtype=torch.float64) - 0.5, 1.0)
                for p, n in zip(profiles, sizes, strict=True)
            ]
            whole += reduce(lambda product, column: product[..., None] * column, columns)
        positive = whole.clamp_min(0)
        return (positive / positive.sum()).float()

    def matrix(self, axis: int, fine: int, pixels: int) -> Tensor:
        """Return the weights along one axis of a separable map.

        Parameters
        ----------
        axis
            Index of the spatial axis, from 0.
        fine, pixels
            Number of samples and of pixels along the axis. Either may be larger.

        Returns
        -------
        Tensor
            Weights of shape (pixels, fine), float32. Every row sums to one.

        Raises
        ------
        InputError
            The map is not separable (a measured PSF of more than one term), or a pixel has almost no weight within the
            image.
        """
        if len(self.terms) > 1:
            raise InputError(
                f"the measured PSF is not separable ({len(self.terms)} terms) and has no matrix. Call the operator."
            )
        weights = profile_weights(self.terms[0][axis], *_counts((fine, pixels), 2))
        sums = weights.sum(dim=1, keepdim=True)
        self._check_sums(sums)
        return (weights / sums).float()

    def __call__(self, values: Tensor, shape: Sequence[int]) -> Tensor:
        """Apply the operator: map samples of a field to pixels.

        Parameters
        ----------
        values
            Samples of shape (..., *fine_shape), floating.
        shape
            Number of pixels along each spatial axis.

        Returns
        -------
        Tensor
            Pixels of shape (..., *shape), of the same dtype and on the same device.

        Raises
        ------
        InputError
            The values are not floating or have too few axes, the shape is invalid, or some pixel has almost no weight
            of a measured PSF within the image.
        """
        fine, pixels = self._spatial_shape(values), _counts(shape, self.dimensions)
        if len(self.terms) == 1 and max(math.prod(axis) for axis in zip(fine, pixels, strict=True)) > _DENSE:
            return self._along_large_axes(values, fine, pixels)
        terms, sums = self._matrices(fine, pixels, values)
        return _sum(_along_axes(values, matrices) for matrices in terms) / sums

    def adjoint(self, values: Tensor, fine_shape: Sequence[int]) -> Tensor:
        """Carry pixels back to samples by the transposed map, for gradients and back-projection.

        Parameters
        ----------
        values
            Pixels of shape (..., *shape), floating.
        fine_shape
            Number of samples along each spatial axis.

        Returns
        -------
        Tensor
            Samples of shape (..., *fine_shape), of the same dtype and on the same device. Their inner product with any
            samples x equals that of `values` with the operator applied to x.

        Raises
        ------
        InputError
            The same errors as those of the operator itself.
        """
        terms, sums = self._matrices(_counts(fine_shape, self.dimensions), self._spatial_shape(values), values)
        shares = values / sums
        return _sum(_along_axes(shares, [m.T for m in matrices]) for matrices in terms)

    def _along_large_axes(self, values: Tensor, fine_shape: Sequence[int], shape: Sequence[int]) -> Tensor:
        """Apply a separable operator without its matrices: they would be as large as the image."""
        bands = [band_weights(*axis) for axis in zip(self.terms[0], fine_shape, shape, strict=True)]
        sums = [weights.sum(dim=1, keepdim=True) for _, weights in bands]
        self._check_sums(torch.stack([along.min() for along in sums]).prod())
        for axis, ((cells, weights), along) in enumerate(zip(bands, sums, strict=True), start=-len(shape)):
            values = _along_axis(values, axis, cells, weights / along)
        return values

    def _matrices(
        self, fine_shape: Sequence[int], shape: Sequence[int], like: Tensor
    ) -> tuple[list[list[Tensor]], Tensor]:
        """Return the weights of each term along each axis, and the sum of every pixel's weights, (*shape)."""
        terms = [[profile_weights(*axis) for axis in zip(term, fine_shape, shape, strict=True)] for term in self.terms]
        sums = _sum(_outer([m.sum(dim=1) for m in matrices]) for matrices in terms)
        self._check_sums(sums)
        return [[matrix.to(like) for matrix in matrices] for matrices in terms], sums.to(like)

    def _check_sums(self, sums: Tensor) -> None:
        if self.kind == "measured" and bool((sums < _LEAST_WEIGHT).any()):
            raise InputError(
                "some pixels have almost no weight of the PSF within the image. "
                "Centre the PSF in its array, or crop it."
            )

    def _spatial_shape(self, values: Tensor) -> tuple[int, ...]:
        if not values.is_floating_point() or values.ndim < self.dimensions:
            raise InputError(
                f"the values are {values.dtype} of shape {tuple(values.shape)}. "
                f"They should be floating, with {self.dimensions} spatial axes at the end."
            )
        return _counts(values.shape[values.ndim - self.dimensions :], self.dimensions)


def pixel_model(config: FitConfig, spacing: Sequence[float]) -> ForwardOperator:
    """Return the forward operator for the settings of a fit and the spacing of an image.

    "bicubic" is for pictures, and becomes "box" for the voxels of a stack. A `psf_width` of "auto" must have been
    replaced by `core.blur.estimate.with_known_blur`.
    """
    width = config.psf_width
    assert width != "auto"
    unit = None if width is None else spacing
    kind = "box" if config.observation == "bicubic" and len(spacing) == 3 else config.observation
    return ForwardOperator.from_kind(kind, len(spacing), spacing=unit, psf_width=width, psf=config.psf)


def _along_axes(values: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Apply a matrix to each of the last axes."""
    for axis, matrix in enumerate(matrices, start=-len(matrices)):
        values = (values.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return values


def _along_axis(values: Tensor, axis: int, cells: Tensor, weights: Tensor) -> Tensor:
    """Apply the bands of `band_weights` to an axis, some pixels at a time."""
    columns = values.movedim(axis, -2) if axis < -1 else values
    ends = (len(cells), columns.shape[-1]) if axis < -1 else (columns.shape[-2], len(cells))
    result = values.new_empty((*columns.shape[:-2], *ends))
    for start in range(0, len(cells), _BAND_ROWS):
        part = slice(start, start + _BAND_ROWS)
        low, high = int(cells[part].min()), int(cells[part].max()) + 1
        rows = values.new_zeros(len(cells[part]), high - low)
        rows.scatter_(1, (cells[part] - low).to(values.device), weights[part].to(values))
        if axis < -1:
            result[..., part, :] = rows @ columns[..., low:high, :]
        else:
            result[..., part] = columns[..., low:high] @ rows.T
    return result.movedim(-2, axis) if axis < -1 else result


def _sum(tensors: Iterable[Tensor]) -> Tensor:
    # The tensors are added one by one, so that there are never more than two in memory.
    return reduce(torch.add, tensors)


def _outer(vectors: Sequence[Tensor]) -> Tensor:
    return reduce(lambda product, vector: product[..., None] * vector, vectors)


def _gaussian(width: Any, area: bool | Sequence[bool], sizes: npt.NDArray[np.float64]) -> Iterator[AxisKernel]:
    """Return the kernel of a Gaussian PSF along each axis."""
    if width is None:
        raise ConfigError('observation "gaussian" needs psf_width. Give the full width of the PSF at half maximum.')
    sigmas = per_axis("psf_width", width, len(sizes), zero=True, error=ConfigError) / sizes / FWHM
    areas = np.atleast_1d(np.asarray(area))
    if areas.dtype != bool or areas.shape not in ((1,), sigmas.shape):
        raise ConfigError(f"area={area!r} is not valid. Give one bool, or {len(sizes)}, one for each axis.")
    for sigma, has_area in zip(sigmas, np.broadcast_to(areas, sigmas.shape), strict=True):
        if sigma == 0 and not has_area:
            raise ConfigError("psf_width is 0 along an axis with area=False. Give a positive width there.")
        yield GaussianKernel(float(sigma), bool(has_area))


def _measured(psf: Any, spacing: npt.NDArray[np.float64]) -> Iterator[tuple[AxisKernel, ...]]:
    """Return the terms of a measured PSF with samples `spacing` pixels apart."""
    if psf is None:
        raise ConfigError('observation "measured" needs psf. Give an array with an axis for each spatial axis.')
    try:
        array = np.asarray(psf, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("psf is not an array of numbers. Give the PSF as a numeric array.") from None
    if array.ndim != len(spacing) or array.size == 0:
        raise InputError(f"psf has the shape {array.shape}. {len(spacing)} axes are needed, one for each spatial axis.")
    if not np.isfinite(array).all():
        raise InputError("psf has values that are not finite. Replace them, for example by 0.")
    if not array.sum() > 0:
        raise InputError("psf has no positive sum. Subtract the background from it, but not more.")
    for vectors in _separate(array / array.sum()):
        yield tuple(CubicKernel(float(s), tuple(v.tolist())) for s, v in zip(spacing, vectors, strict=True))


def _separate(array: npt.NDArray[np.float64]) -> list[list[npt.NDArray[np.float64]]]:
    """Separate an array into outer products of one vector for each axis, as few as `SEPARATION_ERROR` allows."""
    terms = sorted(_outer_products(array), key=_size)
    squares = np.cumsum([_size(vectors) ** 2 for vectors in terms])
    # The terms are orthogonal to one another, so that their sums of squares add.
    return terms[int(np.searchsorted(squares, SEPARATION_ERROR**2 * squares[-1])) :]


def _outer_products(array: npt.NDArray[np.float64]) -> Iterator[list[npt.NDArray[np.float64]]]:
    """Decompose an array into orthogonal outer products by repeated singular value decomposition."""
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
            raise ConfigError(
                f'{name} is only for the observation "{owner}", not for "{kind}". '
                "Leave it out, or change the observation."
            )


def _counts(shape: Sequence[int], dimensions: int) -> tuple[int, ...]:
    counts = tuple(int(n) for n in shape)
    if len(counts) != dimensions or counts != tuple(shape) or min(counts) < 1:
        raise InputError(f"shape {tuple(shape)} is not valid. {dimensions} whole numbers of 1 or more are needed.")
    return counts
