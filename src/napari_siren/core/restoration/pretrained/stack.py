"""`StackRestorer`: denoising of the planes of a stack, or of the frames of a film, with the planes beside them."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from napari_siren.core.clock import Cancellation
from napari_siren.core.image.samples import ImageLayout
from napari_siren.core.noise.model import NoiseModel
from napari_siren.core.restoration.flips import FLIPS, Flip
from napari_siren.core.restoration.pretrained.components import Components
from napari_siren.core.restoration.pretrained.prediction import PretrainedModel, passes_for
from napari_siren.core.restoration.pretrained.risk import RiskEstimate
from napari_siren.core.restoration.pretrained.state import passes_of, state_of
from napari_siren.core.restoration.pretrained.weights import Weights

# Smallest number of planes on which the two networks are compared, their pixels, and side of their middle in pixels.
_TRIAL_PLANES, _TRIAL_PIXELS, _TRIAL_SIDE = 4, 1 << 17, 192
# Share of a network below which it is left out.
_LEAST_SHARE = 0.02


class StackRestorer:
    """A restorer with two ready networks: one that sees a plane alone, and one that also sees the planes beside it.

    The planes beside are of use if they resemble the plane. The result is therefore a weighted mean of both networks.
    The weight is the one with the least estimated error; see `RiskEstimate`. A step is a pass over all planes, each
    flipped in the same way.

    Parameters
    ----------
    values
        Stack, (channels, planes, rows, columns), float32, normalised, with two planes or more.
    layout
        Layout of the image.
    weights
        The network for single planes and that for stacks, with their origin.
    noise
        Noise model of each channel.
    low_precision
        Whether the convolutions are in bfloat16.
    """

    default_passes: ClassVar[int] = 1
    whole_image: ClassVar[bool] = True
    ready: ClassVar[bool] = True
    tiled: ClassVar[bool] = False
    adapting = False

    def __init__(
        self,
        values: Tensor,
        layout: ImageLayout,
        weights: tuple[Weights, Weights],
        noise: Sequence[NoiseModel],
        low_precision: bool = False,
    ) -> None:
        self.weights, self.cancellation = weights, Cancellation()
        self._values, self._noise, self._layout = values, noise, layout
        self._dtype = torch.bfloat16 if low_precision else torch.float32
        self._alone, self._together = (self._model(one) for one in weights)
        self._passes, self._earlier_passes = 0, 0
        self._total: Tensor | None = None

    @cached_property
    def share(self) -> float:
        """Share of the network for stacks in the result. It is determined at the first step, which can be cancelled."""
        return self._best_share()

    @property
    def finished(self) -> bool:
        """Whether all passes are done."""
        return self._passes >= self._all_passes

    @property
    def steps_left(self) -> Mapping[str, int]:
        """Number of remaining passes ("restoring")."""
        return {"restoring": self._all_passes - self._passes}

    @torch.no_grad()
    def step(self, done: float) -> float:
        """Compute a pass, and return the mean squared difference to the stack."""
        self._pass_to(max(self._passes, self._earlier_passes) + 1)
        return float((self._mean() - self._values).square().mean())

    @torch.no_grad()
    def predict(self, shape: Sequence[int], passes: int | None = None) -> Tensor:
        """Return the denoised stack, (channels, *shape), normalised.

        Parameters
        ----------
        shape
            Planes, rows and columns of the stack.
        passes
            Smallest number of flipped stacks whose predictions are averaged, 1 to 8. None is all of the steps.
        """
        self._pass_to(max(self._all_passes if passes is None else passes, self._earlier_passes))
        return self._mean()

    @torch.no_grad()
    def denoise(self, values: Tensor) -> Tensor:
        """Denoise another stack, (channels, planes, rows, columns), with the same share and a single pass."""
        share, other = self.share, copy.copy(self)
        other._values, other.share = values.to(self._values), share
        other._passes, other._earlier_passes, other._total = 0, 0, None
        return other.predict(values.shape[1:], 1)

    def state(self) -> dict[str, Tensor]:
        """Return the hashes of the weights, and the number of passes."""
        return state_of(self.weights, max(self._passes, self._earlier_passes))

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a state. It has to belong to the same weights.

        Raises
        ------
        KeyError
            The state has no hash of weights.
        StorageError
            The weights have changed.
        """
        self._earlier_passes = passes_of(tensors, self.weights)

    def warm_start(self, tensors: Mapping[str, Tensor]) -> None:
        """Ignore other images: the networks do not change."""

    def extra_metadata(self) -> dict[str, Any]:
        """Return the names and the hashes of the weights, and the share of the network for stacks."""
        alone, together = self.weights
        stack = {"weights": together.name, "sha256": together.sha256, "share": round(self.share, 3)}
        return {"pretrained": {**alone.metadata(), "stack": stack}}

    @property
    def _all_passes(self) -> int:
        return passes_for(math.prod(self._values.shape[1:]))

    def _model(self, weights: Weights) -> PretrainedModel:
        # A copy: `to` would move the network of other fits too.
        network = copy.deepcopy(weights.network).to(self._values.device)
        components = Components(self._layout, weights.absolute)
        return PretrainedModel(network, components, self._noise, None, 0.0, self._dtype, self.cancellation)

    def _pass_to(self, passes: int) -> None:
        """Compute passes until there are as many as given."""
        while self._passes < passes:
            if self._total is None:
                self._total = torch.zeros_like(self._values)
            outputs = [self._plane(number, self._passes) for number in range(self._values.shape[1])]
            self._total += torch.stack(outputs, dim=1)
            self._passes += 1

    def _mean(self) -> Tensor:
        assert self._total is not None
        return self._total / self._passes

    def _plane(self, number: int, turn: int) -> Tensor:
        """Return a denoised plane, (channels, rows, columns), from one of the eight flips of all planes."""
        plane, flip = self._values[:, number], FLIPS[turn]
        if self.share < _LEAST_SHARE:
            return _denoised(self._alone, plane, flip)
        # Along the first axis the stack is turned over in every second pass.
        together = _denoised(self._together, plane, flip, self._beside(number)[:: -1 if turn % 2 else 1])
        if self.share > 1 - _LEAST_SHARE:
            return together
        return torch.lerp(_denoised(self._alone, plane, flip), together, self.share)

    def _beside(self, number: int) -> tuple[Tensor, Tensor]:
        """Return the planes before and after one; at the ends, the only neighbour twice."""
        last = self._values.shape[1] - 1
        return self._values[:, abs(number - 1)], self._values[:, last - abs(last - number - 1)]

    @torch.no_grad()
    def _best_share(self) -> float:
        """Return the share of the network for stacks with the least estimated error on some planes."""
        count = self._values.shape[1]
        rows, columns = (
            slice(max(0, (n - _TRIAL_SIDE) // 2), min(n, (n + _TRIAL_SIDE) // 2)) for n in self._values.shape[2:]
        )
        trials = max(_TRIAL_PLANES, _TRIAL_PIXELS // ((rows.stop - rows.start) * (columns.stop - columns.start)))
        planes, alone, together = [], [], []
        for number in sorted({round(n) for n in np.linspace(0, count - 1, min(count, trials))}):
            plane, *beside = (p[:, rows, columns] for p in (self._values[:, number], *self._beside(number)))
            variance = torch.stack([model.variance(c) for model, c in zip(self._noise, plane, strict=True)])
            planes.append(plane)
            alone.append(self._estimate(self._alone, plane, variance))
            together.append(self._estimate(self._together, plane, variance, beside))
        return RiskEstimate.joined(alone).best_share(RiskEstimate.joined(together), torch.stack(planes))

    @staticmethod
    def _estimate(
        model: PretrainedModel, plane: Tensor, variance: Tensor, beside: Sequence[Tensor] = ()
    ) -> RiskEstimate:
        return RiskEstimate.of(lambda image: _denoised(model, image, FLIPS[0], beside), plane, variance)


def _denoised(model: PretrainedModel, image: Tensor, flip: Flip, beside: Sequence[Tensor] = ()) -> Tensor:
    """Return the output of a network for an image, (channels, rows, columns)."""
    size = (image.shape[1], image.shape[2])
    return model.joined(model.restored(model.inputs(image, beside), size, flip), image)
