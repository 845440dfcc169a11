"""`FitResult`: a fitted field with the settings, the metrics and the history of its fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core.engines import choose_device
from napari_siren.core.field.field import Derivative, Field
from napari_siren.core.field.partition import PartitionOfUnity
from napari_siren.core.field.representation import Representation
from napari_siren.core.field.spline import SampleSpline
from napari_siren.core.field.tiling import RenderGrid
from napari_siren.core.image.arrays import FORM_KEY, ArrayForm
from napari_siren.core.image.metrics import Metrics
from napari_siren.core.image.samples import Samples
from napari_siren.core.model_file import file as model_file
from napari_siren.core.model_file.header import OUTLIER_TENSORS, ModelHeader
from napari_siren.core.network.siren import Siren
from napari_siren.core.progress import History
from napari_siren.core.progress_bar import progress_bar
from napari_siren.core.restoration.pipeline import operator_for
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.checkpoint import Checkpoint
from napari_siren.core.uncertainty.expected_error import expected_error
from napari_siren.errors import InputError, StorageError

# Prefix of the names of the state's tensors in a model file.
_STATE = "state."


@dataclass(frozen=True, eq=False)
class FitResult:
    """The result of a fit.

    A result loaded from a file has no image. It can be rendered all the same.

    Parameters
    ----------
    field
        The continuous function.
    config
        Settings of the fit.
    metrics
        Agreement of the rounded reconstruction with the image.
    history
        Values of every step (step, seconds, loss and psnr), and events.
    provenance
        Data to reproduce the fit (seed, versions, device, hash of the image), and `notes` on what was not as asked for.
    samples
        The image, or None.
    state
        State to continue the fit from, or None.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> image = np.random.default_rng(0).integers(0, 255, (24, 32), dtype=np.uint8)
    >>> result = ns.fit(image, max_steps=20)
    >>> result.reconstruction.shape, result.render(scale=2).shape
    ((24, 32), (48, 64))
    """

    field: Field
    config: FitConfig
    metrics: Metrics
    history: History
    provenance: Mapping[str, Any]
    samples: Samples | None = None
    state: Checkpoint | None = None

    def __repr__(self) -> str:
        """Return a summary in one line."""
        layout, size = self.field.layout, self.field.representation.size
        steps = self.history.step[-1] if self.history.step else 0
        return (
            f"FitResult({layout.dtype} {layout.axes} {layout.shape}, {size}, {steps} steps, "
            f"PSNR {self.metrics.psnr:.2f} dB)"
        )

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return the reconstruction as an array: ``np.asarray(result)``."""
        # NumPy 1 has no `copy=None`.
        array: npt.NDArray[Any] = np.asarray(self.reconstruction, dtype=dtype)
        return array.copy() if copy else array

    def _repr_html_(self) -> str:
        """Return pictures and figures for a notebook."""
        # The reports are drawn by a part of the package above this one, which a notebook alone needs here.
        page: str = import_module("napari_siren.reporting.notebook").result_html(self)
        return page

    @cached_property
    def reconstruction(self) -> npt.NDArray[Any]:
        """The field as the image's pixels see it, in the image's shape and dtype, rounded and clipped to its range."""
        return cast(npt.NDArray[Any], self._in_form(self.field.reconstruct(), self.grid()))

    @cached_property
    def error(self) -> npt.NDArray[np.float32]:
        """Signed error, reconstruction - image, float32, in the image's units; 0 for missing pixels.

        Raises
        ------
        InputError
            The result was loaded from a file, which does not hold the image.
        """
        if self.samples is None:
            raise InputError(
                "a loaded result has no image to compare with. Subtract the image from result.reconstruction instead."
            )
        image, layout = self.samples.image.astype(np.float64), self.samples.layout
        difference = np.asarray(self.reconstruction, dtype=np.float64).reshape(image.shape) - image
        channels_first = np.where(self.samples.observed, layout.to_channels_first(difference), 0.0)
        error = np.ascontiguousarray(layout.from_channels_first(channels_first), dtype=np.float32)
        return cast(npt.NDArray[np.float32], self._in_form(error, self.grid()))

    def render(
        self,
        scale: float | Sequence[float] | None = None,
        shape: Sequence[int] | None = None,
        spacing: float | Sequence[float] | None = None,
        region: Sequence[tuple[float, float]] | None = None,
        derivative: Derivative | None = None,
        dtype: npt.DTypeLike | None = None,
        out: Any = None,
        progress: bool = False,
    ) -> Any:
        """Evaluate the field on a regular grid.

        Without scale, shape and spacing, the grid has the image's own resolution.

        Parameters
        ----------
        scale
            Output pixels per pixel: a number, or one for each spatial axis. Below 1 the result is antialiased.
        shape
            Number of output pixels along each spatial axis.
        spacing
            Physical size of an output pixel: a number, or one for each spatial axis.
        region
            (start, stop) for each spatial axis, in pixels of the original; None is the whole image.
        derivative
            "gradient" (with one more axis, in front), "gradient_magnitude" or "laplacian": exact, per physical length.
        dtype
            Dtype of the result, rounded and clipped to its range; None is the image's dtype, or float32 for
            derivatives.
        out
            Array, or any object with assignment to slices (a zarr array), to fill block by block.
        progress
            Whether to show a progress bar.

        Returns
        -------
        ndarray or `out`
            Rendered values, in the image's order of axes.

        Raises
        ------
        InputError
            More than one of scale, shape and spacing is given, a number is not positive, the region lies outside the
            image, the derivative is unknown, or `out` has the wrong shape.

        Examples
        --------
        >>> import numpy as np, napari_siren as ns
        >>> result = ns.fit(np.eye(32, dtype=np.float32), max_steps=20)
        >>> result.render(shape=(48, 80)).shape
        (48, 80)
        >>> result.render(scale=4, region=[(0, 8), (8, 16)], derivative="gradient").shape
        (2, 32, 32)
        """
        grid = self.grid(scale=scale, shape=shape, spacing=spacing, region=region)
        target = out if self._form is None else self._form.without_axes(out)
        with progress_bar("render", shown=progress) as bar:
            rendered = self.field.render(grid, derivative, dtype, target, on_progress=bar.show)
        return self._in_form(rendered, grid) if out is None else out

    def grid(self, **where: Any) -> RenderGrid:
        """Return the grid of a render, along the fitted axes, for the arguments scale, shape, spacing and region.

        Numbers for axes of one entry that were left out of the fit are ignored. The errors are those of `render`.
        """
        if self._form is not None:
            where = {name: self._form.without_singletons(value) for name, value in where.items()}
        return RenderGrid.from_layout(self.field.layout, **where)

    def without_state(self) -> FitResult:
        """Return the same result without the state to continue from, which needs much memory."""
        return replace(self, state=None)

    def as_fitted(self) -> FitResult:
        """Return the same result with arrays as they were fitted: without axes of one entry and labels."""
        plain = {name: value for name, value in self.provenance.items() if name != FORM_KEY}
        return self if self._form is None else replace(self, provenance=plain)

    @cached_property
    def _form(self) -> ArrayForm | None:
        return ArrayForm.from_provenance(self.provenance)

    def _in_form(self, values: npt.NDArray[Any], grid: RenderGrid) -> Any:
        """Return values on a grid in the form of the image: with its axes of one entry, and its labels."""
        form, letters = self._form, self.field.layout.axes.coordinates
        positions = {letter: grid.positions(axis, 1) - 0.5 for axis, letter in enumerate(letters)}
        return values if form is None else form.restored(values, positions)

    def uncertainty(
        self, scale: float | Sequence[float], on_progress: Callable[[float], None] | None = None
    ) -> npt.NDArray[np.float32]:
        """Estimate the absolute error of each pixel of a render.

        The scene between the pixels of the image is not known. But the image between the pixels of its own smaller copy
        is known. So such a copy is upscaled in the same way, and a small network learns to recognise wrong pixels from
        the errors of that render. The estimate is a mean: single errors scatter widely around it.

        Parameters
        ----------
        scale
            Scale of the render: a number, or one for each spatial axis. If a smaller copy would have fewer than 16
            pixels along an axis, a copy with 16 pixels is used, and the estimates are too small.
        on_progress
            Function that is called often with the share of the work that is done, 0 to 1. An exception in it ends the
            work.

        Returns
        -------
        ndarray
            Expected absolute errors, float32, of the shape of ``render(scale)``, in the image's units, not negative.
            The computation takes a few seconds. With presets that do not learn from smaller copies, it takes about a
            quarter of the fit's time.

        Raises
        ------
        InputError
            The result was loaded from a file, which does not hold the image, or the scale is invalid. Or the fit took
            out a blur or joined frames: then a smaller copy contains no information about the errors.

        Examples
        --------
        >>> import numpy as np, napari_siren as ns
        >>> y, x = np.mgrid[:40, :40]
        >>> result = ns.fit(np.sin(x * y / 80).astype(np.float32), max_steps=100)
        >>> uncertainty = result.uncertainty(2)
        >>> uncertainty.shape, bool(uncertainty[60:, 60:].mean() > uncertainty[:20, :20].mean())
        ((80, 80), True)
        """
        if self.samples is None:
            raise InputError(
                "a loaded result has no image, and errors cannot be estimated without it. Estimate the uncertainty "
                "right after the fit."
            )
        seed = int(self.provenance["seed"])
        factor = scale if self._form is None else self._form.without_singletons(scale)
        errors = expected_error(self.field, self.samples, self.config, self.state, seed, factor, on_progress)
        return cast(npt.NDArray[np.float32], self._in_form(errors, self.grid(scale=scale)))

    def save(self, path: str | Path, resumable: bool = False) -> Path:
        """Write the model to a safetensors file: under a temporary name, and then moved into place.

        Parameters
        ----------
        path
            Path of the file; by convention it ends in ``.safetensors``.
        resumable
            Whether to store the optimiser's state too, so that `fit` can continue from the file. The file is then about
            five times as large.

        Returns
        -------
        Path
            Path of the file.

        Raises
        ------
        StorageError
            The file cannot be written.
        """
        state, tensors = self.state, _tensors(self.field)
        if resumable:
            if state is None:
                raise StorageError(
                    "this result has no state to continue from: it was loaded from a file without one. Save it with "
                    "resumable=False."
                )
            tensors |= {_STATE + name: tensor for name, tensor in state.tensors.items()}
        return model_file.write(Path(path), _header(self, state if resumable else None), tensors)


