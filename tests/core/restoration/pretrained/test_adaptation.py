"""Adaptation of a pretrained network to an image: by its own smaller copy, and only with a clear gain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import napari_siren as ns
from napari_siren.core.forward.operator import ForwardOperator
from napari_siren.core.image.samples import Samples
from napari_siren.core.restoration.pretrained import adaptation
from napari_siren.core.restoration.pretrained.adaptation import ROUNDS, STEPS, TRIAL_ROUNDS, copy_factor
from napari_siren.core.restoration.tasks import plan_restoration
from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import ConfigError
from napari_siren.io.images import read_image, sample_path

Image = npt.NDArray[Any]
PASSES = 8
ADAPTING = 3  # rounds after those of the trial
BICUBIC = ForwardOperator.from_kind("bicubic", 2)


def similar_at_all_scales(side: int) -> npt.NDArray[np.uint8]:
    """Return stripes whose distance grows with the distance from a corner: the copy looks like the image."""
    y, x = np.mgrid[:side, :side]
    return np.where(np.sin(40 * np.log(1 + np.hypot(y, x) / 40)) > 0, 230, 20).astype(np.uint8)


def periodic(side: int) -> npt.NDArray[np.uint8]:
    """Return stripes of one distance: at another scale they look different."""
    y, x = np.mgrid[:side, :side]
    return np.where(np.sin((0.6 * y + 0.8 * x) * 2 * np.pi / 7) > 0, 230, 20).astype(np.uint8)


def smaller(image: Image) -> npt.NDArray[np.uint8]:
    values = torch.from_numpy(image.astype(np.float32))
    return np.clip(np.rint(BICUBIC(values, [n // 2 for n in image.shape]).numpy()), 0, 255).astype(np.uint8)


def photograph(side: int) -> Image:
    return read_image(sample_path()).array[100 : 100 + side, 160 : 160 + side, 1]


def decibels(image: Image, truth: Image) -> float:
    return float(10 * np.log10(255**2 / np.square(image - truth.astype(float)).mean()))


def fits(truth: Image, **options: Any) -> list[ns.FitResult]:
    """Fit a smaller copy without adaptation and with it."""
    return [ns.fit(smaller(truth), preset="upscale", adapt=choice, **options) for choice in ("off", "auto")]


def test_an_image_that_is_similar_at_all_scales_gains_by_it() -> None:
    truth = similar_at_all_scales(192)
    plain, adapted = fits(truth)
    metadata = adapted.provenance["pretrained"]["adaptation"]
    assert metadata["kept"]
    assert metadata["steps"] == (TRIAL_ROUNDS + ROUNDS) * STEPS
    assert "adaptation" not in plain.provenance["pretrained"]
    # Measured: 1.1 dB.
    assert decibels(adapted.render(scale=2), truth) > decibels(plain.render(scale=2), truth) + 0.4


@pytest.mark.parametrize("truth", [periodic(192), photograph(192)], ids=["periodic", "photograph"])
def test_without_a_gain_the_network_stays_as_it_was(truth: Image) -> None:
    """Measured: the copy of the periodic image gains 5 dB, and the result would lose 4 dB."""
    plain, adapted = fits(truth)
    metadata = adapted.provenance["pretrained"]["adaptation"]
    assert not metadata["kept"]
    assert metadata["steps"] == TRIAL_ROUNDS * STEPS
    assert metadata["held_out_gains"] == []
    np.testing.assert_array_equal(adapted.render(scale=2), plain.render(scale=2))


@pytest.mark.full_length
@pytest.mark.parametrize(
    ("adapt", "shape", "rounds"),
    [
        ("auto", (64, 70), ROUNDS),
        ("off", (64, 70), 0),
        (1, (64, 70), 1),
        (95, (64, 70), 10),
        ("auto", (40, 70), 0),
        ("auto", (1100, 1100), 0),
        (20, (1100, 1100), 2),
    ],
)
def test_the_number_of_rounds(adapt: Any, shape: tuple[int, int], rounds: int) -> None:
    restoration = plan_restoration(Samples.from_array(waves(shape)), FitConfig.preset("upscale", adapt=adapt))
    assert restoration is not None
    passes = PASSES if min(shape) < 1000 else 4
    assert restoration.steps == passes + (TRIAL_ROUNDS + rounds + 1 if rounds else 0)


def waves(shape: tuple[int, int]) -> Image:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return (np.sin(rows / 7) * np.cos(columns / 5)).astype(np.float32)


@pytest.mark.full_length
def test_noisy_micrographs_are_not_adapted_to_without_a_request() -> None:
    noisy = waves((80, 80)) + 0.2 * np.random.default_rng(0).standard_normal((80, 80), dtype=np.float32)
    for adapt, image, adapts in (("auto", noisy, False), (60, noisy, True), ("auto", waves((80, 80)), True)):
        restoration = plan_restoration(Samples.from_array(image), FitConfig.preset("upscale", adapt=adapt))
        assert restoration is not None
        assert (restoration.steps != PASSES) == adapts


@pytest.mark.parametrize("adapt", [0, -3, "on"])
def test_wrong_choices_are_refused(adapt: Any) -> None:
    with pytest.raises(ConfigError, match="adapt"):
        FitConfig.preset("upscale", adapt=adapt)


@pytest.mark.parametrize(
    ("shape", "fine", "factor"),
    [((40, 40), (80, 80), 2), ((40, 40), (60, 60), 2), ((40, 41), (120, 120), 3), ((9, 9), (36, 9), 4)],
)
def test_a_copy_is_smaller_by_a_whole_factor(shape: tuple[int, int], fine: tuple[int, int], factor: int) -> None:
    assert copy_factor(shape, fine) == factor


@pytest.mark.parametrize(("axes", "shape"), [("YX", (65, 66)), ("CYX", (2, 64, 79)), ("YXC", (65, 66, 3))])
def test_any_image(axes: str, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    result = ns.fit(image, axes=axes, preset="upscale", adapt=10, detail=2.3)
    assert len(result.provenance["pretrained"]["adaptation"]["trial_gains"]) == TRIAL_ROUNDS


# A snapshot between the adaptation and the passes does one pass more, so that it is in a fit of its own.
@pytest.mark.parametrize(
    "stops", [(1, TRIAL_ROUNDS, TRIAL_ROUNDS + 2, TRIAL_ROUNDS + ADAPTING + 2), (TRIAL_ROUNDS + ADAPTING + 1,)], ids=str
)
def test_an_interrupted_fit_goes_on_to_the_same_bits(tmp_path: Path, stops: tuple[int, ...]) -> None:
    image = smaller(similar_at_all_scales(140))
    steps = ns.fit_iter(image, preset="upscale", adapt=ADAPTING * STEPS)
    for number, _ in enumerate(steps, 1):
        if number in stops:
            steps.snapshot().save(tmp_path / f"{number}.safetensors", resumable=True)
    expected = steps.result.render(scale=2)
    for stop in stops:
        resumed = ns.fit(image, resume=tmp_path / f"{stop}.safetensors")
        np.testing.assert_array_equal(resumed.render(scale=2), expected, err_msg=f"interrupted after step {stop}")


def test_held_out_squares_are_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptation, "_MIDDLE", 60)
    mask = adaptation._squares((100, 140), np.random.default_rng(0)) & adaptation._middle((100, 140))
    assert mask.shape == (100, 140)
    assert not mask[:20].any()
    assert not mask[:, :40].any()
    assert 0.05 < mask[20:80, 40:100].mean() < 0.6
