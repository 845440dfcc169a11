"""The walls between the parts of the package: the headless part needs neither napari nor Qt."""

from __future__ import annotations

import subprocess
import sys

import pytest
from waiting import LIMIT

BLOCK = """
import sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"napari", "qtpy"}:
            raise ImportError(f"{name} is behind the wall")

sys.meta_path.insert(0, Wall())
"""

FIT = """
import numpy as np
import napari_siren as ns

image = np.linspace(0, 1, 99, dtype=np.float32).reshape(9, 11)
options = dict(preset="fast", max_steps=2, engine="plain")
assert ns.fit(image, **options).render(scale=2).shape == (18, 22)
"""

FIT_LAYER = """
from types import SimpleNamespace

layer = SimpleNamespace(data=image, name="cells", scale=(0.5, 0.5), units=("um", "um"))
fitted = ns.fit_layer(layer, **options)
names = [meta["name"] for _, meta, _ in fitted.layer_data]
assert names == ["cells [reconstruction]", "cells [x2]", "cells [error]"], names
"""


def run(code: str) -> str:
    """Run code in a fresh interpreter; give what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wall_stands() -> None:
    with pytest.raises(AssertionError, match="is behind the wall"):
        run(BLOCK + "import napari.layers")


def test_fitting_needs_neither_napari_nor_qt() -> None:
    run(BLOCK + FIT + FIT_LAYER)


@pytest.mark.parametrize(
    ("imported", "absent"),
    [
        ("napari_siren", {"torch", "napari", "qtpy"}),
        # What a widget imports to read a layer should not make it wait for torch.
        ("napari_siren.layers", {"torch", "napari", "qtpy"}),
        ("napari_siren.core.fit", {"napari", "qtpy"}),
    ],
)
def test_importing_brings_in_no_more_than_it_needs(imported: str, absent: set[str]) -> None:
    modules = run(f"import sys, {imported}; print(*sys.modules)").split()
    assert imported in modules
    assert not absent & set(modules)
