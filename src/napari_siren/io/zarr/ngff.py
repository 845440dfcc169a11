"""Metadata of OME-Zarr: reading and writing of axes, pixel size, position and channels, without any pixels.

The specification, versions 0.1 to 0.5: https://ngff.openmicroscopy.org.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from napari_siren.core.image.axes import SPATIAL_AXES, Axes
from napari_siren.core.image.units import unit_symbol
from napari_siren.errors import InputError
from napari_siren.io.details import Details
from napari_siren.io.sizes import Sizes, converted

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
    "dm": "decimeter",
    "m": "meter",
    "km": "kilometer",
    "in": "inch",
    "ft": "foot",
}
# Name of a channel without a name, with its number.
_UNNAMED = "channel {}"
# Colours of RGB channels as hexadecimal numbers, the form of the "omero" metadata.
_COLOURS = {"red": "FF0000", "green": "00FF00", "blue": "0000FF", "alpha": "FFFFFF"}


def file_axes(axes: str, extra: str = "") -> Axes:
    """Return the axes of the file in the order of the specification, always including Y and X.

    `extra` are the letters of further axes of one entry.
    """
    return Axes("".join(a for a in _ORDER if a in axes or a in extra or a in "YX"))


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
    details: Details | None = None,
) -> dict[str, Any]:
    """Return the metadata of the group.

    A pixel of a coarser level is a mean of several pixels. Each level therefore has a translation: the centre of its
    first pixel. The axes with a guessed spacing have no unit.
    """
    known = details or Details()
    axes: list[dict[str, str]] = [{"name": a.lower(), "type": _KINDS[a]} for a in letters]
    for axis, letter in zip(axes, letters, strict=True):
        if unit and letter in spacing and letter not in known.guessed:
            axis["unit"] = _UNITS.get(unit, unit)
    origin = dict(zip(spacing, known.origin or (), strict=False))
    datasets = [
        {
            "path": str(i),
            "coordinateTransformations": [
                {"type": "scale", "scale": [spacing.get(a, 1.0) * factor[a] for a in letters]},
                {
                    "type": "translation",
                    "translation": [origin.get(a, 0.0) + spacing.get(a, 1.0) * (factor[a] - 1) / 2 for a in letters],
                },
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
    # Colours and value ranges that are not known are added once the pixels are known; see `describe_channels`.
    labels, colours, ranges = channel_names or (), known.colours or (), known.ranges or ()
    channels: list[dict[str, Any]] = [{} for _ in range(max(len(labels), len(colours), len(ranges)))]
    for i, channel in enumerate(channels):
        channel |= {"label": str(labels[i])} if i < len(labels) else {}
        channel |= {"color": colours[i]} if i < len(colours) else {}
        channel |= {"window": dict(zip(("start", "end"), ranges[i], strict=True))} if i < len(ranges) else {}
    if channels:
        metadata["omero"] = {"channels": channels}
    return metadata


def describe_channels(top: npt.NDArray[Any], letters: Axes, known: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return the display settings of each channel for viewers: name, colour and range of values.

    Parameters
    ----------
    top
        Pixels of the coarsest level. The range of values is theirs if it is not known.
    letters
        Axes of the pixels.
    known
        Settings of each channel that are known: "label", "color" and "window".
    """
    channels = letters.to_channels_first(top)
    known = [*known, *[{}] * (len(channels) - len(known))]
    rgb = top.dtype == np.uint8 and len(channels) in (3, 4) and not any(known)
    names = list(_COLOURS) if rgb else [_UNNAMED.format(i) for i in range(len(channels))]
    descriptions = []
    for values, name, own in zip(channels, names, known, strict=False):
        finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        limits = (low, high)
        if values.dtype.kind in "iu":
            limits = (float(np.iinfo(values.dtype).min), float(np.iinfo(values.dtype).max))
        start, end = limits if rgb else (low, high)
        window = {"min": limits[0], "max": limits[1], "start": start, "end": end, **own.get("window", {})}
        colour = _COLOURS[name] if rgb else "FFFFFF"
        descriptions.append({"label": name, "color": colour, "active": True, **own, "window": window})
    return {"channels": descriptions}


