"""Tests of groups of connected events."""

from __future__ import annotations

from typing import Any

from napari.utils.events import Event, EventEmitter

from napari_siren.ui.logic.connections import Connections


class Listener:
    def __init__(self) -> None:
        self.types: list[str] = []

    def hear(self, event: Event) -> None:
        self.types.append(event.type)


def test_a_group_has_only_its_last_events() -> None:
    listener, connections = Listener(), Connections()
    first, second, other = (EventEmitter(type_name=name) for name in ("first", "second", "other"))

    def emit() -> list[Any]:
        listener.types.clear()
        for emitter in (first, second, other):
            emitter()
        return list(listener.types)

    connections.set("group", listener.hear, [first])
    connections.set("other", listener.hear, [other])
    assert emit() == ["first", "other"]
    connections.set("group", listener.hear, [second])
    assert emit() == ["second", "other"]
    connections.clear()
    assert emit() == []
