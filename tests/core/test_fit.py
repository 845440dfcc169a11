"""Fits from end to end: values of every kind, stopping, resuming, missing pixels, and input that is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

import napari_siren as ns
from napari_siren.core.image.axes import guess_axes
from napari_siren.core.image.samples import Samples
from napari_siren.core.native.library import Kernel
from napari_siren.core.network.siren import Siren
from napari_siren.core.result import FitResult
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.trainer import TileTrainer
from napari_siren.errors import ConfigError, DeviceError, InputError, SirenError, StorageError

QUICK: dict[str, Any] = {"tile": 8, "hidden_features": 12, "hidden_layers": 2, "max_steps": 60}


def theta(result: FitResult) -> torch.Tensor:
    return result.field.siren.theta


def run_until(image: npt.ArrayLike, step: int, **options: Any) -> FitResult:
    """Stop a fit at a step, and return its result."""
    steps = ns.fit_iter(image, **options)
    for progress in steps:
        if progress.step == step:
            break
    with pytest.raises(StopIteration) as end:
        steps.send("stop")
    return end.value.value


# ---- values of every kind ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "int32", "int64", "float16", "float32", "float64"]
)
def test_images_of_any_dtype_are_learned_and_come_back_as_they_were(
    smooth: npt.NDArray[np.float32], dtype: str
) -> None:
    kind = np.dtype(dtype)
    low, high = (-1000.0, 3000.0) if kind.kind == "f" else (np.iinfo(kind).min / 2, np.iinfo(kind).max / 2)
    image = (low + (high - low) * smooth / 200).astype(kind)
    result = ns.fit(image, **QUICK)
    assert (result.reconstruction.dtype, result.reconstruction.shape) == (kind, image.shape)
    assert result.metrics.psnr > 30


def test_a_mask_is_learned(smooth: npt.NDArray[np.float32]) -> None:
    mask = smooth > 110
    result = ns.fit(mask, **QUICK)
    assert result.reconstruction.dtype == bool
    assert (result.reconstruction == mask).mean() > 0.97


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((40,), "X"),
        ((12, 13, 3), "YXC"),
        ((2, 12, 13), "CYX"),
        ((6, 9, 10), "ZYX"),
        ((6, 2, 9, 10), "ZCYX"),
        ((2, 30), "YX"),
    ],
)
def test_images_of_any_axes_are_learned(shape: tuple[int, ...], axes: str) -> None:
    image = np.sin(np.indices(shape).sum(axis=0) / 3).astype(np.float32)
    result = ns.fit(image, axes=axes, **QUICK)
    assert result.reconstruction.shape == shape
    assert result.metrics.psnr > 25
    scaled = tuple(n if a == "C" else 2 * n for n, a in zip(shape, axes, strict=True))
    assert result.render(scale=2).shape == scaled


@pytest.mark.parametrize("preset", ["faithful", "fast", "upscale"])
@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (0, "uint8"),
        (255, "uint8"),
        (65535, "uint16"),
        (-32768, "int16"),
        (0.1, "float32"),
        (-1e9, "float64"),
        (1, "bool"),
    ],
)
def test_a_constant_image_comes_back_exactly(value: float, dtype: str, preset: str) -> None:
    image = np.full((12, 11), value, dtype=dtype)
    result = ns.fit(image, preset=preset, max_steps=12, hidden_features=8)
    np.testing.assert_array_equal(result.reconstruction, image)
    np.testing.assert_array_equal(result.render(scale=2), np.full((24, 22), value, dtype=dtype))
    assert result.metrics.psnr == np.inf


def test_hot_pixels_are_reproduced_and_spoil_nothing_around_them(smooth: npt.NDArray[np.float32]) -> None:
    image = (5 * smooth).astype(np.uint16)
    hot = np.zeros(image.shape, bool)
    hot[[2, 7, 13, 20, 23], [3, 15, 8, 19, 0]] = True
    image[hot] = 65535
    result = ns.fit(image, **{**QUICK, "hidden_features": 20, "max_steps": 200})
    assert np.abs(result.error[hot]).max() < 0.03 * 65535
    assert np.median(np.abs(result.error[~hot])) < 0.005 * 65535


def test_flat_regions_beside_a_hot_pixel_are_learned_as_without_it(smooth: npt.NDArray[np.float32]) -> None:
    """Tiles without the hot pixel do not depend on it."""
    image = (5 * smooth).astype(np.uint16)
    spoilt = image.copy()
    spoilt[2, 3] = 65535
    error = {name: np.abs(ns.fit(i, **QUICK).error[14:]).mean() for name, i in (("without", image), ("with", spoilt))}
    assert error["with"] < 1.5 * error["without"] + 1


def test_structure_on_a_huge_offset_is_learned(smooth: npt.NDArray[np.float32]) -> None:
    image = 1e9 + smooth.astype(np.float64) * 1e-3
    result = ns.fit(image, **QUICK)
    assert result.reconstruction.dtype == np.float64
    assert result.metrics.psnr > 30
    assert np.abs(result.field.gradient([[3.0, 4.0]])).max() < 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_a_field_beyond_white_and_black_is_clipped_and_never_wraps_around(
    smooth: npt.NDArray[np.float32], dtype: str
) -> None:
    limits = np.iinfo(dtype)
    result = ns.fit(smooth.astype(dtype), **{**QUICK, "max_steps": 3})
    for shift, end in ((1e7, limits.max), (-1e7, limits.min)):
        result.field.blend.offset.fill_(shift)
        assert (result.render(scale=2) == end).all()


@pytest.mark.parametrize("change", [lambda a: a.T, lambda a: a[::-1], lambda a: a[::2, ::2]])
def test_views_are_fitted_as_copies_are(photo: npt.NDArray[np.uint8], change: Callable[[Any], Any]) -> None:
    view = change(photo)
    assert torch.equal(theta(ns.fit(view, **QUICK)), theta(ns.fit(view.copy(), **QUICK)))


def test_the_image_is_left_as_it_was_and_may_be_read_only(photo: npt.NDArray[np.uint8]) -> None:
    image = photo.copy()
    image.flags.writeable = False
    ns.fit(image, **QUICK)
    np.testing.assert_array_equal(image, photo)


@settings(max_examples=30)
@given(
    image=hnp.arrays(
        st.sampled_from(["uint8", "int16", "uint32", "int64", "float16", "float32", "float64", "bool"]).map(np.dtype),
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=7),
    ).filter(lambda a: np.isfinite(a).all() and np.abs(a.astype(float)).max() < 1e30),
    preset=st.sampled_from(["faithful", "fast", "upscale", "paper"]),
)
def test_whatever_the_image_is_the_result_is_like_it_and_finite(image: npt.NDArray[np.generic], preset: str) -> None:
    axes = guess_axes(image.shape)
    assume(np.prod([n for n, a in zip(image.shape, axes, strict=True) if a != "C"]) > 1)
    result = ns.fit(image, preset=preset, hidden_features=4, hidden_layers=2, max_steps=3)
    assert (result.reconstruction.shape, result.reconstruction.dtype) == (image.shape, image.dtype)
    for array in (result.render(scale=1.5), result.render(derivative="laplacian"), result.error):
        assert np.isfinite(array).all()
    assert not np.isnan(result.metrics.psnr)


# ---- the paper's experiment ----------------------------------------------------------------------------


def test_steps_of_the_paper_preset_are_those_of_plain_pytorch(
    photo: npt.NDArray[np.uint8], paper_network: Callable[[Siren], nn.Module]
) -> None:
    config = FitConfig.preset("paper", hidden_features=24, precision="float32")
    run = TileTrainer(Samples.from_array(photo, value_range=config.value_range), config, torch.device("cpu"), seed=0)
    network = paper_network(run.siren)
    adam = torch.optim.Adam(network.parameters(), lr=1e-4, betas=(0.9, 0.999))
    sides = [torch.linspace(-1, 1, n) for n in photo.shape]
    x = torch.stack(torch.meshgrid(*sides, indexing="ij"), dim=-1).reshape(-1, 2)
    y = torch.from_numpy(photo / np.float32(255)).reshape(-1, 1)
    for _ in range(12):
        adam.zero_grad()
        loss = nn.functional.mse_loss(network(x), y)
        loss.backward()
        adam.step()
        assert run.step().loss == pytest.approx(loss.item(), rel=1e-4)
    moved = torch.cat([p.detach().flatten() for p in network.weights])
    ours = torch.cat([w[0].flatten() for w in run.siren.spec.weights(run.siren.theta)])
    torch.testing.assert_close(ours, moved, rtol=0, atol=3e-5)
    np.testing.assert_allclose(
        run.field().render(run.targets.grid), 255 * network(x).detach().numpy().reshape(photo.shape), atol=0.6
    )


# ---- stopping ------------------------------------------------------------------------------------------


def test_every_step_yields_a_frozen_progress(photo: npt.NDArray[np.uint8]) -> None:
    steps = list(ns.fit_iter(photo, **{**QUICK, "max_steps": 12}))
    assert [p.step for p in steps] == list(range(1, 13))
    assert {p.max_steps for p in steps} == {12}
    assert all(a.seconds <= b.seconds for a, b in pairwise(steps))
    assert all(np.isfinite([p.loss, p.psnr, p.seconds_left]).all() for p in steps)
    assert steps[-1].seconds_left == 0
    assert steps[-1].loss < steps[0].loss
    with pytest.raises(FrozenInstanceError):
        steps[0].loss = 0.0


def test_stop_ends_the_fit_with_a_result_of_so_many_steps(photo: npt.NDArray[np.uint8]) -> None:
    result = run_until(photo, 7, **QUICK)
    assert isinstance(result, FitResult)
    assert result.history.step == list(range(1, 8))
    assert result.history.stopped == "asked"
    assert result.reconstruction.shape == photo.shape


def test_a_callback_may_stop_the_fit(photo: npt.NDArray[np.uint8]) -> None:
    seen = []

    def watch(progress: ns.Progress) -> str | None:
        seen.append(progress.step)
        return "stop" if progress.step == 5 else None

    result = ns.fit(photo, on_progress=watch, **QUICK)
    assert seen == [1, 2, 3, 4, 5]
    assert result.history.stopped == "asked"


def test_what_a_callback_returns_else_does_not_matter(photo: npt.NDArray[np.uint8]) -> None:
    assert ns.fit(photo, on_progress=lambda p: p.step, **QUICK).history.stopped == "max_steps"


def test_close_ends_the_fit_without_a_result(photo: npt.NDArray[np.uint8]) -> None:
    steps = ns.fit_iter(photo, **QUICK)
    next(steps)
    steps.close()
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value is None


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("target", [22, 32])
def test_a_target_ends_the_fit_early_and_is_kept(photo: npt.NDArray[np.uint8], target: float, dtype: str) -> None:
    result = ns.fit(photo.astype(dtype), target_psnr=target, **{**QUICK, "max_steps": 2000, "hidden_features": 24})
    assert result.history.stopped == "target_psnr"
    assert len(result.history.step) < 1000
    assert result.metrics.psnr >= target


def test_a_target_out_of_reach_goes_on_to_the_end(photo: npt.NDArray[np.uint8]) -> None:
    result = ns.fit(photo, target_psnr=200, **QUICK)
    assert (result.history.stopped, len(result.history.step)) == ("max_steps", 60)


def test_a_target_that_is_only_near_is_looked_at_again(
    photo: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, found = TileTrainer.exact_psnr, []

    def look(run: TileTrainer) -> float:
        found.append(exact(run) if found else 19.9)
        return found[-1]

    monkeypatch.setattr(TileTrainer, "exact_psnr", look)
    result = ns.fit(photo, target_psnr=20, **QUICK)
    assert result.history.stopped == "target_psnr"
    assert len(found) == 2


@pytest.mark.usefixtures("clock")
def test_time_ends_the_fit(photo: npt.NDArray[np.uint8]) -> None:
    result = ns.fit(photo, **{**QUICK, "max_steps": 1_000_000, "max_seconds": 7.5})
    assert result.history.stopped == "max_seconds"
    assert result.history.seconds == [1, 2, 3, 4, 5, 6, 7]


def test_the_psnr_at_the_end_is_never_below_what_was_seen(smooth: npt.NDArray[np.float32]) -> None:
    wild = {"learning_rate": 0.5, "muon_learning_rate": 1.5, "schedule": "constant"}
    result = ns.fit(smooth, **QUICK, **wild)
    assert result.metrics.psnr >= max(result.history.psnr) - 1e-3


# ---- previews ------------------------------------------------------------------------------------------


def test_a_preview_shows_the_fit_as_it_is_when_asked(photo: npt.NDArray[np.uint8]) -> None:
    previews, sizes = [], []
    for progress in ns.fit_iter(photo, **QUICK):
        if progress.step in (1, 60):
            previews.append(progress.preview())
            sizes.append(progress.preview(0.5).shape)
    assert all((p.shape, p.dtype) == (photo.shape, photo.dtype) for p in previews)
    assert sizes == [(12, 10)] * 2
    first, last = (np.square(p.astype(float) - photo).mean() for p in previews)
    assert last < first / 10


def test_looking_does_not_change_the_fit(photo: npt.NDArray[np.uint8]) -> None:
    looked = ns.fit(photo, on_progress=lambda p: p.preview(2) is None, **QUICK)
    assert torch.equal(theta(looked), theta(ns.fit(photo, **QUICK)))


# ---- reproducibility and resumption --------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_the_same_seed_gives_the_same_bits_and_another_other_ones(photo: npt.NDArray[np.uint8], engine: str) -> None:
    first, again, other = (ns.fit(photo, seed=seed, engine=engine, **QUICK) for seed in (4, 4, 5))
    assert torch.equal(theta(first), theta(again))
    assert first.metrics == again.metrics
    assert not torch.equal(theta(first), theta(other))


def test_the_global_random_state_is_neither_used_nor_touched(photo: npt.NDArray[np.uint8]) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = ns.fit(photo, heldout=0.1, **QUICK)
    after = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert (torch.rand(1), np.random.rand()) == after  # noqa: NPY002
    assert torch.equal(theta(first), theta(ns.fit(photo, heldout=0.1, **QUICK)))


@pytest.mark.parametrize("stop", [30, 33])
@pytest.mark.parametrize(
    "options", [{}, {"optimizer": "adam"}, {"heldout": 0.2}, {"observation": "box", "total_variation": 0.01}], ids=repr
)
def test_a_resumed_fit_ends_as_one_never_interrupted(
    photo: npt.NDArray[np.uint8], tmp_path: Path, stop: int, options: dict[str, Any]
) -> None:
    straight = ns.fit(photo, seed=2, **QUICK, **options)
    stopped = run_until(photo, stop, seed=2, **QUICK, **options)
    path = stopped.save(tmp_path / "model.safetensors", resumable=True)
    for state in (stopped, path, str(path)):
        resumed = ns.fit(photo, resume=state, **QUICK, **options)
        assert torch.equal(theta(resumed), theta(straight))
        assert resumed.history.step[0] == stop + 1
        assert resumed.metrics == straight.metrics
        assert resumed.provenance["seed"] == 2
        assert resumed.history.events == [(stop, "resumed")]


def test_resuming_leaves_the_result_it_started_from(photo: npt.NDArray[np.uint8]) -> None:
    stopped = run_until(photo, 30, **QUICK)
    before = stopped.render().copy(), theta(stopped).clone()
    ns.fit(photo, resume=stopped, **QUICK)
    np.testing.assert_array_equal(stopped.render(), before[0])
    assert torch.equal(theta(stopped), before[1])


def test_resuming_what_is_done_asks_for_more_steps(photo: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(InputError, match=r"60 steps already.*max_steps"):
        ns.fit(photo, resume=ns.fit(photo, **QUICK), **QUICK)


@pytest.mark.parametrize(
    "change",
    [lambda a: a[:-8], lambda a: np.stack([a, a, a], axis=-1)],
    ids=["smaller", "colours"],
)
def test_resuming_with_another_image_is_refused(photo: npt.NDArray[np.uint8], change: Callable[[Any], Any]) -> None:
    stopped = run_until(photo, 5, **QUICK)
    with pytest.raises(InputError, match="to another image or to other settings"):
        ns.fit(change(photo), resume=stopped, **QUICK)


@pytest.mark.parametrize(
    "override", [{"tile": 12}, {"hidden_features": 13}, {"hidden_layers": 3}, {"optimizer": "adam"}]
)
def test_resuming_with_another_network_is_refused(photo: npt.NDArray[np.uint8], override: dict[str, Any]) -> None:
    stopped = run_until(photo, 5, **QUICK)
    with pytest.raises(InputError, match="settings"):
        ns.fit(photo, resume=stopped, **{**QUICK, **override})


def test_resuming_from_a_file_without_a_state_is_refused(photo: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    path = ns.fit(photo, **QUICK).save(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="resumable=True"):
        ns.fit(photo, resume=path, **QUICK)
    with pytest.raises(StorageError):
        ns.fit(photo, resume=tmp_path / "nowhere", **QUICK)


# ---- pixels missing and held out -----------------------------------------------------------------------


def test_pixels_missing_at_random_are_filled_in(smooth: npt.NDArray[np.float32]) -> None:
    missing = np.random.default_rng(0).random(smooth.shape) < 0.2
    result = ns.fit(np.where(missing, np.nan, smooth), missing=missing, band=0.5, **QUICK)
    off = np.abs(result.reconstruction - smooth)[missing]
    assert np.median(off) < 1.5
    assert off.max() < 10


def test_what_missing_pixels_hold_does_not_matter(smooth: npt.NDArray[np.float32]) -> None:
    missing = np.random.default_rng(0).random(smooth.shape) < 0.2
    first, second = (ns.fit(np.where(missing, v, smooth), missing=missing, **QUICK) for v in (np.nan, 1e20))
    assert torch.equal(theta(first), theta(second))


def test_a_missing_slice_of_a_stack_is_filled_in_plausibly(smooth: npt.NDArray[np.float32]) -> None:
    stack = np.stack([smooth[:14, :14] + 6 * z for z in range(7)])
    missing = np.zeros(stack.shape, bool)
    missing[3] = True
    result = ns.fit(np.where(missing, 0, stack), missing=missing, hidden_features=16, max_steps=80, band=0.5)
    off = np.abs(result.reconstruction - stack)[3]
    assert np.median(off) < 3
    assert off.max() < 12


def test_a_region_without_pixels_is_filled_with_something_finite_within_reason(smooth: npt.NDArray[np.float32]) -> None:
    missing = np.zeros(smooth.shape, bool)
    missing[:16, :14] = True
    result = ns.fit(np.where(missing, np.nan, smooth), missing=missing, **QUICK)
    filled = result.reconstruction[missing]
    assert np.isfinite(filled).all()
    spread = np.ptp(smooth)
    assert smooth.min() - spread < filled.min()
    assert filled.max() < smooth.max() + spread


def held_out(photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return the mask of the held-out pixels, for a share of 0.2."""
    return Samples.from_array(photo, heldout=0.2).heldout


