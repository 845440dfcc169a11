"""A fit as a background task: its request, its control while it runs, and its progress reports. No Qt."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from napari_siren.core.config import FitConfig
from napari_siren.errors import DeviceError, SirenError
from napari_siren.layers.outputs import (
    ErrorKind,
    check_scale,
    draft_layer,
    error_layer,
    reconstruction_layer,
    scale_label,
    upscaled_layer,
    with_layer,
)
from napari_siren.layers.spec import LayerData, LayerSpec
from napari_siren.ui.logic.missing import check_finite
from napari_siren.ui.logic.previews import Preview, Previewer
from napari_siren.ui.logic.purposes import result_label
from napari_siren.ui.logic.viewport import Box

if TYPE_CHECKING:
    from napari_siren.core.preprocessing.gradients import Preprocessor
    from napari_siren.core.progress import Progress
    from napari_siren.core.result import FitResult
    from napari_siren.core.steps import FitSteps


@dataclass(frozen=True, eq=False)
class FitRequest:
    """The pixels to fit, the settings, and the layers to make.

    Parameters
    ----------
    spec
        The pixels to fit; they may be still unread.
    config, device, seed
        The same as for `fit`.
    scale
        Scale of the upscaled layer: output pixels per pixel.
    error
        Kind of the error map.
    preview_rate
        Previews per second.
    isotropic
        Whether `scale` makes the voxels cubes.
    resume
        A fit of the same pixels to continue.
    supervision
        Processing of the pixels before the fit, the same as for `fit`. With a processing that edits the image, the only
        layer is the edited image.
    steps
        Number of steps after which the fit ends and keeps its result; None is no such number.
    """

    spec: LayerSpec
    config: FitConfig
    device: str
    seed: int
    scale: float | tuple[float, ...]
    error: ErrorKind
    preview_rate: float = 3.0
    isotropic: bool = False
    resume: FitResult | None = None
    supervision: Preprocessor | Literal["value"] = "value"
    steps: int | None = None

    @property
    def label(self) -> str:
        """Text in brackets in the name of the result."""
        return result_label(self.config, scale_label(self.scale), self.isotropic)

    def resumed(self, result: FitResult, more_steps: int) -> FitRequest:
        """Return a request for `more_steps` further steps, starting from a result."""
        from napari_siren.core.restoration.pipeline import steps_before

        done = (0 if result.state is None else result.state.step) - steps_before(
            result.field, self.config, result.provenance
        )
        # The limits of time and PSNR are lifted, since the user now requests steps. `max_steps` does not count the
        # steps before the fit itself.
        fitting = done >= 0
        max_steps = done + more_steps if fitting else self.config.max_steps
        config = self.config.override(
            max_steps=max_steps, max_seconds=None, target_psnr=None, detail=result.config.detail
        )
        return replace(
            self, config=config, seed=result.provenance["seed"], resume=result, steps=None if fitting else more_steps
        )


@dataclass(frozen=True, eq=False)
class Update:
    """A progress report of a fit.

    Parameters
    ----------
    progress
        The last step.
    steps, losses, psnrs
        Number, loss and PSNR of each step since the last report.
    preview
        The preview; None if none is due, or if the last one has not been shown yet.
    paused
        Whether the fit is paused now.
    draft
        LayerDataTuple of the unfinished result, once, if it is better than the image from the start.
    """

    progress: Progress
    steps: list[int]
    losses: list[float]
    psnrs: list[float]
    preview: Preview | None
    paused: bool = False
    draft: LayerData | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """The end of a fit.

    Parameters
    ----------
    result
        The result; None if the fit was cancelled or failed.
    layers
        LayerDataTuples by their role: reconstruction, upscaled, error.
    error
        The exception of a fit that failed.
    """

    result: FitResult | None = None
    layers: dict[str, LayerData] | None = None
    error: Exception | None = None


class Control:
    """Control of a fit from another thread.

    Parameters
    ----------
    view
        Box of coordinates in view, in pixels; None is all of them.
    """

    def __init__(self, view: Box | None = None) -> None:
        self.view = view
        self._condition = threading.Condition()
        self._paused = self._stopping = self._cancelled = False
        self._steps: FitSteps | None = None
        self._shown = threading.Event()
        self._shown.set()

    def pause(self) -> None:
        """Pause the fit until `go_on` is called."""
        self._set(paused=True)

    def go_on(self) -> None:
        """Continue the fit after a pause."""
        self._set(paused=False)

    def stop(self) -> None:
        """End the fit, and keep its result."""
        self._set(stopping=True)

    def cancel(self) -> None:
        """End the fit at once, and discard its result."""
        self._set(cancelled=True)
        if self._steps is not None:
            self._steps.cancel()

    def preview_shown(self) -> None:
        """Report the last preview as handled. The next one may then be sent."""
        self._shown.set()

    @property
    def paused(self) -> bool:
        """Whether the fit should wait."""
        return self._paused and not (self._stopping or self._cancelled)

    @property
    def stopping(self) -> bool:
        """Whether the fit should end and keep its result."""
        return self._stopping

    @property
    def cancelled(self) -> bool:
        """Whether the fit is cancelled."""
        return self._cancelled

    def attach(self, steps: FitSteps) -> None:
        """Connect the control to a fit."""
        self._steps = steps
        if self._cancelled:
            steps.cancel()

    def take_turn(self) -> bool:
        """Return whether a preview may be sent. If so, the next one has to wait for `preview_shown`."""
        free = self._shown.is_set()
        self._shown.clear()
        return free

    def wait(self) -> None:
        """Wait while the fit is paused."""
        with self._condition:
            self._condition.wait_for(lambda: not self.paused)

    def _set(self, **flags: bool) -> None:
        with self._condition:
            for name, value in flags.items():
                setattr(self, f"_{name}", value)
            self._condition.notify_all()


def run_fit(request: FitRequest, control: Control) -> Generator[Update, None, Outcome]:
    """Fit the pixels of a request, report progress at the preview rate, and never raise an error.

    Yields
    ------
    Update
        The progress, at the preview rate, and once more when the fit is paused.

    Returns
    -------
    Outcome
        The result with its layers if the fit came to its end; otherwise the exception, or neither after a cancellation.
    """
    try:
        return (yield from _fit(request, control))
    except Exception as error:
        return Outcome(error=None if control.cancelled else error)


def make_layers(request: FitRequest, result: FitResult) -> dict[str, LayerData]:
    """Return the three layers of a fit, or the single layer of an edited image."""
    reconstruction = {"reconstruction": reconstruction_layer(request.spec, result)}
    if request.supervision != "value":
        return reconstruction
    return {
        **reconstruction,
        "upscaled": upscaled_layer(request.spec, result, request.scale, request.label),
        "error": error_layer(request.spec, result, request.error),
    }


def load_torch() -> None:
    """Import PyTorch.

    Raises
    ------
    DeviceError
        PyTorch cannot be loaded. The message has a remedy.
    """
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"PyTorch could not be loaded: {error}. On Windows this happens if Qt is loaded before PyTorch. Start "
            'napari with  python -c "import torch, napari; napari.Viewer(); napari.run()"  or reinstall PyTorch and '
            "the Microsoft Visual C++ redistributable."
        ) from error
    _load_triton()


def _load_triton() -> None:
    """Import Triton, if it is installed, before PyTorch imports it, for example with its first optimiser.

    Triton contains its own LLVM. Mesa, the software renderer of napari's canvas, may have loaded another LLVM before.
    Triton would then call the functions of the wrong one, and the process would crash. RTLD_DEEPBIND makes Triton look
    for functions in its own library first.
    """
    if sys.platform != "linux" or "triton" in sys.modules or importlib.util.find_spec("triton") is None:
        return
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        import triton  # noqa: F401
    except (ImportError, OSError):  # a fit works without Triton
        pass
    finally:
        sys.setdlopenflags(flags)


def _fit(request: FitRequest, control: Control) -> Generator[Update, None, Outcome]:
    load_torch()
    from napari_siren.core.config import detail_for
    from napari_siren.core.cost.estimate import record_timing
    from napari_siren.core.fit import fit_iter

    spec = request.spec.loaded()
    check_finite(spec)
    # An invalid scale would raise an error only after the fit, when the layers are made.
    check_scale(spec, request.scale)
    steps = fit_iter(
        **spec.fit_arguments(),
        config=request.config if request.resume else request.config.override(detail=detail_for(request.scale)),
        device=request.device,
        seed=request.seed,
        resume=request.resume,
        supervision=request.supervision,
    )
    control.attach(steps)
    buffer = _UpdateBuffer(request, control)
    for count, progress in enumerate(steps, start=1):
        buffer.add(progress)
        if control.stopping or count == request.steps:
            steps.stop()
        elif control.paused:
            with steps.held():
                yield buffer.flush(progress, paused=True)
                control.wait()
        elif buffer.due:
            yield buffer.flush(progress)
    if control.cancelled:
        return Outcome()
    record_timing(steps.result, request.device)
    result = with_layer(steps.result, request.spec)
    return Outcome(result, make_layers(request, result))


class _UpdateBuffer:
    """A buffer of steps between two progress reports."""

    def __init__(self, request: FitRequest, control: Control) -> None:
        self.request, self.control = request, control
        self._drafted = False
        self.interval = 1 / request.preview_rate
        self.previewer = Previewer(request.spec, self.interval)
        self.last = -math.inf
        self._clear()

    @property
    def due(self) -> bool:
        """Whether the next report is due."""
        return time.perf_counter() - self.last >= self.interval

    def add(self, progress: Progress) -> None:
        """Append a step."""
        self.steps.append(progress.step)
        self.losses.append(progress.loss)
        self.psnrs.append(progress.psnr)

    def flush(self, progress: Progress, paused: bool = False) -> Update:
        """Return a report of the steps since the last one, and empty the buffer."""
        preview = draft = None
        if progress.phase is not None and progress.phase.name in ("restoring", "adapting"):
            draft = self._draft(progress)
        elif paused or self.control.take_turn():
            preview = self.previewer.look(progress, self.control.view)
        update = Update(progress, self.steps, self.losses, self.psnrs, preview, paused, draft)
        self._clear()
        self.last = time.perf_counter()
        return update

    def _draft(self, progress: Progress) -> LayerData | None:
        """Return the first picture of a ready network, which later passes change little."""
        if self._drafted:
            return None
        self._drafted = True
        request = self.request
        return draft_layer(request.spec, progress.field(), request.scale, request.label)

    def _clear(self) -> None:
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.psnrs: list[float] = []


def explain(error: Exception) -> str:
    """Return the message of an error for the user. For an error that is not one of ours, its type comes first."""
    if isinstance(error, SirenError):
        return str(error)
    return f"{type(error).__name__}: {error}"
