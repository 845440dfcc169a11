"""Texts for the panel: progress, outcome, estimate and batch, in words. No Qt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_siren.core.image.samples import NAN_REMEDY
from napari_siren.layers.outputs import METADATA_KEY, RESULT_KEY
from napari_siren.reporting.lengths import describe_length
from napari_siren.reporting.noise import describe_noise
from napari_siren.ui.logic.missing import FILL_NAN
from napari_siren.ui.tasks.fit import explain

if TYPE_CHECKING:
    from napari_siren.batch.manifest import Entry
    from napari_siren.batch.report import BatchReport
    from napari_siren.core.cost.base import Estimate
    from napari_siren.core.result import FitResult
    from napari_siren.layers.spec import LayerData
    from napari_siren.ui.tasks.fit import Outcome
    from napari_siren.ui.tasks.updates import Update

# Text for each reason in `History.stopped`.
_STOPPED = {
    "max_steps": "Done",
    "max_seconds": "Done: the time is up",
    "target_psnr": "Done: the target PSNR is reached",
    "asked": "Stopped and kept",
}


# Name of each phase of a fit.
_PHASES = {
    "drafting": "Drafting",
    "restoring": "Restoring",
    "adapting": "Adapting to the image",
    "learning": "Learning from the image",
    "fitting": "Fitting the result",
}


def duration(seconds: float) -> str:
    """Return a time in words: 8 s, 3 min 20 s, 2 h 5 min."""
    whole = max(1, round(seconds))
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size(n_bytes: float) -> str:
    """Return a size in memory in words: 12 MB, 3.4 GB."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{max(1, round(n_bytes / 1e6))} MB"


def decibels(psnr: float) -> str:
    """Return a PSNR in words. The PSNR of an exact image is infinite."""
    return f"{psnr:.2f} dB" if math.isfinite(psnr) else ("exact" if psnr > 0 else "unknown yet")


def describe_progress(update: Update) -> str:
    """Return the progress of a fit in words, with its number among fits one by one."""
    progress = update.progress
    number = f"{progress.entry + 1} of {progress.entries}. " if progress.entries > 1 else ""
    return number + _describe_step(update)


def _describe_step(update: Update) -> str:
    progress, phase = update.progress, update.progress.phase
    if phase is None:
        position = f"step {progress.step} of {progress.max_steps}"
        activity = "Fitting"
    else:
        position, activity = f"{phase.step} of {phase.steps}", _PHASES[phase.name]
    # The PSNR measures the reproduction of the pixels. This is not the purpose of a restoration.
    quality = f", PSNR {decibels(progress.psnr)}" if phase is None and math.isfinite(progress.psnr) else ""
    if update.paused:
        return f"Paused at {position}{quality}" if phase is None else f"Paused. {activity}: {position}"
    if progress.step >= progress.max_steps:
        return "Measuring, and rendering the upscaled layer…"
    remaining = describe_remaining(progress.seconds_left)
    return f"{activity}: {position}{quality}{'; ' if remaining else ''}{remaining}"


def describe_remaining(seconds: float | None) -> str:
    """Return a remaining time in words, or an empty string if it is not known."""
    return "" if seconds is None else f"about {duration(seconds)} left"


def describe_share(share: float, seconds_left: float | None) -> str:
    """Return the progress of a map of the result in words."""
    remaining = describe_remaining(seconds_left)
    return f"Estimating the errors: {share:.0%}{'; ' if remaining else ''}{remaining}"


def describe_outcome(result: FitResult) -> str:
    """Return in words why a fit ended, how long it took, and what the result is worth for its purpose."""
    history = result.history
    count = history.step[-1] if history.step else 0
    reason = _STOPPED.get(history.stopped, "Fitted")
    notes = describe_notes(result.provenance.get("notes", ()))
    if result.field.observation is None:
        steps = f", {count} step{'' if count == 1 else 's'} in {duration(history.seconds[-1])}" if count else ""
        metrics = result.metrics
        ssim = f", SSIM {metrics.ssim:.4f}" if metrics.ssim is not None and math.isfinite(metrics.ssim) else ""
        return f"{reason}{steps}. PSNR {decibels(metrics.psnr)}{ssim}, largest error {metrics.max_abs:.3g}{notes}"
    time = f" in {duration(history.seconds[-1])}" if count else ""
    return f"{reason}{time}. {_verdict(result)}{notes}"


def describe_series(outcome: Outcome, count: int) -> str:
    """Return in words how fits one by one ended.

    Parameters
    ----------
    outcome
        Outcome of the fits.
    count
        Number of entries to fit.
    """
    done = outcome.entries or 0
    if outcome.error is not None:
        return f"The first {done} of {count} are done. The next one failed: {explain(outcome.error)}"
    if done < count:
        early = _entries_of(outcome)[-1]["history"]["stopped"] == "asked"
        end = "there, the last one with fewer steps" if early else "done"
        return f"Stopped and kept: the first {done} of {count} are {end}"
    return f"Done: {count} one by one in {duration(outcome.seconds)}{describe_notes(_notes_of(outcome))}"


def _notes_of(outcome: Outcome) -> list[str]:
    """Return the notes of all fits one by one, each once."""
    return list(dict.fromkeys(note for entry in _entries_of(outcome) for note in entry.get("notes", ())))


def _entries_of(outcome: Outcome) -> list[dict[str, Any]]:
    """Return the metadata of each fit of fits one by one."""
    _, meta, _ = (outcome.layers or {})["reconstruction"]
    entries: list[dict[str, Any]] = meta["metadata"][METADATA_KEY]["entries"]
    return entries


