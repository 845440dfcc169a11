"""Many images on Dask: what is done is not done again, and one bad file never stops the rest."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from napari_siren.batch.cluster import connected
from napari_siren.batch.manifest import Entry, Manifest, kept
from napari_siren.batch.plan import Format, Frames, Group, Job, Plan, Settings, Stack, make_plan
from napari_siren.batch.report import BatchReport, write_html
from napari_siren.batch.worker import TOPIC, Reference, fit_image, join_frames
from napari_siren.core.atomic import prepare_folder

_REPORT = "report.html"
# Between two looks at whether a batch is to stop.
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is.

    Parameters
    ----------
    job
        Name of the job that there is news of; nothing when the batch has begun.
    state
        "begun", "fitting", "done" or "failed".
    share
        How much of it is done, 0 to 1.
    entry
        Of a job that has ended.
    finished, total
        Jobs that have ended, and all that there are to do.
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
    preset: str = "upscale",
    *,
    axes: str | None = None,
    spacing: float | Sequence[float] | None = None,
    frames: Frames = "whole",
    format: Format = "auto",
    scheduler: str | None = None,
    workers: int | None = None,
    device: str = "auto",
    seed: int = 0,
    resume: bool = True,
    dry_run: bool = False,
    warm_start: bool = True,
    on_progress: Callable[[BatchProgress], object] | None = None,
    stop: threading.Event | None = None,
    **overrides: Any,
) -> BatchReport:
    """Upscale many images, and write a report with pictures.

    In a script the call belongs under ``if __name__ == "__main__":``, as the processes that it starts read the script.

    Parameters
    ----------
    inputs
        Files, folders (with all that is in them), and patterns such as ``"plates/**/*.tif"``.
    out
        Folder of the results: images under the names of their originals, ``manifest.jsonl`` and ``report.html``.
    scale
        Output pixels per pixel: a number, or one for each spatial axis.
    preset
        As in `fit`.
    axes, spacing
        In place of what the files say.
    frames
        "whole" takes a file as one image; "each" takes a time series (TIFF, OME-Zarr) frame by frame, and puts the
        results together again.
    format
        "auto" is PNG for photographs of 8 bits of which no pixel size is known, and OME-TIFF for the rest; or "png",
        "tif", "ome.tif", "ome.zarr", "npy".
    scheduler
        Address of a Dask scheduler, ``"tcp://host:8786"``; its workers must see the files under the same paths. None
        starts processes on this machine.
    workers
        Number of these; None takes what suits the machine: one for each GPU, or else for each core.
    device, seed
        As in `fit`. With several GPUs, "auto" gives each process one.
    resume
        Whether to leave out what was done before with the same settings.
    dry_run
        Only find out what there is to do.
    warm_start
        Whether the images of a folder that are of one shape, dtype and axes, and the frames of a stack, start from what
        the first of them has learned, and make a third of its steps. It is always the first, so that no result depends
        on which worker did what, or when.
    on_progress
        Called with a `BatchProgress`, not always from the thread that called.
    stop
        Set it, from any thread, to end the batch: what is done stays, and what is under way is left for the next time.
    **overrides
        Any field of `FitConfig`.

    Returns
    -------
    BatchReport
        What was done, what failed and why. A file that cannot be read, or fitted, is no exception, but an entry there.

    Raises
    ------
    InputError
        An input is not there, two would have the same result, or there is no scheduler at the address.
    ConfigError
        An unknown or impossible setting.
    DeviceError
        The device is not there.
    StorageError
        The folder cannot be written in, or another batch is at work there.
    """
    folder = Path(out)
    settings = Settings.of(
        scale,
        preset,
        overrides,
        axes=axes,
        spacing=spacing,
        frames=frames,
        format=format,
        warm_start=warm_start,
        seed=seed,
        device=device,
    )
    manifest = Manifest(folder)
    if dry_run:
        plan = make_plan(inputs, folder, settings, manifest.read() if resume else {})
        return _report_of(plan, settings, folder, [], None)
    prepare_folder(folder)
    with manifest.locked():
        plan = make_plan(inputs, folder, settings, manifest.read() if resume else {})
        if not resume:
            _forget(manifest)
        run = _Run(plan, settings, manifest, on_progress, stop)
        try:
            run.begin()
            if (plan.groups or plan.stacks) and not run.stop.is_set():
                with connected(scheduler, workers, settings, plan.jobs) as client:
                    run.go(client)
        finally:
            # An interrupted batch tells of what it has done, too.
            report = _report_of(plan, settings, folder, run.ended, folder / _REPORT)
            write_html(report)
    return report


class _Run:
    """Hands the jobs of a plan to a cluster, and takes down what comes of them."""

    def __init__(
        self,
        plan: Plan,
        settings: Settings,
        manifest: Manifest,
        tell: Callable[[BatchProgress], object] | None,
        stop: threading.Event | None,
    ) -> None:
        self.plan, self.settings, self.manifest = plan, settings, manifest
        self.tell = tell or (lambda _: None)
        self.stop = stop or threading.Event()
        # Workers may have another working directory.
        self.folder = manifest.folder.resolve()
        self.ended: list[Entry] = []
        self.total = len(plan.jobs) + len(plan.stacks) + len(plan.failed)
        self.works: dict[str, Job | Stack] = {}
        # The job of each group that makes the model, and those that wait for it.
        self.leading: dict[str, tuple[Group, list[Job]]] = {}
        self.stack_of = {frame.name: stack for stack in plan.stacks for frame in stack.frames}
        self.missing = Counter(self.stack_of[job.name].whole.name for job in plan.jobs if job.name in self.stack_of)
        self.broken: dict[str, str] = {}
        # Workers tell how far they are in a thread of Dask's; news of a job ends with its end.
        self.telling = threading.Lock()
        self.under_way: set[str] = set()

    def begin(self) -> None:
        """Take down the files that could not be read when the plan was made."""
        self.tell(BatchProgress("", "begun", 0.0, None, 0, self.total))
        for entry in self.plan.failed:
            self._note(entry)

    def go(self, client: Any) -> None:
        """Do all there is to do, or as much of it as there is time for until it is to stop."""
        from distributed import as_completed

        self.client, self.futures = client, as_completed(loop=client.loop)
        client.subscribe_topic(TOPIC, self._hear)
        for group in self.plan.groups:
            self._begin(group)
        for stack in self.plan.stacks:
            if not self.missing[stack.whole.name]:
                self._submit(stack, join_frames)
        for future in self._as_they_end():
            if future.status == "pending":
                # What a worker said was lost with it, and is asked for again.
                self.futures.add(future)
                continue
            work = self.works.pop(future.key)
            entry = _entry_of(future, work, self.settings)
            self._note(entry)
            if isinstance(work, Job):
                self._go_on(work, entry)
            elif entry.status == "done":
                shutil.rmtree(work.frames[0].result(self.folder).parent)

    def _as_they_end(self) -> Iterator[Any]:
        """Return what ends, until nothing is left or the batch is to stop."""
        while not self.stop.is_set() and not self.futures.is_empty():
            yield from self.futures.next_batch(block=False)
            if not self.futures.has_ready():
                self.stop.wait(_LOOK_SECONDS)

    def _begin(self, group: Group) -> None:
        """Submit the jobs of a group; where they start from a model that is not there, first the one that makes it."""
        jobs = {job.name: job for job in group.jobs}
        if not self.settings.warm_start or len(group.names) < 2:
            self._fit(jobs.values())
            return
        # What made a model does not start from it, should it be fitted again.
        maker = next((name for name in group.names if group.model(self.folder, name).exists()), group.jobs[0].name)
        if maker in jobs:
            self._lead(group, [jobs.pop(maker), *jobs.values()])
        else:
            self._fit(jobs.values(), Reference(maker, group.model(self.folder, maker)))

    def _lead(self, group: Group, jobs: list[Job]) -> None:
        first, *rest = jobs
        self.leading[first.name] = group, rest
        self._fit([first], keep=group.model(self.folder, first.name))

    def _go_on(self, job: Job, entry: Entry) -> None:
        """Submit what waited for a job."""
        group, waiting = self.leading.pop(job.name, (None, []))
        if group is not None and waiting:
            if entry.status == "done":
                self._fit(waiting, Reference(job.name, group.model(self.folder, job.name)))
            else:
                self._lead(group, waiting)
        stack = self.stack_of.get(job.name)
        if stack is None:
            return
        name = stack.whole.name
        self.missing[name] -= 1
        if entry.status == "failed":
            self.broken.setdefault(name, f"frame {job.frame}: {entry.reason}")
        if self.missing[name]:
            return
        if name in self.broken:
            self._note(stack.whole.entry(self.settings, reason=self.broken[name]))
        else:
            self._submit(stack, join_frames)

    def _fit(self, jobs: Iterable[Job], start: Reference | None = None, keep: Path | None = None) -> None:
        for job in jobs:
            self._submit(job, fit_image, start, keep)

    def _submit(self, work: Job | Stack, function: Callable[..., Entry], *more: Any) -> None:
        future = self.client.submit(function, work, self.settings, self.folder, *more, pure=False)
        self.works[future.key] = work
        self.under_way.add(_job_of(work).name)
        self.futures.add(future)

    def _note(self, entry: Entry) -> None:
        self.manifest.add(entry)
        self.ended.append(entry)
        with self.telling:
            self.under_way.discard(entry.job)
            self.tell(BatchProgress(entry.job, entry.status, 1.0, entry, len(self.ended), self.total))

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        job, share = event[1]["job"], event[1]["share"]
        with self.telling:
            if job in self.under_way:
                self.tell(BatchProgress(job, "fitting", share, None, len(self.ended), self.total))


def _entry_of(future: Any, work: Job | Stack, settings: Settings) -> Entry:
    """Return what a worker says, or that it can say nothing any more."""
    try:
        # It may be lost with its worker just now: this waits for another one to say it.
        error = future.exception()
        if error is None:
            entry: Entry = future.result()
            return entry
        reason = f"{type(error).__name__}: {error}"
    except Exception as lost:  # the scheduler went away
        error, reason = lost, f"the cluster was lost ({type(lost).__name__}). Run the batch again to go on."
    if type(error).__name__ == "KilledWorker":
        reason = "the processes that fitted it died one after the other, most likely for want of memory."
    return _job_of(work).entry(settings, reason=reason)


def _job_of(work: Job | Stack) -> Job:
    return work if isinstance(work, Job) else work.whole


def _report_of(plan: Plan, settings: Settings, folder: Path, ended: list[Entry], path: Path | None) -> BatchReport:
    names = {entry.job for entry in ended}
    # In an order that does not depend on which worker was the faster.
    ordered = sorted(ended if path else plan.failed, key=lambda entry: entry.job)
    done = tuple(entry for entry in ordered if entry.status == "done")
    failed = tuple(entry for entry in ordered if entry.status == "failed")
    left = tuple(job.name for job in plan.jobs if job.name not in names)
    return BatchReport(folder, done, failed, plan.done, left, settings, path)


def _forget(manifest: Manifest) -> None:
    manifest.path.unlink(missing_ok=True)
    for part in ("records", "models", "frames"):
        for left in kept(manifest.folder, part).glob("*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
