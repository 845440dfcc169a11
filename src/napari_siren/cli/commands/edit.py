"""`napari-siren flatten`, `blend`: edits of gradients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_siren.cli import flags
from napari_siren.cli.commands.restore import OutputFlags
from napari_siren.cli.flags import FitFlags, ImageFlags, with_flags

if TYPE_CHECKING:
    from napari_siren.core.preprocessing.gradients import Preprocessor
    from napari_siren.io.picture import Picture


@with_flags
def flatten(
    image: flags.Image,
    output: OutputFlags,
    below: Annotated[
        str,
        typer.Option(help="Smallest gradient of an edge: relative change per pixel, or per unit of the pixel size."),
    ] = "auto",
    additive: Annotated[
        bool,
        typer.Option("--additive", help="Illumination is added, not multiplied. --below has the units of the image."),
    ] = False,
    source: ImageFlags = ImageFlags(),  # noqa: B008 - immutable
    fitting: FitFlags = FitFlags(),  # noqa: B008
) -> None:
    """Remove uneven illumination from an image, fit a field to the result, and write it."""
    from napari_siren.cli import files, options
    from napari_siren.core.compositing import Flattening

    picture = files.open_picture(image, source)
    flattening = Flattening(options.number_or_auto("--below", below), not additive)
    _write_fitted(image, output, picture, flattening, fitting, "flattened")


@with_flags
def blend(
    picture: Annotated[Path, typer.Argument(help="Picture to insert.", show_default=False)],
    into: Annotated[Path, typer.Argument(help="Image to insert it into.", show_default=False)],
    mask: Annotated[Path, typer.Argument(help="As large as PICTURE. 0 excludes a pixel.", show_default=False)],
    output: OutputFlags,
    at: Annotated[str | None, typer.Option(help="Pixel of INTO for the first pixel of PICTURE: row,column.")] = None,
    mixed: Annotated[bool, typer.Option("--mixed", help="Use the stronger gradient of the two images.")] = False,
    source: ImageFlags = ImageFlags(),  # noqa: B008
    fitting: FitFlags = FitFlags(),  # noqa: B008
) -> None:
    """Insert a part of a picture into an image without a seam, fit a field to the result, and write it."""
    from napari_siren.cli import files, options
    from napari_siren.core.compositing import SeamlessCloning

    inserted, target = (files.open_picture(path, source) for path in (picture, into))
    position = options.whole_numbers("--at", at)
    blending = SeamlessCloning(inserted.array, files.open_mask(mask), position, "mixed" if mixed else "source")
    _write_fitted(into, output, target, blending, fitting, "blended")


def _write_fitted(
    image: Path, output: OutputFlags, picture: Picture, supervision: Preprocessor, fitting: FitFlags, word: str
) -> None:
    """Fit a field to a preprocessed picture, and write its reconstruction."""
    from napari_siren.cli import bars, files, options, tables
    from napari_siren.core.fit import fit_iter
    from napari_siren.io import images as sources

    array, names = picture.array, picture.axes or ""
    with files.output_file(output.out, image, picture, word) as out:
        files.check_replaced(out, output.overwrite)
        sources.check_target(out, array.dtype, names, array.shape)
        chosen = options.choose_config(None, fitting.config, None, fitting.settings())
        settings: dict[str, Any] = {
            "config": chosen,
            "device": fitting.device,
            "seed": fitting.seed,
            "supervision": supervision,
        }
        steps = fit_iter(**picture.fit_arguments(), **settings)
        tables.show_expectation(picture, chosen, fitting.device, output.quiet)
        result = bars.follow(steps, output.quiet)
        sources.write_picture(out, replace(picture, array=result.reconstruction, missing=None))
        if not output.quiet and not files.is_stream(output.out):
            tables.show_file(out, array.shape)
    bars.end(result)
