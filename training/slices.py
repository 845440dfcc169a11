"""Train the network from which the training on the slices of a stack starts.

    python -m training.slices --data FOLDER --minutes 45 --out out/training

Photographs are changed to resemble micrographs, and thinned along their rows as slices are by the training on a stack
(`core/restoration/self_supervised/thinning.py`). The network learns the difference between them and splines.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.transform import downscale_local_mean
from torch import Tensor, nn

from napari_siren.core.degradation import camera
from napari_siren.core.degradation.camera import draw_logarithmic
from napari_siren.core.degradation.micrographs import micrograph
from napari_siren.core.network.optimizer import NetworkOptimizer
from napari_siren.core.pretrained_network import resampling
from napari_siren.core.pretrained_network.weights import describe, save_tensors, today, write_bytes
from napari_siren.core.pretraining.photographs import Photographs, find_images, fingerprint, load_images
from napari_siren.core.pretraining.settings import Settings
from napari_siren.core.restoration.self_supervised.network import LocalImplicitSiren
from napari_siren.core.restoration.self_supervised.restorer import NETWORK, OUTPUT_SCALE
from napari_siren.core.restoration.self_supervised.start import SLICES
from napari_siren.core.restoration.self_supervised.thinning import Thinning, spline_weights
from napari_siren.errors import SirenError

_LOG = logging.getLogger(__name__)
# Largest number of remaining rows, columns, and largest number of rows before.
_ROWS, _COLUMNS, _HEIGHT = 24, 64, 120
# Least number of remaining rows, and the range of their distances.
_LEAST_ROWS, _RATIOS = 6, (1.25, 9.0)
# Radius of the blur of the optics in pixels.
_RADIUS = 8
# Pairs of a step, and candidates for each: the one with the most gradient is used.
_BATCH, _CANDIDATES = 4, 3
# Step sizes of Muon and of Adam, steps of the warm-up, and share of the step sizes at the end.
_RATES, _WARM_UP, _FINAL_RATE = (0.01, 1e-3), 100, 0.02
# Largest norm of a gradient, and decay of the running mean of the parameters.
_LARGEST_GRADIENT, _AVERAGING = 1.0, 0.998
# Added to the deviation of the details of a pair, by which its loss is divided.
_LEAST_DETAIL = 0.003
# Number of validation steps, and the seconds between validations.
_VALIDATION_STEPS, _VALIDATE_EVERY = 60, 120.0


@dataclass(frozen=True)
class Pairs:
    """Thinned images and the true corrections of splines.

    Parameters
    ----------
    sources
        Thinned images, (pairs, rows, columns), in about [-1, 1].
    details
        True corrections of splines, (pairs, positions, columns).
    positions
        Positions of the corrections between the rows of the sources.
    ratio
        Distance of the rows in pixels.
    """

    sources: Tensor
    details: Tensor
    positions: np.ndarray
    ratio: float

    @classmethod
    def draw(cls, photographs: Photographs, rng: np.random.Generator, count: int = _BATCH) -> Pairs:
        """Draw pairs with the same thinning from photographs."""
        thinning = _draw_thinning(rng)
        rows = micrographs(photographs, rng, count)[:, : thinning.rows]
        source = _tensor(thinning.reduction) @ rows
        source = source + _noise(source, rng)
        spline = _tensor(spline_weights(thinning.count, thinning.positions))
        details = _tensor(thinning.blur) @ rows - spline @ source
        return cls(source, details, thinning.positions, thinning.ratio)

    def errors(self, network: LocalImplicitSiren) -> Tensor:
        """Return the errors of a network's corrections, (pairs, positions, columns)."""
        features = network.encode(self.sources[:, None])
        across = np.arange(_COLUMNS, dtype=np.float64)
        found = network.decode(features, (self.positions, across), (1 / self.ratio, 1.0))[:, 0]
        return OUTPUT_SCALE * found - self.details

    def gain(self, network: LocalImplicitSiren) -> float:
        """Return the mean reduction of the squared error of splines, in dB."""
        errors = [values.square().mean((1, 2)) for values in (self.details, self.errors(network))]
        return float((10 * (errors[0] / errors[1]).log10()).mean())


