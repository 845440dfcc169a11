"""The work on one image: the fit, the files of the result, and an entry of success or failure."""

from __future__ import annotations

import datetime
import hashlib
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_siren.batch.manifest import Entry, kept
from napari_siren.batch.plan import Job, Settings, Stack, short_hash
from napari_siren.batch.result_file import ResultFile
from napari_siren.core.field.tiling import RenderGrid
from napari_siren.core.fit import fit_iter
from napari_siren.core.image.axes import Axes
from napari_siren.core.progress import Progress, share_done
from napari_siren.core.restoration.pipeline import restorer_state
from napari_siren.core.result import FitResult, load
from napari_siren.core.storage.atomic import atomic_write, write_json
from napari_siren.core.storage.records import Record, parse_json
from napari_siren.core.training.plan import check_size
from napari_siren.core.warm_start import plan_warm_start
from napari_siren.errors import SirenError
from napari_siren.io.images import check_target, loss_notes, read_image, write_picture
from napari_siren.io.picture import Picture
from napari_siren.reporting.thumbnails import thumbnails

# Name of the Dask events with the progress of running fits.
TOPIC = "napari-siren"
# Shortest interval between two such events of a fit, in seconds.
_REPORT_SECONDS = 0.5


@dataclass(frozen=True)
class Reference:
    """A model for the fits of similar images to start from.

    Parameters
    ----------
    job
        Name of the job that made the model.
    path
        File of the model.
    """

    job: str
    path: Path


def fit_image(
    job: Job, settings: Settings, folder: Path, start: Reference | None = None, keep: Path | None = None
) -> Entry:
    """Fit an image and write its render.

    A result that was made before with the same settings and pixels is not made again.

    Parameters
    ----------
    job, settings, folder
        The image, the settings of the batch, and the folder of the results.
    start
        Model to start from; None starts cold.
    keep
        File to save the model in, for other fits to start from; None saves no model.

    Returns
    -------
    Entry
        Entry of success or failure. No exception is raised.
    """
    began = time.perf_counter()

    def work(entry: Entry) -> Entry:
        picture = _completed(read_image(job.path, settings.axes, job.frame), settings)
        digest = _digest(picture)
        earlier = _earlier(folder, entry, digest, job.result(folder))
        if earlier is not None and (keep is None or keep.exists()):
            return replace(earlier, size=job.size, changed=job.changed)
        rendered, result, warm = _upscaled(picture, job, settings, folder, start)
        if keep is not None:
            model = result if result.state is None else replace(result, state=restorer_state(result.state))
            model.save(keep, resumable=model.state is not None)
        pictures = thumbnails(result, picture.fitted(settings.scale))
        lost = _write(job, picture, rendered, settings, folder)
        done = replace(
            entry,
            status="done",
            notes=(*picture.notes, *result.provenance["notes"], *lost),
            sha256=digest,
            start=start.job if start is not None and warm else None,
            metrics=result.metrics.as_dict(),
            shape=picture.array.shape,
            rendered=rendered.shape,
            steps=result.history.step[-1],
            seconds=time.perf_counter() - began,
            finished=_now(),
            written=ResultFile.of(job.result(folder)),
        )
        write_json(record_path(folder, job.name), {"entry": done.as_json(), "thumbnails": pictures})
        return done

    return _attempt(work, job.entry(settings, worker=_worker()), began)


def join_frames(stack: Stack, settings: Settings, folder: Path) -> Entry:
    """Join the separately fitted frames of a stack to one file.

    The parameters and the returned entry are those of `fit_image`.
    """
    began = time.perf_counter()

    def work(entry: Entry) -> Entry:
        job = stack.whole
        frames = [np.load(frame.result(folder), mmap_mode="r") for frame in stack.frames]
        shape = (len(frames), *frames[0].shape)
        # The array is in a file, because a long series may be larger than the memory.
        path = stack.frames[0].result(folder).with_name("all.npy")
        series = np.lib.format.open_memmap(path, "w+", frames[0].dtype, shape)
        for target, frame in zip(series, frames, strict=True):
            target[...] = frame
        first = _completed(read_image(job.path, settings.axes, 0), settings)
        job.result(folder).parent.mkdir(parents=True, exist_ok=True)
        notes = (*first.notes, *_write(job, first, series, settings, folder))
        return replace(
            entry,
            status="done",
            notes=notes,
            rendered=shape,
            seconds=time.perf_counter() - began,
            finished=_now(),
            written=ResultFile.of(job.result(folder)),
        )

    return _attempt(work, stack.whole.entry(settings, worker=_worker()), began)


def record_path(folder: Path, name: str) -> Path:
    """Return the file for the record of a job: its entry and its thumbnails."""
    return kept(folder, "records", f"{short_hash(name)}.json")


class _JobRecord(Record):
    entry: Entry
    thumbnails: dict[str, str]


def read_record(folder: Path, name: str) -> tuple[Entry | None, dict[str, str]]:
    """Return the entry and the thumbnails of a job, or None and no thumbnails if there is no valid record."""
    try:
        record = _JobRecord.model_validate(parse_json(record_path(folder, name).read_bytes()))
    except (OSError, ValueError):
        return None, {}
    return record.entry, record.thumbnails


