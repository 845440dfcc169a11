"""How close a reconstruction is: by scikit-image, on the rounded and clipped values."""

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

# Side of the window of the structural similarity, in pixels.
_WINDOW = 7
# Pixels that are measured at once.
_SLAB = 1 << 16
_THREADS = 4


@dataclass(frozen=True)
class Metrics:
    """Agreement of the reconstruction with the image, over the pixels that are not missing.

    Parameters
    ----------
    psnr
        dB; the peak is 255 for uint8, otherwise the image's own max - min. Infinite where every pixel is right.
    ssim
        Mean structural similarity (Wang et al. 2004), or None where the image is smaller than the window of 7 pixels or
        has missing pixels.
    rmse, max_abs
        In the image's units.
    psnr_heldout
        dB over the pixels kept out of the fit, or None where there are none.
    consistency
        dB: PSNR, against the image, of the upscaled render, rounded and clipped to the image's dtype, as the pixels see
        it by the observation model. None where the field was fitted to the pixels themselves.
    """

    psnr: float
    ssim: float | None
    rmse: float
    max_abs: float
    psnr_heldout: float | None = None
    consistency: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """Return plain numbers by name."""
        return asdict(self)


def peak_of(samples: Samples) -> float:
    """Peak of the PSNR: 255 for uint8, otherwise max - min of the pixels there are (1 where that is 0)."""
    if samples.image.dtype == np.uint8:
        return 255.0
    seen = samples.format.to_channels_first(samples.image)[:, samples.observed]
    return float(seen.max()) - float(seen.min()) or 1.0


def psnr_of(mse: float, peak: float) -> float:
    """PSNR in dB of a mean squared error; infinite at 0."""
    return math.inf if mse <= 0 else 20 * math.log10(peak) - 10 * math.log10(mse)


def expected_rounded_mse(mse: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Mean squared error to expect once values with a normal error are rounded to integers.

    Small errors vanish in the rounding, larger ones gain 1/12. With sigma^2 = `mse`, this is
    sum over k of (2 k - 1) P(|error| > k - 1/2).

    Parameters
    ----------
    mse
        Any shape, before the rounding.
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
        The image.
    reconstruction
        Of the image's shape and dtype.
    with_ssim
        Whether to take the structural similarity, which needs most of the time.
    """
    peak = peak_of(samples)
    layout = samples.format
    pair = layout.to_channels_first(samples.image), layout.to_channels_first(reconstruction)
    # The longest axis first: along it the image is measured slab by slab, each of which stays in the cache.
    axis = int(np.argmax(pair[0].shape[1:]))
    truth, found = (np.moveaxis(values, axis + 1, 1) for values in pair)
    observed, heldout = (np.moveaxis(mask, axis, 0) for mask in (samples.observed, samples.heldout))
    has_ssim = with_ssim and min(truth.shape[1:]) >= _WINDOW and bool(samples.observed.all())
    thickness = max(_WINDOW, _SLAB * truth.shape[1] // truth[0].size)

    def slab(channel: int, start: int) -> _Sums:
        own = slice(start, start + thickness)
        squares = _squares(truth[channel, own], found[channel, own])
        seen, out = squares[observed[own]], squares[heldout[own]]
        rows = slice(start, start + thickness + _WINDOW - 1)
        similarity = _ssim(truth[channel, rows], found[channel, rows], peak) if has_ssim else 0.0
        return _Sums(seen.sum(), seen.max(initial=0.0), out.sum(), similarity)

    with ThreadPoolExecutor(_THREADS) as pool:
        slabs = product(range(len(truth)), range(0, truth.shape[1], thickness))
        parts = list(pool.map(lambda which: slab(*which), slabs))
    squared, largest, kept_out, similarity = np.transpose(parts)
    mse = float(squared.sum()) / (int(observed.sum()) * len(truth))
    ssim = float(similarity.sum()) / (len(truth) * (truth.shape[1] - _WINDOW + 1)) if has_ssim else None
    count = int(heldout.sum()) * len(truth)
    return Metrics(
        psnr_of(mse, peak),
        ssim,
        math.sqrt(mse),
        math.sqrt(largest.max()),
        psnr_of(float(kept_out.sum()) / count, peak) if count else None,
    )


class _Sums(NamedTuple):
    """Of a slab of a channel.

    Parameters
    ----------
    squared, largest, kept_out
        Sum and largest of its squared errors, and their sum over the pixels kept out of the fit.
    similarity
        Mean of the structural similarity over a row, summed over the rows.
    """

    squared: float
    largest: float
    kept_out: float
    similarity: float


def _squares(truth: npt.NDArray[Any], found: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    squares: npt.NDArray[np.float64] = np.square(np.subtract(found, truth, dtype=np.float64))
    return squares


def _ssim(truth: npt.NDArray[Any], found: npt.NDArray[Any], peak: float) -> float:
    """Sum over the rows that the window can be centred on."""
    rows = len(truth) - _WINDOW + 1
    if rows < 1:
        return 0.0
    with warnings.catch_warnings():
        # A constant image divides nothing by nothing in places that scikit-image then leaves out.
        warnings.simplefilter("ignore", RuntimeWarning)
        wide = truth.astype(np.float64), found.astype(np.float64)
        mean = structural_similarity(*wide, win_size=_WINDOW, data_range=peak)  # type: ignore[no-untyped-call]
        return rows * float(mean)
