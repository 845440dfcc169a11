"""`fit_batch`: many images fitted on Dask. Finished work is not repeated, and a bad file does not stop the rest."""

from __future__ import annotations

import logging
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Unpack

from napari_siren.batch.cluster import Connection, connected
from napari_siren.batch.dispatch import Dispatcher
from napari_siren.batch.manifest import MARKS, Entry, Manifest, kept
from napari_siren.batch.plan import Format, Frames, Group, Job, Plan, Settings, Stack, make_plan
from napari_siren.batch.report import BatchReport, write_html
from napari_siren.batch.worker import Reference, fit_image, join_frames
from napari_siren.core.fit import check_seed
from napari_siren.core.options import FitSettings
from napari_siren.core.progress_bar import ProgressBar, progress_bar
from napari_siren.core.settings.presets import PresetName
from napari_siren.core.storage.atomic import prepare_folder
from napari_siren.errors import InputError

_REPORT = "report.html"

_LOG = logging.getLogger("napari_siren")

OVERWRITE_REMEDY = "Choose another folder, or replace existing results with overwrite=True (--overwrite)."
"""Remedy of an error about a file that a batch would replace."""


@dataclass(frozen=True)
class BatchProgress:
    """The progress of a batch.

    Parameters
    ----------
    job
        Name of the job with news; an empty string at the beginning of the batch.
    state
        "begun", "fitting", "done" or "failed".
    share
        Finished share of the job, 0 to 1.
    entry
        Entry of a job that has ended, otherwise None.
    finished, total
        Number of jobs that have ended, and number of all jobs to do.
    """

    job: str
    state: Literal["begun", "fitting", "done", "failed"]
    share: float
    entry: Entry | None
    finished: int
    total: int


def fit_batch(
    inputs: str | Path | Iterable[str | Path],
    out: str | Path,
    scale: float | Sequence[float] = 2,
    *,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    preset: PresetName = "upscale",
    device: str = "auto",
    seed: int | None = 0,
    progress: bool = False,
    on_progress: Callable[[BatchProgress], object] | None = None,
    frames: Frames = "whole",
    format: Format = "auto",
    scheduler: str | None = None,
    workers: int | None = None,
    wait: float = 30.0,
    resume: bool = True,
    overwrite: bool = False,
    dry_run: bool = False,
    warm_start: bool = True,
    fill_nan: bool = False,
    stop: threading.Event | None = None,
    **overrides: Unpack[FitSettings],
) -> BatchReport:
    """Upscale many images, and write a report with pictures.

    In a script the call belongs under ``if __name__ == "__main__":``, because the started processes import the script.

    Parameters
    ----------
    inputs
        Files, folders (with everything in them), and patterns such as ``"plates/**/*.tif"``.
    out
        Folder of the results: images with the names of their originals, ``manifest.jsonl`` and ``report.html``.
    scale
        Output pixels per pixel: a number, or one for each spatial axis.
    axes, spacing
        Axes and pixel size to use instead of those in the files.
    preset
        Name of a set of settings, as in `fit`.
    device, seed
        Device, and seed of the random initialisation, as in `fit`. With several GPUs, "auto" assigns one to each
        process. The seed None is another one in each run, so that no later run can continue the batch.
    progress
        Whether to show a progress bar.
    on_progress
        Called with a `BatchProgress`, not always from the calling thread.
    frames
        "whole" treats a file as one image. "each" fits a time series (TIFF, OME-Zarr) frame by frame, and joins the
        results to one file.
    format
        File format of the results: "auto", "png", "tif", "ome.tif", "ome.zarr" or "npy". "auto" is PNG for photographs
        of 8 bits without a known pixel size, and OME-TIFF for all other images.
    scheduler
        Address of a Dask scheduler, ``"tcp://host:8786"``. Its workers must see the files under the same paths. None
        starts processes on this machine.
    workers
        Number of processes to start on this machine. None chooses it: one for each GPU, or one for each core if there
        is no GPU.
    wait
        Time that a running scheduler may be without workers, in seconds. Give more if its workers wait in a queue for
        machines.
    resume
        Whether to skip the jobs that were done before with the same settings. False does all jobs again, and replaces
        the earlier results.
    overwrite
        Whether to replace results that were made with other settings, and files that are no results of a batch.
        Otherwise they are an error. The result of an image that has changed is always replaced.
    dry_run
        Whether to only find the jobs, without doing them.
    warm_start
        Whether fits start from the model of the first similar image. Similar images are the images of one folder with
        the same shape, dtype and axes, and the frames of a stack. With presets that learn from the image, these fits
        make a third of its learning steps. The start is always the first image. A result therefore does not depend on
        the worker or the order of the fits.
    fill_nan
        Whether NaN and infinite values are missing pixels, which the field fills in. Otherwise an image with such
        values fails.
    stop
        Event that ends the batch when any thread sets it. Finished results stay, and unfinished jobs are left for the
        next run.
    **overrides
        Any fields of `FitConfig`.

    Returns
    -------
    BatchReport
        The finished jobs, and the failed jobs with their reasons. A file that cannot be read or fitted raises no
        exception; it becomes an entry of the report.

    Raises
    ------
    InputError
        An input does not exist, two images would have the same result, there is no scheduler at the address or no
        worker that can be used, Dask cannot be started, or a file would be replaced that has other settings or is no
        result of a batch.
    ConfigError
        A setting is unknown or out of range.
    DeviceError
        The device is not available.
    StorageError
        The folder cannot be written, or another batch is running in it.
    """
    folder = Path(out)
    settings = Settings.from_options(
        scale,
        preset,
        overrides,
        axes=axes,
        spacing=spacing,
        frames=frames,
        format=format,
        warm_start=warm_start,
        fill_nan=fill_nan,
        seed=check_seed(seed),
        device=device,
    )
    manifest = Manifest(folder)
    if dry_run:
        plan = make_plan(inputs, folder, settings, manifest.read() if resume else {})
        return _report_of(plan, settings, folder, [], None, ())
    prepare_folder(folder)
    with manifest.locked():
        known = manifest.read()
        plan = make_plan(inputs, folder, settings, known if resume else {})
        if not overwrite:
            _check_nothing_replaced(plan, settings, manifest, known if resume else {})
        if not resume:
            earlier = sum(job.name in known and known[job.name].status == "done" for job in plan.jobs)
            if earlier:
                _LOG.warning("%s: %d earlier results are made again, and replaced", folder, earlier)
            _forget(manifest)
        # Killed before the first entry, the batch knows that the results in the folder are its own.
        manifest.path.touch()
        run = _Run(plan, settings, manifest, on_progress, stop)
        try:
            with progress_bar("batch", shown=progress) as run.bar:
                run.begin()
                if (plan.groups or plan.stacks) and not run.stop.is_set():
                    with connected(scheduler, workers, settings, plan.jobs, wait) as connection:
                        run.go(connection)
        finally:
            # An interrupted batch writes a report, too.
            report = _report_of(plan, settings, folder, run.entries, folder / _REPORT, run.notes)
            write_html(report)
    return report


