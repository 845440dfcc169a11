"""`ProvenanceHeader`: the entries of a result's provenance in a file, validated before they are used."""

from __future__ import annotations

from typing import Annotated, Any, Self

import numpy as np
from pydantic import Base64Bytes, Field, model_validator

from napari_siren.core.image.arrays import FORM_KEY
from napari_siren.core.image.axes import Axes, check_axes
from napari_siren.core.storage.records import Count, Finite, Length, Positive, Record

# Letters of axes, one for each.
_Letters = Annotated[str, Field(max_length=8)]


# Dtype of times or of durations.
_TimeDtype = Annotated[str, Field(pattern=r"^[<>=|]?[mM]8(\[[0-9]*[a-zA-Zμ]+\])?$")]


class _Bytes(Record):
    base64: Base64Bytes


class _Lut(Record):
    base64: Annotated[Base64Bytes, Field(min_length=768, max_length=768)]


class _Details(Record):
    """The fields of `io.details.Details`."""

    file_axes: _Letters = ""
    colours: tuple[Annotated[str, Field(pattern="^[0-9A-Fa-f]{6}$")], ...] | None = None
    luts: tuple[_Lut, ...] | None = None
    ranges: tuple[tuple[Finite, Finite], ...] | None = None
    origin: tuple[Finite, ...] | None = None
    guessed: _Letters = ""
    profile: _Bytes | None = None
    dpi: tuple[Positive, Positive] | None = None
    gamma: Positive | None = None
    interval: tuple[Positive, str] | None = None
    has_alpha: bool = False
    shift: tuple[Finite, ...] | None = None


class _Placement(Record):
    """The fields of `layers.reading.Placement`."""

    scale: tuple[Finite, ...]
    translate: tuple[Finite, ...]
    rotate: tuple[tuple[Finite, ...], ...]
    shear: tuple[tuple[Finite, ...], ...]
    affine: tuple[tuple[Finite, ...], ...]
    units: tuple[str, ...]
    axis_labels: tuple[str, ...]

    def has_axes(self, count: int) -> bool:
        """Return whether all entries are those of a number of axes."""
        matrices = [(self.rotate, count), (self.shear, count), (self.affine, count + 1)]
        square = all(len(rows) == n and all(len(row) == n for row in rows) for rows, n in matrices)
        return square and all(len(v) == count for v in (self.scale, self.translate, self.units, self.axis_labels))


class _Layer(Record):
    """The fields of `layers.spec.LayerSpec`."""

    name: str
    shape: Annotated[tuple[Length, ...], Field(max_length=32)]
    axes: _Letters
    held: tuple[Annotated[int, Field(ge=0, lt=32)], ...]
    rgb: bool
    placement: _Placement
    display: dict[str, Any]
    channels: Length
    missing: str | None

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        check_axes(self.axes, (1,) * len(self.axes))
        if len(set(self.held)) < len(self.held) or any(axis >= len(self.shape) for axis in self.held):
            raise ValueError("the axes of one entry are not those of the layer")
        if len(self.shape) - len(self.held) + self.rgb != len(self.axes) or not self.placement.has_axes(
            len(self.shape)
        ):
            raise ValueError("the position of the layer does not have its number of axes")
        return self


class _Labels(Record):
    """The labels of an xarray.DataArray."""

    dims: tuple[str, ...]
    coords: dict[str, list[bool | int | Finite | str] | bool | int | Finite | str]
    units: dict[str, str]
    name: str | None
    attrs: dict[str, bool | int | float | str | None]
    times: dict[str, _TimeDtype] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        for name, dtype in self.times.items():
            try:
                np.asarray(self.coords[name]).astype(dtype)
            except (KeyError, TypeError, ValueError, OverflowError):
                raise ValueError(f"the times of {name!r} cannot be read") from None
        return self


class _Form(Record):
    """The form of the image as an array."""

    axes: str
    singletons: tuple[int, ...]
    labels: _Labels | None = None

    def check(self, fitted: Axes) -> None:
        """Compare the form with the fitted axes."""
        check_axes(self.axes, (1,) * len(self.axes))
        rest = "".join(letter for i, letter in enumerate(self.axes) if i not in self.singletons)
        if rest != fitted or len(rest) + len(self.singletons) != len(self.axes):
            raise ValueError("the form of the image does not fit its axes")
        if self.labels is not None and len(self.labels.dims) != len(self.axes):
            raise ValueError("the labels of the image do not fit its axes")


class ProvenanceHeader(Record):
    """The entries of the provenance with a known meaning."""

    seed: Count | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    device: str | None = None
    engine: str | None = None
    platform: str | None = None
    data_sha256: str | None = None
    image: str | None = None
    unit: str | None = None
    channel_names: list[str] | None = None
    steps_before_tiles: Count | None = None
    notes: list[str] | None = None
    details: _Details = _Details()
    layer: _Layer | None = None
    form: _Form | None = Field(None, validation_alias=FORM_KEY)


def checked(values: dict[str, Any]) -> dict[str, Any]:
    """Validate the entries of a provenance, and return all of them, including those of callers."""
    ProvenanceHeader.model_validate(values)
    return values
