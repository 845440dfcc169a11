"""Degradations of photographs, one class for each kind of training.

The parameters that differ from crop to crop are drawn on the host (`draw`) and are copied to the device. Only the noise
of the pixels is drawn on the device. The operations there do not depend on the host, so CUDA graphs can replay them.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.pretraining import camera, resampling
from napari_siren.core.pretraining.camera import draw_logarithmic

# Parameters of crops, one row for each crop.
Table = npt.NDArray[np.float32]


class Degradation:
    """The degradation of crops of photographs to inputs of a network: here, MATLAB's imresize to fewer pixels.

    Parameters
    ----------
    crop
        Rows and columns of the input.
    sizes
        Rows and columns of the outputs.
    device
        Device of the crops.
    """

    # Parameters of each crop that are drawn. A "weight" multiplies the crop's loss.
    names: ClassVar[tuple[str, ...]] = ()
    # Parameters of each crop that are those of its image; see `Photographs.parameters`.
    of_image: ClassVar[tuple[str, ...]] = ()

    def __init__(self, crop: int, sizes: tuple[int, ...], device: torch.device) -> None:
        self.crop, self.sizes, self.device = crop, sizes, device
        self._matrices = self._resampling()

    def margin(self, size: int) -> int:
        """Return the number of pixels of the photograph beyond each end of the crop."""
        return resampling.margin_of(size / self.crop)

    def side(self, size: int) -> int:
        """Return the number of rows and columns of a photograph for an output of a size."""
        return size + 2 * self.margin(size)

    def draw(self, rng: np.random.Generator, count: int) -> Table:
        """Draw the parameters of crops: (count, len(names))."""
        return np.zeros((count, 0), dtype=np.float32)

    def named(self, parameters: Tensor) -> dict[str, Tensor]:
        """Return parameters by their names, (count,) each: those drawn, and those of the image."""
        return dict(zip((*self.names, *self.of_image), parameters.unbind(1), strict=True))

    def pair(self, crops: Tensor, parameters: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return inputs of the network, and the outputs to learn.

        Parameters
        ----------
        crops
            Crops (count, 3, side, side), 0 to 1.
        parameters
            Parameters from `draw`, followed by those of the image.
        size
            Rows and columns of the outputs.

        Returns
        -------
        tuple
            Inputs (count, crop, crop) or (count, inputs, crop, crop), and luminance (count, size, size).
        """
        matrix = self._matrices[size]
        coarse = resampling.luminance(resampling.shrunk(matrix, matrix, crops))
        return coarse, resampling.luminance(self._inner(crops, size))

    def _inner(self, image: Tensor, size: int) -> Tensor:
        inner = slice(self.margin(size), self.margin(size) + size)
        return image[..., inner, inner]

    def _resampling(self) -> dict[int, Tensor]:
        return {n: resampling.coarser(n, self.crop, self.margin(n)).to(self.device) for n in self.sizes}


