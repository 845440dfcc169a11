"""Planes: their noise, the validation on them, and the training from trained weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from training_cases import CPU, TINY

from napari_siren.core.degradation import camera
from napari_siren.core.degradation.kinds import degradation_for
from napari_siren.core.noise.model import NoiseModel
from napari_siren.core.pretrained_network.network import NetworkShape, PretrainedNetwork
from napari_siren.core.pretraining.photographs import Photographs
from napari_siren.core.pretraining.planes import Plane, PlaneValidation, are_noisy, noise_parameters
from napari_siren.core.pretraining.settings import Settings
from napari_siren.core.pretraining.trainer import Plan, Start, Trainer
from napari_siren.errors import ConfigError


def scene(number: int, side: int = 96) -> np.ndarray:
    """Return discs with soft edges on grey, 0 to 1."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:side, :side]
    image = np.full((side, side), 0.1)
    for _ in range(8):
        row, column, radius, height = rng.uniform((0, 0, 5, 0.2), (side, side, 20, 1))
        image += (height - image) / (1 + np.exp(np.hypot(y - row, x - column) - radius))
    return image.astype(np.float32)


def noisy_scene(number: int, photons: float = 30.0, side: int = 96) -> np.ndarray:
    rng = np.random.default_rng(100 + number)
    return (rng.poisson(photons * scene(number, side)) / photons).astype(np.float32)


class Mixture(PretrainedNetwork):
    """A network without weights: a share of the pixel and of the mean of its neighbours."""

    def __init__(self, share: float) -> None:
        super().__init__(NetworkShape(4, (1,), 4), torch.Generator())
        self.share = share

    def forward(self, image: torch.Tensor, size, dtype=torch.float32, fused: bool = False) -> torch.Tensor:
        values = image[:, 0]
        sums = sum(values.roll(step, axis) for step in (1, -1) for axis in (1, 2))
        return self.share * values + (1 - self.share) * sums / 4


def test_noisy_planes_are_recognised() -> None:
    assert not are_noisy([Plane(scene(n)) for n in range(3)])
    assert are_noisy([Plane(noisy_scene(n)) for n in range(3)])


def test_noise_has_the_variance_and_the_skewness_of_photons() -> None:
    torch.manual_seed(0)
    signal = torch.full((1, 1000, 1000), 0.5)
    numbers = [torch.tensor([value]) for value in (0.01, 0.02, 0.001)]
    noise = camera.noise_of(signal, *numbers).double()
    assert float(noise.mean()) == pytest.approx(0, abs=2e-3)
    assert float(noise.var()) == pytest.approx(0.02, rel=0.02)
    # Photons of 0.02 each, and Gaussian noise of the variance 0.01, which has no third moment.
    assert float(noise.pow(3).mean()) == pytest.approx(0.02 * 0.01, rel=0.1)
    darker = camera.noise_of(torch.full((1, 400, 400), -2.0), *numbers)
    assert float(darker.var()) == pytest.approx(0.001, rel=0.03)


def test_the_blind_score_of_noisy_planes_is_about_the_true_one() -> None:
    """The mean of the neighbours ignores the pixel itself, so that its true error is that of the blind comparison."""
    validation = PlaneValidation([Plane(noisy_scene(1, side=192))], "denoise", True, 192, CPU)
    (estimate,) = validation.errors(Mixture(0.0), "noisy", torch.float32).tolist()
    truth = torch.from_numpy(scene(1, 192))
    true = float((Mixture(0.0)(validation.truth[:, None], (192, 192)) - truth).square().mean())
    # The variance of the noise, about 0.01, is estimated to 5 %.
    assert estimate == pytest.approx(true, abs=5e-4)
    # The noisy pictures themselves.
    (before,) = validation.before.values()
    error = float((validation.truth - truth).square().mean())
    assert before == pytest.approx(-10 * np.log10(error), abs=0.5)


def test_both_kinds_for_denoising_see_the_same_noise() -> None:
    """Images of 8 bits are shares of white for one of them. Its scores are comparable all the same."""
    plane = Plane(scene(2), black=0.2, contrast=0.3)
    kinds = [PlaneValidation([plane], kind, False, 96, CPU) for kind in ("denoise", "microscope")]
    assert kinds[0].before == pytest.approx(kinds[1].before, abs=1e-3)
    for name, inputs in kinds[0].inputs.items():
        torch.testing.assert_close(inputs[:, 0], 0.2 + 0.3 * kinds[1].inputs[name][:, 0], atol=1e-4, rtol=0)
        # A map regards signals below 0 as 0, which is another value for shares of white.
        differences = (inputs[:, 1] - 0.3 * kinds[1].inputs[name][:, 1]).abs()
        assert float((differences < 1e-4).float().mean()) > 0.95


