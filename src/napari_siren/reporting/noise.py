"""`describe_noise`: the noise that was found in an image, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_siren.core.noise.shared import SHARED


def describe_noise(record: Mapping[str, Any]) -> str:
    """Return the noise of a `noise_record` in one line, in the image's units.

    Parameters
    ----------
    record
        ``result.provenance["noise"]``.

    Examples
    --------
    >>> describe_noise({"gain": [2.0], "variance_at_zero": [-190.0], "least_deviation": [3.1], "ratio": 0.99})
    'variance 2 x value - 190, standard deviation at least 3.1; independent from pixel to pixel'
    """
    names = ("gain", "variance_at_zero", "least_deviation")
    nothing = [None] * len(record["gain"])
    errors = (record.get("gain_error", nothing), record.get("variance_at_zero_error", nothing))
    channels = [_channel(*numbers) for numbers in zip(*(record[name] for name in names), *errors, strict=True)]
    parts = channels if len(channels) == 1 else [f"channel {i}: {text}" for i, text in enumerate(channels, 1)]
    ratio = record.get("ratio")
    if ratio is not None:
        parts.append("shared by neighbouring pixels" if ratio >= SHARED else "independent from pixel to pixel")
    return "; ".join(parts)


def _channel(gain: float, at_zero: float, least: float, gain_error: float | None, at_zero_error: float | None) -> str:
    if gain == 0:
        return f"standard deviation {least:.3g}"
    slope, offset = _with_error(gain, gain_error), _with_error(abs(at_zero), at_zero_error)
    sign = "-" if at_zero < 0 else "+"
    return f"variance {slope} x value {sign} {offset}, standard deviation at least {least:.3g}"


def _with_error(number: float, error: float | None) -> str:
    # Rounded to a digit, but without an exponent.
    return f"{number:.3g}" if error is None else f"({number:.3g} ± {float(f'{error:.1g}'):g})"
