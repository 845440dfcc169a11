"""`write_report`: the files of a fit in a folder, with pictures, the model, and a machine-readable report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import napari_siren
from napari_siren.core.atomic import prepare_folder, write_json
from napari_siren.core.field.tiling import RenderGrid
from napari_siren.core.result import FitResult
from napari_siren.io.images import write_image
from napari_siren.io.picture import suffix_for
from napari_siren.reporting.figures import error_figure, overview_figure, samples_of, save_figure

__all__ = ["describe", "finer_spacing", "parameter_count", "pixel_size", "prepare_folder", "write_report"]

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
) -> dict[str, Path]:
    """Write the reconstruction, the upscaled image, the error map, the overview, the model, and report.json.

    Parameters
    ----------
    result
        Result of a fit.
    folder
        Folder for the files; it is created if it is missing. Files of the same names are replaced, each atomically.
    scale
        Output pixels per pixel of the upscaled image: a number, or one for each spatial axis.
    name, unit
        Name of the image, and unit of its spacing; both are stored in the model and in the report.
    resumable
        Whether to store the optimiser's state in the model, to continue the fit later.

    Returns
    -------
    dict
        Paths of the files: "reconstruction", "upscaled", "error", "overview", "model" and "report".

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
    result = replace(result, provenance={**result.provenance, **metadata})
    folder = prepare_folder(Path(folder))
    size = pixel_size(result)
    grid = RenderGrid.from_layout(layout, scale=scale)
    finer = finer_spacing(size, grid.step)
    ending = suffix_for(layout.dtype, layout.axes, layout.shape)
    files = {
        "reconstruction": write_image(
            folder / f"reconstruction{ending}", result.reconstruction, layout.axes, size, unit
        ),
        "upscaled": write_image(
            folder / f"upscaled_{scale_name(scale)}{ending}", result.render(scale=scale), layout.axes, finer, unit
        ),
        "error": save_figure(error_figure(result), folder / "error.png"),
        "overview": save_figure(overview_figure(result), folder / "overview.png"),
        "model": result.save(folder / "model.safetensors", resumable=resumable),
        "report": folder / "report.json",
    }
    content = describe(result) | {"scale": scale, "files": {key: path.name for key, path in files.items()}}
    write_json(files["report"], content)
    return files


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
        **provenance,
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


def finer_spacing(spacing: Sequence[float] | None, step: Sequence[float]) -> tuple[float, ...] | None:
    """Return the spacing of a render.

    Parameters
    ----------
    spacing
        Spacing of the image, or None if it is not known.
    step
        Size of an output pixel along each axis, in pixels of the image; see `RenderGrid`.
    """
    return None if spacing is None else tuple(s * d for s, d in zip(spacing, step, strict=True))


def scale_name(scale: float | Sequence[float]) -> str:
    """Return a scale as part of a file name, such as x4 or x1x2.5x2.5."""
    return "".join(f"x{v:g}" for v in np.atleast_1d(scale))
