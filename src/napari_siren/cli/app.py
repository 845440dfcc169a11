"""The command line: `napari-siren fit`, `upscale`, `batch`, `flatten`, `blend`, `render`, `train`, `info`, `doctor`."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

import napari_siren
from napari_siren.cli.interrupts import Group, ended_by_signals
from napari_siren.cli.train import train
from napari_siren.core.presets import preset_help
from napari_siren.io.formats import FORMATS

if TYPE_CHECKING:
    from napari_siren.core.preprocessing.gradients import Preprocessor
    from napari_siren.io.picture import Picture


app = typer.Typer(cls=Group, no_args_is_help=True, add_completion=False, pretty_exceptions_show_locals=False)

_FORMATS_HELP = "Output format: auto, " + ", ".join(n for n, entry in FORMATS.items() if entry.for_batches) + "."
_PRESETS_HELP = f"Presets: {preset_help('upscale')}"
_IMAGE_HELP = "Image file: TIFF, OME-Zarr, PNG, JPEG, NPY, …"
_Image = Annotated[Path | None, typer.Argument(metavar="IMAGE", help=_IMAGE_HELP, show_default=False)]
_RequiredImage = Annotated[Path, typer.Argument(metavar="IMAGE", help=_IMAGE_HELP, show_default=False)]
_Scene = Annotated[str | None, typer.Option(help="Name or number of an image in the file. Default: the first.")]
_FillNan = Annotated[bool, typer.Option("--fill-nan", help="Fill in NaN and infinite values as missing pixels.")]
_Axes = Annotated[str | None, typer.Option(help="One letter of Z, Y, X, C for each axis. Default: from the file.")]
_Spacing = Annotated[
    str | None,
    typer.Option(
        help="Pixel size: a number, or one for each spatial axis, such as 0.4,0.1,0.1. Default: from the file."
    ),
]
_Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
_Seed = Annotated[int, typer.Option(help="Seed of the random initialisation.")]
_Seconds = Annotated[float | None, typer.Option(help="Time limit in seconds.")]
_Steps = Annotated[int | None, typer.Option(help="Number of steps.")]
_Set = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change any setting. Repeatable.")]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors and notes only.")]
_Scale = Annotated[
    str, typer.Option(help="Output pixels per pixel: a number, or one for each spatial axis, such as 1,4,4.")
]
_File = Annotated[Path, typer.Option("--out", "-o", help="Output file: .png, .tif, .jpg, .npy or .ome.zarr.")]
_Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Model file: a model.safetensors.", show_default=False)]


def main() -> None:
    """Run the command line."""
    with ended_by_signals():
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
    # The package's own error messages describe damaged files.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="PIL")


@app.command()
def fit(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")],
    image: _Image = None,
    sample: Annotated[bool, typer.Option("--sample", help="Fit the photograph in the package.")] = False,
    preset: Annotated[str | None, typer.Option(help=f"Presets: {preset_help('faithful')} Default: faithful.")] = None,
    scale: _Scale = "4",
    axes: _Axes = None,
    spacing: _Spacing = None,
    scene: _Scene = None,
    fill_nan: _FillNan = False,
    device: _Device = "auto",
    seed: _Seed = 0,
    max_seconds: _Seconds = None,
    max_steps: _Steps = None,
    target_psnr: Annotated[float | None, typer.Option(help="Stop at this PSNR in dB.")] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Settings from a file, instead of a preset.")
    ] = None,
    changes: _Set = None,
    resume: Annotated[Path | None, typer.Option(metavar="MODEL", help="Continue the fit of a resumable model.")] = None,
    resumable: Annotated[
        bool, typer.Option("--resumable", help="Save the state for --resume at the end, and every minute.")
    ] = False,
    quiet: _Quiet = False,
) -> None:
    """Fit an image, and write the results to a folder.

    The results are the reconstruction, error map, upscaled image, overview, model and report.json.
    Ctrl-C ends the fit and keeps the best result so far. A second Ctrl-C aborts.
    """
    from napari_siren.cli import options as arguments
    from napari_siren.cli import output as console
    from napari_siren.core.fit import fit_iter
    from napari_siren.core.result import load
    from napari_siren.reporting import fit_report as report

    picture = arguments.open_picture(image, sample, axes, spacing, scene=scene, fill_nan=fill_nan)
    factor = arguments.check_scale(picture, scale)
    earlier = None if resume is None else load(resume)
    fields = arguments.settings(changes or (), max_seconds=max_seconds, max_steps=max_steps, target_psnr=target_psnr)
    chosen = arguments.choose_config(preset, config, earlier, fields)
    steps = fit_iter(**picture.fit_arguments(), config=chosen, device=device, seed=seed, resume=earlier)
    report.prepare_folder(out)
    result = console.follow(steps, quiet, out / "model.safetensors" if resumable else None)
    files = report.write_report(result, out, factor, resumable=resumable, source=picture)
    if not quiet:
        console.show_fit(result, files)


@app.command()
def upscale(
    out: _File,
    image: _RequiredImage,
    scale: _Scale = "4",
    preset: Annotated[str, typer.Option(help=_PRESETS_HELP)] = "upscale",
    axes: _Axes = None,
    spacing: _Spacing = None,
    device: _Device = "auto",
    seed: _Seed = 0,
    max_seconds: _Seconds = None,
    max_steps: _Steps = None,
    changes: _Set = None,
    level: Annotated[int, typer.Option(help="Level of an OME-Zarr image; 0 is the finest.")] = 0,
    scene: _Scene = None,
    fill_nan: _FillNan = False,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run (OME-Zarr results only).")] = True,
    uncertainty: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the expected error of each pixel: .tif or .npy.")
    ] = None,
    quiet: _Quiet = False,
) -> None:
    """Fit an image with the preset "upscale", and write it at a higher resolution.

    An OME-Zarr result is computed block by block. The image may then be larger than the memory.
    An interrupted run continues when the command is repeated.
    """
    from napari_siren.cli import options as arguments
    from napari_siren.cli import output as console
    from napari_siren.core.config import detail_for
    from napari_siren.core.fit import fit_iter
    from napari_siren.io import images as sources

    fields = arguments.settings(changes or (), max_seconds=max_seconds, max_steps=max_steps)
    if out.suffix.lower() == ".zarr" and uncertainty is None and not fill_nan and scene is None:
        given: dict[str, Any] = {"axes": axes, "spacing": arguments.scale_of("--spacing", spacing), "level": level}
        given |= {"preset": preset, "device": device, "seed": seed, "resume": resume, **fields}
        with console.BlockBar(quiet) as bar:
            factor = arguments.scale_of("--scale", scale) or 1.0
            written = napari_siren.fit_blocks(image, out, factor, on_progress=bar.show, **given)
        if not quiet:
            console.show_blocks(written)
        return
    picture = arguments.open_picture(image, False, axes, spacing, level, scene, fill_nan)
    names, shape = picture.frame
    factor = arguments.check_scale(picture, scale)
    sources.check_target(out, picture.array.dtype, names, shape)
    if uncertainty is not None:
        sources.check_target(uncertainty, "float32", names, shape)
    chosen = arguments.choose_config(preset, None, None, {"detail": detail_for(factor), **fields})
    result = console.follow(fit_iter(**picture.fit_arguments(), config=chosen, device=device, seed=seed), quiet)
    rendered, step = result.render(scale=factor), result.grid(scale=factor).step
    sources.write_picture(out, picture.resampled(rendered, names, step))
    if not quiet:
        console.show_file(out, rendered.shape)
    if uncertainty is not None:
        expected = result.uncertainty(factor)
        sources.write_picture(uncertainty, picture.as_map().resampled(expected, names, step))
        if not quiet:
            console.show_file(uncertainty, expected.shape)


@app.command()
def batch(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Files, folders, or 'patterns/**/*.tif'.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results and the report.")],
    scale: _Scale = "2",
    preset: Annotated[str, typer.Option(help=_PRESETS_HELP)] = "upscale",
    axes: _Axes = None,
    spacing: _Spacing = None,
    fill_nan: _FillNan = False,
    frames: Annotated[str, typer.Option(help="whole, or each: fit a time series frame by frame.")] = "whole",
    format: Annotated[str, typer.Option(help=_FORMATS_HELP)] = "auto",
    scheduler: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Dask scheduler: tcp://host:8786.")] = None,
    workers: Annotated[int | None, typer.Option(help="Number of local processes. Default: automatic.")] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for a worker of the scheduler.")] = 30.0,
    device: _Device = "auto",
    seed: _Seed = 0,
    max_seconds: _Seconds = None,
    max_steps: _Steps = None,
    changes: _Set = None,
    resume: Annotated[bool, typer.Option(help="Skip images that were done with the same settings.")] = True,
    warm_start: Annotated[bool, typer.Option(help="Start from the model of the first similar image.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the images to do.")] = False,
    quiet: _Quiet = False,
) -> None:
    """Upscale many images on all cores or on a cluster, and write a report with pictures.

    The results are the upscaled images, a manifest and the report.
    An interrupted batch continues when the command is repeated. The exit status is 1 if an image failed.
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
            fill_nan=fill_nan,
            frames=cast(Any, frames),
            format=cast(Any, format),
            scheduler=scheduler,
            workers=workers,
            wait=wait,
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
    image: _RequiredImage,
    below: Annotated[
        str,
        typer.Option(help="Smallest gradient of an edge: relative change per pixel, or per unit of the pixel size."),
    ] = "auto",
    additive: Annotated[
        bool,
        typer.Option("--additive", help="Illumination is added, not multiplied. --below has the units of the image."),
    ] = False,
    axes: _Axes = None,
    spacing: _Spacing = None,
    device: _Device = "auto",
    seed: _Seed = 0,
    max_seconds: _Seconds = None,
    max_steps: _Steps = None,
    changes: _Set = None,
    quiet: _Quiet = False,
) -> None:
    """Remove uneven illumination from an image, fit a field to the result, and write it."""
    from napari_siren.cli import options as arguments
    from napari_siren.core.compositing import Flattening

    picture = arguments.open_picture(image, False, axes, spacing)
    flattening = Flattening(arguments.number_or_auto("--below", below), not additive)
    limits = {"max_seconds": max_seconds, "max_steps": max_steps}
    _write_fitted(out, picture, flattening, quiet, device, seed, arguments.settings(changes or (), **limits))


