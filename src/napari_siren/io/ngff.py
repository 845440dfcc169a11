"""The metadata of OME-Zarr: axes, pixel size and channels in its words, written and read. Nothing else.

The specification, versions 0.4 and 0.5: https://ngff.openmicroscopy.org.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import NOT_SPACE, SPATIAL_AXES
from napari_siren.errors import InputError

Version = Literal["0.4", "0.5"]
VERSIONS: tuple[str, ...] = ("0.4", "0.5")

# The specification's order of axes, and what each of them is.
_ORDER = "TC" + SPATIAL_AXES
_KINDS = {"T": "time", "C": "channel", **dict.fromkeys(SPATIAL_AXES, "space")}
# Its names of lengths, by ours.
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
_COLOURS = {"red": "FF0000", "green": "00FF00", "blue": "0000FF", "alpha": "FFFFFF"}


def file_axes(axes: str) -> str:
    """Return the axes of the file: in the specification's order, and always with Y and X."""
    return "".join(a for a in _ORDER if a in axes or a in "YX")


def check_image(
    axes: str,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    spacing: Sequence[float] | None,
    channel_names: Sequence[str] | None,
    version: str,
) -> str:
    """Check that OME-Zarr can hold an image, and return its axes in upper case.

    Raises
    ------
    InputError
        It cannot, or what was given does not go together.
    """
    axes = axes.upper()
    if len(axes) != len(shape) or len(set(axes)) != len(axes) or set(axes) - set(_ORDER) or 0 in shape:
        raise InputError(
            f"axes={axes!r} and shape {tuple(shape)}: OME-Zarr needs one letter of {', '.join(_ORDER)} for each axis, "
            "and an entry along each."
        )
    if dtype.kind not in "buif":
        raise InputError(f"an OME-Zarr image holds real numbers or booleans, not {dtype}.")
    if version not in VERSIONS:
        raise InputError(f"there is no version {version!r} of OME-Zarr here; there are: {', '.join(VERSIONS)}.")
    space = axes.translate(NOT_SPACE)
    if spacing is not None and len(spacing) != len(space):
        raise InputError(f"spacing={spacing!r}: {len(space)} numbers are needed, one for each of {space}.")
    channels = shape[axes.index("C")] if "C" in axes else 1
    if channel_names is not None and len(channel_names) != channels:
        raise InputError(f"there are {len(channel_names)} channel names for {channels} channels.")
    return axes


def describe(
    letters: str,
    factors: Sequence[Mapping[str, int]],
    spacing: Mapping[str, float],
    unit: str | None,
    channel_names: Sequence[str] | None,
    version: str,
) -> dict[str, Any]:
    """Return the metadata of the group; where pixels are averaged, the first one's centre is not the image's."""
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
    described: dict[str, Any] = {"multiscales": [multiscale]}
    if version != "0.4":
        described = {"version": version, **described}
    if channel_names is not None:
        # The rest of what a viewer needs is known once the pixels are there.
        described["omero"] = {"channels": [{"label": str(name)} for name in channel_names]}
    return described


def describe_channels(top: npt.NDArray[Any], letters: str, names: Sequence[str]) -> dict[str, Any]:
    """Say how viewers may show each channel: its name, colour, and the range of the coarsest level's values."""
    channels = np.moveaxis(top, letters.index("C"), 0) if "C" in letters else top[np.newaxis]
    rgb = top.dtype == np.uint8 and len(channels) in (3, 4) and not names
    if not names:
        names = list(_COLOURS)[: len(channels)] if rgb else [f"channel {i}" for i in range(len(channels))]
    shown = []
    for i, values in enumerate(channels):
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        limits = (low, high)
        if values.dtype.kind in "iu":
            limits = (float(np.iinfo(values.dtype).min), float(np.iinfo(values.dtype).max))
        start, end = limits if rgb else (low, high)
        shown.append(
            {
                "label": names[i],
                "color": _COLOURS[names[i]] if rgb else "FFFFFF",
                "active": True,
                "window": {"min": limits[0], "max": limits[1], "start": start, "end": end},
            }
        )
    return {"channels": shown}


def letter_of(axis: Any) -> str:
    """Return our letter for an axis of a file; those of version 0.3 are plain names."""
    name = axis if isinstance(axis, str) else axis["name"]
    letter = str(name).upper()[:1]
    if letter not in _ORDER:
        raise ValueError(f"the axis {name!r}")
    return letter


def total_scale(multiscales: Mapping[str, Any], dataset: Mapping[str, Any], count: int) -> list[float]:
    """Multiply the scales of a level and of the whole image."""
    total = [1.0] * count
    for owner in (dataset, multiscales):
        for transformation in owner.get("coordinateTransformations") or ():
            if transformation["type"] == "scale":
                total = [a * float(b) for a, b in zip(total, transformation["scale"], strict=True)]
    return total


def read_spacing(
    scale: Mapping[str, float], units: Mapping[str, str | None]
) -> tuple[tuple[float, ...] | None, str | None]:
    """Return the spacing and its unit, or None where the file knows of neither."""
    space = [a for a in scale if a in SPATIAL_AXES]
    found = {units[a] for a in space}
    unit = next(iter(found)) if len(found) == 1 else None
    values = tuple(abs(scale[a]) for a in space)
    if not space or not all(0 < v < math.inf for v in values) or (unit is None and set(values) == {1.0}):
        return None, None
    return values, unit_symbol(unit)


def unit_symbol(name: str | None) -> str | None:
    """Return our name of a length, by that of the specification, which is napari's too; None of pixels."""
    names = {long: short for short, long in _UNITS.items()}
    return None if name in (None, "pixel") else names.get(name or "", name)
