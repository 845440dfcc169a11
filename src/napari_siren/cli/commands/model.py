"""`napari-siren render`, `info`: a fitted model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from napari_siren.cli import flags
from napari_siren.cli.flags import with_flags

_Model = Annotated[
    Path,
    typer.Argument(metavar="MODEL", help="Model file: a model.safetensors; - is standard input.", show_default=False),
]


@with_flags
def render(
    model: _Model,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Output file: .png, .tif, .jpg, .npy or .ome.zarr; - is standard output."),
    ],
    scale: Annotated[
        str | None, typer.Option("--scale", "-s", help="Output pixels per pixel: a number, or one for each axis.")
    ] = None,
    shape: Annotated[str | None, typer.Option(help="Output pixels along each spatial axis: 512,768.")] = None,
    spacing: Annotated[
        str | None, typer.Option(help="Size of an output pixel: a number, or one for each spatial axis.")
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="start:stop in pixels of the image, for each spatial axis: 0:64,32:96.")
    ] = None,
    derivative: Annotated[
        str | None,
        flags.Choice(("gradient", "gradient_magnitude", "laplacian")),
        typer.Option(help="Exact derivative."),
    ] = None,
    device: flags.Device = "auto",
    overwrite: flags.Overwrite = False,
    quiet: flags.Quiet = False,
) -> None:
    """Render a fitted model, or its exact derivatives, at any resolution. The default is that of the image.

    An OME-Zarr file is written block by block, so that it may be larger than the memory.
    """
    from napari_siren.cli import bars, files, options, tables
    from napari_siren.core.field.lazy_render import LazyRender
    from napari_siren.core.result import load
    from napari_siren.io import images as sources
    from napari_siren.io.picture import suffix_for
    from napari_siren.reporting import fit_report as report

    with files.input_file(model) as path:
        result = load(path, device)
    where: dict[str, Any] = {
        "scale": options.scale_of("--scale", scale),
        "shape": options.numbers("--shape", shape),
        "spacing": options.scale_of("--spacing", spacing),
        "region": options.region(region),
    }
    grid = result.grid(**where)
    dtype, names, size = options.output_of(result, grid, derivative, out)
    with files.result_file(out, suffix_for(dtype, names, size)) as file:
        files.check_replaced(file, overwrite)
        sources.check_target(file, dtype, names, size)
        with bars.one_bar("rendering", quiet) as show:
            kind = cast(Any, derivative)
            if options.is_pyramid(file):
                rendered: Any = LazyRender(result.field, grid, kind, show)
            else:
                rendered = result.field.render(grid, kind, on_progress=show)
            source = report.picture_of(result, rendered, is_map=derivative is not None)
            sources.write_picture(file, source.resampled(rendered, names, grid.step, grid.start))
    if not quiet and not files.is_stream(out):
        tables.show_file(out, size)


@with_flags
def info(model: _Model, json: flags.Json = False) -> None:
    """Print the image, network, metrics and provenance of a fitted model."""
    from napari_siren.cli import files, tables
    from napari_siren.core.result import load
    from napari_siren.reporting.fit_report import describe

    with files.input_file(model) as path:
        result = load(path)
    if json:
        tables.print_json(describe(result))
    else:
        tables.show_model(result, model)
