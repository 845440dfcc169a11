"""`TASKS`: the restoration tasks, and the facts about each that are needed without PyTorch.

This is the only list of tasks. `core.restoration.tasks` registers their implementations; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

TaskName = Literal["super-resolution", "denoise", "deconvolution", "burst"]
TASK_NAMES: tuple[TaskName, ...] = get_args(TaskName)
ObservationName = Literal["point", "box", "bicubic", "gaussian", "measured"]
_ALL: tuple[ObservationName, ...] = get_args(ObservationName)


@dataclass(frozen=True)
class Task:
    """A computation on the whole image before the fit of the tiles.

    Parameters
    ----------
    name
        Value of `FitConfig.task`.
    observations
        Values of `FitConfig.observation` that the task can be used with.
    requirement
        Reason why other values are not possible: a sentence for error messages, without the full stop.
    blockwise
        Whether `fit_blocks` supports it.
    transferable
        Whether its network is a useful start for a similar image.
    joins_frames
        Whether it needs all frames of a series.
    along_time
        Whether images with time as a coordinate are supported.
    predicts_error
        Whether errors on smaller copies of the image predict the error of the result.
    removes
        What it takes out of the image: "noise", "blur", or nothing.
    required
        Error message if the image does not allow the task. An empty message means that tiles alone are fitted then.
    """

    name: TaskName
    observations: tuple[ObservationName, ...] = _ALL
    requirement: str = ""
    blockwise: bool = False
    transferable: bool = False
    joins_frames: bool = False
    along_time: bool = False
    predicts_error: bool = False
    removes: Literal["", "noise", "blur"] = ""
    required: str = ""


TASKS: dict[TaskName, Task] = {
    task.name: task
    for task in (
        Task(
            "super-resolution",
            observations=("box", "bicubic", "gaussian", "measured"),
            requirement='Smaller copies need pixels that integrate over an area, such as observation="box"',
            blockwise=True,
            transferable=True,
            predicts_error=True,
        ),
        Task("denoise", transferable=True, along_time=True, predicts_error=True, removes="noise"),
        Task(
            "deconvolution",
            observations=("gaussian", "measured"),
            requirement='A blur is needed: observation="gaussian" or "measured"',
            removes="blur",
            required="deconvolution needs an image of two or three axes in space without missing or held-out pixels. "
            "Choose a region that is a box, another preset, or task_steps=0.",
        ),
        Task("burst", joins_frames=True),
    )
}
