"""Pixel sizes along the axes of a file, in one unit."""

from __future__ import annotations

import math
from collections.abc import Mapping

from napari_siren.core.image.axes import Axes
from napari_siren.core.image.units import LENGTHS

# Pixel size and its unit, by the letter of the axis.
Sizes = Mapping[str, tuple[float, str | None]]


def spacing_of(axes: str, sizes: Sizes) -> tuple[tuple[float, ...] | None, str | None, str, list[str]]:
    """Return the sizes along the spatial axes in one unit.

    Returns
    -------
    tuple
        Spacing, unit, letters of the axes with a guessed size, and notes. The spacing is None if no size is known.
    """
    space = Axes(axes).spatial
    valid = {a: (abs(v), u) for a, (v, u) in sizes.items() if a in space and 0 < abs(v) < math.inf}
    notes = [f"the pixel size along {a} is not valid" for a in space if a in sizes and a not in valid]
    if not valid or ({u for _, u in valid.values()} == {None} and {v for v, _ in valid.values()} == {1.0}):
        return None, None, "", notes
    unit = valid[[a for a in space if a in valid][-1]][1]
    known = {a: v if u == unit else converted(v, u, unit) for a, (v, u) in valid.items()}
    if any(size is None for size in known.values()):
        units = " and ".join(sorted({str(u or "pixel") for _, u in valid.values()}))
        return None, None, "", [*notes, f"the pixel sizes have the units {units}, and are not used"]
    finest = min(size for size in known.values() if size is not None)
    guessed = "".join(a for a in space if a not in known)
    if guessed:
        notes.append(
            f"the pixel size along {', '.join(guessed)} is not known: it is taken to be {finest:g} {unit or ''}"
        )
    return tuple(known.get(a) or finest for a in space), unit, guessed, [note.rstrip() for note in notes]


def converted(size: float, unit: str | None, target: str | None) -> float | None:
    """Return a size in another unit, or None if one of the two units is not a known length."""
    if unit not in LENGTHS or target not in LENGTHS:
        return None
    return size * LENGTHS[unit or ""] / LENGTHS[target or ""]
