"""Evaluation of networks: degraded photographs and published test sets, and PSNR."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.degradation.kinds import KINDS
from napari_siren.core.pretrained_network import resampling
from napari_siren.core.pretrained_network.network import PretrainedNetwork
from napari_siren.core.pretrained_network.weights import is_gain
from napari_siren.core.pretraining.photographs import find_images, is_grey, load_image
from napari_siren.errors import InputError

Pixels = npt.NDArray[np.uint8]
Image = TypeVar("Image", npt.NDArray[np.uint8], npt.NDArray[np.float32])

# Seed of the noise of all cases.
_SEED = 0
# Parameters of the cases of each kind. The others are 0, except weights and factors, which are 1.
_NOISES = {
    "sigma 15": {"a": (15 / 255) ** 2},
    "sigma 25": {"a": (25 / 255) ** 2},
    "sigma 50": {"a": (50 / 255) ** 2},
    "60 photons, 2 e": {"a": (2 / 60) ** 2, "b": 1 / 60},
}
# Scale, and the standard deviation at the brightest value; a third of its variance is reading noise.
_LEVELS = {
    "microscope": {
        "noise 5 %": (1, 0.05),
        "noise 15 %": (1, 0.15),
        "noise 40 %": (1, 0.4),
        "x2, noise 5 %": (2, 0.05),
        "x2, noise 15 %": (2, 0.15),
    },
    "stack": {"noise 5 %": (1, 0.05), "noise 15 %": (1, 0.15), "noise 40 %": (1, 0.4)},
}
_MICROGRAPH = {
    "top": 0.8,
    "ground": 0.05,
    "spread": 0.01,
    "shift": 0.02,
    "factor": 1.0,
    "kernel": 1.0,
    "multiplied": 0.0,
}
# Scale and parameters.
_ROBUST: dict[str, tuple[int, dict[str, float]]] = {
    "x2": (2, {}),
    "x2, JPEG 50": (2, {"quality": 50, "known": 0.5}),
    "x2, JPEG 80": (2, {"quality": 80, "known": 0.2}),
    "x2, noise 2 %": (2, {"a": 0.02**2}),
    "x2, noise 5 %": (2, {"a": 0.05**2}),
    "x4": (4, {}),
}
# Scales of the cases for enlarging.
_SCALES = (2, 3, 4)
# Rows and columns are multiples of this: at a quarter of the size they are multiples of the 8 of JPEG.
_BLOCKS = 32
# Rounds of `agree`.
_ROUNDS = 6
# Ways to use a network, and their references: on test sets for enlarging, and on other photographs.
WAYS = ("bicubic", "plain", "turned", "turned, agreeing")
PHOTOGRAPH_WAYS = ("before", "plain", "turned")
# Rows and columns of the middle of photographs, including the margins of filters and kernels.
_MIDDLES = {
    "enlarge": (288, 288),
    "denoise": (256, 300),
    "microscope": (290, 290),
    "stack": (290, 290),
    "robust": (290, 290),
}


@dataclass(frozen=True)
class Case:
    """A set of degraded images, with the images before.

    Parameters
    ----------
    degraded
        Inputs of a network (images, rows, columns) or (images, inputs, rows, columns).
    fine
        The images before, (images, rows, columns).
    border
        Width of the border without influence on the PSNR, in pixels.
    luminance
        Whether the PSNR is that of Y of YCbCr in 8 bits, and not that of the values themselves.
    """

    degraded: Tensor
    fine: Tensor
    border: int = 0
    luminance: bool = True

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the outputs."""
        return self.fine.shape[1], self.fine.shape[2]

    def before(self) -> Tensor:
        """Return the interpolated luminance of the input, to which a network adds its output."""
        values = self.degraded if self.degraded.ndim == 3 else self.degraded[:, 0]
        rows, columns = (
            resampling.finer(n, m).to(values.device) for n, m in zip(values.shape[1:], self.size, strict=True)
        )
        return resampling.apply(rows, columns, values)

    def decibels(self, results: Tensor) -> float:
        """Return the mean PSNR of images (images, rows, columns), in dB."""
        return float(np.mean([self._decibels(image, true) for image, true in zip(results, self.fine, strict=True)]))

    def _decibels(self, result: Tensor, true: Tensor) -> float:
        if self.luminance:
            return resampling.decibels(result, true, self.border)
        inner = slice(self.border, -self.border or None)
        error = float((result.double() - true.double())[inner, inner].square().mean())
        return 10 * math.log10(1 / max(error, 1e-12))

    def on(self, device: torch.device) -> Case:
        """Return the case with its images on a device."""
        return Case(self.degraded.to(device), self.fine.to(device), self.border, self.luminance)


