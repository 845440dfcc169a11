"""`FitSettings` and `FitOptions`: the keyword arguments of a fit, for type checkers and editors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy.typing as npt

from napari_siren.core.settings.presets import PresetName
from napari_siren.core.settings.tasks import ObservationName, TaskName

if TYPE_CHECKING:
    from napari_siren.core.preprocessing.gradients import Preprocessor
    from napari_siren.core.progress import Progress
    from napari_siren.core.result import FitResult
    from napari_siren.core.settings.config import FitConfig


class FitSettings(TypedDict, total=False):
    """The fields of `FitConfig`, which describes them. Each of them can be an argument of a fit."""

    tile: int | Literal["auto", "whole"]
    parameters_per_value: float
    overlap: float
    hidden_layers: int
    hidden_features: int
    coordinates: Literal["pixel", "unit"]
    band: float
    omega_0: float
    weight_scale: float
    standardise: bool
    observation: ObservationName
    psf_width: float | Sequence[float] | Literal["auto"] | None
    psf: npt.ArrayLike | None
    subsamples: int
    total_variation: float | Literal["auto"]
    task: TaskName | None
    task_steps: int
    pretrained: str | None
    adapt: int | Literal["auto", "off"]
    representation: Literal["auto", "samples", "tiles"]
    camera_gain: float | Literal["auto"]
    camera_offset: float
    read_noise: float
    detail: float
    optimizer: Literal["muon", "adam"]
    learning_rate: float
    muon_learning_rate: float
    momentum: float
    beta1: float
    beta2: float
    schedule: Literal["cosine", "constant"]
    final_rate: float
    averaging: float
    pixels_per_step: Literal["half", "all"]
    max_steps: int
    max_seconds: float | None
    target_psnr: float | None
    heldout: float
    value_range: Literal["robust", "full"]
    strict: bool
    engine: Literal["auto", "native", "triton", "torch"]
    precision: Literal["auto", "float32"]
    threads: int | None
    max_memory: int | None
    memory_fraction: float


class FitOptions(FitSettings, total=False):
    """The arguments of `fit` after `image`, `axes` and `spacing`. `fit` describes them."""

    missing: npt.ArrayLike | None
    preset: PresetName | None
    config: FitConfig | None
    device: str
    seed: int | None
    progress: bool
    on_progress: Callable[[Progress], object] | None
    resume: FitResult | str | Path | None
    start: FitResult | str | Path | None
    supervision: str | Preprocessor
    axes_as_coordinates: str | None


def copy_options(options: FitOptions, **changes: Any) -> dict[str, Any]:
    """Return the arguments of a fit as a plain dictionary, with some changed or added."""
    return {**options, **changes}
