"""`PretrainedRestorer`: super-resolution and denoising by networks that were trained on other images.

The networks are those of `core.pretraining`. They see one component of the image at a time: the luminance of
photographs, or each channel of other images.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from napari_siren.core.clock import Cancellation
from napari_siren.core.forward.operator import ForwardOperator
from napari_siren.core.image.samples import ImageLayout
from napari_siren.core.noise.model import NoiseModel
from napari_siren.core.restoration.pretrained.adaptation import Adaptation, Pair, copy_factor
from napari_siren.core.restoration.pretrained.components import Components
from napari_siren.core.restoration.pretrained.prediction import Prediction, PretrainedModel, passes_for
from napari_siren.core.restoration.pretrained.risk import RiskEstimate
from napari_siren.core.restoration.pretrained.state import passes_of, state_of
from napari_siren.core.restoration.pretrained.weights import Weights

# Prefix of the parameters of an adapted network in a state.
_NETWORK = "network."
# Smallest standard deviation of the noise that is added to a smaller copy, in normalised values.
_LEAST_NOISE = 0.004
# Scale at which weights are compared.
_TRIAL_SCALE = 2


class PretrainedRestorer:
    """A restorer with a ready network.

    The first step is a pass: the network's output for the image. Then the network may be adapted to the image, in
    rounds. Each further step is a pass for another flipped image.

    Parameters
    ----------
    values
        Image, (channels, rows, columns), float32, normalised.
    layout
        Layout of the image.
    weights
        The network and its origin.
    noise
        Noise model of each channel of `values`.
    operator
        Forward operator of the pixels, for super-resolution. None denoises the image on its own grid.
    residual
        Standard deviation of the noise in normalised values, to which a render agrees with the pixels.
    low_precision
        Whether the convolutions are in bfloat16.
    shape
        Rows and columns of the restored image. None is the shape of the image.
    rounds
        Largest number of rounds of adaptation. It needs an operator.
    seed
        Seed of the adaptation.
    """

    # The passes of the steps are not repeated.
    default_passes: ClassVar[int] = 1
    whole_image: ClassVar[bool] = True
    ready: ClassVar[bool] = True
    tiled: ClassVar[bool] = False

    def __init__(
        self,
        values: Tensor,
        layout: ImageLayout,
        weights: Weights,
        noise: Sequence[NoiseModel],
        operator: ForwardOperator | None = None,
        residual: float = 0.0,
        low_precision: bool = False,
        shape: Sequence[int] | None = None,
        rounds: int = 0,
        seed: int = 0,
    ) -> None:
        self.weights = weights
        self.cancellation = Cancellation()
        self._values = values
        # A copy: `to` would move the network of other fits too.
        network = copy.deepcopy(weights.network).to(values.device)
        dtype = torch.bfloat16 if low_precision else torch.float32
        components = Components(layout, weights.absolute)
        self._model = PretrainedModel(network, components, noise, operator, residual, dtype, self.cancellation)
        self._shape = tuple(shape or values.shape[1:])
        self._prediction = Prediction(self._model, values, self._shape)
        self._adaptation = self._prepared(rounds, seed)
        self._steps = 0
        self.adapting = False
        # Number of passes of an earlier session.
        self._earlier_passes = 0

    @property
    def enlarges(self) -> bool:
        """Whether it is for super-resolution."""
        return self._model.operator is not None

    @property
    def finished(self) -> bool:
        """Whether all passes are done."""
        adapted = self._adaptation is None or self._adaptation.finished
        return adapted and self._prediction.passes >= self._passes_for(self._shape)

    @property
    def steps_left(self) -> Mapping[str, int]:
        """Number of remaining passes ("restoring"), and largest number of remaining rounds ("adapting")."""
        passes = self._passes_for(self._shape) - self._prediction.passes
        rounds = 0 if self._adaptation is None else self._adaptation.rounds_left
        return {"restoring": passes + (rounds > 0), "adapting": rounds}

    @torch.no_grad()
    def step(self, done: float) -> float:
        """Compute a pass or a round of adaptation, and return a mean squared error.

        The error of a pass is that of the predicted pixels. The error of a round is that of the held-out pixels.
        """
        self._steps += 1
        adaptation, self.adapting = self._adaptation, False
        if self._prediction.passes > 0 and adaptation is not None and not adaptation.finished:
            self.adapting = True
            error = adaptation.advance()
            if adaptation.kept:
                self._prediction = Prediction(self._model, self._values, self._shape)
            return error
        passes = max(self._prediction.passes, self._earlier_passes) + 1
        while self._prediction.passes < passes:
            self._prediction.add_pass()
        return self._prediction.residual()

    @torch.no_grad()
    def predict(self, shape: Sequence[int], passes: int | None = None, values: Tensor | None = None) -> Tensor:
        """Return the restored image on a grid, (channels, *shape), normalised.

        Parameters
        ----------
        shape
            Rows and columns of the grid.
        passes
            Number of flipped and rotated images whose predictions are averaged, 1 to 8. None is 8, and less for large
            results: see `passes_for`. The passes of earlier steps are used if there are more.
        values
            Another image with the same layout of channels and the same normalisation, (channels, rows, columns).
            None is the image itself.
        """
        passes = self._passes_for(shape) if passes is None else passes
        if values is None and tuple(shape) == self._shape:
            return self._prediction.after(max(passes, self._earlier_passes))
        return Prediction(self._model, self._values if values is None else values, shape).after(passes)

    @torch.no_grad()
    def denoise(self, values: Tensor) -> Tensor:
        """Denoise another image on its own grid, (channels, rows, columns), by a single pass."""
        return self.predict(values.shape[1:], 1, values.to(self._values))

    @torch.no_grad()
    def smaller_copy(self, shape: Sequence[int], values: Tensor | None = None) -> Tensor:
        """Return the image, or another one, as observed with fewer pixels, (channels, *shape), with the same noise."""
        operator = self._model.operator
        assert operator is not None
        copy = operator(self._values if values is None else values, shape)
        noise = np.random.default_rng(0).standard_normal(copy.shape, dtype=np.float32)
        return copy + max(_LEAST_NOISE, self._model.residual) * torch.from_numpy(noise).to(copy)

    @torch.no_grad()
    def risk(self) -> float:
        """Return an unbiased estimate of a mean squared error, in squared normalised values; see `RiskEstimate`.

        It is that of the denoised image, or that of the pixels of the enlarged image.
        """
        values, shape, operator = self._values, self._values.shape[1:], self._model.operator

        def restored(image: Tensor) -> Tensor:
            if operator is None:
                return self.predict(shape, 1, image)
            return operator(self.predict([_TRIAL_SCALE * n for n in shape], 1, image), shape)

        variance = torch.stack([m.variance(v) for m, v in zip(self._model.noise, values, strict=True)])
        return RiskEstimate.of(restored, values, variance).risk(values, variance)

    @torch.no_grad()
    def error_of_copy(self) -> float:
        """Return the mean squared error of a smaller copy that is enlarged to the image, in squared normalised values.

        The copy has as much noise as the image. Otherwise networks for clean images would be preferred.
        """
        shape = self._values.shape[1:]
        copy = self.smaller_copy([max(1, round(n / _TRIAL_SCALE)) for n in shape])
        return float((self.predict(shape, 1, copy) - self._values).square().mean())

    def state(self) -> dict[str, Tensor]:
        """Return the hash of the weights, the numbers of steps and passes, and the adapted network if it was kept."""
        tensors = state_of([self.weights], max(self._prediction.passes, self._earlier_passes))
        tensors["steps"] = torch.tensor(self._steps)
        if self._adaptation is not None and self._adaptation.finished:
            tensors["adapted"] = torch.tensor(self._adaptation.kept)
            if self._adaptation.kept:
                parameters = self._model.network.state_dict().items()
                tensors |= {_NETWORK + name: p.detach().to("cpu", copy=True) for name, p in parameters}
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a state. It has to belong to the same weights.

        Raises
        ------
        KeyError
            The state has no hash of weights.
        RuntimeError
            The state has another network.
        StorageError
            The weights have changed.
        """
        passes = passes_of(tensors, [self.weights])
        if self._adaptation is not None and "adapted" not in tensors:
            # A round takes a second, so an interrupted adaptation is repeated.
            steps = int(tensors.get("steps", torch.tensor(0)))
            while self._steps < steps and not self.finished:
                self.step(0.0)
            return
        network = {name[len(_NETWORK) :]: t for name, t in tensors.items() if name.startswith(_NETWORK)}
        if network:
            self._model.network.load_state_dict(network)
        self._steps = int(tensors.get("steps", torch.tensor(0)))
        self._earlier_passes = passes
        self._adaptation = None

    def warm_start(self, tensors: Mapping[str, Tensor]) -> None:
        """Ignore other images: the network does not change."""

    def extra_metadata(self) -> dict[str, Any]:
        """Return the name and the hash of the weights, and the course of the adaptation."""
        adaptation = {} if self._adaptation is None else {"adaptation": self._adaptation.metadata()}
        return {"pretrained": {**self.weights.metadata(), **adaptation}}

    def _passes_for(self, shape: Sequence[int]) -> int:
        return passes_for(math.prod(shape), not self.enlarges)

    def _prepared(self, rounds: int, seed: int) -> Adaptation | None:
        """Return the adaptation with smaller copies of the image, or None if there is none."""
        if self._model.operator is None or rounds == 0:
            return None
        factor = copy_factor(self._values.shape[1:], self._shape)
        sizes = [n // factor**2 for n in self._values.shape[1:]]
        image = self._values[:, : factor**2 * sizes[0], : factor**2 * sizes[1]]
        copy = self.smaller_copy([factor * n for n in sizes], image)
        pairs = self._pair(self.smaller_copy(sizes, copy), copy), self._pair(copy, image)
        return Adaptation(self._model, pairs, rounds, seed)

    def _pair(self, copy: Tensor, image: Tensor) -> Pair:
        inputs = self._model.inputs(copy)
        return Pair(inputs, self._model.components.split(image)[: len(inputs)])
