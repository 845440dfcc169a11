"""Super-resolution of pictures: sharpness, consistency, noise, stages, resumption and symmetry."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from napari_siren.core.forward.operator import ForwardOperator
from napari_siren.core.restoration.flips import Flip
from napari_siren.core.restoration.self_supervised import restorer as learner_module
from napari_siren.core.restoration.self_supervised.zero_shot import (
    ZeroShotSuperResolution,
    _inner,
    _stage_count,
)

BICUBIC = ForwardOperator.from_kind("bicubic", 2)


def stripes(side: int) -> Tensor:
    """Return an image of sharp edges in several directions. They look the same at all scales."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    rays = np.sign(np.sin(9 * np.arctan2(y, x) + 0.3)) * np.sign(0.47 - np.hypot(y, x))
    return torch.from_numpy(rays[None].astype(np.float32))


def psnr(found: Tensor, truth: Tensor) -> float:
    inner = (slice(None), slice(4, -4), slice(4, -4))
    return float(10 * torch.log10(4 / (found - truth)[inner].square().mean()))


def trained(
    values: Tensor, scale: tuple[float, float] = (2.0, 2.0), steps: int = 60, **keywords: object
) -> ZeroShotSuperResolution:
    learner = ZeroShotSuperResolution(values, BICUBIC, scale, **keywords)  # type: ignore[arg-type]
    for step in range(steps):
        learner.step(step / steps)
    return learner


def test_it_is_sharper_than_interpolation() -> None:
    truth = BICUBIC(stripes(384), (96, 96))
    small = BICUBIC(truth, (48, 48))
    interpolated = ForwardOperator.from_kind("point", 2)(small, (96, 96))
    assert psnr(trained(small, steps=150).predict((96, 96)), truth) > psnr(interpolated, truth) + 1


def test_what_it_tells_is_seen_as_the_image() -> None:
    small = BICUBIC(stripes(192), (48, 48))
    seen = BICUBIC(trained(small, steps=20).predict((96, 96)), (48, 48))
    assert psnr(seen, small) > 40


def test_a_constant_stays_what_it_is() -> None:
    constant = torch.full((3, 20, 24), 0.3)
    learner = trained(constant, steps=30, noise=0.0)
    assert (learner.predict((40, 48)) - 0.3).abs().max() < 0.02


def test_noise_is_not_told_again() -> None:
    clean = BICUBIC(stripes(192), (48, 48))
    noisy = clean + 0.2 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    found = BICUBIC(trained(noisy, steps=150, noise=0.2).predict((96, 96)), (48, 48))
    assert psnr(found, clean) > psnr(noisy, clean) + 2


@pytest.mark.parametrize("scale", [(1.0, 2.0), (1.5, 1.5), (3.7, 3.7), (2.0, 4.0)])
@pytest.mark.parametrize("shape", [(16, 16), (17, 70)])
def test_any_scale_and_size(scale: tuple[float, float], shape: tuple[int, int]) -> None:
    values = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    learner = trained(values, scale, steps=3)
    fine = tuple(round(n * s) for n, s in zip(shape, scale, strict=True))
    found = learner.predict(fine)
    assert found.shape == (2, *fine)
    assert torch.isfinite(found).all()


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = trained(torch.rand(1, 30, 20, generator=torch.Generator().manual_seed(0)), steps=5)
    whole = learner.predict((60, 40))
    monkeypatch.setattr("napari_siren.core.restoration.self_supervised.zero_shot._BLOCK_SAMPLES", 7 * 40)
    torch.testing.assert_close(learner.predict((60, 40)), whole, atol=1e-5, rtol=1e-4)


def test_going_on_gives_the_same_bits() -> None:
    values = BICUBIC(stripes(96), (24, 24))
    whole = trained(values, steps=8)
    first = ZeroShotSuperResolution(values, BICUBIC, (2.0, 2.0))
    for step in range(5):
        first.step(step / 8)
    second = ZeroShotSuperResolution(values, BICUBIC, (2.0, 2.0))
    second.load(first.state())
    for step in range(5, 8):
        second.step(step / 8)
    assert torch.equal(second.predict((48, 48)), whole.predict((48, 48)))


def test_a_state_that_lacks_something_is_refused() -> None:
    learner = ZeroShotSuperResolution(torch.rand(1, 20, 20), BICUBIC, (2.0, 2.0))
    learner.step(0.0)
    state = learner.state()
    state.pop("kernels.0")
    with pytest.raises(KeyError, match=r"kernels\.0"):
        learner.load(state)


