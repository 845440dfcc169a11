"""The images of `python -m benchmarks.limits`: small images with their true images of twice the size.

"failures"   Crops of images on which pretrained networks fail. They may be shown: two photographs of Kodak, and a
             micrograph of NEUBIAS (CC BY 4.0).
"degraded"   Crops of three Kodak images, grey, whose small images have noise or were compressed as JPEG.
"drawn"      Drawn images that are unlike photographs.

The small images are made by the antialiased bicubic and rounded to 8 bits, except for the micrograph: it is averaged,
with photon noise (`microscopy_sets`, kind "plane").
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter
from skimage.io import imread

from benchmarks.interpolators import channels_as, shrink, to_bytes
from benchmarks.microscopy_sets import cases
from napari_siren.core.image.metrics import psnr_of

Part = Literal["failures", "degraded", "drawn"]
PARTS: tuple[Part, ...] = get_args(Part)

SCALE = 2
# Rows and columns of photographs and drawn images; all are squares.
CROP, DRAWN = 256, 128
JPEG_QUALITY = 30
DEGRADATIONS = ("clean", "noise of 2 %", "noise of 5 %", "JPEG 80", "JPEG 50")
# Grey levels of drawn images.
_DARK, _BRIGHT = 30, 220


@dataclass(frozen=True)
class Enlargement:
    """A small image and its true image of `SCALE` times the size.

    Parameters
    ----------
    setting, name
        Name of the kind of image, and of the image.
    low, high
        The two images, (rows, columns) or (rows, columns, 3), in the same units.
    shown
        Rows and columns of the true image for the picture.
    peak
        Peak of the PSNR.
    """

    setting: str
    name: str
    low: np.ndarray
    high: np.ndarray
    shown: tuple[slice, slice] = (slice(None), slice(None))
    peak: float = 255.0

    def psnr(self, result: np.ndarray) -> float:
        """Return the PSNR of a result in dB, over all channels, without a border of `SCALE` pixels."""
        return self._psnr(result, (slice(SCALE, -SCALE),) * 2)

    def psnr_shown(self, result: np.ndarray) -> float:
        """Return the PSNR of the part for the picture."""
        return self._psnr(result, self.shown)

    def _psnr(self, result: np.ndarray, part: tuple[slice, slice]) -> float:
        difference = result[part].astype(np.float64) - self.high[part]
        return psnr_of(float(np.square(difference).mean()), self.peak)


def enlargements(part: Part, data: Path) -> Iterator[Enlargement]:
    """Yield the images of a part. Images without a file are left out."""
    makers = {"failures": lambda: failures(data), "degraded": lambda: degraded(data), "drawn": drawn}
    yield from makers[part]()


def failures(data: Path) -> Iterator[Enlargement]:
    """Yield the failures in the documentation."""
    path = data / "kodak" / "kodim05.png"
    if path.exists():
        picture = imread(path)
        hose = picture[150 : 150 + CROP, 100 : 100 + CROP]
        yield Enlargement("fine pattern", "kodim05, hose", small(hose), hose, (slice(78, 174), slice(90, 186)))
        helmet = picture[0:CROP, 768 - CROP :]
        low = compressed(small(helmet), JPEG_QUALITY)
        shown = (slice(48, 144), slice(CROP - 100, CROP - 4))
        yield Enlargement(f"JPEG {JPEG_QUALITY}", "kodim05, helmet", low, helmet, shown)
    for case in cases("plane", data):
        if case.name == "nuclei_golgi 1" and "photons" in case.setting:
            shown = (slice(100, 196), slice(100, 196))
            yield Enlargement("few photons", case.name, case.given.image, case.truth, shown, case.peak)


def degraded(data: Path) -> Iterator[Enlargement]:
    """Yield the middles of Kodak images 1, 9 and 17, grey, with each degradation of the small image."""
    for setting in DEGRADATIONS:
        for number in ("01", "09", "17"):
            path = data / "kodak" / f"kodim{number}.png"
            if path.exists():
                picture = np.asarray(Image.open(path).convert("L"))
                top, left = ((n - CROP) // 2 for n in picture.shape)
                high = picture[top : top + CROP, left : left + CROP]
                yield Enlargement(setting, path.stem, degrade(small(high), setting, int(number)), high)


def degrade(low: np.ndarray, setting: str, seed: int) -> np.ndarray:
    """Return a small image with noise, or after compression."""
    kind, *words = setting.split()
    if kind == "noise":
        noise = np.random.default_rng(seed).normal(0.0, 2.55 * float(words[1]), low.shape)
        return to_bytes(low + noise)
    return compressed(low, int(words[0])) if kind == "JPEG" else low


def drawn() -> Iterator[Enlargement]:
    """Yield drawn images."""
    rows, columns = np.indices((DRAWN, DRAWN)) + 0.5
    squared = np.square(rows) + np.square(columns)
    rng = np.random.default_rng(0)
    spots = np.zeros((DRAWN, DRAWN))
    np.add.at(spots, tuple(rng.integers(0, DRAWN, (2, 120))), rng.uniform(0.3, 1.0, 120))
    spots = gaussian_filter(spots, 1.3)
    slanted = np.cos(0.4) * columns + np.sin(0.4) * rows
    images = {
        "zone plate, up to 0.25 cycles per fine pixel": 0.5 + 0.5 * np.cos(0.25 * np.pi * squared / DRAWN),
        "zone plate, up to 0.4 cycles per fine pixel": 0.5 + 0.5 * np.cos(0.4 * np.pi * squared / DRAWN),
        "sine stripes, period of 5 fine pixels": 0.5 + 0.5 * np.sin(2 * np.pi / 5 * slanted),
        "stripes with sharp edges, period of 7.3 fine pixels": (slanted % 7.3 < 3.65).astype(float),
        "black lines and circles, 1.5 fine pixels thick": _lines(),
        "small print": _print(),
        "120 blurred spots, sigma 1.3 fine pixels": spots / spots.max(),
        "random black and white squares, 4 x 4 fine pixels": rng.integers(0, 2, (32, 32)).repeat(4, 0).repeat(4, 1),
    }
    for name, image in images.items():
        high = to_bytes(_DARK + (_BRIGHT - _DARK) * np.asarray(image, dtype=np.float64))
        yield Enlargement("drawn", name, small(high), high)


def small(high: np.ndarray) -> np.ndarray:
    """Return the small image by the antialiased bicubic, in 8 bits."""
    return to_bytes(channels_as(high, shrink(high, SCALE)))


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """Return an image of 8 bits after compression as JPEG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _lines() -> np.ndarray:
    """Draw lines and circles at four times the size, and average."""
    sheet = Image.new("L", (4 * DRAWN, 4 * DRAWN), 255)
    draw = ImageDraw.Draw(sheet)
    for k in range(5):
        draw.line((0, 100 * k, 4 * DRAWN, 100 * k + 60 * k), fill=0, width=6)
        draw.ellipse(
            (256 - 45 * (k + 1), 256 - 45 * (k + 1), 256 + 45 * (k + 1), 256 + 45 * (k + 1)), outline=0, width=6
        )
    return np.asarray(sheet, dtype=np.float64).reshape(DRAWN, 4, DRAWN, 4).mean(axis=(1, 3)) / 255


def _print() -> np.ndarray:
    """Draw text of 8 pixels."""
    sheet = Image.new("L", (DRAWN, DRAWN), 255)
    text = (
        "The field is a function of\nposition. Its value at the\ncentre of a pixel is close\nto the pixel: 0.123456789"
    )
    ImageDraw.Draw(sheet).multiline_text(
        (2, 2), "\n".join([text] * 3), fill=0, font=ImageFont.load_default(8), spacing=2
    )
    return np.asarray(sheet, dtype=np.float64) / 255
