"""What there is to do: images found, files of results named, jobs done before left out, images alike put together."""

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
from napari_siren.core.config import FitConfig, detail_for
from napari_siren.core.image.axes import check_coordinates
from napari_siren.errors import ConfigError, InputError, SirenError
from napari_siren.io.images import Outline, outline_image, suffix_for

Format = Literal["auto", "png", "tif", "ome.tif", "ome.zarr", "npy"]
Frames = Literal["whole", "each"]

# They decide how fast a fit is, not what comes out.
_NOT_IN_DIGEST = {"threads", "max_memory", "memory_fraction", "engine"}


@dataclass(frozen=True)
class Settings:
    """What is done to each image. Use `of` to make one.

    Parameters
    ----------
    config
        Of a cold fit.
    scale, axes, spacing, seed, device
        As in `napari_siren.upscale`.
    format
        Kind of file of the results.
    each
        Whether a time series is taken frame by frame.
    warm_start
        Whether images start from what an alike one has learned.
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

    @classmethod
    def of(
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
    ) -> Settings:
        """Check what was asked for, and put it together; parameters are those of `batch`.

        Raises
        ------
        ConfigError, InputError
            Some of it cannot be.
        """
        for name, given, known in (("format", format, get_args(Format)), ("frames", frames, get_args(Frames))):
            if given not in known:
                raise ConfigError(f"{name}={given!r}: there are {', '.join(map(repr, known))}.")
        for name, size in (("scale", scale), ("spacing", spacing)):
            sizes = [] if size is None else [size] if isinstance(size, int | float) else list(size)
            if not all(0 < s < math.inf for s in sizes):
                raise InputError(f"{name}={size!r}: a positive number is needed, or one for each spatial axis.")
        config = FitConfig.preset(preset, **{"detail": detail_for(scale), **overrides})
        plain = [v if v is None or isinstance(v, int | float) else tuple(v) for v in (scale, spacing)]
        return cls(config, plain[0] or 1.0, axes, plain[1], format, frames == "each", warm_start, seed, device)

    @cached_property
    def digest(self) -> str:
        """Hash of all that the results depend on."""
        told = {
            "config": self.config.model_dump(mode="json", exclude=_NOT_IN_DIGEST),
            "fit": [self.scale, self.axes, self.spacing, self.seed, self.each, self.warm_start],
            "format": self.format,
        }
        return short_hash(json.dumps(told, sort_keys=True))


@dataclass(frozen=True)
class Job:
    """An image to fit: a file, or a frame of one.

    Parameters
    ----------
    name
        That of the file of results, and the frame.
    path
        The image's file.
    output
        File of the result, relative to the folder of results.
    size, changed
        Of the image's file: bytes, and time of its last change in nanoseconds.
    outline
        What the image is.
    frame
        Which frame, or None.
    """

    name: str
    path: Path
    output: str
    size: int
    changed: int
    outline: Outline
    frame: int | None = None

    def result(self, folder: Path) -> Path:
        """Return the file that the job writes: its own, or that of a frame, kept until the stack is whole."""
        if self.frame is None:
            return folder / self.output
        return kept(folder, "frames", short_hash(self.output), f"{self.frame:06d}.npy")

    def entry(self, settings: Settings, **told: Any) -> Entry:
        """Return an entry of the manifest, of a failure where `told` says nothing else."""
        basis = Entry(self.name, str(self.path), self.output, "failed", settings.digest, self.size, self.changed)
        return replace(basis, **told)

    def is_done(self, settings: Settings, entry: Entry | None, result: Path) -> bool:
        """Whether an entry says that the file was done with the same settings, and the result is there."""
        wanted = ("done", settings.digest, self.size, self.changed)
        found = entry and (entry.status, entry.settings, entry.size, entry.changed)
        return found == wanted and result.exists()


@dataclass(frozen=True)
class Stack:
    """Frames that become one file."""

    whole: Job
    frames: tuple[Job, ...]


@dataclass(frozen=True)
class Group:
    """Images alike, of which the later ones start from what the first one learns.

    Parameters
    ----------
    name
        Hash of what is alike: settings, folder or stack, shape, dtype and axes.
    names
        Of all jobs, those done before included.
    jobs
        Those that are to be done.
    """

    name: str
    names: tuple[str, ...]
    jobs: tuple[Job, ...]

    def model(self, folder: Path, name: str) -> Path:
        """Return the file of the model of the job of that name, from which the others start."""
        return kept(folder, "models", f"{self.name}.{short_hash(name)}.safetensors")


@dataclass(frozen=True)
class Plan:
    """All jobs of a batch.

    Parameters
    ----------
    groups
        Jobs that are to be done.
    stacks
        To be put together once their frames are done.
    done
        Entries of the jobs that were done before with the same settings.
    failed
        Entries of files that cannot be read.
    """

    groups: tuple[Group, ...]
    stacks: tuple[Stack, ...]
    done: tuple[Entry, ...]
    failed: tuple[Entry, ...]

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Those that are to be done."""
        return tuple(job for group in self.groups for job in group.jobs)