@pytest.mark.parametrize(("scale", "stages"), [(1.0, 1), (2.0, 1), (2.1, 2), (3.0, 2), (3.1, 3), (4.0, 3)])
def test_a_large_scale_is_reached_in_stages(scale: float, stages: int) -> None:
    assert _stage_count(scale) == stages


def test_the_image_grows_while_it_is_learned_from() -> None:
    values = torch.rand(1, 20, 24, generator=torch.Generator().manual_seed(0))
    learner = ZeroShotSuperResolution(values, BICUBIC, (4.0, 4.0))
    sizes = []
    for step in range(10):
        learner.step(step / 10)
        sizes.append(tuple(learner.state()["grown"].shape[2:]))
    assert sizes == 6 * [(20, 24)] + 2 * [(32, 38)] + 2 * [(51, 60)]
    direct = learner.predict((80, 96))
    again = ZeroShotSuperResolution(values, BICUBIC, (4.0, 4.0))
    again.load(learner.state())
    torch.testing.assert_close(again.predict((80, 96)), direct)
    assert again.step(1.0) == learner.step(1.0)


def test_a_network_that_learns_nothing_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner_module, "_PATIENCE", 40)
    values = BICUBIC(stripes(192), (40, 40))
    assert trained(values, steps=50).state()["course"][0] == 0
    # The steps are so large that the network fails.
    monkeypatch.setattr(ZeroShotSuperResolution, "rates", (3.0, 2e-3))
    monkeypatch.setattr(learner_module, "_SLOWER", 0.01)
    learner = trained(values, steps=120)
    attempt, start, missed, details = learner.state()["course"].tolist()
    assert attempt >= 1
    assert start == 40 * attempt
    assert missed < details
    again = ZeroShotSuperResolution(values, BICUBIC, (2.0, 2.0))
    again.load(learner.state())
    assert again.step(0.5) == learner.step(0.5)


def test_growth_that_time_has_left_no_room_for_is_made_up() -> None:
    values = torch.rand(1, 20, 24, generator=torch.Generator().manual_seed(0))
    learner = ZeroShotSuperResolution(values, BICUBIC, (4.0, 4.0))
    learner.step(0.1)
    assert learner.predict((80, 96)).shape == (1, 80, 96)
    learner.step(1.0)
    assert learner.state()["stages"] == 2


@given(st.integers(1, 80), st.floats(1, 4))
def test_pixels_of_a_pair_lie_where_they_were_seen(pixels: int, scale: float) -> None:
    window = round(pixels * scale)
    (son, father), positions = _inner(pixels, window)
    n = len(range(*son.indices(pixels)))
    assert len(positions) == len(range(*father.indices(window))) > 0
    # The positions are within the areas of the remaining pixels.
    assert positions.min() >= -0.5 - 1e-9
    assert positions.max() <= n - 0.5 + 1e-9
    centres = (np.arange(window)[father] + 0.5) * pixels / window
    np.testing.assert_allclose(positions + son.start + 0.5, centres)


@pytest.mark.parametrize("flip", [Flip(axes, turned) for axes, turned in product([(), (0,), (1,)], [False, True])])
def test_a_turned_image_is_told_turned(flip: Flip) -> None:
    values = torch.rand(1, 18, 24, generator=torch.Generator().manual_seed(0))
    learner = trained(values, steps=5)
    direct = learner.predict((36, 48))
    shape = (48, 36) if flip.turned else (36, 48)
    torch.testing.assert_close(flip.back(learner.predict(shape, values=flip(values))), direct, atol=1e-5, rtol=1e-4)


def test_windows_are_learned_from_in_turn() -> None:
    windows = torch.stack([torch.full((1, 24, 24), -0.5), BICUBIC(stripes(96), (24, 24)), torch.zeros(1, 24, 24)])
    several = ZeroShotSuperResolution(windows, BICUBIC, (2.0, 2.0))
    losses = [several.step(step / 12) for step in range(12)]
    busy = [loss > 1e-3 for loss in losses]
    assert 0 < sum(busy) < 12
    again = ZeroShotSuperResolution(windows, BICUBIC, (2.0, 2.0))
    again.load(several.state())
    assert again.step(1.0) == several.step(1.0)
    assert torch.equal(again.predict((48, 48), values=windows[1]), several.predict((48, 48), values=windows[1]))
