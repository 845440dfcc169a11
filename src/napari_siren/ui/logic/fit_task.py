"""A fit as a background task: what it is asked for, how it is steered while it goes on, and what it tells. No Qt."""

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

import numpy as np

from napari_siren.core.config import FitConfig
from napari_siren.errors import DeviceError, InputError, SirenError
from napari_siren.layers.outputs import (
    ErrorKind,
    check_scale,
    error_layer,
    reconstruction_layer,
    upscaled_layer,
    with_layer,
)
from napari_siren.layers.spec import LayerData, LayerSpec
from napari_siren.ui.logic.previews import Preview, Previewer
from napari_siren.ui.logic.viewport import Box

if TYPE_CHECKING:
    from napari_siren.core.preprocessing.gradients import Preparation
    from napari_siren.core.progress import Progress
    from napari_siren.core.result import FitResult
    from napari_siren.core.steps import FitSteps


@dataclass(frozen=True, eq=False)
class FitRequest:
    """What to fit, how, and which layers to make of it.

    Parameters
    ----------
    spec
        The pixels, which need not have been read.
    config, device, seed
        As `fit` takes them.
    scale
        Of the upscaled layer.
    error
        Kind of the error map.
    preview_rate
        Previews a second.
    resume
        A fit of the same pixels to go on from.
    supervision
        What is made of the pixels before the fit, as `fit` takes it; of an edited picture there is only its own layer.
    """

    spec: LayerSpec
    config: FitConfig
    device: str
    seed: int
    scale: float | tuple[float, ...]
    error: ErrorKind
    preview_rate: float = 3.0
    resume: FitResult | None = None
    supervision: Preparation | Literal["value"] = "value"

    def resumed(self, result: FitResult, more_steps: int) -> FitRequest:
        """Ask for so many steps more from where a fit was."""
        from napari_siren.core.restoration.pipeline import steps_before

        done = (0 if result.state is None else result.state.step) - steps_before(result.field, self.config)
        # The limits have done their work; what is asked for now is steps. A fit that has not come to the part which
        # they count goes on to its end.
        most = done + more_steps if done >= 0 else self.config.max_steps
        config = self.config.override(max_steps=most, max_seconds=None, target_psnr=None, detail=result.config.detail)
        return replace(self, config=config, seed=result.provenance["seed"], resume=result)


