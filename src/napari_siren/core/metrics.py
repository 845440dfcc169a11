"""How close a reconstruction is: by scikit-image, on the rounded and clipped values."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import erfc
from skimage.metrics import structural_similarity

from napari_siren.core.image import Samples


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
    """

    psnr: float
    ssim: float | None
    rmse: float
    max_abs: float
    psnr_heldout: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """Give plain numbers by name."""
        return asdict(self)


def peak_of(samples: Samples) -> float:
    """Peak of the PSNR: 255 for uint8, otherwise max - min of the pixels there are (1 where that is 0)."""
    if samples.image.dtype == np.uint8:
        return 255.0
    seen = samples.format.to_channels_first(samples.image)[:, samples.observed].astype(np.float64)
    return float(np.ptp(seen)) or 1.0


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


def measure(samples: Samples, reconstruction: npt.NDArray[Any]) -> Metrics:
    """Compare a reconstruction with the image.

    Parameters
    ----------
    samples
        The image.
    reconstruction
        Of the image's shape and dtype.
    """
    truth = samples.format.to_channels_first(samples.image).astype(np.float64)
    found = samples.format.to_channels_first(reconstruction).astype(np.float64)
    peak = peak_of(samples)
    squares = np.square(found - truth, where=samples.observed, out=np.zeros_like(truth))
    mse = float(squares.sum() / (samples.observed.sum() * len(truth)))
    kept_out = None
    if samples.heldout.any():
        kept_out = psnr_of(float(squares[:, samples.heldout].mean()), peak)
    return Metrics(
        psnr_of(mse, peak),
        _ssim(samples, truth, found, peak),
        math.sqrt(mse),
        float(np.sqrt(squares.max())),
        kept_out,
    )


def _ssim(
    samples: Samples, truth: npt.NDArray[np.float64], found: npt.NDArray[np.float64], peak: float
) -> float | None:
    if min(truth.shape[1:]) < 7 or not samples.observed.all():
        return None
    with warnings.catch_warnings():
        # A constant image divides nothing by nothing in places that scikit-image then leaves out.
        warnings.simplefilter("ignore", RuntimeWarning)
        similarity: float = structural_similarity(truth, found, data_range=peak, channel_axis=0)  # type: ignore[no-untyped-call]
    return float(similarity)