@dataclass(frozen=True)
class Multiscales:
    """The levels of an image in the metadata of OME-Zarr.

    Parameters
    ----------
    paths
        Path of each level in the group.
    letters
        Axes of the file in our letters.
    units
        Unit of each axis by its letter, or None.
    scales, translations
        Scale and translation of each level, one number for each axis: position = translation + scale * index.
    """

    paths: tuple[str, ...]
    letters: str
    units: Mapping[str, str | None]
    scales: tuple[tuple[float, ...], ...]
    translations: tuple[tuple[float, ...], ...]

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Multiscales:
        """Read an entry of the metadata. The versions 0.1 and 0.2 have no axes: they are T, C, Z, Y, X.

        Raises
        ------
        KeyError, TypeError, ValueError
            The entry is not valid.
        """
        axes = entry.get("axes") or [letter.lower() for letter in _ORDER]
        letters = "".join(letter_of(axis) for axis in axes)
        if len(set(letters)) != len(letters):
            raise ValueError(f"the axes {letters} are not unique")
        units = {a: None if isinstance(axis, str) else axis.get("unit") for a, axis in zip(letters, axes, strict=True)}
        placed = [_total(entry, dataset, len(letters)) for dataset in entry["datasets"]]
        return cls(
            tuple(dataset["path"] for dataset in entry["datasets"]),
            letters,
            {a: None if unit is None else unit_symbol(str(unit)) for a, unit in units.items()},
            tuple(tuple(scale) for scale, _ in placed),
            tuple(tuple(translation) for _, translation in placed),
        )

    def sizes(self, level: int) -> Sizes:
        """Return the pixel sizes of a level. If some spatial axes have a unit, the size of the others is not known."""
        sizes = {a: (abs(s), self.units[a]) for a, s in zip(self.letters, self.scales[level], strict=True)}
        space = {a: size for a, size in sizes.items() if a in SPATIAL_AXES}
        with_unit = {a: size for a, size in space.items() if size[1] is not None}
        return with_unit or space

    def origin(self, level: int, axes: str, unit: str | None) -> tuple[float, ...] | None:
        """Return the position of the first pixel of a level along the spatial axes, in a unit; None if it is 0."""
        values = dict(zip(self.letters, self.translations[level], strict=True))
        origin = []
        for a in Axes(axes).spatial:
            same = self.units[a] == unit or self.units[a] is None
            value = values[a] if same else converted(values[a], self.units[a], unit)
            origin.append(0.0 if value is None else value)
        return tuple(origin) if any(origin) else None


def read_details(metadata: Mapping[str, Any], channels: int) -> tuple[tuple[str, ...] | None, Details]:
    """Return the names of the channels, and their colours and displayed ranges, from the entry "omero"."""
    entries = metadata.get("omero", {}).get("channels", ()) if isinstance(metadata.get("omero", {}), Mapping) else ()
    if len(entries) != channels or not all(isinstance(entry, Mapping) for entry in entries):
        return None, Details()
    labels = [entry.get("label") for entry in entries]
    names = tuple(map(str, labels)) if all(labels) and labels != [_UNNAMED.format(0)] else None
    if names is not None and names == tuple(_COLOURS)[:channels]:
        return names, Details()
    colours = [str(entry.get("color", "")).lstrip("#").upper() for entry in entries]
    valid = all(len(colour) == 6 and not set(colour) - set("0123456789ABCDEF") for colour in colours)
    windows = [entry.get("window") or {} for entry in entries]
    numbers = [(window.get("start"), window.get("end")) for window in windows]
    known = [tuple(float(v) for v in pair if isinstance(v, int | float) and math.isfinite(v)) for pair in numbers]
    ranges = tuple((pair[0], pair[1]) for pair in known if len(pair) == 2)
    return names, Details(colours=tuple(colours) if valid else None, ranges=ranges if len(ranges) == channels else None)


def letter_of(axis: Any) -> str:
    """Return our letter for an axis of a file. The axes of version 0.3 are plain names."""
    name = axis if isinstance(axis, str) else axis["name"]
    letter = str(name).upper()[:1]
    if not isinstance(axis, str) and axis.get("type") in ("channel", "time"):
        letter = "C" if axis["type"] == "channel" else "T"
    if letter not in _ORDER:
        raise ValueError(f"unknown axis {name!r}")
    return letter


def _total(multiscales: Mapping[str, Any], dataset: Mapping[str, Any], count: int) -> tuple[list[float], list[float]]:
    """Return the scale and the translation of a level, first its own and then those of the whole image."""
    scale, translation = [1.0] * count, [0.0] * count
    for owner in (dataset, multiscales):
        for transformation in owner.get("coordinateTransformations") or ():
            if transformation["type"] == "scale":
                factors = [float(factor) for factor in transformation["scale"]]
                scale = [a * b for a, b in zip(scale, factors, strict=True)]
                translation = [a * b for a, b in zip(translation, factors, strict=True)]
            elif transformation["type"] == "translation":
                shift = [float(value) for value in transformation["translation"]]
                translation = [a + b for a, b in zip(translation, shift, strict=True)]
    return scale, translation
