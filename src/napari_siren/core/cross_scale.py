"""`CrossScale`: learns from an image's own smaller copies what lies between pixels, and tells it of the image itself.

A copy of the image and what is seen of it at a lower resolution are a pair for which the truth is known. A network that
has learned to go from the one to the other is then asked one scale further up (Glasner, Bagon, Irani 2009; Shocher,
Cohen, Irani 2018, arXiv 1712.06087). No other image has a part in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from napari_siren.core.accel.plain import orthogonalise
from napari_siren.core.conditioned import ConditionedSiren
from napari_siren.core.observation import Observation

# The network: convolutions and their width, sine layers and theirs.
_NETWORK = (7, 48, 3, 64)
# Its outputs, in units of half the image's range: what is added to interpolation is small.
_OUTPUT_SCALE = 0.2
# Pixels along each side of what a step sees, and of the margin that is made with it and cut off, so that no pixel in
# it was made without its neighbours.
_CROP, _MARGIN = 48, 3
# Sides of the copies that pairs are made of, over the image's; the image itself is taken this share of the time.
_COPIES = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
_ITSELF = 0.2
# Below it a pair has fewer pixels than the network sees.
LEAST_SIDE = 16
_LEAST_PAIR = 6
# Scales in training go from the first to the one asked for. Up to the second only that one is taken.
_LEAST_SCALE, _SINGLE_SCALE = 1.3, 2.0
# Step sizes: the spectral norm of a step on a hidden matrix, and Adam's for the rest; steps until they are reached, and
# what is left of them at the end.
_MUON_RATE, _ADAM_RATE, _MOMENTUM = 0.03, 2e-3, 0.95
_BETAS, _EPSILON = (0.9, 0.99), 1e-8
_WARM_UP, _FINAL_RATE = 50, 0.02
_LARGEST_GRADIENT = 1.0
# Added to what the network sees, so that it does not lean on the last digit of a pixel.
_LEAST_NOISE = 0.004
# Back-projection goes on until the render agrees with the image to within its noise.
_BACK_PROJECTIONS = 6
_BLOCK_SAMPLES = 1 << 16


@dataclass(frozen=True)
class Flip:
    """One of the eight ways to flip and turn an image.

    Parameters
    ----------
    axes
        Those that are reversed, before the turn.
    turned
        Whether rows and columns are exchanged.
    """

    axes: tuple[int, ...]
    turned: bool

    def __call__(self, image: Tensor) -> Tensor:
        """Flip and turn the last two axes."""
        flipped = image.flip([axis - 2 for axis in self.axes])
        return flipped.mT if self.turned else flipped

    def back(self, image: Tensor) -> Tensor:
        """Undo it."""
        return (image.mT if self.turned else image).flip([axis - 2 for axis in self.axes])


FLIPS = tuple(Flip(axes, turned) for turned in (False, True) for axes in ((), (0,), (1,), (0, 1)))


class CrossScale:
    """A network that is trained on one image.

    Parameters
    ----------
    values
        (channels, rows, columns), float32, normalised to about [-1, 1]; `LEAST_SIDE` rows and columns or more.
    observation
        How a pixel sees the field: what a smaller copy of the image is made with.
    scale
        Samples per pixel that are wanted, one number for each axis, 1 or more.
    noise
        Standard deviation of the image's noise, in units of `values`.
    seed
        Of the random start and of the pairs.
    rough
        Whether to calculate in bfloat16 where it does no harm.
    """

    def __init__(
        self,
        values: Tensor,
        observation: Observation,
        scale: tuple[float, float],
        noise: float = 0.0,
        seed: int = 0,
        rough: bool = False,
    ) -> None:
        self.values, self.observation, self.scale, self.noise = values, observation, scale, noise
        self.device = values.device
        self._interpolation = Observation.of("point", 2)
        self._seed, self._rough = seed, rough
        # Axes that are stretched unequally are not exchanged.
        self._flips = FLIPS if scale[0] == scale[1] else tuple(flip for flip in FLIPS if not flip.turned)
        self._copies = [values, *self._smaller_copies()]
        generator = torch.Generator().manual_seed(seed)
        self.network = ConditionedSiren(len(values), *_NETWORK, generator).to(self.device)
        self._optimizer = _Optimizer(self.network)
        self.step_count = 0

    def step(self, done: float) -> float:
        """Take a step on a pair, when a share of the training is done; give the mean squared error on it."""
        # Each step draws from a generator of its own, so that training can go on where it was left.
        rng = np.random.default_rng((self._seed, self.step_count))
        rate = _rate(self.step_count, done)
        with torch.enable_grad():
            missed = self._missed(rng)
            loss = missed.abs().mean()
            self.network.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT)
        self._optimizer.step(rate, self.step_count + 1)
        self.step_count += 1
        return float(missed.detach().square().mean())

    def state(self) -> dict[str, Tensor]:
        """Give a copy, on the CPU, of what is needed to go on."""
        tensors = {**self._tensors(), "step": torch.tensor(self.step_count)}
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from where another one with the same image and settings was; KeyError where something is not there."""
        for name, tensor in self._tensors().items():
            tensor.detach().copy_(tensors[name])
        self.step_count = int(tensors["step"])

    def _tensors(self) -> dict[str, Tensor]:
        return {**dict(self.network.named_parameters()), **self._optimizer.state()}

    @torch.no_grad()
    def predict(self, shape: Sequence[int], flips: int = len(FLIPS)) -> Tensor:
        """Tell what the image is on a finer grid of the same extent.

        Parameters
        ----------
        shape
            Rows and columns of the grid.
        flips
            Of how many flipped and turned images the mean is taken: more is better and takes longer.

        Returns
        -------
        Tensor
            (channels, *shape), normalised as `values`.
        """
        size = tuple(shape)
        chosen = self._flips[:flips]
        details = sum(flip.back(self._details(flip(self.values), _turned(size, flip))) for flip in chosen)
        return self._consistent(self._interpolation(self.values, size) + details / len(chosen))

    # ---- training ------------------------------------------------------------------------------------

    def _missed(self, rng: np.random.Generator) -> Tensor:
        """Give what the network misses of a pair drawn at random."""
        father = self._copies[0] if rng.random() < _ITSELF else self._copies[rng.integers(len(self._copies))]
        pixels, window = self._pair_sizes(father, rng)
        start = [int(rng.integers(n - size + 1)) for n, size in zip(father.shape[1:], window, strict=True)]
        father = father[:, start[0] : start[0] + window[0], start[1] : start[1] + window[1]]
        son = self.observation(father, pixels)
        son = son + self._son_noise() * torch.from_numpy(rng.standard_normal(son.shape, dtype=np.float32)).to(son)
        sizes = [n / size for n, size in zip(pixels, window, strict=True)]
        inner, positions = zip(*(_inner(n, size) for n, size in zip(pixels, window, strict=True)), strict=True)
        details = (father - self._interpolation(son, window))[:, inner[0][1], inner[1][1]]
        son = son[:, inner[0][0], inner[1][0]]
        flip = self._flips[rng.integers(len(self._flips))]
        for axis in flip.axes:
            positions = tuple(son.shape[i + 1] - 1 - p[::-1] if i == axis else p for i, p in enumerate(positions))
        if flip.turned:
            positions, sizes = positions[::-1], sizes[::-1]
        with self._precision():
            features = self.network.encode(flip(son)[None].contiguous())
            found = self.network.decode(features, positions, sizes)
        return _OUTPUT_SCALE * found - flip(details)

    def _pair_sizes(self, father: Tensor, rng: np.random.Generator) -> tuple[tuple[int, int], tuple[int, int]]:
        """Draw how many pixels the son has, and how many of the father they are."""
        share = rng.random()
        pixels, window = [], []
        for n, most in zip(father.shape[1:], self.scale, strict=True):
            least = most if most <= _SINGLE_SCALE else _LEAST_SCALE
            scale = min(least + share * (most - least), n / _LEAST_PAIR)
            pixels.append(max(1, min(_CROP + 2 * _MARGIN, int(n / scale))))
            window.append(min(n, round(scale * pixels[-1])))
        return (pixels[0], pixels[1]), (window[0], window[1])

    def _son_noise(self) -> float:
        return max(_LEAST_NOISE, self.noise)

    def _smaller_copies(self) -> Iterator[Tensor]:
        shape = self.values.shape[1:]
        for share in _COPIES:
            yield self.observation(self.values, [max(_LEAST_PAIR, round(share * n)) for n in shape])

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._rough)

    # ---- telling -------------------------------------------------------------------------------------

    def _details(self, values: Tensor, shape: tuple[int, int]) -> Tensor:
        """Give what is to be added to the interpolation of an image, strip by strip."""
        rows, columns = values.shape[1:]
        sizes = (rows / shape[0], columns / shape[1])
        across = (np.arange(shape[1], dtype=np.float64) + 0.5) * sizes[1] - 0.5
        strips = []
        strip = max(1, _BLOCK_SAMPLES // shape[1])
        for first in range(0, shape[0], strip):
            down = (np.arange(first, min(shape[0], first + strip), dtype=np.float64) + 0.5) * sizes[0] - 0.5
            low = max(0, math.floor(down[0]) - self.network.reach)
            high = min(rows, math.floor(down[-1]) + 2 + self.network.reach)
            features = self.network.encode(values[None, :, low:high].contiguous())
            strips.append(self.network.decode(features, (down - low, across), sizes)[0])
        return _OUTPUT_SCALE * torch.cat(strips, dim=1)

    def _consistent(self, fine: Tensor) -> Tensor:
        """Make a render agree with the image as its pixels see it, to within the noise (Irani and Peleg 1991)."""
        for _ in range(_BACK_PROJECTIONS):
            missed = self.values - self.observation(fine, self.values.shape[1:])
            size = float(missed.square().mean().sqrt())
            if size <= self.noise:
                break
            fine = fine + (1 - self.noise / size) * self._interpolation(missed, fine.shape[1:])
        return fine


class _Optimizer:
    """Muon (Jordan et al. 2024) for the matrices between hidden layers, Adam (Kingma and Ba 2015) for all else.

    Not PyTorch's: making one of these loads its compiler, whose libraries do not go well with those of some windows.
    """

    def __init__(self, network: ConditionedSiren) -> None:
        self.hidden: list[Tensor] = [*list(network.kernels)[1:], *list(network.weights)[1:]]
        chosen = set(map(id, self.hidden))
        self.others: list[Tensor] = [p for p in network.parameters() if id(p) not in chosen]
        self.momentum = [torch.zeros_like(p) for p in self.hidden]
        self.mean = [torch.zeros_like(p) for p in self.others]
        self.square = [torch.zeros_like(p) for p in self.others]

    @torch.no_grad()
    def step(self, rate: float, count: int) -> None:
        """Take step number `count`, from 1 on, at a share of the step sizes."""
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for matrix, momentum in zip(self.hidden, self.momentum, strict=True):
            gradient = _gradient_of(matrix)
            momentum.lerp_(gradient, 1 - _MOMENTUM)
            by_shape.setdefault(matrix.shape, []).append((matrix, torch.lerp(gradient, momentum, _MOMENTUM)))
        for group in by_shape.values():
            directions = orthogonalise(torch.stack([direction for _, direction in group]))
            for (matrix, _), direction in zip(group, directions, strict=True):
                matrix.sub_(direction, alpha=_MUON_RATE * rate)
        size = _ADAM_RATE * rate / (1 - _BETAS[0] ** count)
        for parameter, mean, square in zip(self.others, self.mean, self.square, strict=True):
            gradient = _gradient_of(parameter)
            mean.lerp_(gradient, 1 - _BETAS[0])
            square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
            parameter.addcdiv_(mean, (square / (1 - _BETAS[1] ** count)).sqrt_().add_(_EPSILON), value=-size)

    def state(self) -> dict[str, Tensor]:
        """Give what it remembers, by name; shared."""
        lists = {"momentum": self.momentum, "mean": self.mean, "square": self.square}
        return {f"{name}.{i}": tensor for name, tensors in lists.items() for i, tensor in enumerate(tensors)}


def _gradient_of(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _rate(step: int, done: float) -> float:
    """Share of the step sizes: up at first, then down along a cosine."""
    fall = _FINAL_RATE + (1 - _FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return fall * min(1.0, (step + 1) / _WARM_UP)


def _inner(pixels: int, window: int) -> tuple[tuple[slice, slice], npt.NDArray[np.float64]]:
    """Cut off the margin of a son, and give the father's pixels within what is left, with their positions in it."""
    margin = _MARGIN if pixels >= _CROP else 0
    per_pixel = window / pixels
    inside = slice(math.ceil(margin * per_pixel), math.floor((pixels - margin) * per_pixel))
    positions = (np.arange(inside.start, inside.stop, dtype=np.float64) + 0.5) / per_pixel - 0.5 - margin
    return (slice(margin, pixels - margin), inside), positions


def _turned(shape: Sequence[int], flip: Flip) -> tuple[int, int]:
    return (shape[1], shape[0]) if flip.turned else (shape[0], shape[1])
