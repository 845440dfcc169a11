"""`ErrorModel`: learns where a render is wrong, and by how much, from one whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter, laplace
from torch import Tensor, nn
from torch.nn import functional

from napari_siren.core.forward.operator import Observation
from napari_siren.core.network.optimizer import NetworkOptimizer

Array = npt.NDArray[np.float32]

# What is seen of a render around a pixel: means over these widths, in pixels of the original.
_SLOPE_WIDTHS = (0.25, 0.5, 1.0, 2.0)
_DETAIL_WIDTHS = (0.0, 0.5, 1.0)
# Added before the logarithm, in units of half the image's range: two grey levels of 255 are little.
_LITTLE = 0.004
# The network: two convolutions of 3 and one of 1.
_WIDTH, _KERNEL, _LEAK = 24, 3, 0.1
_STEPS, _RATE, _FINAL_RATE = 300, 3e-3, 0.01
# Sides of the pieces of a step, by the number of axes, and how many there are.
_CROPS, _BATCH = (1024, 48, 12), 4
# Bounds of the logarithm of an error over the mean error.
_LIMIT = 6.0
# Pixels of a block that is predicted at once.
_BLOCK = 1 << 18


class ErrorModel:
    """A small network that tells the expected absolute error of a render from how the render looks around a pixel.

    It is trained on renders with known errors by the likelihood of a Laplace distribution, |error| / u + log u: this
    makes u the expected absolute error (Kendall and Gal 2017, arXiv 1703.04977, with one scale parameter).

    Parameters
    ----------
    dimensions
        Number of spatial axes.
    seed
        Of the random start, and of the pieces that it learns from.
    """

    def __init__(self, dimensions: int, seed: int = 0) -> None:
        self.dimensions = dimensions
        self._seed = seed
        generator = torch.Generator().manual_seed(seed)
        inputs = len(_SLOPE_WIDTHS) * 2 + len(_DETAIL_WIDTHS) + 2
        sizes = [(inputs, _WIDTH, _KERNEL), (_WIDTH, _WIDTH, _KERNEL), (_WIDTH, 1, 1)]
        self._kernels = [
            nn.Parameter(
                torch.empty(out, n, *(side,) * dimensions).normal_(
                    0, math.sqrt(2 / (n * side**dimensions)), generator=generator
                )
            )
            for n, out, side in sizes
        ]
        self._biases = [nn.Parameter(torch.zeros(out)) for _, out, _ in sizes]
        self._middle = self._spread = torch.zeros(())
        self._mean_error = 0.0

    def learn(self, render: Array, image: Array, error: Array, weight: npt.NDArray[np.bool_]) -> None:
        """Learn from a render whose errors are known.

        Parameters
        ----------
        render
            (channels, *shape), normalised to about [-1, 1].
        image
            (channels, *spatial), what the render was made of.
        error
            (channels, *shape), absolute.
        weight
            (*shape): which pixels count.
        """
        seen, truth = self._inputs(render, image), torch.from_numpy(error)[:, None]
        counts = torch.from_numpy(weight).float()
        self._mean_error = float((truth[:, 0] * counts).sum() / (counts.sum() * len(truth)))
        if self._mean_error <= 0:
            return
        axes = (0, *range(2, seen.ndim))
        self._spread, self._middle = torch.std_mean(seen, dim=axes, keepdim=True)
        self._spread = self._spread.clamp_min(1e-6)
        optimizer = NetworkOptimizer([], [*self._kernels, *self._biases], adam_rate=_RATE)
        rng = np.random.default_rng(self._seed)
        for step in range(_STEPS):
            pieces = [self._piece(seen, truth / self._mean_error, counts, rng) for _ in range(_BATCH)]
            looks, errors, weights = (torch.stack(parts) for parts in zip(*pieces, strict=True))
            with torch.enable_grad():
                level = self._level(looks)
                loss = ((errors * torch.exp(-level) + level) * weights[:, None]).mean()
                for parameter in optimizer.others:
                    parameter.grad = None
                loss.backward()  # type: ignore[no-untyped-call]
            rate = _FINAL_RATE + (1 - _FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * step / _STEPS))
            optimizer.step(rate, step + 1)

    @torch.no_grad()
    def predict(self, render: Array, image: Array) -> Array:
        """Return the expected absolute error of a render; the parameters are as in `learn`.

        Returns
        -------
        ndarray
            (channels, *shape).
        """
        if self._mean_error <= 0:
            return np.zeros_like(render)
        seen = self._inputs(render, image)
        found = np.empty_like(render)
        for channel, look in enumerate(seen):
            for inner, outer, cut in _strips(look.shape[1:], _KERNEL - 1):
                level = self._level(look[None, :, outer])[0, 0]
                found[channel, inner] = (self._mean_error * level.exp())[cut].numpy()
        return found

    def _level(self, looks: Tensor) -> Tensor:
        """Logarithm of the expected error over the mean error: (batch, inputs, *shape) -> (batch, 1, *shape)."""
        convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[self.dimensions - 1]
        values = (looks - self._middle) / self._spread
        for i, (kernel, bias) in enumerate(zip(self._kernels, self._biases, strict=True)):
            margin = (kernel.shape[-1] // 2,) * (2 * self.dimensions)
            padded = functional.pad(values, margin, mode="replicate") if any(margin) else values
            values = convolve(padded, kernel, bias)
            if i < len(self._kernels) - 1:
                values = functional.leaky_relu(values, _LEAK)
        return values.clamp(-_LIMIT, _LIMIT)

    def _inputs(self, render: Array, image: Array) -> Tensor:
        """Return what the network sees of a render: (channels, inputs, *shape)."""
        shape = render.shape[1:]
        scales = [n / m for n, m in zip(shape, image.shape[1:], strict=True)]
        interpolated = Observation.of("point", self.dimensions)(torch.from_numpy(image), shape).numpy()
        looks = [list(_looks(*pair, scales)) for pair in zip(render, interpolated, strict=True)]
        return torch.from_numpy(np.array(looks, dtype=np.float32))

    def _piece(self, seen: Tensor, error: Tensor, weight: Tensor, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Cut a piece out of a channel at random, flipped at random."""
        channel = rng.integers(len(seen))
        side = _CROPS[self.dimensions - 1]
        corner = [int(rng.integers(max(1, n - side + 1))) for n in weight.shape]
        window = tuple(slice(start, start + side) for start in corner)
        flipped = [-1 - axis for axis in range(self.dimensions) if rng.random() < 0.5]
        parts = (seen[channel][:, *window], error[channel][:, *window], weight[window])
        return tuple(part.flip(flipped) for part in parts)


