"""Lengths of a result in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_siren.core.result import FitResult


def describe_length(length: float, result: FitResult, unit: str | None = None) -> str:
    """Return a length with its unit.

    Parameters
    ----------
    length
        Length in the unit of the spacing.
    result
        Result whose spacing and provenance have the unit.
    unit
        Unit of the spacing, if the provenance does not have it.
    """
    unit = unit or result.provenance.get("unit")
    if unit is None and set(result.field.layout.spacing) == {1.0}:
        unit = "pixels"
    return f"{length:.3g} {unit or '(unit of the pixel size)'}"
