"""`napari-siren train`: the training of the pretrained networks on a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from napari_siren.cli.flags import Choice, with_flags


@with_flags
def train(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of images, with its subfolders.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File of the weights: .safetensors.")],
    task: Annotated[
        str, Choice(("enlarge", "denoise")), typer.Option(help="enlarge is for the preset upscale.")
    ] = "enlarge",
    minutes: Annotated[float, typer.Option(help="Length of the training in minutes.")] = 20.0,
    noisy: Annotated[
        bool | None,
        typer.Option("--noisy/--clean", help="Whether the images for denoise have noise. Default: estimated."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the held-out images and of the training.")] = 0,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted training.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Train a pretrained network on one's own images, and compare it with the general one.

    The results are a file of weights for --pretrained FILE, its card, a log and a picture of held-out images.
    Ctrl-C ends the training and keeps the best weights so far. If the command is repeated, the training continues.
    """
    import napari_siren
    from napari_siren.cli import bars, tables

    with bars.TrainBar(quiet) as bar:
        options: dict[str, Any] = {"noisy": noisy, "device": device, "seed": seed, "resume": resume}
        result = napari_siren.train(folder, out, task=cast(Any, task), minutes=minutes, on_progress=bar.show, **options)
    if not quiet:
        tables.show_training(result)
    bar.end()