def test_pixels_held_out_are_measured_and_not_used(photo: npt.NDArray[np.uint8]) -> None:
    heldout = held_out(photo)
    shuffled = photo.copy()
    shuffled[heldout] = np.random.default_rng(0).permutation(photo[heldout])
    first, second = (ns.fit(image, heldout=0.2, **QUICK) for image in (photo, shuffled))
    assert torch.equal(theta(first), theta(second))
    assert first.metrics.psnr_heldout is not None
    assert second.metrics.psnr_heldout is not None
    assert first.metrics.psnr_heldout > second.metrics.psnr_heldout + 3


def test_pixels_held_out_do_not_set_the_range_of_values(photo: npt.NDArray[np.uint8]) -> None:
    heldout = held_out(photo)
    spoilt = np.where(heldout, 255, photo).astype(np.uint8)
    first, second = (ns.fit(image, heldout=0.2, **QUICK) for image in (photo, spoilt))
    assert torch.equal(theta(first), theta(second))


def test_without_pixels_held_out_there_is_no_such_figure(photo: npt.NDArray[np.uint8]) -> None:
    assert ns.fit(photo, **QUICK).metrics.psnr_heldout is None


# ---- priors and observations ---------------------------------------------------------------------------


def test_a_prior_without_weight_to_speak_of_changes_little(photo: npt.NDArray[np.uint8]) -> None:
    options = {**QUICK, "hidden_features": 24, "max_steps": 150, "observation": "box"}
    free = ns.fit(photo, total_variation=0.0, **options)
    bound = ns.fit(photo, total_variation=1e-6, **options)
    assert bound.metrics.psnr > free.metrics.psnr - 3


