"""Metrics of a reconstruction, computed on the rounded and clipped values, in part by scikit-image."""

from __future__ import annotations

import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import erfc
from skimage.metrics import structural_similarity

from napari_siren.core.image.samples import Samples

# Side of the window of the structural similarity, in pixels: the default of scikit-image.
_WINDOW = 7
# Number of pixels that are compared at once, so that they stay in the cache.
_SLAB = 1 << 16
# Number of threads that compare slabs.
_THREADS = 4


@dataclass(frozen=True)
class Metrics:
    """The agreement of a reconstruction with the image, over the observed pixels.

    Parameters
    ----------
    psnr
        Peak signal-to-noise ratio in dB. The peak is 255 for uint8, otherwise max - min of the image. It is infinite if
        every pixel is exact.
    ssim
        Mean structural similarity (Wang et al. 2004). None if the image is smaller than the window of 7 pixels, or has
        missing pixels.
    rmse, max_abs
        Root mean square error and largest absolute error, in the image's units.
    psnr_heldout
        PSNR in dB over the pixels that were held out of the fit. None if there are none.
    consistency
        PSNR in dB of the upscaled render against the image. The render is rounded and clipped to the image's dtype, and
        reduced to pixels by the observation model. None if the field was fitted to the pixels themselves.
    rse, rsp
        Resolution-scaled error, in the image's units, and resolution-scaled Pearson correlation (Culley et al. 2018):
        the same comparison as that of `consistency`, after a linear match of the intensities (see `LinearMatch`). None
        where `consistency` is None; `rsp` is also None if a channel is constant.
    image_resolution
        Resolution of the image before noise was removed from it, in the unit of the spacing (see `resolution`): that of
        the coarsest channel. None for other fits, or if it was not measured: neighbouring pixels share their noise,
        there is hardly any, or an axis has fewer than 128 pixels.
    """

    psnr: float
    ssim: float | None
    rmse: float
    max_abs: float
    psnr_heldout: float | None = None
    consistency: float | None = None
    rse: float | None = None
    rsp: float | None = None
    image_resolution: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """Return the metrics as a dictionary of numbers."""
        return asdict(self)


def peak_of(samples: Samples) -> float:
    """Return the peak of the PSNR: 255 for uint8, otherwise max - min of the observed pixels, or 1 if that is 0."""
    if samples.image.dtype == np.uint8:
        return 255.0
    pixels = samples.layout.to_channels_first(samples.image)[:, samples.observed]
    return float(pixels.max()) - float(pixels.min()) or 1.0


def psnr_of(mse: float, peak: float) -> float:
    """Return the PSNR in dB of a mean squared error. It is infinite at 0."""
    return math.inf if mse <= 0 else 20 * math.log10(peak) - 10 * math.log10(mse)


def expected_rounded_mse(mse: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the expected mean squared error after the rounding of values with a normal error to integers.

    Small errors vanish in the rounding, and larger ones gain 1/12. With sigma^2 = `mse`, the result is
    sum over k of (2 k - 1) P(|error| > k - 1/2).

    Parameters
    ----------
    mse
        Mean squared errors before the rounding, of any shape.

    Returns
    -------
    ndarray
        Mean squared errors after the rounding, float64, of the same shape.
    """
    exact = np.asarray(mse, dtype=np.float64)
    sigma = np.sqrt(np.clip(exact, 1e-30, 9.0))[..., None]
    k = np.arange(1, 20)
    rounded = ((2 * k - 1) * erfc((k - 0.5) / (sigma * math.sqrt(2)))).sum(axis=-1)
    result: npt.NDArray[np.float64] = np.where(exact > 9, exact + 1 / 12, rounded)
    return result


def measure(samples: Samples, reconstruction: npt.NDArray[Any], *, with_ssim: bool = True) -> Metrics:
    """Compare a reconstruction with the image.

    Parameters
    ----------
    samples
        Samples of the image.
    reconstruction
        Array of the image's shape and dtype.
    with_ssim
        Whether to compute the structural similarity, which takes most of the time.
    """
    peak = peak_of(samples)
    layout = samples.layout
    pair = layout.to_channels_first(samples.image), layout.to_channels_first(reconstruction)
    # Slabs are cut along the longest axis, so that each of them stays in the cache.
    axis = int(np.argmax(pair[0].shape[1:]))
    truth, estimate = (np.moveaxis(values, axis + 1, 1) for values in pair)
    observed, heldout = (np.moveaxis(mask, axis, 0) for mask in (samples.observed, samples.heldout))
    has_ssim = with_ssim and min(truth.shape[1:]) >= _WINDOW and bool(samples.observed.all())
    thickness = max(_WINDOW, _SLAB * truth.shape[1] // truth[0].size)

    def slab(channel: int, start: int) -> _Sums:
        own = slice(start, start + thickness)
        squares = _squares(truth[channel, own], estimate[channel, own])
        errors, heldout_errors = squares[observed[own]], squares[heldout[own]]
        rows = slice(start, start + thickness + _WINDOW - 1)
        similarity = _ssim(truth[channel, rows], estimate[channel, rows], peak) if has_ssim else 0.0
        return _Sums(errors.sum(), errors.max(initial=0.0), heldout_errors.sum(), similarity)

    with ThreadPoolExecutor(_THREADS) as pool:
        slabs = product(range(len(truth)), range(0, truth.shape[1], thickness))
        parts = list(pool.map(lambda which: slab(*which), slabs))
    squared, largest, heldout_squared, similarity = np.transpose(parts)
    mse = float(squared.sum()) / (int(observed.sum()) * len(truth))
    ssim = float(similarity.sum()) / (len(truth) * (truth.shape[1] - _WINDOW + 1)) if has_ssim else None
    count = int(heldout.sum()) * len(truth)
    return Metrics(
        psnr_of(mse, peak),
        ssim,
        math.sqrt(mse),
        math.sqrt(largest.max()),
        psnr_of(float(heldout_squared.sum()) / count, peak) if count else None,
    )


class _Sums(NamedTuple):
    """The sums over one slab of one channel.

    Parameters
    ----------
    squared, largest, heldout_squared
        Sum and maximum of the squared errors, and their sum over the held-out pixels.
    similarity
        Structural similarity, averaged over each row and summed over the rows.
    """

    squared: float
    largest: float
    heldout_squared: float
    similarity: float


def _squares(truth: npt.NDArray[Any], estimate: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    squares: npt.NDArray[np.float64] = np.square(np.subtract(estimate, truth, dtype=np.float64))
    return squares


def _ssim(truth: npt.NDArray[Any], estimate: npt.NDArray[Any], peak: float) -> float:
    """Return the sum over rows of their mean structural similarity, without a margin of half a window."""
    rows = len(truth) - _WINDOW + 1
    if rows < 1:
        return 0.0
    with warnings.catch_warnings():
        # For a constant image scikit-image divides 0 by 0 at pixels that it leaves out of its mean.
        warnings.simplefilter("ignore", RuntimeWarning)
        wide = truth.astype(np.float64), estimate.astype(np.float64)
        mean = structural_similarity(*wide, win_size=_WINDOW, data_range=peak)  # type: ignore[no-untyped-call]
        return rows * float(mean)
