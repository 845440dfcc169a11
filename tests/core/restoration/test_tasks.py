"""The registry of restoration tasks, and its choice for an image."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_siren
from napari_siren.core.image.metrics import measure
from napari_siren.core.image.samples import Samples
from napari_siren.core.restoration.base import Restoration
from napari_siren.core.restoration.burst import BurstSuperResolution
from napari_siren.core.restoration.pipeline import RestorationFit
from napari_siren.core.restoration.pretrained.restorer import PretrainedRestorer
from napari_siren.core.restoration.richardson_lucy import RichardsonLucy
from napari_siren.core.restoration.self_supervised.axial import AxialSuperResolution
from napari_siren.core.restoration.self_supervised.blind_spot import BlindSpot
from napari_siren.core.restoration.self_supervised.zero_shot import ZeroShotSuperResolution
from napari_siren.core.restoration.tasks import PLANNERS, plan_restoration
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.settings.presets import PRESETS
from napari_siren.core.settings.tasks import TASK_NAMES, TASKS
from napari_siren.errors import ConfigError, InputError

PICTURE = np.random.default_rng(0).random((40, 48), dtype=np.float32)
STACK = np.random.default_rng(0).random((6, 32, 32), dtype=np.float32)


def plan(image: np.ndarray, preset: str, axes: str | None = None, spacing: Any = None, **fields: Any) -> Any:
    samples = Samples.from_array(image, axes, spacing)
    return plan_restoration(samples, FitConfig.preset(preset, **fields))


def test_every_task_has_a_name_facts_and_an_implementation() -> None:
    assert tuple(TASKS) == tuple(PLANNERS) == TASK_NAMES
    assert {preset.fields.get("task") for preset in PRESETS} - {None} == set(TASK_NAMES)


@pytest.mark.parametrize(
    ("preset", "image", "options", "restorer"),
    [
        ("upscale", PICTURE, {}, PretrainedRestorer),
        ("upscale", PICTURE, {"pretrained": None}, ZeroShotSuperResolution),
        ("upscale", STACK, {"axes": "ZYX", "spacing": (4, 1, 1)}, AxialSuperResolution),
        ("denoise", PICTURE, {}, PretrainedRestorer),
        ("denoise", PICTURE, {"pretrained": None}, BlindSpot),
        ("deblur", PICTURE, {"psf_width": 2.0}, RichardsonLucy),
    ],
)
def test_the_choice_for_an_image(preset: str, image: np.ndarray, options: dict[str, Any], restorer: type) -> None:
    restoration = plan(image, preset, **options)
    assert isinstance(restoration, Restoration)
    assert restoration.restorer_class is restorer
    assert isinstance(restoration.create(torch.device("cpu"), 0), restorer)


CLEAN_STACK = np.sin(np.mgrid[:6, :32, :32] / 5).sum(axis=0).astype(np.float32)


@pytest.mark.parametrize(
    ("stack", "distance", "options", "starts"),
    [
        (CLEAN_STACK, 3, {}, False),
        (CLEAN_STACK, 3, {"task_steps": 1000}, True),
        (CLEAN_STACK, 3, {"task_steps": 1000, "pretrained": None}, False),
        (CLEAN_STACK, 4, {}, True),
        (CLEAN_STACK, 6, {}, None),
        (STACK, 6, {}, True),
        (STACK, 6, {"pretrained": None}, None),
        (STACK, 9, {}, None),
    ],
)
def test_slices_with_few_rows(stack: np.ndarray, distance: int, options: dict[str, Any], starts: bool | None) -> None:
    restoration = plan(stack, "upscale", "ZYX", (distance, 1, 1), **options)
    if starts is None:
        assert restoration is None
    else:
        restorer = restoration.create(torch.device("cpu"), 0)
        assert ("slices" in restorer.extra_metadata().get("pretrained", {})) is starts


@pytest.mark.parametrize(
    ("preset", "image", "options"),
    [
        ("faithful", PICTURE, {}),
        ("upscale", PICTURE, {"task_steps": 0}),
        ("upscale", PICTURE[:7, :7], {}),
        ("upscale", PICTURE[:12, :12], {"pretrained": None}),
        ("upscale", STACK, {"axes": "ZYX"}),
        ("denoise", PICTURE[:7, :7], {"strict": False}),
        ("denoise", PICTURE[:12, :12], {"pretrained": None, "strict": False}),
        ("burst", PICTURE, {}),
    ],
    ids=[
        "no task",
        "no steps",
        "a tiny picture",
        "a small picture",
        "a stack",
        "a tiny noisy picture",
        "a small noisy picture",
        "no frames",
    ],
)
def test_tiles_alone(preset: str, image: np.ndarray, options: dict[str, Any]) -> None:
    assert plan(image, preset, **options) is None


def test_frames_are_joined_by_bursts_only() -> None:
    frames = np.random.default_rng(0).random((3, 1, 40, 48), dtype=np.float32)
    restoration = plan_restoration(Samples.from_array(PICTURE), FitConfig.preset("burst"), frames)
    assert restoration is not None
    assert restoration.restorer_class is BurstSuperResolution
    assert [name for name, task in TASKS.items() if task.joins_frames] == ["burst"]


@pytest.mark.parametrize(("preset", "options"), [("deblur", {"psf_width": 2.0}), ("denoise", {})])
def test_an_image_that_a_preset_cannot_restore_is_refused(preset: str, options: dict[str, Any]) -> None:
    line = np.random.default_rng(0).random(200, dtype=np.float32)
    with pytest.raises(InputError, match=r"two or three axes.*Choose another image.*strict=False"):
        plan(line, preset, **options)
    assert plan(line, preset, strict=False, **options) is None


@pytest.mark.parametrize("name", TASK_NAMES)
def test_observations_that_a_task_cannot_use(name: Any) -> None:
    if "point" in TASKS[name].observations:
        assert FitConfig(task=name, task_steps=3).restoration is TASKS[name]
    else:
        with pytest.raises(ConfigError, match=TASKS[name].requirement[:20]):
            FitConfig(task=name, task_steps=3)


def test_only_the_registry_knows_the_tasks_by_name() -> None:
    """A new task needs its facts, its file and a line of the registry. No other module compares names of tasks."""
    root = Path(napari_siren.__file__).parent
    own = {root / "core" / "settings" / name for name in ("tasks.py", "presets.py", "config.py")}
    own.add(root / "core" / "restoration" / "tasks.py")
    # The tasks of `train` have names of their own.
    own.add(root / "finetuning" / "train.py")
    found = {}
    for path in sorted(set(root.rglob("*.py")) - own):
        names = [
            node.value
            for compare in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(compare, ast.Compare)
            for node in ast.walk(compare)
            if isinstance(node, ast.Constant) and node.value in TASK_NAMES
        ]
        if names:
            found[path.relative_to(root).as_posix()] = names
    # The exception is `allows_zero_shot`, which is also used block by block.
    assert found == {"core/restoration/super_resolution.py": ["super-resolution"]}


def test_the_field_of_a_restoration_is_seen_by_the_pixels() -> None:
    config = FitConfig.preset("upscale", task_steps=2, max_steps=2)
    samples = Samples.from_array(PICTURE)
    restoration = plan_restoration(samples, config)
    assert restoration is not None
    run = RestorationFit(samples, config, torch.device("cpu"), 0, None, restoration)
    while run.step_count < run.max_steps:
        run.step()
    field = run.best_field()
    assert field.observation is run.operator
    predicted = run.predicted_pixels(field)
    assert (predicted.shape, predicted.dtype) == (PICTURE.shape, PICTURE.dtype)
    assert measure(samples, predicted).psnr > 10
