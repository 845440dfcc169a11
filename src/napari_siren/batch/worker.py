"""What a worker does: fit one image, write what comes of it, and say how it went, whatever happens."""

from __future__ import annotations

import datetime
import hashlib
import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt

from napari_siren.batch.manifest import Entry, kept
from napari_siren.batch.plan import Job, Settings, Stack, short_hash
from napari_siren.core.atomic import write_json, written_aside
from napari_siren.core.field.tiling import RenderGrid
from napari_siren.core.fit import fit_iter
from napari_siren.core.image.axes import NOT_SPACE, guess_axes
from napari_siren.core.progress import Progress
from napari_siren.core.restoration.pipeline import learned_part
from napari_siren.core.result import FitResult, load
from napari_siren.core.training.plan import check_size
from napari_siren.core.warm_start import beginning
from napari_siren.errors import SirenError
from napari_siren.io.images import Picture, check_target, read_image, write_image
from napari_siren.reporting.fit_report import finer_spacing
from napari_siren.reporting.thumbnails import thumbnails

# Dask's name for what workers tell while they are at it.
TOPIC = "napari-siren"
_TELL_SECONDS = 0.5


@dataclass(frozen=True)
class Reference:
    """A model that fits of alike images start from.

    Parameters
    ----------
    job
        Name of the job that made it.
    path
        Its file.
    """

    job: str
    path: Path


def fit_image(
    job: Job, settings: Settings, folder: Path, start: Reference | None = None, keep: Path | None = None
) -> Entry:
    """Fit an image and write its render. What was done before with the same settings and pixels is left as it is.

    Parameters
    ----------
    job, settings, folder
        The image, what to do, and the folder of the results.
    start
        To start from; None starts cold.
    keep
        Where to save the model for others to start from.

    Returns
    -------
    Entry
        Of success or failure; no exception is raised.
    """
    began = time.perf_counter()

    def work(entry: Entry) -> Entry:
        picture = _completed(read_image(job.path, settings.axes, job.frame), settings)
        digest = _digest(picture)
        earlier = _earlier(folder, entry, digest)
        if earlier is not None and job.result(folder).exists() and (keep is None or keep.exists()):
            return replace(earlier, size=job.size, changed=job.changed)
        rendered, result, warm = _upscaled(picture, job, settings, folder, start)
        if keep is not None:
            begin = result if result.state is None else replace(result, state=learned_part(result.state))
            begin.save(keep, resumable=begin.state is not None)
        done = replace(
            entry,
            status="done",
            sha256=digest,
            start=start.job if start is not None and warm else None,
            metrics=result.metrics.as_dict(),
            shape=picture.array.shape,
            rendered=rendered.shape,
            steps=result.history.step[-1],
            seconds=time.perf_counter() - began,
            finished=_now(),
        )
        pictures = thumbnails(result, settings.scale)
        _write(job, picture, rendered, settings, folder)
        write_json(record_path(folder, job.name), {"entry": done.as_json(), "thumbnails": pictures})
        return done

    return _attempt(work, job.entry(settings, worker=_worker()), began)


def join_frames(stack: Stack, settings: Settings, folder: Path) -> Entry:
    """Write the frames that were fitted one by one as one file; see `fit_image`."""
    began = time.perf_counter()

    def work(entry: Entry) -> Entry:
        job = stack.whole
        frames = [np.load(frame.result(folder), mmap_mode="r") for frame in stack.frames]
        shape = (len(frames), *frames[0].shape)
        # In a file: a long series need not fit into memory.
        gathered = stack.frames[0].result(folder).with_name("all.npy")
        series = np.lib.format.open_memmap(gathered, "w+", frames[0].dtype, shape)
        for place, frame in zip(series, frames, strict=True):
            place[...] = frame
        first = _completed(read_image(job.path, settings.axes, 0), settings)
        job.result(folder).parent.mkdir(parents=True, exist_ok=True)
        _write(job, first, series, settings, folder)
        return replace(entry, status="done", rendered=shape, seconds=time.perf_counter() - began, finished=_now())

    return _attempt(work, stack.whole.entry(settings, worker=_worker()), began)


def record_path(folder: Path, name: str) -> Path:
    """Return the file that a job leaves beside its result: its entry, and its thumbnails."""
    return kept(folder, "records", f"{short_hash(name)}.json")


