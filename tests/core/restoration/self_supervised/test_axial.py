"""Super-resolution of stacks along z: accuracy, resumption, missing slices, and weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

import napari_siren as ns
from napari_siren.core.noise.model import NoiseModel
from napari_siren.core.restoration.self_supervised.axial import AxialSuperResolution, known_slices
from napari_siren.core.restoration.self_supervised.start import start_for_slices

ALL = slice(None)


def bubbles(shape: tuple[int, ...], stretch: float = 1.0, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return ellipsoids with sharp edges. Their axis along z is shortened by the factor `stretch`."""
    grid = np.indices(shape).astype(np.float64)
    rng = np.random.default_rng(seed)
    found = np.full(shape, -0.8)
    for _ in range(14):
        centre, radius = rng.uniform(0, 1, 3) * shape, rng.uniform(7, 11)
        distance = np.sqrt(sum(((g - c) * f) ** 2 for g, c, f in zip(grid, centre, (stretch, 1, 1), strict=True)))
        found = np.maximum(found, np.tanh((radius - distance) / 1.5))
    return found.astype(np.float32)


def trained(
    values: npt.NDArray[np.float32], known: slice, ratio: float, steps: int, **options: object
) -> AxialSuperResolution:
    learner = AxialSuperResolution(torch.from_numpy(values[None]), known, ratio, **{"thick": False, **options})  # type: ignore[arg-type]
    for step in range(steps):
        learner.step(step / steps)
    return learner


def error(found: Tensor, truth: npt.NDArray[np.float32], at: slice) -> float:
    return float(np.square(found[0].numpy()[at] - truth[at]).mean())


def test_missing_slices_are_told_better_than_by_splines() -> None:
    truth = bubbles((13, 40, 40), stretch=4)
    learner = trained(truth, slice(0, 13, 2), 8.0, 150)
    positions = np.arange(13) / 2
    plain, told = learner._plain(learner.slices, positions), learner.predict((13, 40, 40))
    out = slice(1, None, 2)
    assert error(told, truth, out) < 0.92 * error(plain, truth, out)
    assert learner.gain() > 0


def test_thick_slices_are_told_as_what_they_are_means_of() -> None:
    truth = bubbles((32, 40, 40), stretch=2)
    thick = truth.reshape(8, 4, 40, 40).mean(axis=1)
    told = trained(thick, slice(0, 8, 1), 8.0, 100, thick=True).predict((32, 40, 40))
    means = told[0].numpy().reshape(8, 4, 40, 40).mean(axis=1)
    assert np.abs(means - thick).max() < 0.1
    assert np.square(means - thick).mean() < 1e-4
    plain = np.repeat(thick, 4, axis=0)
    assert error(told, truth, ALL) < 0.7 * np.square(plain - truth).mean()


def test_a_network_that_is_no_better_is_left_out() -> None:
    truth = bubbles((9, 40, 40), stretch=4)
    learner = trained(truth, slice(0, 9, 1), 4.0, 1)
    with torch.no_grad():
        learner.network.last_bias += 20.0
    assert learner.gain() < 0
    told = learner.predict((18, 40, 40))
    assert told.abs().max() < 3


def test_the_noise_of_a_pair_depends_on_the_brightness() -> None:
    stack = torch.tensor([0.1, 0.9])[:, None, None, None].expand(2, 4, 64, 64)
    learner = AxialSuperResolution(stack, slice(0, 4, 1), 4.0, False, [NoiseModel(0.05, -0.005, 0.0)] * 2)
    _, details = learner.pair(np.random.default_rng(0))
    dark, bright = details[0].std(dim=(1, 2))
    # Of the dark channel only the least noise remains. The variance of the bright one is 0.04.
    assert dark < 0.01
    assert 0.05 < bright < 0.2


def test_it_goes_on_where_it_was() -> None:
    values = bubbles((9, 32, 32), stretch=4)
    whole = trained(values, slice(0, 9, 2), 4.0, 12)
    first = AxialSuperResolution(torch.from_numpy(values[None]), slice(0, 9, 2), 4.0, False)
    for step in range(5):
        first.step(step / 12)
    second = AxialSuperResolution(torch.from_numpy(values[None]), slice(0, 9, 2), 4.0, False)
    second.load(first.state())
    for step in range(5, 12):
        second.step(step / 12)
    assert torch.equal(second.predict((9, 32, 32)), whole.predict((9, 32, 32)))


