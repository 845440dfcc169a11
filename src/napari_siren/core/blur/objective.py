"""Point spread functions for the numbers on an objective: the widths, and a computed PSF."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.signal import fftconvolve
from scipy.special import j0, j1, jv

from napari_siren.core.forward.operator import FWHM
from napari_siren.core.settings.per_axis import per_axis
from napari_siren.errors import InputError

# Largest default distance from the centre of a PSF in pixels, as for beads: a larger PSF takes more time.
_REACH = 32
# Radius of the in-focus PSF as a multiple of wavelength / aperture. The Airy pattern has 99 % of its light within it.
_RINGS = 10
# Share of the light in the box of the default shape.
_LIGHT = 0.99
# Number of samples of a radial profile in wavelength / aperture, about a ring, and smallest number of nodes of its
# integral.
_SAMPLES_OF_RINGS, _LEAST_NODES = 40, 60
# Smallest number of samples in a lateral full width at half maximum, and in a pixel along an axis.
_SAMPLES, _SUBPIXELS = 4, 3
# Limits of the lateral width in pixels, and of the axial width in slices. Beyond them, the wavelength and the spacing
# are in different units.
_NARROWEST, _WIDEST = 0.1, 32
_THINNEST, _THICKEST = 0.01, 1000
# Largest refractive index of an immersion: that of solid lenses of gallium phosphide is 3.5.
_LARGEST_INDEX = 4
# Radius of one Airy unit as a multiple of wavelength / aperture.
_AIRY = 0.61


def objective_widths(numerical_aperture: float, wavelength: float, refractive_index: float) -> tuple[float, float]:
    """Compute the widths of the Gaussian that is closest to the PSF of a widefield microscope.

    The PSF of a confocal microscope with a pinhole of one Airy unit or more has about the widths for the wavelength of
    the excitation.

    Parameters
    ----------
    numerical_aperture
        Numerical aperture of the objective, such as 1.4.
    wavelength
        Wavelength of the light in any unit of length.
    refractive_index
        Refractive index of the immersion: 1 for air, 1.33 for water, 1.515 for oil.

    Returns
    -------
    tuple of float
        Full widths at half maximum along z, and along x and y, in the unit of the wavelength.

    Raises
    ------
    InputError
        A number is not positive and finite, the refractive index is not one of an immersion, or the aperture is not
        below it.

    References
    ----------
    B. Zhang, J. Zerubia and J.-C. Olivo-Marin, Gaussian approximations of fluorescence microscope point-spread function
    models, Applied Optics 46 (2007), doi 10.1364/AO.46.001819, the non-paraxial 3-D model.

    Examples
    --------
    >>> axial, lateral = objective_widths(1.4, 520, 1.515)
    >>> round(axial), round(lateral)
    (516, 190)
    """
    numbers: dict[str, Any] = {
        "numerical aperture": numerical_aperture,
        "wavelength": wavelength,
        "refractive index": refractive_index,
    }
    for name, number in numbers.items():
        if not isinstance(number, Real) or not 0 < float(number) < math.inf:
            raise InputError(f"the {name} is {number!r}. Give a positive number.")
    if not 1 <= refractive_index <= _LARGEST_INDEX:
        raise InputError(
            f"the refractive index is {refractive_index}. Give that of the immersion: 1 for air, 1.33 for water, 1.515 "
            "for oil."
        )
    if numerical_aperture >= refractive_index:
        raise InputError(
            f"the numerical aperture {numerical_aperture} is not below the refractive index {refractive_index}. Give "
            "the index of the immersion: 1 for air, 1.33 for water, 1.515 for oil."
        )
    cosine = math.sqrt(1 - (numerical_aperture / refractive_index) ** 2)
    half, seven = cosine**1.5, cosine**3.5
    number = 2 * math.pi * refractive_index / wavelength
    lateral = math.sqrt(7 * (1 - half) / (4 - 7 * half + 3 * seven)) / number
    root = 4 * cosine**5 - 25 * seven + 42 * cosine**2.5 - 25 * half + 4
    axial = 5 * math.sqrt(7) * (1 - half) / (math.sqrt(6) * number * math.sqrt(root))
    return FWHM * axial, FWHM * lateral


def psf_from_objective(
    spacing: float | Sequence[float],
    *,
    numerical_aperture: float,
    wavelength: float,
    refractive_index: float,
    confocal: bool = False,
    shape: Sequence[int] | None = None,
) -> npt.NDArray[np.float64]:
    """Compute the PSF of a microscope from the numbers on its objective.

    The model is the diffraction integral of Richards and Wolf 1959 for light of all polarisations. It is averaged over
    the area of each pixel. The objective is free of aberrations, and the sample has the refractive index of the
    immersion.

    Parameters
    ----------
    spacing
        Pixel size in the unit of the wavelength. A number or (y, x) is for a picture in focus, and (z, y, x) is for a
        stack. Pixels are square.
    numerical_aperture
        Numerical aperture of the objective, such as 1.4.
    wavelength
        Wavelength of the light in the unit of the spacing: of the emission for a widefield microscope, of the laser for
        a confocal microscope.
    refractive_index
        Refractive index of the immersion: 1 for air, 1.33 for water, 1.515 for oil.
    confocal
        Whether the microscope is confocal, with a pinhole of one Airy unit in diameter. Excitation and emission are
        both taken at the wavelength. Otherwise it is a widefield microscope.
    shape
        Odd number of pixels along each axis. By default, the PSF is computed up to 32 pixels from its centre, and
        cropped to a box with 99 % of that light. In a widefield stack each slice has the same light, so the PSF has
        about 65 slices. With fewer slices, deblurring takes less time and memory, but leaves more light from out of
        focus.

    Returns
    -------
    ndarray
        PSF with the sum 1, and an odd number of pixels along each axis. The point is in the middle.

    Raises
    ------
    InputError
        A number is out of range, or the spacing and the wavelength are in different units.

    References
    ----------
    B. Richards and E. Wolf, Electromagnetic diffraction in optical systems II. Structure of the image field in an
    aplanatic system, Proceedings of the Royal Society A 253 (1959), doi 10.1098/rspa.1959.0200.

    Examples
    --------
    >>> import napari_siren as ns
    >>> ns.psf_from_objective(0.1, numerical_aperture=1.2, wavelength=0.52, refractive_index=1.33, shape=(9, 9)).shape
    (9, 9)
    """
    axial, lateral = objective_widths(numerical_aperture, wavelength, refractive_index)
    sizes = _pixel_sizes(spacing, axial, lateral)
    pixel, count = float(sizes[-1]), len(sizes)
    if shape is None:
        # The Airy pattern may be smaller than the largest box.
        across = min(math.ceil(_RINGS * wavelength / numerical_aperture / pixel), _REACH)
        reach = [_REACH] * (count - 2) + [across, across]
    else:
        reach = _reach_of(shape, count)
    steps = max(_SUBPIXELS, 2 * math.ceil(_SAMPLES * pixel / lateral / 2) + 1)
    side = 2 * max(reach[-2:]) + 1
    heights = sizes[0] * np.arange(-reach[0], reach[0] + 1) if count == 3 else np.zeros(1)
    light = _light(heights, side * steps, pixel / steps, numerical_aperture, wavelength, refractive_index)
    if confocal:
        light = _behind_pinhole(light, _AIRY * wavelength / numerical_aperture * steps / pixel)
    psf = light.reshape(len(light), side, steps, side, steps).sum(axis=(2, 4))
    psf = _crop(psf if count == 3 else psf[0], reach)
    if shape is None:
        psf = _crop(psf, [_bright_reach(psf, axis) for axis in range(count)])
    normalised: npt.NDArray[np.float64] = psf / psf.sum()
    return normalised


def _pixel_sizes(spacing: float | Sequence[float], axial: float, lateral: float) -> npt.NDArray[np.float64]:
    """Return the size of a pixel along two or three axes. `axial` and `lateral` are the widths of the PSF."""
    count = max(np.size(spacing), 2)
    if count > 3:
        raise InputError(f"spacing={spacing!r} has {count} numbers. Give (y, x) for a picture, or (z, y, x).")
    sizes = per_axis("spacing", spacing, count)
    if not math.isclose(sizes[-2], sizes[-1], rel_tol=1e-3):
        raise InputError(f"the pixels are not square: {sizes[-2]:g} x {sizes[-1]:g}. Resample the image first.")
    if not _NARROWEST < lateral / sizes[-1] < _WIDEST:
        raise InputError(
            f"the width of the PSF would be {lateral / sizes[-1]:.3g} pixels. Give the spacing and the wavelength in "
            "the same unit."
        )
    if count == 3 and not _THINNEST < axial / sizes[0] < _THICKEST:
        raise InputError(
            f"the height of the PSF would be {axial / sizes[0]:.3g} slices. Give the spacing along z in the same unit "
            "as the other numbers."
        )
    return sizes


def _light(
    heights: npt.NDArray[np.float64], side: int, step: float, aperture: float, wavelength: float, index: float
) -> npt.NDArray[Any]:
    """Compute the light at points `step` apart, of shape (heights, side, side)."""
    radii = np.hypot(*np.meshgrid(*[step * (np.arange(side) - side // 2)] * 2))
    along = np.arange(0, radii.max() + step, min(step, wavelength / aperture / _SAMPLES_OF_RINGS))
    # The light above the focus is that below it.
    distances, places = np.unique(np.abs(heights), return_inverse=True)
    profiles = _profiles(along, distances, aperture, wavelength, index)
    return np.stack([np.interp(radii, along, profile) for profile in profiles])[places]


def _profiles(
    radii: npt.NDArray[np.float64],
    heights: npt.NDArray[np.float64],
    aperture: float,
    wavelength: float,
    index: float,
) -> npt.NDArray[np.float64]:
    """Compute the light at distances from the axis and heights above the focus: (heights, radii)."""
    number, half = 2 * math.pi * index / wavelength, math.asin(aperture / index) / 2
    # Change of the phase of the integrand. Gaussian quadrature needs a few nodes for each period.
    phase = number * (heights.max() * (1 - math.cos(2 * half)) + radii.max() * math.sin(2 * half))
    nodes, weights = np.polynomial.legendre.leggauss(_LEAST_NODES + math.ceil(phase))
    angles = half * (nodes + 1)
    sine, cosine = np.sin(angles), np.cos(angles)
    wave = weights * np.sqrt(cosine) * sine * np.exp(1j * number * np.multiply.outer(heights, cosine))
    x = number * np.multiply.outer(sine, radii)
    parts = ((1 + cosine, j0(x)), (math.sqrt(2) * sine, j1(x)), (1 - cosine, jv(2, x)))
    light: npt.NDArray[np.float64] = np.sum([np.abs((wave * share) @ bessel) ** 2 for share, bessel in parts], axis=0)
    return light


def _behind_pinhole(light: npt.NDArray[Any], radius: float) -> npt.NDArray[Any]:
    """Multiply the excitation by the emission behind a pinhole. The radius is in samples."""
    offsets = np.arange(-math.ceil(radius), math.ceil(radius) + 1)
    pinhole = np.hypot(*np.meshgrid(offsets, offsets)) <= radius
    emission = fftconvolve(light, pinhole[np.newaxis].astype(np.float64), "same", axes=(1, 2))
    product: npt.NDArray[Any] = light * np.maximum(emission, 0)
    return product


def _reach_of(shape: Sequence[int], count: int) -> list[int]:
    """Return the distance from the centre to the edge of a box with odd sides."""
    sides = np.asarray(shape)
    if sides.shape != (count,) or sides.dtype.kind not in "iu" or (sides < 1).any() or (sides % 2 == 0).any():
        raise InputError(f"shape={shape} cannot be used. Give {count} odd numbers, one for each axis.")
    return [int(side) // 2 for side in sides]


def _bright_reach(psf: npt.NDArray[Any], axis: int) -> int:
    """Return the smallest distance along an axis for a box with the share `_LIGHT`."""
    profile = psf.sum(axis=tuple(a for a in range(psf.ndim) if a != axis))
    middle = len(profile) // 2
    within = np.cumsum(profile[middle:] + profile[middle::-1]) - profile[middle]
    return int(np.searchsorted(within / profile.sum(), 1 - (1 - _LIGHT) / psf.ndim))


def _crop(psf: npt.NDArray[Any], reach: Sequence[int]) -> npt.NDArray[Any]:
    """Crop to a box about the middle."""
    return psf[tuple(slice(n // 2 - r, n // 2 + r + 1) for n, r in zip(psf.shape, reach, strict=True))]
