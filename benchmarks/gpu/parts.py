"""The parts of `benchmarks.gpu`, in the order of their importance."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Found = dict[str, Any]
Save = Callable[[Found], None]


@dataclass(frozen=True)
class Options:
    """What all parts are told.

    Parameters
    ----------
    device, data, out
        Where to compute, where the images are, where to write.
    rehearse
        Tiny sizes.
    seconds
        What a part should take at most.
    """

    device: str
    data: Path
    out: Path
    rehearse: bool = False
    seconds: float = 60.0


@dataclass(frozen=True)
class Part:
    """One question to the machine.

    Parameters
    ----------
    letter, name
        For the table and for files.
    seconds
        At most.
    home
        The module with the functions `NAME` (options, save) -> found, and `NAME_lines` (found) -> lines of the table.
    """

    letter: str
    name: str
    seconds: float
    home: str

    def measure(self, options: Options, save: Save) -> Found:
        """Measure; what `save` was given last is kept where the part is cut short."""
        return self._function("")(options, save)

    def summarise(self, found: Mapping[str, Any]) -> list[str]:
        """Return lines for the table."""
        return self._function("_lines")(found)

    def _function(self, ending: str) -> Any:
        from importlib import import_module

        return getattr(import_module(f"benchmarks.gpu.{self.home}"), self.name + ending)


PARTS = (
    Part("a", "check", 120, "trust"),
    Part("b", "tests", 150, "trust"),
    Part("c", "values", 60, "trust"),
    Part("d", "presets", 150, "presets"),
    Part("e", "fits", 60, "speed"),
    Part("f", "roofline", 60, "speed"),
    Part("g", "sweep", 70, "speed"),
    Part("h", "enlarging", 120, "tasks"),
    Part("i", "training", 300, "tasks"),
    Part("j", "large", 90, "tasks"),
    Part("k", "peers", 120, "tasks"),
)