def _draw_thinning(rng: np.random.Generator) -> Thinning:
    ratio = float(np.exp(rng.uniform(*np.log(_RATIOS))))
    if rng.random() < 0.35:
        ratio = float(rng.choice([2, 3, 4], p=[0.4, 0.4, 0.2]))
    count = _ROWS if ratio < 2 or rng.random() < 0.5 else int(rng.integers(8, _ROWS + 1))
    count = max(_LEAST_ROWS, min(count, int(_HEIGHT / ratio)))
    return Thinning.draw(rng, round(count * ratio), count, ratio, thick=bool(rng.random() < 0.5))


def micrographs(photographs: Photographs, rng: np.random.Generator, count: int) -> Tensor:
    """Return photographs that are changed to resemble micrographs, (count, rows, columns), in about [-1, 1]."""
    side = _HEIGHT + 2 * _RADIUS
    positions = torch.from_numpy(photographs.draw(rng, count, side, _CANDIDATES))
    values = micrograph(resampling.luminance(photographs.crops(positions, side)), _draw_look(rng, count))
    blur = camera.gaussians(_tensor(draw_logarithmic(rng, count, 0.4, 1.8)), _HEIGHT, _RADIUS)
    values = (blur @ values @ blur.mT)[:, :, :_COLUMNS]
    contrast = draw_logarithmic(rng, count, 0.15, 1.0)
    ground = np.where(rng.random(count) < 0.6, 0.0, rng.random(count)) * (1 - contrast)
    return 2 * (_tensor(ground)[:, None, None] + _tensor(contrast)[:, None, None] * values) - 1


def _draw_look(rng: np.random.Generator, count: int) -> dict[str, Tensor]:
    """Draw the parameters of `micrograph`."""
    stretch, over, power = rng.random(count), rng.random(count) < 0.5, draw_logarithmic(rng, count, 0.7, 4.0)
    return {"stretch": _tensor(stretch), "over": _tensor(over), "power": _tensor(power)}


def _noise(source: Tensor, rng: np.random.Generator) -> Tensor:
    """Return noise for thinned images: little for three in five, and for half of the steps that of photons."""
    count = len(source)
    level = np.where(rng.random(count) < 0.6, 0.002, draw_logarithmic(rng, count, 0.003, 0.12))
    sigma = _tensor(level)[:, None, None]
    if rng.random() < 0.5:
        sigma = sigma * (source + 1).clamp(min=0.02).sqrt()
    return sigma * _tensor(rng.standard_normal(source.shape, dtype=np.float32))


