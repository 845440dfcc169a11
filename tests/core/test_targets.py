"""What the tiles are to learn."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from napari_siren.core.config import FitConfig
from napari_siren.core.geometry import Tiling
from napari_siren.core.image import Samples
from napari_siren.core.loss import ObservedLoss, SquaredLoss
from napari_siren.core.targets import Targets


def make_targets(
    image: npt.ArrayLike, missing: npt.ArrayLike | None = None, tile: int = 8, **fields: object
) -> Targets:
    config = FitConfig(**fields)
    samples = Samples.from_array(image, None, None, missing, config.value_range, config.heldout)
    tiling = Tiling.cut(samples.format.spatial_shape, tile, config.overlap)
    return Targets.of(samples, tiling, config)


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
    """Of tiles that all miss by the same, there is nothing that blending could change."""
    targets = make_targets(photo, standardise=standardise)
    off = (targets.values * targets.scale[:, :, None] + 0.25) / targets.scale[:, :, None]
    losses, _ = targets.loss(torch.device("cpu")).value_and_gradient(off, slice(None))
    assert targets.mean_square(losses) == pytest.approx(0.25**2, rel=1e-4)


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
    targets = Targets.of(samples, Tiling.cut(shape, max(shape), 1), config)
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
    assert isinstance(make_targets(smooth, **fields).loss(torch.device("cpu")), kind)


def test_automatic_variation_grows_with_the_noise(smooth: npt.NDArray[np.float32]) -> None:
    noisy = smooth + np.random.default_rng(0).normal(0, 30, smooth.shape)
    calm, loud = (
        make_targets(image, standardise=False, observation="box", total_variation="auto").loss(torch.device("cpu"))
        for image in (smooth, noisy)
    )
    assert isinstance(calm, ObservedLoss)
    assert isinstance(loud, ObservedLoss)
    assert 0 < calm.variation[0] < loud.variation[0]
