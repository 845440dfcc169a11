"""The command line: the commands of `napari-siren`."""

from __future__ import annotations

import logging
import warnings
from typing import Annotated

import typer

import napari_siren
from napari_siren.cli import flags
from napari_siren.cli.commands import edit, model, restore
from napari_siren.cli.commands.batch import batch
from napari_siren.cli.commands.fit import fit
from napari_siren.cli.commands.train import train
from napari_siren.cli.interrupts import Group, ended_by_signals

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Fit SIRENs (sinusoidal implicit neural representations) to images."""
    # The package's own error messages describe damaged files.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="PIL")


def doctor(json: flags.Json = False) -> None:
    """Print the devices, the expected speed and the missing packages of this machine."""
    from napari_siren.cli import tables
    from napari_siren.cli.commands.doctor import examine

    if json:
        tables.print_json({"findings": [{"name": name, "finding": sentence} for name, sentence in examine()]})
    else:
        tables.show_rows(examine())


for command in (
    *(restore.upscale, restore.denoise, restore.deblur, restore.isotropic),
    *(fit, batch, edit.flatten, edit.blend, model.render, train, model.info, doctor),
):
    app.command()(command)