def make_plan(
    inputs: str | Path | Iterable[str | Path], folder: Path, settings: Settings, known: Mapping[str, Entry]
) -> Plan:
    """Find the images, and what is left to do with them.

    Parameters
    ----------
    inputs
        Files, folders (with all that is in them) and patterns such as ``"plates/**/*.tif"``.
    folder
        Of the results.
    settings
        What to do.
    known
        Entries of the manifest.

    Raises
    ------
    InputError
        An input is not there or holds no image, or a result would take the place of another one, or of an image.
    """
    done: list[Entry] = []
    failed: list[Entry] = []
    stacks: list[Stack] = []
    groups: dict[str, list[tuple[Job, bool]]] = {}
    for path, relative in name_results(find_images(inputs, folder)):
        stat = described_by(path).stat()
        unread = Job(relative, path, relative, stat.st_size, stat.st_mtime_ns, Outline((), "", ""))
        try:
            outline = outline_image(path, settings.axes, each=settings.each)
            if not settings.config.burst_steps:
                check_coordinates(outline.axes, None)
        except SirenError as error:
            failed.append(unread.entry(settings, reason=str(error)))
            continue
        output = relative + _ending(outline, settings)
        if (folder / output).resolve() == path:
            raise InputError(
                f"the result would take the place of {path} itself. Choose another folder for the results."
            )
        whole = replace(unread, name=output, output=output, outline=outline)
        whole_done = whole.is_done(settings, known.get(output), folder / output)
        jobs = _jobs_of(whole)
        if outline.frames is not None and not whole_done:
            stacks.append(Stack(whole, jobs))
        alike = groups.setdefault(_group_name(whole, settings), [])
        for job in jobs:
            entry = known.get(job.name)
            ready = job.is_done(settings, entry, folder / output if whole_done else job.result(folder))
            alike.append((job, ready))
            done += [entry] if ready and entry is not None else []
    left = [
        Group(name, tuple(job.name for job, _ in alike), tuple(job for job, ready in alike if not ready))
        for name, alike in groups.items()
        if not all(ready for _, ready in alike)
    ]
    return Plan(tuple(left), tuple(stacks), tuple(done), tuple(failed))


def short_hash(text: str) -> str:
    """Return a name made of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _ending(outline: Outline, settings: Settings) -> str:
    if settings.format != "auto":
        return f".{settings.format}"
    plain = outline.frames is None and outline.spacing is None and settings.spacing is None
    photo = plain and "T" not in outline.axes and suffix_for(outline.dtype, outline.axes, outline.shape) == ".png"
    return ".png" if photo else ".ome.tif"


def _jobs_of(whole: Job) -> tuple[Job, ...]:
    frames = whole.outline.frames
    if frames is None:
        return (whole,)
    digits = len(str(frames - 1))
    return tuple(replace(whole, name=f"{whole.name}#{frame:0{digits}d}", frame=frame) for frame in range(frames))


def _group_name(whole: Job, settings: Settings) -> str:
    outline = whole.outline
    place = Path(whole.output).parent.as_posix() if outline.frames is None else whole.output
    return short_hash(repr((settings.digest, place, outline.shape, outline.dtype, outline.axes)))
