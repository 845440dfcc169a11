"""`Durations`: the remaining time of a fit, from the durations of the steps of each of its parts."""

from __future__ import annotations

from collections.abc import Mapping

# Number of steps after which the duration of a step is known well.
_ENOUGH = 5


class Durations:
    """The durations of the steps of each part of a fit.

    The first step of a part also compiles, loads and allocates. It does not count if there are later ones.

    Examples
    --------
    >>> from napari_siren.core.restoration.durations import Durations
    >>> durations = Durations()
    >>> for seconds in (5.0, 1.0, 1.0):
    ...     durations.add("learning", seconds)
    >>> durations.remaining({"learning": 10})
    10.0
    """

    def __init__(self) -> None:
        self._first: dict[str, float] = {}
        # Number and seconds of the later steps of each part.
        self._later: dict[str, tuple[int, float]] = {}

    def add(self, part: str, seconds: float) -> None:
        """Record a step of a part."""
        if part not in self._first:
            self._first[part] = seconds
            return
        steps, total = self._later.get(part, (0, 0.0))
        self._later[part] = steps + 1, total + seconds

    def of_step(self, *parts: str) -> float | None:
        """Return the mean duration of a step of a part, in seconds; None if there was no step.

        Further parts are those whose steps take about as long. They count until the first part has enough steps.
        """
        for enough in (_ENOUGH, 1):
            for part in parts:
                steps, total = self._later.get(part, (0, 0.0))
                if steps >= enough:
                    return total / steps
        return next((self._first[part] for part in parts if part in self._first), None)

    def remaining(self, steps: Mapping[str, int], similar: Mapping[str, str] | None = None) -> float | None:
        """Return the remaining time in seconds.

        Parameters
        ----------
        steps
            Number of remaining steps of each part.
        similar
            For each part with few steps so far: a part whose steps take about as long.

        Returns
        -------
        float or None
            None if the duration of a step is not known.
        """
        seconds = 0.0
        for part, count in steps.items():
            if count <= 0:
                continue
            others = (similar[part],) if similar is not None and part in similar else ()
            duration = self.of_step(part, *others)
            if duration is None:
                return None
            seconds += count * duration
        return seconds
