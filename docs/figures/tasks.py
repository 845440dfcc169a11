"""Pictures for the pages of docs/tasks: before and after, from public micrographs and a photograph.

    python -m docs.figures.tasks [--parts denoise isotropic deblur burst] [--data FOLDER]

The folder is that of the benchmarks: `microscopy/` and `kodak/`. One thread takes about five minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio
from tifffile import imread

import napari_siren as ns
from benchmarks import machine
from benchmarks.microscopy_sets import STACKS, averaged, burst
from benchmarks.study_pictures import panels
from napari_siren.core.forward.operator import FWHM

FOLDER = Path(__file__).parent / "tasks"
# Quality of the WebP files.
QUALITY = 85
# Percentiles of a micrograph that are black and white in the picture.
LIMITS = (1, 99.7)
# Full width at half maximum of the simulated blur, in pixels.
PSF_WIDTH = 4.0
# Training steps on the stack, a fifth of the default, and the row of the stack in the picture.
TASK_STEPS, ROW = 400, 48
Pictures = dict[str, np.ndarray]


def shown(images: Pictures, zoom: int, reference: np.ndarray) -> Pictures:
    """Return the images in 8 bits with the display range of a reference, each pixel as a square."""
    low, high = np.percentile(reference, LIMITS)
    grey = {
        name: (np.clip((image - low) / (high - low), 0, 1) * 255).astype(np.uint8) for name, image in images.items()
    }
    return {name: image.repeat(zoom, axis=0).repeat(zoom, axis=1) for name, image in grey.items()}


def report(images: Pictures, truth: np.ndarray) -> None:
    """Print the PSNR of each image but the last, which is the truth. The peak is the range of the truth."""
    for name, image in list(images.items())[:-1]:
        psnr = peak_signal_noise_ratio(truth.astype(float), image.astype(float), data_range=np.ptp(truth))
        print(f"{name}: {psnr:.2f} dB")


def with_photons(image: np.ndarray, photons: int) -> np.ndarray:
    """Return an image with the noise of this number of photons at its brightest pixel, float32."""
    unit = photons / image.max()
    return (np.random.default_rng(0).poisson(image * unit) / unit).astype(np.float32)


def denoised(data: Path) -> Pictures:
    recorded = imread(data / "microscopy/neubias_xyc_16bit__nuclei_golgi.tif")[0]
    image = with_photons(recorded, 20)
    clean = ns.denoise(image)
    images = {"20 photons": image, "denoised": clean, "as recorded": recorded}
    report(images, recorded)
    return shown({name: image[90:220, 30:160] for name, image in images.items()}, 2, recorded)


def isotropic(data: Path) -> Pictures:
    name, spacing = STACKS["chromosomes"]
    stack = imread(data / "microscopy" / name)[:, 28:124, 15:111]
    finer = ns.isotropic(stack, axes="ZYX", spacing=spacing, task_steps=TASK_STEPS)
    across = stack[:, ROW, :]
    size = (across.shape[1], finer.shape[0])
    flat = Image.fromarray(across.astype(np.float32))
    images = {
        "the slices, from the side": flat.resize(size, Image.Resampling.NEAREST),
        "linear interpolation": flat.resize(size, Image.Resampling.BILINEAR),
        "isotropic": finer[:, ROW, :],
    }
    return shown({name: np.asarray(image) for name, image in images.items()}, 2, across)


def deblurred(data: Path) -> Pictures:
    recorded = averaged(imread(data / "microscopy/neubias_xy_16bit__rat_hippocampal_neuron.tif"), (2, 2))
    image = with_photons(gaussian_filter(recorded, PSF_WIDTH / FWHM), 2000)
    sharp = ns.deblur(image, psf_width=PSF_WIDTH)
    images = {"blurred": image, "deblurred": sharp, "as recorded": recorded}
    report(images, recorded)
    return shown({name: image[60:190, 60:190] for name, image in images.items()}, 2, recorded)


def joined(data: Path) -> Pictures:
    picture = np.asarray(Image.open(data / "kodak/kodim23.png").convert("L"), dtype=np.float32)
    scene = picture[64:464, 120:520]
    frames, truth, _ = burst(scene, 0)
    result = ns.fit_burst(frames, axes="TYX")
    first = Image.fromarray(frames[0].astype(np.float32))
    rows, columns = truth.shape
    images = {
        "first of eight frames": np.asarray(first.resize((columns, rows), Image.Resampling.NEAREST)),
        "joined": result.render(scale=2),
        "the truth": truth,
    }
    return shown(images, 2, truth)


PARTS: dict[str, Callable[[Path], Pictures]] = {
    "denoise": denoised,
    "isotropic": isotropic,
    "deblur": deblurred,
    "burst": joined,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--data", type=Path, default=machine.DATA)
    options = parser.parse_args()
    for part in options.parts:
        panels(FOLDER / f"{part}.webp", PARTS[part](options.data), quality=QUALITY)


if __name__ == "__main__":
    main()
