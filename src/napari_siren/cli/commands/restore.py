"""`napari-siren upscale`, `denoise`, `deblur`, `isotropic`: an image to a better image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import napari_siren
from napari_siren.cli import flags
from napari_siren.cli.flags import FitFlags, ImageFlags, ObjectiveFlags, with_flags
from napari_siren.core.settings.presets import preset_help

if TYPE_CHECKING:
    import numpy.typing as npt

    from napari_siren.core.result import FitResult
    from napari_siren.core.settings.config import FitConfig
    from napari_siren.io.picture import ImageInfo, Picture

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
    from napari_siren.io.images import inspect_image
    from napari_siren.reporting.fit_report import scale_name

    word = scale_name(options.numbers("--scale", scale) or ())
    out = files.default_file(image, word) if output.out is None else output.out
    needs_all = uncertainty is not None or source.fill_nan or source.scene is not None or fitting.config is not None
    in_memory = needs_all or files.is_stream(image)
    if out is not None and options.is_pyramid(out) and not in_memory:
        info = inspect_image(image, source.axes)
        if not files.is_series(info):
            _by_blocks(image, info, out, scale, preset, source, fitting, level, resume, output)
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
    from napari_siren.cli import files, options, tables
    from napari_siren.core.image.axes import cubic_scale
    from napari_siren.core.series.entries import is_one_by_one
    from napari_siren.core.settings.config import detail_for
    from napari_siren.io import images as sources

    picture = files.open_picture(image, source, level=level)
    wanted = cubic_scale(picture.spacing, picture.frame[0]) if scale is None else options.scale_of("--scale", scale)
    factor = options.check_scale(picture, wanted)
    fields = {"detail": detail_for(factor), **fitting.settings()}
    fields |= objective.settings(picture, fields)
    chosen = options.choose_config(None if fitting.config else preset, fitting.config, None, fields)
    assert picture.axes is not None
    # The frames of a burst are joined. All other results have the frames of the image.
    names, shape = picture.frame if chosen.joins_frames else (picture.axes, picture.array.shape)
    with files.output_file(output.out, image, picture, word, names, shape) as out:
        files.check_replaced(out, output.overwrite)
        sources.check_target(out, picture.array.dtype, names, shape)
        if uncertainty is not None:
            files.check_replaced(uncertainty, output.overwrite)
            sources.check_target(uncertainty, "float32", names, shape)
        fit_all = _fit_frames if is_one_by_one(picture.axes, picture.array.shape, chosen) else _fit_whole
        render = fit_all(picture, chosen, factor, fitting, output.quiet, uncertainty is not None)
        sources.write_picture(out, picture.resampled(render.values, names, render.step))
        shown = not output.quiet and not files.is_stream(output.out)
        if shown:
            tables.show_file(out, render.values.shape)
    if uncertainty is not None and render.errors is not None:
        sources.write_picture(uncertainty, picture.as_map().resampled(render.errors, names, render.step))
        if shown:
            tables.show_file(uncertainty, render.errors.shape)
    render.end()


@dataclass(frozen=True, eq=False)
class _Render:
    """The render of a fit, or of the fits of all frames.

    Parameters
    ----------
    values
        Pixels of the render.
    errors
        Expected error of each pixel, or None.
    step
        Size of its pixels along each spatial axis, in pixels of the image.
    end
        Function that ends the command, with its exit status.
    """

    values: npt.NDArray[Any]
    errors: npt.NDArray[Any] | None
    step: tuple[float, ...]
    end: Callable[[], None]


def _fit_whole(
    picture: Picture, config: FitConfig, scale: Any, fitting: FitFlags, quiet: bool, uncertainty: bool
) -> _Render:
    """Fit an image, and render the result."""
    from napari_siren.cli import bars, tables
    from napari_siren.core.fit import fit_iter

    steps = fit_iter(**picture.fit_arguments(), config=config, device=fitting.device, seed=fitting.seed)
    tables.show_expectation(picture, config, fitting.device, quiet)
    result = bars.follow(steps, quiet)
    tables.show_noise(result, quiet)
    errors = result.uncertainty(scale) if uncertainty else None
    return _Render(result.render(scale=scale), errors, _step_in_space(result, scale), lambda: bars.end(result))


def _fit_frames(
    picture: Picture, config: FitConfig, scale: Any, fitting: FitFlags, quiet: bool, uncertainty: bool
) -> _Render:
    """Fit the frames of a time series one by one, and render each. After Ctrl-C, the last frames are left out."""
    from napari_siren.cli import bars, tables
    from napari_siren.core.field.tiling import RenderGrid
    from napari_siren.core.options import FitOptions
    from napari_siren.core.series.entries import check_series_size, fit_entries, stack_frames

    assert picture.axes is not None
    time = picture.axes.index("T")
    count = picture.array.shape[time]
    errors: list[npt.NDArray[Any]] = []
    steps: list[tuple[float, ...]] = []
    letters, shape = picture.frame
    grid = RenderGrid.from_shape(letters.pick(shape), (1.0,) * len(letters.coordinates), scale=scale)
    check_series_size(count, grid.shape, picture.array.nbytes / count / math.prod(letters.pick(shape)))
    tables.show_series(picture, config, fitting.device, quiet, count)
    with bars.SeriesBar(quiet) as bar:
        same: FitOptions = {"device": fitting.device, "seed": fitting.seed, "on_progress": bar.show}
        entries = (picture.frame_at(index).fit_arguments() for index in range(count))

        def renders() -> Iterator[npt.NDArray[Any]]:
            for result in fit_entries(entries, count, config, same):
                steps.append(_step_in_space(result, scale))
                errors.extend([result.uncertainty(scale)] if uncertainty else [])
                yield result.render(scale=scale)
                if bar.interrupted:
                    return

        values = stack_frames(renders(), count, time)
    done = len(steps)
    stacked = stack_frames(errors, done, time) if uncertainty else None
    return _Render(values, stacked, steps[0], lambda: bars.end_series(done, count))


def _step_in_space(result: FitResult, scale: Any) -> tuple[float, ...]:
    """Return the size of the pixels of a render along each spatial axis. The distance of frames is not changed."""
    axes = result.field.layout.axes.coordinates
    return tuple(s for s, letter in zip(result.grid(scale=scale).step, axes, strict=True) if letter != "T")


def _by_blocks(
    image: Path,
    info: ImageInfo,
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
    from napari_siren.core.settings.config import FitConfig, detail_for

    factor, chosen = options.scale_of("--scale", scale) or 1.0, fitting.settings()
    given: dict[str, Any] = {"axes": source.axes, "spacing": options.scale_of("--spacing", source.spacing)}
    given |= {"preset": preset, "device": fitting.device, "seed": fitting.seed, **chosen}
    given |= {"level": level, "resume": resume, "overwrite": output.overwrite}
    # The size of the other levels is not known here.
    if level == 0 and not out.exists():
        config = FitConfig.preset(preset, **{"detail": detail_for(factor), **chosen})
        tables.show_expectation(info, config, fitting.device, output.quiet)
    with bars.BlockBar(output.quiet) as bar:
        written = napari_siren.fit_blocks(image, out, factor, on_progress=bar.show, **given)
    if not output.quiet:
        tables.show_blocks(written)
