"""CUDA graphs: work that comes back on the same memory is recorded, and from then on sent to the GPU as one."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

Work = Callable[[], Tensor]
Recorder = Callable[[Work], tuple[Callable[[], object], Tensor]]

# More than a fit has; a fit that hands out new memory at each step would fill it, and gains nothing from graphs.
_MOST = 16


@dataclass
class _Entry:
    """What is known of a piece of work: the work, whether it is worth recording, and its record."""

    work: Work
    records: bool = True
    replay: Callable[[], object] | None = None
    result: Tensor | None = None


class Graphs:
    """Replays work by its key.

    The first time it is done directly, so that what is compiled and loaded on first use is; the second time it is
    recorded; then it is replayed. What cannot be recorded is done directly for ever.

    Parameters
    ----------
    record
        Records work without doing it, and gives what replays it, with the tensor that a replay writes its result to;
        raises RuntimeError where it cannot. None never records.
    """

    def __init__(self, record: Recorder | None) -> None:
        self._record = record
        self._entries: dict[Hashable, _Entry] = {}

    def run(self, key: Hashable, work: Work) -> Tensor:
        """Do the work, and return its result, which the next time with this key overwrites.

        Parameters
        ----------
        key
            All that the work depends on but the contents of memory: addresses, sizes, settings.
        work
            Reads and writes the same memory each time, beside what it allocates itself.
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
        """Forget all, and free the memory of the graphs."""
        self._entries.clear()


def record_cuda(work: Work) -> tuple[Callable[[], object], Tensor]:
    """Record work as a CUDA graph; see `Graphs`."""
    graph = torch.cuda.CUDAGraph()
    # The outer context brings the stream back where a recording fails. Other threads may use the GPU meanwhile.
    with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = work()
    return graph.replay, result
