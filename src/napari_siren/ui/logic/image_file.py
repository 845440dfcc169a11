"""The file of a layer's pixels: its proposed name, its metadata, and what was written, in words. No Qt."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_siren.core.image.axes import SPATIAL_AXES, Axes
from napari_siren.core.storage.atomic import atomic_write
from napari_siren.errors import InputError
from napari_siren.io.details import Details
from napari_siren.io.formats import FORMATS
from napari_siren.io.picture import Picture, check_kind, picture_channels
from napari_siren.layers.outputs import METADATA_KEY
from napari_siren.layers.reading import axis_kind
from napari_siren.layers.spec import LayerSpec
from napari_siren.ui.logic.layer_axes import LETTERS
from napari_siren.ui.logic.purposes import purpose_for

# Suffixes of files that hold OME-TIFF here.
TIFF_SUFFIXES = (".tif", ".ome.tif", ".tiff", ".ome.tiff")
# Suffix of a proposed name.
_SUFFIX = ".tif"
# Characters that file names of Windows cannot have; those of other systems are among them.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
# Names of devices on Windows.
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
# Largest number of characters of a proposed name. Most file systems allow 255 bytes, and a character has up to 4.
_LONGEST = 60
# Symbols of the units of time in OME, by napari's names.
_TIMES = {"second": "s", "millisecond": "ms", "microsecond": "µs", "minute": "min", "hour": "h"}


def default_name(layer: Any) -> str:
    """Return a file name for the pixels of a layer, such as photo_x4.tif.

    Parameters
    ----------
    layer
        A napari image layer. The name has its purpose or its scale if a fit has made it.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> made = {"role": "upscaled", "scale": [4.0, 4.0], "config": {"name": "upscale"}, "layer": {"name": "photo"}}
    >>> default_name(SimpleNamespace(name="photo [enlarged x4]", metadata={"napari_siren": made}))
    'photo_x4.tif'
    """
    made = getattr(layer, "metadata", {}).get(METADATA_KEY, {})
    # The name without the brackets at its end: those of a result, and those of a second layer of that name.
    name = re.sub(r"( \[[^][]*\])+$", "", str(layer.name))
    source = made.get("layer", {}).get("name") or ""
    if source and name.startswith(source):
        name = source
    name = name[: len(name) - len(image_suffix(name))]
    tail = "".join(f"_{part}" for part in _parts(layer, made))
    stem = _FORBIDDEN.sub("_", name)[:_LONGEST].strip(" .") or "image"
    return f"{'_' if _DEVICES.fullmatch(stem) else ''}{stem}{tail}{_SUFFIX}"


def image_suffix(name: str) -> str:
    """Return the suffix of a file name, as it is written, if it is one of an image file; else an empty string."""
    suffixes = (suffix for entry in FORMATS.values() for suffix in entry.suffixes if name.lower().endswith(suffix))
    length = max(map(len, suffixes), default=0)
    return name[len(name) - length :]


def _parts(layer: Any, made: Mapping[str, Any]) -> list[str]:
    """Return the parts of a name that describe how a layer was made."""
    role = str(made.get("role", ""))
    if not role:
        return []
    factors = np.atleast_1d(np.asarray(made.get("scale", 1.0), dtype=np.float64))
    purpose = purpose_for(str(made.get("config", {}).get("name", "")))
    label = "" if purpose.name == "enlarge" else purpose.label
    same = np.ptp(factors) <= 1e-6 * factors.max()
    sizes = np.abs(np.asarray(getattr(layer, "scale", ()), dtype=np.float64))[-len(factors) :]
    if same:
        scale = "" if np.isclose(factors[0], 1) else f"x{factors[0]:.3g}"
    elif role == "upscaled" and len(sizes) == len(factors) and np.ptp(sizes) <= 1e-3 * sizes.max():
        scale = "isotropic"
    else:
        scale = "x" + "-".join(f"{factor:.3g}" for factor in factors)
    if role == "reconstruction":
        return [label or role]
    if role == "upscaled":
        return [part for part in (label, scale) if part] or ["x1"]
    return [part for part in (role.replace("_", "-"), scale) if part]


def spec_to_save(layer: Any) -> LayerSpec:
    """Return the spec of all pixels of a layer, which are not read yet.

    Raises
    ------
    InputError
        A file cannot have the axes of the layer: the errors of `LayerSpec.from_layer`.
    """
    letters = [axis_kind(label) for label in layer.axis_labels] + ["C"] * bool(layer.rgb)
    if len(letters) - letters.count("C") <= len(SPATIAL_AXES):
        return LayerSpec.from_layer(layer, lazily=True)
    if not set(letters) <= set(LETTERS) or len(set(letters)) < len(letters):
        raise InputError(
            f"“{layer.name}” has the axes {', '.join(layer.axis_labels)}. A file can have only t, c, z, y and x, each "
            "once. Rename the axes, or use File > Save Selected Layers."
        )
    return LayerSpec.from_layer(layer, "".join(letters), lazily=True)


def picture_of(spec: LayerSpec, metadata: Mapping[str, Any]) -> Picture:
    """Return the pixels of a layer with its axes, pixel size, unit, position and names of channels.

    Parameters
    ----------
    spec
        The layer. Its pixels are read here, if they have not been read.
    metadata
        Metadata of the layer.
    """
    array = np.asarray(spec.loaded().data)
    axes, placement = spec.axes, spec.placement
    own = [axis for axis in range(len(spec.shape)) if axis not in spec.held]
    letters = dict(zip(axes, own, strict=False))
    in_space = [i for i, letter in enumerate(axes.coordinates) if letter != "T"]
    spacing = tuple(spec.spacing[i] for i in in_space)
    known = spec.unit is not None or any(size != 1 for size in spacing)
    made = metadata.get(METADATA_KEY, {})
    names = tuple(map(str, made.get("channel_names") or metadata.get("channel_names") or ()))
    count = array.shape[axes.channel] if axes.channel is not None else 1
    details = Details(
        origin=_origin(spec, [letters[letter] for letter in axes.spatial]) if known else None,
        interval=_interval(float(placement.scale[letters["T"]]), placement.units[letters["T"]])
        if "T" in letters
        else None,
        has_alpha=spec.rgb and count == 4,
    )
    return Picture(
        array,
        Axes(axes),
        spacing if known else None,
        spec.unit,
        Path(spec.name),
        names if len(names) == count and not spec.rgb else None,
        details,
    )


def _origin(spec: LayerSpec, axes: list[int]) -> tuple[float, ...] | None:
    """Return the position of the first pixel, or None if a file cannot hold it: the layer is turned or mirrored."""
    placement, n = spec.placement, len(spec.shape)
    plain = np.array_equal(placement.affine, np.eye(n + 1)) and np.array_equal(placement.rotate, np.eye(n))
    plain = plain and np.array_equal(placement.shear, np.eye(n)) and bool((placement.scale > 0).all())
    if not plain or len({placement.units[axis] for axis in axes}) > 1:
        return None
    return tuple(float(placement.translate[axis]) for axis in axes)


def _interval(scale: float, unit: str) -> tuple[float, str] | None:
    symbol = _TIMES.get(unit, unit)
    return (abs(scale), symbol) if symbol in _TIMES.values() else None


def write_layer(path: Path, spec: LayerSpec, metadata: Mapping[str, Any]) -> str:
    """Write the pixels of a layer to a file, and return a sentence about the file.

    Parameters
    ----------
    path
        Path of the file, as in `write_image`. Every TIFF is an OME-TIFF, also if its name ends in .tif only.
    spec, metadata
        The layer, as in `picture_of`.

    Raises
    ------
    InputError, StorageError
        The errors of `write_image`.
    """
    from napari_siren.io.images import CODECS, write_picture

    picture = picture_of(spec, metadata)
    if path.name.lower().endswith(TIFF_SUFFIXES):
        check_kind(path, picture.array.dtype, picture.axes or "", picture.array.shape)
        with atomic_write(path) as temporary_path:
            CODECS["ome.tif"].write(temporary_path, picture, picture.details.interval)
    else:
        write_picture(path, picture)
    return f"Saved: {path.name} ({_describe(picture, path)})"


def is_plain_picture(spec: LayerSpec, dtype: Any) -> bool:
    """Return whether a layer is a picture for PNG: 8 bits, two dimensions, and grey values or colours."""
    shape = [n for axis, n in enumerate(spec.shape) if axis not in spec.held] + [spec.channels] * spec.rgb
    counts = (FORMATS["png"].holds or {}).get("uint8", ())
    return np.dtype(dtype) == np.uint8 and picture_channels(spec.axes, shape) in counts


def _describe(picture: Picture, path: Path) -> str:
    axes = picture.axes or Axes()
    shape = dict(zip(axes, picture.array.shape, strict=True))
    parts = [f"{' × '.join(str(shape[a]) for a in reversed(axes.spatial))} pixels"]
    if "T" in axes:
        parts.append(f"{shape['T']} frames")
    if "C" in axes and not (axes.endswith("C") and shape["C"] in (3, 4)):
        parts.append(f"{shape['C']} channels")
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return ", ".join([*parts, _bytes(sum(file.stat().st_size for file in files))])


def _bytes(n: int) -> str:
    """Return the size of a file in words."""
    if n < 1e6:
        return f"{max(1, round(n / 1e3))} kB"
    return f"{n / 1e6:.1f} MB" if n < 1e9 else f"{n / 1e9:.1f} GB"
