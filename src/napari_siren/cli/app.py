"""The command line: `napari-siren fit`, `upscale`, `batch`, `flatten`, `blend`, `render`, `info`, `doctor`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

import napari_siren
from napari_siren.core.presets import preset_help
from napari_siren.errors import SirenError

if TYPE_CHECKING:
    from napari_siren.core.preprocessing.gradients import Preparation
    from napari_siren.io.images import Picture


class _Group(TyperGroup):
    """Commands whose errors on purpose are one line, not a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SirenError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(cls=_Group, no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)

_Image = Annotated[Path | None, typer.Argument(metavar="IMAGE", help="TIFF, PNG, JPEG, NPY, …", show_default=False)]
_Given = Annotated[Path, typer.Argument(metavar="IMAGE", help="TIFF, PNG, JPEG, NPY, …", show_default=False)]
_Axes = Annotated[str | None, typer.Option(help="One letter an axis of Z, Y, X, C; else as the file says.")]
_Spacing = Annotated[str | None, typer.Option(help="Size of a pixel, one number or one a spatial axis: 0.4,0.1,0.1.")]
_Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
_Seed = Annotated[int, typer.Option(help="Of the random start.")]
_Seconds = Annotated[float | None, typer.Option(help="Time limit.")]
_Steps = Annotated[int | None, typer.Option(help="Number of steps.")]
_Set = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Any setting; repeatable.")]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
_Scale = Annotated[str, typer.Option(help="Output pixels per pixel: a number, or one a spatial axis: 1,4,4.")]
_File = Annotated[Path, typer.Option("--out", "-o", help="The file to write: .png, .tif, .jpg, .npy, .ome.zarr.")]
_Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model.safetensors.", show_default=False)]


def main() -> None:
    """Run the command line."""
    app(prog_name="napari-siren")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"napari-siren {napari_siren.__version__}")
        raise typer.Exit


