"""Units of length: their symbols, their names in files and programs, and spacings in one unit."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Units of length in µm, by their symbols in OME.
LENGTHS = {
    "pm": 1e-6,
    "Å": 1e-4,
    "nm": 1e-3,
    "µm": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "dm": 1e5,
    "m": 1e6,
    "km": 1e9,
    "in": 2.54e4,
    "ft": 3.048e5,
}
# Symbols of the units that are a metre with a prefix, by the prefix.
_METRES = {"pico": "pm", "nano": "nm", "milli": "mm", "centi": "cm", "deci": "dm", "": "m", "kilo": "km"}
# Symbols by other names, in lower case and without a plural s. "um" and µ as a Greek letter are common in files.
_NAMES = {
    **dict.fromkeys(("um", "μm", "micron", "micrometer", "micrometre", "micro-meter"), "µm"),
    **dict.fromkeys(("angstrom", "ångström", "ångstrom", "a", "å"), "Å"),
    **{f"{prefix}met{end}": symbol for prefix, symbol in _METRES.items() for end in ("er", "re")},
    **dict.fromkeys(("inch", "inche", '"'), "in"),
    **dict.fromkeys(("foot", "feet", "ft"), "ft"),
}
# Names that stand for a pixel size without a unit of length.
_NO_UNIT = ("", "pixel", "px", "voxel", "reference frame", "referenceframe", "none", "null", "unknown", "dimensionless")


def unit_symbol(text: str) -> str | None:
    r"""Return the symbol of a unit by any of its names; None for pixels. An unknown name is returned as it is.

    ImageJ writes µ as an escape sequence.

    Examples
    --------
    >>> unit_symbol("micrometers"), unit_symbol("\\u00B5m"), unit_symbol("pixels"), unit_symbol("furlong")
    ('µm', 'µm', None, 'furlong')
    """
    plain = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text).strip()
    lower = plain.lower()
    for name in (lower, lower.removesuffix("s")):
        if name in _NO_UNIT:
            return None
        if name in _NAMES:
            return _NAMES[name]
        if name in LENGTHS:
            return name
    return plain


def in_one_unit(sizes: Sequence[float], units: Sequence[str | None]) -> tuple[list[float], str | None] | None:
    """Return sizes along several axes in the unit of the last one, and this unit.

    Returns
    -------
    tuple or None
        Sizes and unit. None if the units differ and one of them is not a known unit of length.
    """
    unit = units[-1] if units else None
    if len(set(units)) > 1:
        if not all(u in LENGTHS for u in units):
            return None
        sizes = [size * LENGTHS[u or ""] / LENGTHS[unit or ""] for size, u in zip(sizes, units, strict=True)]
    return [float(size) for size in sizes], unit
