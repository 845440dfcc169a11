"""The model of a layer as a file: *File > Save Selected Layer(s)*, ``viewer.layers.save``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_siren.errors import StorageError
from napari_siren.layers.outputs import RESULT_KEY

# Suffix of model files.
_SUFFIX = ".safetensors"


def write_model(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """Save the model of a layer.

    Parameters
    ----------
    path
        Path of the file; ".safetensors" is added if it is missing.
    data
        Pixels of the layer. They are not saved, since the model can render them again.
    meta
        Keyword arguments of the layer, including its ``metadata``.

    Returns
    -------
    list of str
        Path of the written file.

    Raises
    ------
    StorageError
        The layer was not made from a model, or the file cannot be written. An `InputError` is not used here, since it
        is a `ValueError`: napari would report that no writer supports this kind of file.
    """
    result = meta.get("metadata", {}).get(RESULT_KEY)
    if result is None:
        name = meta.get("name", "this layer")
        raise StorageError(
            f"{name!r} has no model to save. Fit it first with Plugins > SIREN; or choose another kind of file, such "
            "as .tif, to save its pixels."
        )
    file = Path(path)
    file = file if file.suffix.lower() == _SUFFIX else file.with_name(file.name + _SUFFIX)
    return [str(result.save(file))]
