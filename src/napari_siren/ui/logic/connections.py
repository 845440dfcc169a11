"""`Connections`: callbacks connected to events of napari, to be disconnected together. No Qt."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


class Connections:
    """Groups of events of napari, each connected to one callback."""

    def __init__(self) -> None:
        self._groups: dict[str, tuple[Callable[..., None], list[Any]]] = {}

    def set(self, group: str, callback: Callable[..., None], emitters: Iterable[Any] = ()) -> None:
        """Connect a callback to events, and disconnect the earlier events of the group.

        Parameters
        ----------
        group
            Name of the group.
        callback
            Function that is called with each event.
        emitters
            Events of napari, or signals of psygnal.
        """
        before, old = self._groups.get(group, (callback, []))
        for emitter in old:
            emitter.disconnect(before)
        self._groups[group] = callback, list(emitters)
        for emitter in self._groups[group][1]:
            emitter.connect(callback)

    def clear(self) -> None:
        """Disconnect all events."""
        for group, (callback, _) in list(self._groups.items()):
            self.set(group, callback)
