"""Denoising: noise is removed, structure is kept, and hidden pixels are not used."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.ndimage import gaussian_filter

import napari_siren as ns
from napari_siren.core.image.samples import Samples
from napari_siren.core.noise.model import NoiseModel
from napari_siren.core.restoration.self_supervised.blind_spot import BlindSpot, _with_own_pixels, plan
from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import InputError


def cells(shape: tuple[int, ...], seed: int = 0) -> npt.NDArray[np.float32]:
    blurred = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), (0,) * (len(shape) - 2) + (5, 5))
    return np.tanh(30 * blurred).astype(np.float32) * 0.8


def trained(values: npt.NDArray[np.float32], steps: int) -> BlindSpot:
    stack = values if values.ndim == 3 else values[None]
    learner = BlindSpot(torch.from_numpy(values[None]), [NoiseModel.from_values(stack)])
    for step in range(steps):
        learner.step(step / steps)
    return learner


def rms(values: npt.NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(values).mean()))


def test_noise_goes() -> None:
    clean = cells((56, 56))
    noisy = clean + 0.3 * np.random.default_rng(1).standard_normal(clean.shape, dtype=np.float32)
    found = trained(noisy, 80).predict(noisy.shape)[0].numpy()
    best = min(rms(gaussian_filter(noisy, s) - clean) for s in (0.8, 1.2, 1.6, 2.0, 2.5))
    assert rms(found - clean) < best


def test_a_clean_image_stays_sharp() -> None:
    clean = cells((64, 64))
    found = trained(clean, 40).predict(clean.shape, 1)[0].numpy()
    assert rms(found - clean) < 0.02


def test_a_guess_does_not_look_at_the_pixel() -> None:
    values = cells((40, 40))[None]
    other = values.copy()
    hidden = torch.zeros(40, 40, dtype=torch.bool)
    hidden[10:30:3, 8:32:3] = True
    other[:, hidden.numpy()] += 5
    learner = trained(values[0], 3)
    with torch.no_grad():
        guesses = [sum(learner._guess(torch.from_numpy(v)[:, None], hidden)) for v in (values, other)]
    torch.testing.assert_close(guesses[0], guesses[1])


def test_shared_noise_is_predicted_from_pixels_that_are_further_away() -> None:
    clean = cells((64, 64))
    blurred = gaussian_filter(np.random.default_rng(1).standard_normal(clean.shape), 1.0)
    noisy = (clean + 0.3 * blurred / blurred.std()).astype(np.float32)
    errors = []
    for shared in (False, True):
        learner = BlindSpot(torch.from_numpy(noisy[None]), [NoiseModel(0.0, 0.09, 0.09)], shared=shared)
        for step in range(80):
            learner.step(step / 80)
        errors.append(rms(learner.predict(noisy.shape, 2)[0].numpy() - clean))
    assert errors[1] < 0.8 * errors[0]
    predicted = torch.zeros(9, 9, dtype=torch.bool)
    predicted[4, 3] = True
    assert learner._hidden(predicted).nonzero().unique(dim=0).tolist() == [
        [y, x] for y in range(2, 7) for x in range(1, 6)
    ]


def test_only_strongly_shared_noise_is_kept_apart() -> None:
    scene = cells((96, 96))
    for blur, shared in ((0.3, False), (1.0, True)):
        noise = gaussian_filter(np.random.default_rng(1).standard_normal(scene.shape), blur)
        noisy = (scene + 0.3 * noise / noise.std()).astype(np.float32)
        samples = Samples.from_array(noisy)
        restoration = plan(samples, FitConfig.preset("denoise", pretrained=None))
        assert restoration is not None
        learner = restoration.create(torch.device("cpu"), 0)
        assert isinstance(learner, BlindSpot)
        assert (int(learner._hidden(torch.eye(9, dtype=torch.bool)).sum()) > 9) is shared


def test_slices_beside_help() -> None:
    clean = np.repeat(cells((32, 32))[None], 3, axis=0)
    noisy = clean + 0.4 * np.random.default_rng(2).standard_normal(clean.shape, dtype=np.float32)
    stack = trained(noisy, 80)
    assert stack.inputs_per_channel == 8
    found = stack.predict(noisy.shape)[0].numpy()
    alone = trained(noisy[2], 80).predict(noisy.shape[1:])[0].numpy()
    assert found.shape == noisy.shape
    assert rms(found[2] - clean[2]) < rms(alone - clean[2])


def test_pixels_have_a_say_where_the_guess_misses_by_more_than_noise() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((1, 1, 90, 90), np.float32)
    truth[..., 45:] = 3 * gaussian_filter(rng.standard_normal((90, 45)), 2)  # structure that the prediction lacks
    values = truth + 0.05 * rng.standard_normal(truth.shape, dtype=np.float32)
    found = _with_own_pixels(np.zeros_like(truth), values.astype(np.float32), [NoiseModel.from_values(values[0])])
    assert rms(found[..., :35]) < 0.02
    assert rms((found - truth)[..., 55:]) < 0.1


@pytest.mark.parametrize("channels", [1, 3])
def test_the_preset_denoises(channels: int) -> None:
    clean = np.stack([cells((40, 44), seed) for seed in range(channels)])
    noisy = clean + 0.3 * np.random.default_rng(1).standard_normal(clean.shape, dtype=np.float32)
    options = {"preset": "denoise", "pretrained": None, "task_steps": 60, "max_steps": 60}
    result = ns.fit(noisy, axes="CYX", **options)
    assert rms(result.reconstruction - clean) < 0.7 * rms(noisy - clean)
    assert result.render(scale=2).shape == (channels, 80, 88)


def test_what_is_too_small_to_learn_from_is_refused_or_fitted_with_its_noise() -> None:
    image, options = cells((12, 40)), {"preset": "denoise", "pretrained": None, "max_steps": 40}
    with pytest.raises(InputError, match=r"8 rows and columns.*strict=False"):
        ns.fit(image, **options)
    result = ns.fit(image, strict=False, **options)
    assert result.metrics.psnr > 30
    assert any("by tiles alone" in note for note in result.provenance["notes"])


@pytest.mark.parametrize("pretrained", ["auto", None])
def test_gaps_do_not_keep_the_noise(pretrained: str | None) -> None:
    scene = cells((32, 32))
    noisy = (scene + np.random.default_rng(1).normal(0, 0.1, scene.shape)).astype(np.float32)
    missing = np.zeros(scene.shape, bool)
    missing[10, 20] = missing[20:23, 26:28] = True
    spoilt = np.where(missing, np.nan, noisy)
    options = {"preset": "denoise", "pretrained": pretrained, "task_steps": 50, "max_steps": 40}
    whole, gaps = ns.fit(noisy, **options), ns.fit(spoilt, missing=missing, **options)
    heldout = ns.fit(noisy, heldout=0.1, **options)
    errors = [float(np.abs(result.reconstruction - scene).mean()) for result in (whole, gaps, heldout)]
    assert errors[1] < 1.1 * errors[0]
    assert errors[2] < 1.3 * errors[0] < 0.8 * np.abs(noisy - scene).mean()
    assert np.abs(gaps.reconstruction - scene)[missing].max() < 0.5
    # The metrics count pixels that are there.
    known = (gaps.reconstruction - noisy)[~missing]
    assert gaps.metrics.rmse == pytest.approx(float(np.sqrt(np.square(known).mean())), rel=1e-3)
    assert heldout.metrics.psnr_heldout is not None
