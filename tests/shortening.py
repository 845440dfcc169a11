"""What takes long and is not the subject of most tests, shortened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from napari_siren.core.restoration import burst
from napari_siren.core.restoration.pretrained import prediction
from napari_siren.core.settings import presets
from napari_siren.core.uncertainty import error_model

SetAttribute = Callable[[Any, str, Any], None]


def shorten_computations(set_attribute: SetAttribute = setattr) -> None:
    """Average the results of 2 flipped images instead of 8, and train error models and trials of bursts less."""
    set_attribute(prediction, "_PASSES", ((1 << 23, 2),))
    set_attribute(error_model, "_STEPS", 30)
    set_attribute(burst, "_TRIAL_STEPS", 20)


def shorten_presets(set_attribute: SetAttribute = setattr) -> None:
    """Take few steps in all presets."""
    set_attribute(presets, "PRESETS", tuple(_short(preset) for preset in presets.PRESETS))


def _short(preset: presets.Preset) -> presets.Preset:
    task = {"task_steps": 30} if "task_steps" in preset.fields else {}
    return replace(preset, fields={**preset.fields, **task, "max_steps": 60})
