"""Point spread functions: the widths for an objective, and the PSF of a bead image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.forward.operator import FWHM
from napari_siren.errors import InputError

# Largest distance from the centre of a PSF in pixels. A larger PSF takes more time, and its edge is mostly noise.
_REACH = 32
# Smallest share of the brightest value that belongs to the bead, for its centre.
_BRIGHT = 0.2


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
        A number is not positive and finite, or the aperture is not below the refractive index.

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
    numbers = {"numerical aperture": numerical_aperture, "wavelength": wavelength, "refractive index": refractive_index}
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise InputError(f"the {name} is {number}. Give a positive number.")
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


def bead_psf(image: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Make a PSF from the image of a bead: centred, without background, with the sum 1.

    Parameters
    ----------
    image
        Image of one bead that is smaller than the resolution, with the pixels of the image to restore.

    Returns
    -------
    ndarray
        PSF, with an odd number of pixels along each axis. The bead is in the middle.

    Raises
    ------
    InputError
        The image has values that are not finite, or no bead, or the bead is at the edge.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.full((9, 11), 100.0)
    >>> image[4, 6] = 160
    >>> psf = bead_psf(image)
    >>> psf.shape, float(psf[4, 4])
    ((9, 9), 1.0)
    """
    values = np.asarray(image, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise InputError("the bead image has no pixels, or values that are not finite. Choose another image.")
    edges = [np.take(values, [0, -1], axis=axis).ravel() for axis in range(values.ndim)]
    values = np.maximum(values - np.median(np.concatenate(edges)), 0)
    if not values.max() > 0:
        raise InputError("the bead image has no spot that is brighter than its edge. Choose an image of one bead.")
    bright = np.where(values >= _BRIGHT * values.max(), values, 0)
    centre = [_centre(bright, axis) for axis in range(values.ndim)]
    reach = [min(c, n - 1 - c, _REACH) for c, n in zip(centre, values.shape, strict=True)]
    if any(r == 0 and n > 1 for r, n in zip(reach, values.shape, strict=True)):
        raise InputError("the bead is at the edge of its image. Crop the image so that the bead is in the middle.")
    psf = values[tuple(slice(c - r, c + r + 1) for c, r in zip(centre, reach, strict=True))]
    normalised: npt.NDArray[np.float64] = psf / psf.sum()
    return normalised


def _centre(bright: npt.NDArray[Any], axis: int) -> int:
    """Return the pixel nearest to the centre of mass along an axis."""
    profile = bright.sum(axis=tuple(a for a in range(bright.ndim) if a != axis))
    return round(float((np.arange(len(profile)) * profile).sum() / profile.sum()))
