"""`write_report`: the files of a fit in a folder, with pictures, the model, and a machine-readable report."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import napari_siren
from napari_siren.core.result import FitResult
from napari_siren.core.storage.atomic import prepare_folder, write_json
from napari_siren.io.images import loss_notes, write_picture
from napari_siren.io.picture import Picture, suffix_for
from napari_siren.reporting.plots import can_plot, left_out
from napari_siren.reporting.views import samples_of

__all__ = ["describe", "parameter_count", "picture_of", "pixel_size", "prepare_folder", "write_report"]

_LOG = logging.getLogger("napari_siren")

# Maximum number of points of the course of the fit in the report.
_COURSE_POINTS = 200


def write_report(
    result: FitResult,
    folder: str | Path,
    scale: float | Sequence[float] = 4.0,
    *,
    name: str | None = None,
    unit: str | None = None,
    resumable: bool = False,
    source: Picture | None = None,
) -> dict[str, Path]:
    """Write the reconstruction, the upscaled image, the error map, the overview, the model, and report.json.

    Parameters
    ----------
    result
        Result of a fit.
    folder
        Folder for the files; it is created if it is missing. Files of the same names are replaced, each atomically. The
        other pictures of an earlier report in the folder are removed.
    scale
        Output pixels per pixel of the upscaled image: a number, or one for each spatial axis.
    name, unit
        Name of the image, and unit of its spacing; both are stored in the model and in the report.
    resumable
        Whether to store the optimiser's state in the model, to continue the fit later.
    source
        Picture that was fitted, whose name, unit and other metadata are written with the results. None if the image is
        an array.

    Returns
    -------
    dict
        Paths of the files: "reconstruction", "upscaled", "error", "overview", "model" and "report". Without matplotlib
        (the extra "plots") there is no "error" and no "overview", and a note explains it.

    Raises
    ------
    InputError
        The result has no image (it was loaded from a file), or the scale cannot be used.
    StorageError
        A file cannot be written.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns, tempfile
    >>> from napari_siren.reporting.fit_report import write_report
    >>> result = ns.fit(np.eye(24, dtype=np.float32), max_steps=5)
    >>> sorted(write_report(result, tempfile.mkdtemp(), scale=2))
    ['error', 'model', 'overview', 'reconstruction', 'report', 'upscaled']
    """
    layout = samples_of(result).layout
    # The field does not have these values, but the model file should.
    metadata = {key: value for key, value in (("image", name), ("unit", unit)) if value is not None}
    metadata |= {} if source is None else source.as_provenance()
    notes = [*([] if source is None else source.notes), *result.provenance.get("notes", ())]
    result = replace(result, provenance={**result.provenance, **metadata})
    folder = prepare_folder(Path(folder))
    grid, plain = result.grid(scale=scale), result.as_fitted()
    picture = picture_of(result, plain.reconstruction)
    upscaled = picture.resampled(plain.field.render(grid), layout.axes, grid.step)
    ending = suffix_for(layout.dtype, layout.axes, layout.shape, picture.details.has_alpha)
    paths = folder / f"reconstruction{ending}", folder / f"upscaled_{scale_name(scale)}{ending}"
    notes += [*loss_notes(paths[0], picture), *loss_notes(paths[1], upscaled)]
    if not can_plot():
        notes.append(left_out("error.png and overview.png were"))
        _LOG.warning("%s", notes[-1])
    result = replace(result, provenance={**result.provenance, "notes": list(dict.fromkeys(notes))})
    earlier = _files_of(folder)
    files = {
        "reconstruction": write_picture(paths[0], picture),
        "upscaled": write_picture(paths[1], upscaled),
        **_draw(plain, folder),
        "model": result.save(folder / "model.safetensors", resumable=resumable),
        "report": folder / "report.json",
    }
    content = describe(result) | {"scale": scale, "files": {key: path.name for key, path in files.items()}}
    write_json(files["report"], content)
    for path in earlier - set(files.values()):
        path.unlink(missing_ok=True)
    return files


def _draw(result: FitResult, folder: Path) -> dict[str, Path]:
    """Draw the error map and the overview, if matplotlib is installed."""
    if not can_plot():
        return {}
    from napari_siren.reporting.figures import error_figure, overview_figure, save_figure

    return {
        "error": save_figure(error_figure(result), folder / "error.png"),
        "overview": save_figure(overview_figure(result), folder / "overview.png"),
    }


def _files_of(folder: Path) -> set[Path]:
    """Return the pictures of an earlier report in a folder."""
    try:
        names = json.loads((folder / "report.json").read_text(encoding="utf-8"))["files"].values()
    except (OSError, ValueError, KeyError, AttributeError):
        return set()
    # Only names as this module writes them: the file could name anything.
    ours = ("reconstruction", "upscaled_", "error.", "overview.")
    return {folder / n for n in names if isinstance(n, str) and Path(n).name == n and n.startswith(ours)}


def picture_of(result: FitResult, values: npt.NDArray[Any], is_map: bool = False) -> Picture:
    """Return values over the image of a result as a picture with the metadata of the image.

    Parameters
    ----------
    result
        Result of a fit, or a loaded one.
    values
        Array with the fitted axes.
    is_map
        Whether the values are others than those of the image, so that its colours and names do not apply.
    """
    axes, spacing = result.field.layout.axes, pixel_size(result)
    picture = Picture.from_provenance(result.provenance, values, axes, spacing)
    return picture.as_map() if is_map else picture


def describe(result: FitResult) -> dict[str, Any]:
    """Return all data of a fit, as plain values.

    Parameters
    ----------
    result
        Result of a fit, or a loaded one. In a report, an infinite PSNR (every value right) is written as "inf".
    """
    layout, history, provenance = result.field.layout, result.history, dict(result.provenance)
    every = max(1, -(-len(history.step) // _COURSE_POINTS))
    # Every `every`-th step, counted from the last.
    selection = slice((len(history.step) - 1) % every, None, every)
    return {
        "napari_siren": napari_siren.__version__,
        "image": {
            "name": provenance.pop("image", None),
            "axes": layout.axes,
            "shape": layout.shape,
            "dtype": layout.dtype,
            "spacing": layout.spacing,
            "unit": provenance.pop("unit", None),
        },
        **{name: value for name, value in provenance.items() if name != "details"},
        "metrics": result.metrics.as_dict(),
        "seconds": history.seconds[-1] if history.seconds else 0.0,
        "steps": history.step[-1] if history.step else 0,
        "stopped": history.stopped,
        "parameters": parameter_count(result),
        "parameters_per_value": parameter_count(result) / int(np.prod(layout.shape)),
        "tiles": result.field.tiling.counts if result.field.has_tiles else None,
        "config": result.config.model_dump(mode="json"),
        "history": {
            "events": [{"step": step, "event": event} for step, event in history.events],
            "step": history.step[selection],
            "seconds": history.seconds[selection],
            "loss": history.loss[selection],
            "psnr": history.psnr[selection],
        },
    }


def parameter_count(result: FitResult) -> int:
    """Return the number of parameters of all networks, or of samples."""
    return result.field.representation.parameters


def pixel_size(result: FitResult) -> tuple[float, ...] | None:
    """Return the spacing, or None if none was given: no unit, and 1 along every axis."""
    spacing = result.field.layout.spacing
    return None if "unit" not in result.provenance and set(spacing) == {1.0} else spacing


def scale_name(scale: float | Sequence[float]) -> str:
    """Return a scale as part of a file name, such as x4 or x1x2.5x2.5."""
    return "".join(f"x{v:g}" for v in np.atleast_1d(scale))