@app.callback()
def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Fit SIRENs (sinusoidal implicit neural representations) to images."""
    # What it would say of a damaged file is in our own errors.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)


@app.command()
def fit(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for the results.")],
    image: _Image = None,
    sample: Annotated[bool, typer.Option("--sample", help="Fit the photograph that comes with the package.")] = False,
    preset: Annotated[str | None, typer.Option(help=f"The default, {preset_help('faithful')}")] = None,
    scale: _Scale = "4",
    axes: _Axes = None,
    spacing: _Spacing = None,
    device: _Device = "auto",
    seed: _Seed = 0,
    max_seconds: _Seconds = None,
    max_steps: _Steps = None,
    target_psnr: Annotated[float | None, typer.Option(help="Stop at this PSNR in dB.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Settings, in the preset's place.")] = None,
    changes: _Set = None,
    resume: Annotated[Path | None, typer.Option(metavar="MODEL", help="Go on with a fit saved as resumable.")] = None,
    resumable: Annotated[
        bool, typer.Option("--resumable", help="Save what is needed to go on later, each minute too.")
    ] = False,
    quiet: _Quiet = False,
) -> None:
    """Fit an image; write reconstruction, error map, upscaled image, overview, model and report.json to a folder.

    Ctrl-C ends the fit and keeps the best so far; a second one aborts.
    """
    from napari_siren.cli import options as arguments
    from napari_siren.cli import output as console
    from napari_siren.core.fit import fit_iter
    from napari_siren.core.result import load
    from napari_siren.reporting import fit_report as report

    picture = arguments.open_picture(image, sample, axes, spacing)
    factor = arguments.check_scale(picture, scale)
    earlier = None if resume is None else load(resume)
    fields = arguments.settings(changes or (), max_seconds=max_seconds, max_steps=max_steps, target_psnr=target_psnr)
    chosen = arguments.choose_config(preset, config, earlier, fields)
    steps = fit_iter(
        picture.array, picture.axes, picture.spacing, config=chosen, device=device, seed=seed, resume=earlier
    )
    report.prepare_folder(out)
    result = console.follow(steps, quiet, out / "model.safetensors" if resumable else None)
    files = report.write_report(result, out, factor, name=picture.path.name, unit=picture.unit, resumable=resumable)
    if not quiet:
        console.show_fit(result, files)


@app.command()
def upscale(
    out: _File,
    image: _Given,
    scale: _Scale = "4",
    preset: Annotated[str, typer.Option(help=preset_help("upscale"))] = "upscale",
    axes: _Axes = None,
    spacing: _Spacing = None,
    device: _Device = "auto",
    seed: _Seed = 0,
    max_seconds: _Seconds = None,
    max_steps: _Steps = None,
    changes: _Set = None,
    level: Annotated[int, typer.Option(help="Of an OME-Zarr image: 0 is the finest.")] = 0,
    resume: Annotated[bool, typer.Option(help="To OME-Zarr: go on where an earlier run was broken off.")] = True,
    uncertainty: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the error to be expected of each pixel: .tif, .npy.")
    ] = None,
    quiet: _Quiet = False,
) -> None:
    """Fit an image with the preset "upscale" and write it at a higher resolution.

    Where the result is OME-Zarr this goes block by block: the image may be larger than memory, and a run that is broken
    off goes on when it is started again.
    """
    from napari_siren.cli import options as arguments
    from napari_siren.cli import output as console
    from napari_siren.core.config import detail_for
    from napari_siren.core.fit import fit_iter
    from napari_siren.io import images as sources
    from napari_siren.reporting import fit_report as report

    if out.suffix.lower() == ".zarr" and uncertainty is None:
        fields = arguments.settings(changes or (), max_seconds=max_seconds, max_steps=max_steps)
        given: dict[str, Any] = {"axes": axes, "spacing": arguments.scale_of("--spacing", spacing), "level": level}
        given |= {"preset": preset, "device": device, "seed": seed, "resume": resume, **fields}
        with console.BlockBar(quiet) as bar:
            factor = arguments.scale_of("--scale", scale) or 1.0
            written = napari_siren.fit_blocks(image, out, factor, on_progress=bar.show, **given)
        if not quiet:
            console.show_blocks(written)
        return
    picture = arguments.open_picture(image, False, axes, spacing, level)
    names, shape = picture.frame
    factor = arguments.check_scale(picture, scale)
    sources.check_target(out, picture.array.dtype, names, shape)
    if uncertainty is not None:
        sources.check_target(uncertainty, "float32", names, shape)
    fields = arguments.settings(changes or (), max_seconds=max_seconds, max_steps=max_steps)
    chosen = arguments.choose_config(preset, None, None, {"detail": detail_for(factor), **fields})
    steps = fit_iter(picture.array, picture.axes, picture.spacing, config=chosen, device=device, seed=seed)
    result = console.follow(steps, quiet)
    rendered = result.render(scale=factor)
    spaced = picture.spacing and result.field.format.spacing
    finer = report.finer_spacing(spaced, arguments.grid_of(result, scale=factor).step)
    sources.write_image(out, rendered, names, finer, picture.unit)
    if not quiet:
        console.show_file(out, rendered.shape)
    if uncertainty is not None:
        expected = result.uncertainty(factor)
        sources.write_image(uncertainty, expected, names, finer, picture.unit)
        if not quiet:
            console.show_file(uncertainty, expected.shape)


@app.command()
def batch(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Files, folders, 'patterns/**/*.tif'.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder for the results and the report.")],
    scale: _Scale = "2",
    preset: Annotated[str, typer.Option(help=preset_help("upscale"))] = "upscale",
    axes: _Axes = None,
    spacing: _Spacing = None,
    frames: Annotated[str, typer.Option(help="whole, or each: a time series frame by frame.")] = "whole",
    format: Annotated[str, typer.Option(help="auto, png, tif, ome.tif, ome.zarr or npy.")] = "auto",
    scheduler: Annotated[str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler: tcp://host:8786.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes on this machine; else as many as suit it.")] = None,
    device: _Device = "auto",
    seed: _Seed = 0,
    max_seconds: _Seconds = None,
    max_steps: _Steps = None,
    changes: _Set = None,
    resume: Annotated[bool, typer.Option(help="Leave out what was done before with the same settings.")] = True,
    warm_start: Annotated[bool, typer.Option(help="Start images that are alike from the first of them.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what there is to do.")] = False,
    quiet: _Quiet = False,
) -> None:
    """Upscale many images on all cores, or on a cluster; write them, a manifest, and a report with pictures.

    Run again it goes on where it was. The exit status is 1 where an image failed.
    """
    from napari_siren.batch.run import fit_batch as run
    from napari_siren.cli import options as arguments
    from napari_siren.cli import output as console

    with console.BatchBars(quiet or dry_run) as bars:
        report = run(
            inputs,
            out,
            arguments.scale_of("--scale", scale) or 1.0,
            preset,
            axes=axes,
            spacing=arguments.scale_of("--spacing", spacing),
            frames=cast(Any, frames),
            format=cast(Any, format),
            scheduler=scheduler,
            workers=workers,
            device=device,
            seed=seed,
            resume=resume,
            dry_run=dry_run,
            warm_start=warm_start,
            on_progress=bars.show,
            **arguments.settings(changes or (), max_seconds=max_seconds, max_steps=max_steps),
        )
    if not quiet:
        console.show_batch(report)
    if not report.ok:
        raise typer.Exit(1)


@app.command()
def flatten(
    out: _File,
    image: _Given,
    below: Annotated[str, typer.Option(help="Relative change per pixel, or per unit, that is an edge.")] = "auto",
    additive: Annotated[bool, typer.Option("--additive", help="The light is added, and is no factor.")] = False,
    axes: _Axes = None,
    spacing: _Spacing = None,
    device: _Device = "auto",
    seed: _Seed = 0,
    max_seconds: _Seconds = None,
    max_steps: _Steps = None,
    changes: _Set = None,
    quiet: _Quiet = False,
) -> None:
    """Take uneven illumination away from an image, fit a field to what is left, and write it."""
    from napari_siren.cli import options as arguments
    from napari_siren.core.compositing import Flattening

    picture = arguments.open_picture(image, False, axes, spacing)
    flattening = Flattening(arguments.number_or_auto("--below", below), not additive)
    limits = {"max_seconds": max_seconds, "max_steps": max_steps}
    _write_fitted(out, picture, flattening, quiet, device, seed, arguments.settings(changes or (), **limits))


@app.command()
def blend(
    out: _File,
    picture: Annotated[Path, typer.Argument(help="What is put in.", show_default=False)],
    into: Annotated[Path, typer.Argument(help="The image that it is put into.", show_default=False)],
    mask: Annotated[Path, typer.Argument(help="As large as PICTURE; 0 where it is left out.", show_default=False)],
    at: Annotated[str | None, typer.Option(help="Pixel of INTO for the first one of PICTURE: row,column.")] = None,
    mixed: Annotated[bool, typer.Option("--mixed", help="Keep the stronger gradients of the two.")] = False,
    axes: _Axes = None,
    device: _Device = "auto",
    seed: _Seed = 0,
    max_seconds: _Seconds = None,
    max_steps: _Steps = None,
    changes: _Set = None,
    quiet: _Quiet = False,
) -> None:
    """Put a part of a picture into an image without a seam, fit a field to it, and write it."""
    from napari_siren.cli import options as arguments
    from napari_siren.core.compositing import Blending

    source, target = (arguments.open_picture(path, False, axes, None) for path in (picture, into))
    place = arguments.whole_numbers("--at", at)
    blending = Blending(source.array, arguments.open_mask(mask), place, "mixed" if mixed else "source")
    limits = {"max_seconds": max_seconds, "max_steps": max_steps}
    _write_fitted(out, target, blending, quiet, device, seed, arguments.settings(changes or (), **limits))


@app.command()
def render(
    model: _Model,
    out: _File,
    scale: Annotated[str | None, typer.Option(help="Output pixels per pixel: a number, or one a spatial axis.")] = None,
    shape: Annotated[str | None, typer.Option(help="Output pixels along each spatial axis: 512,768.")] = None,
    spacing: Annotated[str | None, typer.Option(help="Size of an output pixel, one number or one an axis.")] = None,
    region: Annotated[
        str | None, typer.Option(help="start:stop in pixels of the image, each axis: 0:64,32:96.")
    ] = None,
    derivative: Annotated[str | None, typer.Option(help="gradient, gradient_magnitude or laplacian.")] = None,
    device: _Device = "auto",
    quiet: _Quiet = False,
) -> None:
    """Render a fitted model at any resolution, or its exact derivatives; without a size, at its own."""
    from napari_siren.cli import options as arguments
    from napari_siren.cli import output as console
    from napari_siren.core.result import load
    from napari_siren.io import images as sources
    from napari_siren.reporting import fit_report as report

    result = load(model, device)
    where: dict[str, Any] = {
        "scale": arguments.scale_of("--scale", scale),
        "shape": arguments.numbers("--shape", shape),
        "spacing": arguments.scale_of("--spacing", spacing),
        "region": arguments.region(region),
    }
    grid = arguments.grid_of(result, **where)
    dtype, names, size = arguments.output_of(result, grid, derivative, out)
    sources.check_target(out, dtype, names, size)
    rendered = result.render(**where, derivative=cast(Any, derivative))
    finer = report.finer_spacing(report.pixel_size(result), grid.step)
    sources.write_image(out, rendered, names, finer, result.provenance.get("unit"))
    if not quiet:
        console.show_file(out, rendered.shape)


@app.command()
def info(model: _Model) -> None:
    """Print what is known of a fitted model: its image, network, metrics, and how it was made."""
    from napari_siren.cli import output as console
    from napari_siren.core.result import load

    console.show_model(load(model), model)


@app.command()
def doctor() -> None:
    """Print what this machine offers, what speed to expect, and what is missing."""
    from napari_siren.cli import output as console
    from napari_siren.cli.doctor import examine

    console.show_rows(examine())


def _write_fitted(
    out: Path,
    picture: Picture,
    supervision: Preparation,
    quiet: bool,
    device: str,
    seed: int,
    fields: dict[str, Any],
) -> None:
    """Fit a field to what is made of a picture, and write what the picture's pixels see of it."""
    from napari_siren.cli import options as arguments
    from napari_siren.cli import output as console
    from napari_siren.core.fit import fit_iter
    from napari_siren.io import images as sources

    array, names = picture.array, picture.axes or ""
    sources.check_target(out, array.dtype, names, array.shape)
    chosen = arguments.choose_config(None, None, None, fields)
    steps = fit_iter(array, names, picture.spacing, config=chosen, device=device, seed=seed, supervision=supervision)
    result = console.follow(steps, quiet)
    sources.write_image(out, result.reconstruction, names, picture.spacing, picture.unit)
    if not quiet:
        console.show_file(out, array.shape)
