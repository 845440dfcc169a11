"""What the sections of the study share: its images, its measures, and what a section gives.

The images are parts of the sample photograph, Kodak's number 23. Small ones are made of them by the antialiased
bicubic, so that the truth between the pixels is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import napari_siren as ns
from benchmarks.interpolators import channels_as, channels_first, shrink, to_bytes
from napari_siren.core.image.metrics import psnr_of
from napari_siren.io.images import read_image, sample_path

PHOTO = read_image(sample_path()).array
HEAD = PHOTO[150:406, 64:320]  # 256 x 256; eight times smaller it is 32 x 32, the size of a CIFAR image
EYE = PHOTO[170:298, 130:258]  # 128 x 128; two times smaller it is 64 x 64
DETAIL = PHOTO[170:234, 130:194]  # 64 x 64

# Of a spectrum, in radians per pixel.
BIN = math.pi / 8

# What goes into a cell of a table: numbers by the column's format.
Cell = str | float | None


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Parameters
    ----------
    head
        Names of the columns.
    formats
        For each column how its numbers are written, as ".1f".
    rows
        Cells; None is an empty one.
    """

    head: list[str]
    formats: list[str]
    rows: list[list[Cell]] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """Add a row; an infinite number is a PSNR without any error, NaN one that there is not."""
        self.rows.append([None if cell != cell else "exact" if cell == math.inf else cell for cell in cells])

    def markdown(self) -> str:
        """Give the table as the page has it."""
        written = [[_write(cell, f) for cell, f in zip(row, self.formats, strict=True)] for row in self.rows]
        head, *rows = ("| " + " | ".join(row) + " |" for row in [self.head, *written])
        return "\n".join([head, "|" + "---|" * len(self.head), *rows])


@dataclass
class Section:
    """What a section of the study found.

    Parameters
    ----------
    tables
        By the name that the page has for their place.
    spectra
        For each picture of spectra: power by the name of the curve, as `spectrum` gives it.
    notes
        Other numbers.
    """

    tables: dict[str, Table] = field(default_factory=dict)
    spectra: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Study:
    """How the study is done.

    Parameters
    ----------
    out
        Folder of the pictures.
    data
        Folder with cifar/.
    seconds
        That the paper's network has to memorise a photograph.
    most_steps
        Of any part of any fit, for a quick look; None is as many as each section says.
    """

    out: Path
    data: Path
    seconds: float
    most_steps: int | None = None
    _fits: dict[tuple[Any, ...], ns.FitResult] = field(default_factory=dict)

    def fit(self, image: np.ndarray, **options: Any) -> ns.FitResult:
        """Fit as `ns.fit` does; what more than one section asks for is fitted once."""
        key = (image.shape, image.tobytes(), *sorted(options.items()))
        if key not in self._fits:
            self._fits[key] = ns.fit(image, device="cpu", **self._shortened(options))
        return self._fits[key]

    def _shortened(self, options: dict[str, Any]) -> dict[str, Any]:
        if self.most_steps is None:
            return options
        config = ns.FitConfig.preset(name=options.get("preset", "faithful")).override(
            **{name: value for name, value in options.items() if name not in ("preset", "seed")}
        )
        fewer = {name: min(getattr(config, name), self.most_steps) for name in ("max_steps", "task_steps")}
        return {**options, **fewer}


def network(layers: int, width: int, rate: float, steps: int) -> dict[str, Any]:
    """Give settings of the paper's kind of fit with another network, step size and number of steps."""
    return {
        "preset": "paper",
        "hidden_layers": layers,
        "hidden_features": width,
        "learning_rate": rate,
        "max_steps": steps,
    }


def drawn_from(bound: float, size: int) -> dict[str, Any]:
    """Give settings that draw the first layer's weights from U(-bound, bound), coordinates running from -1 to 1.

    Parameters
    ----------
    bound
        Of the weights, in the network's units.
    size
        Of the image along an axis.
    """
    return {"coordinates": "pixel", "omega_0": 30.0, "band": 30.0 * bound * 2 / (size - 1)}


