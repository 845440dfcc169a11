"""Work in another thread, as napari knows it: it asks before the viewer closes, and calls the work off when it does."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from napari.qt.threading import FunctionWorker, GeneratorWorker, create_worker
from napari.utils.notifications import Notification, NotificationSeverity, notification_manager

from napari_siren.errors import SirenError


class SteeredWorker(GeneratorWorker):
    """A worker that, when napari wants it to quit, calls its work off at once rather than at its next news."""

    call_off: Callable[[], None] | None = None

    def quit(self) -> None:
        """Call off. The work then ends by itself, and what it returns is told as ever."""
        if self.call_off is not None:
            self.call_off()


class FrankWorker(FunctionWorker):
    """A worker that returns an exception like anything else, where napari would show it."""

    def work(self) -> Any:
        """Run the function."""
        try:
            return super().work()
        except Exception as error:
            self.returned.emit(error)
            # So that nothing else is returned.
            self.quit()


def start_generator(
    work: Callable[..., Generator[Any, None, Any]],
    *arguments: Any,
    call_off: Callable[[], None],
    yielded: Callable[[Any], None],
    returned: Callable[[Any], None],
) -> SteeredWorker:
    """Run a generator in another thread.

    Parameters
    ----------
    work, arguments
        What is run; it must not raise.
    call_off
        Ends the work soon, from any thread.
    yielded, returned
        Called in the main thread; methods of a QObject, which are forgotten when it is deleted.
    """
    worker: SteeredWorker = create_worker(work, *arguments, _worker_class=SteeredWorker, _ignore_errors=True)
    worker.call_off = call_off
    worker.yielded.connect(yielded)
    worker.returned.connect(returned)
    worker.start()
    return worker


def start_function(work: Callable[..., Any], *arguments: Any, returned: Callable[[Any], None]) -> None:
    """Run a function in another thread; what it returns, or the exception that it raises, goes to `returned`."""
    worker = create_worker(work, *arguments, _worker_class=FrankWorker, _ignore_errors=True)
    worker.returned.connect(returned)
    worker.start()


def notify(error: Exception) -> None:
    """Show an error: one of ours as its own sentence, others with their traceback, to be reported."""
    if isinstance(error, SirenError):
        notification_manager.dispatch(Notification(str(error), NotificationSeverity.ERROR))
    else:
        notification_manager.receive_error(type(error), error, error.__traceback__)
