"""`TrainProgress` and `TrainResult`: the course of a training on one's own images, and its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

Phase = Literal["read", "prepare", "train"]


@dataclass(frozen=True)
class TrainProgress:
    """The state of a training.

    Parameters
    ----------
    phase
        Current part of the work: "read" the images, "prepare" (the general weights are validated), or "train".
    step
        Number of steps done.
    seconds, seconds_left
        Seconds of training so far, including the sessions before an interruption, and the remaining ones.
    score
        Best score on the held-out images so far, in dB. None before the first one.
    general_score
        Score of the general weights. None before it is known.
    """

    phase: Phase
    step: int = 0
    seconds: float = 0.0
    seconds_left: float | None = None
    score: float | None = None
    general_score: float | None = None


@dataclass(frozen=True)
class TrainResult:
    """The result of `train`.

    Parameters
    ----------
    path
        File of the weights, for `FitConfig.pretrained`.
    task
        Task of the weights: "enlarge" or "denoise".
    general
        Name of the general weights from which the training started.
    noisy
        Whether the images are noisy themselves, so that their true pixels are not known.
    scores, general_scores
        PSNR of the weights and of the general weights on the held-out images, in dB, for each case.
    images, held_out
        Names of the files for training, and of those held out. A single file is in both.
    skipped
        Names of the files that were not used, and the reasons.
    steps, seconds
        Number of steps, and time of the training in seconds.
    stopped
        Whether it was stopped before the end. If `train` is called again, it goes on.
    files
        All files: "weights", "card", "log" and, with matplotlib (the extra "plots"), "picture".

    Examples
    --------
    >>> from pathlib import Path
    >>> from napari_siren import TrainResult
    >>> result = TrainResult(Path("mine.safetensors"), "enlarge", "enlarge", False, {"x2": 31.5}, {"x2": 31.0})
    >>> result.gain, result.helped
    (0.5, True)
    """

    path: Path
    task: str
    general: str
    noisy: bool
    scores: Mapping[str, float]
    general_scores: Mapping[str, float]
    images: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0
    stopped: bool = False
    files: Mapping[str, Path] = field(default_factory=dict)

    @property
    def score(self) -> float:
        """Mean of `scores`."""
        return mean_of(self.scores)

    @property
    def general_score(self) -> float:
        """Mean of `general_scores`."""
        return mean_of(self.general_scores)

    @property
    def gain(self) -> float:
        """Difference of the mean scores in dB: 0 or more."""
        return self.score - self.general_score

    @property
    def helped(self) -> bool:
        """Whether the score is better than that of the general weights. Otherwise the file holds the general ones."""
        return self.gain > 0


def mean_of(scores: Mapping[str, float]) -> float:
    """Return the mean of scores, in dB."""
    return float(np.mean(list(scores.values())))