def read_record(folder: Path, name: str) -> tuple[Entry | None, dict[str, str]]:
    """Read what a job left; None and nothing where there is none."""
    try:
        told = json.loads(record_path(folder, name).read_text(encoding="utf-8"))
        return Entry.from_json(told["entry"]), dict(told["thumbnails"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, {}


# ---- one image ---------------------------------------------------------------------------------------------


def _attempt(work: Callable[[Entry], Entry], entry: Entry, began: float) -> Entry:
    """Do the work; whatever it raises becomes the reason of a failure, so that one bad file does not stop the rest."""
    try:
        return work(entry)
    except SirenError as error:
        reason, trace = str(error), None
    except Exception as error:
        reason, trace = f"{type(error).__name__}: {error}", traceback.format_exc()
    seconds = time.perf_counter() - began
    return replace(entry, reason=reason, traceback=trace, seconds=seconds, finished=_now())


def _upscaled(
    picture: Picture, job: Job, settings: Settings, folder: Path, start: Reference | None
) -> tuple[npt.NDArray[Any], FitResult, bool]:
    """Check that the result can be written, fit, and render; and tell whether the fit started from a model."""
    array, (axes, shape) = picture.array, picture.frame
    spatial = [n for axis, n in zip(axes, shape, strict=True) if axis != "C"]
    grid = RenderGrid.of(spatial, (1.0,) * len(spatial), scale=settings.scale)
    check_size(grid.shape, array.nbytes / max(1, int(np.prod(spatial))))
    target = job.result(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    check_target(target, array.dtype, axes, shape)
    config, model = beginning(array, settings.config, None if start is None else load(start.path))
    steps = fit_iter(
        array,
        picture.axes,
        picture.spacing,
        config=config,
        device=_device(settings.device),
        seed=settings.seed,
        start=model,
    )
    tell = _teller(job.name)
    for progress in steps:
        tell(progress)
    return steps.result.render(scale=settings.scale), steps.result, model is not None


def _completed(picture: Picture, settings: Settings) -> Picture:
    """Put in what the file does not tell, and what was said in its place."""
    with dask.config.set(scheduler="synchronous"):  # not by other tasks, for which this worker might have to wait
        array = np.asarray(picture.array)  # of an OME-Zarr it is lazy
    axes = picture.axes or guess_axes(array.shape)
    spacing = picture.spacing
    if settings.spacing is not None:
        given = (settings.spacing,) if isinstance(settings.spacing, int | float) else settings.spacing
        spacing = given * len(axes.translate(NOT_SPACE)) if len(given) == 1 else given
    return replace(picture, array=array, axes=axes, spacing=spacing)


def _write(job: Job, picture: Picture, rendered: npt.NDArray[Any], settings: Settings, folder: Path) -> None:
    target = job.result(folder)
    if job.frame is not None:
        with written_aside(target) as aside, aside.open("wb") as file:
            np.save(file, rendered)
        return
    axes, shape = picture.frame
    spatial = [n for axis, n in zip(axes, shape, strict=True) if axis != "C"]
    step = RenderGrid.of(spatial, (1.0,) * len(spatial), scale=settings.scale).step
    spacing, unit, names = finer_spacing(picture.spacing, step), picture.unit, picture.channel_names
    if job.outline.frames is not None:
        axes = f"T{axes}"
    write_image(target, rendered, axes, spacing, unit, names, job.outline.interval)


def _digest(picture: Picture) -> str:
    """Hash of all that the result depends on in a file."""
    array = np.ascontiguousarray(picture.array)
    told = (array.dtype.str, array.shape, picture.axes, picture.spacing, picture.unit, picture.channel_names)
    digest = hashlib.sha256(repr(told).encode())
    digest.update(array.data if array.size else b"")
    return digest.hexdigest()


def _earlier(folder: Path, entry: Entry, digest: str) -> Entry | None:
    """Return the entry of the same work, where it was done before and nobody was left to take it down."""
    earlier, _ = read_record(folder, entry.job)
    if earlier is None or (earlier.status, earlier.settings, earlier.sha256) != ("done", entry.settings, digest):
        return None
    return earlier


# ---- the worker --------------------------------------------------------------------------------------------


def _dask_worker() -> Any:
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:  # not in a worker
        return None


def _worker() -> str:
    worker = _dask_worker()
    return "" if worker is None else str(worker.name)


def _device(name: str) -> str:
    """Return each of the processes on a machine a GPU of its own: those that we start have numbers for names."""
    import torch

    worker = _dask_worker()
    gpus = torch.cuda.device_count() if name in ("auto", "cuda") and torch.cuda.is_available() else 0
    return f"cuda:{worker.name % gpus}" if gpus and worker is not None and isinstance(worker.name, int) else name


def _teller(name: str) -> Callable[[Progress], None]:
    """Return a function that lets the batch know how far a fit is, now and then."""
    worker, due = _dask_worker(), 0.0

    def tell(progress: Progress) -> None:
        nonlocal due
        if worker is None or time.monotonic() < due:
            return
        due = time.monotonic() + _TELL_SECONDS
        left = progress.seconds_left
        share = 0.0 if left is None else progress.seconds / max(progress.seconds + left, 1e-9)
        worker.log_event(TOPIC, {"job": name, "share": share, "step": progress.step, "max_steps": progress.max_steps})

    return tell


def _now() -> str:
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
