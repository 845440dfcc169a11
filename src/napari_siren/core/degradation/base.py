"""Degradations of photographs, one class for each kind of training; those of micrographs are in `micrographs`.

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

from napari_siren.core.degradation import camera
from napari_siren.core.degradation.camera import draw_logarithmic
from napari_siren.core.pretrained_network import resampling

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

    def weights(self, parameters: Tensor, size: int) -> Tensor | None:
        """Return the factors of the losses of crops, (count,), or None if they are 1.

        Parameters
        ----------
        parameters
            Parameters from `draw`.
        size
            Rows and columns of the outputs.
        """
        return parameters[:, self.names.index("weight")] if "weight" in self.names else None

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
        return columns(weight, a, b, draw_logarithmic(rng, count, 0.85, 1.15))

    def pair(self, crops: Tensor, parameters: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return noisy luminance with its map, and luminance."""
        named, clean = self.named(parameters), resampling.luminance(crops)
        noisy = camera.add_noise(clean, named["a"], named["b"])
        return with_map(noisy, named["a"], named["b"], named["factor"]), clean

    def _resampling(self) -> dict[int, Tensor]:
        return {}


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
        return columns(weight, a, b, factor, kernel, blur, quality, known, down, right)

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


def with_map(noisy: Tensor, a: Tensor, b: Tensor, factor: Tensor) -> Tensor:
    """Return noisy images with the map of their noise, times a factor (images,): (images, 2, rows, columns)."""
    return torch.stack([noisy, camera.deviation(noisy, a, b) * factor[:, None, None]], dim=1)


def columns(*values: npt.NDArray[Any]) -> Table:
    """Return parameters of crops from one array for each name."""
    return np.stack(values, axis=1).astype(np.float32)