def test_each_channel_starts_from_the_trained_network() -> None:
    stack = torch.from_numpy(np.stack([bubbles((7, 40, 40), stretch=4), bubbles((7, 40, 40), stretch=4, seed=1)]))
    both = AxialSuperResolution(stack, slice(0, 7, 2), 8.0, False, start=start_for_slices())
    shape, out = (7, 40, 40), slice(1, None, 2)
    predicted = both.predict(shape)
    # Before its first step it is better than splines, and a channel does not change the other one.
    for channel in (0, 1):
        alone = AxialSuperResolution(stack[channel : channel + 1], slice(0, 7, 2), 8.0, False, start=start_for_slices())
        assert torch.allclose(alone._across(alone.slices, np.arange(7) / 2, 8.0, True)[0],
                              both._across(both.slices, np.arange(7) / 2, 8.0, True)[channel], atol=1e-5)  # fmt: skip
    plain = both._plain(both.slices, np.arange(7) / 2)
    assert (predicted - stack)[:, out].square().mean() < 0.9 * (plain - stack)[:, out].square().mean()
    for step in range(3):
        both.step(step / 3)
    assert both.extra_metadata()["pretrained"]["slices"]["weights"] == "slices"


def test_a_stack_is_trained_as_its_settings_say() -> None:
    stack = bubbles((6, 24, 24), stretch=4)
    result = ns.fit(stack, spacing=(4, 1, 1), preset="upscale", task_steps=3)
    assert result.history.step[-1] == 3
    assert result.provenance["pretrained"]["slices"]["weights"] == "slices"
    steps = ns.fit_iter(stack, spacing=(4, 1, 1), preset="upscale", task_steps=3, pretrained=None)
    first = next(iter(steps))
    # Until the end the preview is a spline through the slices.
    assert first.phase is not None
    assert first.phase.name == "learning"
    preview = first.preview(scale=(4, 1, 1))
    assert np.abs(preview.reshape(6, 4, 24, 24).mean(axis=1) - stack).mean() < 0.1
    steps.stop()


def test_the_fit_of_a_stack_with_missing_slices_uses_it() -> None:
    truth = bubbles((9, 40, 40), stretch=4)
    missing = np.ones(truth.shape, bool)
    missing[::2] = False
    options = {"spacing": (4, 1, 1), "missing": missing, "preset": "upscale", "task_steps": 40, "max_steps": 60}
    result = ns.fit(np.where(missing, 0, truth), **options)
    out = slice(1, None, 2)
    found = result.reconstruction[out]
    plain = (truth[:-1:2] + truth[2::2]) / 2
    # By tiles alone it is 0.94.
    assert np.square(found - truth[out]).mean() < 0.9 * np.square(plain - truth[out]).mean()
    # The result renders at any scale, and the pixels of the existing slices are unchanged.
    assert result.render(scale=(3, 1, 1)).shape == (27, 40, 40)
    known = result.reconstruction[::2]
    assert np.square(known - truth[::2]).mean() < 2e-3


def test_slices_that_are_missing_at_an_end_move_nothing() -> None:
    stack = gaussian_filter(bubbles((9, 24, 24), stretch=4), 0.5)
    missing = np.zeros(stack.shape, bool)
    missing[:2] = True
    options = {"preset": "upscale", "task_steps": 3, "max_steps": 60}
    found = ns.fit(np.where(missing, 0, stack), spacing=(4, 1, 1), missing=missing, **options).reconstruction
    assert np.square(found[2:] - stack[2:]).mean() < 0.1 * stack.var()


def test_a_saved_stack_renders_as_before(tmp_path: object) -> None:
    stack = gaussian_filter(bubbles((6, 24, 24), stretch=4), (0.5, 0.5, 0.5))
    options = {"task_steps": 3, "max_steps": 10, "preset": "upscale"}
    result = ns.fit(stack, spacing=(4, 1, 1), **options)
    assert result.field.refinement == (2, 1, 1)
    again = ns.load(result.save(f"{tmp_path}/model.safetensors"))
    np.testing.assert_array_equal(again.render(scale=(4, 1, 1)), result.render(scale=(4, 1, 1)))
    np.testing.assert_array_equal(again.reconstruction, result.reconstruction)


@pytest.mark.parametrize(
    ("there", "known"),
    [
        ([1, 1, 1, 1], slice(0, 4, 1)),
        ([1, 0, 1, 0, 1, 0], slice(0, 5, 2)),
        ([0, 1, 0, 0, 1, 0, 0, 1], slice(1, 8, 3)),
        ([1, 1, 0, 1], None),
        ([1, 0, 1], None),
    ],
)
def test_which_slices_are_known(there: list[int], known: slice | None) -> None:
    observed = np.broadcast_to(np.array(there, bool)[:, None, None], (len(there), 3, 4)).copy()
    assert known_slices(observed) == known
    observed[0, 0, 0] = not observed[0, 0, 0]
    assert known_slices(observed) is None or not there[0]