class Noisy(Degradation):
    """The noise of cameras on luminance. The inputs are noisy luminance and a map of the noise's standard deviation."""

    names = ("weight", "a", "b", "factor")

    def margin(self, size: int) -> int:
        """Return 0: no pixels beyond the crop have an influence."""
        return 0

    def draw(self, rng: np.random.Generator, count: int) -> Table:
        """Draw parameters of noise, and factors of its map."""
        a, b = camera.draw_cameras(rng, count)
        # Approximately the reciprocal of the remaining mean squared error, so that all levels have the same weight.
        weight = (a + 0.4 * b + 1.5e-5) ** -0.55
        return _columns(weight, a, b, draw_logarithmic(rng, count, 0.85, 1.15))

    def pair(self, crops: Tensor, parameters: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return noisy luminance with its map, and luminance."""
        named, clean = self.named(parameters), resampling.luminance(crops)
        noisy = camera.add_noise(clean, named["a"], named["b"])
        return with_map(noisy, named["a"], named["b"], named["factor"]), clean

    def _resampling(self) -> dict[int, Tensor]:
        return {}


# Radius in pixels of the blur of a micrograph, and of the filter of correlated noise.
_BLUR, _SPREAD = 8, 3


class Micrographs(Degradation):
    """The transformation of photographs to resemble micrographs, and their noise. The inputs are those of `Noisy`.

    The photograph's range is partly stretched. Its luminance is inverted for half of the crops, raised to a power, and
    blurred as by optics. The brightest value is from 0.1 to 1.1 of the range, above a background. A fifth of the crops
    have noise that is correlated between neighbours. The range is shifted, as if it were estimated.
    """

    names = (
        "weight", "a", "b", "factor", "stretch", "over", "power", "blur", "ground", "top", "spread", "shift"
    )  # fmt: skip

    def margin(self, size: int) -> int:
        """Return the sum of the radii of the two filters."""
        return _BLUR + _SPREAD

    def draw(self, rng: np.random.Generator, count: int) -> Table:
        """Draw parameters of micrographs and of noise."""
        top = draw_logarithmic(rng, count, 0.1, 1.1)
        ground = np.where(rng.random(count) < 0.5, 0.0, rng.uniform(0, 0.3, count))
        # The standard deviation at the brightest value, and the part of its variance that is not from photons.
        level = np.minimum(0.5, draw_logarithmic(rng, count, 0.01, 1.0) * top)
        part = np.clip(rng.uniform(-0.3, 1.1, count), 0, 1)
        a, b = part * level**2, (1 - part) * level**2 / top
        spread = np.where(rng.random(count) < 0.2, rng.uniform(0.4, 0.6, count), 0.01)
        # The darkest of many noisy pixels are some standard deviations below the background.
        below = np.where(rng.random(count) < 0.5, 0.0, rng.uniform(0, 3, count)) * np.sqrt(a + b * ground * top)
        shift = np.minimum(0.5, below) + rng.uniform(-0.03, 0.03, count)
        weight = 0.5 * (a + 0.3 * b * top + 1e-5) ** -0.7
        over, blur = rng.random(count) < 0.5, draw_logarithmic(rng, count, 0.6, 2.5)
        stretch, power = rng.random(count), draw_logarithmic(rng, count, 0.7, 4.0)
        factor = draw_logarithmic(rng, count, 0.8, 1.25)
        return _columns(weight, a, b, factor, stretch, over, power, blur, ground, top, spread, shift)

    def pair(self, crops: Tensor, parameters: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return noisy micrographs with their maps, and the micrographs without noise."""
        named = self.named(parameters)
        clean = self._scene(crops, named)
        noisy = camera.add_noise(clean, named["a"], named["b"]) - clean
        spread = camera.gaussians(named["spread"], size, _SPREAD)
        noisy = spread @ noisy @ spread.mT
        # The filter reduces the variance by this factor, and the shift moves the signal without photons.
        reduction = spread[:, size // 2].square().sum(1).square()
        b = reduction * named["b"]
        a = reduction * named["a"] - b * named["shift"]
        clean = clean[:, _SPREAD:-_SPREAD, _SPREAD:-_SPREAD] + named["shift"][:, None, None]
        return with_map(clean + noisy, a, b, named["factor"]), clean

    def _scene(self, crops: Tensor, named: dict[str, Tensor]) -> Tensor:
        return micrograph(resampling.luminance(crops), named)

    def _resampling(self) -> dict[int, Tensor]:
        return {}


def micrograph(luminance: Tensor, named: dict[str, Tensor]) -> Tensor:
    """Return luminance (count, n, n) transformed to resemble a micrograph, without its outermost 8 pixels."""
    stretch, over, power, ground, top = (
        named[name][:, None, None] for name in ("stretch", "over", "power", "ground", "top")
    )
    low = stretch * luminance.amin((1, 2), keepdim=True)
    high = 1 - stretch * (1 - luminance.amax((1, 2), keepdim=True))
    values = ((luminance - low) / (high - low).clamp(min=0.15)).clamp(0, 1)
    values = (over + (1 - 2 * over) * values).clamp(min=1e-4) ** power
    blur = camera.gaussians(named["blur"], luminance.shape[1] - 2 * _BLUR, _BLUR)
    return top * (ground + (1 - ground) * (blur @ values @ blur.mT))


class Robust(Degradation):
    """Resampling to fewer pixels in several ways, noise, and compression.

    The inputs are luminance, a map of the noise, and a constant: (100 - quality) / 100 of JPEG, and 0 without it. The
    constant is 0 also for a tenth of the compressed crops, as for images saved again in another format.
    """

    names = ("weight", "a", "b", "factor", "kernel", "blur", "quality", "known", "down", "right")

    def margin(self, size: int) -> int:
        """Return the sum of the radii of the kernel and of the blur before it."""
        return super().margin(size) + math.ceil(2 * size / self.crop)

    def draw(self, rng: np.random.Generator, count: int) -> Table:
        """Draw parameters of kernels, noise and compression."""
        way = rng.random(count)
        # One in five crops has a box, and one in five a blur before the bicubic kernel, in pixels of the coarse image.
        kernel, blur = (way > 0.6) & (way < 0.8), np.where(way > 0.8, rng.uniform(0.2, 0.6, count), 0.0)
        noisy, gaussian = rng.random(count) < 0.7, rng.random(count) < 0.5
        level = draw_logarithmic(rng, count, 0.003, 0.08) * noisy
        part = np.where(gaussian, 1.0, rng.uniform(0, 0.5, count))
        quality = np.where(rng.random(count) < 0.5, rng.integers(40, 101, count), 0)
        known = np.where((quality > 0) & (rng.random(count) > 0.1), (100 - quality) / 100, 0.0)
        # Compression removes part of the noise, so estimates are smaller.
        factor = np.where(
            quality > 0, draw_logarithmic(rng, count, 0.6, 1.15), draw_logarithmic(rng, count, 0.85, 1.15)
        )
        down, right = rng.integers(8, size=(2, count))
        weight = (1 + level / 0.03) ** -0.5
        a, b = part * level**2, (1 - part) * level**2
        return _columns(weight, a, b, factor, kernel, blur, quality, known, down, right)

    def pair(self, crops: Tensor, parameters: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return coarse images with their two maps, and luminance."""
        named, fine = self.named(parameters), resampling.luminance(crops)
        a, b, quality = (named[name] for name in ("a", "b", "quality"))
        matrix = self._matrices[size][named["kernel"].long()]
        if size > self.crop:
            sigma = (named["blur"] * (size / self.crop)).clamp(min=0.01)
            matrix = matrix @ camera.gaussians(sigma, self.side(size), 0)
        coarse = matrix @ fine @ matrix.mT
        noisy = torch.where((a + b > 0)[:, None, None], camera.add_noise(coarse, a, b), resampling.rounded(coarse))
        compressed = camera.shifted_jpeg(resampling.rounded(noisy), quality, named["down"], named["right"])
        image = torch.where((quality > 0)[:, None, None], compressed, noisy)
        known = named["known"][:, None, None, None].expand(-1, 1, *image.shape[1:])
        return torch.cat([with_map(image, a, b, named["factor"]), known], dim=1), self._inner(fine, size)

    def _resampling(self) -> dict[int, Tensor]:
        matrices = {}
        for size in self.sizes:
            kernels = [resampling.coarser(size, self.crop, self.margin(size), kernel) for kernel in ("cubic", "box")]
            matrices[size] = torch.stack(kernels).to(self.device)
        return matrices


class PlaneReduction(Degradation):
    """The reduction of planes to fewer pixels, without the rounding and clipping of 8 bits."""

    def pair(self, crops: Tensor, parameters: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return coarse planes, and the planes."""
        matrix, plane = self._matrices[size], resampling.luminance(crops)
        return resampling.apply(matrix, matrix, plane), self._inner(plane, size)


class PlaneMicrographs(Micrographs):
    """The noise of `Micrographs` on planes. They are micrographs already, so they are not transformed."""

    def margin(self, size: int) -> int:
        """Return the radius of the filter of correlated noise."""
        return _SPREAD

    def _scene(self, crops: Tensor, named: dict[str, Tensor]) -> Tensor:
        return resampling.luminance(crops)


class OwnNoise(Degradation):
    """The noise of planes, added to these planes after they were denoised. The inputs are those of `Noisy`.

    The part of the variance that increases with the signal is that of photons, and the rest is Gaussian.
    """

    names = ("level", "factor")
    of_image = ("offset", "gain", "least")

    def margin(self, size: int) -> int:
        """Return 0: no pixels beyond the crop have an influence."""
        return 0

    def draw(self, rng: np.random.Generator, count: int) -> Table:
        """Draw the noise level relative to that of the plane, and factors of the map."""
        return _columns(draw_logarithmic(rng, count, 0.8, 1.25), draw_logarithmic(rng, count, 0.85, 1.15))

    def pair(self, crops: Tensor, parameters: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return noisy planes with their map, and the planes."""
        named, clean = self.named(parameters), resampling.luminance(crops)
        square = named["level"].square()
        offset, gain, least = (named[name] * square for name in self.of_image)
        noisy = clean + camera.noise_of(clean, offset, gain, least)
        deviation = camera.deviation(noisy, offset, gain, least)
        return torch.stack([noisy, deviation * named["factor"][:, None, None]], dim=1), clean

    def _resampling(self) -> dict[int, Tensor]:
        return {}


KINDS: dict[str, type[Degradation]] = {
    "enlarge": Degradation,
    "denoise": Noisy,
    "microscope": Micrographs,
    "robust": Robust,
}
# Degradations of planes for each kind.
_OF_PLANES: dict[str, type[Degradation]] = {
    "enlarge": PlaneReduction,
    "denoise": Noisy,
    "microscope": PlaneMicrographs,
}


def degradation_for(kind: str, source: str) -> type[Degradation]:
    """Return the degradation of a kind of training, for a source of images in `settings.SOURCES`."""
    if source == "noisy planes":
        return OwnNoise
    return KINDS[kind] if source == "photographs" else _OF_PLANES[kind]


def with_map(noisy: Tensor, a: Tensor, b: Tensor, factor: Tensor) -> Tensor:
    """Return noisy images with the map of their noise, times a factor (images,): (images, 2, rows, columns)."""
    return torch.stack([noisy, camera.deviation(noisy, a, b) * factor[:, None, None]], dim=1)


def _columns(*values: npt.NDArray[Any]) -> Table:
    return np.stack(values, axis=1).astype(np.float32)
