"""`ErrorModel`: a network for the expected absolute error of a render, trained on a render of known truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter, laplace
from torch import Tensor, nn
from torch.nn import functional

from napari_siren.core.forward.operator import ForwardOperator
from napari_siren.core.network.optimizer import NetworkOptimizer

Array = npt.NDArray[np.float32]

# Widths of the Gaussian means of steepness and curvature around a pixel, in pixels of the original.
_SLOPE_WIDTHS = (0.25, 0.5, 1.0, 2.0)
# Widths of the Gaussian means of the difference from interpolation, in pixels of the original.
_DETAIL_WIDTHS = (0.0, 0.5, 1.0)
# Value added before the logarithm, in units of half the image's range: half a grey level of 255.
_LOG_OFFSET = 0.004
# Channels of the hidden layers, side of the two first kernels (the third has side 1), and slope of the leaky ReLU.
_WIDTH, _KERNEL, _LEAK = 24, 3, 0.1
# Number of training steps, learning rate, and the share of the rate at the end of its cosine schedule.
_STEPS, _RATE, _FINAL_RATE = 300, 3e-3, 0.01
# Sides of the crops by the number of axes, and the number of crops in a training step.
_CROPS, _BATCH = (1024, 48, 12), 4
# Largest absolute value of the logarithm of the expected error over the mean error.
_LIMIT = 6.0
# Steps between two reports of the progress.
_REPORTED = 10
# Number of pixels that are predicted at once.
_BLOCK = 1 << 18


class ErrorModel:
    """A small network for the expected absolute error of a render, from features around each pixel.

    It is trained on renders with known errors. The loss is the negative log-likelihood of a Laplace distribution,
    |error| / u + log u, so that u becomes the expected absolute error (Kendall and Gal 2017, arXiv 1703.04977, with one
    scale parameter).

    Parameters
    ----------
    dimensions
        Number of spatial axes.
    seed
        Seed of the random initialisation, and of the random crops for the training.
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

    def learn(
        self,
        render: Array,
        image: Array,
        error: Array,
        weight: npt.NDArray[np.bool_],
        on_progress: Callable[[float], None] = lambda share: None,
    ) -> None:
        """Train the network on a render of known errors.

        Parameters
        ----------
        render
            Render, float32, (channels, *shape), normalised to about [-1, 1].
        image
            Image of the render, float32, (channels, *spatial), normalised in the same way.
        error
            Absolute errors of the render, float32, (channels, *shape).
        weight
            Mask, bool, (*shape): True for the pixels to use.
        on_progress
            Function that is called with the share of the steps that are done, 0 to 1.
        """
        inputs, truth = self._inputs(render, image), torch.from_numpy(error)[:, None]
        counts = torch.from_numpy(weight).float()
        self._mean_error = float((truth[:, 0] * counts).sum() / (counts.sum() * len(truth)))
        if self._mean_error <= 0:
            return
        axes = (0, *range(2, inputs.ndim))
        self._spread, self._middle = torch.std_mean(inputs, dim=axes, keepdim=True)
        self._spread = self._spread.clamp_min(1e-6)
        optimizer = NetworkOptimizer([], [*self._kernels, *self._biases], adam_rate=_RATE)
        rng = np.random.default_rng(self._seed)
        for step in range(_STEPS):
            if step % _REPORTED == 0:
                on_progress(step / _STEPS)
            crops = [self._crop(inputs, truth / self._mean_error, counts, rng) for _ in range(_BATCH)]
            features, errors, weights = (torch.stack(parts) for parts in zip(*crops, strict=True))
            with torch.enable_grad():
                level = self._level(features)
                loss = ((errors * torch.exp(-level) + level) * weights[:, None]).mean()
                for parameter in optimizer.others:
                    parameter.grad = None
                loss.backward()  # type: ignore[no-untyped-call]
            rate = _FINAL_RATE + (1 - _FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * step / _STEPS))
            optimizer.step(rate, step + 1)

    @torch.no_grad()
    def predict(self, render: Array, image: Array) -> Array:
        """Return the expected absolute error of a render. The parameters are those of `learn`.

        Returns
        -------
        ndarray
            Expected absolute errors, float32, (channels, *shape).
        """
        if self._mean_error <= 0:
            return np.zeros_like(render)
        inputs = self._inputs(render, image)
        errors = np.empty_like(render)
        for channel, features in enumerate(inputs):
            for inner, outer, cut in _strips(features.shape[1:], _KERNEL - 1):
                level = self._level(features[None, :, outer])[0, 0]
                errors[channel, inner] = (self._mean_error * level.exp())[cut].numpy()
        return errors

    def _level(self, features: Tensor) -> Tensor:
        """Return the logarithm of the expected error over the mean error.

        Parameters
        ----------
        features
            Inputs of the network, (batch, inputs, *shape).

        Returns
        -------
        Tensor
            Logarithms, (batch, 1, *shape).
        """
        convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[self.dimensions - 1]
        values = (features - self._middle) / self._spread
        for i, (kernel, bias) in enumerate(zip(self._kernels, self._biases, strict=True)):
            margin = (kernel.shape[-1] // 2,) * (2 * self.dimensions)
            padded = functional.pad(values, margin, mode="replicate") if any(margin) else values
            values = convolve(padded, kernel, bias)
            if i < len(self._kernels) - 1:
                values = functional.leaky_relu(values, _LEAK)
        return values.clamp(-_LIMIT, _LIMIT)

    def _inputs(self, render: Array, image: Array) -> Tensor:
        """Return the inputs of the network for a render, (channels, inputs, *shape)."""
        shape = render.shape[1:]
        scales = [n / m for n, m in zip(shape, image.shape[1:], strict=True)]
        interpolated = ForwardOperator.from_kind("point", self.dimensions)(torch.from_numpy(image), shape).numpy()
        features = [list(_features(*pair, scales)) for pair in zip(render, interpolated, strict=True)]
        return torch.from_numpy(np.array(features, dtype=np.float32))

    def _crop(self, inputs: Tensor, error: Tensor, weight: Tensor, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Return a random crop of a random channel, flipped at random."""
        channel = rng.integers(len(inputs))
        side = _CROPS[self.dimensions - 1]
        corner = [int(rng.integers(max(1, n - side + 1))) for n in weight.shape]
        window = tuple(slice(start, start + side) for start in corner)
        flips = [-1 - axis for axis in range(self.dimensions) if rng.random() < 0.5]
        parts = (inputs[channel][:, *window], error[channel][:, *window], weight[window])
        return tuple(part.flip(flips) for part in parts)


def _features(render: Array, interpolated: Array, scales: Sequence[float]) -> Iterator[Array]:
    """Return the inputs of the network for one channel, each of the render's shape.

    They are logarithms of means of steepness, curvature and detail around each pixel, then the render and the detail
    themselves. The detail is the difference between the render and interpolation.
    """
    detail = render - interpolated
    slopes = [np.square(np.gradient(render, axis=axis)) for axis, n in enumerate(render.shape) if n > 1]
    steepness = np.sqrt(np.sum([np.zeros_like(render), *slopes], axis=0))
    for values, widths in (
        (steepness, _SLOPE_WIDTHS),
        (np.abs(laplace(render, mode="nearest")), _SLOPE_WIDTHS),
        (np.abs(detail), _DETAIL_WIDTHS),
    ):
        for width in widths:
            yield np.log(gaussian_filter(values, [width * s for s in scales], mode="nearest") + _LOG_OFFSET)
    yield render
    yield detail / np.float32(_LOG_OFFSET)


def _strips(shape: Sequence[int], margin: int) -> Iterator[tuple[slice, slice, slice]]:
    """Cut the first axis into strips: each strip, the strip with a margin, and its position within the latter."""
    thickness = max(1, _BLOCK // math.prod(shape[1:]))
    for first in range(0, shape[0], thickness):
        last = min(shape[0], first + thickness)
        low, high = max(0, first - margin), min(shape[0], last + margin)
        yield slice(first, last), slice(low, high), slice(first - low, last - low)
