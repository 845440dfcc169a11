"""`napari-siren fit`: an image to a folder of results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_siren.cli import flags
from napari_siren.cli.flags import FitFlags, ImageFlags, with_flags
from napari_siren.core.settings.presets import preset_help


@with_flags
def fit(
    image: Annotated[
        Path | None, typer.Argument(metavar="IMAGE", help="Image file; - is standard input.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for the results. Default: IMAGE_fit beside the image.")
    ] = None,
    sample: Annotated[bool, typer.Option("--sample", help="Fit the photograph in the package.")] = False,
    preset: Annotated[
        str | None,
        flags.PRESETS,
        typer.Option(help=f"{preset_help('faithful')} Default: faithful."),
    ] = None,
    scale: flags.Scale = "2",
    source: ImageFlags = ImageFlags(),  # noqa: B008 - immutable
    fitting: FitFlags = FitFlags(),  # noqa: B008
    resume: Annotated[Path | None, typer.Option(metavar="MODEL", help="Continue the fit of a resumable model.")] = None,
    resumable: Annotated[
        bool, typer.Option("--resumable", help="Save the state for --resume at the end, and every minute.")
    ] = False,
    overwrite: flags.Overwrite = False,
    json: flags.Json = False,
    quiet: flags.Quiet = False,
) -> None:
    """Fit an image, and write the results to a folder.

    The results are the reconstruction, error map, upscaled image, overview, model and report.json.
    Ctrl-C ends the fit and keeps the best result so far. A second Ctrl-C aborts.
    """
    from napari_siren.cli import bars, files, options, tables
    from napari_siren.core.fit import fit_iter
    from napari_siren.core.result import load
    from napari_siren.reporting import fit_report as report

    picture = files.open_picture(image, source, sample=sample)
    factor = options.check_scale(picture, options.scale_of("--scale", scale))
    folder = files.default_folder(image) if out is None else out
    earlier = None if resume is None else load(resume)
    chosen = options.choose_config(preset, fitting.config, earlier, fitting.settings())
    if earlier is None:
        files.check_replaced(folder / "report.json", overwrite)
    options_of_fit: dict[str, Any] = {
        "config": chosen,
        "device": fitting.device,
        "seed": fitting.seed,
        "resume": earlier,
    }
    steps = fit_iter(**picture.fit_arguments(), **options_of_fit)
    report.prepare_folder(folder)
    tables.show_expectation(picture, chosen, fitting.device, quiet)
    result = bars.follow(steps, quiet, folder / "model.safetensors" if resumable else None)
    written = report.write_report(result, folder, factor, resumable=resumable, source=picture)
    if json:
        tables.print_json({**report.describe(result), "files": {kind: str(path) for kind, path in written.items()}})
    elif not quiet:
        tables.show_fit(result, written, picture.unit)
    bars.end(result)
