"""`Plan`: the jobs of a batch, with names for the results, without finished jobs, and with groups of similar images."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from napari_siren.batch.inputs import described_by, find_images, name_results
from napari_siren.batch.manifest import Entry, kept
from napari_siren.core.image.axes import Axes, check_coordinates
from napari_siren.core.settings.config import FitConfig, detail_for
from napari_siren.errors import ConfigError, InputError, SirenError
from napari_siren.io.formats import FORMATS, FormatName
from napari_siren.io.images import inspect_image
from napari_siren.io.picture import ImageInfo, suffix_for

Format = Literal["auto"] | FormatName
# Names of the formats of results.
FORMAT_CHOICES = ("auto", *(name for name, entry in FORMATS.items() if entry.for_batches))
Frames = Literal["whole", "each"]


@dataclass(frozen=True)
class Settings:
    """The settings of a batch, created by `from_options`.

    Parameters
    ----------
    config
        Settings of a cold fit.
    scale, axes, spacing, seed, device
        Output pixels per pixel, axes, pixel size, seed and device, as in `napari_siren.upscale`.
    format
        File format of the results.
    each
        Whether a time series is fitted frame by frame.
    warm_start
        Whether fits start from the model of a similar image.
    fill_nan
        Whether NaN and infinite values are missing pixels.
    """

    config: FitConfig
    scale: float | tuple[float, ...]
    axes: str | None
    spacing: float | tuple[float, ...] | None
    format: Format
    each: bool
    warm_start: bool
    seed: int
    device: str
    fill_nan: bool = False

    @classmethod
    def from_options(
        cls,
        scale: float | Sequence[float],
        preset: str,
        overrides: Mapping[str, Any],
        *,
        axes: str | None,
        spacing: float | Sequence[float] | None,
        frames: Frames,
        format: Format,
        warm_start: bool,
        seed: int,
        device: str,
        fill_nan: bool = False,
    ) -> Settings:
        """Check the options, and create the settings. The parameters are those of `fit_batch`.

        Raises
        ------
        ConfigError, InputError
            An option is unknown or out of range.
        """
        for name, value, choices in (("format", format, FORMAT_CHOICES), ("frames", frames, get_args(Frames))):
            if value not in choices:
                raise ConfigError(f"{name}={value!r} is unknown. Choose one of {', '.join(map(repr, choices))}.")
        for name, size in (("scale", scale), ("spacing", spacing)):
            sizes = [] if size is None else [size] if isinstance(size, int | float) else list(size)
            if not all(0 < s < math.inf for s in sizes):
                raise InputError(
                    f"{name}={size!r} is not positive. Give a positive number, or one for each spatial axis."
                )
        config = FitConfig.preset(preset, **{"detail": detail_for(scale), **overrides})
        plain = [v if v is None or isinstance(v, int | float) else tuple(v) for v in (scale, spacing)]
        each = frames == "each"
        return cls(config, plain[0] or 1.0, axes, plain[1], format, each, warm_start, seed, device, fill_nan)

    @cached_property
    def digest(self) -> str:
        """Hash of all settings with an influence on the results."""
        values = {
            "config": self.config.described(),
            "fit": [self.scale, self.axes, self.spacing, self.seed, self.each, self.warm_start],
            "format": self.format,
            **({"fill_nan": True} if self.fill_nan else {}),
        }
        return short_hash(json.dumps(values, sort_keys=True))


@dataclass(frozen=True)
class Job:
    """An image to fit: a file, or one frame of a file.

    Parameters
    ----------
    name
        Name of the file of the result, with the number of the frame if there is one.
    path
        The image's file.
    output
        File of the result, relative to the folder of results.
    size, changed
        Size of the image's file in bytes, and time of its last change in nanoseconds.
    outline
        Shape, dtype, axes, pixel size and number of frames of the image.
    frame
        Index of the frame, or None for the whole file.
    """

    name: str
    path: Path
    output: str
    size: int
    changed: int
    outline: ImageInfo
    frame: int | None = None

    def result(self, folder: Path) -> Path:
        """Return the file of the job's result.

        The result of a frame has a file of its own until the stack is complete.
        """
        if self.frame is None:
            return folder / self.output
        return kept(folder, "frames", short_hash(self.output), f"{self.frame:06d}.npy")

    def entry(self, settings: Settings, **values: Any) -> Entry:
        """Return an entry of the manifest, with the status "failed" and the fields in `values` changed."""
        basis = Entry(self.name, str(self.path), self.output, "failed", settings.digest, self.size, self.changed)
        return replace(basis, **values)

    def is_done(self, settings: Settings, entry: Entry | None, result: Path) -> bool:
        """Return whether an entry shows the same file done with the same settings, and the result is whole."""
        if entry is None or entry.written is None:
            return False
        expected = ("done", settings.digest, self.size, self.changed)
        actual = (entry.status, entry.settings, entry.size, entry.changed)
        return actual == expected and entry.written.matches(result)


@dataclass(frozen=True)
class Stack:
    """The frames of one file, fitted separately and then joined."""

    whole: Job
    frames: tuple[Job, ...]

    @property
    def name(self) -> str:
        """Name of the job for the whole file."""
        return self.whole.name


@dataclass(frozen=True)
class Group:
    """Similar images. The fits of all but the first one start from the model of the first one.

    Parameters
    ----------
    name
        Hash of the common properties: settings, folder or stack, shape, dtype and axes.
    names
        Names of all jobs of the group, including those done before.
    jobs
        Jobs to do.
    """

    name: str
    names: tuple[str, ...]
    jobs: tuple[Job, ...]

    def model(self, folder: Path, name: str) -> Path:
        """Return the file for the model of a job, by the job's name. The other fits of the group start from it."""
        return kept(folder, "models", f"{self.name}.{short_hash(name)}.safetensors")


