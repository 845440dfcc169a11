"""`TileTrainer`: a fit of tiles in progress: its parameters, its steps, and its recovery from failures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.clock import Cancellation, Stopwatch
from napari_siren.core.device import is_out_of_memory
from napari_siren.core.engines import Engine, TorchEngine, choose_engine, low_precision_engine
from napari_siren.core.field.field import Field
from napari_siren.core.field.outliers import Outliers
from napari_siren.core.field.partition import PartitionOfUnity
from napari_siren.core.field.tiling import Tiling
from napari_siren.core.image.metrics import measure, psnr_of
from napari_siren.core.image.outliers import exact_values, without_pixels
from napari_siren.core.image.samples import ImageLayout, Samples
from napari_siren.core.network.optimizer import Optimizer, schedule
from napari_siren.core.network.siren import NetworkSpec, Siren
from napari_siren.core.progress import History, Progress
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.best_weights import BestWeights
from napari_siren.core.training.checkpoint import Checkpoint, check_fingerprint, fingerprint
from napari_siren.core.training.evaluation import EvaluationSchedule
from napari_siren.core.training.plan import Plan, check_memory, memory_bound, plan_fit, plan_tiles
from napari_siren.core.training.targets import Batch, Targets
from napari_siren.errors import DeviceError, StorageError

# Share of the steps with gradients in bfloat16. Measured: the end is as good, and with a larger share it is not.
_LOW_PRECISION_SHARE = 0.85
# Largest share of the schedule before a target PSNR is reached. The step sizes are then small enough for the last
# decibels, and large enough to reach the target.
_LARGEST_TARGET_SHARE = 0.8


@dataclass(frozen=True)
class TileSubset:
    """The tiles of a block of a large image.

    Parameters
    ----------
    tiling
        The tiles, in the pixels of the block.
    numbers
        int64, (tiles,): their numbers among the tiles of the whole image, on which their initial weights depend.
    """

    tiling: Tiling
    numbers: npt.NDArray[np.int64]


_DAMAGED = "the saved state is damaged: its tensors do not match its settings. Start the fit anew."


class TileTrainer:
    """A fit of tiles in progress. Constant tiles are exact from the start and are left out.

    Parameters
    ----------
    samples, config, device, seed
        Image, settings, device, and seed of the initial weights.
    state
        State of an earlier fit of the same image with the same networks, to continue from.
    part
        The tiles to fit, if the samples are a block of a larger image.
    cancellation
        Request to end the fit without a result.
    apart
        Mask of the pixels to keep apart from the tiles, bool, (*spatial), or None. The field has their exact values.
    """

    def __init__(
        self,
        samples: Samples,
        config: FitConfig,
        device: torch.device,
        seed: int,
        state: Checkpoint | None = None,
        part: TileSubset | None = None,
        cancellation: Cancellation | None = None,
        apart: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.samples, self.config, self.device, self.seed = samples, config, device, seed
        self.apart = apart
        self.history = History()
        self.cancellation = cancellation or Cancellation()
        layout = samples.layout
        bound = memory_bound(config, device)
        self.fingerprint = fingerprint(samples, config, apart)
        self.plan = _plan_of(layout, config, part)
        check_memory(self.plan, bound)
        inner = samples if apart is None else without_pixels(samples, apart)
        whole = Targets.from_samples(inner, self.plan.tiling, config)
        self.offset, self.scale = whole.offset.to(device), whole.scale.to(device)
        self.idle = not len(whole.busy)
        # The engines need at least one tile.
        self.busy = whole.busy if len(whole.busy) else torch.arange(1)
        self.targets = whole if len(self.busy) == len(whole.values) else whole.pick(self.busy)
        del whole, inner
        numbers = self.busy.numpy() if part is None else part.numbers[self.busy.numpy()]
        tiles = len(numbers)
        self.siren = Siren.initialise(self.plan.network, numbers.tolist(), config, seed).to(device)
        self.engine = choose_engine(
            config.engine,
            device,
            self.plan.network,
            tiles,
            threads=config.threads,
            block_bytes=self._block_bytes(bound),
            check=self.cancellation.check,
        )
        self.batches = self.targets.batches(device)
        self.optimizer = Optimizer(config, self.plan.network, self.siren.theta)
        self.gradient = torch.empty_like(self.siren.theta)
        self.mean = Siren(self.siren.spec, self.siren.theta.clone(), self.siren.omega_0)
        self.expected_mse = float("nan")
        self.best = BestWeights(self.siren.theta)
        self.step_count = 0
        self.evaluation = EvaluationSchedule(config.target_psnr)
        self._evaluated = False
        self.clock = Stopwatch(0.0 if state is None else state.seconds)
        self.low_precision = (
            low_precision_engine(self.engine, self.plan.network) if config.precision == "auto" else None
        )
        if state is not None:
            self.resume(state)

    @property
    def max_steps(self) -> int:
        """Largest number of steps."""
        return self.config.max_steps

    @property
    def has_tiles(self) -> bool:
        """Return True: the field consists of tiles."""
        return True

    @property
    def engine_name(self) -> str:
        """Name of the engine."""
        return self.engine.name

    @property
    def seconds(self) -> float:
        """Time spent, earlier sessions included."""
        return self.clock.seconds

    def warm_start(self, field: Field, state: Checkpoint | None = None) -> None:
        """Start from the weights of the fit of a similar image, before the first step. Other tilings are ignored."""
        if not field.has_tiles or field.tiling != self.plan.tiling or field.siren.spec != self.siren.spec:
            self.history.note(0, "the fit to start from has other tiles or networks, and was not used")
            return
        # Divergence is measured against the losses of the initial weights.
        self.best.start_losses = self.losses(self.mean)
        theta = field.siren.theta[self.busy.to(field.siren.theta.device)].to(self.device)
        losses = self.losses(Siren(self.siren.spec, theta.clone(), self.siren.omega_0))
        # Tiles in which the images differ too much start from the initial weights.
        theta = torch.where((losses < self.best.start_losses)[:, None], theta, self.siren.theta)
        for weights in (self.siren.theta, self.mean.theta, self.best.theta):
            weights.copy_(theta)

    def done(self) -> float:
        """Return the finished share of the fit, by steps, by time or by the target PSNR, whichever is largest."""
        by_time = self.seconds / self.config.max_seconds if self.config.max_seconds else 0.0
        return max(
            self.step_count / self.config.max_steps, by_time, _LARGEST_TARGET_SHARE * self.evaluation.progress() ** 2
        )

    def step(self) -> Progress:
        """Compute one step, on the next batch of pixels."""
        done = self.done()
        batch = self.batches[self.step_count % len(self.batches)]
        losses = self._guarded(lambda: self._engine(done).gradient(self.siren, batch.x, batch.loss, self.gradient))
        self._evaluated = self.evaluation.is_due(self.step_count)
        if self._evaluated:
            self._evaluate()
            self._roll_back(losses)
        rate = self.best.rates * schedule(self.config, done)
        self.engine.update(self.optimizer, self.gradient, rate, self.mean.theta)
        self.step_count += 1
        progress = self._progress(losses * batch.inverse_share)
        self.history.add(progress)
        return progress

    def losses(self, siren: Siren) -> Tensor:
        """Return the loss of each tile over every pixel, (tiles,)."""
        return torch.stack([self._losses_of(siren, batch) for batch in self.batches]).sum(dim=0)

    def extra_metadata(self) -> dict[str, Any]:
        """Return no further results."""
        return {}

    def predicted_pixels(self, field: Field) -> None:
        """Return None: the reconstruction is the prediction of the image's pixels."""
        return None

    def best_field(self) -> Field:
        """Return the field of the best weights of each tile so far. The fit is not changed."""
        theta = self.best.or_better(self.mean.theta, self.losses(self.mean))
        return self.field(Siren(self.siren.spec, theta, self.siren.omega_0))

    def field(self, siren: Siren | None = None) -> Field:
        """Return the field of some weights. The default is the mean weights, whose memory it may share."""
        everywhere = self._everywhere(siren or self.mean)
        blend = PartitionOfUnity(everywhere, self.plan.tiling, self.offset, self.scale, self.targets.coordinate_scale)
        samples_per_pixel = self.config.subsamples if self.config.sees_area else 1
        # Apple's GPUs have no float64, which positions need.
        blend = blend.to("cpu") if self.device.type == "mps" else blend
        field = Field(blend, self.samples.layout, samples_per_pixel)
        return field if self.apart is None else replace(field, outliers=self._outliers(blend, self.apart))

    def exact_psnr(self, field: Field | None = None) -> float:
        """Return the PSNR of the rounded reconstruction, in dB. The default is the field of the mean weights."""
        reconstruction = (field or self.field()).reconstruct()
        return measure(self.samples, reconstruction, with_ssim=False).psnr

    def reached_target(self) -> bool:
        """Return whether the rounded reconstruction had reached the target PSNR at the last evaluation."""
        if self.config.target_psnr is None or not (self._evaluated and self.evaluation.near_target()):
            return False
        exact = self.exact_psnr()
        if exact < self.config.target_psnr:
            self.evaluation.tighten(exact)
        return exact >= self.config.target_psnr

    def state(self) -> Checkpoint:
        """Return a copy of the state."""
        tensors = {k: v.detach().to("cpu", copy=True) for k, v in self._tensors().items()}
        tensors["looks"] = self.evaluation.state()
        return Checkpoint(self.step_count, self.seconds, self.seed, self.expected_mse, self.fingerprint, tensors)

    def _outliers(self, blend: PartitionOfUnity, apart: npt.NDArray[np.bool_]) -> Outliers:
        """Return the differences between the pixels apart from the tiles and the tiles there."""
        exact = torch.from_numpy(exact_values(self.samples, apart))
        tiles = blend.at_points(torch.from_numpy(np.argwhere(apart) + 0.5), "value")[0]
        return Outliers(apart.shape, torch.from_numpy(np.flatnonzero(apart)), exact - tiles.cpu().double())

    def _everywhere(self, siren: Siren) -> Siren:
        """Return the networks of all tiles, with zeros for the constant ones."""
        if len(self.busy) == self.plan.tiling.count:
            return siren
        theta = torch.zeros(self.plan.tiling.count, siren.spec.parameters, device=self.device)
        theta[self.busy.to(self.device)] = siren.theta
        return Siren(siren.spec, theta, siren.omega_0)

    def _block_bytes(self, bound: int) -> int:
        """Return the bound of a block in bytes: a share of the free memory, for temporary arrays of its size."""
        free = max(self.plan.block, (bound - self.plan.total) // 8)
        # On a CPU blocks that fit the cache are faster than larger ones.
        return min(free, TorchEngine.cache_bytes) if self.device.type == "cpu" else free

    def _engine(self, done: float) -> Engine:
        """Return the engine for the gradient at a share of the fit."""
        return self.engine if self.low_precision is None or done >= _LOW_PRECISION_SHARE else self.low_precision

    # ---- one step ------------------------------------------------------------------------------------

    def _guarded(self, compute: Callable[[], Tensor]) -> Tensor:
        """Compute, in smaller blocks if memory runs out."""
        while True:
            try:
                return compute()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self.low_precision = None  # a single engine is easier to shrink
                if not self.engine.shrink():
                    raise DeviceError(
                        f"memory ran out on {self.device}, even with the smallest blocks. Free some memory, or fit the "
                        "image in parts."
                    ) from error
            self.history.note(self.step_count, "memory ran out; continued in smaller blocks")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _losses_of(self, siren: Siren, batch: Batch) -> Tensor:
        return self._guarded(lambda: self.engine.losses(siren, batch.x, batch.loss))

    def _evaluate(self) -> None:
        losses = self.losses(self.mean)
        if self.step_count == 0:
            self.best.start(losses)
        self.expected_mse = self.targets.expected_mse(losses)
        self.evaluation.record(self.step_count, self.expected_psnr())
        self.best.record(self.mean.theta, losses)

    def _roll_back(self, losses: Tensor) -> None:
        diverged = self.best.diverged(losses)
        if not diverged.any():
            return
        self.siren.theta[diverged] = self.best.theta[diverged]
        self.mean.theta[diverged] = self.best.theta[diverged]
        self.gradient[diverged] = 0
        self.optimizer.reset(diverged)
        self.best.slow_down(diverged)
        count = int(diverged.sum())
        tiles = "1 tile" if count == 1 else f"{count} tiles"
        self.history.note(
            self.step_count, f"{tiles} diverged; rolled back to the best weights, continued with smaller steps"
        )

    def expected_psnr(self) -> float:
        """Return the PSNR of the rounded reconstruction in dB, expected at the last evaluation."""
        return psnr_of(self.expected_mse, self.targets.peak)

    def _progress(self, losses: Tensor) -> Progress:
        done, seconds = self.done(), self.seconds
        remaining = max(0.0, seconds * (1 - done) / done) if done > 0 else None
        return Progress(
            self.step_count,
            self.config.max_steps,
            seconds,
            self.targets.mean_square(losses),
            self.expected_psnr(),
            remaining,
            self.field,
        )

    # ---- continuing later --------------------------------------------------------------------------------

    def _tensors(self) -> dict[str, Tensor]:
        own = {"theta": self.siren.theta, "mean": self.mean.theta, **self.best.tensors()}
        return own | {f"optimizer.{name}": tensor for name, tensor in self.optimizer.state().items()}

    def resume(self, state: Checkpoint) -> None:
        """Continue from the state of another fit of the same image with the same networks."""
        check_fingerprint(state, self.samples, self.config, self.apart)
        own = self._tensors()
        looks = state.tensors.get("looks")
        if looks is None or looks.dtype != torch.float64 or looks.ndim != 2 or looks.shape[1] != 2 or not len(looks):
            raise StorageError(_DAMAGED)
        if not all(_matches(state.tensors.get(name), tensor) for name, tensor in own.items()):
            raise StorageError(_DAMAGED)
        for name, tensor in own.items():
            tensor.copy_(state.tensors[name])
        self.evaluation.load(looks)
        self.step_count = state.step
        self.expected_mse = state.expected_mse
        self.history.note_resumption(state.step)


def _matches(stored: Tensor | None, own: Tensor) -> bool:
    """Return whether a stored tensor has the shape and dtype of a tensor of the fit, without NaN."""
    if stored is None or (stored.shape, stored.dtype) != (own.shape, own.dtype):
        return False
    return not bool(torch.isnan(stored).any())


def _plan_of(layout: ImageLayout, config: FitConfig, part: TileSubset | None) -> Plan:
    if part is None:
        return plan_fit(layout.spatial_shape, layout.channels, config)
    dimensions = len(layout.spatial_shape)
    shape = NetworkSpec(dimensions, layout.channels, config.hidden_layers, config.hidden_features)
    return plan_tiles(part.tiling, shape, config)
