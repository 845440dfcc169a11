"""`napari-siren upscale`, `denoise`, `deblur`, `isotropic`: an image to a better image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import typer

import napari_siren
from napari_siren.cli import flags
from napari_siren.cli.flags import FitFlags, ImageFlags, ObjectiveFlags, with_flags
from napari_siren.core.presets import preset_help

_Uncertainty = Annotated[
    Path | None,
    typer.Option("--uncertainty", metavar="FILE", help="Also write the expected error of each pixel: .tif or .npy."),
]


@dataclass(frozen=True)
class OutputFlags:
    """The options for the file of a result."""

    out: flags.Out = None
    overwrite: flags.Overwrite = False
    quiet: flags.Quiet = False


@with_flags
def upscale(
    image: flags.Image,
    output: OutputFlags,
    scale: flags.Scale = "2",
    preset: Annotated[str, flags.PRESETS, typer.Option(help=preset_help("upscale"))] = "upscale",
    source: ImageFlags = ImageFlags(),  # noqa: B008 - immutable
    fitting: FitFlags = FitFlags(),  # noqa: B008
    level: Annotated[int, typer.Option(help="Level of a pyramid (OME-Zarr, TIFF); 0 is the finest.")] = 0,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run (OME-Zarr results only).")] = True,
    uncertainty: _Uncertainty = None,
) -> None:
    """Enlarge an image, and write it.

    An OME-Zarr result is computed block by block. The image may then be larger than the memory.
    An interrupted run continues when the command is repeated.
    """
    from napari_siren.cli import files, options
    from napari_siren.reporting.fit_report import scale_name

    word = scale_name(options.numbers("--scale", scale) or ())
    out = files.default_file(image, word) if output.out is None else output.out
    needs_all = uncertainty is not None or source.fill_nan or source.scene is not None or fitting.config is not None
    in_memory = needs_all or files.is_stream(image)
    if out is not None and options.is_pyramid(out) and not in_memory:
        _by_blocks(image, out, scale, preset, source, fitting, level, resume, output)
        return
    _restore(image, output, preset, scale, source, fitting, word, level, uncertainty)


@with_flags
def denoise(
    image: flags.Image,
    output: OutputFlags,
    source: ImageFlags = ImageFlags(),  # noqa: B008
    fitting: FitFlags = FitFlags(),  # noqa: B008
) -> None:
    """Remove the noise of an image, and write it in the same size."""
    _restore(image, output, "denoise", "1", source, fitting, "denoised")


@with_flags
def deblur(
    image: flags.Image,
    output: OutputFlags,
    source: ImageFlags = ImageFlags(),  # noqa: B008
    fitting: FitFlags = FitFlags(),  # noqa: B008
    objective: ObjectiveFlags = ObjectiveFlags(),  # noqa: B008
) -> None:
    """Remove the blur of an image, and write it in the same size.

    The blur is --psf FILE, that of the --bead FILE, a Gaussian of --psf-width, or computed for an objective. Without
    them it is estimated from the image.
    """
    _restore(image, output, "deblur", "1", source, fitting, "deblurred", objective=objective)


@with_flags
def isotropic(
    image: flags.Image,
    output: OutputFlags,
    source: ImageFlags = ImageFlags(),  # noqa: B008
    fitting: FitFlags = FitFlags(),  # noqa: B008
) -> None:
    """Make the voxels of a stack cubic, and write it. The new pixel size is the smallest one of the stack."""
    _restore(image, output, "upscale", None, source, fitting, "isotropic")


def _restore(
    image: Path,
    output: OutputFlags,
    preset: str,
    scale: str | None,
    source: ImageFlags,
    fitting: FitFlags,
    word: str,
    level: int = 0,
    uncertainty: Path | None = None,
    objective: ObjectiveFlags = ObjectiveFlags(),  # noqa: B008
) -> None:
    """Fit an image, and write its render. Without a scale, the voxels of the render are cubes."""
    from napari_siren.cli import bars, files, options, tables
    from napari_siren.core.config import FitConfig, detail_for
    from napari_siren.core.fit import fit_iter
    from napari_siren.core.image.axes import cubic_scale
    from napari_siren.io import images as sources

    picture = files.open_picture(image, source, level=level)
    names, shape = picture.frame
    task = FitConfig.preset(cast(Any, preset)).restoration
    if task is not None and task.along_time and sorted(picture.axes or "") in (sorted("TYX"), sorted("TYXC")):
        # A film of planes is restored as a whole.
        assert picture.axes is not None
        names, shape = picture.axes, picture.array.shape
    wanted = cubic_scale(picture.spacing, names) if scale is None else options.scale_of("--scale", scale)
    factor = options.check_scale(picture, wanted)
    with files.output_file(output.out, image, picture, word) as out:
        files.check_replaced(out, output.overwrite)
        sources.check_target(out, picture.array.dtype, names, shape)
        if uncertainty is not None:
            files.check_replaced(uncertainty, output.overwrite)
            sources.check_target(uncertainty, "float32", names, shape)
        fields = {"detail": detail_for(factor), **fitting.settings()}
        fields |= objective.settings(picture, fields)
        chosen = options.choose_config(None if fitting.config else preset, fitting.config, None, fields)
        steps = fit_iter(**picture.fit_arguments(), config=chosen, device=fitting.device, seed=fitting.seed)
        tables.show_expectation(picture, chosen, fitting.device, output.quiet)
        result = bars.follow(steps, output.quiet)
        rendered, steps_of_axes = result.render(scale=factor), result.grid(scale=factor).step
        coordinates = result.field.layout.axes.coordinates
        # The distance of frames is not changed.
        step = tuple(s for s, letter in zip(steps_of_axes, coordinates, strict=True) if letter != "T")
        sources.write_picture(out, picture.resampled(rendered, names, step))
        shown = not output.quiet and not files.is_stream(output.out)
        if shown:
            tables.show_file(out, rendered.shape)
    if uncertainty is not None:
        expected = result.uncertainty(factor)
        sources.write_picture(uncertainty, picture.as_map().resampled(expected, names, step))
        if shown:
            tables.show_file(uncertainty, expected.shape)
    bars.end(result)


def _by_blocks(
    image: Path,
    out: Path,
    scale: str,
    preset: str,
    source: ImageFlags,
    fitting: FitFlags,
    level: int,
    resume: bool,
    output: OutputFlags,
) -> None:
    from napari_siren.cli import bars, options, tables

    given: dict[str, Any] = {"axes": source.axes, "spacing": options.scale_of("--spacing", source.spacing)}
    given |= {"preset": preset, "device": fitting.device, "seed": fitting.seed, **fitting.settings()}
    given |= {"level": level, "resume": resume, "overwrite": output.overwrite}
    with bars.BlockBar(output.quiet) as bar:
        factor = options.scale_of("--scale", scale) or 1.0
        written = napari_siren.fit_blocks(image, out, factor, on_progress=bar.show, **given)
    if not output.quiet:
        tables.show_blocks(written)
