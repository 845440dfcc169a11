"""Whether a predicted uncertainty tells where the errors are, and how large: judged on luminance, as upscaling is.

Sparsification (Ilg et al. 2018, arXiv 1802.07095): the pixels that are called worst are left out, more and more of
them, and the mean error of the rest is watched. It falls at best as when the pixels of the largest error go first (the
oracle), and stays where it is when they go at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.integrate import trapezoid
from scipy.stats import spearmanr

from benchmarks.upscale_sets import cropped, luminance

# Of Y of YCbCr, from red, green and blue in 0 to 255.
_TO_LUMINANCE = np.array([65.481, 128.553, 24.966]) / 255
# Of the pixels left out; the last of them are too few to say anything.
SHARES = np.arange(100) / 100


@dataclass(frozen=True)
class Trust:
    """How honest an uncertainty is.

    Parameters
    ----------
    rank_correlation
        Spearman's, of uncertainty and absolute error; nan where one of them is the same everywhere.
    ratio
        Mean uncertainty over mean error: 1 where its size is right; nan without an error.
    left_out
        Shares of the pixels, evenly from 0 to 0.99.
    curve, oracle
        Mean absolute error of the pixels that are left, over that of all, for each share.
    """

    rank_correlation: float
    ratio: float
    left_out: np.ndarray
    curve: np.ndarray
    oracle: np.ndarray

    @property
    def excess(self) -> float:
        """Area between curve and oracle (AUSE): 0 at best."""
        return float(trapezoid(self.curve - self.oracle, self.left_out))

    @property
    def gain(self) -> float:
        """Area that the curve gains over leaving out at random, over the oracle's: 1 at best, 0 by chance."""
        best = float(trapezoid(1 - self.oracle, self.left_out))
        return float(trapezoid(1 - self.curve, self.left_out)) / best if best > 0 else float("nan")

    def held_by_worst(self, share: float) -> float:
        """Share of all error that lies on the share of the pixels that are called worst."""
        return 1 - (1 - share) * float(np.interp(share, self.left_out, self.curve))


def judge_image(uncertainty: np.ndarray, found: np.ndarray, truth: np.ndarray, scale: int) -> Trust:
    """Judge a predicted absolute error of an upscaled image by the true one, on Y without a border of `scale` pixels.

    Parameters
    ----------
    uncertainty
        In the image's units, of its shape, or without its channels where it is about luminance already. That of
        several channels is added up as they go into luminance: their errors may be of one sign.
    found, truth
        uint8, grey or RGB.
    scale
        Of the upscaling.
    """
    if uncertainty.ndim == 3:
        uncertainty = uncertainty @ _TO_LUMINANCE
    error = np.abs(luminance(found) - luminance(truth))
    return judge(cropped(uncertainty, scale), cropped(error, scale))


def judge(uncertainty: np.ndarray, error: np.ndarray) -> Trust:
    """Judge predicted absolute errors by the true ones; arrays of one shape, not negative."""
    if uncertainty.shape != error.shape:
        raise ValueError(f"the uncertainty is of shape {uncertainty.shape}, the errors of {error.shape}.")
    predicted, true = uncertainty.ravel().astype(np.float64), error.ravel().astype(np.float64)
    mean = float(true.mean())
    return Trust(
        rank_correlation(predicted, true),
        float(predicted.mean()) / mean if mean > 0 else float("nan"),
        SHARES,
        sparsification(predicted, true, SHARES),
        sparsification(true, true, SHARES),
    )


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, equal values sharing their ranks; nan where all of one are equal."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a, b).statistic)


def sparsification(predicted: np.ndarray, error: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """Mean error of what is left when such shares (below 1) of the pixels, the largest predicted first, are left out.

    Pixels of one prediction go in no order: each counts as the mean of them. Relative to the mean error of all; 1
    where there is no error.
    """
    _, group = np.unique(-predicted, return_inverse=True)
    counts = np.bincount(group)
    totals = np.bincount(group, weights=error)
    if totals.sum() <= 0:
        return np.ones_like(left_out)
    gone = np.concatenate([[0.0], np.cumsum(counts)]) / error.size
    held = np.concatenate([[0.0], np.cumsum(totals)]) / totals.sum()
    curve: np.ndarray = (1 - np.interp(left_out, gone, held)) / (1 - left_out)
    return curve
