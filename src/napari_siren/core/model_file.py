"""Model files in the safetensors format, with all data except the tensors as JSON in the metadata.

Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from napari_siren.core.atomic import atomic_write, json_safe
from napari_siren.errors import StorageError

# Name of the format in the metadata.
FORMAT = "napari-siren"
# Version of the format. Version 1 called the provenance "receipt", and the engine "torch" was "plain". Versions 1 and 2
# had a setting for the steps of each task. Up to version 3, every field had tiles.
FORMAT_VERSION = 4


def write(path: Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    """Write a model file atomically: under a temporary name, and then moved into place.

    Parameters
    ----------
    path
        Path of the file.
    header
        Description of the model, plain values.
    tensors
        Tensors by name, on any device.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "model": json.dumps(json_safe(header), allow_nan=False),
    }
    with atomic_write(path) as temporary:
        temporary.write_bytes(serialise({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, metadata))
    return path


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the header and the tensors of a model file; infinite numbers are still the strings "inf" and "-inf".

    Raises
    ------
    StorageError
        The file does not exist, is truncated, or is from another program or a later version.
    """
    if not path.is_file():
        raise StorageError(f"there is no model file {path}. Check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise StorageError(f"{path} is a safetensors file of another program. Choose a napari-siren model.")
            if int(metadata.get("format_version", "0")) > FORMAT_VERSION:
                raise StorageError(
                    f"{path} was written by a later version of napari-siren (format "
                    f"{metadata['format_version']}; this one reads up to {FORMAT_VERSION}). Update napari-siren."
                )
            return json.loads(metadata["model"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except StorageError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise StorageError(
            f"{path} is not a complete napari-siren model ({error}). It may be cut short: save or copy it again."
        ) from error


def numbers(value: Any) -> Any:
    """Return the values of strict JSON with the strings "inf" and "-inf" converted to numbers."""
    if isinstance(value, dict):
        return {k: numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [numbers(v) for v in value]
    return float(value) if value in ("inf", "-inf") else value
