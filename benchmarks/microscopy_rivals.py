"""The classical rivals in microscopy, their settings chosen blind: from the input alone.

The settings of a denoiser, the width of a Gaussian among them, are those of the least self-supervised loss: pixels are
predicted from the others (J-invariance: Batson and Royer 2019, arXiv 1901.11365; scikit-image's `calibrate_denoiser`).
For stacks there is another choice beside it, in which every second slice is predicted from the others. Only
Richardson-Lucy is told the truth: when to stop.

No filter of the class of BM3D is among them: the authors' package is for non-commercial use only, the free ones need a
GPU, or are no longer kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from itertools import product
from typing import Any

import numpy as np
from PIL import Image
from scipy.fft import fftn, ifftn, ifftshift
from scipy.interpolate import make_interp_spline
from scipy.ndimage import gaussian_filter, map_coordinates, zoom
from skimage.registration import phase_cross_correlation
from skimage.restoration import (
    calibrate_denoiser,
    denoise_nl_means,
    denoise_tv_chambolle,
    denoise_wavelet,
    richardson_lucy,
)

from benchmarks.microscopy_sets import Given

# Widths of a Gaussian, from the slices that are there and the order of the splines that follow.
Choice = Callable[[np.ndarray, int], tuple[float, float]]

LINEAR, CUBIC = 1, 3
# Standard deviations of a Gaussian, in slices that are there, and in pixels.
SLICE_WIDTHS = (0.0, 0.5, 0.75, 1.0, 1.5)
PIXEL_WIDTHS = (0.0, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
# Of the range of the image.
_STRENGTHS = tuple(float(s) for s in np.geomspace(0.01, 0.8, 20))
DENOISERS: dict[str, tuple[Callable[..., np.ndarray], dict[str, Sequence[Any]]]] = {
    "Gaussian": (gaussian_filter, {"sigma": (*PIXEL_WIDTHS, 1.2, 1.7, 2.4, 3.4)}),
    "non-local means": (
        denoise_nl_means,
        {"h": _STRENGTHS[3::2], "sigma": (0.0, 0.05, 0.1, 0.15), "patch_size": (5, 7), "patch_distance": (6,)},
    ),
    "total variation": (denoise_tv_chambolle, {"weight": _STRENGTHS}),
    # With sigma=None they estimate the noise by the median of their finest coefficients.
    "wavelet": (
        denoise_wavelet,
        {
            "sigma": (None, *_STRENGTHS[::2]),
            "wavelet": ("db1", "db2", "sym4"),
            "method": ("BayesShrink", "VisuShrink"),
            "rescale_sigma": (True,),
        },
    ),
}
ITERATIONS = tuple(round(5 * 2 ** (n / 2)) for n in range(15))
# Parts of a pixel to which frames are registered.
_REGISTRATION = 100


def usable_denoisers(names: Iterable[str]) -> list[str]:
    """Return those of some names of `DENOISERS` whose packages are installed.

    The wavelets of scikit-image need PyWavelets, which is not among our requirements.
    """
    return [name for name in names if name != "wavelet" or find_spec("pywt")]


# ---- interpolation ---------------------------------------------------------------------------------------------------


def interpolated(given: Given, order: int) -> np.ndarray:
    """Interpolate by splines: between the slices that are there, or through the samples, mirrored at the borders."""
    return _between(given, given.image.astype(np.float64), order)


def smoothed_and_interpolated(given: Given, order: int, by: Choice) -> np.ndarray:
    """Smooth a stack by a Gaussian of widths chosen blind (`by_pixels` or `by_slices`), and interpolate."""
    values = given.image.astype(np.float64)
    there = slices_there(given)
    along, across = by(values[there], order)
    values[there] = gaussian_filter(values[there], (along, across, across))
    return _between(given, values, order)


def slices_there(given: Given) -> np.ndarray:
    """Give bool for each slice; a slice is there or missing as a whole."""
    there: np.ndarray = np.ones(len(given.image), dtype=bool) if given.missing is None else ~given.missing[:, 0, 0]
    return there


def by_pixels(slices: np.ndarray, order: int) -> tuple[float, float]:
    """Choose the widths of a Gaussian, along z in slices and across in pixels, by the self-supervised loss.

    It knows the noise only; the order of the interpolation plays no part.
    """
    span = float(np.ptp(slices)) or 1.0
    widths = [(along, across, across) for along, across in product(SLICE_WIDTHS, PIXEL_WIDTHS)]
    best = blind_settings((slices - slices.min()) / span, gaussian_filter, {"sigma": widths})["sigma"]
    return best[0], best[1]


def by_slices(slices: np.ndarray, order: int) -> tuple[float, float]:
    """Choose the widths, along z in slices and across in pixels, that predict slices which were left out best.

    The even slices are smoothed and predict the odd ones, and the other way round; the width along z is kept in
    micrometres. Where slices differ much, at twice the distance, this blurs more than is good.
    """
    folds = [(np.arange(first, len(slices), 2), np.arange(first + 1, len(slices) - 1, 2)) for first in (0, 1)]
    folds = [(kept, out) for kept, out in folds if len(kept) > 1 and len(out)]

    def loss(widths: tuple[float, float]) -> float:
        errors = []
        for kept, out in folds:
            smooth = gaussian_filter(slices[kept], (widths[0] / 2, widths[1], widths[1]))
            errors.append(np.square(_along_z(smooth, kept, out, order) - slices[out]).ravel())
        return float(np.concatenate(errors).mean()) if errors else 0.0

    return min(product(SLICE_WIDTHS, PIXEL_WIDTHS), key=loss)


def bicubic(given: Given) -> np.ndarray:
    return _by_pillow(_first(given), given.scale, Image.Resampling.BICUBIC)


def lanczos(given: Given) -> np.ndarray:
    return _by_pillow(_first(given), given.scale, Image.Resampling.LANCZOS)


def smoothed_and_bicubic(given: Given) -> np.ndarray:
    """Smooth an image by a Gaussian of a width chosen blind, then bicubic."""
    return _by_pillow(calibrated(_first(given), "Gaussian"), given.scale, Image.Resampling.BICUBIC)


def _between(given: Given, values: np.ndarray, order: int) -> np.ndarray:
    if given.missing is None:
        fine: np.ndarray = zoom(values, given.scale, order=order, mode="grid-mirror", grid_mode=True)
        return fine
    there = slices_there(given)
    return _along_z(values[there], np.flatnonzero(there), np.arange(len(values)), order)


def _along_z(slices: np.ndarray, places: np.ndarray, wanted: np.ndarray, order: int) -> np.ndarray:
    spline = make_interp_spline(places, slices, k=min(order, len(places) - 1))
    values: np.ndarray = spline(wanted)
    return values


def _first(given: Given) -> np.ndarray:
    """Give an image, or the first of several frames, float32."""
    image = given.image[0] if "T" in given.axes else given.image
    return image.astype(np.float32)


def _by_pillow(image: np.ndarray, scale: Sequence[int], kernel: Image.Resampling) -> np.ndarray:
    rows, columns = (n * f for n, f in zip(image.shape, scale, strict=True))
    return np.asarray(Image.fromarray(image.astype(np.float32)).resize((columns, rows), kernel))


# ---- denoising -------------------------------------------------------------------------------------------------------


def denoised(given: Given, name: str) -> np.ndarray:
    """Denoise by one of `DENOISERS`."""
    return calibrated(given.image, name)


def calibrated(image: np.ndarray, name: str) -> np.ndarray:
    """Denoise with the settings of least self-supervised loss; the filter itself, not its J-invariant version.

    The loss is that of one masked pixel in 4 x 4, `calibrate_denoiser`'s own choice.
    """
    denoiser, choices = DENOISERS[name]
    low, span = float(image.min()), float(np.ptp(image))
    if span == 0:
        return image.astype(np.float64)
    scaled = (image.astype(np.float64) - low) / span
    best = blind_settings(scaled, denoiser, choices)
    return low + span * denoiser(scaled, **best)


def blind_settings(
    image: np.ndarray, denoiser: Callable[..., np.ndarray], choices: dict[str, Sequence[Any]]
) -> dict[str, Any]:
    """Choose among all combinations for an image in 0 to 1."""
    _, (tested, losses) = calibrate_denoiser(  # type: ignore[no-untyped-call]
        image, denoiser, choices, extra_output=True
    )
    best: dict[str, Any] = tested[int(np.argmin(losses))]
    return best


# ---- deconvolution ---------------------------------------------------------------------------------------------------


def best_richardson_lucy(given: Given, truth: np.ndarray) -> tuple[np.ndarray, int]:
    """Deconvolve, and stop where the truth says; of `ITERATIONS`, up to the first after which it gets worse.

    Returns
    -------
    tuple
        The result, and its number of iterations.
    """
    if given.psf is None:
        raise ValueError("Richardson-Lucy needs a PSF.")
    # scikit-image has the point of a PSF of n samples at (n - 1) // 2, which is n // 2 for odd ones.
    psf = given.psf[tuple(slice(1 - n % 2, None) for n in given.psf.shape)]
    # The range in which scikit-image's start of 1/2, and its guard against 0, are what they should be.
    peak = float(given.image.max())
    image = np.clip(given.image / peak, 0, None)
    best, least, count = image, np.inf, 0
    for iterations in ITERATIONS:
        found = richardson_lucy(  # type: ignore[no-untyped-call]
            image, psf, num_iter=iterations, clip=False
        )
        error = float(np.square(found * peak - truth).mean())
        if error >= least:
            break
        best, least, count = found, error, iterations
    return best * peak, count


def best_wrapped_richardson_lucy(given: Given, truth: np.ndarray) -> tuple[np.ndarray, int]:
    """Deconvolve knowing that the blur wraps around at the borders, and stop where the truth says."""
    if given.psf is None or given.psf.shape != given.image.shape:
        raise ValueError("a PSF as large as the image is needed.")
    spectrum = fftn(ifftshift(given.psf.astype(np.float64)))
    image = np.clip(given.image.astype(np.float64), 0, None)
    found, best, least, count = np.full_like(image, image.mean()), image, np.inf, 0
    for iterations in range(1, ITERATIONS[-1] + 1):
        seen = ifftn(fftn(found) * spectrum).real
        found = found * ifftn(fftn(image / np.maximum(seen, 1e-9 * image.max())) * spectrum.conj()).real
        found = np.clip(found, 0, None)
        if iterations in ITERATIONS and (error := float(np.square(found - truth).mean())) < least:
            best, least, count = found, error, iterations
    return best, count


# ---- bursts ----------------------------------------------------------------------------------------------------------


def drifts(frames: np.ndarray) -> np.ndarray:
    """Register frames on the first by cross-correlation (Guizar-Sicairos et al. 2008): pixels, (frames, 2).

    Pixel k of a frame sees what lies at k + drift in the first.
    """
    # The borders are faded out: they would match themselves, and hold the frames in place.
    window = np.outer(*(np.hanning(n) for n in frames.shape[1:]))
    faded = (frames - frames.mean()) * window
    shifts = [
        phase_cross_correlation(  # type: ignore[no-untyped-call]
            faded[0], frame, upsample_factor=_REGISTRATION, normalization=None
        )[0]
        for frame in faded[1:]
    ]
    return np.stack([np.zeros(2), *shifts])


def mean_of_aligned(given: Given) -> np.ndarray:
    """Take the mean of the frames' cubic splines, each moved into its place."""
    return _mean_of_splines(given, drifts(given.image))


