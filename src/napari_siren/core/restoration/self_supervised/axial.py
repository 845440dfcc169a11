"""`AxialSuperResolution`: super-resolution of a stack along z, by a network trained on its slices.

A stack is finer within its slices than across them. A slice is blurred and thinned along its rows, like the stack along
z. The result (the source) and the slice itself (the target) are a training pair with a known truth. The trained network
is then applied to the planes across the slices (Weigert et al. 2017, arXiv 1704.01510; Zhao et al. 2020, SMORE, doi
10.1109/TMI.2020.3037187). A short training, or one on slices with few rows, starts from a network that was trained in
the same way on photographs. A long one starts from random parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.forward.back_projection import back_project
from napari_siren.core.forward.operator import ForwardOperator
from napari_siren.core.noise.model import NoiseModel
from napari_siren.core.restoration.pretrained.stack import StackRestorer
from napari_siren.core.restoration.self_supervised.restorer import SelfSupervisedRestorer
from napari_siren.core.restoration.self_supervised.start import LearnedStart
from napari_siren.core.restoration.self_supervised.thinning import Thinning, spline_weights

Array = npt.NDArray[np.floating[Any]]

# Largest number of thinned rows, and of columns, in a step.
_ROWS, _COLUMNS = 24, 64
# Smallest number of thinned rows of a slice. Slices that are denoised before may have fewer: tiles would fit the noise.
LEAST_ROWS, LEAST_DENOISED_ROWS = 6, 4
# Smallest side of a slice in pixels.
LEAST_SIDE = 16
# Smallest distance of slices in pixels: if they are hardly further apart than pixels, there is nothing to predict.
# Smallest number of slices: fewer contain too little information.
LEAST_RATIO, LEAST_SLICES = 1.25, 3
# Share of the pairs with twice the thinning, as in the test in `AxialSuperResolution.gain`.
_TWICE = 0.2
# Smallest standard deviation of the noise that is added to a source, in normalised values. It prevents a dependence on
# the last digit of a pixel.
_LEAST_NOISE = 0.002
# Largest number of steps for which the training starts from a trained network, and number of thinned rows below which
# it always does. With more rows, many steps from random parameters are more accurate for some stacks: 0.4 to 1.2 dB for
# nuclei of a light sheet. With fewer rows they are 0.2 to 1.4 dB less accurate there.
SHORT_TRAINING, FEW_ROWS = 1000, 9


class AxialSuperResolution(SelfSupervisedRestorer):
    """A super-resolution network for the z axis, trained on the slices of one stack.

    Parameters
    ----------
    values
        Stack, (channels, slices, rows, columns), float32, normalised to about [-1, 1].
    known
        Indices of the existing slices, evenly spaced; see `known_slices`.
    ratio
        Distance between the existing slices, in pixels of a slice, `LEAST_RATIO` or more.
    thick
        Whether a slice is the mean over the distance to the next one. Otherwise it is the value at its centre.
    noise
        Noise model of each channel; none if there is hardly any noise.
    seed, low_precision
        Seed, and whether to compute in bfloat16, as in `SelfSupervisedRestorer`.
    denoiser
        Restorer that denoises the existing slices, or None. It is used at the first step.
    start
        Trained network for one channel, which is used for each channel. None is a random network for all channels.
    """

    rates = (0.01, 1e-3)
    default_passes = 2
    # The spline is as accurate (0.1 dB better on golgi_bfa), and tiles of a stack take as long as the training.
    tiled = False

    def __init__(
        self,
        values: Tensor,
        known: slice,
        ratio: float,
        thick: bool,
        noise: Sequence[NoiseModel] = (),
        seed: int = 0,
        low_precision: bool = False,
        denoiser: StackRestorer | None = None,
        start: LearnedStart | None = None,
    ) -> None:
        self.slices, self.ratio, self.thick, self.noise = values[:, known].contiguous(), ratio, thick, noise
        self._known, self._count = known, values.shape[1]
        self._denoiser = denoiser
        self._start = start
        self._denoising: dict[str, Any] = {}
        super().__init__(len(values) if start is None else 1, values.device, seed, low_precision)
        if start is not None:
            self.warm_start(start.tensors)
        if denoiser is not None:
            self.cancellation = denoiser.cancellation

    def pair(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return the network's correction of splines in a random part of a thinned slice, and the true correction."""
        self._denoise()
        plane = self.slices[:, rng.integers(self.slices.shape[1])]
        plane = plane.mT if rng.random() < 0.5 else plane
        plane = plane.flip([axis for axis in (1, 2) if rng.random() < 0.5])
        rows, columns = plane.shape[1:]
        ratio = self.ratio * (2 if rng.random() < _TWICE and rows >= 2 * LEAST_ROWS * self.ratio else 1)
        count = min(_ROWS, int(rows / ratio))
        height, width = min(rows, round(count * ratio)), min(columns, _COLUMNS)
        top, left = int(rng.integers(rows - height + 1)), int(rng.integers(columns - width + 1))
        plane = plane[:, top : top + height, left : left + width]
        thinning = Thinning.draw(rng, height, count, ratio, self.thick)
        source = self._matrix(thinning.reduction) @ plane
        # Thinning reduces the noise. The difference to the noise of the stack is added.
        sigma = (self._variance(source) * max(0.0, 1 - thinning.noise_share)).sqrt().clamp_min(_LEAST_NOISE)
        source = source + sigma * torch.from_numpy(rng.standard_normal(source.shape, dtype=np.float32)).to(source)
        positions = thinning.positions
        details = self._matrix(thinning.blur) @ plane - self._matrix(spline_weights(count, positions)) @ source
        return self._details(source, positions, ratio)[None], details[None]

    @torch.no_grad()
    def predict(self, shape: Sequence[int], passes: int = 2) -> Tensor:
        """Predict a finer stack of the same extent.

        Parameters
        ----------
        shape
            Number of slices, rows and columns. Rows and columns are those of the stack.
        passes
            1, or 2 for the mean of the predictions for the stack and for its mirror image along z.

        Returns
        -------
        Tensor
            Prediction, (channels, *shape), normalised as `values`. If the network is no better than splines in `gain`,
            the result is that of splines.
        """
        self._denoise()
        centres = (np.arange(shape[0]) + 0.5) * self._count / shape[0] - 0.5
        positions = (centres - self._known.start) / self._known.step
        fine = self._plain(self.slices, positions)
        if self.gain() > 0:
            fine = fine + self._across(self.slices, positions, self.ratio, passes > 1)
        if self._known.step > 1:
            return fine
        observation = ForwardOperator.from_kind("box" if self.thick else "point", 3)
        noise = self._variance(self.slices).sqrt() if self.noise else 0.0
        return back_project(fine, self.slices, observation, noise)

    def extra_metadata(self) -> dict[str, Any]:
        """Return the networks that have denoised the slices, if they were denoised, and the one for the start."""
        start = {} if self._start is None else {"slices": self._start.metadata()}
        found = {**self._denoising, **start}
        return {"pretrained": found} if found else {}

    @torch.no_grad()
    def gain(self) -> float:
        """Return the relative reduction of the squared error of splines, tested on every second slice.

        These slices are left out and predicted.

        Returns
        -------
        float
            Removed share of the squared error: 1 is perfect, below 0 is worse than splines. It is 1 without a test if
            there are too few slices for one, or if the slices are thick.
        """
        remaining = self.slices[:, ::2]
        if remaining.shape[1] < LEAST_SLICES or self.thick:
            return 1.0
        omitted = self.slices[:, 1 : 2 * remaining.shape[1] - 2 : 2]
        positions = np.arange(omitted.shape[1]) + 0.5
        spline_error = omitted - self._plain(remaining, positions)
        error = spline_error - self._across(remaining, positions, 2 * self.ratio, both_ways=False)
        return 1 - float(error.square().sum() / spline_error.square().sum().clamp_min(1e-12))

    def _denoise(self) -> None:
        """Denoise the slices, once."""
        if self._denoiser is not None:
            self.slices, self.noise = self._denoiser.predict(self.slices.shape[1:]), ()
            self._denoising, self._denoiser = self._denoiser.extra_metadata()["pretrained"], None

    def _variance(self, values: Tensor) -> Tensor:
        """Return the variance of the noise of values, (channels, ...)."""
        if not self.noise:
            return torch.zeros_like(values)
        return torch.stack([model.variance(channel) for model, channel in zip(self.noise, values, strict=True)])

    def _plain(self, slices: Tensor, positions: Array) -> Tensor:
        """Interpolate between slices by splines."""
        weights = self._matrix(spline_weights(slices.shape[1], positions))
        return torch.einsum("pz,czyx->cpyx", weights, slices)

    def _across(self, slices: Tensor, positions: Array, ratio: float, both_ways: bool) -> Tensor:
        """Return the network's correction of splines, the mean over planes across rows and planes across columns."""
        details = self._planes(slices, positions, ratio)
        if both_ways:
            mirrored = (slices.shape[1] - 1 - positions)[::-1]
            details = (details + self._planes(slices.flip(1), mirrored, ratio).flip(1)) / 2
        return details

    def _planes(self, slices: Tensor, positions: Array, ratio: float) -> Tensor:
        channels, _, rows, columns = slices.shape
        total = slices.new_zeros((channels, len(positions), rows, columns))
        for row in range(rows):
            total[:, :, row] += self._details(slices[:, :, row], positions, ratio)
        for column in range(columns):
            total[:, :, :, column] += self._details(slices[:, :, :, column], positions, ratio)
        return total / 2

    def _details(self, source: Tensor, positions: Array, ratio: float) -> Tensor:
        """Return the network's correction at positions between the rows of a plane, (channels, positions, columns)."""
        across = np.arange(source.shape[2], dtype=np.float64)
        with self.precision():
            # All channels are one image, or an image each.
            features = self.network.encode(source.reshape(-1, self.channels, *source.shape[1:]))
            return self.decode(features, (positions, across), (1 / ratio, 1.0)).flatten(0, 1)

    def _matrix(self, weights: Array) -> Tensor:
        return torch.from_numpy(weights.astype(np.float32)).to(self.device)


def known_slices(observed: npt.NDArray[np.bool_]) -> slice | None:
    """Return the indices of the existing slices of a stack, or None if these do not allow super-resolution.

    There must be at least `LEAST_SLICES` existing slices, complete and evenly spaced. All other slices must be missing
    as a whole.

    Parameters
    ----------
    observed
        Mask of the observed pixels, bool, (slices, rows, columns).
    """
    exists = observed.any(axis=(1, 2))
    indices = np.flatnonzero(exists)
    steps = np.unique(np.diff(indices))
    if len(indices) < LEAST_SLICES or len(steps) != 1 or not observed[indices].all():
        return None
    return slice(int(indices[0]), int(indices[-1]) + 1, int(steps[0]))