def test_total_variation_flattens() -> None:
    noisy = 100 + np.random.default_rng(0).normal(0, 10, (24, 24))
    options = {**QUICK, "observation": "box"}
    low_precision, flat = (ns.fit(noisy, total_variation=v, **options).reconstruction for v in (0.0, 0.5))
    assert flat.std() < 0.5 * low_precision.std()


def test_upscale_is_the_preset_and_a_render(photo: npt.NDArray[np.uint8]) -> None:
    options = {"hidden_features": 8, "hidden_layers": 2, "max_steps": 10, "task_steps": 5}
    expected = ns.fit(photo, preset="upscale", detail=3, **options).render(scale=(2, 3))
    np.testing.assert_array_equal(ns.upscale(photo, (2, 3), **options), expected)


# ---- errors --------------------------------------------------------------------------------------------

EYE = np.eye(8, dtype=np.float32)
NAN = np.where(np.eye(8) > 0, np.nan, 0)


@pytest.mark.parametrize(
    ("image", "arguments", "error", "message"),
    [
        (np.zeros((0, 8)), {}, InputError, "empty"),
        (np.zeros((1, 1)), {}, InputError, "single pixel"),
        (NAN, {}, InputError, r"8 NaN values.*missing="),
        (EYE * 1j, {}, InputError, "complex"),
        ([[1.0, 2.0], [3.0]], {}, InputError, "not an array"),
        ("picture.png", {}, InputError, "string"),
        (None, {}, InputError, "object"),
        (EYE, {"axes": "TX"}, InputError, "has a time axis, T"),
        (EYE, {"spacing": 0}, InputError, "spacing"),
        (EYE, {"missing": EYE}, InputError, "boolean"),
        (EYE, {"missing": EYE >= 0}, InputError, "every pixel"),
        (EYE, {"preset": "slow"}, ConfigError, "there is no preset 'slow'"),
        (EYE, {"max_step": 3}, ConfigError, "did you mean 'max_steps'"),
        (EYE, {"max_steps": 0}, ConfigError, "max_steps"),
        (EYE, {"device": "banana"}, DeviceError, "This machine has: "),
        (EYE, {"device": "cuda:99"}, DeviceError, "This machine has: "),
        (EYE, {"max_memory": 1}, DeviceError, "max_memory"),
        (EYE, {"resume": "nowhere"}, StorageError, "nowhere"),
    ],
    ids=lambda v: repr(v)[:40] if isinstance(v, dict | str) else None,
)
def test_what_cannot_be_fitted_is_refused_before_the_first_step(
    image: object, arguments: dict[str, Any], error: type[SirenError], message: str
) -> None:
    with pytest.raises(error, match=message):
        ns.fit_iter(image, **arguments)
    with pytest.raises(error, match=message):
        ns.fit(image, **arguments)


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf"), (1, 2, 3), "large"])
def test_a_wrong_scale_is_refused_before_the_fit(scale: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_siren.core.fit.fit", lambda *_, **__: pytest.fail("it was fitted"))
    with pytest.raises(InputError, match="scale"):
        ns.upscale(EYE, scale)


@pytest.mark.parametrize(
    "image", [np.zeros((0, 8)), NAN, [[1.0, 2.0], [3.0]], None, np.float32(3)], ids=lambda v: str(type(v))
)
def test_what_cannot_be_upscaled_is_refused(image: object) -> None:
    with pytest.raises(InputError):
        ns.upscale(image, 2)


def test_missing_is_the_way_out_of_values_that_are_not_finite() -> None:
    result = ns.fit(NAN, missing=~np.isfinite(NAN), **QUICK)
    assert np.isfinite(result.reconstruction).all()


def test_a_coarse_look_at_a_part_takes_values_at_points(photo: npt.NDArray[np.uint8]) -> None:
    for progress in ns.fit_iter(photo, **QUICK):
        whole = progress.preview()
        part = progress.preview(region=[(2, 10), (4, 20)])
        np.testing.assert_array_equal(part, whole[2:10, 4:20])
        coarse = progress.preview(1 / 3, antialias=False)
        # At a third of the size, the centre of each output pixel is the centre of a pixel.
        np.testing.assert_array_equal(coarse[:-1, :-1], whole[1:-1:3, 1:-1:3][: len(coarse) - 1, : coarse.shape[1] - 1])
        break


# ---- warm starts --------------------------------------------------------------------------------------------


def alike_images() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:48, :48]
    first = np.sin(x / 2) * np.cos(y / 3) + np.sin(x * y / 60)
    return first.astype(np.float32), (first + 0.02 * np.cos(x / 4)).astype(np.float32)


