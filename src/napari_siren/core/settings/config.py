"""`FitConfig`: all settings of a fit, with units, ranges and presets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from napari_siren.core.settings.conflicts import conflicts, without_unsuitable
from napari_siren.core.settings.presets import PRESET_NAMES, PresetName, preset_of
from napari_siren.core.settings.tasks import TASKS, ObservationName, Task, TaskName
from napari_siren.core.storage.records import describe_error, explain_fields, nearest, parse_json, shortened
from napari_siren.errors import ConfigError

# Settings of versions before 0.1, in their order. `task` and `task_steps` replace them.
_EARLIER_STEPS: dict[str, TaskName] = {
    "cross_scale_steps": "super-resolution",
    "blind_spot_steps": "denoise",
    "deconvolution_steps": "deconvolution",
    "burst_steps": "burst",
}
# Bounds of `detail_for`, in samples per pixel. The field is smooth between its samples, so that more than four are not
# needed, and they cost memory.
_LEAST_DETAIL, _MOST_DETAIL = 2.0, 4.0


def detail_for(scale: float | Sequence[float]) -> float:
    """Return the suitable `FitConfig.detail` for a render at a scale (a number, or one for each axis)."""
    largest = max(scale) if isinstance(scale, Sequence) else scale
    return min(_MOST_DETAIL, max(_LEAST_DETAIL, largest))


# Roles of settings. A resource does not change the result. A limit may change when a fit is continued.
_RESOURCE: dict[str, Any] = {"role": "resource"}
_LIMIT: dict[str, Any] = {"role": "limit"}
# Upper bound of numbers of steps: years of work, and exact in every number type.
_MOST_STEPS = 10**9
_Width = Annotated[float, Field(gt=0, le=1e6)]


class FitConfig(BaseModel):
    """The settings of a fit. They are immutable: start from a preset, and override single fields.

    Parameters
    ----------
    **fields
        Values of the fields below. Fields that are not given have the values of the preset ``"faithful"``.

    Raises
    ------
    ConfigError
        A field is unknown (the message names the closest valid one), or a value is out of its range.

    Examples
    --------
    >>> from napari_siren import FitConfig
    >>> FitConfig.preset("faithful", max_seconds=10).hidden_layers
    3
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    name: PresetName = Field("faithful", json_schema_extra=_LIMIT)
    """Preset that these settings started from."""

    # ---- the field -------------------------------------------------------------------------------
    tile: Annotated[int, Field(le=2**31)] | Literal["auto", "whole"] = "auto"
    """Side of a tile in pixels, the same along every axis. "auto" chooses the side so that the field has
    `parameters_per_value` parameters for each value of the image. "whole" is one network for the whole image."""
    parameters_per_value: float = Field(1.0, gt=0, le=16)
    """Largest number of parameters of the field per value of the image, if `tile` is "auto". The number of values is
    the number of pixels times the number of channels."""
    overlap: float = Field(1.0, ge=0.5, le=16)
    """Half the width, in pixels, of the zone in which neighbouring tiles are cross-faded."""
    hidden_layers: int = Field(3, ge=1, le=16)
    """Number of sine layers of each network, including the first."""
    hidden_features: int = Field(32, ge=1, le=1024)
    """Width of each sine layer: its number of features."""
    coordinates: Literal["pixel", "unit"] = "pixel"
    """Input coordinates of the networks. "pixel": positions in pixels from the tile's centre. "unit": positions scaled
    so that the centres of the first and the last pixel along each axis are at -1 and 1, as in the SIREN paper; this
    needs `tile` "whole"."""
    band: float = Field(0.6, gt=0, le=3.2)
    """Largest initial frequency of the first layer, in radians per pixel (with `coordinates` "pixel"). The frequencies
    are drawn from U(-band, band). Above about 1, the pixels do not constrain the field between them."""
    omega_0: float = Field(1.0, gt=0, le=1000)
    """Factor inside every sine, sin(omega_0 (W x + b)). It is 30 in the SIREN paper, with `coordinates` "unit"."""
    weight_scale: float = Field(0.5, gt=0, le=10)
    """Initial scale of the hidden weights, in units of the SIREN paper's bound sqrt(6 / n) / omega_0. n is the number
    of inputs of a layer."""
    standardise: bool = True
    """Whether every tile is normalised by its own mean and standard deviation. Flat tiles, tiles with much structure
    and tiles with a hot pixel then train equally well. The last layer starts at zero, so that each tile starts as the
    mean of its pixels."""

    # ---- observation and restoration -------------------------------------------------------------
    observation: ObservationName = "point"
    """Observation model: the value of a pixel, computed from the field. "point": the field at the pixel's centre.
    "box": its mean over the pixel's area, as in a camera. "bicubic": a weighted mean, as in photo software that reduces
    a picture. "gaussian": the field blurred by a point spread function of width `psf_width`, and then as "box".
    "measured": the field weighted by the point spread function `psf`. Tiles without a task use "box" instead of the
    last three."""
    psf_width: _Width | tuple[_Width, ...] | Literal["auto"] | None = None
    """Full width at half maximum of the point spread function, in the unit of the spacing (in pixels if there is no
    spacing): a number, or one for each spatial axis. "auto" estimates it from the image. It is needed for
    `observation` "gaussian", and must be None otherwise."""
    psf: tuple[Any, ...] | None = None
    """Measured point spread function, for `observation` "measured": an array with an axis for each spatial axis of the
    image. Its samples are as far apart as the image's pixels. The point is at index n // 2 of each axis. The array is
    divided by its sum."""
    subsamples: int = Field(2, ge=2, le=8)
    """Number of samples of a pixel along each axis, for every `observation` except "point"."""
    total_variation: float | Literal["auto"] = 0.0
    """Weight of the total variation prior (isotropic, joint over the channels), for every `observation` except "point".
    "auto" derives it from the noise of the image. 0 is no prior."""
    task: TaskName | None = None
    """Restoration of the whole image before the fit. The tiles are then fitted to its result; None fits them to the
    pixels. "super-resolution" trains a network on smaller copies of a picture, or on the slices of a stack. A picture
    needs at least 16 pixels along each axis, at least 1,500 in total, and no missing pixels; with `pretrained` networks
    8 pixels along each axis are enough. A stack needs at least 3
    slices, evenly spaced and further apart than its pixels. "denoise" removes noise by `pretrained` networks, or trains
    one to predict pixels from their neighbours. It needs at least 8 rows and columns, or 16 without `pretrained`
    networks. "deconvolution" removes the blur that `observation` describes.
    The result is not negative, and the task ends when only noise is left in the residual. "burst" estimates one scene,
    and the drift of each frame, from the frames along the axis T. If an image does not allow the task, see `strict`."""
    task_steps: int = Field(0, ge=0, le=_MOST_STEPS)
    """Number of steps of the task; for "deconvolution", the largest number. 0 omits the task."""
    pretrained: str | None = "auto"
    """Networks that were trained on other images, for super-resolution of pictures, and for denoising of pictures,
    stacks and films. "general" is for photographs and "microscope" for micrographs; "auto" chooses by the image itself;
    the path of a file of weights is possible, too. They need seconds, and `task_steps` does not matter. None (or
    "none") trains a network on the image alone, for `task_steps` steps. What lies between the slices of a stack is
    always learned from the stack: from a trained network if `task_steps` is at most 1,000 or the slices are small,
    otherwise from random parameters. Noisy slices are denoised before. With None neither is done."""
    adapt: Literal["auto", "off"] | Annotated[int, Field(ge=1, le=_MOST_STEPS)] = Field(
        "auto", json_schema_extra=_LIMIT
    )
    """Adaptation of the pretrained network for super-resolution: further training on smaller copies of the image, whose
    true pixels are known. Without a clear gain on held-out pixels, the network is not changed. "auto": 30 steps to try,
    and 60 steps if they help, for results of up to 1 megapixel. A number: so many steps if the first 30 help. "off": no
    adaptation."""
    representation: Literal["auto", "samples", "tiles"] = Field("auto", json_schema_extra=_LIMIT)
    """Representation of a restored image in the result. "samples": a cubic spline through its samples; this needs no
    further steps. "tiles": tiles of networks, fitted to its samples in `max_steps` steps. "auto": "samples" with
    pretrained networks and for slices of a stack, otherwise "tiles". An image without a task always has tiles."""
    camera_gain: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"
    """Increase of a pixel's value for each photon (or photoelectron), for the noise model of the tasks "denoise" and
    "deconvolution". "auto" estimates from the image how the noise grows with the signal; the noise model then ignores
    `camera_offset` and `read_noise`."""
    camera_offset: float = 0.0
    """Value of a pixel without light, in the units of the image."""
    read_noise: float = Field(0.0, ge=0)
    """Standard deviation of the value of a pixel without light, in the units of the image."""
    detail: float = Field(2.0, ge=1, le=16)
    """Number of samples per pixel along each axis in the result of "super-resolution" or "burst". A render gains detail
    up to this scale."""

    # ---- optimisation ----------------------------------------------------------------------------
    optimizer: Literal["muon", "adam"] = "muon"
    """Optimiser. "muon": orthogonalised momentum for the hidden matrices, and Adam for all other parameters. "adam":
    Adam for all parameters."""
    learning_rate: float = Field(0.02, gt=0, le=1)
    """Adam's step size."""
    muon_learning_rate: float = Field(0.12, gt=0, le=2)
    """Muon's step size: the spectral norm of a step of a hidden matrix."""
    momentum: float = Field(0.95, ge=0, lt=1)
    """Muon's momentum (Nesterov)."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Adam's decay rate of the mean gradient."""
    beta2: float = Field(0.95, ge=0, lt=1)
    """Adam's decay rate of the mean squared gradient."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Schedule of the step sizes. "cosine": they decrease to `final_rate` of their values, along a cosine. "constant":
    they stay the same. The schedule follows the number of steps. If there is a time limit or a target PSNR, it follows
    the time or the PSNR as well, whichever is closest to its end."""
    final_rate: float = Field(0.01, ge=0, le=1)
    """Share of the step sizes at the end of the schedule."""
    averaging: float = Field(0.8, ge=0, lt=1)
    """Decay of the running mean of the weights. The result has these mean weights. At any time they have about the
    quality that the weights themselves reach only after the step sizes have decreased. 0 keeps the weights
    themselves."""
    pixels_per_step: Literal["half", "all"] = "half"
    """Pixels of a step. "half": alternately the two colours of a chessboard, which costs half as much and trains as
    fast. "all": every pixel. Every `observation` except "point" uses all pixels."""
    max_steps: int = Field(400, ge=1, le=_MOST_STEPS, json_schema_extra=_LIMIT)
    """Maximum number of steps. With a task, only the steps after it count."""
    max_seconds: float | None = Field(None, gt=0, json_schema_extra=_LIMIT)
    """Time limit in seconds, or None. With a limit the schedule follows the clock, and the fit is not reproducible to
    the bit."""
    target_psnr: float | None = Field(None, gt=0, json_schema_extra=_LIMIT)
    """PSNR in dB at which the fit stops, measured on the rounded reconstruction. None continues to the end."""
    heldout: float = Field(0.0, ge=0, le=0.5)
    """Share of the pixels that are excluded from the fit, to measure `psnr_heldout` on them."""
    value_range: Literal["robust", "full"] = "robust"
    """Normalisation of the image's values. "robust": the range between the percentiles 0.1 and 99.9 becomes [-1, 1];
    values beyond it are kept. "full": the range of the dtype (for floats, of the image) becomes [0, 1]."""

    # ---- resources -------------------------------------------------------------------------------
    strict: bool = Field(True, json_schema_extra=_RESOURCE)
    """Whether an image that does not allow "denoise" or "deconvolution" is refused. False fits it by tiles alone, with
    its noise or its blur. An image that does not allow "super-resolution" is always fitted by tiles alone, which are
    still sharper than an interpolation. The `notes` of the provenance report it."""
    engine: Literal["auto", "native", "triton", "torch"] = Field("auto", json_schema_extra=_RESOURCE)
    """Implementation of a step. "native": the compiled kernel (CPU only). "triton": fused kernels for NVIDIA GPUs.
    "torch": PyTorch. "auto": the kernels if they are available and faster, otherwise PyTorch."""
    precision: Literal["auto", "float32"] = Field("auto", json_schema_extra=_LIMIT)
    """Precision of the matrix products of a step. "auto": bfloat16 with float32 sums in the first steps, if there are
    kernels and a processor for it (Intel AMX, NVIDIA GPUs). "float32": float32 in all steps."""
    threads: int | None = Field(None, ge=1, le=1024, json_schema_extra=_RESOURCE)
    """Number of threads of the native engine. None uses as many as PyTorch."""
    max_memory: int | None = Field(None, ge=1, le=2**62, json_schema_extra=_RESOURCE)
    """Largest working set in bytes. None allows `memory_fraction` of the free memory."""
    memory_fraction: float = Field(0.5, gt=0, le=0.95, json_schema_extra=_RESOURCE)
    """Share of the free memory that a fit may use, if `max_memory` is None."""

    def __init__(self, /, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ConfigError(explain_fields(error, FitConfig.model_fields)) from None

    @field_validator("psf", mode="before")
    @classmethod
    def _take_array(cls, value: Any) -> Any:
        # Plain tuples can be compared and written as JSON.
        return None if value is None else _tuples(value.tolist() if hasattr(value, "tolist") else value)

    @field_validator("pretrained", mode="before")
    @classmethod
    def _accept_word_for_none(cls, value: Any) -> Any:
        # The command line and files of settings have words.
        return None if value == "none" else value

    @field_validator("engine", mode="before")
    @classmethod
    def _take_old_name(cls, value: Any) -> Any:
        # Models and settings of earlier versions have the old name.
        return "torch" if value == "plain" else value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if problems := conflicts(self):
            raise ValueError(". ".join(problems))
        return self

    @property
    def restoration(self) -> Task | None:
        """The task, or None if there is none or it has no steps."""
        return None if self.task is None or self.task_steps == 0 else TASKS[self.task]

    @property
    def joins_frames(self) -> bool:
        """Whether all frames of a series are fitted as one scene."""
        return self.restoration is not None and self.restoration.joins_frames

    @property
    def sees_area(self) -> bool:
        """Whether a pixel is an average over an area of the field, not its value at a point."""
        return self.observation != "point"

    @classmethod
    def preset(cls, /, name: str, **overrides: Any) -> FitConfig:
        """Return a preset, with any field overridden.

        Parameters
        ----------
        name
            Name of the preset. ``"faithful"`` memorises the image as closely as possible. ``"upscale"`` estimates the
            scene that the image is a blurred sample of. ``"denoise"`` removes the noise. ``"deblur"`` removes the blur,
            and estimates it if it is not given. ``"burst"`` combines several frames of one scene. ``"fast"`` is for a
            preview. ``"paper"`` is the network and the optimiser of Sitzmann et al. 2020 (arXiv 2006.09661): one
            network with 5 hidden layers of 256, omega_0 30, Adam, and every pixel in each of 15,000 steps.
        **overrides
            Values of fields of `FitConfig`. With a `psf` the observation is "measured", unless another one is given.
            Values of the preset that an override excludes are left out: `psf_width` with an observation other than
            "gaussian", `total_variation` with "point", and `task_steps` without a task.

        Raises
        ------
        ConfigError
            The preset or a field is unknown, or a value is out of range.
        """
        if name not in PRESET_NAMES:
            raise ConfigError(
                f"there is no preset {shortened(name)}{nearest(str(name), PRESET_NAMES)} Use one of: "
                f"{', '.join(PRESET_NAMES)}."
            )
        return cls(**without_unsuitable({"name": name, **preset_of(name).fields}, overrides))

    @classmethod
    def from_file(cls, path: str | Path) -> FitConfig:
        """Read settings from a JSON file, as written by ``model_dump_json``.

        Raises
        ------
        ConfigError
            The file cannot be read, is not JSON, or has a field that is unknown or out of range.
        """
        try:
            fields = parse_json(Path(path).read_bytes())
        except OSError as error:
            raise ConfigError(f"cannot read settings from {path}: {error.strerror}. Check the path.") from None
        except ValueError as error:
            raise ConfigError(
                f"{path} is not a JSON file of settings: {describe_error(error)}. Check its syntax."
            ) from None
        if not isinstance(fields, dict):
            raise ConfigError(
                f"{path} holds a JSON {type(fields).__name__}, not an object. Write the settings as an object."
            )
        return cls.preset(**{"name": "faithful", **_translated(fields)})

    @classmethod
    def from_saved(cls, fields: Mapping[str, Any]) -> FitConfig:
        """Return the settings of a model file of this or an earlier version.

        Parameters
        ----------
        fields
            Settings as returned by `described` or ``model_dump``.
        """
        # A model without the setting `pretrained` is from before there were pretrained networks.
        return cls(**{"pretrained": None, **_translated(fields)})

    @classmethod
    def limits(cls) -> list[str]:
        """Return the sorted names of the limits and resources: a continued fit may have other values of these."""
        return sorted(_fields_of(cls, "resource", "limit"))

    def described(self, *, limits: bool = True) -> dict[str, Any]:
        """Return the settings with an influence on the result, as plain values for JSON.

        Parameters
        ----------
        limits
            Whether to include settings that may change when a fit is continued, such as `max_steps`.
        """
        excluded = _fields_of(type(self), *(("resource",) if limits else ("resource", "limit")))
        return self.model_dump(mode="json", exclude=excluded)

    def earlier_settings(self) -> dict[str, Any]:
        """Return ``described(limits=False)`` with the names and the order of versions before 0.1."""
        earlier: dict[str, Any] = {}
        for name, value in self.described(limits=False).items():
            if name == "task":
                earlier |= {old: self.task_steps if task == self.task else 0 for old, task in _EARLIER_STEPS.items()}
            elif name != "task_steps" and (name, value) != ("pretrained", None):
                earlier[name] = value
        return earlier

    def override(self, **fields: Any) -> FitConfig:
        """Return the same settings with some fields changed, and check them again.

        Raises
        ------
        ConfigError
            A field is unknown, or a value is out of range.
        """
        return type(self)(**{**self.model_dump(), **fields}) if fields else self


def _translated(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the settings of earlier versions by those of this one."""
    current = {name: value for name, value in fields.items() if name not in _EARLIER_STEPS}
    earlier = {task: fields[name] for name, task in _EARLIER_STEPS.items() if name in fields}
    for task, steps in earlier.items():
        if steps:
            current |= {"task": task, "task_steps": steps}
    if len(earlier) == len(_EARLIER_STEPS) and not any(earlier.values()):
        current["task_steps"] = 0
    return current


def _fields_of(cls: type[FitConfig], *roles: str) -> set[str]:
    extras = {name: field.json_schema_extra for name, field in cls.model_fields.items()}
    return {name for name, extra in extras.items() if isinstance(extra, dict) and extra["role"] in roles}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
