"""The general weights to start from, and the crops for images of any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_siren.core.degradation.kinds import degradation_for
from napari_siren.core.pretraining.planes import Plane
from napari_siren.errors import ConfigError
from napari_siren.finetuning import start
from napari_siren.finetuning.images import LEAST_SIDE, Images
from napari_siren.finetuning.start import General

CPU = torch.device("cpu")


def planes(side: int, count: int = 2) -> list[Plane]:
    rng = np.random.default_rng(0)
    return [Plane(rng.random((side, side + 5), np.float32)) for _ in range(count)]


def images_of(side: int) -> Images:
    return Images(planes(side), planes(side, 1), ("a", "b", "c"), ("a",), {}, False, "hash")


@pytest.mark.parametrize("task", start.TASKS)
@pytest.mark.parametrize("side", [LEAST_SIDE, 61, 90, 150, 240])
def test_crops_fit_into_images_of_any_size(task: str, side: int) -> None:
    images = images_of(side)
    general = General.best(task, False, images.held_out, CPU, torch.float32)
    settings = general.settings(images, on_gpu=False)
    degradation = degradation_for(settings.kind, settings.source)(settings.crop, (), CPU)
    assert settings.outputs
    assert max(degradation.side(size) for size, _ in settings.outputs) <= side
    assert {size / settings.crop for size, _ in settings.outputs} >= ({2.0, 1.5} if task == "enlarge" else {1.0})


def test_large_images_are_enlarged_as_by_the_general_weights() -> None:
    general = General.best("enlarge", False, planes(220), CPU, torch.float32)
    settings = general.settings(images_of(220), on_gpu=True)
    assert settings.crop == 48
    assert settings.outputs == ((96, 0.36), (144, 0.26), (192, 0.26), (72, 0.06), (120, 0.06))


def test_the_better_general_weights_are_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = planes(64, 1)
    names = start.TASKS["denoise"]
    scores = {}
    for name in names:
        monkeypatch.setitem(start.TASKS, "denoise", (name,))
        scores[name] = General.best("denoise", False, held_out, CPU, torch.float32).score
    monkeypatch.setitem(start.TASKS, "denoise", names)
    best = General.best("denoise", False, held_out, CPU, torch.float32)
    assert best.weights.name == max(scores, key=lambda name: scores[name])
    assert best.start(images_of(64), torch.float32).scores == best.scores


def test_noisy_planes_are_denoised_to_learn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = np.full((80, 90), 0.5, np.float32)
    clean[20:50, 30:60] = 1
    noisy = [Plane(clean + np.random.default_rng(n).normal(0, 0.1, clean.shape).astype(np.float32)) for n in range(6)]
    general = General.best("denoise", True, noisy[:1], CPU, torch.float32)
    arrays, noise = general.training_images(noisy, CPU, torch.float32)
    assert noise is not None
    assert len(arrays) == len(noise) == 6
    assert np.abs(arrays[1][..., 0] - clean).mean() < 0.3 * np.abs(noisy[1].values - clean).mean()
    # Of many pixels some planes are chosen.
    monkeypatch.setattr(start, "_MOST_NOISY", 3 * clean.size)
    assert len(general.training_images(noisy, CPU, torch.float32)[0]) == 3


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="Choose 'enlarge' or 'denoise'"):
        General.best("sharpen", False, planes(64), CPU, torch.float32)
