"""Model files: safetensors, with everything but the tensors as JSON in its metadata. Nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from napari_siren.core.blend import Blend
from napari_siren.core.config import FitConfig
from napari_siren.core.field import Field
from napari_siren.core.geometry import AxisTiling, Tiling
from napari_siren.core.image import ImageFormat
from napari_siren.core.metrics import Metrics
from napari_siren.core.model import Siren, SirenShape
from napari_siren.core.progress import History
from napari_siren.core.result import FitResult
from napari_siren.core.run import State
from napari_siren.core.upscaling import told_as
from napari_siren.errors import SirenError, StorageError
from napari_siren.files import strict_values, written_aside

FORMAT = "napari-siren"
FORMAT_VERSION = 1
_STATE = "state."


def save(result: FitResult, path: Path, resumable: bool) -> Path:
    """Write a result; see `FitResult.save`."""
    field = result.field
    tensors: dict[str, Tensor] = {
        "theta": field.siren.theta,
        "offset": field.blend.offset,
        "scale": field.blend.scale,
    }
    if resumable:
        if result.state is None:
            raise StorageError("this result holds no state to go on from: it was loaded from a file without one.")
        tensors |= {_STATE + name: tensor for name, tensor in result.state.tensors.items()}
    header = {
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
        "receipt": dict(result.receipt),
        "state": None if not resumable or result.state is None else _counters(result.state),
    }
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "model": json.dumps(strict_values(header), allow_nan=False),
    }
    with written_aside(path) as aside:
        aside.write_bytes(serialise({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, metadata))
    return path


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
    from napari_siren.core.accel import choose_device

    path, where = Path(path), choose_device(device)
    header, tensors = _read(path)
    try:
        state = header["state"] and State(
            **_numbers(header["state"]),
            tensors={k[len(_STATE) :]: v for k, v in tensors.items() if k.startswith(_STATE)},
        )
        shape = SirenShape(**header["network"])
        axes = tuple(AxisTiling(axis["size"], tuple(axis["borders"]), axis["overlap"]) for axis in header["tiling"])
        described: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in header["format"].items()}
        layout = ImageFormat(**described)
        history = _numbers(header["history"])
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
            field.to(where),
            config,
            Metrics(**_numbers(header["metrics"])),
            History(**{**history, "events": [(step, text) for step, text in history["events"]]}),
            header["receipt"],
            state=state or None,
        )
    except StorageError:
        raise
    except (SirenError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise StorageError(f"{path} is damaged: its description cannot be understood ({error}).") from error


def _read(path: Path) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    if not path.is_file():
        raise StorageError(f"there is no model file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise StorageError(f"{path} is a safetensors file of another program, not a napari-siren model.")
            if int(metadata.get("format_version", "0")) > FORMAT_VERSION:
                raise StorageError(
                    f"{path} was written by a later version of napari-siren (format "
                    f"{metadata['format_version']}, this one reads up to {FORMAT_VERSION}). Update napari-siren."
                )
            return json.loads(metadata["model"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except StorageError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise StorageError(f"{path} is not a whole napari-siren model ({error}). Was it cut short?") from error


def _numbers(value: Any) -> Any:
    """Give plain values from strict JSON: the strings "inf" and "-inf" are numbers again."""
    if isinstance(value, dict):
        return {k: _numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_numbers(v) for v in value]
    return float(value) if value in ("inf", "-inf") else value


def _counters(state: State) -> dict[str, Any]:
    return {f.name: getattr(state, f.name) for f in fields(state) if f.name != "tensors"}
