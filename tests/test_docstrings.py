"""The examples in the docstrings run, and give what they say."""

from __future__ import annotations

import ast
import doctest
import pkgutil
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from language import docstrings, findings, python_files, relative

import napari_siren

# The images of examples are so small that a second thread only costs.
torch.set_num_threads(1)

# What a module cannot be imported without, and the core need not have.
NEEDED = {
    "napari_siren.ui.": "napari",
    "napari_siren.core.engines.triton.kernels": "triton",
    "napari_siren.core.engines.triton.update": "triton",
    "napari_siren.core.pretrained_network.sine_kernels": "triton",
}


def _reason_to_skip(module: str) -> str | None:
    needed = next((package for start, package in NEEDED.items() if module.startswith(start)), None)
    return f"{module} needs {needed}, which is not installed" if needed and find_spec(needed) is None else None


# Importing __main__ would run the command line.
MODULES = [
    pytest.param(name, marks=[pytest.mark.skip(reason=reason)] if (reason := _reason_to_skip(name)) else [])
    for info in pkgutil.walk_packages(napari_siren.__path__, f"{napari_siren.__name__}.")
    if not (name := info.name).endswith(".__main__")
]


@pytest.mark.parametrize("module", ["napari_siren", *MODULES])
def test_examples_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # For the files that examples write, and those that they leave.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    results = doctest.testmod(import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0


FILES = python_files(str(Path(napari_siren.__file__).parent))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_language_is_that_of_the_style_guide(path: Path) -> None:
    """See docs/contributing/style.md."""
    assert not [f"{path}:{line}: {complaint}" for line, complaint in findings(path)]


def test_few_first_sentences_have_a_relative_clause() -> None:
    texts = [text for path in FILES for _, text in docstrings(ast.parse(path.read_text(encoding="utf-8")))]
    assert sum(map(relative, texts)) < 0.05 * len(texts)


@pytest.mark.parametrize("name", napari_siren.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    assert getattr(napari_siren, name).__doc__


@pytest.mark.parametrize("name", ["Field", "FitConfig", "FitResult", "fit", "fit_iter", "fit_layer", "load", "upscale"])
def test_what_is_most_used_has_an_example(name: str) -> None:
    examples = doctest.DocTestFinder(recurse=False).find(getattr(napari_siren, name))
    assert any(test.examples for test in examples)