def shift_and_add(given: Given) -> np.ndarray:
    """Put every pixel of every frame into its place on the fine grid, and take means (Elad and Hel-Or 2001).

    A pixel is shared among the four fine ones about it by bilinear weights. Those that get nothing have the mean of the
    frames' splines.
    """
    shifts = drifts(given.image)
    fine = tuple(n * f for n, f in zip(given.image.shape[1:], given.scale, strict=True))
    total, weight = np.zeros(fine), np.zeros(fine)
    for frame, shift in zip(given.image.astype(np.float64), shifts, strict=True):
        rows, columns = (
            _shares(n, f, s, size) for n, f, s, size in zip(frame.shape, given.scale, shift, fine, strict=True)
        )
        total += rows @ frame @ columns.T
        weight += np.outer(rows.sum(axis=1), columns.sum(axis=1))
    empty = weight < 1e-3
    return np.where(empty, _mean_of_splines(given, shifts), total / np.where(empty, 1.0, weight))


def _shares(count: int, scale: int, shift: float, size: int) -> np.ndarray:
    """Give the bilinear weights by which the pixels of a frame go to fine ones: (fine, pixels)."""
    places = (np.arange(count) + shift + 0.5) * scale - 0.5
    weights: np.ndarray = np.clip(1 - np.abs(np.arange(size)[:, np.newaxis] - places), 0.0, None)
    return weights


def _mean_of_splines(given: Given, shifts: np.ndarray) -> np.ndarray:
    scale, sizes = given.scale, given.image.shape[1:]
    grid = [(np.arange(n * f) + 0.5) / f - 0.5 for n, f in zip(sizes, scale, strict=True)]
    moved = []
    for frame, shift in zip(given.image.astype(np.float64), shifts, strict=True):
        places = np.meshgrid(*(g - s for g, s in zip(grid, shift, strict=True)), indexing="ij")
        moved.append(map_coordinates(frame, places, order=CUBIC, mode="mirror"))
    mean: np.ndarray = np.mean(moved, axis=0)
    return mean
