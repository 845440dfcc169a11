"""The model of a layer as a file: *File > Save Selected Layer(s)*, ``viewer.layers.save``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_siren.errors import StorageError
from napari_siren.layers.outputs import RESULT_KEY

_SUFFIX = ".safetensors"


def write_model(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """Save the model that a layer was made from.

    Parameters
    ----------
    path
        Where to; ".safetensors" is added where it is missing.
    data
        The layer's pixels, which are not in the file: the model renders them anew.
    meta
        The layer's keyword arguments, its ``metadata`` among them.

    Returns
    -------
    list of str
        The file that was written.

    Raises
    ------
    StorageError
        The layer was not made from a model, or the file cannot be written. (napari takes a `ValueError`, which
        `InputError` is, for: no writer knows this kind of file.)
    """
    result = meta.get("metadata", {}).get(RESULT_KEY)
    if result is None:
        name = meta.get("name", "this layer")
        raise StorageError(
            f"there is no model of {name!r} to save. Fit it first: Plugins > SIREN. To save its pixels, choose "
            "another kind of file, such as .tif."
        )
    file = Path(path)
    file = file if file.suffix.lower() == _SUFFIX else file.with_name(file.name + _SUFFIX)
    return [str(result.save(file))]
