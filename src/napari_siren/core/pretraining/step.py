"""`Stepper`: a step of the training, direct or replayed from CUDA graphs, by the measured speed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from napari_siren.core.degradation.kinds import degradation_for
from napari_siren.core.pretrained_network import resampling
from napari_siren.core.pretrained_network.network import PretrainedNetwork
from napari_siren.core.pretrained_network.sines import kernels_agree
from napari_siren.core.pretraining.optimizer import Optimizer
from napari_siren.core.pretraining.photographs import Photographs
from napari_siren.core.pretraining.settings import Settings

_LOG = logging.getLogger(__name__)
# Largest relative difference between the losses of two ways to compute the same steps.
_AGREEMENT = 0.02


class Stepper:
    """A step of the training on given crops.

    Parameters
    ----------
    network, optimizer, photographs, settings
        Network, its optimiser, the photographs for training, and the settings.
    device
        Device of all of them.
    dtype
        Dtype of the convolutions and of the decoder.
    plain
        Whether to use neither CUDA graphs nor the kernels in Triton.
    """

    def __init__(
        self,
        network: PretrainedNetwork,
        optimizer: Optimizer,
        photographs: Photographs,
        settings: Settings,
        device: torch.device,
        dtype: torch.dtype,
        plain: bool = False,
    ) -> None:
        self.network, self.optimizer, self.photographs, self.settings = network, optimizer, photographs, settings
        self.device, self.dtype = device, dtype
        # Sum of the losses, and sum of the losses of interpolation, since they were set to zero.
        self.totals = torch.zeros(2, device=device)
        sizes = tuple(size for size, _ in settings.outputs)
        self.degradation = degradation_for(settings.kind, settings.source)(settings.crop, sizes, device)
        self.sides = {size: self.degradation.side(size) for size in sizes}
        self._positions = torch.zeros(settings.batch, 3, dtype=torch.int64, device=device)
        self._parameters = torch.zeros(settings.batch, len(self.degradation.names), device=device)
        self.how = "single steps"
        self._fused = False
        self._replay: dict[int, Callable[[], None]] = {}
        if device.type == "cuda" and not plain:
            self._speed_up()

    def take(self, size: int, positions: Tensor, parameters: Tensor) -> None:
        """Change the network by a step on a batch.

        Parameters
        ----------
        size
            Rows and columns of the outputs.
        positions
            Positions of its crops from `Photographs.draw`, on the device.
        parameters
            Parameters of its crops from `Degradation.draw`, on the device.
        """
        self._positions.copy_(positions)
        self._parameters.copy_(parameters)
        replay = self._replay.get(size)
        if replay is None:
            self._step(size)
        else:
            replay()

    def pair(self, size: int) -> tuple[Tensor, Tensor]:
        """Return the inputs of the batch, and the luminance to learn."""
        crops = self.photographs.crops(self._positions, self.sides[size])
        parameters = torch.cat([self._parameters, self.photographs.parameters(self._positions)], dim=1)
        return self.degradation.pair(crops, parameters, size)

    def _step(self, size: int) -> None:
        settings, network = self.settings, self.network
        with torch.no_grad():
            inputs, fine = self.pair(size)
            finer = resampling.finer_on(self.device, torch.float32, settings.crop, size)
            residual = fine - resampling.apply(finer, finer, inputs if inputs.ndim == 3 else inputs[:, 0])
        output = network.decode(network.encode(inputs, self.dtype), (size, size), self._fused)
        loss = self._loss(output - residual, size)
        weight = (2 * settings.crop / size) ** settings.weighting
        self.optimizer.step(torch.autograd.grad(loss * weight, self.optimizer.parameters))
        with torch.no_grad():
            self.totals += torch.stack([loss.detach(), self._loss(residual, size)])

    def _loss(self, error: Tensor, size: int) -> Tensor:
        values = error.abs() if self.settings.loss == "absolute" else error.square()
        weight = self.degradation.weights(self._parameters, size)
        return (values if weight is None else values * weight[:, None, None]).mean()

    def _speed_up(self) -> None:
        """Choose the fastest way with the same results as the direct one, and restore the initial state."""
        state = [tensor.detach().clone() for tensor in self._tensors()]
        start = time.perf_counter()
        size = max(self.sides)
        times: dict[str, float] = {}
        losses: dict[str, float] = {}

        def attempt(name: str, fused: bool, graphs: bool) -> bool:
            self._fused, self._replay = fused, {}
            try:
                if graphs:
                    self._record(list(self.sides))
                self._restore(state)
                times[name], losses[name] = self._time(size)
            except Exception as error:  # A driver or compiler may raise anything.
                _LOG.info("%s: fails (%s: %.200s)", name, type(error).__name__, error)
                torch.cuda.synchronize()
                self._replay = {}
                return False
            finally:
                self._restore(state)
            _LOG.info("%s: %.2f ms for a step to %d, loss %.5f", name, times[name] * 1e3, size, losses[name])
            return True

        self._time(size)
        self._restore(state)
        own, direct = "single steps, Triton kernels", "single steps"
        attempt(direct, False, False)
        fused = kernels_agree(self.device) and attempt(own, True, False)
        if fused and not abs(losses[own] / losses[direct] - 1) < _AGREEMENT:
            _LOG.info("the kernels return another loss: they are not used")
            fused = False
        fused = fused and times[own] < times[direct]
        self.how = own if fused else direct
        graphs = attempt("graphs", fused, True)
        right = graphs and abs(losses["graphs"] / losses[direct] - 1) < _AGREEMENT
        if right and times["graphs"] < times[own if fused else direct]:
            self.how = f"CUDA graphs{', Triton kernels' if fused else ''}"
        else:
            self._fused, self._replay = fused, {}
        # Graphs have the fastest convolutions. For images of other sizes the search does not pay.
        torch.backends.cudnn.benchmark = not self._replay
        _LOG.info("way of the steps: %s; measured in %.1f s", self.how, time.perf_counter() - start)

    def _time(self, size: int, steps: int = 8) -> tuple[float, float]:
        """Return the seconds of a step, and the mean loss of the first steps on a fixed batch."""
        self._set_example(size)
        step = self._replay.get(size, lambda: self._step(size))
        torch.manual_seed(0)
        self.totals.zero_()
        self.optimizer.rate.fill_(0.01)
        for _ in range(3):
            step()
        loss = float(self.totals[0]) / 3
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
        return (time.perf_counter() - start) / steps, loss

    def _set_example(self, size: int) -> None:
        rng, batch = np.random.default_rng(0), self.settings.batch
        positions = self.photographs.draw(rng, batch, self.sides[size], 1)
        parameters = self.degradation.draw(rng, batch)
        self._positions.copy_(torch.from_numpy(positions))
        self._parameters.copy_(torch.from_numpy(parameters))

    def _record(self, sizes: list[int]) -> None:
        """Record a graph for each size. They share memory, since they run one after the other."""
        pool = torch.cuda.graph_pool_handle()
        for size in sorted(sizes, reverse=True):
            self._set_example(size)
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
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
    def _restore(self, state: list[Tensor]) -> None:
        for tensor, values in zip(self._tensors(), state, strict=True):
            tensor.copy_(values)