class Scoring(Protocol):
    """A validation of networks on held-out images.

    Parameters
    ----------
    before
        Scores of the images before restoration, by the name of the case.
    """

    before: dict[str, float]

    def scores(self, network: PretrainedNetwork, dtype: torch.dtype) -> dict[str, float]:
        """Return the score of a network in each case, in dB."""
        ...


class Validation:
    """A set of cases from held-out photographs, to validate a network.

    Parameters
    ----------
    kind
        Degradation of the photographs, a name in `degradation.kinds.KINDS`.
    images
        Photographs (rows, columns, 3) of 8 bits.
    side
        Rows and columns of their crops.
    device
        Device of the crops.

    Raises
    ------
    InputError
        There is no photograph, or they have too few pixels.
    """

    def __init__(self, kind: str, images: Sequence[Pixels], side: int, device: torch.device) -> None:
        crops = [crop for image in images for crop in most_detailed(image, side)]
        if not crops:
            raise InputError(
                f"no held-out photograph has {side} x {side} pixels. Hold out larger ones, or other crops."
            )
        self.cases = {name: case.on(device) for name, case in make_cases(kind, to_tensor(crops)).items()}
        # Bicubic interpolation, or the noisy image itself.
        self.before = {name: case.decibels(case.before()) for name, case in self.cases.items()}
        self._gain = is_gain(kind)

    @torch.no_grad()
    def scores(self, network: PretrainedNetwork, dtype: torch.dtype) -> dict[str, float]:
        """Return the gain over bicubic interpolation for each case, or the PSNR for kinds without enlarging."""
        scores = {}
        for name, case in self.cases.items():
            figure = case.decibels(network(case.degraded, case.size, dtype))
            scores[name] = round(figure - (self.before[name] if self._gain else 0), 4)
        return scores


def to_tensor(images: Sequence[Pixels]) -> Tensor:
    """Return images (rows, columns, 3) of 8 bits as (images, 3, rows, columns), 0 to 1."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def make_cases(kind: str, images: Tensor) -> dict[str, Case]:
    """Return the cases of a kind, from crops of photographs (images, 3, rows, columns)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        if kind == "enlarge":
            return {f"x{scale}": _coarser(images, scale) for scale in _SCALES}
        if kind in _LEVELS:
            return {name: _micrographs(kind, images, *case) for name, case in _LEVELS[kind].items()}
        if kind == "robust":
            return {name: _degraded(kind, images, values, scale) for name, (scale, values) in _ROBUST.items()}
        return {name: _degraded(kind, images, values) for name, values in _NOISES.items()}


