"""A fit as a background task: its request, its run, and its outcome. No Qt."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import DeviceError, SirenError
from napari_siren.layers.outputs import (
    ErrorKind,
    check_scale,
    reconstruction_layer,
    scale_label,
    three_layers,
    with_layer,
)
from napari_siren.layers.series import LayerSeries
from napari_siren.layers.series_fit import SeriesFit
from napari_siren.layers.spec import LayerData, LayerSpec
from napari_siren.ui.logic.missing import check_finite
from napari_siren.ui.logic.purposes import result_label
from napari_siren.ui.tasks.control import Control
from napari_siren.ui.tasks.series_clock import SeriesClock
from napari_siren.ui.tasks.updates import Update, iter_updates

if TYPE_CHECKING:
    from napari_siren.core.options import FitOptions
    from napari_siren.core.preprocessing.gradients import Preprocessor
    from napari_siren.core.result import FitResult


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
    series
        Entries to fit one by one. The first one is `spec`. None is a single fit.
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
    series: LayerSeries | None = None

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
class Outcome:
    """The end of a fit.

    Parameters
    ----------
    result
        The result; None if the fit was cancelled or failed, and of fits one by one.
    layers
        LayerDataTuples by their role: reconstruction, upscaled, error.
    error
        The exception of a fit that failed. Of fits one by one, the layers then have the entries before.
    entries
        Number of fits that came to their end one by one; None for a single fit.
    seconds
        Time of the fits one by one.
    """

    result: FitResult | None = None
    layers: dict[str, LayerData] | None = None
    error: Exception | None = None
    entries: int | None = None
    seconds: float = 0.0


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
        if request.series is not None:
            return (yield from _fit_series(request, request.series, control))
        return (yield from _fit(request, control))
    except Exception as error:
        return Outcome(error=None if control.cancelled else error)


def make_layers(request: FitRequest, result: FitResult) -> dict[str, LayerData]:
    """Return the three layers of a fit, or the single layer of an edited image."""
    if request.supervision != "value":
        return {"reconstruction": reconstruction_layer(request.spec, result)}
    return three_layers(request.spec, result, request.scale, request.error, request.label)


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
    from napari_siren.core.cost.estimate import record_timing
    from napari_siren.core.fit import fit_iter
    from napari_siren.core.settings.config import detail_for

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
    yield from iter_updates(request, steps, control)
    if control.cancelled:
        return Outcome()
    record_timing(steps.result, request.device)
    result = with_layer(steps.result, request.spec)
    return Outcome(result, make_layers(request, result))


def _fit_series(request: FitRequest, series: LayerSeries, control: Control) -> Generator[Update, None, Outcome]:
    """Fit the entries of a series one by one. The entries before a stop, or before an error, are kept."""
    load_torch()
    from napari_siren.core.cost.estimate import record_timing
    from napari_siren.core.series.entries import iter_entries
    from napari_siren.core.settings.config import detail_for

    check_scale(request.spec, request.scale)
    config = request.config.override(detail=detail_for(request.scale))
    same: FitOptions = {"device": request.device, "seed": request.seed}
    fits = SeriesFit(series, request.scale, request.error, request.label)
    clock, count = SeriesClock(len(series.indices)), 0
    try:
        for steps in iter_entries(fits.entries(_entry_arguments), config, same):
            # The previews of an entry would have no place in the layers, which grow with each entry.
            for update in iter_updates(request, steps, control, previews=False):
                yield replace(update, progress=clock.timed(update.progress))
            if control.cancelled:
                return Outcome()
            record_timing(steps.result, request.device)
            fits.add(steps.result)
            count = clock.next_entry()
            if control.stopping:
                break
            yield Update(clock.last, [], [], [], None, layers=fits.layers)
    except Exception as error:
        if control.cancelled:
            return Outcome()
        return Outcome(None, fits.layers or None, error, count, clock.seconds)
    return Outcome(None, fits.layers, None, count, clock.seconds)


def _entry_arguments(spec: LayerSpec) -> dict[str, Any]:
    check_finite(spec)
    return spec.fit_arguments()


def explain(error: Exception) -> str:
    """Return the message of an error for the user. For an error that is not one of ours, its type comes first."""
    if isinstance(error, SirenError):
        return str(error)
    return f"{type(error).__name__}: {error}"