@app.command()
def blend(
    out: _File,
    picture: Annotated[Path, typer.Argument(help="Picture to insert.", show_default=False)],
    into: Annotated[Path, typer.Argument(help="Image to insert it into.", show_default=False)],
    mask: Annotated[Path, typer.Argument(help="As large as PICTURE. 0 excludes a pixel.", show_default=False)],
    at: Annotated[str | None, typer.Option(help="Pixel of INTO for the first pixel of PICTURE: row,column.")] = None,
    mixed: Annotated[bool, typer.Option("--mixed", help="Use the stronger gradient of the two images.")] = False,
    axes: _Axes = None,
    device: _Device = "auto",
    seed: _Seed = 0,
    max_seconds: _Seconds = None,
    max_steps: _Steps = None,
    changes: _Set = None,
    quiet: _Quiet = False,
) -> None:
    """Insert a part of a picture into an image without a seam, fit a field to the result, and write it."""
    from napari_siren.cli import options as arguments
    from napari_siren.core.compositing import SeamlessCloning

    source, target = (arguments.open_picture(path, False, axes, None) for path in (picture, into))
    place = arguments.whole_numbers("--at", at)
    blending = SeamlessCloning(source.array, arguments.open_mask(mask), place, "mixed" if mixed else "source")
    limits = {"max_seconds": max_seconds, "max_steps": max_steps}
    _write_fitted(out, target, blending, quiet, device, seed, arguments.settings(changes or (), **limits))


