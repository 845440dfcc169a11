"""Settings of a training, read from a file of TOML."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from training.network import Shape


@dataclass(frozen=True)
class Settings:
    """How a network is trained to enlarge.

    Parameters
    ----------
    network
        What the network is made of.
    crop
        Rows and columns of the crops that it sees.
    batch
        Crops of a step.
    outputs
        Rows and columns that crops are enlarged to, and how often each is drawn (in parts of their sum).
    candidates
        So many crops are drawn for each that is taken: the one with the most gradient.
    halves
        Share of the crops that come from photographs of half the size.
    muon_rate, adam_rate
        Largest step sizes.
    warm_up
        Steps until they are reached.
    final_rate
        What is left of them at the end.
    weighting
        Losses count as (2 / scale) to the power of this: those of larger scales are larger by themselves.
    averaging
        Decay, in a step, of the running mean of the weights.
    largest_gradient
        Longer gradients are shortened to this.
    chunk
        Steps between two looks at the loss.
    held_out
        Names of photographs to validate with.
    validation_crop
        Rows and columns of the crops of them.
    """

    network: Shape = field(default_factory=Shape)
    crop: int = 48
    batch: int = 32
    outputs: tuple[tuple[int, float], ...] = ((96, 0.36), (144, 0.26), (192, 0.26), (72, 0.06), (120, 0.06))
    candidates: int = 3
    halves: float = 0.25
    muon_rate: float = 0.015
    adam_rate: float = 2e-3
    warm_up: int = 200
    final_rate: float = 0.005
    weighting: float = 0.8
    averaging: float = 0.999
    largest_gradient: float = 1.0
    chunk: int = 50
    held_out: tuple[str, ...] = ("p19.jpg", "p33.jpg", "p48.jpg", "p60.jpg")
    validation_crop: int = 288

    def record(self) -> dict[str, Any]:
        """Give them as plain values."""
        return asdict(self)

    def with_changes(self, changes: dict[str, Any]) -> Settings:
        """Give other settings, with changes as a file has them; ValueError for a name that is none."""
        unknown = changes.keys() - {f.name for f in fields(self)}
        if unknown:
            raise ValueError(f"no such settings: {', '.join(sorted(unknown))}")
        changes = {name: _tuples(value) for name, value in changes.items()}
        if "network" in changes:
            changes["network"] = replace(self.network, **{k: _tuples(v) for k, v in changes["network"].items()})
        return replace(self, **changes)


def read(path: Path) -> Settings:
    """Read settings; what a file does not say is as the class has it."""
    return Settings().with_changes(tomllib.loads(path.read_text("utf-8")))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value
