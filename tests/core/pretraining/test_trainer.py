"""The course of a training: it improves images, continues from checkpoints, and recovers from a divergence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training_cases import TINY, make_trainer, tiny

from napari_siren.core.degradation.kinds import KINDS
from napari_siren.core.pretrained_network.weights import is_gain
from napari_siren.errors import ConfigError


def test_a_short_training_beats_bicubic_interpolation(tmp_path: Path) -> None:
    one = make_trainer(tmp_path, 200, TINY.with_changes({"muon_rate": 0.03, "batch": 8, "chunk": 20}))
    one.train()
    assert min(one.scores.values()) > 0.5
    lines = [json.loads(line) for line in (tmp_path / "enlarge.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 200
    assert lines[-1]["samples"] == 1600


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_training_goes_on_as_if_it_had_not_been(kind: str, tmp_path: Path) -> None:
    settings = tiny(kind)
    whole = make_trainer(tmp_path, 20, settings)
    whole.train()
    killed = make_trainer(tmp_path, 20, settings)
    take = killed._take

    def take_and_die(drawn):
        if killed.step == 10:
            killed.save()
            raise KeyboardInterrupt
        return take(drawn)

    killed._take = take_and_die
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    again = make_trainer(tmp_path, 20, settings)
    assert again.resume()
    assert again.step == 10
    again.train()
    assert again.step == 20
    for one, other in zip(whole._tensors(), again._tensors(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    make_trainer(tmp_path, 5).save()
    with pytest.raises(ConfigError, match="other settings"):
        make_trainer(tmp_path, 5, TINY.with_changes({"batch": 3})).resume()


def test_after_a_mishap_it_goes_back_and_takes_smaller_steps(tmp_path: Path) -> None:
    one = make_trainer(tmp_path, 5)
    good = [tensor.detach().clone() for tensor in one._tensors()]
    one.network.kernels.data.fill_(float("nan"))
    one._after(float("nan"), 1.0, 5)
    assert one.factor == 0.5
    for tensor, was in zip(one._tensors(), good, strict=True):
        torch.testing.assert_close(tensor.detach(), was)


@pytest.mark.parametrize("kind", ["denoise", "microscope", "stack", "robust"])
def test_a_short_training_of_each_kind_improves_the_images(kind: str, tmp_path: Path) -> None:
    one = make_trainer(
        tmp_path,
        400 if kind == "robust" else 120,
        tiny(kind, {"muon_rate": 0.03, "batch": 8, "chunk": 20, "warm_up": 10}),
    )
    one.train()
    before = {name: 0.0 if is_gain(kind) else value for name, value in one.validation.before.items()}
    gains = [one.best_scores[name] - value for name, value in before.items()]
    assert np.mean(gains) > {"denoise": 2, "microscope": 1.5, "stack": 0.4, "robust": 0.2}[kind]
    assert one.best_step


def test_the_best_weights_are_kept(tmp_path: Path) -> None:
    one = make_trainer(tmp_path, 5, tiny("denoise"))
    scores = iter((1.0, 3.0, 2.0))
    one.validation.scores = lambda network, dtype: {"a": next(scores)}
    for step in (1, 2, 3):
        one.step = step
        one.optimizer.average[0].fill_(float(step))
        one._validate(1.0, 1.0)
    assert one.best_step == 2
    assert one.best_scores == {"a": 3.0}
    assert bool((one.result().kernels == 2).all())
