"""How blurred an image is, estimated from the image alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from napari_siren.core.config import FitConfig
from napari_siren.core.forward.operator import FWHM
from napari_siren.core.image.samples import Samples
from napari_siren.errors import InputError

# An axis shorter than this has too few frequencies.
_SHORTEST = 16
# The spectrum is averaged in cells; their edges, as shares of the Nyquist frequency, are (i / _CELLS)^2.
_CELLS = 20
# How far the spectrum of a sharp scene strays from its law: of the logarithm of a cell's power, and of the exponent.
_CELL_SPREAD = 0.2
_EXPONENT, _EXPONENT_SPREAD = 2.0, 0.75
# Power below this share of the mean is lost in what the window and the rounding leave.
_FLOOR = 1e-5
# Nothing can be told where the scene does not reach so many times the noise's power at any frequency.
_LEAST_SIGNAL = 10
# Frequencies below so many cycles per axis hold what the window spreads of the mean.
_LOWEST = 2.5
# Of larger images the middle is looked at.
_MOST_VALUES = 1 << 22
# Variance of a pixel's area along an axis.
_PIXEL_VARIANCE = 1 / 12


def estimate_blur(values: npt.NDArray[np.floating], spacing: Sequence[float] | None = None) -> tuple[float, ...]:
    """Estimate the Gaussian PSF that an image was blurred by, beyond the area of its pixels.

    The power spectrum of a scene falls as a power of the frequency, about the second (Field 1987, "Relations between
    the statistics of natural images and the response properties of cortical cells"), a Gaussian PSF turns that into a
    far steeper fall, and white noise adds a constant: log(A f^-a exp(-4 pi^2 sum_i sigma_i^2 f_i^2) + N) is fitted to
    the logarithm of the spectrum, averaged in cells, by robust least squares, with a held near 2.

    Parameters
    ----------
    values
        (channels, *spatial), without missing pixels; the spectrum is the mean of those of the channels.
    spacing
        Size of a pixel along each spatial axis, in which the scene is taken to be alike in all directions; None is the
        same for all.

    Returns
    -------
    tuple of float
        For each spatial axis the standard deviation in pixels, which times `observation.FWHM` is a `psf_width` in
        pixels. 0 where it cannot be told: an axis shorter than 16 pixels, no contrast, or next to nothing but noise.

    Raises
    ------
    InputError
        Values that are not finite, or a spacing that does not fit.

    Notes
    -----
    It is a guess from one image and a law that holds for many in the mean. On photos of 256 x 384 pixels that were
    blurred by a known Gaussian it is off by about a tenth for a sigma of 1 and more (a sixth with 3 % of noise), and
    tells little below 0.5, where the camera's own blur and the aliasing are as large. A smooth or periodic scene, one
    of few lines or spots, strong noise, sharpening, and lossy compression lead it astray; so does a blur of another
    shape (motion, defocus), which it gives as the Gaussian that is most alike. Where the PSF can be measured or
    computed, that is better.
    """
    pictures = np.asarray(values, dtype=np.float64)
    dimensions = pictures.ndim - 1
    if dimensions < 1 or pictures.size == 0 or not np.isfinite(pictures).all():
        raise InputError(f"values of shape {pictures.shape} should be (channels, *spatial), and all of them finite.")
    sizes = np.ones(dimensions) if spacing is None else np.asarray(spacing, dtype=np.float64)
    if sizes.shape != (dimensions,) or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise InputError(f"spacing={spacing!r}: {dimensions} positive numbers are needed, one for each spatial axis.")
    sigmas = np.zeros(dimensions)
    long = [a for a in range(dimensions) if pictures.shape[a + 1] >= _SHORTEST]
    if long:
        # What is too short to have a spectrum is as good as more channels.
        pictures = np.moveaxis(pictures, [a + 1 for a in long], range(-len(long), 0))
        pictures = _middle(pictures.reshape(-1, *pictures.shape[-len(long) :]))
        spectrum = _Spectrum.of(pictures, sizes[long])
        if spectrum is not None:
            sigmas[long] = np.sqrt(np.maximum(spectrum.blur_variances() - _PIXEL_VARIANCE, 0))
    return tuple(float(s) for s in sigmas)


def with_known_blur(config: FitConfig, samples: Samples) -> FitConfig:
    """Put an estimate in the place of a `psf_width` of "auto": the mean over the axes; "box" where there is no blur.

    Raises
    ------
    InputError
        Pixels are missing, so that there is no spectrum to go by.
    """
    if config.psf_width != "auto":
        return config
    if not samples.observed.all():
        raise InputError('psf_width="auto" needs an image without missing pixels; give the width as a number.')
    spacing = samples.format.spacing
    sigmas = np.array(estimate_blur(samples.values, spacing))
    told = [sigma * size for sigma, size in zip(sigmas, spacing, strict=True) if sigma > 0]
    if not told:
        return config.override(observation="box", psf_width=None, deconvolution_steps=0)
    return config.override(psf_width=FWHM * float(np.mean(told)))


@dataclass(frozen=True)
class _Spectrum:
    """Power spectrum averaged in cells of similar frequencies.

    Parameters
    ----------
    log_power, log_frequency, count
        (cells,): logarithm of the mean power, and of the frequency in cycles per physical length; how many frequencies.
    squares
        (axes, cells): mean of the squared frequency along each axis, in cycles per pixel.
    """

    log_power: npt.NDArray[np.float64]
    log_frequency: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]
    squares: npt.NDArray[np.float64]

    @classmethod
    def of(cls, pictures: npt.NDArray[np.float64], spacing: npt.NDArray[np.float64]) -> _Spectrum | None:
        """Take the spectrum of (pictures, *spatial), their mean; None where there is no contrast."""
        shape = pictures.shape[1:]
        window = reduce(np.multiply.outer, [np.hanning(n + 2)[1:-1] for n in shape])
        axes = tuple(range(1, pictures.ndim))
        waves = pictures - (pictures * window).sum(axis=axes, keepdims=True) / window.sum()
        if np.abs(waves).max() <= 1e-12 * np.abs(pictures).max():
            return None
        power = np.square(np.abs(np.fft.rfftn(waves * window, axes=axes))).mean(axis=0)
        power = power / power.mean() + _FLOOR
        per_axis = [*(np.abs(np.fft.fftfreq(n)) for n in shape[:-1]), np.fft.rfftfreq(shape[-1])]
        told = reduce(np.logical_or.outer, [f > _LOWEST / n for f, n in zip(per_axis, shape, strict=True)])
        cells = reduce(
            lambda cell, f: (
                cell[..., np.newaxis] * _CELLS + np.minimum(np.sqrt(2 * f) * _CELLS, _CELLS - 1).astype(int)
            ),
            per_axis,
            np.zeros((), dtype=int),
        )
        _, cell, count = np.unique(cells[told], return_inverse=True, return_counts=True)
        mean = np.bincount(cell, power[told]) / count
        grids = np.meshgrid(*(np.square(f) for f in per_axis), indexing="ij")
        squares = np.stack([np.bincount(cell, grid[told]) / count for grid in grids])
        return cls(np.log(mean), np.log(np.square(1 / spacing) @ squares) / 2, count, squares)

    def blur_variances(self) -> npt.NDArray[np.float64]:
        """Fit the variance of the blur along each axis, in squared pixels; 0 where noise hides the scene."""
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
        found = least_squares(residuals, start, loss="soft_l1", bounds=(lowest, np.inf)).x
        variances: npt.NDArray[np.float64] = found[3:]
        return variances if signal(found).max() > found[2] + np.log(_LEAST_SIGNAL) else np.zeros_like(variances)


def _middle(pictures: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Cut the middle out of what is too large, halving the longest axis."""
    while pictures[0].size > _MOST_VALUES:
        axis = int(np.argmax(pictures.shape[1:])) + 1
        n = pictures.shape[axis]
        pictures = pictures.take(range(n // 4, n // 4 + n // 2), axis=axis)
    return pictures