class _Run:
    """A running batch: it submits the jobs of a plan to a cluster, and records the results."""

    def __init__(
        self,
        plan: Plan,
        settings: Settings,
        manifest: Manifest,
        on_progress: Callable[[BatchProgress], object] | None,
        stop: threading.Event | None,
    ) -> None:
        self.plan, self.settings, self.manifest = plan, settings, manifest
        self.on_progress = on_progress or (lambda _: None)
        self.stop = stop or threading.Event()
        # Workers may have another working directory.
        self.folder = manifest.folder.resolve()
        self.entries: list[Entry] = []
        self.total = len(plan.jobs) + len(plan.stacks) + len(plan.failed)
        self.dispatcher: Dispatcher
        # Sentences on the cluster: workers that were not used, or that died.
        self.notes: Sequence[str] = ()
        # For each running job that makes the model of a group: the group, and the jobs that wait for the model.
        self.leaders: dict[str, tuple[Group, list[Job]]] = {}
        self.stack_of = {frame.name: stack for stack in plan.stacks for frame in stack.frames}
        self.missing_frames = Counter(
            self.stack_of[job.name].whole.name for job in plan.jobs if job.name in self.stack_of
        )
        self.frame_errors: dict[str, str] = {}
        # Dask delivers the progress of the workers in a thread of its own. No progress follows the end of a job.
        self.progress_lock = threading.Lock()
        self.running: set[str] = set()
        self.bar = ProgressBar()

    def begin(self) -> None:
        """Record the unreadable files of the plan."""
        self.on_progress(BatchProgress("", "begun", 0.0, None, 0, self.total))
        for entry in self.plan.failed:
            self._note(entry)

    def go(self, connection: Connection) -> None:
        """Submit the jobs and record their results, until all are done or the batch is stopped."""
        self.dispatcher = Dispatcher(connection, self.settings, self.folder, self.stop, self._share)
        self.notes = self.dispatcher.notes
        for group in self.plan.groups:
            self._begin(group)
        for stack in self.plan.stacks:
            if not self.missing_frames[stack.whole.name]:
                self._submit(stack, join_frames)
        for work, entry in self.dispatcher.entries():
            self._note(entry)
            if isinstance(work, Job):
                self._go_on(work, entry)
            elif entry.status == "done":
                shutil.rmtree(work.frames[0].result(self.folder).parent)

    def _begin(self, group: Group) -> None:
        """Submit the jobs of a group. If they have to start from a missing model, submit only the job for the model."""
        jobs = {job.name: job for job in group.jobs}
        if not self.settings.warm_start or len(group.names) < 2:
            self._fit(jobs.values())
            return
        # If the image of the model is fitted again, its fit starts cold and not from its own model.
        maker = next((name for name in group.names if group.model(self.folder, name).exists()), group.jobs[0].name)
        if maker in jobs:
            self._lead(group, [jobs.pop(maker), *jobs.values()])
        else:
            self._fit(jobs.values(), Reference(maker, group.model(self.folder, maker)))

    def _lead(self, group: Group, jobs: list[Job]) -> None:
        first, *rest = jobs
        self.leaders[first.name] = group, rest
        self._fit([first], keep=group.model(self.folder, first.name))

    def _go_on(self, job: Job, entry: Entry) -> None:
        """Submit the jobs and the stack waiting for a finished job."""
        group, waiting = self.leaders.pop(job.name, (None, []))
        if group is not None and waiting:
            if entry.status == "done":
                self._fit(waiting, Reference(job.name, group.model(self.folder, job.name)))
            else:
                self._lead(group, waiting)
        stack = self.stack_of.get(job.name)
        if stack is None:
            return
        name = stack.whole.name
        self.missing_frames[name] -= 1
        if entry.status == "failed":
            self.frame_errors.setdefault(name, f"frame {job.frame}: {entry.reason}")
        if self.missing_frames[name]:
            return
        if name in self.frame_errors:
            self._note(stack.whole.entry(self.settings, reason=self.frame_errors[name]))
        else:
            self._submit(stack, join_frames)

    def _fit(self, jobs: Iterable[Job], start: Reference | None = None, keep: Path | None = None) -> None:
        for job in jobs:
            self._submit(job, fit_image, start, keep)

    def _submit(self, work: Job | Stack, function: Callable[..., Entry], *more: Any) -> None:
        with self.progress_lock:
            self.running.add(work.name)
        self.dispatcher.submit(work, function, *more)

    def _note(self, entry: Entry) -> None:
        self.manifest.add(entry)
        self.entries.append(entry)
        self.bar.show(len(self.entries) / self.total, f"{len(self.entries)}/{self.total}")
        with self.progress_lock:
            self.running.discard(entry.job)
            self.on_progress(BatchProgress(entry.job, entry.status, 1.0, entry, len(self.entries), self.total))

    def _share(self, job: str, share: float) -> None:
        with self.progress_lock:
            if job in self.running:
                self.on_progress(BatchProgress(job, "fitting", share, None, len(self.entries), self.total))


