"""The examples in the docstrings of the headless package run, and give what they say."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

import napari_siren
from napari_siren import core

MODULES = [info.name for info in pkgutil.walk_packages(core.__path__, f"{core.__name__}.")]
# fit_layer and LayerFit need napari; their examples run where it is installed.
EVERY_NAME = [name for name in napari_siren.__all__ if name not in ("LayerFit", "fit_layer")]


@pytest.mark.parametrize("module", MODULES)
def test_examples_run(module: str) -> None:
    results = doctest.testmod(import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert results.failed == 0


@pytest.mark.parametrize("name", EVERY_NAME)
def test_every_public_name_is_documented(name: str) -> None:
    assert getattr(napari_siren, name).__doc__


@pytest.mark.parametrize("name", ["Field", "FitConfig", "FitResult", "fit", "fit_iter", "load", "upscale"])
def test_what_is_most_used_has_an_example(name: str) -> None:
    examples = doctest.DocTestFinder(recurse=False).find(getattr(napari_siren, name))
    assert any(test.examples for test in examples)
