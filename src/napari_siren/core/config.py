"""`FitConfig`: every knob of a fit, with units, ranges and presets."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from napari_siren.core.presets import PRESET_NAMES, PresetName, preset_of
from napari_siren.errors import ConfigError

# Steps before tiles are fitted: one of them at most is not 0.
LEARNING: tuple[str, ...] = ("cross_scale_steps", "blind_spot_steps", "deconvolution_steps", "burst_steps")


# Of `FitConfig.detail` for a render: between more samples than these the field is smooth, and they are many.
_LEAST_DETAIL, _MOST_DETAIL = 2.0, 4.0


def detail_for(scale: float | Sequence[float]) -> float:
    """Return the `FitConfig.detail` that suits a render at a scale (a number, or one for each axis)."""
    largest = max(scale) if isinstance(scale, Sequence) else scale
    return min(_MOST_DETAIL, max(_LEAST_DETAIL, largest))


_Width = Annotated[float, Field(gt=0, le=1e6)]


class FitConfig(BaseModel):
    """Every setting of a fit. Immutable; start from a preset and override what you need.

    Parameters
    ----------
    **fields
        Any of the fields below; those not given have the values of the preset ``"faithful"``.

    Raises
    ------
    ConfigError
        An unknown field (the message gives the nearest right name), or a value out of its range.

    Examples
    --------
    >>> from napari_siren import FitConfig
    >>> FitConfig.preset("faithful", max_seconds=10).hidden_layers
    3
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: PresetName = "faithful"
    """The preset that these settings started from."""

    # ---- the field -------------------------------------------------------------------------------
    tile: int | Literal["auto", "whole"] = "auto"
    """Side of a tile in pixels, the same along every axis. "auto" takes the size at which the field has
    `parameters_per_value` parameters for each value of the image; "whole" is one network for the image."""
    parameters_per_value: float = Field(1.0, gt=0, le=16)
    """Budget of the field: parameters for each value (pixel times channel) of the image."""
    overlap: float = Field(1.0, ge=0.5, le=16)
    """Half width, in pixels, of the zone in which neighbouring tiles are cross-faded."""
    hidden_layers: int = Field(3, ge=1, le=16)
    """Number of sine layers, the first one included."""
    hidden_features: int = Field(32, ge=1, le=1024)
    """Width of the sine layers."""
    coordinates: Literal["pixel", "unit"] = "pixel"
    """What the networks see: "pixel", positions in pixels from the tile's centre; "unit", positions scaled
    so that the centres of the first and last pixel of each axis are at -1 and 1, as in the SIREN paper."""
    band: float = Field(0.6, gt=0, le=3.2)
    """Band of the first layer in radians per pixel (with "pixel" coordinates): its frequencies are drawn
    from U(-band, band). Above about 1 the field is free to do anything between the pixels."""
    omega_0: float = Field(1.0, gt=0, le=1000)
    """Factor inside every sine, sin(omega_0 (W x + b)); 30 in the SIREN paper, with "unit" coordinates."""
    weight_scale: float = Field(0.5, gt=0, le=10)
    """Initial scale of the hidden weights, in units of the paper's bound sqrt(6 / n) / omega_0."""
    standardise: bool = True
    """Return every tile its own mean and standard deviation, so that flat and busy tiles, and those with a hot
    pixel, learn alike; the last layer starts at zero, each tile as the mean of its pixels."""

    # ---- what a pixel sees -----------------------------------------------------------------------
    observation: Literal["point", "box", "bicubic", "gaussian", "measured"] = "point"
    """How a pixel sees the field: "point", its value at the pixel's centre; "box", its mean over the pixel's area, as a
    camera; "bicubic", as photo software makes a smaller picture; "gaussian", blurred by a point spread function of
    `psf_width`, and then as "box"; "measured", as the array `psf` says. Tiles on their own take the last three for
    "box"."""
    psf_width: _Width | tuple[_Width, ...] | Literal["auto"] | None = None
    """Full width at half maximum of the point spread function, in the unit of the spacing (pixels where there is none):
    a number, or one for each axis in space; "auto" estimates it from the image. For the observation "gaussian"."""
    psf: tuple[Any, ...] | None = None
    """Measured point spread function, for the observation "measured": an array with an axis for each of the image's in
    space, its samples as far apart as pixels, the point at index n // 2 of each axis. It is divided by its sum."""
    subsamples: int = Field(2, ge=2, le=8)
    """Samples along each axis of a pixel, where it sees an area."""
    total_variation: float | Literal["auto"] = 0.0
    """Weight of the prior of total variation (isotropic, over the channels jointly), for pixels that see an area;
    "auto" derives it from the image's noise."""
    cross_scale_steps: int = Field(0, ge=0)
    """Steps in which a network learns from the image itself what lies between its samples; tiles are then fitted to
    what it tells. From smaller copies of pictures, of two axes with 1,500 pixels or more, 16 along each axis, of which
    none is missing; from the slices of stacks, of three axes, what lies between these, where they are further apart
    than pixels, 3 of them or more, evenly spaced. Others are fitted as with 0, which leaves it out."""
    blind_spot_steps: int = Field(0, ge=0)
    """Steps in which a network learns to tell pixels from those around them, and so what the image is without noise;
    tiles are then fitted to that. For images and stacks of 16 pixels or more along rows and columns, of which none is
    missing or held out; others are fitted as with 0, which leaves it out."""
    deconvolution_steps: int = Field(0, ge=0)
    """Steps, at most, in which the blur is taken out of the image that its observation, "gaussian" or "measured", says
    that it has; values are kept non-negative, and tiles are then fitted to what was found. It ends where the image is
    met to within its noise. For images of which no pixel is missing or held out; others are fitted as with 0, which
    leaves it out."""
    burst_steps: int = Field(0, ge=0)
    """Steps in which one scene, and the drift of each frame, are found from several frames, along the axis T; tiles are
    then fitted to the scene, as the first frame sees it. 0 leaves it out."""
    camera_gain: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """How much a photon (or photoelectron) adds to a pixel's value, for what has to know the noise: `blind_spot_steps`
    and `deconvolution_steps`. "auto" estimates how the noise grows with the signal from the image, and disregards the
    two below."""
    camera_offset: float = 0.0
    """Value of a pixel that no light has fallen on."""
    read_noise: float = Field(0.0, ge=0)
    """Standard deviation of such a pixel's value."""
    detail: float = Field(2.0, ge=1, le=16)
    """Samples per pixel along each axis that are so learned: the scale up to which a render gains detail."""

    # ---- the fitting -----------------------------------------------------------------------------
    optimizer: Literal["muon", "adam"] = "muon"
    """"muon": orthogonalised momentum for the hidden matrices and Adam for the rest; "adam": Adam for all."""
    learning_rate: float = Field(0.02, gt=0, le=1)
    """Adam's step size."""
    muon_learning_rate: float = Field(0.12, gt=0, le=2)
    """Muon's step size: the spectral norm of a step on a hidden matrix."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Muon's momentum (Nesterov)."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Adam's decay of the mean gradient."""
    beta2: float = Field(0.95, ge=0, lt=1)
    """Adam's decay of the mean squared gradient."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """How the step sizes go down from 1 to `final_rate` of themselves, by the steps done, or by the time or the PSNR
    reached, where there is a limit or a target for these."""
    final_rate: float = Field(0.01, ge=0, le=1)
    """Share of the step size that is left at the end."""
    averaging: float = Field(0.8, ge=0, lt=1)
    """Decay of the running mean of the weights, which is what is kept: it has at any time about the quality that
    the weights themselves reach only once the step sizes have gone down. 0 keeps the weights themselves."""
    pixels_per_step: Literal["half", "all"] = "half"
    """How many pixels a step sees: "half", those of either colour of a chessboard in turn, which costs half as much and
    learns as fast; "all". Where a pixel sees an area it is always all."""
    max_steps: int = Field(400, ge=1)
    """Number of steps."""
    max_seconds: float | None = Field(None, gt=0)
    """Time limit in seconds, or None. With a limit the schedule follows the clock, and a fit is no longer
    reproducible to the bit."""
    target_psnr: float | None = Field(None, gt=0)
    """Stop as soon as the rounded reconstruction reaches this PSNR in dB; None goes on to the end."""
    heldout: float = Field(0.0, ge=0, le=0.5)
    """Share of the pixels kept out of the fit, for `psnr_heldout`."""
    value_range: Literal["robust", "full"] = "robust"
    """What the networks' outputs stand for: "robust" takes the range between the 0.1 and 99.9 percentiles to
    [-1, 1] (what lies beyond is kept); "full" takes that of the dtype (of floats, the image's own) to [0, 1]."""

    # ---- resources -------------------------------------------------------------------------------
    engine: Literal["auto", "native", "triton", "torch"] = "auto"
    """How a step is carried out: "native", the compiled kernel (needs a C compiler, CPU only); "triton", fused kernels
    for NVIDIA's GPUs; "torch", PyTorch; "auto", the kernels where they are there and pay."""
    precision: Literal["auto", "float32"] = "auto"
    """How exact the products of a step are: "auto" takes bfloat16 with float32 sums for the first steps, where there
    are kernels and a processor for it (Intel AMX, NVIDIA's GPUs); "float32" keeps to it throughout."""
    threads: int | None = Field(None, ge=1, le=1024)
    """Threads of the native engine; None takes as many as PyTorch does."""
    max_memory: int | None = Field(None, ge=1)
    """Bound of the working set in bytes; None takes `memory_fraction` of what is free."""
    memory_fraction: float = Field(0.5, gt=0, le=0.95)
    """Share of the free memory that a fit may use, where `max_memory` is None."""

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ConfigError(_explain(error)) from None

    @field_validator("psf", mode="before")
    @classmethod
    def _take_array(cls, value: Any) -> Any:
        # Plain tuples, which can be compared and written as JSON.
        return None if value is None else _tuples(value.tolist() if hasattr(value, "tolist") else value)

    @field_validator("engine", mode="before")
    @classmethod
    def _take_old_name(cls, value: Any) -> Any:
        # Of models and settings that earlier versions wrote.
        return "torch" if value == "plain" else value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if isinstance(self.tile, int) and self.tile < 4:
            raise ValueError('tile: 4 pixels or more, or "auto" or "whole"')
        if isinstance(self.total_variation, float) and not 0 <= self.total_variation <= 10:
            raise ValueError("total_variation: between 0 and 10")
        if self.total_variation != 0 and not self.sees_area:
            raise ValueError('total_variation is laid on the samples within a pixel: it goes with observation="box"')
        if (self.observation == "gaussian") != (self.psf_width is not None):
            raise ValueError('psf_width: the observation "gaussian" needs it, and no other has it')
        if (self.observation == "measured") != (self.psf is not None):
            raise ValueError('psf: the observation "measured" needs it, and no other has it')
        if self.cross_scale_steps and not self.sees_area:
            raise ValueError('cross_scale_steps: smaller copies need pixels that see an area, as observation="box"')
        if len(used := [name for name in LEARNING if getattr(self, name)]) > 1:
            raise ValueError(f"{used[1]}: they do not go with {used[0]}; set one of them to 0")
        if self.deconvolution_steps and self.observation not in ("gaussian", "measured"):
            raise ValueError('deconvolution_steps: a blur is needed, observation="gaussian" or "measured"')
        if self.coordinates == "unit" and self.tile != "whole":
            raise ValueError('coordinates="unit" goes with tile="whole"')
        return self

    @property
    def learning_steps(self) -> int:
        """Steps in which a network learns from the image, before tiles are fitted to what it tells."""
        return max(int(getattr(self, name)) for name in LEARNING)

    @property
    def sees_area(self) -> bool:
        """Whether a pixel sees more of the field than a point."""
        return self.observation != "point"

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> FitConfig:
        """Return a preset, with any field overridden.

        Parameters
        ----------
        name
            ``"faithful"`` memorises the image as closely as it can; ``"upscale"`` fits what the image is a
            blurred sample of; ``"denoise"`` fits what it is without its noise; ``"deblur"`` what it is without its
            blur, which it estimates unless told; ``"burst"`` the scene of several frames; ``"fast"`` is for a preview;
            ``"paper"`` is the network and the optimiser of Sitzmann et al. 2020 (arXiv 2006.09661): one network,
            5 hidden layers of 256, omega_0 30, Adam, every pixel at each of 15,000 steps.
        **overrides
            Fields of `FitConfig`. With a `psf` the observation is "measured", unless another is given.

        Raises
        ------
        ConfigError
            An unknown preset or field, or a value out of range.
        """
        if name not in PRESET_NAMES:
            raise ConfigError(
                f"there is no preset {name!r}{_nearest(str(name), PRESET_NAMES)} There are: {', '.join(PRESET_NAMES)}."
            )
        measured = {"observation": "measured", "psf_width": None} if overrides.get("psf") is not None else {}
        return cls(**{"name": name, **preset_of(name).fields, **measured, **overrides})

    @classmethod
    def from_file(cls, path: str | Path) -> FitConfig:
        """Read settings from a JSON file (as ``model_dump_json`` writes them).

        Raises
        ------
        ConfigError
            The file is not there, is not JSON, or has a field that is unknown or out of range.
        """
        try:
            fields = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read settings from {path}: {error.strerror}.") from None
        except ValueError as error:
            raise ConfigError(f"{path} is not a JSON file of settings: {error}.") from None
        if not isinstance(fields, dict):
            raise ConfigError(f"{path} should hold a JSON object of settings, not a {type(fields).__name__}.")
        return cls.preset(**{"name": "faithful", **fields})

    def override(self, **fields: Any) -> FitConfig:
        """Return the same settings with some fields changed (checked anew).

        Raises
        ------
        ConfigError
            An unknown field, or a value out of range.
        """
        return type(self)(**{**self.model_dump(), **fields}) if fields else self


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _nearest(name: str, choices: Any) -> str:
    close = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else "."


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"][:1])
        if item["type"] == "extra_forbidden":
            lines.append(f"there is no setting {field!r}{_nearest(field, FitConfig.model_fields)}")
        elif field:
            lines.append(f"{field}: {item['msg']} (got {item['input']!r}).")
        else:
            lines.append(item["msg"].removeprefix("Value error, ") + ".")
    return " ".join(dict.fromkeys(lines))