def test_values_beyond_the_range_are_not_clipped() -> None:
    """Neither in the validation nor in the training: a bright spot has 5 times the range."""
    image = scene(3)
    image[40:50, 40:50] = 5
    validation = PlaneValidation([Plane(image)], "enlarge", False, 96, CPU)
    assert float(validation.inputs["x2"].max()) > 4.9
    reduction = degradation_for("enlarge", "planes")(24, (48,), CPU)
    crops = torch.from_numpy(image[None, None, 15 : 15 + reduction.side(48), 15 : 15 + reduction.side(48)])
    coarse, fine = reduction.pair(crops, torch.zeros(1, 0), 48)
    assert min(float(coarse.max()), float(fine.max())) > 4.9
    # Not rounded to 8 bits, either.
    assert len(coarse.unique()) > 256


@pytest.mark.parametrize(("kind", "source"), [("microscope", "planes"), ("denoise", "noisy planes")])
def test_inputs_are_noisy_planes_with_a_map(kind: str, source: str) -> None:
    degradation = degradation_for(kind, source)(64, (64,), CPU)
    side = degradation.side(64)
    table = torch.from_numpy(degradation.draw(np.random.default_rng(0), 4))
    numbers = torch.tensor([[0.002, 0.01, 0.001]]).expand(4, 3)[:, : len(degradation.of_image)]
    crops = torch.from_numpy(scene(4)[:side, :side]).expand(4, 1, side, side)
    inputs, clean = degradation.pair(crops, torch.cat([table, numbers], dim=1), 64)
    assert (inputs.shape, clean.shape) == ((4, 2, 64, 64), (4, 64, 64))
    deviations = (inputs[:, 0] - clean).std((1, 2))
    torch.testing.assert_close(deviations, inputs[:, 1].square().mean((1, 2)).sqrt(), rtol=0.4, atol=0)


def test_each_crop_knows_the_numbers_of_its_image() -> None:
    images = [np.full((40 + n, 50, 1), n, np.float32) for n in range(4)]
    # The smallest image is left out.
    photographs = Photographs(images, 0.0, 41, CPU, [(float(n), 10.0 * n) for n in range(4)])
    positions = torch.from_numpy(photographs.draw(np.random.default_rng(0), 200, 41, 2))
    crops, numbers = photographs.crops(positions, 41), photographs.parameters(positions)
    assert set(crops[:, 0, 0, 0].tolist()) == {1, 2, 3}
    torch.testing.assert_close(numbers, crops[:, 0, 0, :1] * torch.tensor([1.0, 10.0]))


def test_the_noise_of_a_picture_is_estimated_from_itself() -> None:
    image = noisy_scene(5, 50, 256)
    offset, gain, least = noise_parameters(image)
    model = NoiseModel.from_values(image[None])
    assert (offset, gain, least) == (model.offset, model.gain, model.least)
    assert gain > 0


def started(
    out: Path, steps: int, origin: str = "a", scores: dict[str, float] | None = None
) -> tuple[Trainer, PretrainedNetwork]:
    settings = TINY.with_changes({"source": "planes", "keep_best": True, "halves": 0.0, "held_out": ["0"]})
    network = PretrainedNetwork(settings.network, torch.Generator().manual_seed(5))
    validation = PlaneValidation([Plane(scene(0))], "enlarge", False, 96, CPU)
    start = Start(network, validation, scores or validation.scores(network, torch.float32), torch.float32, origin)
    plan = Plan(1.0, steps, CPU, torch.float32, 0, out)
    return Trainer(settings, plan, [scene(n)[..., None] for n in range(1, 4)], start=start), network


def test_a_training_starts_from_trained_weights_and_keeps_them_if_nothing_is_better(tmp_path: Path) -> None:
    trainer, network = started(tmp_path, 5, scores={"x2": 99.0, "x3": 99.0, "x4": 99.0})
    assert trainer.best_scores == trainer.start.scores
    trainer.train()
    assert trainer.best_step == 0
    for one, other in zip(trainer.result().parameters(), network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_training_improves_on_its_start_and_can_be_stopped(tmp_path: Path) -> None:
    trainer, _ = started(tmp_path, 1000)
    trainer.train(lambda one: one.stop() if one.step >= 60 else None)
    assert trainer.step == trainer.best_step == 60
    assert np.mean(list(trainer.best_scores.values())) > np.mean(list(trainer.start.scores.values()))
    assert (tmp_path / "enlarge.checkpoint").is_file()


def test_a_checkpoint_of_another_origin_is_refused(tmp_path: Path) -> None:
    started(tmp_path, 5)[0].save()
    assert started(tmp_path, 5)[0].resume()
    with pytest.raises(ConfigError, match="other settings or images"):
        started(tmp_path, 5, origin="b")[0].resume()


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(ConfigError, match="source = 'films' is unknown"):
        Settings().with_changes({"source": "films"})
