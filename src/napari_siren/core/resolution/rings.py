"""`Rings`: correlation of two planes, or of the two halves of one plane, in rings of equal frequency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import fftfreq, rfft2, rfftfreq
from scipy.ndimage import gaussian_filter1d

# Threshold of the correlation of two images (Nieuwenhuizen et al. 2013). The signal has 1/6 of the power of the noise.
_THRESHOLD = 1 / 7
# Standard deviation of the Gaussian that smooths the curve, in rings. With 3, textures of 64 pixels had larger errors.
_SMOOTHING = 2.0
# First ring of the curve. The ring below is within the main lobe of the window about the mean.
_FIRST = 2
# Highest frequency of a curve from one image, in cycles per pixel. The frequencies above hardly differ from their
# aliases.
_HIGHEST = 0.45
# Variance of a correlation with a Hann window, relative to that without a window: (35/128)^2 / (3/8)^4.
_HANN_VARIANCE = 3.78
# Least mean correlation below the resolution, in standard deviations of the mean correlation of noise.
_SIGNIFICANCE = 3.0
# The same for one smoothed ring of two images. With 3, fewer restored images had a figure, and none was better.
_RING_SIGNIFICANCE = 2.0


@dataclass(frozen=True)
class Rings:
    """Rings of equal frequency in the spectrum of a plane.

    Parameters
    ----------
    frequency
        (rings,), float64: frequency of each ring, in cycles per unit of the spacing.
    ring
        (rows, columns // 2 + 1), int64: ring of each coefficient of `rfft2`. Coefficients without one have the number
        of rings.
    count
        (rings,), int64: number of coefficients in each ring.
    split
        Whether one plane is split into two halves.
    longest
        Longer side of a pixel, in the unit of the spacing.
    """

    frequency: npt.NDArray[np.float64]
    ring: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    split: bool
    longest: float

    @classmethod
    def from_plane(cls, shape: Sequence[int], spacing: Sequence[float], *, split: bool) -> Rings:
        """Return the rings of a plane, as wide as one period along its shorter physical side."""
        fy, fx = np.meshgrid(np.abs(fftfreq(shape[0])), rfftfreq(shape[1]), indexing="ij")
        width = 1 / min(n * side for n, side in zip(shape, spacing, strict=True))
        highest = (_HIGHEST if split else 0.5) / max(spacing)
        ring = np.rint(np.hypot(fy / spacing[0], fx / spacing[1]) / width).astype(np.int64) - _FIRST
        number = int(highest / width) - _FIRST
        # The halves of a checkerboard have the frequencies of a diamond. Those outside are their aliases.
        outside = (ring < 0) | (ring >= number) | (split & (fy + fx >= 0.5))
        ring = np.where(outside, number, ring)
        count = np.bincount(ring.ravel(), minlength=number + 1)[:number]
        return cls(np.arange(_FIRST, number + _FIRST, dtype=np.float64) * width, ring, count, split, max(spacing))

    def correlation(self, planes: npt.NDArray[np.generic], others: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
        """Return the smoothed correlation of two whole planes in each ring, averaged over the planes of a stack.

        Parameters
        ----------
        planes, others
            (planes, rows, columns). If the planes are split, `others` is not used.
        """
        mean = np.zeros(len(self.count))
        even = np.add.outer(*(np.arange(n) for n in planes.shape[1:])) % 2 == 0
        for plane, other in zip(planes, others, strict=True):
            first = _windowed(plane)
            pair = (first * even, first * ~even) if self.split else (first, _windowed(other))
            a, b = (rfft2(values) for values in pair)
            cross, power, other_power = (self._sum(v) for v in ((a * b.conj()).real, abs(a) ** 2, abs(b) ** 2))
            scale = np.sqrt(power * other_power)
            mean += np.divide(cross, scale, out=np.zeros_like(cross), where=scale > 0) / len(planes)
        weight = self.count.astype(np.float64)
        smooth = gaussian_filter1d(mean * weight, _SMOOTHING) / gaussian_filter1d(weight, _SMOOTHING)
        return _of_whole(smooth) if self.split else smooth

    def crossing(self, curve: npt.NDArray[np.float64], planes: int) -> tuple[float | None, str | None]:
        """Return the frequency of the first fall of a curve below the threshold, or None and the reason.

        Parameters
        ----------
        curve
            Result of `correlation`.
        planes
            Number of planes over which the curve was averaged.
        """
        below = np.flatnonzero(curve < _THRESHOLD)
        if not below.size:
            pixels = 1 / (self.frequency[-1] * self.longest)
            return None, f"the correlation does not fall below 1/7: the resolution is finer than {pixels:.1f} pixels"
        end = int(below[0])
        total = int(self.count[:end].sum())
        deviation = np.sqrt(_HANN_VARIANCE / (2 * planes * max(total, 1)))
        # The deviation is that of the measured correlation, before the conversion to whole planes.
        measured = curve[:end] / (2 - curve[:end]) if self.split else curve[:end]
        if not total or measured @ self.count[:end] / total < _SIGNIFICANCE * deviation:
            return None, "the correlation is not above that of noise: the image has too little contrast"
        return float(np.interp(-_THRESHOLD, -curve[[end - 1, end]], self.frequency[[end - 1, end]])), None

    def _sum(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.bincount(self.ring.ravel(), values.ravel(), len(self.count) + 1)[:-1].astype(np.float64)


@dataclass(frozen=True)
class RingSums:
    """Sums of two spectra in each ring, over the planes of a stack, smoothed over the rings.

    Parameters
    ----------
    cross
        (rings,), float64: real part of the product of both spectra, the second one conjugated.
    power, other_power
        (rings,), float64: squares of the first and of the second spectrum.
    count
        (rings,), float64: number of coefficients in each ring of all planes.
    """

    cross: npt.NDArray[np.float64]
    power: npt.NDArray[np.float64]
    other_power: npt.NDArray[np.float64]
    count: npt.NDArray[np.float64]

    @classmethod
    def from_planes(cls, rings: Rings, planes: npt.NDArray[np.generic], others: npt.NDArray[np.generic]) -> RingSums:
        """Return the sums of two images, (planes, rows, columns)."""
        sums = np.zeros((3, len(rings.count)))
        for pair in zip(planes, others, strict=True):
            a, b = (rfft2(_windowed(plane)) for plane in pair)
            sums += [rings._sum(v) for v in ((a * b.conj()).real, abs(a) ** 2, abs(b) ** 2)]
        cross, power, other_power = gaussian_filter1d(sums, _SMOOTHING)
        return cls(cross, power, other_power, rings.count.astype(np.float64) * len(planes))

    def correlation(self) -> npt.NDArray[np.float64]:
        """Return the correlation of the images in each ring; 0 if one of them is constant."""
        scale = np.sqrt(self.power * self.other_power)
        return np.divide(self.cross, scale, out=np.zeros_like(scale), where=scale > 0)

    def measurable(self) -> int:
        """Return the number of rings up to the first one without a correlation above that of noise."""
        correlation = self.correlation()
        # A Gaussian averages as many rings as its sum, squared, divided by its sum of squares.
        averaged = 2 * np.sqrt(np.pi) * _SMOOTHING * np.maximum(self.count, 1)
        is_noise = correlation <= _RING_SIGNIFICANCE * np.sqrt(_HANN_VARIANCE / (2 * averaged))
        number = int(np.argmax(is_noise)) if is_noise.any() else len(is_noise)
        total = float(self.count[:number].sum())
        deviation = np.sqrt(_HANN_VARIANCE / (2 * max(total, 1)))
        significant = total > 0 and correlation[:number] @ self.count[:number] / total >= _SIGNIFICANCE * deviation
        return number if significant else 0


def _of_whole(correlation: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the correlation of two whole planes from that of two halves. Negative values are noise, and are kept."""
    positive = np.maximum(correlation, 0)
    whole: npt.NDArray[np.float64] = np.where(correlation > 0, 2 * positive / (1 + positive), correlation)
    return whole


def _windowed(plane: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Return a plane without its mean, times a Hann window."""
    window = np.multiply.outer(*(np.hanning(n + 2)[1:-1] for n in plane.shape))
    values = plane.astype(np.float64)
    windowed: npt.NDArray[np.float64] = (values - (values * window).sum() / window.sum()) * window
    return windowed