def _verdict(result: FitResult) -> str:
    """Return in words what a restoration has done."""
    metrics, task = result.metrics, result.config.restoration
    removes = "" if task is None else task.removes
    if removes == "noise":
        noise = f"Removed noise with a standard deviation of {metrics.rmse:.3g} {_values(result)}"
        if "noise" in result.provenance:
            noise += f". Noise of the image: {describe_noise(result.provenance['noise'])}"
        if metrics.image_resolution is None:
            return noise
        return f"{noise}. The resolution of the image was {describe_length(metrics.image_resolution, result)}"
    if removes == "blur":
        width = result.config.psf_width
        blur = f" of {width:.3g} (full width at half maximum)" if isinstance(width, float) else ""
        return f"Removed the blur{blur}. {_agreement(result)}"
    shape = " × ".join(map(str, reversed(result.field.representation.shape)))
    agreement = metrics.consistency
    if agreement is None:
        return f"{shape} pixels computed"
    exact = "exactly" if math.isinf(agreement) else f"to {agreement:.1f} dB"
    return f"{shape} pixels computed. Reduced again, they agree with the image {exact}"


def _agreement(result: FitResult) -> str:
    """Return in words how well a result without blur agrees with the image."""
    metrics = result.metrics
    # Models of earlier versions do not have the error.
    if metrics.rse is None:
        return f"It differs from the image by {metrics.rmse:.3g} {_values(result)}"
    correlation = "" if metrics.rsp is None else f" (correlation {metrics.rsp:.4f})"
    return f"Blurred again, it differs from the image by {metrics.rse:.3g} {_values(result)}{correlation}"


def _values(result: FitResult) -> str:
    """Return the unit of the values of an image."""
    return "grey levels" if np.dtype(result.field.layout.dtype).kind in "ui" else "(units of the image)"


def describe_map(layer_data: LayerData) -> str:
    """Return the typical and the largest value of a map of errors in words. Other layers have no such text."""
    metadata = layer_data[1]["metadata"]
    about = metadata[METADATA_KEY]
    if "mean_error" not in about:
        return ""
    kind = "Error of the reconstruction" if about["role"] == "error" else "Expected error of the result"
    values = _values(metadata[RESULT_KEY])
    return f"{kind}: typically {about['mean_error']:.2g}, at most {about['largest_error']:.2g} {values}"


def describe_result(name: str, age: float | None) -> str:
    """Return the name of a result and its age in words.

    Parameters
    ----------
    name
        Name of the layer.
    age
        Seconds since the end of the fit; None for a model that was opened.
    """
    if age is None or not name:
        return name
    minutes = int(age // 60)
    if minutes < 60:
        return f"{name}, made {f'{minutes} min ago' if minutes else 'just now'}"
    return f"{name}, made {minutes // 60} h ago"


def describe_sizes(before: Sequence[int], after: Sequence[int]) -> str:
    """Return the numbers of pixels of an image and of its result in words, along x first."""
    first, second = (" × ".join(map(str, reversed(shape))) for shape in (before, after))
    return f"{first} pixels" if first == second else f"{first} → {second} pixels"


def describe_estimate(estimate: Estimate, count: int = 1) -> str:
    """Return the estimated time and memory of a fit, or of several fits one by one, in words."""
    time = "time unknown" if estimate.seconds is None else f"about {duration(count * estimate.seconds)}"
    warning = "" if estimate.fits else " — more than is free"
    return f"{estimate.device}: {time}{f' for {count}' if count > 1 else ''}, {size(estimate.memory)}{warning}"


def describe_batch(finished: int, total: int, failed: int) -> str:
    """Return the progress of a batch in words."""
    failures = f", {failed} failed" if failed else ""
    return f"Fitting: {finished} of {images(total)} finished{failures}"


def describe_report(report: BatchReport) -> str:
    """Return the result of a batch in words, with its own notes and the number of images with notes."""
    counts = {
        "done": report.done,
        "failed": report.failed,
        "done before": report.skipped,
        "left to do": report.planned,
    }
    summary = ", ".join(f"{len(entries)} {name}" for name, entries in counts.items() if entries)
    noted = sum(bool(entry.notes) for entry in (*report.done, *report.failed, *report.skipped))
    notes = (f". {images(noted)} with notes: see the list" if noted else "") + describe_notes(report.notes)
    if report.planned:
        return f"Stopped: {summary}. Press Start to continue{notes}"
    return f"Finished: {summary or 'nothing to do'}{notes}"


def describe_entry(entry: Entry) -> str:
    """Return the state of an image of a batch in words."""
    if entry.status == "failed":
        return f"failed: {_reason(entry)}"
    psnr = entry.metrics.get("psnr")
    return "done" if psnr is None else f"done, {decibels(psnr)}"


def describe_notes(notes: Iterable[str]) -> str:
    """Return notes as sentences to be appended to another one."""
    return "".join(f". Note: {note}" for note in notes)


def describe_failures(report: BatchReport) -> str:
    """Return a message with the first failed image of a batch, its reason, and the number of other failures."""
    first, *others = report.failed
    more = f" {len(others)} more failed: see the list, or the report." if others else ""
    return f"{first.job} failed: {_reason(first)}{more}"


def images(count: int) -> str:
    """Return a number of images in words: 1 image, 5 images."""
    return f"{count} image{'' if count == 1 else 's'}"


def _reason(entry: Entry) -> str:
    """Return why an image failed, with the remedy that the panel offers.

    The path is shortened to the file name, because list and notification are narrow.
    """
    reason = (entry.reason or "").replace(NAN_REMEDY, f"Tick “{FILL_NAN}”.")
    return reason.replace(entry.input, Path(entry.input).name)
