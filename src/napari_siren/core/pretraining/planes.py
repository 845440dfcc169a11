"""`Plane`: a picture of one component, to train on. `PlaneValidation`: the validation on held-out planes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from napari_siren.core.degradation import camera
from napari_siren.core.degradation.base import with_map
from napari_siren.core.noise.level import above_texture, noise_level
from napari_siren.core.noise.model import NoiseModel
from napari_siren.core.pretrained_network import resampling
from napari_siren.core.pretrained_network.network import PretrainedNetwork
from napari_siren.core.pretraining.evaluation import most_detailed

Array = npt.NDArray[np.float32]

# Planes are noisy if their median noise is above this share of the range. 64 photographs and clean micrographs had at
# most 0.012, and single frames of fluorescence microscopes from 0.018 to 0.1.
_NOISY = 0.015
# Largest number of crops for validation, and seed of their noise.
_CROPS, _SEED = 8, 0
# Cases for enlarging, with their scales. The sides of the crops are multiples of `_MULTIPLE`.
_SCALES, _MULTIPLE = {"x2": 2, "x3": 3, "x4": 4}, 12
# Cases for noise: its standard deviation at the brightest value, as a share of the range. A third of the variance does
# not depend on the signal.
_LEVELS = {"noise 5 %": 0.05, "noise 15 %": 0.15, "noise 40 %": 0.4}
# Distance of the pixels that are replaced at a time, along both axes.
_GRID = 4
# Smallest relative mean squared error: 80 dB. Estimates may be negative.
_LEAST_ERROR = 1e-8


@dataclass(frozen=True, eq=False)
class Plane:
    """A picture of one component: the luminance of colours, or one channel.

    Parameters
    ----------
    values
        Values (rows, columns), with a robust range from 0 to 1. Values beyond it are not clipped.
    black, contrast
        Conversion of images of 8 bits to shares of white: black + contrast * values. Other images have no white, and
        keep their values: 0 and 1.
    """

    values: Array
    black: float = 0.0
    contrast: float = 1.0

    def array(self, absolute: bool) -> Array:
        """Return the values as shares of white if `absolute`, (rows, columns)."""
        return self.black + self.contrast * self.values if absolute else self.values

    def limits(self, absolute: bool) -> tuple[float, float]:
        """Return the darkest value and the range of `array`, without outliers."""
        return (self.black, self.contrast) if absolute else (0.0, 1.0)

    def part(self, rows: slice, columns: slice) -> Plane:
        """Return a part of the plane."""
        return Plane(np.ascontiguousarray(self.values[rows, columns]), self.black, self.contrast)

    @cached_property
    def noise(self) -> float:
        """Standard deviation of the noise in excess of texture, as a share of the range."""
        # The estimate is for values from -1 to 1.
        return above_texture(noise_level(2 * self.values[np.newaxis] - 1, np.ones(self.values.shape, np.bool_))) / 2

    @property
    def side(self) -> int:
        """Smaller one of the number of rows and of columns."""
        return int(min(self.values.shape))


def is_absolute(kind: str) -> bool:
    """Return whether networks of a kind see images of 8 bits as shares of white."""
    return kind != "microscope"


def are_noisy(planes: Sequence[Plane]) -> bool:
    """Return whether most planes have more noise than texture explains."""
    return float(np.median([plane.noise for plane in planes])) > _NOISY


def noise_parameters(values: Array) -> tuple[float, float, float]:
    """Return offset, gain and least variance of the noise of a picture, estimated from itself; see `NoiseModel`."""
    model = NoiseModel.from_values(values[np.newaxis])
    return model.offset, model.gain, model.least


class PlaneValidation:
    """A validation of networks on crops of held-out planes, for the robust range of each crop's picture.

    The true pixels of noisy pictures are not known. There, pixels are replaced by the mean of their neighbours, and the
    network's output is compared with the removed values. The noise of these does not depend on the input, so their mean
    squared difference is the error plus the variance of the noise (Batson and Royer 2019, arXiv 1901.11365). The noise
    may have any distribution, but it must be independent from pixel to pixel.

    Parameters
    ----------
    planes
        Held-out planes.
    kind
        Kind of the training: "enlarge", "denoise" or "microscope".
    noisy
        Whether the planes have noise. Otherwise noise is added to them, or they are reduced.
    side
        Largest number of rows and columns of a crop.
    device
        Device of the crops.

    """

    def __init__(self, planes: Sequence[Plane], kind: str, noisy: bool, side: int, device: torch.device) -> None:
        crops, chosen = _crops(planes, kind, side)
        absolute = is_absolute(kind)
        black, self._units = torch.tensor([plane.limits(absolute) for plane in chosen], device=device).unbind(1)
        # The pictures without noise; of noisy planes these are not known, and it is the noisy ones.
        self.noisy, self.truth = noisy, torch.from_numpy(np.stack(crops)).to(device)
        self._borders = dict.fromkeys(("noisy", *_LEVELS), 0) | _SCALES
        # Inputs of a network for each case.
        self.inputs: dict[str, Tensor]
        if noisy:
            models = [noise_parameters(plane.array(absolute)) for plane in chosen]
            self._models = torch.tensor(models, device=device).unbind(1)
            self.inputs = {"noisy": self._with_map(self.truth)}
        elif kind == "enlarge":
            self.inputs = {name: _reduced(self.truth, scale) for name, scale in _SCALES.items()}
        else:
            self.inputs = {name: self._with_noise(level, black) for name, level in _LEVELS.items()}
        self.before = {name: self._score(self._errors_before(name)) for name in self.inputs}

    def scores(self, network: PretrainedNetwork, dtype: torch.dtype) -> dict[str, float]:
        """Return the PSNR of a network in each case, in dB."""
        return {name: self._score(self.errors(network, name, dtype)) for name in self.inputs}

    @torch.no_grad()
    def restored(self, network: PretrainedNetwork, name: str, dtype: torch.dtype) -> Tensor:
        """Return the outputs of a network for a case, (crops, rows, columns)."""
        return self._output(network, self.inputs[name], dtype)

    @torch.no_grad()
    def errors(self, network: PretrainedNetwork, name: str, dtype: torch.dtype) -> Tensor:
        """Return the mean squared error of each crop for a case, relative to the range: (crops,)."""
        inputs = self.inputs[name]
        if not self.noisy:
            return self._relative(self._output(network, inputs, dtype) - self.truth, self._borders[name])
        noisy, deviation = inputs.unbind(1)
        padded = functional.pad(noisy[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
        neighbours = (padded[:, 2:, 1:-1] + padded[:, :-2, 1:-1] + padded[:, 1:-1, 2:] + padded[:, 1:-1, :-2]) / 4
        blind = torch.empty_like(noisy)
        for row, column in np.ndindex(_GRID, _GRID):
            grid = (..., slice(row, None, _GRID), slice(column, None, _GRID))
            without = noisy.clone()
            without[grid] = neighbours[grid]
            blind[grid] = self._output(network, self._with_map(without), dtype)[grid]
        return self._relative(blind - noisy) - self._relative(deviation)

    def _normal(self) -> Tensor:
        """Return normal random numbers of the shape of the crops, always the same."""
        generator = torch.Generator().manual_seed(_SEED)
        return torch.randn(self.truth.shape, generator=generator).to(self.truth.device)

    def _with_map(self, noisy: Tensor) -> Tensor:
        return torch.stack([noisy, camera.deviation(noisy, *self._models)], dim=1)

    def _output(self, network: PretrainedNetwork, inputs: Tensor, dtype: torch.dtype) -> Tensor:
        size = (self.truth.shape[1], self.truth.shape[2])
        # One crop at a time, so that little memory is needed.
        return torch.cat([network(image[None], size, dtype) for image in inputs])

    def _errors_before(self, name: str) -> Tensor:
        """Return the errors of bicubic interpolation, or of the noisy pictures."""
        inputs = self.inputs[name]
        if self.noisy:
            return self._relative(inputs[:, 1])
        values = inputs if inputs.ndim == 3 else inputs[:, 0]
        rows, columns = (
            resampling.finer(n, m).to(values.device)
            for n, m in zip(values.shape[1:], self.truth.shape[1:], strict=True)
        )
        return self._relative(resampling.apply(rows, columns, values) - self.truth, self._borders[name])

    def _relative(self, errors: Tensor, border: int = 0) -> Tensor:
        inner = slice(border, -border or None)
        return errors[:, inner, inner].square().mean((1, 2)) / self._units.square()

    def _score(self, errors: Tensor) -> float:
        """Return the mean PSNR of the crops, in dB. Estimates of single crops may be negative: that of their mean."""
        means = errors.mean(0, keepdim=True) if self.noisy else errors
        return round(float(-10 * means.clamp(min=_LEAST_ERROR).log10().mean()), 4)

    def _with_noise(self, level: float, black: Tensor) -> Tensor:
        """Return noisy crops with the map of their noise. All kinds of training get the same noise."""
        b = 2 / 3 * level**2 * self._units
        a = (level * self._units) ** 2 / 3 - b * black
        variance = (a[:, None, None] + b[:, None, None] * self.truth).clamp(min=0)
        return with_map(self.truth + variance.sqrt() * self._normal(), a, b, torch.ones_like(a))


def _crops(planes: Sequence[Plane], kind: str, side: int) -> tuple[list[Array], list[Plane]]:
    """Return the most detailed crops of evenly chosen planes, (side, side) each, and the plane of each crop."""
    side = min(side, max(plane.side for plane in planes))
    if kind == "enlarge":
        side -= side % _MULTIPLE
    large = [plane for plane in planes if plane.side >= side]
    chosen = [large[i] for i in sorted({int(i) for i in np.linspace(0, len(large) - 1, _CROPS)})]
    crops = [
        (crop[..., 0], plane)
        for plane in chosen
        for crop in most_detailed(plane.array(is_absolute(kind))[..., np.newaxis], side, _CROPS // len(chosen))
    ]
    return [crop for crop, _ in crops], [plane for _, plane in crops]


def _reduced(values: Tensor, scale: int) -> Tensor:
    matrix = resampling.coarser(values.shape[1], values.shape[1] // scale).to(values.device)
    return resampling.apply(matrix, matrix, values)
