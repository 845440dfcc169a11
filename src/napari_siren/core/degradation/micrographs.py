"""Degradations for micrographs: photographs that are changed to resemble them, and one's own planes."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from napari_siren.core.degradation import camera
from napari_siren.core.degradation.base import Degradation, Table, columns, with_map
from napari_siren.core.degradation.camera import draw_logarithmic
from napari_siren.core.pretrained_network import resampling

# Radius of the blur in fine pixels, and its largest standard deviation.
_BLUR, _WIDEST = 12, 4.0
# Radius of the filter of correlated noise, in pixels of the input.
_SPREAD = 4
# Largest factor of the loss of a crop that is enlarged: without noise, what remains is detail.
_MOST_WEIGHT = 30.0
# Planes of a stack: the one before, the one itself, and the one after.
_PLANES = (-1, 0, 1)
# Movement of the two layers from plane to plane, in pixels.
_MOVES = ("down", "right", "other_down", "other_right")
# Further parameters of stacks.
_LAYERS = ("second", "depth", "other_depth", "defocus", "decay", *_MOVES, "end")
# Largest brightness of a plane of a stack, relative to the plane itself.
_BRIGHTEST = 3.0


class Micrographs(Degradation):
    """The transformation of photographs to resemble micrographs, resampling to fewer pixels, and noise.

    The inputs are those of `Noisy`. The photograph's range is partly stretched. Its luminance is inverted for half of
    the crops, raised to a power, and blurred as by optics. The brightest value is from 0.1 to 1.1 of the range, above a
    background. Pixels are means over their area for half of the crops, and bicubic for the others. The noise of three
    in ten crops has the excess of an electron multiplier. A fifth of the crops have noise that is correlated between
    neighbours. The range is shifted, as if it were estimated.
    """

    names: ClassVar[tuple[str, ...]] = (
        "weight", "a", "b", "factor", "stretch", "over", "power", "blur", "growth", "ground", "top", "kernel",
        "multiplied", "spread", "shift",
    )  # fmt: skip

    def margin(self, size: int) -> int:
        """Return the sum of the radii of the filters and of the kernel."""
        return _BLUR + self._margin_of_pixels(size)

    def draw(self, rng: np.random.Generator, count: int) -> Table:
        """Draw parameters of micrographs and of noise."""
        top = draw_logarithmic(rng, count, 0.1, 1.1)
        ground = np.where(rng.random(count) < 0.5, 0.0, rng.uniform(0, 0.3, count))
        # The standard deviation at the brightest value, and the part of its variance that is not from photons.
        level = np.minimum(0.5, draw_logarithmic(rng, count, 0.01, 1.0) * top)
        part = np.clip(rng.uniform(-0.3, 1.1, count), 0, 1)
        a, b = part * level**2, (1 - part) * level**2 / top
        multiplied = rng.random(count) < 0.3
        spread = np.where(rng.random(count) < 0.2, rng.uniform(0.4, 0.6, count), 0.01)
        # The darkest of many noisy pixels are some standard deviations below the background.
        below = np.where(rng.random(count) < 0.5, 0.0, rng.uniform(0, 3, count)) * np.sqrt(a + b * ground * top)
        shift = np.minimum(0.5, below) + rng.uniform(-0.03, 0.03, count)
        # Approximately the reciprocal of the remaining mean squared error, so that all levels have the same weight.
        weight = 0.5 * (a + 0.3 * b * top + 1e-5) ** -0.7
        over, blur, growth = rng.random(count) < 0.5, draw_logarithmic(rng, count, 0.6, 2.5), rng.random(count)
        stretch, power = rng.random(count), draw_logarithmic(rng, count, 0.7, 4.0)
        factor, kernel = draw_logarithmic(rng, count, 0.8, 1.25), rng.random(count) < 0.5
        return columns(
            weight, a, b, factor, stretch, over, power, blur, growth, ground, top, kernel, multiplied, spread, shift
        )

    def weights(self, parameters: Tensor, size: int) -> Tensor | None:
        """Return the factors of the losses of crops, (count,); those of enlarged crops are limited."""
        weight = parameters[:, self.names.index("weight")]
        return weight if size == self.crop else weight.clamp(max=_MOST_WEIGHT)

    def pair(self, crops: Tensor, parameters: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return noisy micrographs with their maps, and the micrographs without noise."""
        named = self.named(parameters)
        fine = self._scene(crops, named, size)
        matrix = self._matrices[size][named["kernel"].long()]
        noisy, a, b = self._noisy(matrix @ fine @ matrix.mT, named)
        fine = self._middle(fine, size) + named["shift"][:, None, None]
        return with_map(noisy, a, b, named["factor"]), fine

    def _scene(self, crops: Tensor, named: dict[str, Tensor], size: int) -> Tensor:
        """Return micrographs without noise, with a margin for the pixels: (count, n, n)."""
        values = micrograph(resampling.luminance(crops), named)
        sigma = blur_of(named, size / self.crop)
        blur = camera.gaussians(sigma, values.shape[1] - 2 * _BLUR, _BLUR)
        return _above_background(blur @ values @ blur.mT, named)

    def _noisy(self, coarse: Tensor, named: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return noisy images without their margin, and the a and b of their noise for shifted signals.

        Parameters
        ----------
        coarse
            Images without noise, (count, n, n).
        named
            Parameters of the images.
        """
        size = coarse.shape[1] - 2 * _SPREAD
        noise = camera.add_noise(coarse, named["a"], named["b"], multiplied=named["multiplied"]) - coarse
        spread = camera.gaussians(named["spread"], size, _SPREAD)
        inner = slice(_SPREAD, _SPREAD + size)
        noisy = coarse[:, inner, inner] + spread @ noise @ spread.mT + named["shift"][:, None, None]
        # The filter reduces the variance by this factor, and the shift moves the signal without photons.
        reduction = spread[:, size // 2].square().sum(1).square()
        b = reduction * named["b"]
        return noisy, reduction * named["a"] - b * named["shift"], b

    def _middle(self, fine: Tensor, size: int) -> Tensor:
        inner = slice(self._margin_of_pixels(size), self._margin_of_pixels(size) + size)
        return fine[..., inner, inner]

    def _margin_of_pixels(self, size: int) -> int:
        """Return the number of fine pixels beyond the crop for the filter of the noise and the kernel."""
        scale = size / self.crop
        return math.ceil(_SPREAD * scale) + (0 if size == self.crop else resampling.margin_of(scale))

    def _resampling(self) -> dict[int, Tensor]:
        """Return the matrices of both kernels for each size, (2, crop + 2 _SPREAD, size + 2 margin)."""
        matrices = {}
        for size in self.sizes:
            beyond = math.ceil(_SPREAD * size / self.crop)
            margin = self._margin_of_pixels(size) - beyond
            sizes = (size + 2 * beyond, self.crop + 2 * _SPREAD, margin)
            matrices[size] = torch.stack([resampling.coarser(*sizes, kernel) for kernel in ("cubic", "box")])
        return {size: pair.to(self.device) for size, pair in matrices.items()}


class Stacks(Micrographs):
    """Three planes of a stack, made from a photograph: the one to restore, and those before and after.

    Two layers lie at different depths. The second one is the photograph, mirrored along both axes. With the distance
    from its depth a layer is blurred more and becomes weaker, and it may move from plane to plane. The inputs are the
    noisy plane, the map of its noise, and the noisy planes before and after.
    """

    names: ClassVar[tuple[str, ...]] = (*Micrographs.names, *_LAYERS)

    def draw(self, rng: np.random.Generator, count: int) -> Table:
        """Draw parameters of micrographs, of noise and of layers."""
        second = np.where(rng.random(count) < 0.3, 0.0, rng.uniform(0.2, 1, count))
        depth, other_depth = rng.uniform(-2.5, 2.5, (2, count))
        # Increase of the standard deviation of the blur, in pixels a plane.
        defocus, decay = draw_logarithmic(rng, count, 0.05, 3.0), rng.uniform(0, 0.5, count) ** 2
        # Half of the stacks move, and the layers of a third of these move apart.
        speed = np.where(rng.random(count) < 0.5, 0.0, draw_logarithmic(rng, count, 0.05, 3.0))
        first = speed * rng.normal(size=(2, count))
        others = np.where(rng.random(count) < 0.33, speed * rng.normal(size=(2, count)), first)
        # The last plane of a stack has one neighbour, which is in the place of both.
        end = rng.random(count) < 0.1
        own = columns(second, depth, other_depth, defocus, decay, *first, *others, end)
        return np.concatenate([super().draw(rng, count), own], axis=1)

    def pair(self, crops: Tensor, parameters: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return noisy planes with their map and the planes beside them, and the planes without noise."""
        named = self.named(parameters)
        planes = self._stack(crops, named, size)
        repeated = {name: values[:, None].expand(-1, len(_PLANES)).flatten() for name, values in named.items()}
        noisy, a, b = self._noisy(planes.flatten(0, 1), repeated)
        before, plane, after = noisy.reshape(-1, len(_PLANES), *noisy.shape[1:]).unbind(1)
        after = torch.where(named["end"][:, None, None] > 0, before, after)
        with_others = torch.stack([before, after], dim=1)
        first = slice(None, None, len(_PLANES))
        inputs = torch.cat([with_map(plane, a[first], b[first], named["factor"]), with_others], dim=1)
        return inputs, self._middle(planes[:, 1], size) + named["shift"][:, None, None]

    def _stack(self, crops: Tensor, named: dict[str, Tensor], size: int) -> Tensor:
        """Return planes without noise, (count, 3, n, n)."""
        values = micrograph(resampling.luminance(crops), named)
        n = values.shape[1] - 2 * _BLUR
        other = named["second"][:, None, None] * values.flip((1, 2))
        layers = ((values, "depth", "down", "right"), (other, "other_depth", "other_down", "other_right"))
        sigma, planes = blur_of(named, size / self.crop), []
        for number in _PLANES:
            plane = values.new_zeros(len(values), n, n)
            for layer, depth, down, right in layers:
                distance = number - named[depth]
                wider = (sigma.square() + (named["defocus"] * distance).square()).sqrt().clamp(max=_WIDEST)
                rows, across = (
                    camera.gaussians(wider, n, _BLUR, (number * named[move]).clamp(-_BLUR / 3, _BLUR / 3))
                    for move in (down, right)
                )
                strength = (-named["decay"] * distance.square()).exp()[:, None, None]
                plane = plane + strength * (rows @ layer @ across.mT)
            planes.append(plane)
        stack = torch.stack(planes, dim=1)
        stack = stack / stack[:, 1].amax((1, 2), keepdim=True)[:, None].clamp(min=0.05)
        return _above_background(stack.clamp(max=_BRIGHTEST), named)


def micrograph(luminance: Tensor, named: dict[str, Tensor]) -> Tensor:
    """Return luminance (count, n, n) stretched, inverted and raised to a power, 0 to 1."""
    stretch, over, power = (named[name][:, None, None] for name in ("stretch", "over", "power"))
    low = stretch * luminance.amin((1, 2), keepdim=True)
    high = 1 - stretch * (1 - luminance.amax((1, 2), keepdim=True))
    values = ((luminance - low) / (high - low).clamp(min=0.15)).clamp(0, 1)
    return (over + (1 - 2 * over) * values).clamp(min=1e-4) ** power


def blur_of(named: dict[str, Tensor], scale: float) -> Tensor:
    """Return standard deviations of the blur in fine pixels: from those at a scale of 1 to as many coarse pixels."""
    return (named["blur"] * scale ** named["growth"]).clamp(max=_WIDEST)


def _above_background(values: Tensor, named: dict[str, Tensor]) -> Tensor:
    """Return signals with the background and the brightness of each image, (count, …)."""
    ground, top = (named[name].reshape(-1, *[1] * (values.ndim - 1)) for name in ("ground", "top"))
    return top * (ground + (1 - ground) * values)


class PlaneMicrographs(Micrographs):
    """The noise of `Micrographs` on planes. They are micrographs already, so they are not transformed."""

    def margin(self, size: int) -> int:
        """Return the radius of the filter of correlated noise, with that of the kernel."""
        return self._margin_of_pixels(size)

    def _scene(self, crops: Tensor, named: dict[str, Tensor], size: int) -> Tensor:
        return resampling.luminance(crops)


class PlaneReduction(Degradation):
    """The reduction of planes to fewer pixels, without the rounding and clipping of 8 bits."""

    def pair(self, crops: Tensor, parameters: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Return coarse planes, and the planes."""
        matrix, plane = self._matrices[size], resampling.luminance(crops)
        return resampling.apply(matrix, matrix, plane), self._inner(plane, size)


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
        return columns(draw_logarithmic(rng, count, 0.8, 1.25), draw_logarithmic(rng, count, 0.85, 1.15))

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
