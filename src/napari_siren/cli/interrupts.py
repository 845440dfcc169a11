"""The end of the command line by a signal, or by an expected error: one line on stderr, and an exit code."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from napari_siren.errors import SirenError

# Signals that end a command. Windows has no SIGHUP.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

# Interval after which the exception of a signal is raised again if the program goes on, in seconds.
_REMIND_SECONDS = 0.5


class Interruption(BaseException):
    """The end of a command by a signal. It is no `Exception`, so that only clean-up code sees it.

    Parameters
    ----------
    number
        Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Group(TyperGroup):
    """A group of commands with one-line messages for expected errors, instead of tracebacks."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command. The exit code after an expected error is 1."""
        try:
            return super().invoke(ctx)
        except SirenError as error:
            message = f"Error: {error}"
        except MemoryError:
            message = "Error: there is not enough memory. Free memory, or process the image in parts."
        except KeyboardInterrupt:  # the second Ctrl-C of a fit
            raise Interruption(signal.SIGINT) from None
        typer.echo(_printable(message), err=True)
        raise typer.Exit(1)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """End the program at a signal with one line and exit code 128 + its number, after temporary files are removed."""
    end = threading.Event()

    def interrupt(number: int, frame: object) -> None:
        # A second signal must not interrupt the clean-up.
        for other in _SIGNALS:
            signal.signal(other, lambda *_: _raise_again(number))
        threading.Thread(target=_remind, args=(number, end), daemon=True).start()
        raise Interruption(number)

    previous = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    except Interruption as error:
        end.set()
        typer.echo(f"Interrupted by {signal.Signals(error.number).name}.", err=True)
        raise SystemExit(128 + error.number) from None
    finally:
        end.set()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _remind(number: int, end: threading.Event) -> None:
    """Send a signal to the main thread again and again until the end."""
    while not end.wait(_REMIND_SECONDS):
        _thread.interrupt_main(signal.Signals(number))


def _raise_again(number: int) -> None:
    """Raise the exception of a signal again, unless its clean-up is running.

    Python drops an exception that is raised within a finaliser or within a function called from C.
    """
    error = sys.exc_info()[1]
    while error is not None:
        if isinstance(error, Interruption):
            return
        error = error.__context__
    raise Interruption(number)


def _printable(message: str) -> str:
    """Return a message as one line. Names of files, and texts in files, may contain control characters."""
    return "".join(c if c.isprintable() else " " for c in message)
