"""`Deconvolution`: takes the blur of a known point spread function out of an image, values kept non-negative.

Richardson (1972, doi 10.1364/JOSA.62.000055) and Lucy (1974, doi 10.1086/111605), for photons and a camera's reading
noise (Snyder et al. 1993, doi 10.1364/JOSAA.10.001014), with light from beyond the image's edges (Bertero and Boccacci
2005, doi 10.1051/0004-6361:20052717), accelerated (Biggs and Andrews 1997, doi 10.1364/AO.36.001766), and ended where
the image is met to within its noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional

from napari_siren.core.config import FitConfig
from napari_siren.core.forward.operator import pixel_model
from napari_siren.core.image.noise import noise_models
from napari_siren.core.image.samples import Samples
from napari_siren.core.training.plan import memory_bound
from napari_siren.errors import DeviceError

# Of the largest value: nothing is divided by less.
_LEAST = 1e-6
# What is dark is kept so: weight of the logarithm's prior, in units of a pixel's photons.
_SPARSENESS = 0.01
# Of the step that is gone on by. At 1 it would never settle.
_MOST_MOMENTUM = 0.98
# An image that is met within so many times its noise's variance is met.
_MET = 1.0
# Of the larger grid, that are there at once.
_ARRAYS = 9


class Deconvolution:
    """What is seen as an image, on the image's grid, found step by step.

    Parameters
    ----------
    values
        (channels, *spatial), float32, normalised.
    dark
        (channels,): the normalised value of no light.
    kernel
        Odd along each axis, not negative, of sum 1: what a point is seen as.
    variance
        Like `values`: that of each pixel's noise; 0 where there is none.
    """

    def __init__(self, values: Tensor, dark: Tensor, kernel: Tensor, variance: Tensor) -> None:
        self._dark = dark.view(-1, *(1,) * (values.ndim - 1)).to(values)
        self._sizes, self._reach = values.shape[1:], [n // 2 for n in kernel.shape]
        self._axes = tuple(range(1, values.ndim))
        light = (values - self._dark).clamp_min(0)
        self._peak = light.amax().clamp_min(_LEAST)
        self._seen, self._variance = light / self._peak, variance.to(values) / self._peak**2
        self._grid = [
            next_fast_len(n + 2 * reach, real=True) for n, reach in zip(self._sizes, self._reach, strict=True)
        ]
        self._spectrum = self._transform(self._around_origin(kernel.to(values)))
        self._weight = self._back(torch.ones_like(self._seen)).clamp_min(1e-3)
        self._found = self._seen.mean(dim=self._axes, keepdim=True).clamp_min(_LEAST).expand(-1, *self._grid).clone()
        self._previous, self._direction = self._found, torch.zeros_like(self._found)
        self._momentum, self._missed = 0.0, math.inf
        self.step_count = 0
        self.finished = False

    @classmethod
    def of(cls, samples: Samples, config: FitConfig, device: torch.device) -> Deconvolution:
        """Take the blur and the camera of some settings.

        Raises
        ------
        DeviceError
            It would need more memory than the settings allow.
        """
        layout = samples.format
        kernel = _kernel(config, layout.spacing)
        needed, bound = working_set(layout.spatial_shape, kernel.shape, layout.channels), memory_bound(config, device)
        if needed > bound:
            raise DeviceError(
                f"to take out the blur, {needed / 1e9:.1f} GB are needed, and {bound / 1e9:.1f} GB may be used. Deblur "
                "the image in parts, or raise max_memory."
            )
        scales = np.array([scale if scale > 0 else 1.0 for scale in layout.scale])
        dark = (np.array(dark_level(samples, config)) - np.array(layout.offset)) / scales
        pairs = zip(noise_models(samples, config), samples.values, strict=True)
        variance = np.stack([model.variance(channel) for model, channel in pairs])
        values, noise = (torch.from_numpy(array.astype(np.float32)).to(device) for array in (samples.values, variance))
        return cls(values, torch.from_numpy(dark).float(), kernel, noise)

    def step(self, done: float) -> float:
        """Take a step; give the mean squared error of what is seen, in normalised values."""
        with torch.no_grad():
            start = (self._found + self._momentum * (self._found - self._previous)).clamp_min(0)
            seen = self._forth(start)
            # Reading noise is like that of so many photons more, in a signal in which a photon has the value of its
            # variance over it.
            readout = self._readout()
            ratio = (self._seen + readout) / (seen + readout).clamp_min(_LEAST)
            level = start.mean(dim=self._axes, keepdim=True)
            prior = _SPARSENESS * level / (start + level).clamp_min(_LEAST)
            new = start * self._back(ratio) / (self._weight + prior)
            direction = new - start
            square = float(self._direction.square().sum())
            share = float((direction * self._direction).sum()) / square if square > 0 else 0.0
            missed = float((seen - self._seen).square().mean())
            # Gone too far, it starts anew from where it is (O'Donoghue and Candes 2015, doi 10.1007/s10208-013-9150-3).
            self._momentum = min(max(share, 0.0), _MOST_MOMENTUM) if missed <= self._missed else 0.0
            self._previous, self._found, self._direction, self._missed = self._found, new, direction, missed
            self.step_count += 1
            self.finished = missed <= _MET * float(self._variance.mean())
            return missed * float(self._peak) ** 2

    def predict(self, shape: Sequence[int], flips: int = 1) -> Tensor:
        """Return what was found: (channels, *shape), normalised as the image, of which this is the shape."""
        return self._inner(self._found) * self._peak + self._dark

    def state(self) -> dict[str, Tensor]:
        """Return a copy, on the CPU, of what is needed to go on."""
        counts = (self.step_count, self._momentum, self._missed, self.finished)
        numbers = torch.tensor(counts, dtype=torch.float64)
        tensors = {"found": self._found, "previous": self._previous, "direction": self._direction, "numbers": numbers}
        tensors["sizes"] = torch.tensor(self._sizes)
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from there; KeyError where something is not there, RuntimeError where it is of another image."""
        if tuple(tensors["sizes"].tolist()) != tuple(self._sizes):
            raise RuntimeError("the state is of an image of another shape.")
        found = [tensors[name].to(self._found) for name in ("found", "previous", "direction")]
        self._found, self._previous, self._direction = found
        steps, self._momentum, self._missed, finished = tensors["numbers"].tolist()
        self.step_count, self.finished = int(steps), bool(finished)

    def begin_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Take nothing: what another image showed is not this one's."""

    def findings(self) -> dict[str, Any]:
        """Say how many steps it took."""
        return {"deconvolution_steps": self.step_count}

    def _readout(self) -> Tensor:
        """Return the variance of the reading noise in photons' worth of light; 0 where the noise is not known."""
        light = self._seen.mean()
        slope = (self._variance - self._variance.amin()).mean() / light.clamp_min(_LEAST)
        return self._variance.amin() / slope if float(slope) > _LEAST else torch.zeros_like(light)

    def _transform(self, values: Tensor) -> Tensor:
        return cast(Tensor, torch.fft.rfftn(values, dim=self._axes))

    def _through(self, values: Tensor, spectrum: Tensor) -> Tensor:
        return cast(Tensor, torch.fft.irfftn(self._transform(values) * spectrum, s=self._grid, dim=self._axes))

    def _forth(self, values: Tensor) -> Tensor:
        """See: from the larger grid to the image's."""
        return self._inner(self._through(values, self._spectrum)).clamp_min(0)

    def _back(self, values: Tensor) -> Tensor:
        """Carry pixels back to the larger grid."""
        larger = values.new_zeros(len(values), *self._grid)
        self._inner(larger)[...] = values
        return self._through(larger, self._spectrum.conj()).clamp_min(0)

    def _inner(self, larger: Tensor) -> Tensor:
        place = (slice(reach, reach + n) for reach, n in zip(self._reach, self._sizes, strict=True))
        return larger[(slice(None), *place)]

    def _around_origin(self, kernel: Tensor) -> Tensor:
        padded = kernel.new_zeros(1, *self._grid)
        place: tuple[slice | int, ...] = (0, *(slice(0, n) for n in kernel.shape))
        padded[place] = kernel
        return padded.roll([-reach for reach in self._reach], self._axes)


def dark_level(samples: Samples, config: FitConfig) -> tuple[float, ...]:
    """Return the value of no light for each channel, in the image's units: the camera's, 0, or the least if below."""
    least = [float(channel.min()) for channel in samples.format.to_channels_first(samples.image)]
    return tuple(config.camera_offset or min(0.0, value) for value in least)


def _kernel(config: FitConfig, spacing: Sequence[float]) -> Tensor:
    if config.psf is None:
        return pixel_model(config, spacing).kernel()
    # As it is: taken apart into separable terms, as for other uses, it would not be exact.
    psf = torch.tensor(config.psf, dtype=torch.float64).clamp_min(0)
    odd = functional.pad(psf, [p for n in reversed(psf.shape) for p in (0, 1 - n % 2)])
    return (odd / odd.sum()).float()


def working_set(spatial_shape: Sequence[int], kernel_shape: Sequence[int], channels: int) -> int:
    """Return the bytes that a deconvolution needs."""
    count = channels
    for n, k in zip(spatial_shape, kernel_shape, strict=True):
        count *= int(next_fast_len(n + 2 * (k // 2), real=True))
    return count * 4 * _ARRAYS