def first_layer(result: ns.FitResult) -> float:
    """Bound along an axis of the frequencies that the first layer is drawn from, in radians per pixel."""
    config = result.config
    if config.coordinates == "pixel":
        return config.band
    return config.omega_0 / result.field.dimensions * max(result.field.blend.coordinate_scale)


# ---- images ----------------------------------------------------------------------------------------------------------


def smaller(image: np.ndarray, factor: int) -> np.ndarray:
    """Make a smaller copy by the antialiased bicubic, uint8."""
    return to_bytes(channels_as(image, shrink(image, factor)))


def with_noise(image: np.ndarray, share: float) -> np.ndarray:
    """Add Gaussian noise of a share of 255, round and clip."""
    return to_bytes(image + np.random.default_rng(0).normal(0.0, 255 * share, image.shape))


def wrapped(values: np.ndarray) -> np.ndarray:
    """Round to 8 bits as a cast does: modulo 256."""
    return np.rint(values).astype(np.int64).astype(np.uint8)


def grid_of(image: np.ndarray, factor: int) -> np.ndarray:
    """Positions of a finer grid by pixel centres: (j + 0.5) / factor."""
    axes = [(np.arange(n * factor) + 0.5) / factor for n in image.shape[:2]]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def at_ends(of: ns.Field, factor: int) -> np.ndarray:
    """Render on a finer grid laid from the first pixel's centre to the last one's, as linspace(-1, 1, n) does."""
    axes = [np.linspace(0.5, n - 0.5, n * factor) for n in of.layout.spatial_shape]
    return to_bytes(of(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)))


# ---- measures --------------------------------------------------------------------------------------------------------


def psnr(found: np.ndarray, truth: np.ndarray) -> float:
    """PSNR of 8-bit pictures in dB, all pixels and channels."""
    return psnr_of(float(np.square(found.astype(np.float64) - truth).mean()), 255.0)


def frequencies(count: int) -> np.ndarray:
    """Give the middles of the first bins of a spectrum, in radians per pixel."""
    return BIN * (np.arange(count) + 0.5)


def spectrum(image: np.ndarray, factor: int) -> np.ndarray:
    """Average the power of a picture over circles of equal frequency, and over its channels.

    Parameters
    ----------
    image
        (rows, columns) or (rows, columns, channels), on a grid `factor` times denser than the pixels.
    factor
        Samples per pixel.

    Returns
    -------
    ndarray
        For each bin of `BIN`, up to the grid's own limit of factor * pi: squared grey levels per squared
        (radian per pixel). It integrates to the variance, as a Hann window sees it.
    """
    radius, power = _periodogram(image, factor)
    inside = radius < math.pi * factor
    bins = np.floor(radius[inside] / BIN).astype(np.int64)
    area = (2 * math.pi * factor) ** 2 / power.size
    mean: np.ndarray = np.bincount(bins, power[inside]) / np.maximum(np.bincount(bins), 1) / area
    return mean


def beyond(image: np.ndarray, factor: int) -> float:
    """Give the rms, in grey levels, of what a picture has at frequencies above pi, which no pixels can hold."""
    radius, power = _periodogram(image, factor)
    return math.sqrt(power[radius > math.pi].sum())


def plain(powers: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """Give spectra as numbers of three digits."""
    return {name: [float(f"{value:.3g}") for value in power] for name, power in powers.items()}


def _periodogram(image: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Give radians per pixel, and the share of the variance, of every wave of a windowed picture."""
    values = channels_first(image.astype(np.float64))
    values = values - values.mean(axis=(1, 2), keepdims=True)
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in values.shape[1:]))
    waves = np.fft.fft2(values * window)
    power = np.square(np.abs(waves)).mean(axis=0) / (np.square(window).sum() * window.size)
    down, across = (2 * math.pi * factor * np.fft.fftfreq(n) for n in window.shape)
    return np.hypot(down[:, np.newaxis], across), power


def _write(cell: Cell, form: str) -> str:
    return cell or "" if cell is None or isinstance(cell, str) else f"{cell:{form}}"
