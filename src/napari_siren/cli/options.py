"""What the words on the command line mean: numbers, regions, settings, and the image they are about."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_siren.errors import ConfigError, InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from napari_siren.core.config import FitConfig
    from napari_siren.core.field.tiling import RenderGrid
    from napari_siren.core.result import FitResult
    from napari_siren.io.images import Picture


def open_picture(image: Path | None, sample: bool, axes: str | None, spacing: str | None, level: int = 0) -> Picture:
    """Read the image (of OME-Zarr, a level), or the sample; axes and spacing that were given count more than its own.

    Raises
    ------
    InputError
        Neither or both were given, or the image cannot be used.
    """
    from napari_siren.core.image.axes import guess_axes
    from napari_siren.io.images import open_zarr, read_image, sample_path

    if (image is None) != sample:
        raise InputError("give the file of an image, or --sample for the one that comes with the package.")
    path = sample_path() if image is None else image
    picture = open_zarr(path, axes, level) if level else read_image(path, axes)
    given = numbers("--spacing", spacing)
    # What is given on the command line has no unit that we know of, unless the file tells one.
    return replace(picture, axes=picture.axes or guess_axes(picture.array.shape), spacing=given or picture.spacing)


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """Read one number, or several with commas between them; None stays None.

    Raises
    ------
    InputError
        It is something else.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} {text}: give a number, or one for each spatial axis, such as 1,2.5,2.5.") from None


def whole_numbers(option: str, text: str | None) -> tuple[int, ...] | None:
    """Read whole numbers with commas between them; None stays None.

    Raises
    ------
    InputError
        It is something else.
    """
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{option} {text}: give a whole number for each spatial axis, such as 120,80.") from None


def number_or_auto(option: str, text: str) -> float | Literal["auto"]:
    """Read a number, or the word that leaves it to the program.

    Raises
    ------
    InputError
        It is something else.
    """
    try:
        return "auto" if text == "auto" else float(text)
    except ValueError:
        raise InputError(f"{option} {text}: give a number, or auto.") from None


def open_mask(path: Path) -> npt.NDArray[np.bool_]:
    """Read a mask: True where an image is not 0, in any of its colours, alpha left out.

    Raises
    ------
    InputError
        The file cannot be read as an image.
    """
    import numpy as np

    from napari_siren.core.image.axes import guess_axes
    from napari_siren.io.images import read_image

    picture = read_image(path)
    marked: npt.NDArray[np.bool_] = picture.array != 0
    if (picture.axes or guess_axes(marked.shape)).endswith("C"):
        marked = np.any(marked[..., :3], axis=-1, keepdims=False)
    return marked


def scale_of(option: str, text: str | None) -> float | tuple[float, ...] | None:
    """Read numbers of which a single one stands for every axis.

    Raises
    ------
    InputError
        See `numbers`.
    """
    values = numbers(option, text)
    return values[0] if values is not None and len(values) == 1 else values


def region(text: str | None) -> list[tuple[float, float]] | None:
    """Read a region, (start, stop) for each spatial axis: 0:64,32:96.

    Raises
    ------
    InputError
        It is something else.
    """
    if text is None:
        return None
    try:
        pairs = [part.split(":") for part in text.split(",")]
        return [(float(start), float(stop)) for start, stop in pairs]
    except ValueError:
        raise InputError(
            f"--region {text}: give start:stop in pixels for each spatial axis, such as 0:64,32:96."
        ) from None


def settings(pairs: Iterable[str], **options: Any) -> dict[str, Any]:
    """Read FIELD=VALUE pairs, values as in JSON or plain words, and add the options that are not None.

    Raises
    ------
    ConfigError
        There is no equals sign.
    """
    fields: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set {pair}: write it as FIELD=VALUE, such as hidden_layers=4.")
        try:
            fields[name.strip()] = json.loads(value)
        except ValueError:
            fields[name.strip()] = value.strip()
    return fields | {name: value for name, value in options.items() if value is not None}


def choose_config(preset: str | None, file: Path | None, resume: FitResult | None, fields: dict[str, Any]) -> FitConfig:
    """Return the settings of a fit: of a preset, a file or an earlier fit, with some fields changed.

    Raises
    ------
    ConfigError
        More than one of the three, a setting that cannot be, or an earlier fit that was already at its end.
    """
    from napari_siren.core.config import FitConfig
    from napari_siren.core.restoration.pipeline import steps_before

    if sum(v is not None for v in (preset, file, resume)) > 1:
        raise ConfigError(
            "give one of --preset, --config and --resume (a resumed fit keeps its settings). "
            "Single settings are changed with --set FIELD=VALUE."
        )
    if resume is None:
        base = FitConfig.preset(preset or "faithful") if file is None else FitConfig.from_file(file)
        return base.override(**fields)
    config = resume.config.override(**{"max_seconds": None, "target_psnr": None, **fields})
    state = resume.state
    done = 0 if state is None else state.step - steps_before(resume.field, config)
    if done >= config.max_steps:
        raise ConfigError(
            f"the fit to resume has already made its {done} steps. Ask for more with --max-steps, "
            f"for example --max-steps {2 * done}."
        )
    if state is not None and config.max_seconds is not None and state.seconds >= config.max_seconds:
        raise ConfigError(
            f"the fit to resume has already taken {state.seconds:.1f} s, and --max-seconds counts them. Ask for more."
        )
    return config


def check_scale(picture: Picture, text: str) -> float | tuple[float, ...]:
    """Read a scale, and check it against an image before the fit.

    Raises
    ------
    InputError
        It is not a number, not positive, or not one for each spatial axis, or the result would not fit into memory.
    """
    from napari_siren.core.field.tiling import RenderGrid
    from napari_siren.core.training.plan import check_size

    scale = scale_of("--scale", text)
    spatial = [n for axis, n in zip(*picture.frame, strict=True) if axis != "C"]
    grid = RenderGrid.of(spatial, (1.0,) * len(spatial), scale=scale)
    check_size(grid.shape, picture.array.nbytes / math.prod(spatial))
    return 1.0 if scale is None else scale


def grid_of(result: FitResult, **where: Any) -> RenderGrid:
    """Return the grid of a render: scale, shape, spacing and region as in `FitResult.render`.

    Raises
    ------
    InputError
        They cannot be used.
    """
    from napari_siren.core.field.tiling import RenderGrid

    layout = result.field.format
    return RenderGrid.of(layout.spatial_shape, layout.spacing, **where)


def output_of(
    result: FitResult, grid: RenderGrid, derivative: str | None, out: Path
) -> tuple[str, str, tuple[int, ...]]:
    """Return dtype, axes and shape of a render, so that its file can be checked before the work.

    Raises
    ------
    InputError
        The gradient of several channels has an axis more than a picture can have, or the render would not fit into
        memory.
    """
    import numpy as np

    from napari_siren.core.training.plan import check_size

    layout = result.field.format
    dtype, axes, shape = "float32" if derivative else layout.dtype, layout.axes, list(grid.shape)
    parts = len(shape) if derivative == "gradient" else 1
    check_size(grid.shape, parts * layout.channels * np.dtype(dtype).itemsize)
    if layout.channel_axis is not None:
        shape.insert(layout.channel_axis, layout.channels)
    if derivative == "gradient":
        if "C" in axes and out.suffix.lower() != ".npy":
            raise InputError(
                "the gradient of several channels has two axes beside space, which only a .npy file holds. "
                "Choose such a name, or --derivative gradient_magnitude."
            )
        axes, shape = f"C{axes}", [len(grid.shape), *shape]
    return dtype, axes, tuple(shape)
