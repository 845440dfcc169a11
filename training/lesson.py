"""`Lesson`: a step of the training, done directly or replayed from CUDA graphs, whichever is faster here."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from training import resampling
from training.network import Enlarger
from training.optimizer import Optimizer
from training.photographs import Photographs
from training.settings import Settings
from training.sines import kernels_agree


class Lesson:
    """Takes steps on crops that were drawn.

    Parameters
    ----------
    network, optimizer, photographs, settings
        What is trained, how, and with what.
    device
        Where all of it is.
    dtype
        Of the convolutions and of the decoder.
    plain
        Whether to do without CUDA graphs and kernels of our own.
    """

    def __init__(
        self,
        network: Enlarger,
        optimizer: Optimizer,
        photographs: Photographs,
        settings: Settings,
        device: torch.device,
        dtype: torch.dtype,
        plain: bool = False,
    ) -> None:
        self.network, self.optimizer, self.photographs, self.settings = network, optimizer, photographs, settings
        self.device, self.dtype = device, dtype
        # Sums since they were last set to zero: of the loss, and of the loss of interpolation.
        self.totals = torch.zeros(2, device=device)
        self._drawn = torch.zeros(settings.batch, 3, dtype=torch.int64, device=device)
        self.sides = {size: self._side(size) for size, _ in settings.outputs}
        self._matrices = {
            size: resampling.coarser(size, settings.crop, self._margin(size)).to(device) for size in self.sides
        }
        self.how = "directly"
        self._fused = False
        self._replay: dict[int, Callable[[], None]] = {}
        if device.type == "cuda" and not plain:
            self._speed_up()

    def take(self, size: int, drawn: Tensor) -> None:
        """Take a step on crops that are enlarged to a number of rows and columns; `drawn` is on the device."""
        self._drawn.copy_(drawn)
        replay = self._replay.get(size)
        if replay is None:
            self._step(size)
        else:
            replay()

    def pair(self, size: int) -> tuple[Tensor, Tensor]:
        """Give the crops that were drawn as the network is to see them, and as they are: luminance, 0 to 1."""
        margin, matrix = self._margin(size), self._matrices[size]
        crops = self.photographs.crops(self._drawn, self.sides[size])
        inner = slice(margin, margin + size)
        return resampling.luminance(resampling.shrunk(matrix, matrix, crops)), resampling.luminance(
            crops[..., inner, inner]
        )

    def _step(self, size: int) -> None:
        settings, network = self.settings, self.network
        with torch.no_grad():
            coarse, fine = self.pair(size)
            finer = resampling.finer_on(self.device, torch.float32, settings.crop, size)
            missing = fine - resampling.apply(finer, finer, coarse)
        found = network.decode(network.encode(coarse, self.dtype), (size, size), self._fused)
        loss = (found - missing).abs().mean()
        weight = (2 * settings.crop / size) ** settings.weighting
        self.optimizer.step(torch.autograd.grad(loss * weight, self.optimizer.parameters))
        with torch.no_grad():
            self.totals += torch.stack([loss.detach(), missing.abs().mean()])

    def _margin(self, size: int) -> int:
        return resampling.margin_of(size / self.settings.crop)

    def _side(self, size: int) -> int:
        return size + 2 * self._margin(size)

    def _speed_up(self) -> None:
        """Find the fastest way that gives what the direct one does; leave all as it was."""
        kept = [tensor.detach().clone() for tensor in self._tensors()]
        start = time.perf_counter()
        size = max(self.sides)
        times: dict[str, float] = {}
        losses: dict[str, float] = {}

        def attempt(name: str, fused: bool, graphs: bool) -> bool:
            self._fused, self._replay = fused, {}
            try:
                if graphs:
                    self._record(list(self.sides))
                self._restore(kept)
                times[name], losses[name] = self._time(size)
            except Exception as error:  # Whatever a driver or compiler may raise.
                print(f"{name}: fails ({type(error).__name__}: {str(error)[:200]})", flush=True)
                torch.cuda.synchronize()
                self._replay = {}
                return False
            finally:
                self._restore(kept)
            print(f"{name}: {times[name] * 1e3:.2f} ms for a step to {size}, loss {losses[name]:.5f}", flush=True)
            return True

        self._time(size)
        self._restore(kept)
        own, direct = "directly, own kernels", "directly"
        attempt(direct, False, False)
        fused = kernels_agree(self.device) and attempt(own, True, False)
        if fused and not abs(losses[own] / losses[direct] - 1) < 0.02:
            print("the own kernels give another loss: they are not used", flush=True)
            fused = False
        fused = fused and times[own] < times[direct]
        self.how = "own kernels" if fused else "directly"
        graphs = attempt("graphs", fused, True)
        right = graphs and abs(losses["graphs"] / losses[direct] - 1) < 0.02
        if right and times["graphs"] < times[own if fused else direct]:
            self.how = f"CUDA graphs{' and own kernels' if fused else ''}"
        else:
            self._fused, self._replay = fused, {}
        # Graphs know by now which convolutions are fastest; images of other sizes are not worth the search.
        torch.backends.cudnn.benchmark = not self._replay
        print(f"steps are taken by {self.how}, found in {time.perf_counter() - start:.1f} s", flush=True)

    def _time(self, size: int, steps: int = 8) -> tuple[float, float]:
        """Give the seconds of a step, and the mean loss of the first steps on the crops that are there."""
        self._drawn.copy_(self._examples(size))
        one = self._replay.get(size, lambda: self._step(size))
        self.totals.zero_()
        self.optimizer.rate.fill_(0.01)
        for _ in range(3):
            one()
        loss = float(self.totals[0]) / 3
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(steps):
            one()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / steps, loss

    def _examples(self, size: int) -> Tensor:
        drawn = self.photographs.draw(np.random.default_rng(0), self.settings.batch, self.sides[size], 1)
        return torch.from_numpy(drawn).to(self.device)

    def _record(self, sizes: list[int]) -> None:
        """Record a graph for each size; they share memory, since one runs at a time."""
        pool = torch.cuda.graph_pool_handle()
        for size in sorted(sizes, reverse=True):
            self._drawn.copy_(self._examples(size))
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(2):
                    self._step(size)
            torch.cuda.current_stream().wait_stream(stream)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                self._step(size)
            self._replay[size] = graph.replay

    def _tensors(self) -> list[Tensor]:
        return [*self.optimizer.parameters, *self.optimizer.state(), self.optimizer.rate, self.totals]

    @torch.no_grad()
    def _restore(self, kept: list[Tensor]) -> None:
        for tensor, values in zip(self._tensors(), kept, strict=True):
            tensor.copy_(values)
