"""`BurstSuperResolution`: estimate of a scene, and of the drifts of the frames, from several frames.

Frames that are shifted by fractions of a pixel sample the scene at different points. Together they contain detail that
no single frame has (Tsai and Huang 1984; Farsiu et al. 2004, doi 10.1109/TIP.2004.834669). The most likely scene and
drifts are estimated together: by least squares of the residuals, with a total variation prior, joint over the channels
(Bresson and Chan 2008). The weight of the prior is chosen with held-out pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from skimage.registration import phase_cross_correlation
from torch import Tensor
from torch.nn import functional

from napari_siren.core.clock import Cancellation
from napari_siren.core.image.samples import Samples
from napari_siren.core.restoration.base import Restoration
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.plan import memory_bound
from napari_siren.errors import DeviceError

# Adam's step sizes: for the scene, in standard deviations of the frames, and for the drifts, in pixels.
_SCENE_RATE, _DRIFT_RATE = 0.03, 0.003
# Adam's decay rates of the mean gradient and of the mean squared gradient.
_BETAS = (0.9, 0.99)
# Initial registration of the frames, to a twentieth of a pixel. Largest later change of a drift, in pixels.
_REGISTRATION, _LARGEST_CHANGE = 20, 1.0
# Trials to choose the weight of the total variation: the weights in standard deviations of the frames, the largest side
# of the middle part of the frames in pixels, the number of steps, and the share of held-out pixels for the comparison.
_WEIGHTS = (0.4, 0.2, 0.1, 0.05, 0.025, 0.012, 0.006, 0.003, 0.0015)
_TRIAL_SIDE, _TRIAL_STEPS, _HELD_OUT = 128, 100, 0.1
# Gradient below which the total variation is smoothed, in standard deviations of the frames.
_ROUNDING = 0.01
# Number of steps between two updates of the frames' disagreement.
_UPDATE_EVERY = 20
# Smallest standard deviation to divide by.
_LEAST = 1e-6
# Names of the moments in the state of PyTorch's Adam.
_MOMENTS = ("exp_avg", "exp_avg_sq")
# Bytes that a step needs for each value of the frames, and for each sample of the scene.
_FRAME_BYTES, _SAMPLE_BYTES = 16, 60


def plan(samples: Samples, config: FitConfig, frames: npt.NDArray[np.float32] | None = None) -> Restoration | None:
    """Plan the super-resolution of a burst.

    Parameters
    ----------
    samples
        The first frame.
    config
        The settings.
    frames
        All frames, (frames, channels, *spatial), float32, normalised. None is not a burst.
    """
    if frames is None:
        return None
    detail = math.ceil(config.detail)
    shape = tuple(n * detail for n in samples.layout.spatial_shape)

    def create(device: torch.device, seed: int) -> BurstSuperResolution:
        return BurstSuperResolution.from_config(frames, config, device, seed)

    return Restoration(shape, BurstSuperResolution, create, frames)


class BurstSuperResolution:
    """An iterative estimate of a scene from several frames, aligned with the first frame.

    Parameters
    ----------
    frames
        Frames, (frames, channels, *spatial), float32, normalised. The drift of the first frame is zero.
    detail
        Number of samples of the scene per pixel along each axis.
    seed
        Seed of the choice of held-out pixels, which determine the weight of the prior.
    """

    default_passes: ClassVar[int] = 1
    whole_image: ClassVar[bool] = True
    ready: ClassVar[bool] = False
    tiled: ClassVar[bool] = True
    adapting = False
    steps_left: ClassVar[Mapping[str, int]] = {}

    def __init__(self, frames: Tensor, detail: int, seed: int = 0) -> None:
        self._frames, self._detail, self._seed = frames, detail, seed
        self._scene = _Scene(frames, detail, registered(frames), 0.0)
        self.step_count = 0
        self.finished = False
        self.cancellation = Cancellation()

    @classmethod
    def from_config(
        cls, frames: npt.NDArray[np.float32], config: FitConfig, device: torch.device, seed: int
    ) -> BurstSuperResolution:
        """Make the solver for the settings of a fit.

        Raises
        ------
        DeviceError
            The solver needs more memory than the settings allow.
        """
        detail = math.ceil(config.detail)
        needed, bound = working_set(frames.shape, detail), memory_bound(config, device)
        if needed > bound:
            raise DeviceError(
                f"the combination of the frames needs {needed / 1e9:.1f} GB, and may use {bound / 1e9:.1f} GB. Take "
                "fewer frames or a part of each, or raise max_memory."
            )
        return cls(torch.from_numpy(frames).to(device), detail, seed)

    @property
    def drifts(self) -> Tensor:
        """Drifts in pixels, (frames, axes), float64: pixel k of a frame shows the position k + drift of the first."""
        return self._scene.drifts.detach()

    def step(self, done: float) -> float:
        """Compute one step and return the mean squared error of the frames' pixels, in normalised values."""
        if self.step_count == 0:
            self._scene = self._initial_estimate()
        self.step_count += 1
        return self._scene.step(done)

    def predict(self, shape: Sequence[int], passes: int = 1) -> Tensor:
        """Return the scene, (channels, *shape), normalised. The shape is always `detail` times that of a frame."""
        return self._scene.inner()

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the state, on the CPU."""
        tensors = {**self._scene.tensors(), "step": torch.tensor(self.step_count)}
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a state.

        Raises
        ------
        KeyError
            A tensor is missing.
        """
        self._scene = _Scene(self._frames, self._detail, tensors["home"].numpy(), 0.0)
        self._scene.load(tensors)
        self.step_count = int(tensors["step"])

    def warm_start(self, tensors: Mapping[str, Tensor]) -> None:
        """Ignore the state: other frames show another scene."""

    def extra_metadata(self) -> dict[str, Any]:
        """Return the drift of each frame in pixels, and its disagreement: its residual over the median residual."""
        return {"drifts": self.drifts.tolist(), "disagreement": self._scene.disagreement.tolist()}

    def _initial_estimate(self) -> _Scene:
        """Return a new estimate with the drifts and the weight of the best trial, by the error of held-out pixels."""
        middle = [slice((n - m) // 2, (n - m) // 2 + m) for n in self._sizes() for m in [min(n, _TRIAL_SIDE)]]
        frames = self._frames[(slice(None), slice(None), *middle)].contiguous()
        rng = np.random.default_rng(self._seed)
        heldout = torch.from_numpy(rng.random((len(frames), *frames.shape[2:])) < _HELD_OUT).to(frames.device)
        spread, least = float(frames.std()), math.inf
        best = (self._scene.drifts.detach().numpy(), 0.0)
        scene = _Scene(frames, self._detail, best[0], 0.0, ~heldout)
        for share in _WEIGHTS:
            # The weights decrease. Each trial continues from the result of the one before.
            scene.weight = share * spread
            for step in range(_TRIAL_STEPS):
                scene.step(step / _TRIAL_STEPS)
            if (error := scene.error_of(heldout)) < least:
                best, least = (scene.drifts.detach().numpy(), scene.weight), error
        return _Scene(self._frames, self._detail, *best)

    def _sizes(self) -> tuple[int, ...]:
        return tuple(self._frames.shape[2:])


class _Scene:
    """The current estimate of a scene and of the drifts of its frames.

    Parameters
    ----------
    frames, detail
        Frames and samples per pixel, as in `BurstSuperResolution`.
    drifts
        Initial drifts in pixels, (frames, axes).
    weight
        Weight of the total variation.
    used
        Mask of the pixels to use, bool, (frames, *spatial). None is all pixels.
    """

    def __init__(
        self, frames: Tensor, detail: int, drifts: np.ndarray, weight: float, used: Tensor | None = None
    ) -> None:
        self.weight, self._frames, self._detail = weight, frames, detail
        self._used = None if used is None else used[:, None].float()
        self._sizes = frames.shape[2:]
        self._margin = math.ceil(float(np.abs(drifts).max()) + _LARGEST_CHANGE)
        self._initial_drifts = torch.from_numpy(drifts.astype(np.float64))
        self._drifts = self._initial_drifts[1:].clone().requires_grad_()
        self._samples = self._initial_scene(drifts).requires_grad_()
        self._spread = float(frames.std().clamp_min(_LEAST))
        rates = [{"params": [self._samples], "lr": 0.0}, {"params": [self._drifts], "lr": 0.0}]
        self._optimizer = torch.optim.Adam(rates, betas=_BETAS)
        self.disagreement = torch.ones(len(frames), dtype=torch.float64)
        self.step_count = 0

    @property
    def drifts(self) -> Tensor:
        """Drifts in pixels, (frames, axes), float64."""
        return torch.cat([self._initial_drifts[:1], self._drifts])

    def step(self, done: float) -> float:
        """Compute one step and return the mean squared error. `done` is the share of the steps that are done."""
        decrease = min(1.0, 2 * (1 - done))
        for group, rate in zip(self._optimizer.param_groups, (_SCENE_RATE * self._spread, _DRIFT_RATE), strict=True):
            group["lr"] = rate * decrease
        with torch.enable_grad():
            residuals = self._residuals()
            if self.step_count % _UPDATE_EVERY == 0:
                self._update_disagreement(residuals.detach())
            squares = residuals.square() if self._used is None else residuals.square() * self._used
            trust = (0.5 / self.disagreement.square()).to(squares)
            loss = (squares.flatten(1).sum(dim=1) * trust).sum() + self.weight * self._variation()
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        with torch.no_grad():
            initial = self._initial_drifts[1:]
            low, high = initial - _LARGEST_CHANGE, initial + _LARGEST_CHANGE
            self._drifts.copy_(torch.minimum(torch.maximum(self._drifts, low), high))
        self.step_count += 1
        return float(residuals.detach().square().mean())

    @torch.no_grad()
    def error_of(self, pixels: Tensor) -> float:
        """Return the mean squared error of the pixels of a mask, bool, (frames, *spatial)."""
        return float(self._residuals().square().mean(dim=1)[pixels].mean())

    def inner(self) -> Tensor:
        """Return the part of the scene within the first frame, (channels, *spatial times detail)."""
        start = self._margin * self._detail
        inside = (slice(start, start + n * self._detail) for n in self._sizes)
        return self._samples.detach()[(slice(None), *inside)].clone()

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the state, by their names in files."""
        own = {
            "samples": self._samples,
            "drifts": self._drifts,
            "home": self._initial_drifts,
            "disagreement": self.disagreement,
        }
        own["numbers"] = torch.tensor([self.step_count, self.weight], dtype=torch.float64)
        for name in ("samples", "drifts"):
            state = self._optimizer.state[own[name]]
            for moment in _MOMENTS:
                own[f"{name}.{moment}"] = state[moment] if moment in state else torch.zeros_like(own[name])
        return own

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a state."""
        self.step_count, self.weight = int(tensors["numbers"][0]), float(tensors["numbers"][1])
        self.disagreement = tensors["disagreement"].clone()
        for name, parameter in (("samples", self._samples), ("drifts", self._drifts)):
            parameter.detach().copy_(tensors[name])
            state = self._optimizer.state[parameter]
            state["step"] = torch.tensor(float(self.step_count))
            state |= {moment: tensors[f"{name}.{moment}"].to(parameter, copy=True) for moment in _MOMENTS}

    def _initial_scene(self, drifts: np.ndarray) -> Tensor:
        """Return the initial scene: the mean of the frames, each moved back by whole pixels."""
        moved = []
        for frame, drift in zip(self._frames, np.rint(drifts).astype(int).tolist(), strict=True):
            pads = [p for d in reversed(drift) for p in (self._margin + d, self._margin - d)]
            moved.append(functional.pad(frame[None], pads, mode="replicate"))
        mean = torch.stack(moved).mean(dim=0)
        modes = {1: "linear", 2: "bilinear", 3: "trilinear"}
        return functional.interpolate(mean, scale_factor=self._detail, mode=modes[len(self._sizes)])[0].contiguous()

    def _residuals(self) -> Tensor:
        """Return the residuals: the predicted frames minus the frames."""
        return torch.stack(
            [self._predict(drift) - frame for drift, frame in zip(self.drifts, self._frames, strict=True)]
        )

    def _predict(self, drift: Tensor) -> Tensor:
        """Return the prediction of a frame from the scene, (channels, *spatial)."""
        values = self._samples
        for axis, n in enumerate(self._sizes):
            values = self._averaged(values, axis + 1, n, drift[axis])
        return values

    def _averaged(self, samples: Tensor, axis: int, pixels: int, drift: Tensor) -> Tensor:
        """Return the means over the pixels along an axis. The scene is constant within each sample."""
        start = self._detail * (self._margin + drift)
        first = int(torch.floor(start.detach()))
        part = (start - first).to(samples)
        weights = [1 - part, *[torch.ones_like(part)] * (self._detail - 1), part]
        pick = (*(slice(None),) * axis, slice(None, None, self._detail))
        # The last sample always exists, because the margin is wider than any drift.
        windows = [
            samples.narrow(axis, first + offset, self._detail * (pixels - 1) + 1)[pick]
            for offset in range(len(weights))
        ]
        return (
            torch.stack([weight * window for weight, window in zip(weights, windows, strict=True)]).sum(dim=0)
            / self._detail
        )

    def _variation(self) -> Tensor:
        """Return the total variation of the scene, isotropic and joint over the channels."""
        inner = (slice(None), *(slice(0, -1),) * len(self._sizes))
        squares = torch.full((), (_ROUNDING * self._spread) ** 2, device=self._samples.device)
        for axis in range(1, self._samples.ndim):
            moved = list(inner)
            moved[axis] = slice(1, None)
            squares = squares + (self._samples[tuple(moved)] - self._samples[inner]).square().sum(dim=0)
        return squares.sqrt().sum()

    def _update_disagreement(self, residuals: Tensor) -> None:
        """Compute the disagreement of each frame: its residual over the median, 1 or more. It reduces the weight."""
        spread = residuals.square().flatten(1).mean(dim=1).sqrt().cpu().double()
        self.disagreement = (spread / spread.median().clamp_min(_LEAST)).clamp_min(1.0)


def working_set(shape: Sequence[int], detail: int) -> int:
    """Return the memory for a burst in bytes, without the margin for its drifts.

    Parameters
    ----------
    shape
        Shape of the frames, (frames, channels, *spatial).
    detail
        Number of samples per pixel along each axis.
    """
    values, axes = math.prod(shape), len(shape) - 2
    # Frames are predicted along one axis after the other, at first with the samples along all other axes.
    factor = sum(detail**axis for axis in range(axes)) * (detail + 1)
    return int(values * factor * _FRAME_BYTES + values // shape[0] * detail**axes * _SAMPLE_BYTES)


def registered(frames: Tensor) -> np.ndarray:
    """Register frames to the first one by phase correlation of their mean over the channels.

    Parameters
    ----------
    frames
        Frames, (frames, channels, *spatial).

    Returns
    -------
    ndarray
        Drifts in pixels, (frames, axes), float64: pixel k of a frame shows the position k + drift of the first frame.
    """
    plain = frames.mean(dim=1).cpu().double().numpy()
    drifts = np.zeros((len(plain), plain.ndim - 1))
    # The drift of a constant frame is zero.
    for number in (n for n in range(1, len(plain)) if np.ptp(plain[0]) > 0 and np.ptp(plain[n]) > 0):
        result = phase_cross_correlation(  # type: ignore[no-untyped-call]
            plain[0], plain[number], upsample_factor=_REGISTRATION, normalization=None
        )
        drifts[number] = result[0]
    return drifts
