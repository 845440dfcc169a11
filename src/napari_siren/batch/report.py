"""The report of a batch: one self-contained HTML file with pictures, figures and failures."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from io import StringIO
from pathlib import Path
from string import Template
from typing import Any

from napari_siren.batch.manifest import Entry
from napari_siren.batch.plan import Settings
from napari_siren.batch.worker import read_record
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.storage.atomic import atomic_write
from napari_siren.core.storage.versions import version_of
from napari_siren.reporting.plots import can_plot

# The thumbnails of a job, and their captions.
_PICTURES = {
    "image": "original",
    "detail": "detail",
    "upscaled": "upscaled detail",
    "error": "error",
}
# Columns with a histogram, and the label of its horizontal axis.
_PLOTTED = {"PSNR": "PSNR [dB]", "SSIM": "SSIM", "time": "time [s]"}
# Packages whose versions are reported.
_PACKAGES = ("napari-siren", "torch", "numpy", "distributed")
# Most failures in the text of a report, and the longest line.
_FAILURES, _LENGTH = 5, 120


@dataclass(frozen=True)
class BatchReport:
    """The results of a batch.

    Parameters
    ----------
    folder
        Folder of the results.
    done, failed
        Entries of the jobs that were done in this run, and of those that failed.
    skipped
        Entries of the jobs that were done before with the same settings.
    planned
        Names of the remaining jobs, after a dry run or an interrupted batch.
    settings
        Settings of the batch.
    path
        File of the HTML report; None for a dry run.
    notes
        Sentences on the cluster: workers that were not used, versions that differ, and processes that died.
    """

    folder: Path
    done: tuple[Entry, ...]
    failed: tuple[Entry, ...]
    skipped: tuple[Entry, ...]
    planned: tuple[str, ...]
    settings: Settings
    path: Path | None
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return the numbers of images, and the first failures with their reasons, in a few lines."""
        counts = ", ".join(f"{count} {name}" for count, name in _counts(self) if count)
        failures = [" ".join(f"  {entry.job}: {entry.reason}".splitlines()) for entry in self.failed[:_FAILURES]]
        more = len(self.failed) - len(failures)
        lines = [
            f"BatchReport({str(self.folder)!r}, {counts or 'nothing to do'})",
            *(line if len(line) <= _LENGTH else f"{line[: _LENGTH - 2]} …" for line in failures),
            *([f"  {more} more failed: see report.failed"] if more else []),
        ]
        return "\n".join(lines)

    @property
    def ok(self) -> bool:
        """Whether no job failed."""
        return not self.failed


@dataclass(frozen=True)
class _Column:
    """A column of the table: its title, the value to sort by, and the displayed text."""

    title: str
    value: Callable[[Entry], float | str | None]
    shown: Callable[[Any], str]
    # Whether larger values are better. The first click then sorts in ascending order: the worst image comes first.
    ascending: bool = True


_COLUMNS = (
    _Column("image", lambda e: e.job, str),
    _Column("PSNR", lambda e: e.metrics.get("psnr"), lambda v: "exact" if math.isinf(v) else f"{v:.1f} dB"),
    _Column("consistency", lambda e: e.metrics.get("consistency"), lambda v: f"{v:.1f} dB"),
    _Column("SSIM", lambda e: e.metrics.get("ssim"), lambda v: f"{v:.4f}"),
    _Column("RMSE", lambda e: e.metrics.get("rmse"), lambda v: f"{v:.3g}", ascending=False),
    _Column("time", lambda e: e.seconds, lambda v: f"{v:.1f} s", ascending=False),
    _Column("steps", lambda e: float(e.steps), lambda v: f"{v:.0f}"),
    _Column("start", lambda e: e.start or "", lambda v: f"from {v}" if v else "cold"),
)


