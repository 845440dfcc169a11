"""`PRESETS`: the named settings of a fit, with their descriptions for help texts, tooltips and documentation.

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
        Name of the preset, as users type it.
    summary
        Effect of the preset in a few words, beginning with a verb.
    tip
        Purpose of the preset in full sentences, for tooltips.
    fields
        Fields of `FitConfig` whose values differ from the defaults, with these values.
    """

    name: PresetName
    summary: str
    tip: str
    fields: Mapping[str, Any] = field(default_factory=dict)


PRESETS: tuple[Preset, ...] = (
    Preset(
        "faithful",
        "memorises the image",
        "Memorises the image: reproduces its pixels as closely as possible.",
    ),
    Preset(
        "upscale",
        "sharpens the image and increases its resolution",
        "Estimates the scene that the image is a blurred sample of. This results in the sharpest upscaled layer.",
        {
            "hidden_features": 32,
            "hidden_layers": 4,
            "parameters_per_value": 2.0,
            "overlap": 2.0,
            "observation": "bicubic",
            "task": "super-resolution",
            "task_steps": 2000,
            "pixels_per_step": "all",
            "total_variation": "auto",
            "muon_learning_rate": 0.1,
            "max_steps": 200,
        },
    ),
    Preset(
        "denoise",
        "removes the noise",
        "Removes the noise of the camera. The noise is estimated from the image.",
        {
            "hidden_features": 32,
            "hidden_layers": 4,
            "parameters_per_value": 1.0,
            "task": "denoise",
            "task_steps": 1500,
            "pixels_per_step": "all",
            "muon_learning_rate": 0.1,
            "max_steps": 200,
        },
    ),
    Preset(
        "deblur",
        "removes the blur",
        "Removes the microscope's blur (deconvolution). The width of the blur is estimated from the image. If you know "
        "it, set the width of the blur.",
        {
            "hidden_features": 32,
            "hidden_layers": 4,
            "parameters_per_value": 2.0,
            "observation": "gaussian",
            "psf_width": "auto",
            "task": "deconvolution",
            "task_steps": 150,
            "pixels_per_step": "all",
            "muon_learning_rate": 0.1,
            "max_steps": 200,
        },
    ),
    Preset(
        "burst",
        "combines the frames along the axis T",
        "Combines the frames of a time series into one sharper image. All frames show the same scene, each slightly "
        "shifted. The layer needs an axis labelled t, and the extent must be the whole stack.",
        {
            "hidden_features": 32,
            "hidden_layers": 4,
            "parameters_per_value": 2.0,
            "overlap": 2.0,
            "observation": "box",
            "task": "burst",
            "task_steps": 300,
            "pixels_per_step": "all",
            "muon_learning_rate": 0.1,
            "max_steps": 200,
        },
    ),
    Preset(
        "fast",
        "makes a quick preview",
        "Makes a preview in a few seconds.",
        {
            "max_steps": 60,
            "muon_learning_rate": 0.18,
            "weight_scale": 1.0,
        },
    ),
    Preset(
        "paper",
        "trains the network of the SIREN paper (slow)",
        "Trains the network of the SIREN paper: one network of 5 × 256, 15,000 steps. This is slow.",
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
    """Return the preset of a name, or raise KeyError if there is none."""
    return {preset.name: preset for preset in PRESETS}[name]  # type: ignore[index]


def preset_help(first: str, without: Sequence[str] = ()) -> str:
    """Return a line for the help of an option: every preset with its summary, beginning with the default.

    Parameters
    ----------
    first
        Name of the default preset.
    without
        Names of the presets that the command does not offer.
    """
    ordered = sorted((p for p in PRESETS if p.name not in without), key=lambda preset: preset.name != first)
    return "; ".join(f"{preset.name} {preset.summary}" for preset in ordered) + "."