def test_a_fit_that_begins_with_an_alike_image_is_ahead(tmp_path: Path) -> None:
    first, second = alike_images()
    earlier = ns.fit(first, max_steps=120)
    cold, warm = ns.fit(second, max_steps=20), ns.fit(second, max_steps=20, start=earlier)
    assert warm.metrics.psnr > cold.metrics.psnr + 3
    # A file has the same effect.
    again = ns.fit(second, max_steps=20, start=earlier.save(tmp_path / "first.safetensors"))
    np.testing.assert_array_equal(again.reconstruction, warm.reconstruction)


def test_tiles_with_nothing_in_them_do_not_confuse_the_start() -> None:
    first, second = (np.pad(image, ((0, 60), (0, 0))) for image in alike_images())
    earlier = ns.fit(first, max_steps=60, tile=16)
    cold, warm = (ns.fit(second, max_steps=5, tile=16, start=start) for start in (None, earlier))
    assert warm.metrics.psnr > cold.metrics.psnr + 3


def test_nothing_is_taken_of_a_fit_of_another_shape() -> None:
    first, second = alike_images()
    earlier = ns.fit(first[:20, :20], max_steps=20)
    cold, warm = ns.fit(second, max_steps=5), ns.fit(second, max_steps=5, start=earlier)
    assert warm.provenance["notes"] == ["the fit to start from has other tiles or networks, and was not used"]
    np.testing.assert_array_equal(cold.reconstruction, warm.reconstruction)


