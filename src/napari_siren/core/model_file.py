"""Model files: safetensors, with everything but the tensors as JSON in its metadata. Nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from napari_siren.core.atomic import strict_values, written_aside
from napari_siren.errors import StorageError

FORMAT = "napari-siren"
# Version 1 called the provenance "receipt", and the engine "torch" "plain".
FORMAT_VERSION = 2


def write(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write a model file aside, and move it into place.

    Parameters
    ----------
    path
        Where to.
    header
        Plain values.
    tensors
        By name, on any device.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "model": json.dumps(strict_values(header), allow_nan=False),
    }
    with written_aside(path) as aside:
        aside.write_bytes(serialise({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, metadata))
    return path


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the header and the tensors of a model file; infinite numbers are still the strings "inf" and "-inf".

    Raises
    ------
    StorageError
        The file is not there, truncated, of another program, or of a later version.
    """
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


def numbers(value: Any) -> Any:
    """Return plain values from strict JSON: the strings "inf" and "-inf" are numbers again."""
    if isinstance(value, dict):
        return {k: numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [numbers(v) for v in value]
    return float(value) if value in ("inf", "-inf") else value