def _report_of(
    plan: Plan, settings: Settings, folder: Path, entries: list[Entry], path: Path | None, notes: Sequence[str]
) -> BatchReport:
    names = {entry.job for entry in entries}
    # The order does not depend on the speed of the workers.
    ordered = sorted(entries if path else plan.failed, key=lambda entry: entry.job)
    done = tuple(entry for entry in ordered if entry.status == "done")
    failed = tuple(entry for entry in ordered if entry.status == "failed")
    remaining = tuple(job.name for job in plan.jobs if job.name not in names)
    return BatchReport(folder, done, failed, plan.done, remaining, settings, path, tuple(notes))


def _check_nothing_replaced(plan: Plan, settings: Settings, manifest: Manifest, known: Mapping[str, Entry]) -> None:
    """Raise an InputError for a result of a job with other settings, or of no batch."""
    for job in (*plan.jobs, *(stack.whole for stack in plan.stacks)):
        path, entry = job.result(manifest.folder), known.get(job.name)
        if not path.exists():
            continue
        if job.frame is None and not manifest.path.exists():
            raise InputError(f"{path} exists already, and is no result of a batch. {OVERWRITE_REMEDY}")
        if entry is not None and entry.status == "done" and entry.settings != settings.digest:
            raise InputError(
                f"{manifest.folder / job.name} was made with other settings, or by another version. {OVERWRITE_REMEDY}"
            )


def _forget(manifest: Manifest) -> None:
    manifest.path.unlink(missing_ok=True)
    for part in ("records", "models", "frames", MARKS):
        for path in kept(manifest.folder, part).glob("*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
