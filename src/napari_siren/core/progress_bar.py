"""`progress_bar`: a bar for scripts and notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Text of the bar. The share goes from 0 to 1, so that its numbers mean nothing to readers.
_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"


class ProgressBar:
    """A bar that shows the finished share of some work.

    Parameters
    ----------
    bar
        Bar of tqdm, or None to show nothing.
    """

    def __init__(self, bar: Any = None) -> None:
        self._bar = bar

    def show(self, share: float, state: str = "") -> None:
        """Show the finished share, 0 to 1, and a few words. A share below an earlier one is ignored."""
        if self._bar is not None:
            self._bar.set_postfix_str(state, refresh=False)
            self._bar.update(max(0.0, min(1.0, share) - self._bar.n))


@contextmanager
def progress_bar(title: str, *, shown: bool = True) -> Iterator[ProgressBar]:
    """Show a bar during a block. Without an exception, it is full at the end.

    Parameters
    ----------
    title
        Name of the work.
    shown
        Whether there is a bar. Otherwise the block has one that shows nothing.

    Examples
    --------
    >>> with progress_bar("fit", shown=False) as bar:
    ...     bar.show(0.5, "step 20")
    """
    if not shown:
        yield ProgressBar()
        return
    from tqdm.auto import tqdm

    with tqdm(total=1.0, desc=title, bar_format=_FORMAT) as bar:
        shown_bar = ProgressBar(bar)
        yield shown_bar
        shown_bar.show(1.0)