def load(path: str | Path, device: str = "cpu") -> FitResult:
    """Read a model file.

    The file does not hold the image. Rendering, evaluation, and continuing the fit work without it.

    Parameters
    ----------
    path
        Path of a file written by `FitResult.save`.
    device
        Device for the evaluation of the field.

    Returns
    -------
    FitResult
        Result with `samples` None.

    Raises
    ------
    StorageError
        The file does not exist, is damaged, or is from another program or a later version.
    DeviceError
        The device is not available.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> _ = ns.fit(np.eye(16, dtype=np.float32), max_steps=20).save(path)
    >>> ns.load(path).render(scale=2).shape
    (32, 32)
    """
    path, target = Path(path), choose_device(device)
    header, tensors = model_file.read(path, ModelHeader.from_json)
    try:
        header.check_tensors(tensors)
        return _assemble(header, tensors, target)
    except ValueError as error:
        raise model_file.damaged(path, error) from error


def _tensors(field: Field) -> dict[str, Tensor]:
    """Return the tensors of a field, by their names in a file."""
    function, outliers = field.representation, field.outliers
    own = () if outliers is None else zip(OUTLIER_TENSORS, (outliers.numbers, outliers.amounts), strict=True)
    if isinstance(function, PartitionOfUnity):
        return {"theta": function.siren.theta, "offset": function.offset, "scale": function.scale, **dict(own)}
    assert isinstance(function, SampleSpline)
    return {"samples": function.samples}