@app.command()
def render(
    model: _Model,
    out: _File,
    scale: Annotated[
        str | None, typer.Option(help="Output pixels per pixel: a number, or one for each spatial axis.")
    ] = None,
    shape: Annotated[str | None, typer.Option(help="Output pixels along each spatial axis: 512,768.")] = None,
    spacing: Annotated[
        str | None, typer.Option(help="Size of an output pixel: a number, or one for each spatial axis.")
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="start:stop in pixels of the image, for each spatial axis: 0:64,32:96.")
    ] = None,
    derivative: Annotated[str | None, typer.Option(help="gradient, gradient_magnitude or laplacian.")] = None,
    device: _Device = "auto",
    quiet: _Quiet = False,
) -> None:
    """Render a fitted model, or its exact derivatives, at any resolution. The default is that of the image."""
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
    grid = result.grid(**where)
    dtype, names, size = arguments.output_of(result, grid, derivative, out)
    sources.check_target(out, dtype, names, size)
    rendered = result.field.render(grid, cast(Any, derivative))
    source = report.picture_of(result, rendered, is_map=derivative is not None)
    sources.write_picture(out, source.resampled(rendered, names, grid.step, grid.start))
    if not quiet:
        console.show_file(out, rendered.shape)


app.command()(train)


@app.command()
def info(model: _Model) -> None:
    """Print the image, network, metrics and provenance of a fitted model."""
    from napari_siren.cli import output as console
    from napari_siren.core.result import load

    console.show_model(load(model), model)


@app.command()
def doctor() -> None:
    """Print the devices, the expected speed and the missing packages of this machine."""
    from napari_siren.cli import output as console
    from napari_siren.cli.doctor import examine

    console.show_rows(examine())


def _write_fitted(
    out: Path,
    picture: Picture,
    supervision: Preprocessor,
    quiet: bool,
    device: str,
    seed: int,
    fields: dict[str, Any],
) -> None:
    """Fit a field to a preprocessed picture, and write its reconstruction."""
    from napari_siren.cli import options as arguments
    from napari_siren.cli import output as console
    from napari_siren.core.fit import fit_iter
    from napari_siren.io import images as sources

    array, names = picture.array, picture.axes or ""
    sources.check_target(out, array.dtype, names, array.shape)
    chosen = arguments.choose_config(None, None, None, fields)
    steps = fit_iter(**picture.fit_arguments(), config=chosen, device=device, seed=seed, supervision=supervision)
    result = console.follow(steps, quiet)
    sources.write_picture(out, replace(picture, array=result.reconstruction, missing=None))
    if not quiet:
        console.show_file(out, array.shape)
