"""Values of the command line: numbers, regions, settings, and the image."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_siren.errors import ConfigError, InputError

if TYPE_CHECKING:
    from napari_siren.core.field.tiling import RenderGrid
    from napari_siren.core.result import FitResult
    from napari_siren.core.settings.config import FitConfig
    from napari_siren.io.picture import Picture


def word_or_json(text: str | None) -> Any:
    """Return a number, or the text if it is none."""
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """Parse one number, or several with commas between them. None stays None.

    Raises
    ------
    InputError
        The text is something else.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"{option} {text} is not a number. Give a number, or one for each spatial axis, such as 1,2.5,2.5."
        ) from None


def whole_numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """Parse whole numbers with commas between them. None stays None.

    Raises
    ------
    InputError
        The text is something else.
    """
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"{option} {text} is not valid. Give a whole number for each spatial axis, such as 120,80."
        ) from None


def number_or_auto(option: str, text: str) -> float | Literal["auto"]:
    """Parse a number or the word "auto".

    Raises
    ------
    InputError
        The text is something else.
    """
    try:
        return "auto" if text == "auto" else float(text)
    except ValueError:
        raise InputError(f"{option} {text} is not a number. Give a number, or auto.") from None


def scale_of(option: str, text: str | None) -> float | tuple[float, ...] | None:
    """Parse numbers with commas between them; return a single number as such, for every axis.

    Raises
    ------
    InputError
        The text is something else; see `numbers`.
    """
    values = numbers(option, text)
    return values[0] if values is not None and len(values) == 1 else values


def region(text: str | None) -> list[tuple[float, float]] | None:
    """Parse a region, (start, stop) for each spatial axis: 0:64,32:96.

    Raises
    ------
    InputError
        The text is something else.
    """
    if text is None:
        return None
    try:
        pairs = [part.split(":") for part in text.split(",")]
        return [(float(start), float(stop)) for start, stop in pairs]
    except ValueError:
        raise InputError(
            f"--region {text} is not valid. Give start:stop in pixels for each spatial axis, such as 0:64,32:96."
        ) from None


def settings(pairs: Iterable[str], **options: Any) -> dict[str, Any]:
    """Parse FIELD=VALUE pairs, and add the options other than None.

    A value is read as JSON, or as a plain word if it is not valid JSON.

    Raises
    ------
    ConfigError
        A pair has no equals sign.
    """
    fields: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair} has no equals sign. Write it as FIELD=VALUE, such as hidden_layers=4.")
        fields[name.strip()] = word_or_json(value.strip())
    return fields | {name: value for name, value in options.items() if value is not None}


def choose_config(preset: str | None, file: Path | None, resume: FitResult | None, fields: dict[str, Any]) -> FitConfig:
    """Return the settings of a fit from a preset, a file or an earlier fit, with some fields changed.

    Raises
    ------
    ConfigError
        More than one of the three was given, a setting is invalid, or the earlier fit has already made all its steps.
    """
    from napari_siren.core.restoration.pipeline import steps_before
    from napari_siren.core.settings.config import FitConfig

    if sum(v is not None for v in (preset, file, resume)) > 1:
        raise ConfigError(
            "several of --preset, --config and --resume were given (a resumed fit keeps its settings). "
            "Give one of them, and change single settings with --set FIELD=VALUE."
        )
    if resume is None:
        if file is None:
            return FitConfig.preset(preset or "faithful", **fields)
        return FitConfig.from_file(file).override(**fields)
    config = resume.config.override(**{"max_seconds": None, "target_psnr": None, **fields})
    state = resume.state
    done = 0 if state is None else state.step - steps_before(resume.field, config, resume.provenance)
    if done >= config.max_steps:
        raise ConfigError(
            f"the fit to resume has already made its {done} steps. Increase --max-steps, "
            f"for example --max-steps {2 * done}."
        )
    if state is not None and config.max_seconds is not None and state.seconds >= config.max_seconds:
        raise ConfigError(
            f"the fit to resume has already taken {state.seconds:.1f} s, and --max-seconds includes them. Increase "
            "--max-seconds."
        )
    return config


def check_scale(picture: Picture, scale: float | Sequence[float] | None) -> float | tuple[float, ...]:
    """Check a scale against an image before the fit, and return it for the axes of the fit. None is 1.

    Raises
    ------
    InputError
        The scale is not positive, or not one number for each spatial axis, or the result would not fit into memory.
    """
    from napari_siren.core.field.tiling import RenderGrid
    from napari_siren.core.training.plan import check_size

    scale = picture.fitted(scale)
    axes, shape = picture.frame
    spatial = axes.pick(shape)
    grid = RenderGrid.from_shape(spatial, (1.0,) * len(spatial), scale=scale)
    check_size(grid.shape, picture.array.nbytes / math.prod(spatial))
    return 1.0 if scale is None else scale if isinstance(scale, float) else tuple(scale)


def is_pyramid(path: Path) -> bool:
    """Return whether a file name is that of an OME-Zarr image, which is written block by block."""
    return path.suffix.lower() == ".zarr"


def output_of(
    result: FitResult, grid: RenderGrid, derivative: str | None, out: Path
) -> tuple[str, str, tuple[int, ...]]:
    """Return dtype, axes and shape of a render, to check its file before the work.

    Raises
    ------
    InputError
        The gradient of several channels has one axis too many for the file, or the render would not fit into memory.
    """
    import numpy as np

    from napari_siren.core.training.plan import check_size

    layout = result.field.layout
    dtype, axes, shape = "float32" if derivative else layout.dtype, layout.axes, layout.full_shape(grid.shape)
    parts = len(grid.shape) if derivative == "gradient" else 1
    if not is_pyramid(out):
        check_size(grid.shape, parts * layout.channels * np.dtype(dtype).itemsize)
    if derivative == "gradient":
        if axes.channel is not None and out.suffix.lower() != ".npy":
            raise InputError(
                "the gradient of several channels has two non-spatial axes, and only a .npy file can hold them. "
                "Choose a .npy file, or --derivative gradient_magnitude."
            )
        return dtype, f"C{axes}", (parts, *shape)
    return dtype, axes, shape
