"""`Run`: a fit in progress; its parameters, its steps, the best so far, and how it recovers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.clock import Stopwatch
from napari_siren.core.config import FitConfig
from napari_siren.core.device import is_out_of_memory
from napari_siren.core.engines import Engine, PlainEngine, choose_engine, rough_engine
from napari_siren.core.field.field import Field
from napari_siren.core.field.partition import Blend
from napari_siren.core.field.tiling import Tiling
from napari_siren.core.image.metrics import measure, psnr_of
from napari_siren.core.image.samples import ImageFormat, Samples
from napari_siren.core.network.optimizer import Optimizer, schedule
from napari_siren.core.network.siren import Siren, SirenShape
from napari_siren.core.progress import History, Progress
from napari_siren.core.training.evaluation import Looks
from napari_siren.core.training.plan import Plan, check_memory, memory_bound, plan_fit, plan_tiles
from napari_siren.core.training.targets import Batch, Targets
from napari_siren.errors import DeviceError, InputError, StorageError

# A tile whose loss is so many times what it was before the first step has diverged.
_DIVERGED = 4.0
_BACK_OFF = 0.5
# So much of a fit may go with rough gradients: measured, the end is then as good, and with more it is not.
_ROUGH_SHARE = 0.85
# Near a target the step sizes are small, which gains the last decibels, and not so small that it is never reached.
_MOST_BY_TARGET = 0.8
# What does not change what a fit is heading for.
_FREE_SETTINGS = {
    "name",
    "max_steps",
    "max_seconds",
    "target_psnr",
    "engine",
    "precision",
    "threads",
    "max_memory",
    "memory_fraction",
}


@dataclass(frozen=True)
class Part:
    """Which of the tiles of an image, too large for memory, a run is to fit.

    Parameters
    ----------
    tiling
        The tiles, in the pixels of the samples that are there.
    numbers
        int64, (tiles,): which they are among the tiles of the whole image. Their random start depends on that.
    """

    tiling: Tiling
    numbers: npt.NDArray[np.int64]


@dataclass(frozen=True)
class State:
    """Everything that a fit needs to go on later, on the CPU.

    Parameters
    ----------
    step, seconds
        Done so far.
    seed
        Of the fit; it decides the pixels held out.
    expected_mse
        Mean squared error at the last look.
    fingerprint
        Hash of the image and of the settings that a fit to go on with must share.
    tensors
        Parameters, best parameters and their losses, step sizes, and the optimiser's state.
    """

    step: int
    seconds: float
    seed: int
    expected_mse: float
    fingerprint: str
    tensors: Mapping[str, Tensor]


class Run:
    """A fit in progress. Constant tiles, which are right from the start, have no part in it.

    Parameters
    ----------
    samples, config, device, seed
        What to fit, how, where, and from which random start.
    state
        Of an earlier run with the same image and the same networks, to go on from.
    part
        Where the samples are but a part of an image: the tiles to fit.
    """

    def __init__(
        self,
        samples: Samples,
        config: FitConfig,
        device: torch.device,
        seed: int,
        state: State | None = None,
        part: Part | None = None,
    ) -> None:
        self.samples, self.config, self.device, self.seed = samples, config, device, seed
        self.history = History()
        layout = samples.format
        bound = memory_bound(config, device)
        self.fingerprint = fingerprint(samples, config)
        self.plan = _plan_of(layout, config, part)
        check_memory(self.plan, bound)
        whole = Targets.of(samples, self.plan.tiling, config)
        self.offset, self.scale = whole.offset.to(device), whole.scale.to(device)
        self.idle = not len(whole.busy)
        # A run needs a tile, be there something to learn or not.
        self.busy = whole.busy if len(whole.busy) else torch.arange(1)
        self.targets = whole if len(self.busy) == len(whole.values) else whole.pick(self.busy)
        del whole
        numbers = self.busy.numpy() if part is None else part.numbers[self.busy.numpy()]
        tiles = len(numbers)
        self.siren = Siren.initialise(self.plan.shape, numbers.tolist(), config, seed).to(device)
        self.engine = choose_engine(
            config.engine,
            device,
            self.plan.shape,
            tiles,
            threads=config.threads,
            block_bytes=self._block_bytes(bound),
        )
        self.batches = self.targets.batches(device)
        self.optimizer = Optimizer(config, self.plan.shape, self.siren.theta)
        self.gradient = torch.empty_like(self.siren.theta)
        self.mean = Siren(self.siren.shape, self.siren.theta.clone(), self.siren.omega_0)
        self.expected_mse = float("nan")
        self.best = self.siren.theta.clone()
        self.best_loss = torch.full((tiles,), torch.inf, device=device)
        self.rate = torch.ones(tiles, device=device)
        self.start_loss = torch.full((tiles,), torch.inf, device=device)
        self.step_count = 0
        self.looks = Looks(config.target_psnr)
        self._looked = False
        self.clock = Stopwatch(0.0 if state is None else state.seconds)
        self.engine.check = self.clock.check
        self.rough = rough_engine(self.engine, self.plan.shape) if config.precision == "auto" else None
        if state is not None:
            self.resume(state)

    @property
    def max_steps(self) -> int:
        """Steps at most to do."""
        return self.config.max_steps

    @property
    def engine_name(self) -> str:
        """That of the engine."""
        return self.engine.name

    @property
    def seconds(self) -> float:
        """Time spent, earlier sessions included."""
        return self.clock.seconds

    def begin_from(self, field: Field, state: State | None = None) -> None:
        """Begin with the weights of a fit of an alike image, before the first step; nothing where no tile is alike.

        Of `state`, another kind of fit takes more.
        """
        if field.tiling != self.plan.tiling or field.siren.shape != self.siren.shape:
            return
        # What a diverged tile is told by is how far it was from the image without any weights.
        self.start_loss = self.losses(self.mean)
        theta = field.siren.theta[self.busy.to(field.siren.theta.device)].to(self.device)
        begun = self.losses(Siren(self.siren.shape, theta.clone(), self.siren.omega_0))
        # Not where the images differ so much that nothing at all is a better beginning.
        theta = torch.where((begun < self.start_loss)[:, None], theta, self.siren.theta)
        for mine in (self.siren.theta, self.mean.theta, self.best):
            mine.copy_(theta)

    def done(self) -> float:
        """Share of the fit that is done, by steps, by time or by the PSNR asked for, whichever is most."""
        by_time = self.seconds / self.config.max_seconds if self.config.max_seconds else 0.0
        return max(self.step_count / self.config.max_steps, by_time, _MOST_BY_TARGET * self.looks.way() ** 2)

    def step(self) -> Progress:
        """Take one step, over the pixels whose turn it is."""
        done = self.done()
        batch = self.batches[self.step_count % len(self.batches)]
        losses = self._guarded(lambda: self._engine(done).gradient(self.siren, batch.x, batch.loss, self.gradient))
        self._looked = self.looks.due(self.step_count)
        if self._looked:
            self._keep_best()
            self._roll_back(losses)
        rate = self.rate * schedule(self.config, done)
        self.engine.update(self.optimizer, self.gradient, rate, self.mean.theta)
        self.step_count += 1
        progress = self._progress(losses * batch.inverse_share)
        self.history.add(progress)
        return progress

    def losses(self, siren: Siren) -> Tensor:
        """Return the loss of each tile over every pixel, (tiles,)."""
        return torch.stack([self._losses_of(siren, batch) for batch in self.batches]).sum(dim=0)

    def findings(self) -> dict[str, Any]:
        """Say nothing beside the field."""
        return {}

    def best_field(self) -> Field:
        """Return the field of the best weights of each tile so far; the run is left as it is, and goes on."""
        losses = self.losses(self.mean)
        theta = torch.where((losses < self.best_loss)[:, None], self.mean.theta, self.best)
        return self.field(Siren(self.siren.shape, theta, self.siren.omega_0))

    def field(self, siren: Siren | None = None) -> Field:
        """Return the field of some weights; of the mean weights, whose memory it may share, where none are given."""
        everywhere = self._everywhere(siren or self.mean)
        blend = Blend(everywhere, self.plan.tiling, self.offset, self.scale, self.targets.coordinate_scale)
        samples_per_pixel = self.config.subsamples if self.config.sees_area else 1
        # Apple's GPUs have no float64, which positions need.
        blend = blend.to("cpu") if self.device.type == "mps" else blend
        return Field(blend, self.samples.format, samples_per_pixel)

    def exact_psnr(self, field: Field | None = None) -> float:
        """PSNR of the rounded reconstruction by a field; by that of the mean weights where none is given."""
        found = (field or self.field()).reconstruct()
        return measure(self.samples, found, with_ssim=False).psnr

    def reached_target(self) -> bool:
        """Whether the rounded reconstruction has come to the PSNR asked for, as far as the last step looked."""
        if self.config.target_psnr is None or not (self._looked and self.looks.near_target()):
            return False
        exact = self.exact_psnr()
        if exact < self.config.target_psnr:
            self.looks.missed_target(exact)
        return exact >= self.config.target_psnr

    def state(self) -> State:
        """Return a copy of what is needed to go on."""
        tensors = {k: v.detach().to("cpu", copy=True) for k, v in self._tensors().items()}
        tensors["looks"] = self.looks.state()
        return State(self.step_count, self.seconds, self.seed, self.expected_mse, self.fingerprint, tensors)

    def _everywhere(self, siren: Siren) -> Siren:
        """Return the networks of all tiles, nothing for the constant ones, from those of the busy."""
        if len(self.busy) == self.plan.tiling.count:
            return siren
        theta = torch.zeros(self.plan.tiling.count, siren.shape.parameters, device=self.device)
        theta[self.busy.to(self.device)] = siren.theta
        return Siren(siren.shape, theta, siren.omega_0)

    def _block_bytes(self, bound: int) -> int:
        """Bound for a block: a share of what is left, since some temporary arrays of its size come and go."""
        left = max(self.plan.block, (bound - self.plan.total) // 8)
        # On a CPU blocks that fit the cache are faster than larger ones.
        return min(left, PlainEngine.cache_bytes) if self.device.type == "cpu" else left

    def _engine(self, done: float) -> Engine:
        """Return the engine for the gradient when a share of the fit is done."""
        return self.engine if self.rough is None or done >= _ROUGH_SHARE else self.rough

    # ---- one step ------------------------------------------------------------------------------------

    def _guarded(self, compute: Callable[[], Tensor]) -> Tensor:
        """Compute; in smaller blocks where memory runs out."""
        while True:
            try:
                return compute()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self.rough = None  # it needs as much; one engine is enough to shrink
                if not self.engine.shrink():
                    raise DeviceError(
                        f"memory ran out on {self.device}, even with the smallest blocks. Free some, or fit the image "
                        "in parts."
                    ) from error
            self.history.events.append((self.step_count, "memory ran out; went on in smaller blocks"))
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _losses_of(self, siren: Siren, batch: Batch) -> Tensor:
        return self._guarded(lambda: self.engine.losses(siren, batch.x, batch.loss))

    def _keep_best(self) -> None:
        losses = self.losses(self.mean)
        if self.step_count == 0:
            self.start_loss = torch.where(self.start_loss.isfinite(), self.start_loss, losses)
        self.expected_mse = self.targets.expected_mse(losses)
        self.looks.saw(self.step_count, self.expected_psnr())
        better = losses < self.best_loss
        self.best_loss = torch.where(better, losses, self.best_loss)
        self.best = torch.where(better[:, None], self.mean.theta, self.best)

    def _roll_back(self, losses: Tensor) -> None:
        bad = ~(losses <= _DIVERGED * self.start_loss + 1e-12)
        if not bad.any():
            return
        self.siren.theta[bad] = self.best[bad]
        self.mean.theta[bad] = self.best[bad]
        self.gradient[bad] = 0
        self.optimizer.reset(bad)
        self.rate[bad] *= _BACK_OFF
        count = int(bad.sum())
        tiles = "1 tile" if count == 1 else f"{count} tiles"
        self.history.events.append(
            (self.step_count, f"{tiles} diverged; rolled back to the best weights, going on at a lower rate")
        )

    def expected_psnr(self) -> float:
        """PSNR to expect of the rounded reconstruction, as of the last look."""
        return psnr_of(self.expected_mse, self.targets.peak)

    def _progress(self, losses: Tensor) -> Progress:
        done, seconds = self.done(), self.seconds
        left = max(0.0, seconds * (1 - done) / done) if done > 0 else None
        return Progress(
            self.step_count,
            self.config.max_steps,
            seconds,
            self.targets.mean_square(losses),
            self.expected_psnr(),
            left,
            self.field,
        )

    # ---- going on later --------------------------------------------------------------------------------

    def _tensors(self) -> dict[str, Tensor]:
        own = {
            "theta": self.siren.theta,
            "mean": self.mean.theta,
            "best": self.best,
            "best_loss": self.best_loss,
        }
        own |= {"rate": self.rate, "start_loss": self.start_loss}
        return own | {f"optimizer.{name}": tensor for name, tensor in self.optimizer.state().items()}

    def resume(self, state: State) -> None:
        """Go on from where another run with the same image and the same networks was."""
        mine = self._tensors()
        if state.fingerprint != self.fingerprint:
            raise InputError(
                "the saved state is of another image or of other settings. Use those that it was made with; "
                f"only {', '.join(sorted(_FREE_SETTINGS))} may differ."
            )
        if "looks" not in state.tensors or any(
            name not in state.tensors or state.tensors[name].shape != mine[name].shape for name in mine
        ):
            raise StorageError("the saved state is damaged: its tensors do not fit its settings. Start the fit anew.")
        for name, tensor in mine.items():
            tensor.copy_(state.tensors[name])
        self.looks.load(state.tensors["looks"])
        self.step_count = state.step
        self.expected_mse = state.expected_mse
        self.history.events.append((state.step, "resumed"))


def _plan_of(layout: ImageFormat, config: FitConfig, part: Part | None) -> Plan:
    if part is None:
        return plan_fit(layout.spatial_shape, layout.channels, config)
    dimensions = len(layout.spatial_shape)
    shape = SirenShape(dimensions, layout.channels, config.hidden_layers, config.hidden_features)
    return plan_tiles(part.tiling, shape, config)


def fingerprint(samples: Samples, config: FitConfig, frames: npt.NDArray[np.float32] | None = None) -> str:
    """Return a hash of the image (and of other frames) and of the settings that a fit to go on with must share."""
    digest = hashlib.sha256(config.model_dump_json(exclude=_FREE_SETTINGS).encode())
    digest.update(repr(samples.format).encode())
    for array in (samples.image, samples.observed, samples.heldout, *(() if frames is None else (frames,))):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
