"""CUDA graphs: repeated work on the same memory is recorded, and then launched on the GPU as one unit."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

Work = Callable[[], Tensor]
Recorder = Callable[[Work], tuple[Callable[[], object], Tensor]]

# Largest number of recorded pieces of work: more than a fit needs. A fit with new memory at each step would fill any
# number, and gains nothing from graphs.
_MOST = 16


@dataclass
class _Entry:
    """A piece of work, whether it can be recorded, and its record."""

    work: Work
    records: bool = True
    replay: Callable[[], object] | None = None
    result: Tensor | None = None


class Graphs:
    """A cache of recorded work, replayed by its key.

    The first time, work is done directly, so that everything is compiled and loaded. The second time, it is recorded
    and replayed. From then on, it is only replayed. Work that cannot be recorded is always done directly.

    Parameters
    ----------
    record
        Function that records work without doing it. It returns a function that replays the work, and the tensor for the
        result of a replay. It raises RuntimeError if the work cannot be recorded. None never records.
    """

    def __init__(self, record: Recorder | None) -> None:
        self._record = record
        self._entries: dict[Hashable, _Entry] = {}

    def run(self, key: Hashable, work: Work) -> Tensor:
        """Do the work, and return its result. The next call with this key overwrites the result.

        Parameters
        ----------
        key
            Everything that the work depends on, except the contents of memory: addresses, sizes, settings.
        work
            Function that reads and writes the same memory each time, apart from its own allocations.
        """
        if self._record is None:
            return work()
        entry = self._entries.get(key)
        if entry is None:
            result = work()
            if len(self._entries) == _MOST:
                del self._entries[next(iter(self._entries))]
            self._entries[key] = _Entry(work)
            return result
        if entry.records and entry.replay is None:
            try:
                entry.replay, entry.result = self._record(work)
            except RuntimeError:
                entry.records = False
        if entry.replay is None or entry.result is None:
            return work()
        entry.replay()
        return entry.result

    def clear(self) -> None:
        """Delete all records, and free the memory of the graphs."""
        self._entries.clear()


def record_cuda(work: Work) -> tuple[Callable[[], object], Tensor]:
    """Record work as a CUDA graph; see `Graphs`."""
    graph = torch.cuda.CUDAGraph()
    # The outer context restores the stream if the recording fails. Other threads may use the GPU in the meantime.
    with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = work()
    return graph.replay, result
