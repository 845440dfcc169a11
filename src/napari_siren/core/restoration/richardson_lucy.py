"""`RichardsonLucy`: deconvolution with a known point spread function, by the accelerated Richardson-Lucy method.

The result is not negative. The method is that of Richardson (1972, doi 10.1364/JOSA.62.000055) and Lucy (1974, doi
10.1086/111605), with these extensions: the read noise of a camera in addition to photon noise (Snyder et al. 1993, doi
10.1364/JOSAA.10.001014), light from beyond the image's edges (Bertero and Boccacci 2005, doi
10.1051/0004-6361:20052717), and acceleration (Biggs and Andrews 1997, doi 10.1364/AO.36.001766). The iterations end
when the residual is no larger than the noise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional

from napari_siren.core.clock import Cancellation
from napari_siren.core.forward.operator import pixel_model
from napari_siren.core.image.filling import interpolated
from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.model import noise_models
from napari_siren.core.restoration.base import Restoration
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.plan import memory_bound
from napari_siren.errors import DeviceError

# Smallest divisor, as a share of the largest value.
_LEAST = 1e-6
# Largest share of the last step in the extrapolation of the acceleration. At 1 the iterations would not converge.
_MOST_MOMENTUM = 0.98
# Mean squared residual at which the iterations end, in multiples of the noise variance.
_FINAL_RESIDUAL = 1.0
# Number of float32 arrays on the larger grid that are in memory at once.
_ARRAYS = 9


def plan(samples: Samples, config: FitConfig, frames: npt.NDArray[np.float32] | None = None) -> Restoration | None:
    """Plan the deconvolution of an image or stack.

    Parameters
    ----------
    samples
        The image. It needs two or three spatial axes.
    config
        The settings.
    frames
        Not used.
    """
    sizes = samples.layout.spatial_shape
    if len(sizes) < 2:
        return None

    def create(device: torch.device, seed: int) -> RichardsonLucy:
        return RichardsonLucy.from_samples(samples, config, device)

    operator = pixel_model(config, samples.layout.spacing)
    return Restoration(sizes, RichardsonLucy, create, operator=operator, floor=dark_level(samples, config))


class RichardsonLucy:
    """An iterative estimate of the image without blur, on the image's grid.

    Parameters
    ----------
    values
        Image, (channels, *spatial), float32, normalised.
    dark
        Normalised value of a pixel without light, (channels,).
    kernel
        Point spread function, (*kernel_shape), of odd size along each axis. It is not negative, and its sum is 1.
    variance
        Variance of each pixel's noise, of the shape and in the squared units of `values`; 0 is no noise.
    used
        Mask, bool, (*spatial): False for pixels that are missing or held out, whose `values` are interpolated. They are
        replaced by their expectation in each step (Dempster, Laird and Rubin 1977). None is no such pixel.
    """

    default_passes: ClassVar[int] = 1
    whole_image: ClassVar[bool] = True
    ready: ClassVar[bool] = False
    tiled: ClassVar[bool] = True
    adapting = False
    steps_left: ClassVar[Mapping[str, int]] = {}

    def __init__(
        self, values: Tensor, dark: Tensor, kernel: Tensor, variance: Tensor, used: Tensor | None = None
    ) -> None:
        self._dark = dark.view(-1, *(1,) * (values.ndim - 1)).to(values)
        self._sizes, self._reach = values.shape[1:], [n // 2 for n in kernel.shape]
        self._axes = tuple(range(1, values.ndim))
        light = (values - self._dark).clamp_min(0)
        self._peak = light.amax().clamp_min(_LEAST)
        self._light, self._variance = light / self._peak, variance.to(values) / self._peak**2
        self._grid = [
            next_fast_len(n + 2 * reach, real=True) for n, reach in zip(self._sizes, self._reach, strict=True)
        ]
        self._spectrum = self._transform(self._around_origin(kernel.to(values)))
        self._weight = self._adjoint(torch.ones_like(self._light)).clamp_min(1e-3)
        self._estimate = (
            self._light.mean(dim=self._axes, keepdim=True).clamp_min(_LEAST).expand(-1, *self._grid).clone()
        )
        self._used = None if used is None else used.to(values.device)
        if self._used is not None:
            # The middle of a large gap is beyond the reach of the pixels around it, and keeps its first value.
            start = self._inner(self._estimate)
            start.copy_(torch.where(self._used, start, self._light.clamp_min(_LEAST)))
        self._previous, self._direction = self._estimate, torch.zeros_like(self._estimate)
        self._momentum, self._error = 0.0, math.inf
        self.step_count = 0
        self.finished = False
        self.cancellation = Cancellation()

    @classmethod
    def from_samples(cls, samples: Samples, config: FitConfig, device: torch.device) -> RichardsonLucy:
        """Make the solver for an image, with the blur and the camera of the settings.

        Raises
        ------
        DeviceError
            The solver needs more memory than the settings allow.
        """
        layout = samples.layout
        kernel = _kernel(config, layout.spacing)
        needed, bound = working_set(layout.spatial_shape, kernel.shape, layout.channels), memory_bound(config, device)
        if needed > bound:
            raise DeviceError(
                f"the deconvolution needs {needed / 1e9:.1f} GB, and may use {bound / 1e9:.1f} GB. Deblur the image in "
                "parts, or raise max_memory."
            )
        scales = np.array([scale if scale > 0 else 1.0 for scale in layout.scale])
        dark = (np.array(dark_level(samples, config)) - np.array(layout.offset)) / scales
        image, used = interpolated(samples), samples.used
        pairs = zip(noise_models(samples, config), image, strict=True)
        variance = np.stack([model.variance(channel) for model, channel in pairs])
        values, noise = (torch.from_numpy(array.astype(np.float32)).to(device) for array in (image, variance))
        mask = None if used.all() else torch.from_numpy(used)
        return cls(values, torch.from_numpy(dark).float(), kernel, noise, mask)

    def step(self, done: float) -> float:
        """Compute one step and return the mean squared residual of the blurred estimate, in normalised values."""
        with torch.no_grad():
            start = (self._estimate + self._momentum * (self._estimate - self._previous)).clamp_min(0)
            blurred = self._blur(start)
            # Read noise has the effect of additional photons. The value of a photon is the variance over the signal.
            readout = self._readout()
            ratio = (self._light + readout) / (blurred + readout).clamp_min(_LEAST)
            # There is no prior. Even a weak one darkens the pixels outside, which contribute little to the image, and
            # their light goes into the border.
            new = start * self._adjoint(self._known(ratio, 1.0)) / self._weight
            direction = new - start
            square = float(self._direction.square().sum())
            share = float((direction * self._direction).sum()) / square if square > 0 else 0.0
            error = self._mean((blurred - self._light).square())
            # If the residual grows, the momentum restarts (O'Donoghue and Candes 2015, doi 10.1007/s10208-013-9150-3).
            self._momentum = min(max(share, 0.0), _MOST_MOMENTUM) if error <= self._error else 0.0
            self._previous, self._estimate, self._direction, self._error = self._estimate, new, direction, error
            self.step_count += 1
            self.finished = error <= _FINAL_RESIDUAL * self._mean(self._variance)
            return error * float(self._peak) ** 2

    def predict(self, shape: Sequence[int], passes: int = 1) -> Tensor:
        """Return the deconvolved image, (channels, *shape), normalised. `shape` is always that of the image."""
        return self._inner(self._estimate) * self._peak + self._dark

    def state(self) -> dict[str, Tensor]:
        """Return a copy of the state, on the CPU."""
        counts = (self.step_count, self._momentum, self._error, self.finished)
        numbers = torch.tensor(counts, dtype=torch.float64)
        tensors = {
            "found": self._estimate,
            "previous": self._previous,
            "direction": self._direction,
            "numbers": numbers,
        }
        tensors["sizes"] = torch.tensor(self._sizes)
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore a state.

        Raises
        ------
        KeyError
            A tensor is missing.
        RuntimeError
            The state belongs to an image of another shape.
        """
        if tuple(tensors["sizes"].tolist()) != tuple(self._sizes):
            raise RuntimeError("the state belongs to an image of another shape. Use the same image.")
        estimates = [tensors[name].to(self._estimate) for name in ("found", "previous", "direction")]
        self._estimate, self._previous, self._direction = estimates
        steps, self._momentum, self._error, finished = tensors["numbers"].tolist()
        self.step_count, self.finished = int(steps), bool(finished)

    def warm_start(self, tensors: Mapping[str, Tensor]) -> None:
        """Ignore the state: another image has no information about this one."""

    def extra_metadata(self) -> dict[str, Any]:
        """Return the number of steps."""
        return {"task_steps": self.step_count}

    def _known(self, values: Tensor, otherwise: float) -> Tensor:
        """Return values of the pixels, with another value for those that are missing or held out."""
        return values if self._used is None else torch.where(self._used, values, otherwise)

    def _mean(self, values: Tensor) -> float:
        """Return the mean of values over the pixels that are neither missing nor held out."""
        return float(values.mean() if self._used is None else values[:, self._used].mean())

    def _readout(self) -> Tensor:
        """Return the variance of the read noise in units of a photon's light; 0 if the noise is not known."""
        light = self._light.mean()
        slope = (self._variance - self._variance.amin()).mean() / light.clamp_min(_LEAST)
        return self._variance.amin() / slope if float(slope) > _LEAST else torch.zeros_like(light)

    def _transform(self, values: Tensor) -> Tensor:
        return cast(Tensor, torch.fft.rfftn(values, dim=self._axes))

    def _filter(self, values: Tensor, spectrum: Tensor) -> Tensor:
        """Multiply the spectrum of values on the larger grid by another one."""
        return cast(Tensor, torch.fft.irfftn(self._transform(values) * spectrum, s=self._grid, dim=self._axes))

    def _blur(self, values: Tensor) -> Tensor:
        """Blur values on the larger grid, and return the part within the image."""
        return self._inner(self._filter(values, self._spectrum)).clamp_min(0)

    def _adjoint(self, values: Tensor) -> Tensor:
        """Carry pixels back to the larger grid, by the adjoint of the blur."""
        larger = values.new_zeros(len(values), *self._grid)
        self._inner(larger)[...] = values
        return self._filter(larger, self._spectrum.conj()).clamp_min(0)

    def _inner(self, larger: Tensor) -> Tensor:
        """Return the part of the larger grid within the image, as a view."""
        inside = (slice(reach, reach + n) for reach, n in zip(self._reach, self._sizes, strict=True))
        return larger[(slice(None), *inside)]

    def _around_origin(self, kernel: Tensor) -> Tensor:
        """Return the kernel on the larger grid, with its middle at index 0 of each axis."""
        padded = kernel.new_zeros(1, *self._grid)
        corner: tuple[slice | int, ...] = (0, *(slice(0, n) for n in kernel.shape))
        padded[corner] = kernel
        return padded.roll([-reach for reach in self._reach], self._axes)


