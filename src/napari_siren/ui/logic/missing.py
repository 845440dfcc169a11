"""NaN and infinite values of a layer: the tick box to fill them in, and the check before a fit. No Qt."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_siren.core.image.axes import Axes
from napari_siren.errors import InputError
from napari_siren.layers.region import either_mask
from napari_siren.layers.spec import LayerSpec

FILL_NAN = "Fill in NaN and infinite values"
"""Text of the tick box."""
FILL_NAN_TIP = (
    "Treat pixels that are NaN (not a number) or infinite as missing. The result continues the image over them. "
    "Without this choice, an image with such pixels is refused."
)
"""Tooltip of the tick box."""
# Largest number of values to be searched while the user waits: 42 ms for float64 on one core.
_MOST_VALUES = 1 << 24


def may_have_nan(layer: Any) -> bool:
    """Return whether a layer has NaN or infinite values, or may have them because its pixels are not searched.

    Only pixels in memory are searched, and not those of large layers.
    """
    if layer.dtype.kind != "f":
        return False
    data = layer.data
    in_memory = isinstance(data, np.ndarray) and not isinstance(data, np.memmap)
    return not in_memory or data.size > _MOST_VALUES or not np.isfinite(data).all()


def check_finite(spec: LayerSpec) -> None:
    """Raise an error if a value is not finite. `fit` would raise one, too, but without a remedy for users of napari."""
    if spec.data is None or spec.data.dtype.kind != "f":
        return
    invalid = ~np.isfinite(Axes(spec.series or spec.axes).to_channels_first(spec.data))
    mask = either_mask(spec.missing, spec.masked)
    count = int(np.count_nonzero(invalid if mask is None else invalid & ~mask))
    if count:
        values = "value that is" if count == 1 else "values that are"
        raise InputError(
            f"“{spec.name}” has {count} {values} not finite (NaN or infinite). Tick “{FILL_NAN}”, or choose a region "
            "without them: draw it in a Shapes layer, or label the good pixels in a Labels layer."
        )