def test_an_upscaling_begins_with_what_was_learned() -> None:
    first, second = alike_images()
    options = {"preset": "upscale", "pretrained": None, "max_steps": 5, "hidden_features": 8}
    earlier = ns.fit(first, task_steps=60, **options)
    cold, warm = (ns.fit(second, task_steps=5, start=start, **options) for start in (None, earlier))
    # The losses of the task, without those of the tiles before and after it.
    assert warm.history.loss[41:45] < cold.history.loss[41:45]


@pytest.mark.parametrize("start", [3, "nothing.safetensors"])
def test_what_no_fit_can_begin_with_is_told(start: object) -> None:
    with pytest.raises((InputError, StorageError), match=r"start|nothing\.safetensors"):
        ns.fit(np.eye(16), start=start)


def test_a_fit_cannot_go_on_and_begin_anew() -> None:
    earlier = ns.fit(np.eye(16), max_steps=2)
    with pytest.raises(InputError, match="one of them"):
        ns.fit(np.eye(16), resume=earlier, start=earlier)


@pytest.mark.parametrize("axes", [None, "YX"])
def test_a_guess_at_the_axes_is_stated(axes: str | None) -> None:
    result = ns.fit(np.eye(12), axes=axes, device="cpu", max_steps=2)
    assert result.provenance["axes_guessed"] is (axes is None)
    assert " YX " in repr(result)


