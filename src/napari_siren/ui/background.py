"""Work in other threads by napari's workers. napari asks before it closes the viewer, and then ends the work."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Generator
from typing import Any

from napari.qt.threading import FunctionWorker, GeneratorWorker, create_worker
from napari.utils import progress
from napari.utils.notifications import Notification, NotificationSeverity, notification_manager
from qtpy.QtWidgets import QApplication, QLabel

from napari_siren.errors import SirenError

# Speed of the animation in napari's status bar, in percent: two pictures a second.
_ANIMATION_SPEED = 6


class CancellableWorker(GeneratorWorker):
    """A worker with work to be cancelled at once.

    napari's own worker ends only at the next `yield` of its generator.
    """

    call_off: Callable[[], None] | None = None

    def quit(self) -> None:
        """Cancel the work. It then ends by itself, and `returned` is emitted as usual."""
        if self.call_off is not None:
            self.call_off()


class ErrorReturningWorker(FunctionWorker):
    """A worker for a function, with an exception of the function as a normal result.

    napari's own worker would show the exception to the user.
    """

    def work(self) -> Any:
        """Run the function."""
        try:
            return super().work()
        except Exception as error:
            self.returned.emit(error)
            # A worker that has quit emits no other result.
            self.quit()


def start_generator(
    work: Callable[..., Generator[Any, None, Any]],
    *arguments: Any,
    call_off: Callable[[], None],
    yielded: Callable[[Any], None],
    returned: Callable[[Any], None],
) -> CancellableWorker:
    """Run a generator in another thread.

    Parameters
    ----------
    work, arguments
        The generator function and its arguments; it must not raise an error.
    call_off
        Function that ends the work soon, from any thread.
    yielded, returned
        Functions called in the main thread. They should be methods of a QObject: they are disconnected when it is
        deleted.
    """
    worker: CancellableWorker = create_worker(work, *arguments, _worker_class=CancellableWorker, _ignore_errors=True)
    worker.call_off = call_off
    worker.yielded.connect(yielded)
    worker.returned.connect(returned)
    worker.start()
    return worker


def start_function(work: Callable[..., Any], *arguments: Any, returned: Callable[[Any], None]) -> None:
    """Run a function in another thread, and pass its result or its exception to `returned`."""
    worker = create_worker(work, *arguments, _worker_class=ErrorReturningWorker, _ignore_errors=True)
    worker.returned.connect(returned)
    worker.start()


def activity(**options: Any) -> progress:
    """Return a new bar of napari's activity dock, with the options of `napari.utils.progress`.

    The bar starts an animation in napari's status bar, which draws the whole window again 31 times a second. Without a
    graphics card this takes half of the processor from a fit, so the animation is slowed down.
    """
    bar = progress(**options)
    for window in QApplication.topLevelWidgets():
        for label in window.findChildren(QLabel):
            movie = label.movie()
            if movie is not None:
                movie.setSpeed(_ANIMATION_SPEED)
    return bar


def notify(error: Exception) -> None:
    """Show an error to the user.

    A `SirenError` is shown as its message. Other errors are shown with their traceback, so that users can report them.
    """
    if isinstance(error, SirenError):
        notification_manager.dispatch(Notification(str(error), NotificationSeverity.ERROR))
    else:
        notification_manager.receive_error(type(error), error, error.__traceback__)


def release_memory() -> None:
    """Release the unused memory of the GPU after a fit. The memory of the CPU is released without this."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()
