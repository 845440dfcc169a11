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
    needs
        Kind of image that the task needs: a sentence for error messages and notes, without the full stop.
    required
        Whether an image that does not allow the task is refused (see `FitConfig.strict`). Otherwise tiles alone are
        fitted, which serve the same purpose less well.
    """

    name: TaskName
    needs: str
    observations: tuple[ObservationName, ...] = _ALL
    requirement: str = ""
    blockwise: bool = False
    transferable: bool = False
    joins_frames: bool = False
    along_time: bool = False
    predicts_error: bool = False
    removes: Literal["", "noise", "blur"] = ""
    required: bool = False


TASKS: dict[TaskName, Task] = {
    task.name: task
    for task in (
        Task(
            "super-resolution",
            needs="super-resolution needs a picture of 8 rows and columns or more (with pretrained=None, 1,500 pixels "
            "without gaps), or a stack of 3 slices or more that are further apart than its pixels",
            observations=("box", "bicubic", "gaussian", "measured"),
            requirement='Smaller copies need pixels that integrate over an area, such as observation="box"',
            blockwise=True,
            transferable=True,
            predicts_error=True,
        ),
        Task(
            "denoise",
            needs="denoising needs an image of two or three axes in space, with 8 rows and columns or more (16 with "
            "pretrained=None)",
            transferable=True,
            along_time=True,
            predicts_error=True,
            removes="noise",
            required=True,
        ),
        Task(
            "deconvolution",
            needs="deconvolution needs an image of two or three axes in space, without an axis of time",
            observations=("gaussian", "measured"),
            requirement='A blur is needed: observation="gaussian" with psf_width, or observation="measured" with psf',
            removes="blur",
            required=True,
        ),
        Task("burst", needs="a burst needs frames along an axis T", joins_frames=True),
    )
}
