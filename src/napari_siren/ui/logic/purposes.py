"""`PURPOSES`: what people want to do with an image, with the preset and the settings for it. No Qt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal

from napari_siren.core.settings.config import FitConfig
from napari_siren.core.settings.presets import PresetName

PurposeName = Literal["enlarge", "denoise", "deblur", "isotropic", "burst", "memorise"]


def _file(name: str) -> str:
    """Return the path of weights of this package."""
    return str(files("napari_siren") / "weights" / f"{name}.safetensors")


@dataclass(frozen=True)
class Purpose:
    """A purpose of a fit.

    Parameters
    ----------
    name
        Name in the code.
    title
        Name in the panel, and text of its button.
    sentence
        Description in one sentence.
    preset
        Preset for it.
    label
        Word in the names of the result layers.
    settings
        Names of the settings that the panel shows beside the purpose.
    enlarges
        Whether the scale matters.
    uses_slices
        Whether several slices or frames are needed.
    variants
        Settings to try side by side: a name and values of settings for each.
    """

    name: PurposeName
    title: str
    sentence: str
    preset: PresetName
    label: str = ""
    settings: tuple[str, ...] = ()
    enlarges: bool = True
    uses_slices: bool = False
    variants: tuple[tuple[str, Mapping[str, Any]], ...] = ()


PURPOSES: tuple[Purpose, ...] = (
    Purpose(
        "enlarge",
        "Enlarge",
        "Makes the image larger and sharper.",
        "upscale",
        "enlarged",
        ("pretrained",),
        variants=(
            ("for clean images", {"pretrained": _file("enlarge"), "adapt": "off"}),
            ("for noisy images", {"pretrained": _file("robust"), "adapt": "off"}),
        ),
    ),
    Purpose(
        "denoise",
        "Remove noise",
        "Removes the noise of the camera and keeps the details.",
        "denoise",
        "denoised",
        ("pretrained", "camera_gain", "camera_offset", "read_noise"),
        enlarges=False,
        variants=(
            ("for photographs", {"pretrained": "general"}),
            ("for micrographs", {"pretrained": "microscope"}),
        ),
    ),
    Purpose(
        "deblur",
        "Remove blur",
        "Removes the blur of the microscope (deconvolution).",
        "deblur",
        "deblurred",
        ("psf_width",),
        variants=(
            ("estimated width", {"psf_width": "auto"}),
            ("width of 2 pixels", {"psf_width": 2.0}),
            ("width of 4 pixels", {"psf_width": 4.0}),
        ),
    ),
    Purpose(
        "isotropic",
        "Make a stack isotropic",
        "Makes a stack as fine between its slices as within them.",
        "upscale",
        "isotropic",
        ("task_steps",),
        uses_slices=True,
    ),
    Purpose(
        "burst",
        "Join a burst",
        "Joins the frames of one scene, each shifted a little, into one sharper image.",
        "burst",
        "joined",
        uses_slices=True,
    ),
    Purpose(
        "memorise",
        "Memorise (SIREN)",
        "Fits networks that reproduce the pixels as closely as possible.",
        "faithful",
        settings=("max_steps", "max_seconds"),
    ),
)


def purpose_of(name: str) -> Purpose:
    """Return the purpose of a name, or raise KeyError if there is none."""
    return {purpose.name: purpose for purpose in PURPOSES}[name]  # type: ignore[index]


def purpose_for(preset: str, isotropic: bool = False) -> Purpose:
    """Return the purpose to which a preset belongs. The presets without one of their own memorise the image."""
    if preset == "upscale" and isotropic:
        return purpose_of("isotropic")
    return next((purpose for purpose in PURPOSES if purpose.preset == preset), purpose_of("memorise"))


def result_label(config: FitConfig, scale: str, isotropic: bool = False) -> str:
    """Return the text in brackets in the name of a result layer.

    Parameters
    ----------
    config
        Settings of the fit.
    scale
        Label of the scale, such as x2.
    isotropic
        Whether the result has cubic voxels.

    Examples
    --------
    >>> from napari_siren import FitConfig
    >>> result_label(FitConfig.preset("upscale"), "x4"), result_label(FitConfig.preset("denoise"), "x1")
    ('enlarged x4', 'denoised')
    """
    purpose = purpose_for(config.name, isotropic)
    parts = [purpose.label, scale if purpose.enlarges and (scale != "x1" or not purpose.label) else ""]
    return " ".join(part for part in parts if part)
