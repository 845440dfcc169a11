"""The allowed imports between the parts of the package. The headless part needs neither napari nor Qt."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import forking
import pytest
from waiting import LIMIT

import napari_siren

PACKAGE = Path(napari_siren.__file__).parent
# From the bottom to the top: a part imports only from itself and from the parts before it in this list.
PARTS = (("errors",), ("core",), ("io",), ("layers", "blockwise", "reporting"), ("batch", "finetuning"), ("cli", "ui"))
ROOMS = (
    *(
        "storage",
        "settings",
        "clock",
        "device",
        "network",
        "native",
        "engines",
        "forward",
    ),
    *(
        "image",
        "noise",
        "blur",
        "resolution",
        "field",
        "pretrained_network",
        "degradation",
        "pretraining",
        "progress",
        "progress_bar",
        "training",
        "restoration",
        "uncertainty",
        "model_file",
        "result",
        "scaled_error",
        "steps",
    ),
    *("preprocessing", "options", "fit", "warm_start", "series", "shortcuts", "cost", "compositing"),
)

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
options = dict(preset="fast", max_steps=2, engine="torch")
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
    """Run code in a new interpreter, and return its output."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wall_stands() -> None:
    with pytest.raises(AssertionError, match="is behind the wall"):
        run(BLOCK + "import napari.layers")


def test_fitting_needs_neither_napari_nor_qt() -> None:
    # The imports of this process are those of `core.fit`, which are tested below.
    done = forking.run(BLOCK + FIT + FIT_LAYER)
    assert done.returncode == 0, done.stderr


def test_importing_brings_in_no_more_than_it_needs() -> None:
    """One process imports one module after the other: what is absent at last was absent after each of them."""
    # Widgets import the first two to read a layer, and should not wait for torch.
    first = ["napari_siren", "napari_siren.layers.outputs", "napari_siren.cli.app"]
    # Commands that draw no figure should not wait for matplotlib.
    others = ["napari_siren.core.fit", "napari_siren.cli.bars", "napari_siren.reporting.notebook"]
    output = "print(*sys.modules)"
    early, late = (
        set(line.split())
        for line in run(f"import sys, {', '.join(first)}\n{output}\nimport {', '.join(others)}\n{output}").splitlines()
    )
    assert early >= set(first)
    assert not early & {"torch", "matplotlib", "napari", "qtpy"}
    assert late >= set(others)
    assert not late & {"matplotlib", "napari", "qtpy"}


def imports_of(path: Path) -> Iterator[list[str]]:
    """Yield the names of the package's modules in all imports of a file, split into their parts."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        # `from napari_siren.cli import output` imports a module.
        names += [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else []
        yield from (name.split(".") for name in names if name.startswith("napari_siren."))


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def test_parts_import_from_those_below_only() -> None:
    floor = {name: number for number, names in enumerate(PARTS) for name in names}
    for part, own in floor.items():
        for path in files_of(PACKAGE / part):
            for _, other, *_ in imports_of(path):
                if other in floor and other != part:
                    assert floor[other] < own, f"{path.relative_to(PACKAGE)} imports {other}"


def test_rooms_of_the_core_import_from_those_below_only() -> None:
    core = PACKAGE / "core"
    assert {path.stem for path in core.iterdir()} - {"__init__", "__pycache__"} == set(ROOMS)
    for room in ROOMS:
        paths = files_of(core / room) if (core / room).is_dir() else [core / f"{room}.py"]
        for path in paths:
            for name in imports_of(path):
                if name[1] == "core" and len(name) > 2 and name[2] in ROOMS and name[2] != room:
                    assert ROOMS.index(name[2]) < ROOMS.index(room), f"{path.relative_to(core)} imports {name[2]}"


def test_only_the_window_imports_qt_and_its_logic_does_not() -> None:
    for path in files_of(PACKAGE):
        inside = path.relative_to(PACKAGE).parts
        if inside[0] == "ui" and inside[1] not in ("logic", "tasks"):
            continue
        modules = [
            node.module or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
        ]
        assert not [module for module in modules if module.split(".")[0] in ("qtpy", "superqt", "pyqtgraph")], path