# ---- one image ---------------------------------------------------------------------------------------------


def _attempt(work: Callable[[Entry], Entry], entry: Entry, began: float) -> Entry:
    """Do the work and return its entry. An exception becomes the reason of a failure.

    One bad file therefore does not stop the other jobs.
    """
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
    """Check the file of the result, fit the image, and render it.

    Returns
    -------
    tuple
        The render, the result of the fit, and whether the fit started from the model.
    """
    array, (axes, shape) = picture.array, picture.frame
    spatial = axes.pick(shape)
    scale = picture.fitted(settings.scale)
    grid = RenderGrid.from_shape(spatial, (1.0,) * len(spatial), scale=scale)
    check_size(grid.shape, array.nbytes / max(1, int(np.prod(spatial))))
    target = job.result(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    check_target(target, array.dtype, axes, shape)
    config, model = plan_warm_start(array, settings.config, None if start is None else load(start.path))
    steps = fit_iter(
        **picture.fit_arguments(),
        config=config,
        device=_device(settings.device),
        seed=settings.seed,
        start=model,
    )
    report = _progress_reporter(job.name)
    for progress in steps:
        report(progress)
    return steps.result.render(scale=scale), steps.result, model is not None


def _completed(picture: Picture, settings: Settings) -> Picture:
    """Return a picture with its pixels in memory and with axes.

    A pixel size in the settings overrides that of the file.
    """
    import dask  # without Dask, `connected` raises an error with a remedy

    with dask.config.set(scheduler="synchronous"):  # tasks on the cluster could make this worker wait
        array = np.asarray(picture.array)  # the array of an OME-Zarr image is lazy
    picture = replace(picture, array=array).prepared()
    if settings.spacing is not None:
        given = (settings.spacing,) if isinstance(settings.spacing, int | float) else settings.spacing
        sizes = tuple(picture.fitted(given))
        spatial = (picture.axes or Axes()).spatial
        details = replace(picture.details, guessed="")
        picture = replace(picture, spacing=sizes * len(spatial) if len(sizes) == 1 else sizes, details=details)
    return picture.with_filled_nan() if settings.fill_nan else picture


def _write(job: Job, picture: Picture, rendered: npt.NDArray[Any], settings: Settings, folder: Path) -> list[str]:
    """Write a render, and return notes on what its file cannot hold."""
    target = job.result(folder)
    if job.frame is not None:
        with atomic_write(target) as aside, aside.open("wb") as file:
            np.save(file, rendered)
        return []
    axes, shape = picture.frame
    spatial = axes.pick(shape)
    step = RenderGrid.from_shape(spatial, (1.0,) * len(spatial), scale=picture.fitted(settings.scale)).step
    if job.outline.frames is not None:
        axes = Axes(f"T{axes}")
    result = picture.resampled(rendered, axes, step)
    write_picture(target, result, job.outline.interval)
    return loss_notes(target, result, job.outline.interval)


def _digest(picture: Picture) -> str:
    """Return a SHA-256 of the pixels and the metadata of a file: everything in it with an influence on the result."""
    array = np.ascontiguousarray(picture.array)
    metadata = (array.dtype.str, array.shape, picture.axes, picture.spacing, picture.unit, picture.channel_names)
    digest = hashlib.sha256(repr((*metadata, picture.details)).encode())
    if picture.missing is not None:
        digest.update(np.packbits(picture.missing).tobytes())
    digest.update(array.data if array.size else b"")
    return digest.hexdigest()


def _earlier(folder: Path, entry: Entry, digest: str, result: Path) -> Entry | None:
    """Return the recorded entry of the same work if its result is as it was written, otherwise None.

    The work may be done without an entry in the manifest if the batch was killed, or if its file was only touched.
    """
    earlier, _ = read_record(folder, entry.job)
    if earlier is None or earlier.written is None or not earlier.written.matches(result):
        return None
    same = (earlier.status, earlier.settings, earlier.sha256) == ("done", entry.settings, digest)
    return earlier if same else None


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
    """Return the device for this process, a GPU of its own if there are several.

    The processes that a batch starts have numbers as names, so that the number selects the GPU.
    """
    import torch

    worker = _dask_worker()
    gpus = torch.cuda.device_count() if name in ("auto", "cuda") and torch.cuda.is_available() else 0
    return f"cuda:{worker.name % gpus}" if gpus and worker is not None and isinstance(worker.name, int) else name


def _progress_reporter(name: str) -> Callable[[Progress], None]:
    """Return a function to report the progress of a fit to the batch, at most every `_REPORT_SECONDS`."""
    worker, due = _dask_worker(), 0.0

    def report(progress: Progress) -> None:
        nonlocal due
        if worker is None or time.monotonic() < due:
            return
        due = time.monotonic() + _REPORT_SECONDS
        steps = {"step": progress.step, "max_steps": progress.max_steps}
        worker.log_event(TOPIC, {"job": name, "share": share_done(progress), **steps})

    return report


def _now() -> str:
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds")
