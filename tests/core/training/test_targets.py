"""The targets of the tiles: normalisation, weights, coordinates and batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from napari_siren.core.field.tiling import Tiling
from napari_siren.core.image.samples import Samples
from napari_siren.core.network.losses import ObservedLoss, SquaredLoss
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.training.targets import Targets

CPU = torch.device("cpu")


def make_targets(
    image: npt.ArrayLike, missing: npt.ArrayLike | None = None, tile: int = 8, **fields: object
) -> Targets:
    config = FitConfig(**fields)
    samples = Samples.from_array(image, None, None, missing, config.value_range, config.heldout)
    tiling = Tiling.cut(samples.layout.spatial_shape, tile, config.overlap)
    return Targets.from_samples(samples, tiling, config)


@pytest.mark.parametrize("standardise", [True, False])
def test_targets_lead_back_to_the_normalised_values(photo: npt.NDArray[np.uint8], standardise: bool) -> None:
    targets = make_targets(photo, standardise=standardise)
    back = targets.values * targets.scale[:, :, None] + targets.offset[:, :, None]
    torch.testing.assert_close(back, torch.from_numpy(targets.tiling.extract(targets.samples.values)))


def test_every_standardised_tile_has_mean_nothing_and_the_same_spread(photo: npt.NDArray[np.uint8]) -> None:
    targets = make_targets(photo)
    share = targets.weight / targets.weight.sum(dim=1, keepdim=True)
    mean = (targets.values[:, 0] * share).sum(dim=1)
    spread = (targets.values[:, 0].square() * share).sum(dim=1).sqrt()
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-5, rtol=0)
    torch.testing.assert_close(spread, torch.full_like(spread, float(spread[0])))


@pytest.mark.parametrize("standardise", [True, False])
def test_the_mean_square_is_that_of_the_normalised_values(photo: npt.NDArray[np.uint8], standardise: bool) -> None:
    """All tiles have the same error. Blending does not change it."""
    targets = make_targets(photo, standardise=standardise, pixels_per_step="all")
    off = (targets.values * targets.scale[:, :, None] + 0.25) / targets.scale[:, :, None]
    (batch,) = targets.batches(CPU)
    losses, _ = batch.loss.value_and_gradient(off, slice(None))
    assert targets.mean_square(losses)() == pytest.approx(0.25**2, rel=1e-4)


def test_missing_pixels_weigh_nothing_and_are_finite(smooth: npt.NDArray[np.float32]) -> None:
    missing = np.random.default_rng(0).random(smooth.shape) < 0.3
    targets = make_targets(np.where(missing, np.nan, smooth), missing)
    seen = torch.from_numpy(targets.tiling.extract(missing[np.newaxis].astype(np.float32)))[:, 0] > 0
    assert not targets.weight[seen].any()
    assert (targets.weight[~seen] > 0).float().mean() > 0.5
    assert torch.isfinite(targets.values).all()


def test_a_tile_without_a_pixel_is_finite(smooth: npt.NDArray[np.float32]) -> None:
    missing = np.zeros(smooth.shape, bool)
    missing[:16, :16] = True
    targets = make_targets(np.where(missing, np.nan, smooth), missing)
    assert (targets.weight.sum(dim=1) == 0).any()
    for tensor in (targets.values, targets.offset, targets.scale):
        assert torch.isfinite(tensor).all()


def test_a_share_of_the_pixels_is_held_out_and_weighs_nothing(smooth: npt.NDArray[np.float32]) -> None:
    missing = np.zeros(smooth.shape, bool)
    missing[:4] = True
    targets = make_targets(smooth, missing, heldout=0.3)
    heldout = targets.samples.heldout
    assert heldout[~missing].mean() == pytest.approx(0.3, abs=0.08)
    assert not heldout[missing].any()
    assert not targets.weight[torch.from_numpy(targets.tiling.extract(heldout[None] * 1.0))[:, 0] > 0].any()


@pytest.mark.parametrize("shape", [(24, 20), (7, 9, 11), (100,), (2, 2)])
def test_unit_coordinates_are_minus_one_and_one_at_the_first_and_last_pixel(shape: tuple[int, ...]) -> None:
    config = FitConfig(coordinates="unit", tile="whole")
    samples = Samples.from_array(np.random.default_rng(0).random(shape), axes="ZYX"[-len(shape) :])
    targets = Targets.from_samples(samples, Tiling.cut(shape, max(shape), 1), config)
    x = targets.coordinates[0].reshape(len(shape), *shape)
    for axis, n in enumerate(shape):
        along = x[axis].movedim(axis, 0).reshape(n, -1)
        torch.testing.assert_close(along[:, 0], torch.linspace(-1, 1, n), atol=2e-7, rtol=0)
        assert torch.equal(along, along[:, :1].expand_as(along))


def test_pixel_coordinates_are_pixels_from_the_tiles_centre(smooth: npt.NDArray[np.float32]) -> None:
    targets = make_targets(smooth)
    np.testing.assert_allclose(targets.coordinates[0], targets.tiling.local_grid())


@pytest.mark.parametrize(
    ("fields", "kind"),
    [({"observation": "point"}, SquaredLoss), ({"observation": "box"}, ObservedLoss)],
    ids=repr,
)
def test_only_finer_samples_need_a_loss_in_which_they_see_each_other(
    smooth: npt.NDArray[np.float32], fields: dict[str, object], kind: type
) -> None:
    for batch in make_targets(smooth, **fields).batches(CPU):
        assert isinstance(batch.loss, kind)


def test_automatic_variation_grows_with_the_noise(smooth: npt.NDArray[np.float32]) -> None:
    noisy = smooth + np.random.default_rng(0).normal(0, 30, smooth.shape)
    calm, loud = (
        make_targets(image, standardise=False, observation="box", total_variation="auto").batches(CPU)[0].loss
        for image in (smooth, noisy)
    )
    assert isinstance(calm, ObservedLoss)
    assert isinstance(loud, ObservedLoss)
    assert 0 < calm.variation[0] < loud.variation[0]


@pytest.mark.parametrize("shape", [(25, 20), (7, 9, 11), (101,)], ids=repr)
@pytest.mark.parametrize("missing", [False, True])
def test_halves_see_every_pixel_once_and_neighbours_in_turn(shape: tuple[int, ...], missing: bool) -> None:
    rng = np.random.default_rng(0)
    gone = rng.random(shape) < 0.4 if missing else None
    samples = Samples.from_array(rng.random(shape), "ZYX"[-len(shape) :], None, gone)
    config = FitConfig()
    targets = Targets.from_samples(samples, Tiling.cut(shape, 9, 1), config)
    halves = targets.batches(CPU)
    (whole,) = replace(targets, config=config.override(pixels_per_step="all")).batches(CPU)
    assert len(halves) == 2
    positions = [set(map(tuple, half.x[0].T.tolist())) for half in halves]
    assert positions[0].isdisjoint(positions[1])
    assert positions[0] | positions[1] == set(map(tuple, whole.x[0].T.tolist()))
    near = {(*p[:-1], p[-1] + 1.0) for p in positions[0]}
    assert near.isdisjoint(positions[0])
    # The losses of both halves add up to the loss of the whole, and so do their shares of the weight.
    zeros = [torch.zeros_like(batch.loss.target) for batch in (*halves, whole)]
    losses = [b.loss.value_and_gradient(z, slice(None))[0] for b, z in zip((*halves, whole), zeros, strict=True)]
    torch.testing.assert_close(losses[0] + losses[1], losses[2])
    shares = sum(torch.where(half.inverse_share > 0, 1 / half.inverse_share, 0.0) for half in halves)
    torch.testing.assert_close(shares, torch.ones_like(shares))


def test_a_single_pixel_and_an_area_are_never_halved(smooth: npt.NDArray[np.float32]) -> None:
    assert len(make_targets(smooth, observation="box").batches(CPU)) == 1
    assert len(make_targets(np.ones((1, 2)), tile=1).batches(CPU)) == 1


def test_a_tile_whose_pixels_all_are_of_one_colour_learns_nothing_from_the_other(
    smooth: npt.NDArray[np.float32],
) -> None:
    missing = np.indices(smooth.shape).sum(axis=0) % 2 == 1
    halves = make_targets(smooth, missing).batches(CPU)
    seen = [half.inverse_share > 0 for half in halves]
    assert (seen[0] ^ seen[1]).all()
    for half in halves:
        assert torch.isfinite(half.inverse_share).all()
