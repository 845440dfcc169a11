"""Model files in the safetensors format, with all data except the tensors as JSON in the metadata.

Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from napari_siren.core.storage.atomic import atomic_write, json_safe
from napari_siren.core.storage.records import describe_error, parse_json
from napari_siren.core.storage.tensors import content_hash
from napari_siren.errors import StorageError

_Header = TypeVar("_Header")

# Name of the format in the metadata.
FORMAT = "napari-siren"
# Version of the format. Version 1 called the provenance "receipt", and the engine "torch" was "plain". Versions 1 and 2
# had a setting for the steps of each task. Up to version 3, every field had tiles. Up to version 4, none had outliers,
# and files without them still have this number for the sake of earlier programs.
FORMAT_VERSION, _VERSION_WITHOUT_OUTLIERS = 5, 4


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
    model = json.dumps(json_safe(header), allow_nan=False)
    own = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION if header.get("outliers") else _VERSION_WITHOUT_OUTLIERS),
        "model": model,
        "sha256": content_hash(own, model),
    }
    with atomic_write(path) as temporary:
        temporary.write_bytes(serialise(own, metadata))
    return path


def read(path: Path, validate: Callable[[Any], _Header]) -> tuple[_Header, dict[str, Tensor]]:
    """Return the header and the tensors of a model file.

    Parameters
    ----------
    path
        Path of the file.
    validate
        Function that checks the header, before the tensors are read, and returns it in any form. The infinite numbers
        in its argument are the strings "inf" and "-inf". Its errors are subclasses of ValueError.

    Raises
    ------
    StorageError
        The file does not exist, is truncated or altered, or is from another program or a later version.
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
            header = _validated(path, parse_json(metadata["model"]), validate)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except StorageError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, OverflowError) as error:
        raise StorageError(
            f"{path} is not a complete napari-siren model ({describe_error(error)}). It may be cut short: save or copy "
            "it again."
        ) from error
    # Files of earlier versions have no hash.
    if metadata.get("sha256") not in (None, content_hash(tensors, metadata["model"])):
        raise StorageError(f"{path} is damaged: its contents changed after it was saved. Use another copy of the file.")
    return header, tensors


def _validated(path: Path, values: Any, validate: Callable[[Any], _Header]) -> _Header:
    try:
        return validate(values)
    except ValueError as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> StorageError:
    """Return the error for a model file whose description or tensors are not valid."""
    return StorageError(
        f"{path} is damaged: its description is not valid ({describe_error(error)}). Use another copy of the file."
    )
