"""`napari-siren batch`: many images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from napari_siren.cli import flags
from napari_siren.cli.flags import SettingFlags, with_flags
from napari_siren.core.settings.presets import preset_help
from napari_siren.io.formats import FORMATS

_FORMATS = ("auto", *(name for name, entry in FORMATS.items() if entry.for_batches))


@with_flags
def batch(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Files, folders, or 'patterns/**/*.tif'.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results and the report.")],
    scale: flags.Scale = "2",
    preset: Annotated[str, flags.PRESETS, typer.Option(help=preset_help("upscale"))] = "upscale",
    axes: flags.Axes = None,
    spacing: flags.Spacing = None,
    fill_nan: flags.FillNan = False,
    fitting: SettingFlags = SettingFlags(),  # noqa: B008 - immutable
    frames: Annotated[
        str,
        flags.Choice(("whole", "each")),
        typer.Option(help="each: fit a time series frame by frame."),
    ] = "whole",
    format: Annotated[str, flags.Choice(_FORMATS), typer.Option(help="Format of the results.")] = "auto",
    scheduler: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Dask scheduler: tcp://host:8786.")] = None,
    workers: Annotated[int | None, typer.Option(help="Number of local processes. Default: automatic.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for a worker of the scheduler.")] = 30.0,
    resume: Annotated[bool, typer.Option(help="Skip images that were done with the same settings.")] = True,
    overwrite: flags.Overwrite = False,
    warm_start: Annotated[bool, typer.Option(help="Start from the model of the first similar image.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the images to do.")] = False,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Upscale many images on all cores or on a cluster, and write a report with pictures.

    The results are the upscaled images, a manifest and the report.
    An interrupted batch continues when the command is repeated. The exit status is 1 if an image failed.
    """
    from napari_siren.batch.run import fit_batch
    from napari_siren.cli import bars, options, tables

    with bars.BatchBars(quiet or dry_run) as bar:
        report = fit_batch(
            inputs,
            out,
            options.scale_of("--scale", scale) or 1.0,
            preset=cast(Any, preset),
            axes=axes,
            spacing=options.scale_of("--spacing", spacing),
            fill_nan=fill_nan,
            frames=cast(Any, frames),
            format=cast(Any, format),
            scheduler=scheduler,
            workers=workers,
            wait=wait,
            device=fitting.device,
            seed=fitting.seed,
            resume=resume,
            overwrite=overwrite,
            dry_run=dry_run,
            warm_start=warm_start,
            on_progress=bar.show,
            **cast(Any, fitting.settings()),
        )
    if json:
        tables.print_json(tables.batch_as_json(report))
    elif not quiet:
        tables.show_batch(report)
    if not report.ok:
        raise typer.Exit(1)
