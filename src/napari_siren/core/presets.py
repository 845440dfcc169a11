"""`PRESETS`: the named settings of a fit, with what help texts, tooltips and documentation say of them.

This is the only list of presets. The manifest of the plugin and the documentation are tested against it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

PresetName = Literal["faithful", "upscale", "denoise", "deblur", "burst", "fast", "paper"]


@dataclass(frozen=True)
class Preset:
    """A set of settings with a name.

    Parameters
    ----------
    name
        What users type.
    summary
        What it does, a verb first, in a few words.
    tip
        What it is for, in sentences, for tooltips.
    fields
        Values of `FitConfig` that differ from its defaults.
    """

    name: PresetName
    summary: str
    tip: str
    fields: Mapping[str, Any] = field(default_factory=dict)


PRESETS: tuple[Preset, ...] = (
    Preset(
        "faithful",
        "memorises the image",
        "Memorises the image as closely as it can.",
    ),
    Preset(
        "upscale",
        "finds what the image is a blurred sample of",
        "Fits what the image is a blurred sample of: the sharpest upscaled layer.",
        {
            "hidden_features": 32,
            "hidden_layers": 4,
            "parameters_per_value": 2.0,
            "overlap": 2.0,
            "observation": "bicubic",
            "cross_scale_steps": 2000,
            "pixels_per_step": "all",
            "total_variation": "auto",
            "muon_learning_rate": 0.1,
            "max_steps": 200,
        },
    ),
    Preset(
        "denoise",
        "takes the noise out",
        "Fits what the image is without its noise, learned from the image alone.",
        {
            "hidden_features": 32,
            "hidden_layers": 4,
            "parameters_per_value": 1.0,
            "blind_spot_steps": 1500,
            "pixels_per_step": "all",
            "muon_learning_rate": 0.1,
            "max_steps": 200,
        },
    ),
    Preset(
        "deblur",
        "takes the blur out",
        "Takes the microscope's blur out (deconvolution). Its width is estimated from the image; if you know it, set "
        "“psf width” in the advanced settings.",
        {
            "hidden_features": 32,
            "hidden_layers": 4,
            "parameters_per_value": 2.0,
            "observation": "gaussian",
            "psf_width": "auto",
            "deconvolution_steps": 150,
            "pixels_per_step": "all",
            "muon_learning_rate": 0.1,
            "max_steps": 200,
        },
    ),
    Preset(
        "burst",
        "joins frames, along the axis T",
        "Joins the frames of a time series that show the same scene, a little shifted, to one sharper image. The layer "
        "needs an axis labelled t, and the extent has to be the whole stack.",
        {
            "hidden_features": 32,
            "hidden_layers": 4,
            "parameters_per_value": 2.0,
            "overlap": 2.0,
            "observation": "box",
            "burst_steps": 300,
            "pixels_per_step": "all",
            "muon_learning_rate": 0.1,
            "max_steps": 200,
        },
    ),
    Preset(
        "fast",
        "previews",
        "A preview in a few seconds.",
        {
            "max_steps": 60,
            "muon_learning_rate": 0.18,
            "weight_scale": 1.0,
        },
    ),
    Preset(
        "paper",
        "is the network of the SIREN paper, slow",
        "The network of the SIREN paper: one of 5 × 256, 15,000 steps. Slow.",
        {
            "tile": "whole",
            "hidden_layers": 5,
            "hidden_features": 256,
            "coordinates": "unit",
            "omega_0": 30.0,
            "standardise": False,
            "weight_scale": 1.0,
            "optimizer": "adam",
            "learning_rate": 1e-4,
            "beta2": 0.999,
            "schedule": "constant",
            "averaging": 0.0,
            "pixels_per_step": "all",
            "max_steps": 15000,
            "value_range": "full",
        },
    ),
)
PRESET_NAMES: tuple[PresetName, ...] = get_args(PresetName)


def preset_of(name: str) -> Preset:
    """Return the preset of a name; KeyError if there is none."""
    return {preset.name: preset for preset in PRESETS}[name]  # type: ignore[index]


def preset_help(first: str, without: Sequence[str] = ()) -> str:
    """Return a line for the help of an option: every preset with its summary, the default first.

    Parameters
    ----------
    first
        The default.
    without
        Presets that the command has no use for.
    """
    ordered = sorted((p for p in PRESETS if p.name not in without), key=lambda preset: preset.name != first)
    return "; ".join(f"{preset.name} {preset.summary}" for preset in ordered) + "."