class Training:
    """A training of the network, for a number of minutes.

    Parameters
    ----------
    photographs, held_out
        Photographs for the training and for the validation.
    seed
        Seed of the initial parameters and of the pairs.
    """

    def __init__(self, photographs: Photographs, held_out: Photographs, seed: int = 0) -> None:
        self.photographs, self.seed, self.steps = photographs, seed, 0
        self.network = LocalImplicitSiren(1, *NETWORK, torch.Generator().manual_seed(seed))
        self._optimizer = NetworkOptimizer(self.network.hidden(), self.network.others(), *_RATES)
        self._mean = [p.detach().clone() for p in self.network.parameters()]
        self._validation = [Pairs.draw(held_out, np.random.default_rng((1, i)), 2) for i in range(_VALIDATION_STEPS)]

    def train(self, seconds: float, validated: Callable[[Training], object]) -> None:
        """Train for some seconds, and call a function every two minutes."""
        begin = last = time.monotonic()
        while (spent := time.monotonic() - begin) < seconds:
            self.step(spent / seconds)
            if time.monotonic() - last > _VALIDATE_EVERY:
                validated(self)
                last = time.monotonic()

    def step(self, done: float) -> None:
        """Compute a step, after a share `done` of the training."""
        pairs = Pairs.draw(self.photographs, np.random.default_rng((self.seed, self.steps, 7)))
        deviation = pairs.details.square().mean((1, 2), keepdim=True).sqrt() + _LEAST_DETAIL
        # The mean absolute difference has no effect here: the details are zero nearly everywhere, and so is the result.
        loss = ((pairs.errors(self.network) / deviation).square() + 1).sqrt().mean()
        self.network.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), _LARGEST_GRADIENT)
        fall = _FINAL_RATE + (1 - _FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        self._optimizer.step(fall * min(1.0, (self.steps + 1) / _WARM_UP), self.steps + 1)
        self.steps += 1
        share = 1 - min(_AVERAGING, self.steps / (self.steps + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self._mean, list(self.network.parameters()), share)

    def result(self) -> LocalImplicitSiren:
        """Return the network with the running mean of the parameters."""
        network = LocalImplicitSiren(1, *NETWORK, torch.Generator())
        with torch.no_grad():
            for parameter, mean in zip(network.parameters(), self._mean, strict=True):
                parameter.copy_(mean)
        return network

    @torch.no_grad()
    def gain(self) -> float:
        """Return the mean gain over splines on held-out photographs, in dB."""
        network = self.result()
        return float(np.mean([pairs.gain(network) for pairs in self._validation]))


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def load(paths: list[Path]) -> Photographs:
    """Load photographs at half and at a quarter of their size."""
    half = [downscale_local_mean(image, (2, 2, 1)).astype(np.uint8) for image in load_images(paths)]
    return Photographs(half, 0.25, _HEIGHT + 2 * _RADIUS, torch.device("cpu"))


_CARD = """# Weights for what lies between the slices of a stack

A `LocalImplicitSiren` of one channel, whose output is added to the cubic spline through the rows of a plane across the
slices, in [-1, 1]. The training on a stack starts from it.
`{name}.safetensors`: {parameters} parameters in float16.

- Data: {photographs} photographs, {megapixels:.0f} megapixels at half of their size, {held_out} more held out. Names
  and contents have the SHA-256 `{data}`.
- The photographs were stretched, inverted, raised to powers from 0.7 to 4 and blurred by 0.4 to 1.8 pixels, to resemble
  micrographs; none of them is one. Their rows were thinned 1.25 to 9 times, as means or as values at their centres,
  after a blur of up to 0.6 of the distance. Noise: up to 6 % of the range for two in five.
- Training: {minutes:.1f} minutes, {steps} steps of {batch} pairs; seed {seed}; {date}; {device}; PyTorch {torch}.

On held-out photographs the squared error of splines is reduced by {gain:.2f} dB on average.
"""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        train(parser().parse_args(arguments))
    except SirenError as error:
        sys.exit(f"{error}")


def train(options: argparse.Namespace) -> None:
    """Train with the options of the command line.

    Raises
    ------
    InputError
        The folder has no images, or they have too few pixels.
    StorageError
        The weights cannot be written.
    """
    paths, names = find_images(options.data), Settings().held_out
    held_out = [path for path in paths if path.name in names]
    others = [path for path in paths if path.name not in names]
    training = Training(load(others), load(held_out or others[:1]), options.seed)
    data = {"photographs": len(others), "held_out": len(held_out), "data": fingerprint(paths)}
    begin = time.monotonic()

    def write(training: Training) -> None:
        record = {**data, "minutes": (time.monotonic() - begin) / 60, "seed": options.seed}
        write_weights(options.out, training, record)

    # The files are written after each validation, so an interrupted training leaves some.
    training.train(60 * options.minutes, write)
    write(training)


def write_weights(folder: Path, training: Training, record: Mapping[str, Any]) -> None:
    """Write the weights of a training and their card, and log the gain on the held-out photographs."""
    network, gain = training.result(), training.gain()
    metadata = {
        **record,
        "settings": {"kind": SLICES},
        "megapixels": training.photographs.megapixels,
        "steps": training.steps,
        "batch": _BATCH,
        "date": today(),
        "device": describe(torch.device("cpu")),
        "torch": torch.__version__,
        "gain": gain,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: parameter.detach().half() for name, parameter in network.named_parameters()}
    save_tensors(folder / f"{SLICES}.safetensors", tensors, metadata)
    write_bytes(folder / f"{SLICES}.md", _CARD.format(**metadata, name=SLICES).encode())
    _LOG.info("%.1f min, step %d: gain %.3f dB", record["minutes"], training.steps, gain)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(prog="python -m training.slices", description=__doc__)
    result.add_argument("--data", type=Path, required=True, help="folder of photographs")
    result.add_argument("--minutes", type=float, default=45.0, help="length of the training")
    result.add_argument("--out", type=Path, default=Path("out/training"), help="folder of the written files")
    result.add_argument("--seed", type=int, default=0, help="seed of the initialisation and of the pairs")
    return result


if __name__ == "__main__":
    main()