def test_where_nothing_could_be_learned_it_is_noted() -> None:
    image, options = np.eye(7), {"device": "cpu", "max_steps": 2, "preset": "upscale"}
    result = ns.fit(image, **options)
    assert result.history.notes == result.provenance["notes"]
    assert "by tiles alone" in result.provenance["notes"][0]
    assert ns.fit(image, task_steps=0, **options).provenance["notes"] == []


def test_a_note_is_logged_and_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"device": "cpu", "preset": "upscale"}
    result = ns.fit(np.eye(7), max_steps=2, **options)
    note = result.provenance["notes"][0]
    assert [record.getMessage() for record in caplog.records if record.name == "napari_siren"] == [note]
    path = result.save(tmp_path / "model.safetensors", resumable=True)
    assert ns.load(path).provenance["notes"] == [note]
    # A continued fit has the notes of the earlier one once, and its resumption is no note.
    further = ns.fit(np.eye(7), resume=path, max_steps=4, device="cpu")
    assert further.provenance["notes"] == [note]


@pytest.mark.parametrize(
    ("shape", "axes", "noted"),
    [((12, 9), None, False), ((12, 9, 3), None, False), ((5, 9, 9), None, True), ((5, 9, 9), "ZYX", False)],
)
def test_a_guess_that_may_be_wrong_is_noted(shape: tuple[int, ...], axes: str | None, noted: bool) -> None:
    result = ns.fit(np.random.default_rng(0).random(shape), axes=axes, device="cpu", max_steps=1)
    assert any("axes ZYX were guessed" in note for note in result.provenance["notes"]) is noted


def test_a_missing_kernel_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_siren.core.engines.kernel", lambda: Kernel(None, "no C compiler found"))
    notes = ns.fit(np.eye(8), device="cpu", max_steps=1).provenance["notes"]
    assert notes == ["the compiled kernel is not used: no C compiler found"]
    assert ns.fit(np.eye(8), device="cpu", max_steps=1, engine="torch").provenance["notes"] == []


def test_strictness_does_not_change_the_result_or_its_continuation() -> None:
    image = np.random.default_rng(0).random((20, 20), dtype=np.float32)
    first, second = (ns.fit(image, max_steps=4, strict=strict) for strict in (True, False))
    np.testing.assert_array_equal(first.reconstruction, second.reconstruction)
    assert first.state is not None
    assert second.state is not None
    assert first.state.fingerprint == second.state.fingerprint