def _coarser(images: Tensor, scale: int) -> Case:
    rows, columns = (resampling.coarser(n, n // scale) for n in images.shape[2:])
    degraded = resampling.luminance(resampling.shrunk(rows, columns, images))
    return Case(degraded, resampling.luminance(images), scale)


def _micrographs(kind: str, images: Tensor, scale: int, level: float) -> Case:
    top = _MICROGRAPH["top"]
    noise = {"a": level**2 / 3, "b": 2 / 3 * level**2 / top}
    return _degraded(kind, images, {**_MICROGRAPH, **noise}, scale, drawn=True)


def _degraded(kind: str, images: Tensor, values: dict[str, float], scale: int = 1, drawn: bool = False) -> Case:
    """Degrade images, or their middle, with given parameters; the others are 0, or drawn with a fixed seed."""
    margin = KINDS[kind](1, (), images.device).margin
    size = images.shape[2] - 2 * margin(scale)
    if kind == "robust":
        size = (images.shape[2] - 2 * margin(_SCALES[-1])) // _BLOCKS * _BLOCKS
        images = middle(images, *(size + 2 * margin(scale),) * 2)
    degradation = KINDS[kind](size // scale, (size,), images.device)
    table = degradation.draw(np.random.default_rng(_SEED), len(images))
    for column, name in enumerate(degradation.names):
        if name in values or not drawn:
            table[:, column] = values.get(name, 1.0 if name in ("weight", "factor") else 0.0)
    degraded, fine = degradation.pair(images, torch.from_numpy(table), size)
    return Case(degraded, fine, scale if scale > 1 or kind == "robust" else 0, kind == "robust")


def middle(images: Tensor, rows: int, columns: int) -> Tensor:
    """Return the middle of images (…, rows, columns).

    Raises
    ------
    InputError
        The images have fewer rows or columns.
    """
    top, left = (images.shape[-2] - rows) // 2, (images.shape[-1] - columns) // 2
    if min(top, left) < 0:
        raise InputError(
            f"an image has {images.shape[-2]} x {images.shape[-1]} pixels, fewer than {rows} x {columns}. "
            "Choose larger images."
        )
    return images[..., top : top + rows, left : left + columns]


def most_detailed(image: Image, side: int, count: int = 3) -> list[Image]:
    """Return the crops on a grid with the most gradient, from an image (rows, columns, channels)."""
    rows, columns = (n // side for n in image.shape[:2])
    crops = [
        image[row * side : (row + 1) * side, column * side : (column + 1) * side]
        for row in range(rows)
        for column in range(columns)
    ]
    steps = [np.abs(np.diff(crop.astype(np.float32).mean(2), axis=0)).mean() for crop in crops]
    return [crops[i] for i in np.argsort(steps)[::-1][:count]]


def turned(network: PretrainedNetwork, image: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Return the mean of the network's outputs for the eight turns and flips of images, turned back.

    Parameters
    ----------
    network
        The network.
    image
        Images (images, rows, columns) or (images, inputs, rows, columns).
    size
        Rows and columns of the outputs.
    dtype
        Dtype of the convolutions.
    """
    total = torch.zeros(len(image), *size, device=image.device)
    for turn in range(4):
        for flip in (False, True):
            view = torch.rot90(image, turn, (-2, -1))
            view = view.flip(-1) if flip else view
            output = network(view, size[::-1] if turn % 2 else size, dtype)
            output = output.flip(2) if flip else output
            total += torch.rot90(output, -turn, (1, 2))
    return total / 8


def agree(fine: Tensor, coarse: Tensor, rounds: int = _ROUNDS) -> Tensor:
    """Correct an enlarged image by back-projection, so its coarser image approaches the original one."""
    (rows, columns), (fine_rows, fine_columns) = coarse.shape[1:], fine.shape[1:]
    device = fine.device
    down = [resampling.coarser(fine_rows, rows).to(device), resampling.coarser(fine_columns, columns).to(device)]
    up = [resampling.finer(rows, fine_rows).to(device), resampling.finer(columns, fine_columns).to(device)]
    for _ in range(rounds):
        fine = fine + resampling.apply(up[0], up[1], coarse - resampling.apply(down[0], down[1], fine))
    return fine


@torch.no_grad()
def evaluate(
    network: PretrainedNetwork, kind: str, folder: Path, device: torch.device, dtype: torch.dtype
) -> dict[str, dict[str, float]]:
    """Return mean PSNRs on a folder: for each case or scale, for each way to use the network.

    A folder with files image_SRF_2/*_HR.png and *_LR.png is a test set for enlarging; another one has photographs.

    Raises
    ------
    InputError
        The folder has no images, or they have too few pixels.
    """
    if any(folder.glob("image_SRF_*")):
        return _test_set(network, folder, device, dtype)
    images = torch.cat([middle(to_tensor([load_image(path)]), *_MIDDLES[kind]) for path in find_images(folder)])
    figures = {}
    for name, case in make_cases(kind, images).items():
        figures[name] = dict(zip(PHOTOGRAPH_WAYS, _compared(network, case.on(device), dtype), strict=True))
    return figures


def _compared(network: PretrainedNetwork, case: Case, dtype: torch.dtype) -> list[float]:
    image, size = case.degraded, case.size
    results = (case.before(), network(image, size, dtype), turned(network, image, size, dtype))
    return [round(case.decibels(result), 3) for result in results]


def _test_set(
    network: PretrainedNetwork, folder: Path, device: torch.device, dtype: torch.dtype
) -> dict[str, dict[str, float]]:
    """Return the mean PSNR (Y, 8 bits, without a border) for each scale ("x2"), for each of `WAYS`."""
    figures: dict[str, dict[str, float]] = {}
    for scale in (2, 3, 4):
        rows = []
        for path in sorted((folder / f"image_SRF_{scale}").glob("*_HR.png")):
            pair = [load_image(file) for file in (path, path.with_name(path.name.replace("_HR.", "_LR.")))]
            grey = is_grey(path)
            fine, coarse = (resampling.luminance(to_tensor([image]).to(device)) for image in pair)
            size = (fine.shape[1], fine.shape[2])
            up = [resampling.finer(n, m).to(device) for n, m in zip(coarse.shape[1:], size, strict=True)]
            inputs = _without_maps(coarse, network.shape.inputs)
            mean = turned(network, inputs, size, dtype)
            ways = [resampling.apply(up[0], up[1], coarse), network(inputs, size, dtype), mean, agree(mean, coarse)]
            rows.append([resampling.decibels(image[0], fine[0], scale, grey) for image in ways])
        if rows:
            figures[f"x{scale}"] = dict(zip(WAYS, np.mean(rows, axis=0).round(3).tolist(), strict=True))
    return figures


def _without_maps(luminance: Tensor, inputs: int) -> Tensor:
    """Return luminance as input of a network, with zeros for its other inputs."""
    zeros = torch.zeros_like(luminance)
    return luminance if inputs == 1 else torch.stack([luminance, *[zeros] * (inputs - 1)], dim=1)