def write_html(report: BatchReport) -> None:
    """Write the report of a batch as an HTML file.

    The file is written under another name first, and then moved into place. A dry run has no file.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    if report.path is None:
        return
    shown = [entry for entry in sorted((*report.done, *report.skipped), key=lambda e: e.job) if entry.metrics]
    page = Template((files("napari_siren.batch") / "report.html").read_text(encoding="utf-8"))
    with atomic_write(report.path) as aside, aside.open("w", encoding="utf-8") as file:
        file.write(
            page.substitute(
                summary=_summary(report),
                notes="".join(f"<p>Note: {escape(note)}</p>" for note in report.notes),
                failures=_failures(report.failed),
                plots=_plots(shown),
                heads="".join(_head(i, column) for i, column in enumerate(_COLUMNS)),
                rows="\n".join(_row(entry, report.folder) for entry in shown),
                settings=_settings(report),
            )
        )


# ---- the parts ---------------------------------------------------------------------------------------------


def _summary(report: BatchReport) -> str:
    cards = (
        f'<div class="card {"bad" if name == "failed" else ""}"><b>{count}</b> {name}</div>'
        for count, name in _counts(report)
        if count
    )
    return "".join(cards) or '<div class="card">nothing to do</div>'


def _counts(report: BatchReport) -> list[tuple[int, str]]:
    return [
        (len(report.failed), "failed"),
        (_images(report.done), "done"),
        (_images(report.skipped), "done before"),
        (len(report.planned), "left to do"),
    ]


def _failures(failed: Iterable[Entry]) -> str:
    items = [
        f"<li><b>{escape(entry.input)}</b>{_frame_of(entry)}<br>{escape(entry.reason or '')}"
        + (
            f"<details><summary>traceback</summary><pre>{escape(entry.traceback)}</pre></details>"
            if entry.traceback
            else ""
        )
        + "</li>"
        for entry in failed
    ]
    return f'<section class="bad"><h2>Failed</h2><ul>{"".join(items)}</ul></section>' if items else ""


def _head(index: int, column: _Column) -> str:
    order = "ascending" if column.ascending else "descending"
    return f'<th scope="col"><button data-column="{index}" data-first="{order}">{column.title}</button></th>'


def _row(entry: Entry, folder: Path) -> str:
    _, pictures = read_record(folder, entry.job)
    figures = "".join(
        f'<figure><button type="button"><img loading="lazy" alt="{title} of {escape(entry.job)}" '
        f'src="{escape(pictures[name])}"></button><figcaption>{title}</figcaption></figure>'
        for name, title in _PICTURES.items()
        if name in pictures
    )
    cells = "".join(_cell(column, column.value(entry)) for column in _COLUMNS)
    notes = "".join(f'<p class="note">Note: {escape(note)}</p>' for note in entry.notes)
    pictures_row = f'<tr class="pictures"><td colspan="{len(_COLUMNS)}">{figures}{notes}</td></tr>'
    return f"<tbody><tr>{cells}</tr>{pictures_row}</tbody>"


def _cell(column: _Column, value: float | str | None) -> str:
    sorts_by = "" if value is None else f"{value:.9g}" if isinstance(value, float) else escape(value)
    shown = "–" if value is None else escape(column.shown(value))
    return f'<td data-title="{column.title}" data-value="{sorts_by}">{shown}</td>'


def _plots(entries: Sequence[Entry]) -> str:
    """Return histograms of PSNR, SSIM and time as SVG, or nothing without matplotlib (see the extra "batch")."""
    if not can_plot():
        return ""
    figures = []
    for column in (c for c in _COLUMNS if c.title in _PLOTTED):
        values = [column.value(entry) for entry in entries]
        known = [value for value in values if isinstance(value, float) and math.isfinite(value)]
        if len(known) > 1:
            figures.append(f"<figure>{_histogram(known, _PLOTTED[column.title])}</figure>")
    return f'<section><h2>Distribution</h2><div class="plots">{"".join(figures)}</div></section>' if figures else ""


def _histogram(values: Sequence[float], title: str) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    # Text stays text: the drawing is small, and the page sets font and colour. The salt makes the identifiers of the
    # drawings in a page different.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure = Figure(figsize=(3.2, 2.0), layout="constrained")
        axes = figure.subplots()
        axes.hist(values, bins=min(30, max(5, round(math.sqrt(len(values))))), color="#3b7dd8")
        axes.set(xlabel=title, ylabel="images")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        figure.patch.set_alpha(0)
        axes.patch.set_alpha(0)
        stored = StringIO()
        figure.savefig(stored, format="svg", metadata={"Date": None})
    drawing = stored.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    # The page sets the size of the drawing, so that its own size in points is removed.
    drawing = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", drawing, count=1)
    drawing = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", drawing, count=1)
    return drawing.replace("#000000", "currentColor")


def _settings(report: BatchReport) -> str:
    settings = report.settings
    preset = FitConfig.preset(settings.config.name)
    changes = {
        name: value
        for name, value in settings.config.model_dump(mode="json").items()
        if value != preset.model_dump(mode="json")[name]
    }
    rows = {
        "preset": settings.config.name,
        "scale": settings.scale,
        "changed settings": ", ".join(f"{name} = {value}" for name, value in changes.items()) or "none",
        "axes": settings.axes or "from the files",
        "pixel size": settings.spacing or "from the files",
        "time series": "frame by frame" if settings.each else "whole",
        "format": settings.format,
        "warm start": "yes" if settings.warm_start else "no",
        "seed": settings.seed,
        "device": settings.device,
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *(f"{name} {version_of(name)}" for name in _PACKAGES)]
        ),
        "machine": platform.platform(),
        "hash of the settings": settings.digest,
    }
    return "".join(f"<dt>{name}</dt><dd>{escape(str(value))}</dd>" for name, value in rows.items())


def _images(entries: Iterable[Entry]) -> int:
    """Return the number of fitted images. Joined stacks do not count."""
    return sum(bool(entry.metrics) for entry in entries)


def _frame_of(entry: Entry) -> str:
    _, hash_sign, frame = entry.job.rpartition("#")
    return f", frame {escape(frame)}" if hash_sign and frame.isdigit() else ""