def _header(result: FitResult, state: Checkpoint | None) -> dict[str, Any]:
    """Return all data of a result except its tensors, as plain values."""
    field, function = result.field, result.field.representation
    counters = {f.name: getattr(state, f.name) for f in fields(Checkpoint) if f.name != "tensors"} if state else None
    tiles: dict[str, Any] = {}
    if isinstance(function, PartitionOfUnity):
        tiles = {
            "tiling": [asdict(axis) for axis in function.tiling.axes],
            "network": asdict(function.siren.spec),
            "omega_0": function.siren.omega_0,
            "coordinate_scale": function.coordinate_scale,
        }
    return {
        "config": result.config.model_dump(),
        "format": asdict(field.layout),
        **tiles,
        "samples_per_pixel": field.samples_per_pixel,
        "learned": field.observation is not None,
        "floor": field.floor,
        "outliers": 0 if field.outliers is None else len(field.outliers.numbers),
        "metrics": result.metrics.as_dict(),
        "history": result.history.as_dict(),
        "provenance": dict(result.provenance),
        "state": counters,
    }


def _assemble(header: ModelHeader, tensors: Mapping[str, Tensor], device: torch.device) -> FitResult:
    """Return the result described by a header and tensors, which were compared."""
    state = None
    if header.state is not None:
        own = {k[len(_STATE) :]: v for k, v in tensors.items() if k.startswith(_STATE)}
        state = Checkpoint(**header.state.model_dump(), tensors=own)
    layout, config, outliers = header.layout, header.settings(), header.build_outliers(tensors)
    field = Field(_representation(header, tensors), layout, header.samples_per_pixel, None, header.floor, outliers)
    learned = field.refinement != (1.0,) * field.dimensions if header.learned is None else header.learned
    if learned:
        field = replace(field, observation=operator_for(config, layout, field.representation.shape))
    return FitResult(
        field.to(device), config, header.build_metrics(), header.build_history(), header.provenance, state=state
    )


def _representation(header: ModelHeader, tensors: Mapping[str, Tensor]) -> Representation:
    """Return the function described by a header and tensors."""
    tiles = header.tiles
    if tiles is None:
        return SampleSpline(tensors["samples"])
    siren = Siren(tiles.network.build(), tensors["theta"], tiles.omega_0)
    return PartitionOfUnity(siren, tiles.build(), tensors["offset"], tensors["scale"], tiles.coordinate_scale)