def dark_level(samples: Samples, config: FitConfig) -> tuple[float, ...]:
    """Return the value of a pixel without light, for each channel, in the image's units.

    This is the camera's offset if it is not 0. Otherwise it is 0, or the smallest value of the channel if that is
    negative.
    """
    least = [float(channel[samples.used].min()) for channel in samples.layout.to_channels_first(samples.image)]
    return tuple(config.camera_offset or min(0.0, value) for value in least)


def _kernel(config: FitConfig, spacing: Sequence[float]) -> Tensor:
    if config.psf is None:
        return pixel_model(config, spacing).kernel()
    # The PSF is used directly. Its separation into terms, as for other uses, would not be exact.
    psf = torch.tensor(config.psf, dtype=torch.float64).clamp_min(0)
    odd = functional.pad(psf, [p for n in reversed(psf.shape) for p in (0, 1 - n % 2)])
    return (odd / odd.sum()).float()


def working_set(spatial_shape: Sequence[int], kernel_shape: Sequence[int], channels: int) -> int:
    """Return the memory for a deconvolution in bytes."""
    count = channels
    for n, k in zip(spatial_shape, kernel_shape, strict=True):
        count *= int(next_fast_len(n + 2 * (k // 2), real=True))
    return count * 4 * _ARRAYS
