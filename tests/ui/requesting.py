"""Requests of tiny fits, and fits that run here as plain generators, without Qt and without a viewer."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from napari_siren.core.settings.config import FitConfig
from napari_siren.layers.spec import LayerSpec
from napari_siren.ui.tasks.control import Control
from napari_siren.ui.tasks.fit import FitRequest, Outcome, run_fit
from napari_siren.ui.tasks.updates import Update

STEPS = 12
TINY = {"hidden_features": 8, "hidden_layers": 1, "engine": "torch"}
# A rate of updates so high that each step has its own update.
EVERY_STEP = 1e9


def image_layer(**options: Any) -> SimpleNamespace:
    pixels = np.random.default_rng(0).integers(0, 4000, (12, 16), dtype=np.uint16)
    return SimpleNamespace(**{"data": pixels, "name": "cells", "scale": (0.5, 0.25), **options})


def request(layer: Any = None, **options: Any) -> FitRequest:
    """Return the request of a tiny fit. Options with names of `FitConfig` are settings, the others are fields."""
    settings = {name: options.pop(name) for name in list(options) if name in FitConfig.model_fields}
    config = FitConfig.preset("fast", **{"max_steps": STEPS, **TINY, **settings})
    spec = LayerSpec.from_layer(layer or image_layer(), lazily=True)
    return FitRequest(spec, config, **{"device": "cpu", "seed": 3, "scale": 2.0, "error": "signed", **options})


def drive(
    wanted: FitRequest, control: Control | None = None, on_update: Callable[[Update], Any] = lambda update: None
) -> tuple[list[Update], Outcome]:
    """Run a fit to its end, and report every preview as shown at once."""
    control = control or Control()
    updates: list[Update] = []
    steps = run_fit(wanted, control)
    while True:
        try:
            update = next(steps)
        except StopIteration as end:
            return updates, end.value
        updates.append(update)
        control.preview_shown()
        on_update(update)
