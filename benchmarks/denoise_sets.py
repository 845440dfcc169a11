"""The noisy images of `python -m benchmarks.denoise`, their true images, and the score.

"photographs"   Grey photographs of Kodak (luminance, BT.601), the middle 256 x 300 pixels, 0 to 255. The noise is white
                (sigma in grey levels), or that of a camera: white is `PHOTONS` photons, and the read noise is
                `ELECTRONS` electrons. The noisy values are neither rounded nor clipped. The peak of the PSNR is 255.
"micrographs"   One frame of W2S and the mean of 400 as its truth, in the units of the frame (`microscopy_sets`). The
                noise is not known. The peak is the range of the truth.

The seed of the noise depends on the name of the image and on the noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from skimage.io import imread

from benchmarks.microscopy_sets import seed_of, single_frames
from napari_siren.core.image.metrics import psnr_of
from napari_siren.core.pretrained_network.resampling import LUMA

Kind = Literal["photographs", "micrographs"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Rows and columns of the crops of photographs.
CROP = (256, 300)
WHITE = 255.0
SIGMAS = (15, 25, 50)
PHOTONS, ELECTRONS = 60, 2


@dataclass(frozen=True)
class Noise:
    """Noise of a camera.

    Parameters
    ----------
    gain
        Increase of the value for each photon. 0 is noise that does not depend on the signal.
    deviation
        Standard deviation of the value without light.
    """

    gain: float
    deviation: float

    def added(self, image: np.ndarray, seed: int) -> np.ndarray:
        """Return an image of non-negative values with noise, float32."""
        rng = np.random.default_rng(seed)
        signal = image if self.gain == 0 else self.gain * rng.poisson(image / self.gain)
        noisy: np.ndarray = signal + rng.normal(0.0, self.deviation, image.shape)
        return noisy.astype(np.float32)


NOISES = {
    **{f"sigma {sigma}": Noise(0.0, float(sigma)) for sigma in SIGMAS},
    f"{PHOTONS} photons + {ELECTRONS} e": Noise(WHITE / PHOTONS, ELECTRONS * WHITE / PHOTONS),
}


@dataclass(frozen=True)
class Case:
    """A noisy image and its true image.

    Parameters
    ----------
    kind, setting, name
        Kind of the images, name of the noise, and name of the image.
    noisy, truth
        Images of one shape (rows, columns), in the same units.
    peak
        Peak of the PSNR.
    noise
        The noise, or None if it is not known.
    """

    kind: Kind
    setting: str
    name: str
    noisy: np.ndarray
    truth: np.ndarray
    peak: float
    noise: Noise | None

    def psnr(self, result: np.ndarray) -> float:
        """Return the PSNR of a result in dB. The result is not rounded."""
        if result.shape != self.truth.shape:
            raise ValueError(f"the result is {result.shape}, the truth {self.truth.shape}.")
        return psnr_of(float(np.square(result.astype(np.float64) - self.truth).mean()), self.peak)


def cases(kind: Kind, data: Path, count: int | None = None) -> Iterator[Case]:
    """Yield the cases of a kind for the first `count` existing images, one setting after the other."""
    if kind == "micrographs":
        for case in list(single_frames(data))[:count]:
            yield Case(kind, "W2S", case.name, case.given.image, case.truth, case.peak, None)
        return
    paths = sorted((data / "kodak").glob("*.png"))[:count]
    for setting, noise in NOISES.items():
        for path in paths:
            truth = grey_middle(imread(path))
            noisy = noise.added(truth, seed_of(f"{path.stem} {setting}"))
            yield Case(kind, setting, path.stem, noisy, truth, WHITE, noise)


def grey_middle(picture: np.ndarray) -> np.ndarray:
    """Return the luminance of the middle of an image (rows, columns, 3), at most `CROP`, float64."""
    sizes = [min(n, most) for n, most in zip(picture.shape[:2], CROP, strict=True)]
    rows, columns = (slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(picture.shape[:2], sizes, strict=True))
    grey: np.ndarray = picture[rows, columns].astype(np.float64) @ np.array(LUMA)
    return grey
