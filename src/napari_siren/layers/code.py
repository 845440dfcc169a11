"""Python code to repeat a fit of the panel. Pure: no napari, no Qt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# Default arguments of `fit_layer` and `fit`. The code leaves arguments with these values out.
_DEFAULTS: dict[str, Any] = {
    "preset": "faithful",
    "region": None,
    "plane": None,
    "level": 0,
    "fill_nan": False,
    "one_by_one": None,
    "error": "signed",
    "device": "auto",
    "seed": 0,
}


class Code(str):
    """A piece of code. Its `repr` is the code itself, without quotes."""

    def __repr__(self) -> str:
        return str(self)


def viewer_layer(name: str) -> Code:
    """Return the code for a layer of the viewer, looked up by its name."""
    return Code(f"viewer.layers[{_literal(name)}]")


def as_python(layer_name: str, scale: float | tuple[float, ...], settings: Mapping[str, Any], **arguments: Any) -> str:
    """Return the code to fit a layer of the current viewer in the same way as the panel.

    Parameters
    ----------
    layer_name
        Name of the image layer.
    scale
        Scale of the upscaled layer, as in `fit_layer`.
    settings
        Fields of `FitConfig` with other values than in the preset.
    **arguments
        Other arguments of `fit_layer`. Those with the default value are left out of the code.

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


def continued(code: str, steps: int) -> str:
    """Return the code of a fit that was continued for some steps. The code itself does not continue it, and notes this.

    Examples
    --------
    >>> print(continued("fitted = ...", 100))
    fitted = ...
    # The fit in the panel was then continued for 100 steps. This code ends before them.
    """
    note = f"# The fit in the panel was then continued for {steps} steps. This code ends before them."
    return f"{code}\n{note}" if code else ""


def _literal(value: Any) -> str:
    """Return the code for a value. Strings have double quotes, as code formatters write them."""
    return json.dumps(value, ensure_ascii=False) if type(value) is str else repr(value)
