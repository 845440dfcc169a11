"""A fit in progress: divergence is rolled back, the best weights are kept, and blocks shrink without memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from napari_siren.core.engines import TorchEngine
from napari_siren.core.image.samples import Samples
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.targets import Targets
from napari_siren.core.training.trainer import TileTrainer
from napari_siren.errors import DeviceError, InputError

CPU = torch.device("cpu")


def make_run(image: npt.ArrayLike, **fields: object) -> TileTrainer:
    config = FitConfig(**{"tile": 8, "hidden_features": 10, "hidden_layers": 2, "max_steps": 60, **fields})
    return TileTrainer(Samples.from_array(image, value_range=config.value_range), config, CPU, seed=0)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_tile_that_diverges_is_rolled_back_and_the_others_go_on(
    photo: npt.NDArray[np.uint8], poison: float, dtype: str
) -> None:
    image = photo.astype(dtype)
    run, calm = make_run(image), make_run(image)
    for step in range(40):
        if step == 15:
            run.siren.theta[2] = poison
        run.step()
        calm.step()
    at, what = run.history.events[0]
    assert at == 20
    assert "1 tile diverged" in what
    assert len(run.history.events) == 1
    assert torch.isfinite(run.siren.theta).all()
    assert run.history.loss[-1] < run.history.loss[0]
    others = torch.arange(len(run.siren.theta)) != 2
    assert torch.equal(run.siren.theta[others], calm.siren.theta[others])
    assert run.exact_psnr(run.best_field()) > 25


@pytest.mark.parametrize("size", [1e17, 5e18, 6e18, 1e25])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_values_too_large_to_square_are_rolled_back_too(photo: npt.NDArray[np.uint8], dtype: str, size: float) -> None:
    run = make_run(photo.astype(dtype))
    for step in range(25):
        if step == 9:
            run.siren.spec.weights(run.siren.theta)[-1][:] = size
        run.step()
    assert len(run.history.events) >= 1
    assert torch.isfinite(run.siren.theta).all()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("steps", [10, 60, 100, 200])
def test_the_psnr_on_the_way_is_close_to_the_exact_one_and_promises_no_more(
    photo: npt.NDArray[np.uint8], dtype: str, steps: int
) -> None:
    run = make_run(photo.astype(dtype), hidden_features=30, max_steps=210)
    for _ in range(steps):
        run.step()
    exact = run.exact_psnr()
    estimated = run.step().psnr
    # Above 60 dB, less than one value in ten is wrong, and the blend of two good tiles is even better.
    assert min(exact, 60) - 2 < estimated < exact + 0.1


def test_weights_that_end_as_nan_leave_the_best_before(photo: npt.NDArray[np.uint8]) -> None:
    run = make_run(photo)
    for _ in range(35):
        run.step()
    run.siren.theta[:] = torch.nan
    run.step()
    assert run.exact_psnr(run.best_field()) > 25


def test_a_tile_that_diverged_goes_on_at_a_lower_rate(photo: npt.NDArray[np.uint8]) -> None:
    run = make_run(photo)
    run.step()
    run.siren.theta[0] = torch.nan
    for _ in range(11):
        run.step()
    assert run.best.rates[0] < 1
    assert (run.best.rates[1:] == 1).all()


def test_the_weights_kept_are_the_best_of_each_tile(smooth: npt.NDArray[np.float32]) -> None:
    """The steps are too large, and the loss increases and decreases."""
    run = make_run(smooth, learning_rate=0.5, muon_learning_rate=1.5, schedule="constant", averaging=0.0)
    seen = []
    for _ in range(50):
        seen.append(run.losses(run.siren))
        run.step()
    kept = run.losses(run.best_field().siren)
    looked_at = torch.stack([*seen[::10], run.losses(run.siren)])
    assert (kept <= looked_at.amin(dim=0) * (1 + 1e-5)).all()
    assert (torch.stack(seen)[-10:].amax(dim=0) > kept).any()


class Limited(TorchEngine):
    """An engine without memory for blocks above a limit."""

    limit = 40_000

    def gradient(self, siren: object, x: Tensor, loss: object, out: Tensor) -> Tensor:
        if self.block_bytes > self.limit:
            raise torch.OutOfMemoryError("out of memory: you wanted too much")
        return super().gradient(siren, x, loss, out)


def test_memory_that_runs_out_shrinks_the_blocks_and_changes_nothing_else(photo: npt.NDArray[np.uint8]) -> None:
    fields = {"tile": "whole", "engine": "torch"}
    run, calm = make_run(photo, **fields), make_run(photo, **fields)
    run.engine = Limited(CPU, 1 << 17)
    Limited.limit = 1 << 16
    for _ in range(5):
        run.step()
        calm.step()
    assert [what for _, what in run.history.events] == ["memory ran out; continued in smaller blocks"]
    torch.testing.assert_close(run.siren.theta, calm.siren.theta, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(run.history.loss, calm.history.loss, rtol=1e-4)


def test_memory_that_no_block_fits_ends_in_a_plain_word(photo: npt.NDArray[np.uint8]) -> None:
    run = make_run(photo, precision="float32")
    run.engine = Limited(CPU)
    Limited.limit = 0
    with pytest.raises(DeviceError, match="memory ran out on cpu"):
        run.step()


def test_other_errors_of_an_engine_are_not_hidden(
    photo: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(photo, engine="torch")

    def broken(*_: object) -> Tensor:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(run.engine, "gradient", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        run.step()


@pytest.mark.parametrize("target", [None, 60.0])
def test_a_state_goes_on_to_the_same_bits(photo: npt.NDArray[np.uint8], target: float | None) -> None:
    straight, stopped = (make_run(photo, target_psnr=target) for _ in range(2))
    for _ in range(17):
        straight.step()
        stopped.step()
    resumed = TileTrainer(stopped.samples, stopped.config, CPU, stopped.seed, stopped.state())
    for _ in range(13):
        straight.step()
        resumed.step()
    assert resumed.step_count == straight.step_count == 30
    assert torch.equal(resumed.siren.theta, straight.siren.theta)
    assert torch.equal(resumed.best.theta, straight.best.theta)


def test_a_state_is_a_copy(photo: npt.NDArray[np.uint8]) -> None:
    run = make_run(photo)
    state = run.state()
    kept = {name: tensor.clone() for name, tensor in state.tensors.items()}
    run.step()
    for name, tensor in state.tensors.items():
        assert torch.equal(tensor, kept[name])


def test_a_resumed_fit_knows_its_psnr_at_once(photo: npt.NDArray[np.uint8]) -> None:
    run = make_run(photo)
    for _ in range(13):
        run.step()
    resumed = TileTrainer(run.samples, run.config, CPU, run.seed, run.state())
    assert np.isfinite(resumed.step().psnr)


@pytest.mark.parametrize(
    "fields",
    [{"tile": 12}, {"hidden_features": 11}, {"hidden_layers": 3}, {"optimizer": "adam"}],
    ids=repr,
)
def test_a_state_of_other_settings_is_refused(photo: npt.NDArray[np.uint8], fields: dict[str, object]) -> None:
    state = make_run(photo).state()
    other = make_run(photo, **fields)
    with pytest.raises(InputError, match="to another image or to other settings"):
        TileTrainer(other.samples, other.config, CPU, 0, state)


def test_the_share_done_is_by_steps_or_by_time_whichever_is_more(photo: npt.NDArray[np.uint8]) -> None:
    run = make_run(photo, max_steps=4)
    assert run.done() == 0
    run.step()
    assert run.done() == 0.25
    timed = make_run(photo, max_steps=1_000_000, max_seconds=1e-6)
    assert timed.done() > 1


def test_constant_tiles_have_no_part_in_a_run_and_are_right(photo: npt.NDArray[np.uint8]) -> None:
    image = np.full((32, 48), 9, np.uint8)
    image[:20, :18] = photo[:20, :18]
    run = make_run(image)
    assert 0 < len(run.siren.theta) == len(run.busy) < run.plan.tiling.count
    for _ in range(20):
        run.step()
    found = run.best_field().reconstruct()
    assert (found[26:] == 9).all()
    assert (found[:, 26:] == 9).all()
    assert run.exact_psnr() > 25
    again = make_run(image)
    again.resume(run.state())
    assert torch.equal(again.best_field().siren.theta, run.best_field().siren.theta)


@pytest.mark.parametrize("fields", [{}, {"observation": "box", "total_variation": "auto"}, {"pixels_per_step": "all"}])
def test_leaving_constant_tiles_out_changes_nothing(
    photo: npt.NDArray[np.uint8], fields: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.full((32, 48), 9, np.uint8)
    image[:20, :18] = photo[:20, :18]
    run = make_run(image, **fields)
    with monkeypatch.context() as patch:
        patch.setattr(Targets, "busy", property(lambda self: torch.arange(len(self.values))))
        every = make_run(image, **fields)
    assert len(run.siren.theta) < len(every.siren.theta)
    for _ in range(12):
        run.step()
        every.step()
    assert torch.equal(run.siren.theta, every.siren.theta[run.busy])
    assert run.expected_psnr() == pytest.approx(every.expected_psnr())
    np.testing.assert_array_equal(run.best_field().reconstruct(), every.best_field().reconstruct())


def test_without_a_scale_of_their_own_constant_tiles_learn(photo: npt.NDArray[np.uint8]) -> None:
    run = make_run(np.full((32, 48), 9, np.uint8), standardise=False)
    assert len(run.busy) == run.plan.tiling.count
