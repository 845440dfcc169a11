"""The images that microscopy is judged on: what a method is given, the truth that it is not, and the score.

"missing"   Slices are taken out of a stack and predicted. Their noise is independent of the input's. The stack ends
            with the last slice that is kept, and only the missing ones count.
"thick"     Slices are averaged by 2 and by 4 along z, without noise and with photon noise.
"plane"     Images are averaged by 2 along y and x, without noise and with photon noise; each channel is an image.
"denoise"   One frame against the mean of 400 (W2S, Zhou et al. 2020). Each file was stretched to 8 bits on its own, by
            its percentiles. Their relation is linear, so that the truth is put into the frame's units by least squares
            of the frame on the truth, not clipped (the noise is in the frame: the other way round, it would flatten the
            line).
"blur"      Synthetic bars, blurred, with their PSF (DeconvolutionLab2). The blur wraps around at the borders and has a
            gain; the truth is given the flux of the data. The bars are one voxel thick, far below the resolution, and
            half a percent of the volume: a result of zeros is at 25.6 dB. PSF and data are off by up to half a voxel.
"burst"     Eight frames of a scene, drifting by random parts of a pixel, with noise of 2 % of the range. The scene is
            an image whose pixels are squares of constant light, four to a pixel's side, so that every frame, and the
            truth at twice the frame's resolution, are exact integrals of it. The first frame has not drifted.

Photon noise is Poisson's, in the input only: its brightest value counts `PHOTONS` photons above its darkest. Noise is
drawn by a seed that is made of the case's name. Averages are float32, not rounded.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from skimage.color import rgb2gray
from skimage.io import imread
from skimage.metrics import structural_similarity
from tifffile import imread as read_tiff

from benchmarks.micro_ssim import micro_ssim
from benchmarks.upscale_sets import Score
from napari_siren.core.image.metrics import psnr_of

Kind = Literal["missing", "thick", "plane", "denoise", "blur", "burst"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# File and voxel in micrometres.
STACKS = {
    "golgi_bfa": ("neubias_xyz_calibrated_16bit__golgi_bfa.tif", (0.3876, 0.3514, 0.3514)),
    "spots": ("neubias_xyz_16bit__spots.tif", (0.4, 0.0941, 0.0941)),
    "chromosomes": ("neubias_xyz_8bit__chromosomes.tif", (0.15, 0.0339, 0.0339)),
    "nuclei_autothresh": ("neubias_xyz_8bit__nuclei_autothresh.tif", (4.0, 0.8287, 0.8287)),
}
# File, axes and pixel in micrometres (1 where it is not known).
PLANES = {
    "microtubules": ("neubias_xy_16bit__microtubules.tif", "YX", 1.0),
    "hippocampal_neuron": ("neubias_xy_16bit__rat_hippocampal_neuron.tif", "YX", 0.16),
    "eres_noisy": ("neubias_xy_calibrated_16bit__cells_eres_noisy.tif", "YX", 0.2297),
    "hela": ("neubias_xyc_16bit__hela-cells.tif", "YXC", 0.0515),
    "nuclei_golgi": ("neubias_xyc_16bit__nuclei_golgi.tif", "CYX", 0.5158),
    "neuron": ("ndev_neuron-4Ch.tiff", "CYX", 0.1241),
}
# Pictures to make bursts of; the planes are named as their channels are.
PHOTOS = tuple(f"kodak/kodim{n}.png" for n in ("05", "15", "23")) + tuple(
    f"div2k16/{n}.png" for n in ("00", "05", "10")
)
BURST_PLANES = ("hippocampal_neuron", "hela 1", "neuron 0")

# Kept slices: one of so many.
STEPS = {"1 of 2 missing": 2, "2 of 3 missing": 3}
THICKNESSES = (2, 4)
SCALE = 2
PHOTONS = 100
FRAMES = 8
BURST_NOISE = 0.02
# Largest drift along an axis, in pixels of a frame.
DRIFT = 1.5
# Of the scene, to a frame's pixel along an axis.
FINE = 4
# Pixels of a frame along an axis, at the most.
FRAME_SIZE = 96


@dataclass(frozen=True)
class Given:
    """What a method may know.

    Parameters
    ----------
    image
        Of the axes `axes`: YX, ZYX or TYX (frames of one scene).
    axes
        One letter each.
    spacing, scale
        Of Y and X, or Z, Y and X: distance of the samples in micrometres (1 where not known), and samples of the result
        for each of them.
    missing
        bool, the image's shape, or None; the image is 0 there.
    psf
        An array with an axis for each of the image's, whose point is at index n // 2, or None where it is not known.
    """

    image: np.ndarray
    axes: str
    spacing: tuple[float, ...]
    scale: tuple[int, ...]
    missing: np.ndarray | None = None
    psf: np.ndarray | None = None


@dataclass(frozen=True)
class Case:
    """An input and its truth.

    Parameters
    ----------
    kind, setting, name
        Kind of the task, what was done to the image, and which image it is.
    given
        The input.
    truth
        In the input's units; of the image's spatial shape times the scale.
    """

    kind: Kind
    setting: str
    name: str
    given: Given
    truth: np.ndarray

    def __post_init__(self) -> None:
        given = self.given
        sizes = [n for n, axis in zip(given.image.shape, given.axes, strict=True) if axis != "T"]
        if tuple(n * f for n, f in zip(sizes, given.scale, strict=True)) != self.truth.shape:
            raise ValueError(f"{self.name}: {sizes} times {given.scale} is not the truth's {self.truth.shape}.")
        if len(given.spacing) != len(sizes):
            raise ValueError(f"{self.name}: {len(given.spacing)} spacings for {len(sizes)} axes.")
        if given.missing is not None and given.missing.shape != given.image.shape:
            raise ValueError(f"{self.name}: {given.missing.shape} pixels may be missing of {given.image.shape}.")

    @property
    def peak(self) -> float:
        """Range of the truth."""
        return float(self.truth.max()) - float(self.truth.min())


@dataclass(frozen=True)
class MicroscopyScore(Score):
    """How close a result is to the truth, by MicroSSIM too; None without the package `microssim`."""

    micro_ssim: float | None


def score(found: np.ndarray, case: Case) -> MicroscopyScore:
    """Judge a result: peak of the PSNR, and range of the SSIM, are the truth's; the SSIM is the mean of the planes'.

    Structural similarity is that of Wang et al. (2004): a Gaussian window of 11 x 11, sigma 1.5. Where slices were
    missing, only they count.
    """
    if found.shape != case.truth.shape:
        raise ValueError(f"the result is {found.shape}, the truth {case.truth.shape}.")
    planes = [values.astype(np.float64).reshape(-1, *values.shape[-2:]) for values in (found, case.truth)]
    if case.given.missing is not None:
        counts = case.given.missing.all(axis=(1, 2))
        planes = [plane[counts] for plane in planes]
    window = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    ssims = [
        structural_similarity(a, b, data_range=case.peak, **window)  # type: ignore[no-untyped-call]
        for a, b in zip(*planes, strict=True)
    ]
    psnr = psnr_of(float(np.square(planes[0] - planes[1]).mean()), case.peak)
    return MicroscopyScore(psnr, float(np.mean(ssims)), micro_ssim(planes[1], planes[0]))


def cases(kind: Kind, data: Path) -> Iterator[Case]:
    """Give the cases of a kind of which the files are there."""
    makers = {
        "missing": missing_slices,
        "thick": thick_slices,
        "plane": planes_by_half,
        "denoise": single_frames,
        "blur": bars,
        "burst": bursts,
    }
    yield from makers[kind](data)


def missing_slices(data: Path) -> Iterator[Case]:
    for name, stack, spacing in stacks(data):
        for setting, step in STEPS.items():
            truth = stack[: (len(stack) - 1) // step * step + 1]
            missing = np.ones(truth.shape, dtype=bool)
            missing[::step] = False
            given = Given(np.where(missing, truth.dtype.type(0), truth), "ZYX", spacing, (1, 1, 1), missing)
            yield Case("missing", setting, name, given, truth)


def thick_slices(data: Path) -> Iterator[Case]:
    for name, stack, spacing in stacks(data):
        for by in THICKNESSES:
            truth = stack[: len(stack) // by * by]
            thick = averaged(truth, (by, 1, 1))
            for setting, image in clean_and_noisy(f"z / {by}", name, thick):
                given = Given(image, "ZYX", (spacing[0] * by, *spacing[1:]), (by, 1, 1))
                yield Case("thick", setting, name, given, truth)


def planes_by_half(data: Path) -> Iterator[Case]:
    for name, plane, pixel in planes(data):
        rows, columns = (n // SCALE * SCALE for n in plane.shape)
        truth = plane[:rows, :columns]
        for setting, image in clean_and_noisy(f"x{SCALE}", name, averaged(truth, (SCALE, SCALE))):
            given = Given(image, "YX", (pixel * SCALE,) * 2, (SCALE, SCALE))
            yield Case("plane", setting, name, given, truth)


def single_frames(data: Path) -> Iterator[Case]:
    for path in sorted((data / "microscopy").glob("input_avg1_*.tif")):
        frame, mean = read_tiff(path), read_tiff(path.with_name(path.name.replace("input_avg1", "target_avg400")))
        truth = in_units_of(frame, mean)
        name = path.stem.removeprefix("input_avg1_")
        yield Case("denoise", "1 of 400 frames", name, Given(frame, "YX", (1.0, 1.0), (1, 1)), truth)


def bars(data: Path) -> Iterator[Case]:
    paths = [data / "microscopy" / f"bars-25pct_{part}.tif" for part in ("data", "actual", "kernel")]
    if all(path.exists() for path in paths):
        image, actual, psf = (read_tiff(path) for path in paths)
        truth = actual * (float(image.sum(dtype=np.float64)) / float(actual.sum(dtype=np.float64)))
        given = Given(image, "ZYX", (1.0, 1.0, 1.0), (1, 1, 1), psf=psf / psf.sum(dtype=np.float64))
        yield Case("blur", "blurred bars", "bars", given, truth)


def bursts(data: Path) -> Iterator[Case]:
    for name, picture in scenes(data):
        frames, truth, _ = burst(picture, seed_of(name))
        given = Given(frames, "TYX", (1.0, 1.0), (SCALE, SCALE))
        yield Case("burst", f"{FRAMES} frames, x{SCALE}, noise {BURST_NOISE:.0%}", name, given, truth)


def burst(picture: np.ndarray, seed: int, noise: float = BURST_NOISE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Look at the middle of a picture several times.

    Returns
    -------
    tuple
        Frames, (frames, rows, columns) float32; the truth, (rows, columns) times the scale; the drift of each frame in
        its pixels, (frames, 2): pixel k of it sees what lies at k + drift in the first.
    """
    margin = int(np.ceil(DRIFT * FINE))
    sizes = [min(FRAME_SIZE, (n - 2 * margin) // FINE) for n in picture.shape]
    starts = [(n - size * FINE) // 2 for n, size in zip(picture.shape, sizes, strict=True)]
    rng = np.random.default_rng(seed)
    drifts = rng.uniform(-DRIFT, DRIFT, (FRAMES, 2))
    drifts[0] = 0

    def seen(width: int, counts: list[int], drift: np.ndarray) -> np.ndarray:
        begins = starts + drift * width
        rows, columns = (box(*axis, width) for axis in zip(begins, counts, picture.shape, strict=True))
        values: np.ndarray = rows @ picture.astype(np.float64) @ columns.T
        return values

    truth = seen(FINE // SCALE, [n * SCALE for n in sizes], np.zeros(2))
    frames = np.stack([seen(FINE, sizes, drift) for drift in drifts])
    frames += rng.normal(0.0, noise * float(np.ptp(truth)), frames.shape)
    return frames.astype(np.float32), truth.astype(np.float32), drifts


def box(begin: float, count: int, size: int, width: int) -> np.ndarray:
    """Give the means over `count` pixels of a width, the first of which begins there: (count, size)."""
    left = begin + width * np.arange(count)[:, np.newaxis]
    pixels = np.arange(size)
    shared = np.minimum(left + width, pixels + 1) - np.maximum(left, pixels)
    weights: np.ndarray = np.clip(shared, 0.0, None) / width
    return weights


def clean_and_noisy(setting: str, name: str, image: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield setting, image
    yield f"{setting}, {PHOTONS} photons", with_photon_noise(image, seed_of(f"{setting} {name}"))


def with_photon_noise(image: np.ndarray, seed: int) -> np.ndarray:
    """Count photons, `PHOTONS` of them between the darkest value and the brightest; in the image's units, float32."""
    low, span = float(image.min()), float(np.ptp(image))
    if span == 0:
        return image
    counts = np.random.default_rng(seed).poisson((image.astype(np.float64) - low) * (PHOTONS / span))
    noisy: np.ndarray = low + counts * (span / PHOTONS)
    return noisy.astype(np.float32)


def averaged(image: np.ndarray, by: tuple[int, ...]) -> np.ndarray:
    """Give the means over blocks, of which there are whole numbers; float32."""
    parts = [n for size, block in zip(image.shape, by, strict=True) for n in (size // block, block)]
    means: np.ndarray = image.reshape(parts).mean(axis=tuple(range(1, len(parts), 2)), dtype=np.float64)
    return means.astype(np.float32)


def in_units_of(frame: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Put the mean of many frames into the units of one: the line of least squares through what was not clipped."""
    values = mean.astype(np.float64)
    whole = (values > values.min()) & (values < values.max())
    gain, offset = np.polyfit(values[whole], frame[whole].astype(np.float64), 1)
    fitted: np.ndarray = gain * values + offset
    return fitted.astype(np.float32)


def stacks(data: Path) -> Iterator[tuple[str, np.ndarray, tuple[float, ...]]]:
    for name, (file, spacing) in STACKS.items():
        if (path := data / "microscopy" / file).exists():
            yield name, read_tiff(path), spacing


def planes(data: Path) -> Iterator[tuple[str, np.ndarray, float]]:
    """Give name, image and pixel of each channel of the images that are there."""
    for name, (file, axes, pixel) in PLANES.items():
        if not (path := data / "microscopy" / file).exists():
            continue
        image = read_tiff(path)
        if axes == "YX":
            yield name, image, pixel
            continue
        for number, channel in enumerate(np.moveaxis(image, axes.index("C"), 0)):
            yield f"{name} {number}", channel, pixel


def scenes(data: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Give name and picture, grey, of what bursts are made of."""
    for file in PHOTOS:
        if (path := data / file).exists():
            yield path.stem if "kodak" in file else f"DIV2K {path.stem}", 255 * rgb2gray(imread(path))
    for name, plane, _ in planes(data):
        if name in BURST_PLANES:
            yield name, plane


def seed_of(name: str) -> int:
    return zlib.crc32(name.encode())
