"""`conflicts`: the settings of a fit that exclude each other, and `without_unsuitable`, which avoids such pairs.

One setting may need another. An error names the setting that excludes the others, with a change that makes all of them
possible together.
"""

# ruff: noqa: D102 - `FitConfig` describes the settings.
from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from napari_siren.core.settings.tasks import ObservationName, Task, TaskName


class Settings(Protocol):
    """The settings that are compared: see `FitConfig`."""

    @property
    def tile(self) -> int | str: ...
    @property
    def coordinates(self) -> str: ...
    @property
    def observation(self) -> ObservationName: ...
    @property
    def psf_width(self) -> object: ...
    @property
    def psf(self) -> object: ...
    @property
    def total_variation(self) -> float | str: ...
    @property
    def task(self) -> TaskName | None: ...
    @property
    def task_steps(self) -> int: ...
    @property
    def restoration(self) -> Task | None: ...
    @property
    def sees_area(self) -> bool: ...


def conflicts(config: Settings) -> list[str]:
    """Return a sentence for each conflict between settings, without the full stop at the end."""
    return [*_ranges(config), *_observation(config), *_task_steps(config), *_coordinates(config)]


def without_unsuitable(preset: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a preset with overrides, without values excluded by the overrides.

    A setting that was given is never changed: with an impossible pair of these, `FitConfig` raises an error.

    Parameters
    ----------
    preset, overrides
        Fields of the preset, and the fields to change.

    Examples
    --------
    >>> without_unsuitable({"task": "denoise", "task_steps": 1500}, {"task": None})
    {'task': None, 'task_steps': 0}
    """
    adapted: dict[str, Any] = {}
    if overrides.get("psf") is not None:
        adapted |= {"observation": "measured", "psf_width": None}
    observation = overrides.get("observation", "gaussian")
    if observation != "gaussian":
        adapted["psf_width"] = None
    if observation == "point":
        adapted["total_variation"] = 0.0
    if overrides.get("task", "") is None:
        adapted["task_steps"] = 0
    return {**preset, **adapted, **overrides}


def _ranges(config: Settings) -> Iterator[str]:
    if isinstance(config.tile, int) and config.tile < 4:
        yield f'tile={config.tile} is too small. Use 4 pixels or more, "auto" or "whole"'
    if isinstance(config.total_variation, float) and not 0 <= config.total_variation <= 10:
        yield f'total_variation={config.total_variation} is out of range. Use 0 to 10, or "auto"'


def _observation(config: Settings) -> Iterator[str]:
    """Yield the conflicts of the observation with the task, the blur and the prior."""
    task, kind = config.restoration, config.observation
    if config.psf is not None and config.psf_width is not None:
        yield (
            'psf and psf_width describe the blur twice. Leave out psf_width with observation="measured", or psf with '
            'observation="gaussian"'
        )
    elif task is not None and kind not in task.observations:
        # Another observation decides which settings of the blur and which prior are possible.
        yield (
            f"the task {task.name!r} is not possible with observation={kind!r}. {_way(config, task)}. Without the task "
            "(task=None, task_steps=0), the pixels themselves are fitted"
        )
    elif blur := list(_blur(config)):
        yield from blur
    elif config.total_variation != 0 and not config.sees_area:
        yield 'total_variation needs samples within a pixel. Use observation="box", or set total_variation=0'


def _way(config: Settings, task: Task) -> str:
    """Return the remedy for a task that is not possible with the observation."""
    for kind, name, value in (("gaussian", "psf_width", config.psf_width), ("measured", "psf", config.psf)):
        if value is not None:
            return f'Use observation="{kind}", which {name} is for'
    return task.requirement


def _blur(config: Settings) -> Iterator[str]:
    """Yield the conflict between the observation and the description of the blur."""
    for kind, name, value in (("gaussian", "psf_width", config.psf_width), ("measured", "psf", config.psf)):
        if config.observation == kind and value is None:
            yield f'observation="{kind}" needs {name}. {_needs(config, kind)}'
        elif config.observation != kind and value is not None and config.observation not in ("gaussian", "measured"):
            yield f'{name} is only for observation="{kind}". Set that, or leave out {name} ({name}=None)'


def _needs(config: Settings, kind: str) -> str:
    """Return the remedy for an observation without its description of the blur."""
    if kind == "gaussian":
        other = ', or use observation="measured" for the psf' if config.psf is not None else ""
        return f'Set psf_width to a number or "auto"{" instead of psf" if other else ""}{other}'
    other = ', or use observation="gaussian" for the psf_width' if config.psf_width is not None else ""
    return f"Set psf to an array{' instead of psf_width' if other else ''}{other}"


def _task_steps(config: Settings) -> Iterator[str]:
    if config.task_steps and config.task is None:
        yield f"task_steps={config.task_steps} needs a task. Choose a task, or set task_steps=0"


def _coordinates(config: Settings) -> Iterator[str]:
    if config.coordinates == "unit" and config.tile != "whole":
        yield 'coordinates="unit" needs tile="whole". Set it, or use coordinates="pixel"'