def _looks(render: Array, interpolated: Array, scales: Sequence[float]) -> Iterator[Array]:
    """Steepness and curvature around each pixel, what was added to interpolation, and both as they are."""
    added = render - interpolated
    slopes = [np.square(np.gradient(render, axis=axis)) for axis, n in enumerate(render.shape) if n > 1]
    steepness = np.sqrt(np.sum([np.zeros_like(render), *slopes], axis=0))
    for values, widths in (
        (steepness, _SLOPE_WIDTHS),
        (np.abs(laplace(render, mode="nearest")), _SLOPE_WIDTHS),
        (np.abs(added), _DETAIL_WIDTHS),
    ):
        for width in widths:
            yield np.log(gaussian_filter(values, [width * s for s in scales], mode="nearest") + _LITTLE)
    yield render
    yield added / np.float32(_LITTLE)


def _strips(shape: Sequence[int], margin: int) -> Iterator[tuple[slice, slice, slice]]:
    """Cut the first axis: the strip, the strip with a margin, and where it lies in that."""
    thickness = max(1, _BLOCK // math.prod(shape[1:]))
    for first in range(0, shape[0], thickness):
        last = min(shape[0], first + thickness)
        low, high = max(0, first - margin), min(shape[0], last + margin)
        yield slice(first, last), slice(low, high), slice(first - low, last - low)
