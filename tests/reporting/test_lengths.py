"""Lengths with the unit of the file, of the caller, or of pixels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from napari_siren.reporting.lengths import describe_length


@pytest.mark.parametrize(
    ("spacing", "provenance", "unit", "text"),
    [
        ((1.0, 1.0), {}, None, "0.312 pixels"),
        ((0.1, 0.1), {}, None, "0.312 (unit of the pixel size)"),
        ((0.1, 0.1), {"unit": "µm"}, None, "0.312 µm"),
        ((0.1, 0.1), {"unit": None}, "nm", "0.312 nm"),
        ((1.0, 1.0), {"unit": "µm"}, None, "0.312 µm"),
    ],
)
def test_the_unit(spacing: tuple[float, ...], provenance: dict[str, Any], unit: str | None, text: str) -> None:
    result: Any = SimpleNamespace(field=SimpleNamespace(layout=SimpleNamespace(spacing=spacing)), provenance=provenance)
    assert describe_length(0.3117, result, unit) == text
