"""`Burst`: finds one scene, and the drifts of the frames that saw it, from several frames.

Frames that see a scene shifted by parts of a pixel sample it where the others did not, so that together they hold
detail that none has (Tsai and Huang 1984; Farsiu et al. 2004, doi 10.1109/TIP.2004.834669). Scene and drifts are found
together, as what is most likely: the least squares of what the frames miss, and total variation (Bresson and Chan 2008,
for the channels jointly), the weight of which is chosen by pixels that are held out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from skimage.registration import phase_cross_correlation
from torch import Tensor
from torch.nn import functional

from napari_siren.core.config import FitConfig
from napari_siren.core.training.plan import memory_bound
from napari_siren.errors import DeviceError

# Adam's step sizes: of the scene, in standard deviations of the frames, and of drifts, in pixels.
_SCENE_RATE, _DRIFT_RATE = 0.03, 0.003
_BETAS = (0.9, 0.99)
# Of a pixel: how exactly frames are registered at first; and how far a drift may go from there.
_REGISTRATION, _LEEWAY = 20, 1.0
# Weights of the total variation that are tried, in standard deviations of the frames; on so many pixels along each axis
# of the middle, in so many steps, by what this share of the pixels, held out, says of them.
_WEIGHTS = (0.4, 0.2, 0.1, 0.05, 0.025, 0.012, 0.006, 0.003, 0.0015)
_TRIAL_SIDE, _TRIAL_STEPS, _HELD_OUT = 128, 100, 0.1
# Where the total variation is rounded off, in standard deviations of the frames.
_ROUNDING = 0.01
# How well each frame agrees is looked at every so many steps.
_LOOK_EVERY = 20
_LEAST = 1e-6
_MOMENTS = ("exp_avg", "exp_avg_sq")
# Bytes that a step needs for each value of the frames, and for each sample of the scene.
_FRAME_BYTES, _SAMPLE_BYTES = 16, 60


class Burst:
    """A scene as the first of its frames sees it.

    Parameters
    ----------
    frames
        (frames, channels, *spatial), float32, normalised; the first has not drifted.
    detail
        Samples of the scene for a pixel along each axis, a whole number.
    seed
        Of the pixels that are held out to choose the prior's weight.
    """

    def __init__(self, frames: Tensor, detail: int, seed: int = 0) -> None:
        self._frames, self._detail, self._seed = frames, detail, seed
        self._scene = _Scene(frames, detail, registered(frames), 0.0)
        self.step_count = 0
        self.finished = False

    @classmethod
    def of(cls, frames: npt.NDArray[np.float32], config: FitConfig, device: torch.device, seed: int) -> Burst:
        """Take the detail of some settings.

        Raises
        ------
        DeviceError
            It would need more memory than the settings allow.
        """
        detail = math.ceil(config.detail)
        needed, bound = working_set(frames.shape, detail), memory_bound(config, device)
        if needed > bound:
            raise DeviceError(
                f"to join the frames, {needed / 1e9:.1f} GB are needed, and {bound / 1e9:.1f} GB may be used. Take "
                "fewer frames or a part of each, or raise max_memory."
            )
        return cls(torch.from_numpy(frames).to(device), detail, seed)

    @property
    def drifts(self) -> Tensor:
        """(frames, axes), float64, pixels: pixel k of a frame sees what lies at k + drift in the first."""
        return self._scene.drifts.detach()

    def step(self, done: float) -> float:
        """Take a step, when a share of them is done; give the mean squared error, in normalised values."""
        if self.step_count == 0:
            self._scene = self._begun()
        self.step_count += 1
        return self._scene.step(done)

    def predict(self, shape: Sequence[int], flips: int = 1) -> Tensor:
        """Return the scene: (channels, *shape), normalised, of which the shape is `detail` times that of a frame."""
        return self._scene.inner()

    def state(self) -> dict[str, Tensor]:
        """Return a copy, on the CPU, of what is needed to go on."""
        tensors = {**self._scene.tensors(), "step": torch.tensor(self.step_count)}
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from there; KeyError where something is not there."""
        self._scene = _Scene(self._frames, self._detail, tensors["home"].numpy(), 0.0)
        self._scene.load(tensors)
        self.step_count = int(tensors["step"])

    def begin_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Take nothing: what other frames showed is not this scene."""

    def findings(self) -> dict[str, Any]:
        """Return the drift of each frame, in pixels, and what it misses by, over what all of them do."""
        return {"drifts": self.drifts.tolist(), "disagreement": self._scene.disagreement.tolist()}

    def _begun(self) -> _Scene:
        """Begin anew with the drifts that a trial found, and the prior's weight that tells held out pixels best."""
        middle = [slice((n - m) // 2, (n - m) // 2 + m) for n in self._sizes() for m in [min(n, _TRIAL_SIDE)]]
        frames = self._frames[(slice(None), slice(None), *middle)].contiguous()
        rng = np.random.default_rng(self._seed)
        out = torch.from_numpy(rng.random((len(frames), *frames.shape[2:])) < _HELD_OUT).to(frames.device)
        spread, least = float(frames.std()), math.inf
        best = (self._scene.drifts.detach().numpy(), 0.0)
        scene = _Scene(frames, self._detail, best[0], 0.0, ~out)
        for share in _WEIGHTS:
            # From strong to weak, each from where the one before came to.
            scene.weight = share * spread
            for step in range(_TRIAL_STEPS):
                scene.step(step / _TRIAL_STEPS)
            if (error := scene.error_of(out)) < least:
                best, least = (scene.drifts.detach().numpy(), scene.weight), error
        return _Scene(self._frames, self._detail, *best)

    def _sizes(self) -> tuple[int, ...]:
        return tuple(self._frames.shape[2:])


class _Scene:
    """Samples of a scene and drifts of its frames, on the way to what is most likely.

    Parameters
    ----------
    frames, detail
        As in `Burst`.
    drifts
        (frames, axes), to start from.
    weight
        Of the total variation.
    used
        bool, (frames, *spatial): pixels to go by; None is all.
    """

    def __init__(
        self, frames: Tensor, detail: int, drifts: np.ndarray, weight: float, used: Tensor | None = None
    ) -> None:
        self.weight, self._frames, self._detail = weight, frames, detail
        self._used = None if used is None else used[:, None].float()
        self._sizes = frames.shape[2:]
        self._margin = math.ceil(float(np.abs(drifts).max()) + _LEEWAY)
        self._home = torch.from_numpy(drifts.astype(np.float64))
        self._drifts = self._home[1:].clone().requires_grad_()
        self._samples = self._rough(drifts).requires_grad_()
        self._spread = float(frames.std().clamp_min(_LEAST))
        rates = [{"params": [self._samples], "lr": 0.0}, {"params": [self._drifts], "lr": 0.0}]
        self._optimizer = torch.optim.Adam(rates, betas=_BETAS)
        self.disagreement = torch.ones(len(frames), dtype=torch.float64)
        self.step_count = 0

    @property
    def drifts(self) -> Tensor:
        """(frames, axes), float64."""
        return torch.cat([self._home[:1], self._drifts])

    def step(self, done: float) -> float:
        """Take a step, when a share of them is done; give the mean squared error."""
        fall = min(1.0, 2 * (1 - done))
        for group, rate in zip(self._optimizer.param_groups, (_SCENE_RATE * self._spread, _DRIFT_RATE), strict=True):
            group["lr"] = rate * fall
        with torch.enable_grad():
            missed = self._missed()
            if self.step_count % _LOOK_EVERY == 0:
                self._look(missed.detach())
            squares = missed.square() if self._used is None else missed.square() * self._used
            trust = (0.5 / self.disagreement.square()).to(squares)
            loss = (squares.flatten(1).sum(dim=1) * trust).sum() + self.weight * self._variation()
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        with torch.no_grad():
            home = self._home[1:]
            self._drifts.copy_(torch.minimum(torch.maximum(self._drifts, home - _LEEWAY), home + _LEEWAY))
        self.step_count += 1
        return float(missed.detach().square().mean())

    @torch.no_grad()
    def error_of(self, pixels: Tensor) -> float:
        """Return the mean squared error of some pixels, bool, (frames, *spatial)."""
        return float(self._missed().square().mean(dim=1)[pixels].mean())

    def inner(self) -> Tensor:
        """Return what the first frame sees, (channels, *spatial times detail)."""
        start = self._margin * self._detail
        place = (slice(start, start + n * self._detail) for n in self._sizes)
        return self._samples.detach()[(slice(None), *place)].clone()

    def tensors(self) -> dict[str, Tensor]:
        """Return what is needed to go on."""
        own = {"samples": self._samples, "drifts": self._drifts, "home": self._home, "disagreement": self.disagreement}
        own["numbers"] = torch.tensor([self.step_count, self.weight], dtype=torch.float64)
        for name in ("samples", "drifts"):
            kept = self._optimizer.state[own[name]]
            for moment in _MOMENTS:
                own[f"{name}.{moment}"] = kept[moment] if moment in kept else torch.zeros_like(own[name])
        return own

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from there."""
        self.step_count, self.weight = int(tensors["numbers"][0]), float(tensors["numbers"][1])
        self.disagreement = tensors["disagreement"].clone()
        for name, parameter in (("samples", self._samples), ("drifts", self._drifts)):
            parameter.detach().copy_(tensors[name])
            kept = self._optimizer.state[parameter]
            kept["step"] = torch.tensor(float(self.step_count))
            kept |= {moment: tensors[f"{name}.{moment}"].to(parameter, copy=True) for moment in _MOMENTS}

    def _rough(self, drifts: np.ndarray) -> Tensor:
        """Return the mean of the frames, each moved back by whole pixels: with it the scene begins."""
        moved = []
        for frame, drift in zip(self._frames, np.rint(drifts).astype(int).tolist(), strict=True):
            pads = [p for d in reversed(drift) for p in (self._margin + d, self._margin - d)]
            moved.append(functional.pad(frame[None], pads, mode="replicate"))
        mean = torch.stack(moved).mean(dim=0)
        modes = {1: "linear", 2: "bilinear", 3: "trilinear"}
        return functional.interpolate(mean, scale_factor=self._detail, mode=modes[len(self._sizes)])[0].contiguous()

    def _missed(self) -> Tensor:
        """Return what the frames see of the scene, less the frames."""
        return torch.stack([self._seen(drift) - frame for drift, frame in zip(self.drifts, self._frames, strict=True)])

    def _seen(self, drift: Tensor) -> Tensor:
        seen = self._samples
        for axis, n in enumerate(self._sizes):
            seen = self._averaged(seen, axis + 1, n, drift[axis])
        return seen

    def _averaged(self, samples: Tensor, axis: int, pixels: int, drift: Tensor) -> Tensor:
        """Return the means over a pixel's length along an axis, of a scene that is constant within its samples."""
        start = self._detail * (self._margin + drift)
        first = int(torch.floor(start.detach()))
        part = (start - first).to(samples)
        weights = [1 - part, *[torch.ones_like(part)] * (self._detail - 1), part]
        pick = (*(slice(None),) * axis, slice(None, None, self._detail))
        # The last sample is there: the margin is wider than any drift.
        windows = [
            samples.narrow(axis, first + place, self._detail * (pixels - 1) + 1)[pick] for place in range(len(weights))
        ]
        return (
            torch.stack([weight * window for weight, window in zip(weights, windows, strict=True)]).sum(dim=0)
            / self._detail
        )

    def _variation(self) -> Tensor:
        """Return the total variation, isotropic and over the channels jointly."""
        inner = (slice(None), *(slice(0, -1),) * len(self._sizes))
        squares = torch.full((), (_ROUNDING * self._spread) ** 2, device=self._samples.device)
        for axis in range(1, self._samples.ndim):
            moved = list(inner)
            moved[axis] = slice(1, None)
            squares = squares + (self._samples[tuple(moved)] - self._samples[inner]).square().sum(dim=0)
        return squares.sqrt().sum()

    def _look(self, missed: Tensor) -> None:
        """See which frames do not agree with the others: they count for less."""
        spread = missed.square().flatten(1).mean(dim=1).sqrt().cpu().double()
        self.disagreement = (spread / spread.median().clamp_min(_LEAST)).clamp_min(1.0)


def working_set(shape: Sequence[int], detail: int) -> int:
    """Return the bytes that a burst of (frames, channels, *spatial) needs, but for the margin of its drifts."""
    values, axes = math.prod(shape), len(shape) - 2
    # Along one axis after the other frames are seen, the first time with the samples of all others.
    seen = sum(detail**axis for axis in range(axes)) * (detail + 1)
    return int(values * seen * _FRAME_BYTES + values // shape[0] * detail**axes * _SAMPLE_BYTES)


def registered(frames: Tensor) -> np.ndarray:
    """Register frames to the first, by the phase of their mean channel.

    Parameters
    ----------
    frames
        (frames, channels, *spatial).

    Returns
    -------
    ndarray
        (frames, axes), float64, pixels: pixel k of a frame sees what lies at k + drift in the first.
    """
    plain = frames.mean(dim=1).cpu().double().numpy()
    drifts = np.zeros((len(plain), plain.ndim - 1))
    # Where there is nothing to be seen nothing has moved.
    for number in (n for n in range(1, len(plain)) if np.ptp(plain[0]) > 0 and np.ptp(plain[n]) > 0):
        found = phase_cross_correlation(  # type: ignore[no-untyped-call]
            plain[0], plain[number], upsample_factor=_REGISTRATION, normalization=None
        )
        drifts[number] = found[0]
    return drifts
