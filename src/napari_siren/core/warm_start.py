"""What a fit takes from that of an alike image, and how many steps it saves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.core.config import FitConfig
from napari_siren.core.result import FitResult

# Share of the steps of a cold fit that a warm one needs, where something is learned of the image.
WARM_SHARE = 1 / 3
# Images that correlate by so much show the same thing in the same place.
_SAME = 0.9
# What is learned of one image, and holds for another.
_TAKEN_ON = ("cross_scale_steps", "blind_spot_steps")


def beginning(
    image: npt.NDArray[Any], config: FitConfig, alike: FitResult | None
) -> tuple[FitConfig, FitResult | None]:
    """Return the settings of a fit of an image, and the result to start from; None where it would be of no use.

    Parameters
    ----------
    image
        Of the shape of the other one.
    config
        Of a cold fit.
    alike
        Result of an alike image, such as the frame before.
    """
    if alike is None:
        return config, None
    same = _correlation(image, alike.reconstruction) >= _SAME
    if not same and config.learning_steps == 0:
        return config, None
    return warm_config(config, same), alike


def warm_config(config: FitConfig, same: bool) -> FitConfig:
    """Return the settings of a fit that starts from what an alike image has learned.

    Parameters
    ----------
    config
        Of a cold fit.
    same
        Whether the images show the same thing in the same place; else only what is learned for the image as a whole
        takes less. Presets that learn nothing of it take all their steps, and end closer to the image: much of what
        they memorise is noise, which is new in every frame.
    """
    steps = (*_TAKEN_ON, *(("max_steps",) if same and config.learning_steps else ()))
    return config.override(**{name: math.ceil(getattr(config, name) * WARM_SHARE) for name in steps})


def _correlation(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    """Return Pearson's correlation of two images, 0 where one is constant."""
    first, second = (values.astype(np.float64).ravel() - values.mean(dtype=np.float64) for values in (a, b))
    size = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / size if size > 0 else 0.0
