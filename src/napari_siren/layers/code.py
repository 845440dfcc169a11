"""The code that does again what the panel did. Pure: no napari, no Qt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# What `fit_layer` does where nothing else is said.
_DEFAULTS: dict[str, Any] = {
    "preset": "faithful",
    "region": None,
    "plane": None,
    "level": 0,
    "error": "signed",
    "device": "auto",
    "seed": 0,
}


class Code(str):
    """A piece of code, which stands as it is where a value would be quoted."""

    def __repr__(self) -> str:
        return str(self)


def viewer_layer(name: str) -> Code:
    """Return the code for a layer of the viewer."""
    return Code(f"viewer.layers[{_literal(name)}]")


def as_python(layer_name: str, scale: float | tuple[float, ...], settings: Mapping[str, Any], **arguments: Any) -> str:
    """Return the code that fits a layer of the current viewer, as the panel did.

    Parameters
    ----------
    layer_name
        Of the image layer.
    scale
        Of the upscaled layer.
    settings
        Fields of `FitConfig` that are not as in the preset.
    **arguments
        Other arguments of `fit_layer`; those that are as it has them anyway are left out.

    Examples
    --------
    >>> from napari_siren.layers.code import as_python
    >>> print(as_python("cells", 2, {"max_steps": 100}, preset="fast", seed=0))
    import napari
    import napari_siren as ns
    <BLANKLINE>
    viewer = napari.current_viewer()
    fitted = ns.fit_layer(
        viewer.layers["cells"],
        scale=2,
        preset="fast",
        max_steps=100,
        viewer=viewer,
    )
    """
    needed = {name: value for name, value in arguments.items() if name not in _DEFAULTS or _DEFAULTS[name] != value}
    keywords = {"scale": scale, **needed, **settings, "viewer": Code("viewer")}
    lines = [
        "import napari",
        "import napari_siren as ns",
        "",
        "viewer = napari.current_viewer()",
        "fitted = ns.fit_layer(",
        f"    {viewer_layer(layer_name)},",
        *(f"    {name}={_literal(value)}," for name, value in keywords.items()),
        ")",
    ]
    return "\n".join(lines)


def _literal(value: Any) -> str:
    """Return the code for a value; strings in double quotes, as formatters have them."""
    return json.dumps(value, ensure_ascii=False) if type(value) is str else repr(value)