@dataclass(frozen=True)
class Plan:
    """All jobs of a batch.

    Parameters
    ----------
    groups
        Groups with jobs to do.
    stacks
        Stacks to join once their frames are done.
    done
        Entries of the jobs that were done before with the same settings.
    failed
        Entries of the files that cannot be read.
    """

    groups: tuple[Group, ...]
    stacks: tuple[Stack, ...]
    done: tuple[Entry, ...]
    failed: tuple[Entry, ...]

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Jobs to do, of all groups."""
        return tuple(job for group in self.groups for job in group.jobs)


def make_plan(
    inputs: str | Path | Iterable[str | Path], folder: Path, settings: Settings, known: Mapping[str, Entry]
) -> Plan:
    """Find the images of a batch, and return the remaining work.

    Parameters
    ----------
    inputs
        Files, folders (with everything in them) and patterns such as ``"plates/**/*.tif"``.
    folder
        Folder of the results.
    settings
        Settings of the batch.
    known
        Entries of the manifest, by the name of the job.

    Raises
    ------
    InputError
        An input does not exist or holds no image, or a result would replace another result or an image.
    """
    done: list[Entry] = []
    failed: list[Entry] = []
    stacks: list[Stack] = []
    groups: dict[str, list[tuple[Job, bool]]] = {}
    for path, relative in name_results(find_images(inputs, folder)):
        stat = described_by(path).stat()
        basis = Job(relative, path, relative, stat.st_size, stat.st_mtime_ns, ImageInfo((), "", Axes()))
        try:
            outline = inspect_image(path, settings.axes, each=settings.each)
            if not settings.config.joins_frames:
                check_coordinates(outline.axes, None)
        except SirenError as error:
            failed.append(basis.entry(settings, reason=str(error)))
            continue
        output = relative + _ending(outline, settings)
        if (folder / output).resolve() == path:
            raise InputError(
                f"the result would replace the image {path} itself. Choose another folder for the results."
            )
        whole = replace(basis, name=output, output=output, outline=outline)
        whole_done = whole.is_done(settings, known.get(output), folder / output)
        jobs = _jobs_of(whole)
        if outline.frames is not None and not whole_done:
            stacks.append(Stack(whole, jobs))
        group = groups.setdefault(_group_name(whole, settings), [])
        for job in jobs:
            entry = known.get(job.name)
            ready = whole_done or job.is_done(settings, entry, job.result(folder))
            group.append((job, ready))
            done += [entry] if ready and entry is not None else []
    remaining = [
        Group(name, tuple(job.name for job, _ in group), tuple(job for job, ready in group if not ready))
        for name, group in groups.items()
        if not all(ready for _, ready in group)
    ]
    return Plan(tuple(remaining), tuple(stacks), tuple(done), tuple(failed))


def short_hash(text: str) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _ending(outline: ImageInfo, settings: Settings) -> str:
    if settings.format != "auto":
        return f".{settings.format}"
    plain = outline.frames is None and outline.spacing is None and settings.spacing is None
    photo = plain and outline.axes.time is None and _suffix(outline) == ".png"
    return ".png" if photo else ".ome.tif"


def _suffix(outline: ImageInfo) -> str:
    return suffix_for(outline.dtype, outline.axes, outline.shape, outline.has_alpha)


def _jobs_of(whole: Job) -> tuple[Job, ...]:
    frames = whole.outline.frames
    if frames is None:
        return (whole,)
    digits = len(str(frames - 1))
    return tuple(replace(whole, name=f"{whole.name}#{frame:0{digits}d}", frame=frame) for frame in range(frames))


def _group_name(whole: Job, settings: Settings) -> str:
    outline = whole.outline
    source = Path(whole.output).parent.as_posix() if outline.frames is None else whole.output
    return short_hash(repr((settings.digest, source, outline.shape, outline.dtype, outline.axes)))
