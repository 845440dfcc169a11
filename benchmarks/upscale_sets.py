"""The images that upscaling is judged on, and the protocol by which it is.

The protocol is the usual one: the result is rounded to 8 bits, luminance is Y of YCbCr (BT.601, 16 to 235, as MATLAB's
rgb2ycbcr has it; a grey image is its own), a border of `scale` pixels is left out, the peak is 255. Structural
similarity is that of Wang et al. (2004): a Gaussian window of 11 x 11, sigma 1.5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from skimage.color import rgb2ycbcr
from skimage.io import imread
from skimage.metrics import structural_similarity

from benchmarks.interpolators import channels_as, channels_first, decimate, shrink, to_bytes
from napari_siren.core.image.metrics import psnr_of

NAMES = {
    "Set5": ("baby", "bird", "butterfly", "head", "woman"),
    "Set14": (
        *("baboon", "barbara", "bridge", "coastguard", "comic", "face", "flowers"),
        *("foreman", "lenna", "man", "monarch", "pepper", "ppt3", "zebra"),
    ),
}
SCALES = (2, 3, 4)
# Shares of 255.
NOISES = (0.02, 0.05)


@dataclass(frozen=True)
class Pair:
    """A small image, and what it is a copy of.

    Parameters
    ----------
    name
        Of the image.
    low, high
        uint8, (rows, columns) or (rows, columns, 3).
    scale
        Sides of `high` over those of `low`.
    """

    name: str
    low: np.ndarray
    high: np.ndarray
    scale: int

    def __post_init__(self) -> None:
        wanted = tuple(n * self.scale for n in self.low.shape[:2])
        if self.high.shape != wanted + self.low.shape[2:] or self.high.dtype != np.uint8:
            raise ValueError(f"{self.name}: {self.high.shape} is not {self.low.shape} times {self.scale}, uint8.")


@dataclass(frozen=True)
class Score:
    """How close a result is to the truth.

    Parameters
    ----------
    psnr, ssim
        dB, infinite where every pixel is right; and mean structural similarity.
    """

    psnr: float
    ssim: float


def luminance(image: np.ndarray) -> np.ndarray:
    """Y of an image of dtype uint8, float64, in 16 to 235; a grey image is its own, in 0 to 255."""
    return image.astype(np.float64) if image.ndim == 2 else rgb2ycbcr(image)[..., 0]


def cropped(plane: np.ndarray, scale: int) -> np.ndarray:
    return plane[scale:-scale, scale:-scale]


def score(found: np.ndarray, truth: np.ndarray, scale: int) -> Score:
    """Judge a result by the protocol; both are uint8 and of one shape."""
    if found.shape != truth.shape or found.dtype != np.uint8:
        raise ValueError(f"the result is {found.dtype} {found.shape}, the truth uint8 {truth.shape}.")
    a, b = (cropped(luminance(image), scale) for image in (found, truth))
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    ssim = structural_similarity(a, b, data_range=255.0, **window)  # type: ignore[no-untyped-call]
    return Score(psnr_of(float(np.square(a - b).mean()), 255.0), float(ssim))


def consistency(found: np.ndarray, low: np.ndarray, scale: int) -> float:
    """PSNR of the result, seen through the forward model, against the small image; all channels and pixels."""
    seen = shrink(found, scale)
    return psnr_of(float(np.square(seen - channels_first(low)).mean()), 255.0)


def read_set(data: Path, name: str, scale: int, count: int | None = None) -> list[Pair]:
    """Read the first `count` pairs of Set5 or Set14; empty where the folder is not there."""
    folder = data / "sr" / name / f"image_SRF_{scale}"
    pairs: list[Pair] = []
    for low in sorted(folder.glob("*_LR.png"))[:count]:
        high = low.with_name(low.name.replace("_LR", "_HR"))
        pairs.append(Pair(NAMES[name][len(pairs)], imread(low), imread(high), scale))
    return pairs


def read_shrunk(data: Path, folder: str, scale: int, count: int | None = None) -> list[Pair]:
    """Read pictures, and make their small copies by the antialiased bicubic, rounded to 8 bits."""
    pairs = []
    for path in sorted((data / folder).glob("*.png"))[:count]:
        picture = imread(path)
        rows, columns = (n - n % scale for n in picture.shape[:2])
        high = picture[:rows, :columns]
        pairs.append(Pair(path.stem, to_bytes(channels_as(high, shrink(high, scale))), high, scale))
    return pairs


def with_noise(pairs: list[Pair], share: float) -> list[Pair]:
    """Add Gaussian noise to the small images, by seeds that are the pairs' numbers; round and clip.

    Parameters
    ----------
    pairs
        Whose large images stay as they are.
    share
        Standard deviation over 255.
    """
    noisy = []
    for seed, pair in enumerate(pairs):
        noise = np.random.default_rng(seed).normal(0.0, 255 * share, pair.low.shape)
        noisy.append(replace(pair, low=to_bytes(pair.low + noise)))
    return noisy


def aliased(pairs: list[Pair]) -> list[Pair]:
    """Replace the small images by copies without antialiasing, rounded."""
    return [replace(pair, low=to_bytes(channels_as(pair.high, decimate(pair.high, pair.scale)))) for pair in pairs]
