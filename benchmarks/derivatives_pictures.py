"""The pictures of docs/guide/derivatives.md, of images that may be shown: Kodak's, and one of ndev-sampledata."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from skimage.draw import polygon2mask
from skimage.io import imread
from skimage.measure import block_reduce

import napari_siren as ns
from benchmarks.study_pictures import panels

QUALITY = 85
# The sailing boats of kodim09, at 2/5 of their size, and where they go in kodim21.
BOATS = ((260, 30), (150, 30), (110, 40), (60, 85), (35, 100), (35, 115), (80, 170), (150, 200), (262, 203))
BOATS_AT, SHOWN = (82, 545), (slice(60, 380), slice(448, 768))


def draw(data: Path, folder: Path, device: str) -> None:
    """Draw all of them into a folder, as WebP."""
    kodak, micrographs = data / "kodak", data / "microscopy"
    from_gradient(imread(kodak / "kodim23.png")[100:356, 380:636], folder / "derivatives_found.webp", device)
    even(tifffile.imread(micrographs / "ndev_neuron-4Ch.tiff")[0], folder / "derivatives_even.webp", device)
    blended(imread(kodak / "kodim09.png"), imread(kodak / "kodim21.png"), folder / "derivatives_blended.webp", device)


def from_gradient(image: np.ndarray, path: Path, device: str) -> None:
    gradient = np.stack(np.gradient(image.astype(float), axis=(0, 1)))
    told = ns.Supervision("gradient", mean=image.mean(axis=(0, 1)))
    found = ns.fit(gradient, supervision=told, device=device).reconstruction
    down, right = np.clip(128 + 2 * gradient, 0, 255).astype(np.uint8)
    panels(path, {"downwards": down, "to the right": right, "found": in_bytes(found, (0, 255))}, quality=QUALITY)


def even(image: np.ndarray, path: Path, device: str) -> None:
    """Show both at half their size in the same limits, which leave the brightest out: the background is uneven."""
    flat = ns.flatten_illumination(image, device=device).reconstruction
    limits = tuple(np.percentile(image, (0.5, 99)))
    shown = {"as it was": image, "even": flat}
    halves = {title: in_bytes(block_reduce(values, 2, np.mean), limits) for title, values in shown.items()}
    panels(path, halves, quality=QUALITY)


def blended(boats: np.ndarray, lighthouse: np.ndarray, path: Path, device: str) -> None:
    height, width = boats.shape[:2]
    size = (width * 2 // 5, height * 2 // 5)
    small = np.asarray(Image.fromarray(boats).resize(size, Image.Resampling.LANCZOS))
    mask = polygon2mask(small.shape[:2], np.array(BOATS))
    pasted = lighthouse.copy()
    rows, columns = np.nonzero(mask)
    pasted[rows + BOATS_AT[0], columns + BOATS_AT[1]] = small[rows, columns]
    found = ns.blend(small, lighthouse, mask, at=BOATS_AT, device=device).reconstruction
    panels(path, {"pasted": pasted[SHOWN], "blended": found[SHOWN]}, quality=QUALITY)


def in_bytes(values: np.ndarray, limits: tuple[float, ...]) -> np.ndarray:
    low, high = limits
    shown: np.ndarray = np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return shown
