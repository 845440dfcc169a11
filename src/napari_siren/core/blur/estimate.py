"""Estimate of the blur of an image from the image alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from napari_siren.core.forward.operator import FWHM
from napari_siren.core.image.filling import interpolated
from napari_siren.core.image.samples import Samples
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.settings.per_axis import per_axis
from napari_siren.errors import ConfigError, InputError

# Smallest number of pixels along an axis: a shorter axis has too few frequencies.
_SHORTEST = 16
# The settings down to _LOWEST were chosen on 16 photos of DIV2K (see docs/guide/observation.md).
# Number of cells along an axis in which the spectrum is averaged. As shares of the Nyquist frequency, their edges are
# (i / _CELLS)^2.
_CELLS = 20
# Standard deviation of the logarithm of a cell's power about the power law of a sharp scene.
_CELL_SPREAD = 0.2
# Mean (Field 1987) and standard deviation of the exponent of that law.
_EXPONENT, _EXPONENT_SPREAD = 2.0, 0.75
# Share of the mean power that is added to the spectrum. Leakage of the window and rounding hide what is below it.
_FLOOR = 1e-5
# The scene must reach this multiple of the noise's power at some frequency. Otherwise there is no estimate.
_LEAST_SIGNAL = 10
# Cycles per axis. Frequencies below hold leakage of the mean through the window, and are left out.
_LOWEST = 2.5
# Largest number of pixels to use. Only the middle of a larger image is used.
_MOST_VALUES = 1 << 22
# Variance of a pixel's area along an axis, in squared pixels: that of a uniform distribution.
_PIXEL_VARIANCE = 1 / 12


def estimate_blur(values: npt.NDArray[np.floating], spacing: Sequence[float] | None = None) -> tuple[float, ...]:
    """Estimate the Gaussian PSF of an image, beyond the area of its pixels.

    The power spectrum of a scene falls as a power of the frequency, with an exponent of about 2 (Field 1987, "Relations
    between the statistics of natural images and the response properties of cortical cells"). A Gaussian PSF makes the
    fall far steeper, and white noise adds a constant. The spectrum is averaged in cells. The model
    log(A f^-a exp(-4 pi^2 sum_i sigma_i^2 f_i^2) + N) is fitted to its logarithm by robust least squares, with a held
    near 2.

    Parameters
    ----------
    values
        Image of shape (channels, *spatial), without missing pixels. The spectra of the channels are averaged.
    spacing
        Size of a pixel along each spatial axis, in a unit in which the scene has the same statistics in all directions.
        None is the same size along all axes.

    Returns
    -------
    tuple of float
        Standard deviation along each spatial axis in pixels. Times `core.forward.operator.FWHM` it is a `psf_width` in
        pixels. It is 0 if no estimate is possible: the axis is shorter than 16 pixels, or the image has no contrast or
        hardly anything but noise.

    Raises
    ------
    InputError
        The values are not finite, or the spacing does not fit them.

    Notes
    -----
    The estimate is a guess from one image, and its power law holds only on average over many images. Its error was
    measured on photos of 256 x 384 pixels that were blurred by a known Gaussian. For a sigma of 1 and more, the error
    is about a tenth (a sixth with 3 % of noise). Below 0.5 the estimate means little, because the camera's own blur and
    the aliasing are as large.

    The estimate is unreliable for smooth or periodic scenes, for scenes of few lines or spots, with strong noise, and
    after sharpening or lossy compression. A blur of another shape (motion, defocus) is approximated by the
    most similar Gaussian. A PSF that was measured or computed is better.
    """
    pictures = np.asarray(values, dtype=np.float64)
    dimensions = pictures.ndim - 1
    if dimensions < 1 or pictures.size == 0 or not np.isfinite(pictures).all():
        raise InputError(
            f"values of shape {pictures.shape} cannot be used. They should be (channels, *spatial), and finite."
        )
    sizes = np.ones(dimensions) if spacing is None else np.asarray(spacing, dtype=np.float64)
    if sizes.shape != (dimensions,) or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise InputError(
            f"spacing={spacing!r} cannot be used. Give {dimensions} positive numbers, one for each spatial axis."
        )
    sigmas = np.zeros(dimensions)
    long = [a for a in range(dimensions) if pictures.shape[a + 1] >= _SHORTEST]
    if long:
        # Axes that are too short for a spectrum serve as further channels.
        pictures = np.moveaxis(pictures, [a + 1 for a in long], range(-len(long), 0))
        pictures = _middle(pictures.reshape(-1, *pictures.shape[-len(long) :]))
        spectrum = _Spectrum.from_pictures(pictures, sizes[long])
        if spectrum is not None:
            sigmas[long] = np.sqrt(np.maximum(spectrum.blur_variances() - _PIXEL_VARIANCE, 0))
    return tuple(float(s) for s in sigmas)


def with_known_blur(config: FitConfig, samples: Samples) -> FitConfig:
    """Replace a `psf_width` of "auto" by an estimate, the mean over the axes.

    If the estimate finds no blur, the observation becomes "box". A task without support for "box", such as
    deconvolution, then has no steps.

    Raises
    ------
    InputError
        The image is too small for the estimate, and the settings are for the removal of the blur (unless
        `FitConfig.strict` is False). Or the width is larger than the image.
    """
    if config.psf_width != "auto":
        _check_width(config.psf_width, samples)
        return config
    spacing = samples.layout.spacing
    sigmas = np.array(estimate_blur(interpolated(samples), spacing))
    widths = [sigma * size for sigma, size in zip(sigmas, spacing, strict=True) if sigma > 0]
    if not widths:
        # Without a blur there is nothing to remove. Other tasks use the area of the pixels.
        task = config.restoration
        steps = config.task_steps if task is not None and "box" in task.observations else 0
        if task is not None and not steps and config.strict and max(samples.layout.spatial_shape) < _SHORTEST:
            raise InputError(
                f"the blur cannot be estimated, because every axis is shorter than {_SHORTEST} pixels. Set psf_width "
                "to the width of the blur. With strict=False, the image is fitted as it is."
            )
        return config.override(observation="box", psf_width=None, task_steps=steps)
    return config.override(psf_width=FWHM * float(np.mean(widths)))


def _check_width(width: float | tuple[float, ...] | None, samples: Samples) -> None:
    """Raise an InputError if a blur is wider than the longest side of the image: its unit is probably another one."""
    if width is None:
        return
    spacing, longest = samples.layout.spacing, max(samples.layout.spatial_shape)
    widest = float((per_axis("psf_width", width, len(spacing), zero=True, error=ConfigError) / spacing).max())
    if widest > longest:
        raise InputError(
            f"psf_width={width} would be {widest:.3g} pixels, and the longest side of the image has {longest}. Give "
            "the width in the unit of the spacing."
        )


@dataclass(frozen=True)
class _Spectrum:
    """A power spectrum, averaged in cells of similar frequencies.

    Parameters
    ----------
    log_power, log_frequency
        (cells,), float64: logarithms of the mean power, and of the frequency in cycles per physical length.
    count
        (cells,), int64: number of frequencies in each cell.
    squares
        (axes, cells), float64: mean of the squared frequency along each axis, in squared cycles per pixel.
    """

    log_power: npt.NDArray[np.float64]
    log_frequency: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]
    squares: npt.NDArray[np.float64]

    @classmethod
    def from_pictures(cls, pictures: npt.NDArray[np.float64], spacing: npt.NDArray[np.float64]) -> _Spectrum | None:
        """Return the mean spectrum of (pictures, *spatial), or None if there is no contrast."""
        shape = pictures.shape[1:]
        window = reduce(np.multiply.outer, [np.hanning(n + 2)[1:-1] for n in shape])
        axes = tuple(range(1, pictures.ndim))
        waves = pictures - (pictures * window).sum(axis=axes, keepdims=True) / window.sum()
        if np.abs(waves).max() <= 1e-12 * np.abs(pictures).max():
            return None
        power = np.square(np.abs(np.fft.rfftn(waves * window, axes=axes))).mean(axis=0)
        power = power / power.mean() + _FLOOR
        per_axis = [*(np.abs(np.fft.fftfreq(n)) for n in shape[:-1]), np.fft.rfftfreq(shape[-1])]
        selection = reduce(np.logical_or.outer, [f > _LOWEST / n for f, n in zip(per_axis, shape, strict=True)])
        cells = reduce(
            lambda cell, f: (
                cell[..., np.newaxis] * _CELLS + np.minimum(np.sqrt(2 * f) * _CELLS, _CELLS - 1).astype(int)
            ),
            per_axis,
            np.zeros((), dtype=int),
        )
        _, cell, count = np.unique(cells[selection], return_inverse=True, return_counts=True)
        mean = np.bincount(cell, power[selection]) / count
        grids = np.meshgrid(*(np.square(f) for f in per_axis), indexing="ij")
        squares = np.stack([np.bincount(cell, grid[selection]) / count for grid in grids])
        return cls(np.log(mean), np.log(np.square(1 / spacing) @ squares) / 2, count, squares)

    def blur_variances(self) -> npt.NDArray[np.float64]:
        """Fit the variance of the blur along each axis, in squared pixels. It is 0 if noise hides the scene."""
        weight = 1 / np.sqrt(_CELL_SPREAD**2 + 1 / self.count)
        stiffness = np.sqrt(self.log_power.size) / _EXPONENT_SPREAD

        def signal(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            fall: npt.NDArray[np.float64] = p[0] - p[1] * self.log_frequency - 4 * np.pi**2 * (p[3:] @ self.squares)
            return fall

        def residuals(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
            misfit = (np.logaddexp(signal(p), p[2]) - self.log_power) * weight
            return np.append(misfit, (p[1] - _EXPONENT) * stiffness)

        scale = np.median(self.log_power + _EXPONENT * self.log_frequency)
        start = [scale, _EXPONENT, self.log_power.min(), *(1.0 for _ in self.squares)]
        lowest = [-np.inf, 0, -np.inf, *(0.0 for _ in self.squares)]
        solution = least_squares(residuals, start, loss="soft_l1", bounds=(lowest, np.inf)).x
        variances: npt.NDArray[np.float64] = solution[3:]
        return variances if signal(solution).max() > solution[2] + np.log(_LEAST_SIGNAL) else np.zeros_like(variances)


def _middle(pictures: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Crop large pictures to their middle, by halving the longest axis again and again."""
    while pictures[0].size > _MOST_VALUES:
        axis = int(np.argmax(pictures.shape[1:])) + 1
        n = pictures.shape[axis]
        pictures = pictures.take(range(n // 4, n // 4 + n // 2), axis=axis)
    return pictures
