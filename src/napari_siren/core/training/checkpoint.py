"""`Checkpoint`: the state of a fit, with the fingerprint of its image and settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic_core import to_json
from torch import Tensor

from napari_siren.core.image.samples import Samples
from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import InputError


@dataclass(frozen=True)
class Checkpoint:
    """The complete state of a fit, to continue it later. All tensors are on the CPU.

    Parameters
    ----------
    step, seconds
        Steps and time spent so far.
    seed
        Seed of the fit. It determines which pixels are held out.
    expected_mse
        Mean squared error at the last evaluation.
    fingerprint
        Hash of the image and of the settings, which the continued fit must share.
    tensors
        Parameters, best parameters and their losses, step sizes, and the state of the optimiser.
    """

    step: int
    seconds: float
    seed: int
    expected_mse: float
    fingerprint: str
    tensors: Mapping[str, Tensor]


def fingerprint(samples: Samples, config: FitConfig, further: npt.NDArray[Any] | None = None) -> str:
    """Return a hash of the image, of further data, and of the settings other than limits.

    The further data are the other frames of a burst, or the mask of the pixels that are kept apart from the tiles.
    """
    settings = json.dumps(config.described(limits=False), sort_keys=True)
    return _hash(settings.encode(), repr(samples.layout), samples, further)


def check_fingerprint(
    state: Checkpoint, samples: Samples, config: FitConfig, further: npt.NDArray[Any] | None = None
) -> None:
    """Compare a state with an image and settings.

    Raises
    ------
    InputError
        The state belongs to another image or to other settings.
    """
    if state.fingerprint not in (fingerprint(samples, config, further), _earlier(samples, config, further)):
        raise InputError(
            "the saved state belongs to another image or to other settings. Use the same image and settings; only "
            f"{', '.join(config.limits())} may differ."
        )


def _hash(settings: bytes, layout: str, samples: Samples, further: npt.NDArray[Any] | None) -> str:
    digest = hashlib.sha256(settings)
    digest.update(layout.encode())
    for array in (samples.image, samples.observed, samples.heldout, *(() if further is None else (further,))):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _earlier(samples: Samples, config: FitConfig, further: npt.NDArray[Any] | None) -> str:
    """Return the fingerprint in files of version 1 and 2."""
    settings = to_json(config.earlier_settings())
    return _hash(settings, repr(samples.layout).replace("ImageLayout(", "ImageFormat(", 1), samples, further)