@dataclass(frozen=True, eq=False)
class Update:
    """News of a fit.

    Parameters
    ----------
    progress
        The last step.
    steps, losses, psnrs
        Of all steps since the last news.
    preview
        None where none is due, or the last one has not been shown yet.
    paused
        Whether the fit now waits.
    """

    progress: Progress
    steps: list[int]
    losses: list[float]
    psnrs: list[float]
    preview: Preview | None
    paused: bool = False


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a fit ended.

    Parameters
    ----------
    result
        None where it was called off, or failed.
    layers
        LayerDataTuples by their role: reconstruction, upscaled, error.
    error
        What went wrong.
    """

    result: FitResult | None = None
    layers: dict[str, LayerData] | None = None
    error: Exception | None = None


class Control:
    """Steers a fit from another thread than the one in which it runs.

    Parameters
    ----------
    view
        Box of coordinates that is in view; None is everything.
    """

    def __init__(self, view: Box | None = None) -> None:
        self.view = view
        self._condition = threading.Condition()
        self._paused = self._stopping = self._cancelled = False
        self._steps: FitSteps | None = None
        self._shown = threading.Event()
        self._shown.set()

    def pause(self) -> None:
        """Take no further step until `go_on`."""
        self._set(paused=True)

    def go_on(self) -> None:
        """Take steps again."""
        self._set(paused=False)

    def stop(self) -> None:
        """End the fit, and keep what it has."""
        self._set(stopping=True)

    def cancel(self) -> None:
        """End the fit at once, and keep nothing."""
        self._set(cancelled=True)
        if self._steps is not None:
            self._steps.cancel()

    def preview_shown(self) -> None:
        """Tell that the last preview was dealt with, so that the next may come."""
        self._shown.set()

    @property
    def paused(self) -> bool:
        """Whether the fit is to wait."""
        return self._paused and not (self._stopping or self._cancelled)

    @property
    def stopping(self) -> bool:
        """Whether the fit is to end and to be kept."""
        return self._stopping

    @property
    def cancelled(self) -> bool:
        """Whether the fit is called off."""
        return self._cancelled

    def attach(self, steps: FitSteps) -> None:
        """Say which fit is steered."""
        self._steps = steps
        if self._cancelled:
            steps.cancel()

    def take_turn(self) -> bool:
        """Return whether a preview may be sent; if so, the next waits for `preview_shown`."""
        free = self._shown.is_set()
        self._shown.clear()
        return free

    def wait(self) -> None:
        """Wait for as long as the fit is paused."""
        with self._condition:
            self._condition.wait_for(lambda: not self.paused)

    def _set(self, **flags: bool) -> None:
        with self._condition:
            for name, value in flags.items():
                setattr(self, f"_{name}", value)
            self._condition.notify_all()


def run_fit(request: FitRequest, control: Control) -> Generator[Update, None, Outcome]:
    """Fit, telling the news so many times a second; never raises.

    Yields
    ------
    Update
        At the preview rate, and once more when it is paused.

    Returns
    -------
    Outcome
        With the layers, where the fit came to an end.
    """
    try:
        return (yield from _fit(request, control))
    except Exception as error:
        return Outcome(error=None if control.cancelled else error)


def make_layers(request: FitRequest, result: FitResult) -> dict[str, LayerData]:
    """Make the three layers of a fit, or the one of an edited picture."""
    reconstruction = {"reconstruction": reconstruction_layer(request.spec, result)}
    if request.supervision != "value":
        return reconstruction
    return {
        **reconstruction,
        "upscaled": upscaled_layer(request.spec, result, request.scale),
        "error": error_layer(request.spec, result, request.error),
    }


def load_torch() -> None:
    """Import PyTorch, or say what to do where that fails.

    Raises
    ------
    DeviceError
        PyTorch is there but cannot be loaded.
    """
    try:
        import torch  # noqa: F401
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"PyTorch could not be loaded: {error}. On Windows this happens where Qt was loaded before it: start "
            'napari by  python -c "import torch, napari; napari.Viewer(); napari.run()"  or reinstall PyTorch and the '
            "Microsoft Visual C++ redistributable."
        ) from error
    _load_triton()


def _load_triton() -> None:
    """Import Triton, where it is installed, before PyTorch does so by itself: with its first optimiser, for one.

    It brings an LLVM of its own. Where napari's canvas has brought another one, by which Mesa draws, Triton would take
    the functions of that for its own, and the process would crash: it has to look for them in itself first.
    """
    if sys.platform != "linux" or "triton" in sys.modules or importlib.util.find_spec("triton") is None:
        return
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | os.RTLD_DEEPBIND)
    try:
        import triton  # noqa: F401
    except (ImportError, OSError):  # it is of no use to a fit, then
        pass
    finally:
        sys.setdlopenflags(flags)


def _fit(request: FitRequest, control: Control) -> Generator[Update, None, Outcome]:
    load_torch()
    from napari_siren.core.config import detail_for
    from napari_siren.core.cost import learn
    from napari_siren.core.fit import fit_iter

    spec = request.spec.loaded()
    _check_finite(spec)
    # What would fail at the end should not come to light only after the fit.
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
    news = _News(request, control)
    for progress in steps:
        news.add(progress)
        if control.stopping:
            steps.stop()
        elif control.paused:
            with steps.held():
                yield news.tell(progress, paused=True)
                control.wait()
        elif news.due:
            yield news.tell(progress)
    if control.cancelled:
        return Outcome()
    learn(steps.result, request.device)
    result = with_layer(steps.result, request.spec)
    return Outcome(result, make_layers(request, result))


def _check_finite(spec: LayerSpec) -> None:
    """Refuse what `fit` would refuse, with a remedy that is at hand in napari."""
    if spec.data is None or spec.data.dtype.kind != "f" or spec.missing is not None:
        return
    bad = int(np.count_nonzero(~np.isfinite(spec.data)))
    if bad:
        values = "value that is" if bad == 1 else "values that are"
        raise InputError(
            f"“{spec.name}” has {bad} {values} not finite (NaN or infinite). Choose a region without them: draw it in "
            "a Shapes layer, or label what is good in a Labels layer. A script may have them filled in: "
            "fit_layer(layer, missing=~np.isfinite(layer.data))."
        )


class _News:
    """Gathers what is to be told."""

    def __init__(self, request: FitRequest, control: Control) -> None:
        self.control = control
        self.interval = 1 / request.preview_rate
        self.previewer = Previewer(request.spec, self.interval)
        self.last = -math.inf
        self._clear()

    @property
    def due(self) -> bool:
        return time.perf_counter() - self.last >= self.interval

    def add(self, progress: Progress) -> None:
        self.steps.append(progress.step)
        self.losses.append(progress.loss)
        self.psnrs.append(progress.psnr)

    def tell(self, progress: Progress, paused: bool = False) -> Update:
        wanted = paused or self.control.take_turn()
        preview = self.previewer.look(progress, self.control.view) if wanted else None
        update = Update(progress, self.steps, self.losses, self.psnrs, preview, paused)
        self._clear()
        self.last = time.perf_counter()
        return update

    def _clear(self) -> None:
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.psnrs: list[float] = []


def explain(error: Exception) -> str:
    """Say what went wrong, and what to do, in a sentence for people."""
    if isinstance(error, SirenError):
        return str(error)
    return f"{type(error).__name__}: {error}"
