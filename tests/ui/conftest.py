"""napari for the tests of the plugin, with this plugin and napari's own, and without the user's settings.

Two things need care. napari's `make_napari_viewer` would reset the settings of the user. And npe2 discovers every
installed plugin, so a test would depend on the other plugins. Therefore each test gets settings in its own folder, and
a plugin manager with two plugins: this one, by its entry point, and napari's.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
import torch
from napari import settings
from napari.layers import Image
from npe2 import PluginManifest
from pytestqt.qtbot import QtBot
from qtpy.QtWidgets import QMessageBox
from waiting import LIMIT

from napari_siren import FitResult, fit_layer

# PyTorch is imported before Qt, as Windows needs it. The images are so small that a second thread only takes time.
torch.set_num_threads(1)


class PatientBot(QtBot):
    """A `QtBot` with a long time limit. The five seconds of pytest-qt are too short on a busy machine."""

    waitUntil = partialmethod(QtBot.waitUntil, timeout=1000 * LIMIT)
    waitSignal = partialmethod(QtBot.waitSignal, timeout=1000 * LIMIT)
    waitSignals = partialmethod(QtBot.waitSignals, timeout=1000 * LIMIT)
    waitExposed = partialmethod(QtBot.waitExposed, timeout=1000 * LIMIT)


@pytest.fixture
def qtbot(qapp: Any, request: pytest.FixtureRequest) -> PatientBot:
    """Replace pytest-qt's fixture by one with a longer time limit."""
    return PatientBot(request)


@pytest.fixture(autouse=True, scope="module")
def frozen_modules() -> None:
    """Exclude all that is loaded from garbage collections: napari's fixture collects three times for each viewer."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def manifests() -> list[PluginManifest]:
    """The manifests of napari and of this plugin. To read them takes a tenth of a second."""
    return [PluginManifest.from_distribution(name) for name in ("napari", "napari-siren")]


@pytest.fixture(autouse=True)
def plugins(
    npe2pm: Any, manifests: list[PluginManifest], plugin_settings: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """The plugin manager with two plugins. All settings, and those of the last session, have their defaults."""
    monkeypatch.setattr(settings, "_SETTINGS", None)
    settings.get_settings(tmp_path / "settings.yaml")
    monkeypatch.setattr(platformdirs, "user_config_path", lambda *_, **__: tmp_path / "config")
    # monkeypatch restores this variable after the test, so that a value set by `apply_cache` is removed.
    monkeypatch.setenv("NAPARI_SIREN_CACHE", "")
    first, second = manifests
    with npe2pm.tmp_plugin(manifest=first), npe2pm.tmp_plugin(manifest=second):
        yield npe2pm


@pytest.fixture(autouse=True)
def no_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected question fails the test. Without this it would wait for an answer forever."""

    def refuse(box: QMessageBox) -> None:
        pytest.fail(f"unexpected question: {box.text()}")

    monkeypatch.setattr(QMessageBox, "exec", refuse)


@pytest.fixture
def viewer(plugins: Any, make_napari_viewer: Callable[..., Any]) -> Any:
    """A real viewer without a visible window."""
    return make_napari_viewer(show=False)


@pytest.fixture(scope="session")
def fitted() -> FitResult:
    """A quick fit to a layer of 24 x 32 RGB pixels with a size in micrometres."""
    image = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    layer = Image(image, rgb=True, name="cells", scale=(2, 3), translate=(5, 7), units=("um", "um"))
    return fit_layer(layer, scale=1, preset="fast", max_steps=2, engine="torch").result


@pytest.fixture
def model_file(fitted: FitResult, tmp_path: Path) -> Path:
    """The file of the model of `fitted`."""
    return fitted.save(tmp_path / "saved.safetensors")
