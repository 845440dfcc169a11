"""`ModelHeader`: the description of a result in a model file, validated before the result is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, model_validator
from torch import Tensor

from napari_siren.core.field.header import FieldHeader
from napari_siren.core.field.outliers import Outliers
from napari_siren.core.image.metrics import Metrics
from napari_siren.core.model_file.provenance import ProvenanceHeader, checked
from napari_siren.core.progress import History
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.storage.records import Count, Finite, Number, Record

# Largest width of a point spread function, in pixels: a kernel has a few numbers for each.
_WIDEST_PSF = 1e4
# Names of the numbers and of the amounts of the outliers in a file.
OUTLIER_TENSORS = ("outlier_numbers", "outlier_amounts")
_Time = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class StateHeader(Record):
    """The fields of a `Checkpoint`, without its tensors."""

    step: Count
    seconds: _Time
    seed: Count
    expected_mse: Number
    fingerprint: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Metrics(Record):
    psnr: Number
    ssim: Finite | None
    rmse: Number
    max_abs: Number
    psnr_heldout: float | None = None
    consistency: float | None = None
    rse: Annotated[float, Field(ge=0)] | None = None
    rsp: Annotated[float, Field(ge=-1, le=1)] | None = None
    image_resolution: Annotated[float, Field(gt=0)] | None = None


class _History(Record):
    step: list[Count]
    seconds: list[_Time]
    loss: list[Number]
    psnr: list[Number]
    events: list[tuple[Count, str]]
    stopped: Literal["", "max_steps", "max_seconds", "target_psnr", "asked"]

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if len({len(values) for values in (self.step, self.seconds, self.loss, self.psnr)}) > 1:
            raise ValueError("the steps of the history have different lengths")
        return self


class ModelHeader(FieldHeader):
    """The description of a result: its field, settings, metrics, history and provenance."""

    config: dict[str, Any]
    learned: bool | None = None
    floor: tuple[Finite, ...] | None = None
    outliers: Count = 0
    metrics: _Metrics
    history: _History
    # Files of version 1 call it "receipt".
    provenance: Annotated[dict[str, Any], AfterValidator(checked)] = Field(
        validation_alias=AliasChoices("provenance", "receipt")
    )
    state: StateHeader | None

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        layout, config = self.layout, self.settings()
        if self.outliers and self.tiles is None:
            raise ValueError("a field without tiles has outliers")
        if self.floor is not None and len(self.floor) != layout.channels:
            raise ValueError("the floor does not have one number for each channel")
        form = ProvenanceHeader.model_validate(self.provenance).form
        if form is not None:
            form.check(layout.axes)
        widths = [config.psf_width] if isinstance(config.psf_width, float | int) else config.psf_width
        if isinstance(widths, list | tuple) and max(widths) > _WIDEST_PSF * min(layout.spacing):
            raise ValueError("the point spread function is too wide for the pixels")
        return self

    def build_outliers(self, tensors: Mapping[str, Tensor]) -> Outliers | None:
        """Return the outliers, or None if there are none.

        Raises
        ------
        ValueError
            Their tensors are absent, do not match the description, or have impossible values.
        """
        if not self.outliers or self.tiles is None:
            return None
        numbers, amounts = (tensors.get(name) for name in OUTLIER_TENSORS)
        if numbers is None or amounts is None or tuple(numbers.shape) != (self.outliers,):
            raise ValueError("the outliers do not match the description")
        outliers = Outliers(self.tiles.build().shape, numbers, amounts)
        outliers.check(self.layout.channels)
        return outliers

    def settings(self) -> FitConfig:
        """Return the settings of the fit."""
        return FitConfig.from_saved(self.config)

    def build_metrics(self) -> Metrics:
        """Return the metrics."""
        return Metrics(**self.metrics.model_dump())

    def build_history(self) -> History:
        """Return the course of the fit."""
        return History(**self.history.model_dump())

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ModelHeader:
        """Return the validated description of a model file.

        Raises
        ------
        ValidationError
            A part is absent, out of range, or in conflict with another part.
        """
        return cls.model_validate(values)
