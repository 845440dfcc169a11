"""`FitResult`: a fitted field with all that is known of the fit."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from napari_siren.core import model_file as model_file
from napari_siren.core.config import FitConfig
from napari_siren.core.engines import choose_device
from napari_siren.core.field.field import Derivative, Field
from napari_siren.core.field.partition import Blend
from napari_siren.core.field.tiling import AxisTiling, RenderGrid, Tiling
from napari_siren.core.image.metrics import Metrics
from napari_siren.core.image.samples import ImageFormat, Samples
from napari_siren.core.model_file import numbers
from napari_siren.core.network.siren import Siren, SirenShape
from napari_siren.core.progress import History
from napari_siren.core.restoration.pipeline import told_as
from napari_siren.core.training.trainer import State
from napari_siren.core.uncertainty.expected_error import expected_error
from napari_siren.core.versions import version_of
from napari_siren.errors import InputError, SirenError, StorageError

_STATE = "state."


@dataclass(frozen=True)
class FitResult:
    """What a fit gives back. A result that was loaded from a file has no image; rendering works all the same.

    Parameters
    ----------
    field
        The continuous function.
    config
        The settings of the fit.
    metrics
        Agreement with the image, on the rounded reconstruction.
    history
        step, seconds, loss and psnr of every step, and events.
    provenance
        What reproduces the fit: seed, versions, device, and the hash of the image.
    samples
        The image, or None.
    state
        What is needed to go on fitting, or None.

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
    state: State | None = None

    def __repr__(self) -> str:
        """Return one line."""
        layout, siren = self.field.format, self.field.siren
        network = f"{siren.tiles} x {siren.shape.parameters} parameters"
        steps = self.history.step[-1] if self.history.step else 0
        return (
            f"FitResult({layout.dtype} {layout.axes} {layout.shape}, {network}, {steps} steps, "
            f"PSNR {self.metrics.psnr:.2f} dB)"
        )

    @cached_property
    def reconstruction(self) -> npt.NDArray[Any]:
        """What the image's pixels see of the field: its shape and dtype, rounded and clipped to the dtype's range."""
        return self.field.reconstruct()

    @cached_property
    def error(self) -> npt.NDArray[np.float32]:
        """Reconstruction - image, float32, signed, in the image's units; 0 where a pixel is missing.

        Raises
        ------
        InputError
            The result was loaded from a file, which does not hold the image.
        """
        if self.samples is None:
            raise InputError(
                "a loaded result has no image to compare with. Subtract it from result.reconstruction yourself."
            )
        image = self.samples.image.astype(np.float64)
        layout = self.samples.format
        difference = np.asarray(self.reconstruction, dtype=np.float64) - image
        channels_first = np.where(self.samples.observed, layout.to_channels_first(difference), 0.0)
        return np.ascontiguousarray(layout.from_channels_first(channels_first), dtype=np.float32)

    def render(
        self,
        scale: float | Sequence[float] | None = None,
        shape: Sequence[int] | None = None,
        spacing: float | Sequence[float] | None = None,
        region: Sequence[tuple[float, float]] | None = None,
        derivative: Derivative | None = None,
        dtype: npt.DTypeLike | None = None,
        out: Any = None,
    ) -> Any:
        """Evaluate the field on a regular grid. Without scale, shape and spacing: the image's own resolution.

        Parameters
        ----------
        scale
            Output pixels per pixel: a number, or one for each spatial axis. Below 1 the result is antialiased.
        shape
            Number of output pixels along each spatial axis.
        spacing
            Physical size of an output pixel: a number, or one for each spatial axis.
        region
            (start, stop) for each spatial axis, in pixels of the original; None is all of it.
        derivative
            "gradient" (an axis more, in front), "gradient_magnitude" or "laplacian": exact, per physical length.
        dtype
            Of the result, rounded and clipped to its range; None is the image's dtype, or float32 for derivatives.
        out
            An array, or anything that takes blocks by slices (a zarr array), to be filled block by block.

        Returns
        -------
        ndarray or `out`
            In the image's order of axes.

        Raises
        ------
        InputError
            More than one of scale, shape and spacing; a number that is not positive; a region outside the image; an
            unknown derivative; `out` of the wrong shape.

        Examples
        --------
        >>> import numpy as np, napari_siren as ns
        >>> result = ns.fit(np.eye(32, dtype=np.float32), max_steps=20)
        >>> result.render(shape=(48, 80)).shape
        (48, 80)
        >>> result.render(scale=4, region=[(0, 8), (8, 16)], derivative="gradient").shape
        (2, 32, 32)
        """
        layout = self.field.format
        grid = RenderGrid.of(
            layout.spatial_shape, layout.spacing, scale=scale, shape=shape, spacing=spacing, region=region
        )
        return self.field.render(grid, derivative=derivative, dtype=dtype, out=out)

    def uncertainty(self, scale: float | Sequence[float]) -> npt.NDArray[np.float32]:
        """Estimate the absolute error that each pixel of a render has.

        What the scene was between the pixels is not known; what the image is between the pixels of its own smaller copy
        is. Such a copy is upscaled in the same way, and a small network learns from the errors made there what wrong
        pixels look like. The estimate is a mean: single errors scatter about it widely.

        Parameters
        ----------
        scale
            Of the render: a number, or one for each spatial axis. Where a smaller copy would have fewer than 16 pixels
            along an axis, errors are learned from one of 16, and are too small.

        Returns
        -------
        ndarray
            float32, of the shape of ``render(scale)``, in the image's units, not negative. It takes a few seconds,
            or, with presets that do not learn from smaller copies, about a quarter of the fit's time.

        Raises
        ------
        InputError
            The result was loaded from a file, which does not hold the image; or a bad scale.

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
                "a loaded result has no image, and without it nothing tells how large errors are. Ask for the "
                "uncertainty right after the fit."
            )
        seed = int(self.provenance["seed"])
        return expected_error(self.field, self.samples, self.config, self.state, seed, scale)

    def save(self, path: str | Path, resumable: bool = False) -> Path:
        """Write the model to a safetensors file; written aside and moved into place.

        Parameters
        ----------
        path
            Where to; by custom it ends in ``.safetensors``.
        resumable
            Whether to store the optimiser's state too, so that `fit` can go on from the file (about five times the
            size).

        Returns
        -------
        Path
            The file.

        Raises
        ------
        StorageError
            The file cannot be written.
        """
        field, state = self.field, self.state
        tensors: dict[str, Tensor] = {
            "theta": field.siren.theta,
            "offset": field.blend.offset,
            "scale": field.blend.scale,
        }
        if resumable:
            if state is None:
                raise StorageError("this result holds no state to go on from: it was loaded from a file without one.")
            tensors |= {_STATE + name: tensor for name, tensor in state.tensors.items()}
        return model_file.write(Path(path), _header(self, state if resumable else None), tensors)


def load(path: str | Path, device: str = "cpu") -> FitResult:
    """Read a model file. The image is not in it; rendering, evaluating and going on with the fit work.

    Parameters
    ----------
    path
        As written by `FitResult.save`.
    device
        Where the field is to be evaluated.

    Returns
    -------
    FitResult
        With `samples` None.

    Raises
    ------
    StorageError
        The file is not there, truncated, of another program, or of a later version.
    DeviceError
        The device is not there.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> _ = ns.fit(np.eye(16, dtype=np.float32), max_steps=20).save(path)
    >>> ns.load(path).render(scale=2).shape
    (32, 32)
    """
    path, where = Path(path), choose_device(device)
    header, tensors = model_file.read(path)
    try:
        return _assembled(path, header, tensors, where)
    except StorageError:
        raise
    except (SirenError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(f"{path} is damaged: its description cannot be understood ({error}).") from error


def _header(result: FitResult, state: State | None) -> dict[str, Any]:
    """Return all of a result but its tensors, as plain values."""
    field = result.field
    counters = {f.name: getattr(state, f.name) for f in fields(State) if f.name != "tensors"} if state else None
    return {
        "config": result.config.model_dump(),
        "format": asdict(field.format),
        "tiling": [asdict(axis) for axis in field.tiling.axes],
        "network": asdict(field.siren.shape),
        "omega_0": field.siren.omega_0,
        "coordinate_scale": field.blend.coordinate_scale,
        "samples_per_pixel": field.samples_per_pixel,
        "learned": field.observation is not None,
        "floor": field.floor,
        "metrics": result.metrics.as_dict(),
        "history": result.history.as_dict(),
        "provenance": dict(result.provenance),
        "state": counters,
    }


def _assembled(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device) -> FitResult:
    """Return the result that a header and tensors describe."""
    state = header["state"] and State(
        **numbers(header["state"]),
        tensors={k[len(_STATE) :]: v for k, v in tensors.items() if k.startswith(_STATE)},
    )
    shape = SirenShape(**header["network"])
    axes = tuple(AxisTiling(axis["size"], tuple(axis["borders"]), axis["overlap"]) for axis in header["tiling"])
    described: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in header["format"].items()}
    layout = ImageFormat(**described)
    history = numbers(header["history"])
    field = Field(
        Blend(
            Siren(shape, tensors["theta"], header["omega_0"]),
            Tiling(axes),
            tensors["offset"],
            tensors["scale"],
            tuple(header["coordinate_scale"]),
        ),
        layout,
        header["samples_per_pixel"],
        floor=None if header.get("floor") is None else tuple(header["floor"]),
    )
    config = FitConfig(**header["config"])
    if header.get("learned", field.refinement != (1.0,) * field.dimensions):
        field = replace(field, observation=told_as(config, layout, field.tiling.shape))
    tiles = field.tiling.count
    wanted = {"theta": (tiles, shape.parameters), "offset": (tiles, shape.outputs), "scale": (tiles, 1)}
    if any(tensors[name].shape != sizes for name, sizes in wanted.items()):
        raise StorageError(f"{path} is damaged: its parameters do not fit its own description.")
    return FitResult(
        field.to(device),
        config,
        Metrics(**numbers(header["metrics"])),
        History(**{**history, "events": [(step, text) for step, text in history["events"]]}),
        # Files of version 1 have another name for it.
        header["provenance" if "provenance" in header else "receipt"],
        state=state or None,
    )


def make_provenance(samples: Samples, device: str, seed: int, engine: str) -> dict[str, Any]:
    """Return what reproduces a fit, beside its configuration.

    Parameters
    ----------
    samples
        The image; its hash is the SHA-256 of dtype, shape and bytes.
    device, seed, engine
        Of the fit.
    """
    image = np.ascontiguousarray(samples.image)
    digest = hashlib.sha256(f"{image.dtype.str} {image.shape} ".encode())
    digest.update(image.data if image.size else b"")
    packages = ("napari-siren", "torch", "numpy", "scikit-image")
    return {
        "seed": seed,
        "device": device,
        "engine": engine,
        "data_sha256": digest.hexdigest(),
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in packages}},
        "platform": platform.platform(),
    }
