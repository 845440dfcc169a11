"""Fit SIRENs (sinusoidal implicit neural representations) to images, with or without napari.

Importing this package does not import torch, napari or Qt. They are imported at the first use.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from napari_siren.errors import ConfigError, DeviceError, InputError, SirenError, StorageError

if TYPE_CHECKING:
    from napari_siren.batch.run import fit_batch
    from napari_siren.blockwise.fit import BlockProgress, BlocksResult, fit_blocks
    from napari_siren.core.blur.bead import psf_from_bead
    from napari_siren.core.blur.objective import psf_from_objective
    from napari_siren.core.compositing import blend, flatten_illumination
    from napari_siren.core.field.field import Field
    from napari_siren.core.field.stored import StoredField
    from napari_siren.core.fit import fit, fit_iter
    from napari_siren.core.network.module import SirenModule
    from napari_siren.core.options import FitOptions, FitSettings
    from napari_siren.core.preprocessing.gradients import Supervision
    from napari_siren.core.progress import Progress
    from napari_siren.core.resolution.measure import resolution
    from napari_siren.core.resolution.restored import restored_resolution
    from napari_siren.core.result import FitResult, load
    from napari_siren.core.scaled_error import resolution_scaled_error
    from napari_siren.core.series.fit import SeriesResult, fit_burst, fit_series
    from napari_siren.core.settings.config import FitConfig
    from napari_siren.core.shortcuts import deblur, denoise, isotropic, upscale
    from napari_siren.core.steps import FitSteps
    from napari_siren.finetuning.result import TrainProgress, TrainResult
    from napari_siren.finetuning.train import train
    from napari_siren.layers.fit import LayerFit, fit_layer

try:
    __version__ = version("napari-siren")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "unknown"

__all__ = [
    "BlockProgress",
    "BlocksResult",
    "ConfigError",
    "DeviceError",
    "Field",
    "FitConfig",
    "FitOptions",
    "FitResult",
    "FitSettings",
    "FitSteps",
    "InputError",
    "LayerFit",
    "Progress",
    "SeriesResult",
    "SirenError",
    "SirenModule",
    "StorageError",
    "StoredField",
    "Supervision",
    "TrainProgress",
    "TrainResult",
    "blend",
    "deblur",
    "denoise",
    "fit",
    "fit_batch",
    "fit_blocks",
    "fit_burst",
    "fit_iter",
    "fit_layer",
    "fit_series",
    "flatten_illumination",
    "isotropic",
    "load",
    "psf_from_bead",
    "psf_from_objective",
    "resolution",
    "resolution_scaled_error",
    "restored_resolution",
    "train",
    "upscale",
]

# Module of each public name, imported at its first use.
_HOMES = {
    "BlockProgress": "napari_siren.blockwise.fit",
    "BlocksResult": "napari_siren.blockwise.fit",
    "Field": "napari_siren.core.field.field",
    "FitConfig": "napari_siren.core.settings.config",
    "FitOptions": "napari_siren.core.options",
    "FitResult": "napari_siren.core.result",
    "FitSettings": "napari_siren.core.options",
    "FitSteps": "napari_siren.core.steps",
    "LayerFit": "napari_siren.layers.fit",
    "Progress": "napari_siren.core.progress",
    "SeriesResult": "napari_siren.core.series.fit",
    "SirenModule": "napari_siren.core.network.module",
    "StoredField": "napari_siren.core.field.stored",
    "Supervision": "napari_siren.core.preprocessing.gradients",
    "TrainProgress": "napari_siren.finetuning.result",
    "TrainResult": "napari_siren.finetuning.result",
    "blend": "napari_siren.core.compositing",
    "deblur": "napari_siren.core.shortcuts",
    "denoise": "napari_siren.core.shortcuts",
    "fit": "napari_siren.core.fit",
    "fit_batch": "napari_siren.batch.run",
    "fit_blocks": "napari_siren.blockwise.fit",
    "fit_burst": "napari_siren.core.series.fit",
    "fit_iter": "napari_siren.core.fit",
    "fit_layer": "napari_siren.layers.fit",
    "fit_series": "napari_siren.core.series.fit",
    "flatten_illumination": "napari_siren.core.compositing",
    "isotropic": "napari_siren.core.shortcuts",
    "load": "napari_siren.core.result",
    "psf_from_bead": "napari_siren.core.blur.bead",
    "psf_from_objective": "napari_siren.core.blur.objective",
    "resolution": "napari_siren.core.resolution.measure",
    "resolution_scaled_error": "napari_siren.core.scaled_error",
    "restored_resolution": "napari_siren.core.resolution.restored",
    "train": "napari_siren.finetuning.train",
    "upscale": "napari_siren.core.shortcuts",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
