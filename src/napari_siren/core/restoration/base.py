"""`Lesson`: what an image can teach of itself, and the grid on which that is told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.config import FitConfig
from napari_siren.core.engines import has_bfloat16
from napari_siren.core.forward.operator import pixel_model
from napari_siren.core.image.noise import image_noise, noise_models
from napari_siren.core.image.samples import Samples
from napari_siren.core.restoration.axial import LEAST_RATIO, LEAST_ROWS, AxialScale, known_slices
from napari_siren.core.restoration.axial import LEAST_SIDE as LEAST_SLICE_SIDE
from napari_siren.core.restoration.blind_spot import BlindSpot
from napari_siren.core.restoration.burst import Burst
from napari_siren.core.restoration.richardson_lucy import Deconvolution
from napari_siren.core.restoration.super_resolution import LEAST_PIXELS, LEAST_SIDE, CrossScale

# Pixels of a slice that are more unlike along rows and columns cannot stand in for both.
_MOST_UNLIKE = 1.1


class Teacher(Protocol):
    """Learns from an image, and then tells of it."""

    # Whether it has learned all it will, however many steps are left.
    finished: bool

    def step(self, done: float) -> float:
        """Take a step, when a share of the training is done; give the mean squared error."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return a copy, on the CPU, of what is needed to go on."""
        ...

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from there; KeyError where something is not there."""
        ...

    def begin_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Begin with the network in the state of another one, where it is alike."""
        ...

    def predict(self, shape: Sequence[int], flips: int = ...) -> Tensor:
        """Tell what the image is on a grid: (channels, *shape)."""
        ...

    def findings(self) -> dict[str, Any]:
        """Say what else it found, for the result's provenance; plain values."""
        ...


@dataclass(frozen=True)
class Lesson:
    """What an image can teach of itself.

    Parameters
    ----------
    kind
        "copies", what lies between the pixels of a picture, from its smaller copies; "slices", what lies between the
        slices of a stack, from these; "noise", pixels from those around them; "blur", the image without it;
        "frames", the scene of several.
    shape
        Of the grid that it is told on.
    known
        Which slices of a stack are there.
    frames
        All of a burst, (frames, channels, *spatial), normalised; the first is the image.
    """

    kind: Literal["copies", "slices", "noise", "blur", "frames"]
    shape: tuple[int, ...]
    known: slice = field(default_factory=lambda: slice(0, 0, 1))
    frames: npt.NDArray[np.float32] | None = None

    @classmethod
    def of(cls, samples: Samples, config: FitConfig, frames: npt.NDArray[np.float32] | None = None) -> Lesson | None:
        """Return what there is to learn with some settings; None where there is nothing, or too little."""
        sizes, whole = samples.format.spatial_shape, bool(samples.observed.all())
        time = "T" in samples.format.axes
        if config.learning_steps == 0 or samples.heldout.any() or min(sizes) < 1:
            return None
        if time and not config.blind_spot_steps:
            return None  # what is alike in space says nothing of time
        if config.burst_steps:
            detail = math.ceil(config.detail)
            return None if frames is None else cls("frames", tuple(n * detail for n in sizes), frames=frames)
        if config.deconvolution_steps:
            return cls("blur", sizes) if whole and len(sizes) >= 2 else None
        if config.blind_spot_steps:
            large = whole and len(sizes) >= 2 and min(sizes[-2:]) >= LEAST_SIDE
            return cls("noise", sizes) if large else None
        if wants_cross_scale(sizes, config):
            return cls("copies", fine_shape(sizes, config)) if whole else None
        known = known_slices(samples.observed) if len(sizes) == 3 else None
        if known is None or not _can_teach(sizes, _ratio(samples, known), samples.format.spacing):
            return None
        if known.step > 1:
            return cls("slices", sizes, known)
        # Slices that are missing at the ends only do not lie between any.
        return cls("slices", (fine_shape(sizes[:1], config)[0], *sizes[1:]), known) if whole else None

    def teacher(self, samples: Samples, config: FitConfig, device: torch.device, seed: int) -> Teacher:
        """Return the network that is to learn it."""
        values = torch.from_numpy(samples.values).to(device)
        rough = config.precision == "auto" and has_bfloat16(device)
        if self.frames is not None:
            return Burst.of(self.frames, config, device, seed)
        if self.kind == "blur":
            return Deconvolution.of(samples, config, device)
        if self.kind == "noise":
            return BlindSpot(values, noise_models(samples, config), seed, rough)
        noise = image_noise(samples)
        if self.kind == "slices":
            thick = config.observation != "point" and self.known.step == 1
            return AxialScale(values, self.known, _ratio(samples, self.known), thick, noise, seed, rough)
        scale = [n / m for n, m in zip(self.shape, samples.format.spatial_shape, strict=True)]
        seen_by = pixel_model(config, samples.format.spacing)
        return CrossScale(values, seen_by, (scale[0], scale[1]), noise, seed, rough)


def wants_cross_scale(shape: Sequence[int], config: FitConfig) -> bool:
    """Whether pictures of a spatial shape learn from their smaller copies, if no pixel is missing or kept out."""
    if config.cross_scale_steps == 0 or len(shape) != 2:
        return False
    return min(shape) >= LEAST_SIDE and math.prod(shape) >= LEAST_PIXELS


def fine_shape(shape: Sequence[int], config: FitConfig) -> tuple[int, ...]:
    """Return the number of samples along axes that are told more finely."""
    return tuple(max(n, round(config.detail * n)) for n in shape)


def _ratio(samples: Samples, known: slice) -> float:
    """Return the distance of known slices in pixels of these."""
    along, *across = samples.format.spacing
    return float(along * known.step / np.mean(across))


def _can_teach(sizes: Sequence[int], ratio: float, spacing: Sequence[float]) -> bool:
    alike = max(spacing[1:]) <= _MOST_UNLIKE * min(spacing[1:])
    return alike and ratio >= LEAST_RATIO and min(sizes[1:]) >= max(LEAST_SLICE_SIDE, LEAST_ROWS * ratio)
