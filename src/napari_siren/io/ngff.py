"""Metadata of OME-Zarr: reading and writing of axes, pixel size and channels, without any pixels.

The specification, versions 0.4 and 0.5: https://ngff.openmicroscopy.org.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import SPATIAL_AXES, Axes
from napari_siren.errors import InputError

Version = Literal["0.4", "0.5"]
# Versions of the specification for new images.
VERSIONS: tuple[str, ...] = ("0.4", "0.5")

# Order of the axes in the specification.
_ORDER = "TC" + SPATIAL_AXES
# Type of each axis in the specification.
_KINDS = {"T": "time", "C": "channel", **dict.fromkeys(SPATIAL_AXES, "space")}
# Names of length units in the specification, by our symbols.
_UNITS = {
    "pm": "picometer",
    "Å": "angstrom",
    "nm": "nanometer",
    "µm": "micrometer",
    "mm": "millimeter",
    "cm": "centimeter",
    "m": "meter",
    "in": "inch",
}
# Colours of RGB channels as hexadecimal numbers, the form of the "omero" metadata.
_COLOURS = {"red": "FF0000", "green": "00FF00", "blue": "0000FF", "alpha": "FFFFFF"}


def file_axes(axes: str) -> Axes:
    """Return the axes of the file in the order of the specification, always including Y and X."""
    return Axes("".join(a for a in _ORDER if a in axes or a in "YX"))


def check_image(
    axes: str,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    spacing: Sequence[float] | None,
    channel_names: Sequence[str] | None,
    version: str,
) -> Axes:
    """Check whether OME-Zarr can hold an image, and return its axes in upper case.

    Raises
    ------
    InputError
        OME-Zarr cannot hold the image, or the arguments contradict each other.
    """
    names = Axes(axes.upper())
    if len(names) != len(shape) or len(set(names)) != len(names) or set(names) - set(_ORDER) or 0 in shape:
        raise InputError(
            f"axes={names!r} and shape {tuple(shape)} do not fit OME-Zarr. Give one letter of {', '.join(_ORDER)} for "
            "each axis, and at least one entry along each."
        )
    if dtype.kind not in "buif":
        raise InputError(f"an OME-Zarr image cannot hold {dtype}. Convert it to real numbers or booleans.")
    if version not in VERSIONS:
        raise InputError(f"there is no version {version!r} of OME-Zarr here. Use one of {', '.join(VERSIONS)}.")
    space = names.spatial
    if spacing is not None and len(spacing) != len(space):
        raise InputError(
            f"spacing={spacing!r} has the wrong length. {len(space)} numbers are needed, one for each of {space}."
        )
    channels = 1 if names.channel is None else shape[names.channel]
    if channel_names is not None and len(channel_names) != channels:
        raise InputError(
            f"there are {len(channel_names)} channel names for {channels} channels. Give one name for each channel."
        )
    return names


def describe(
    letters: str,
    factors: Sequence[Mapping[str, int]],
    spacing: Mapping[str, float],
    unit: str | None,
    channel_names: Sequence[str] | None,
    version: str,
) -> dict[str, Any]:
    """Return the metadata of the group.

    A pixel of a coarser level is a mean of several pixels. Each level therefore has a translation: the centre of its
    first pixel.
    """
    axes: list[dict[str, str]] = [{"name": a.lower(), "type": _KINDS[a]} for a in letters]
    for axis, letter in zip(axes, letters, strict=True):
        if unit and letter in spacing:
            axis["unit"] = _UNITS.get(unit, unit)
    datasets = [
        {
            "path": str(i),
            "coordinateTransformations": [
                {"type": "scale", "scale": [spacing.get(a, 1.0) * factor[a] for a in letters]},
                {"type": "translation", "translation": [spacing.get(a, 1.0) * (factor[a] - 1) / 2 for a in letters]},
            ],
        }
        for i, factor in enumerate(factors)
    ]
    multiscale: dict[str, Any] = {"axes": axes, "datasets": datasets, "type": "mean"}
    if version == "0.4":
        multiscale = {"version": version, **multiscale}
    metadata: dict[str, Any] = {"multiscales": [multiscale]}
    if version != "0.4":
        metadata = {"version": version, **metadata}
    if channel_names is not None:
        # Colours and value ranges are added once the pixels are known; see `describe_channels`.
        metadata["omero"] = {"channels": [{"label": str(name)} for name in channel_names]}
    return metadata


def describe_channels(top: npt.NDArray[Any], letters: Axes, names: Sequence[str]) -> dict[str, Any]:
    """Return the display settings of each channel for viewers: name, colour and range of values.

    The range is that of the coarsest level, `top`.
    """
    channels = letters.to_channels_first(top)
    rgb = top.dtype == np.uint8 and len(channels) in (3, 4) and not names
    if not names:
        names = list(_COLOURS)[: len(channels)] if rgb else [f"channel {i}" for i in range(len(channels))]
    descriptions = []
    for i, values in enumerate(channels):
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        limits = (low, high)
        if values.dtype.kind in "iu":
            limits = (float(np.iinfo(values.dtype).min), float(np.iinfo(values.dtype).max))
        start, end = limits if rgb else (low, high)
        descriptions.append(
            {
                "label": names[i],
                "color": _COLOURS[names[i]] if rgb else "FFFFFF",
                "active": True,
                "window": {"min": limits[0], "max": limits[1], "start": start, "end": end},
            }
        )
    return {"channels": descriptions}


def letter_of(axis: Any) -> str:
    """Return our letter for an axis of a file. The axes of version 0.3 are plain names."""
    name = axis if isinstance(axis, str) else axis["name"]
    letter = str(name).upper()[:1]
    if letter not in _ORDER:
        raise ValueError(f"unknown axis {name!r}")
    return letter


def total_scale(multiscales: Mapping[str, Any], dataset: Mapping[str, Any], count: int) -> list[float]:
    """Return the scale of a level times that of the whole image, for each axis."""
    total = [1.0] * count
    for owner in (dataset, multiscales):
        for transformation in owner.get("coordinateTransformations") or ():
            if transformation["type"] == "scale":
                total = [a * float(b) for a, b in zip(total, transformation["scale"], strict=True)]
    return total


def read_spacing(
    scale: Mapping[str, float], units: Mapping[str, str | None]
) -> tuple[tuple[float, ...] | None, str | None]:
    """Return the spacing and its unit. Both are None if the file has no valid spacing.

    A spacing of 1 without a unit is the default of the format, and counts as none.
    """
    space = [a for a in scale if a in SPATIAL_AXES]
    names = {units[a] for a in space}
    unit = next(iter(names)) if len(names) == 1 else None
    values = tuple(abs(scale[a]) for a in space)
    if not space or not all(0 < v < math.inf for v in values) or (unit is None and set(values) == {1.0}):
        return None, None
    return values, unit_symbol(unit)


def unit_symbol(name: str | None) -> str | None:
    """Return our symbol for a unit of length in the specification; None for pixels.

    napari uses the same names. An unknown name is returned as it is.
    """
    names = {long: short for short, long in _UNITS.items()}
    return None if name in (None, "pixel") else names.get(name or "", name)
