"""The options that several commands share: `ImageFlags`, `FitFlags`. `with_flags` adds them to a command."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum, StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args, get_type_hints

import typer

from napari_siren.core.settings.presets import PRESET_NAMES
from napari_siren.core.settings.tasks import ObservationName
from napari_siren.errors import ConfigError, InputError

if TYPE_CHECKING:
    from napari_siren.io.picture import Picture


@dataclass(frozen=True)
class Choice:
    """The possible words of an option, in the annotation of a parameter of a command with `with_flags`."""

    names: tuple[str, ...]


PRESETS = Choice(PRESET_NAMES)

Scale = Annotated[
    str,
    typer.Option("--scale", "-s", help="Output pixels per pixel: a number, or one for each spatial axis, as 1,4,4."),
]
Image = Annotated[
    Path, typer.Argument(metavar="IMAGE", help="Image file: TIFF, OME-Zarr, PNG, JPEG, …; - is standard input.")
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="Output file: .png, .tif, .jpg, .npy or .ome.zarr; - is standard output. Default: beside the image.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and notes only.")]
Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON on standard output.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite/--no-overwrite", help="Replace existing results. Otherwise they are an error.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
Seed = Annotated[int, typer.Option(help="Seed of the random initialisation.")]
Axes = Annotated[str | None, typer.Option(help="One letter of T, Z, Y, X, C for each axis. Default: from the file.")]
Spacing = Annotated[
    str | None,
    typer.Option(help="Pixel size: a number, or one for each spatial axis, as 0.4,0.1,0.1. Default: from the file."),
]
FillNan = Annotated[bool, typer.Option("--fill-nan", help="Fill in NaN and infinite values as missing pixels.")]


@dataclass(frozen=True)
class ImageFlags:
    """The options for the image of a command. A field without a help text is described at its type."""

    axes: Axes = None
    spacing: Spacing = None
    scene: Annotated[str | None, typer.Option(help="Name or number of an image in the file. Default: the first.")] = (
        None
    )
    fill_nan: FillNan = False


@dataclass(frozen=True)
class SettingFlags:
    """The options for the settings of fits."""

    panel: ClassVar[str] = "Settings of the fit"

    max_seconds: Annotated[float | None, typer.Option(help="Time limit in seconds.")] = None
    max_steps: Annotated[int | None, typer.Option(help="Number of steps.")] = None
    target_psnr: Annotated[float | None, typer.Option(help="Stop at this PSNR in dB.")] = None
    pretrained: Annotated[
        str | None, typer.Option(metavar="NAME", help="general, microscope, auto, none, or a file of weights.")
    ] = None
    adapt: Annotated[
        str | None, typer.Option(metavar="STEPS", help="Adaptation of pretrained networks: auto, off or a number.")
    ] = None
    representation: Annotated[
        str | None,
        Choice(("auto", "samples", "tiles")),
        typer.Option(help="Representation of a restored image."),
    ] = None
    observation: Annotated[
        str | None,
        Choice(get_args(ObservationName)),
        typer.Option(help="Model of how a pixel is measured."),
    ] = None
    psf_width: Annotated[
        str | None, typer.Option(metavar="WIDTH", help="Full width at half maximum of the blur, or auto.")
    ] = None
    psf: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Image of the blur: a PSF with its point in the middle.")
    ] = None
    bead: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Image of a bead, which is made into the PSF of the blur.")
    ] = None
    camera_gain: Annotated[str | None, typer.Option(help="Increase of a value for each photon, or auto.")] = None
    camera_offset: Annotated[float | None, typer.Option(help="Value of a pixel without light.")] = None
    read_noise: Annotated[float | None, typer.Option(help="Standard deviation of a pixel without light.")] = None
    threads: Annotated[int | None, typer.Option(help="Number of threads. Default: all cores.")] = None
    max_memory: Annotated[int | None, typer.Option(help="Largest working set in bytes.")] = None
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change any setting. Repeatable.")
    ] = None
    device: Device = "auto"
    seed: Seed = 0

    def settings(self) -> dict[str, Any]:
        """Return the changed settings, by their names."""
        from napari_siren.cli import files, options
        from napari_siren.core.blur.bead import psf_from_bead

        words = {"adapt": self.adapt, "camera_gain": self.camera_gain}
        names = ("max_seconds", "max_steps", "target_psnr", "pretrained", "representation", "observation")
        numbers = ("camera_offset", "read_noise", "threads", "max_memory")
        values = {name: getattr(self, name) for name in (*names, *numbers)}
        values |= {name: None if word is None else options.word_or_json(word) for name, word in words.items()}
        if self.psf_width is not None:
            auto = self.psf_width == "auto"
            values["psf_width"] = "auto" if auto else options.scale_of("--psf-width", self.psf_width)
        if self.psf is not None and self.bead is not None:
            raise ConfigError("both --psf and --bead were given. Give one of them.")
        if self.psf is not None:
            values["psf"] = files.open_psf(self.psf)
        if self.bead is not None:
            values["psf"] = psf_from_bead(files.open_psf(self.bead))
        return options.settings(self.changes or (), **values)


@dataclass(frozen=True)
class FitFlags(SettingFlags):
    """The options for the settings of one fit."""

    config: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Settings from a file, instead of a preset.")
    ] = None


@dataclass(frozen=True)
class ObjectiveFlags:
    """The options for the computed PSF of an objective."""

    panel: ClassVar[str] = "Objective"

    numerical_aperture: Annotated[
        float | None, typer.Option(metavar="NA", help="Numerical aperture, such as 1.4. The PSF is then computed.")
    ] = None
    wavelength: Annotated[
        float | None,
        typer.Option(help="Wavelength of the light in the unit of the pixel size, such as 0.52 for pixels in µm."),
    ] = None
    refractive_index: Annotated[
        float | None, typer.Option(help="Of the immersion: 1 for air, 1.33 for water, 1.515 for oil.")
    ] = None
    confocal: Annotated[
        bool, typer.Option("--confocal", help="Confocal microscope, with a pinhole of one Airy unit.")
    ] = False

    def settings(self, picture: Picture, chosen: Iterable[str]) -> dict[str, Any]:
        """Return the computed PSF as a setting, or nothing without these options.

        Parameters
        ----------
        picture
            The image, with its pixel size.
        chosen
            Names of the settings that other options change.

        Raises
        ------
        ConfigError
            Some options are missing, or others describe the blur as well.
        InputError
            The pixel size is not known, or a number is out of range.
        """
        from napari_siren.core.blur.objective import psf_from_objective

        numbers = (self.numerical_aperture, self.wavelength, self.refractive_index)
        if numbers == (None, None, None) and not self.confocal:
            return {}
        aperture, wavelength, index = numbers
        if aperture is None or wavelength is None or index is None:
            raise ConfigError(
                "a computed PSF needs three numbers. Give --numerical-aperture, --wavelength and --refractive-index."
            )
        if {"psf", "psf_width"} & set(chosen):
            raise ConfigError(
                "the blur was described twice. Give the objective, or one of --psf, --bead and --psf-width."
            )
        if picture.spacing is None or picture.details.guessed:
            raise InputError(f"the pixel size of {picture.path} is not known. Give it with --spacing.")
        psf = psf_from_objective(
            picture.spacing,
            numerical_aperture=aperture,
            wavelength=wavelength,
            refractive_index=index,
            confocal=self.confocal,
        )
        return {"psf": psf}


def with_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command with options for Typer.

    Typer reads the options of a command from its signature. A parameter with a dataclass as type is replaced by the
    fields of the dataclass. The type of a parameter with a `Choice` becomes an enumeration.
    """
    groups: dict[str, Any] = {}
    parameters: list[inspect.Parameter] = []
    hints = get_type_hints(command, include_extras=True)
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        if is_dataclass(kind):
            groups[parameter.name], own = kind, get_type_hints(kind, include_extras=True)
            panel = getattr(kind, "panel", None)
            parameters += [_parameter(field.name, own[field.name], field.default, panel) for field in fields(kind)]
        else:
            parameters.append(_parameter(parameter.name, kind, parameter.default))

    @wraps(command)
    def run(**values: Any) -> Any:
        values = {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}
        for name, kind in groups.items():
            values[name] = kind(**{field.name: values.pop(field.name) for field in fields(kind)})
        return command(**values)

    signature: Any = run
    signature.__signature__ = inspect.Signature(parameters)
    signature.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameter(name: str, kind: Any, default: Any, panel: str | None = None) -> inspect.Parameter:
    """Return a keyword-only parameter, in a panel of the help, with an enumeration as type if it has a `Choice`."""
    base, *extras = get_args(kind) if hasattr(kind, "__metadata__") else (kind,)
    if panel is not None:
        # Other commands may have the same option in another panel.
        extras[-1] = copy(extras[-1])
        extras[-1].rich_help_panel = panel
        kind = Annotated[(base, *extras)]
    choice = next((extra for extra in extras if isinstance(extra, Choice)), None)
    if choice is not None:
        words: Any = StrEnum(name, {word: word for word in choice.names})  # type: ignore[misc]
        typed: Any = words | None if type(None) in get_args(base) else words
        kind = Annotated[(typed, *(extra for extra in extras if extra is not choice))]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
