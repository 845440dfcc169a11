"""Super-resolution and denoising by pretrained networks, on parts of the package's photograph."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from training_cases import WEIGHTS

import napari_siren as ns
from napari_siren.core.clock import Cancelled
from napari_siren.core.forward.operator import ForwardOperator
from napari_siren.core.image.samples import ImageLayout, Samples
from napari_siren.core.noise.model import NoiseModel
from napari_siren.core.restoration.pretrained import plan
from napari_siren.core.restoration.pretrained.plan import enlarger
from napari_siren.core.restoration.pretrained.prediction import Prediction
from napari_siren.core.restoration.pretrained.restorer import PretrainedRestorer
from napari_siren.core.restoration.pretrained.weights import Weights, package_weights
from napari_siren.core.restoration.self_supervised.blind_spot import BlindSpot
from napari_siren.core.restoration.self_supervised.zero_shot import ZeroShotSuperResolution
from napari_siren.core.restoration.tasks import plan_restoration
from napari_siren.core.settings.config import FitConfig
from napari_siren.errors import ConfigError, StorageError
from napari_siren.io.images import read_image, sample_path

Image = npt.NDArray[Any]
CPU = torch.device("cpu")
BICUBIC, POINT = (ForwardOperator.from_kind(kind, 2) for kind in ("bicubic", "point"))
# Number of passes for small images.
PASSES = 8
QUICK: dict[str, Any] = {"device": "cpu", "max_steps": 40, "hidden_features": 12, "hidden_layers": 2}


@cache
def photograph() -> Image:
    return read_image(sample_path()).array


def part(row: int, column: int, rows: int, columns: int) -> Image:
    return photograph()[row : row + rows, column : column + columns]


def smaller(image: Image, shape: Sequence[int]) -> npt.NDArray[np.uint8]:
    channels = torch.from_numpy(np.moveaxis(image, -1, 0).astype(np.float32))
    values = np.moveaxis(BICUBIC(channels, shape).numpy(), 0, -1)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def with_noise(image: Image, deviation: float) -> npt.NDArray[np.float32]:
    noise = np.random.default_rng(0).standard_normal(image.shape, dtype=np.float32)
    return image.astype(np.float32) + deviation * noise


def restorer_of(
    image: Image, preset: str = "upscale", axes: str | None = None, **fields: Any
) -> tuple[PretrainedRestorer, Samples]:
    samples = Samples.from_array(image, axes)
    restoration = plan_restoration(samples, FitConfig.preset(preset, **fields))
    assert restoration is not None
    restorer = restoration.create(CPU, 0)
    assert isinstance(restorer, PretrainedRestorer)
    return restorer, samples


def in_units(values: Tensor, layout: ImageLayout) -> Image:
    columns = [np.reshape(numbers, (-1, 1, 1)) for numbers in (layout.offset, layout.scale)]
    return layout.from_channels_first(columns[0] + columns[1] * values.double().numpy())


def mse(image: Image, truth: Image) -> float:
    return float(np.square(np.clip(image, 0, 255) - truth.astype(float)).mean())


def decibels(image: Image, truth: Image) -> float:
    return 10 * np.log10(255**2 / mse(image, truth))


def gain(truth: Image, shape: tuple[int, int], passes: int | None = None) -> float:
    """Return the gain in PSNR over bicubic interpolation, for a smaller copy of an image."""
    restorer, samples = restorer_of(smaller(truth, shape))
    fine = truth.shape[:2]
    enlarged = in_units(restorer.predict(fine, passes), samples.layout)
    interpolated = in_units(POINT(torch.from_numpy(samples.values), fine), samples.layout)
    assert enlarged.shape == truth.shape
    return decibels(enlarged, truth) - decibels(interpolated, truth)


# ---- super-resolution ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [(100, 150), (160, 420), (300, 200), (60, 500), (200, 560)])
def test_it_is_better_than_bicubic_interpolation(place: tuple[int, int]) -> None:
    # Measured: 1.8 to 3.4 dB.
    assert gain(part(*place, 96, 96), (48, 48)) > 1


@pytest.mark.parametrize(
    ("shape", "pixels", "least"),
    [
        ((120, 120), (40, 40), 1.5),
        ((120, 120), (30, 30), 0.3),
        ((120, 120), (15, 15), 0.3),
        ((120, 120), (60, 40), 1.5),
        ((120, 96), (30, 64), 1.0),
        ((100, 120), (37, 53), 1.5),
    ],
    ids=["x3", "x4", "x8", "x2 and x3", "x4 and x1.5", "any sizes"],
)
def test_any_sizes(shape: tuple[int, int], pixels: tuple[int, int], least: float) -> None:
    assert gain(part(100, 160, *shape), pixels) > least


def test_more_passes_are_better() -> None:
    truth = part(160, 420, 96, 96)
    assert gain(truth, (48, 48), 1) < gain(truth, (48, 48), 8)


@pytest.mark.full_length
def test_an_enlarged_image_agrees_with_the_pixels() -> None:
    image = smaller(part(160, 420, 96, 96), (48, 48))
    restorer, samples = restorer_of(image)
    observed = BICUBIC(restorer.predict((96, 96)), (48, 48))
    assert decibels(in_units(observed, samples.layout), image) > 50


def test_colours_keep_a_grey_image_grey() -> None:
    grey = np.repeat(smaller(part(100, 160, 96, 96), (48, 48))[..., :1], 3, axis=-1)
    restorer, samples = restorer_of(grey)
    enlarged = in_units(restorer.predict((96, 96)), samples.layout)
    assert np.ptp(enlarged, axis=-1).max() < 0.01
    # The same as the image of one channel.
    alone, samples = restorer_of(np.ascontiguousarray(grey[..., 0]))
    np.testing.assert_allclose(enlarged[..., 0], in_units(alone.predict((96, 96)), samples.layout), atol=0.05)


def test_channels_that_are_no_colours_are_independent() -> None:
    channels = np.ascontiguousarray(np.moveaxis(smaller(part(100, 160, 80, 80), (40, 40)), -1, 0))
    restorer, samples = restorer_of(channels, axes="CYX", pretrained=str(WEIGHTS / "enlarge.safetensors"))
    first = samples.values.copy()
    first[1:] = 0
    enlarged = restorer.predict((80, 80), 1)
    torch.testing.assert_close(restorer.predict((80, 80), 1, torch.from_numpy(first))[0], enlarged[0])


def test_the_choice_depends_on_the_noise() -> None:
    clean = smaller(part(300, 300, 192, 192), (96, 96))
    noisy = np.clip(np.rint(with_noise(clean, 15)), 0, 255).astype(np.uint8)
    for image, name in ((clean, "enlarge"), (noisy, "robust")):
        restorer, _ = restorer_of(image)
        assert restorer.weights.name == name
        compared = dict(restorer.weights.compared)
        assert set(compared) == {"enlarge", "robust"}
        assert max(compared, key=lambda key: compared[key]) == name


@pytest.mark.parametrize(
    ("errors", "name", "compared"),
    [
        ({"denoise": 0.101, "microscope": 0.1}, "denoise", {"denoise": 15.98, "microscope": 16.02}),
        ({"denoise": -0.1, "microscope": -0.101}, "denoise", {"denoise": None, "microscope": None}),
        ({"denoise": -0.1, "microscope": -0.2}, "microscope", {"denoise": None, "microscope": None}),
    ],
)
def test_ties_go_to_the_first_network(errors: dict[str, float], name: str, compared: dict[str, float | None]) -> None:
    def create(weights: Weights, values: Tensor) -> Any:
        return weights

    chosen: Any = plan._best(plan._FOR_DENOISING, "auto", torch.zeros(1, 8, 8), create, lambda w: errors[w.name])  # type: ignore[attr-defined]
    assert chosen.name == name
    assert dict(chosen.compared) == compared


def test_a_smaller_copy_has_the_noise_of_the_image() -> None:
    flat = with_noise(np.full((96, 96), 100.0), 10)
    restorer, samples = restorer_of(flat)
    copy = restorer.smaller_copy((48, 48))
    assert copy.shape == (1, 48, 48)
    assert float(copy.std()) * samples.layout.scale[0] == pytest.approx(10, rel=0.25)
    assert torch.equal(restorer.smaller_copy((48, 48)), copy)


# ---- denoising -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pretrained", "channels"), [("auto", 1), ("general", 3), ("microscope", 1)])
def test_it_removes_noise_of_an_unknown_level(pretrained: str, channels: int) -> None:
    clean = part(100, 160, 72, 72)[..., :channels].squeeze()
    noisy = with_noise(clean, 25)
    restorer, samples = restorer_of(noisy, "denoise", pretrained=pretrained)
    # Measured: 13 to 14 dB for most of it is out of focus.
    assert decibels(in_units(restorer.predict((72, 72), 2), samples.layout), clean) > decibels(noisy, clean) + 8


@pytest.mark.parametrize(("pretrained", "deviation"), [("general", 25), ("microscope", 10)])
def test_the_risk_is_about_the_squared_error(pretrained: str, deviation: int) -> None:
    clean = part(100, 160, 128, 128)
    camera = {"camera_gain": 1e-6, "read_noise": float(deviation)}
    restorer, samples = restorer_of(with_noise(clean, deviation), "denoise", pretrained=pretrained, **camera)
    restored = in_units(restorer.predict((128, 128), 1), samples.layout)
    error = np.square((restored - clean) / np.array(samples.layout.scale)).mean()
    # Measured: 3 to 5 % at 192 x 192 pixels.
    assert restorer.risk() == pytest.approx(error, rel=0.2)


def test_a_micrograph_is_denoised_by_the_network_for_micrographs() -> None:
    rng = np.random.default_rng(1)
    spots = gaussian_filter((rng.random((128, 128)) > 0.995).astype(float), 1.5)
    cells = gaussian_filter((rng.random((128, 128)) > 0.999).astype(float), 5)
    clean = 4000 * spots + 6000 * cells + 10
    image = rng.poisson(clean).astype(np.uint16)
    errors = {}
    for pretrained in ("auto", "general"):
        restorer, samples = restorer_of(image, "denoise", pretrained=pretrained)
        errors[restorer.weights.name] = float(
            np.square(in_units(restorer.predict(image.shape, 1), samples.layout) - clean).mean()
        )
    # Measured: 6.5 and 10.1, and 25.9 for the image itself.
    assert errors["microscope"] < 0.8 * errors["denoise"] < 0.5 * np.square(image - clean).mean()


def test_an_image_without_noise_is_hardly_changed() -> None:
    clean = smaller(part(100, 160, 192, 192), (64, 64))
    restorer, samples = restorer_of(clean, "denoise")
    assert decibels(in_units(restorer.predict((64, 64)), samples.layout), clean) > 35


def test_one_channel_is_not_changed_by_the_noise_of_another() -> None:
    clean = np.moveaxis(part(100, 160, 48, 48)[..., :2], -1, 0)
    noisy = clean + np.array([20.0, 0.0])[:, None, None] * np.random.default_rng(0).standard_normal(clean.shape)
    restorer, samples = restorer_of(noisy.astype(np.float32), "denoise", axes="CYX", pretrained="general")
    restored = in_units(restorer.predict((48, 48), 1), samples.layout)
    assert decibels(restored[0], clean[0]) > decibels(noisy[0], clean[0]) + 4
    assert decibels(restored[1], clean[1]) > 33


# ---- any image -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["upscale", "denoise"])
@pytest.mark.parametrize(
    ("image", "axes"),
    [
        (np.full((9, 12), 7, np.uint8), "YX"),
        (np.full((9, 12, 3), -1e9), "YXC"),
        (np.random.default_rng(0).random((8, 40)) > 0.5, "YX"),
        (np.random.default_rng(0).integers(0, 2**16, (4, 20, 9), dtype=np.uint16), "CYX"),
        (1e30 * np.random.default_rng(0).random((10, 10)), "YX"),
    ],
    ids=["constant", "constant colours", "binary", "four channels", "large"],
)
def test_unusual_images_have_finite_results(image: Image, axes: str, preset: str) -> None:
    result = ns.fit(image, axes=axes, preset=preset, **{**QUICK, "max_steps": 3})
    render = result.render(scale=1.5)
    assert np.isfinite(render).all()
    assert result.provenance["pretrained"]["weights"] in ("enlarge", "robust", "denoise", "microscope")
    if image.min() == image.max():
        np.testing.assert_allclose(render.astype(float), float(image.flat[0]), rtol=1e-3)


@pytest.mark.parametrize("preset", ["upscale", "denoise"])
def test_it_is_the_same_each_time(preset: str) -> None:
    image = smaller(part(160, 420, 80, 80), (40, 40))
    first, second = (restorer_of(image, preset)[0] for _ in range(2))
    assert first.weights.compared == second.weights.compared
    shape = (80, 80) if first.enlarges else (40, 40)
    assert torch.equal(first.predict(shape), second.predict(shape))


# ---- plans ---------------------------------------------------------------------------------------------

PICTURE = np.random.default_rng(0).random((40, 42), dtype=np.float32)
MISSING = np.arange(40 * 42).reshape(40, 42) == 99
STACK = np.random.default_rng(0).random((5, 24, 24), dtype=np.float32)


@pytest.mark.parametrize(("preset", "restorer"), [("upscale", ZeroShotSuperResolution), ("denoise", BlindSpot)])
def test_without_them_the_network_is_trained_on_the_image(preset: str, restorer: type) -> None:
    restoration = plan_restoration(Samples.from_array(PICTURE), FitConfig.preset(preset, pretrained=None))
    assert restoration is not None
    assert restoration.restorer_class is restorer
    assert restoration.tile_settings == {}


@pytest.mark.parametrize(
    ("preset", "options", "image", "axes"),
    [
        ("upscale", {"spacing": (4, 1, 1)}, STACK, "ZYX"),
        ("upscale", {}, STACK, "ZYX"),
    ],
    ids=["slices", "stack"],
)
def test_other_images_are_planned_as_without_them(
    preset: str, options: dict[str, Any], image: Image, axes: str
) -> None:
    samples = Samples.from_array(image, axes, **options)
    planned, expected = (
        plan_restoration(samples, FitConfig.preset(preset, pretrained=pretrained)) for pretrained in ("auto", None)
    )
    assert (planned is None) == (expected is None)
    if planned is not None and expected is not None:
        assert planned.restorer_class is expected.restorer_class is not PretrainedRestorer


@pytest.mark.parametrize("options", [{"missing": MISSING}, {"heldout": 0.1}], ids=["missing", "held out"])
@pytest.mark.parametrize("preset", ["upscale", "denoise"])
def test_gaps_are_interpolated_for_the_network(preset: str, options: dict[str, Any]) -> None:
    samples = Samples.from_array(PICTURE, "YX", **options)
    restoration = plan_restoration(samples, FitConfig.preset(preset))
    assert restoration is not None
    assert restoration.restorer_class is PretrainedRestorer


@pytest.mark.parametrize("options", [{"observation": "gaussian", "psf_width": 1.0}, {"task_steps": 0}], ids=str)
def test_other_settings_do_not_use_them(options: dict[str, Any]) -> None:
    restoration = plan_restoration(Samples.from_array(PICTURE), FitConfig.preset("upscale", **options))
    assert restoration is None or restoration.restorer_class is ZeroShotSuperResolution


@pytest.mark.parametrize(("detail", "steps"), [(2, 200), (4, 100)])
def test_finer_tiles_need_fewer_steps(detail: int, steps: int) -> None:
    restoration = plan_restoration(Samples.from_array(PICTURE), FitConfig.preset("upscale", detail=detail))
    assert restoration is not None
    assert restoration.tile_settings["max_steps"] == steps


def test_tiles_have_settings_of_their_own_unless_they_were_set() -> None:
    options = {"hidden_layers": 2, "max_steps": 50}
    default, changed = (
        plan_restoration(Samples.from_array(PICTURE), FitConfig.preset("upscale", **fields)) for fields in ({}, options)
    )
    assert default is not None
    assert changed is not None
    assert set(default.tile_settings) - set(changed.tile_settings) == set(options)


# ---- files of weights, and the state -------------------------------------------------------------------


def test_a_file_of_weights(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    shutil.copy(WEIGHTS / "robust.safetensors", path)
    image = smaller(part(100, 160, 48, 48), (24, 24))
    result = ns.fit(image, preset="upscale", pretrained=str(path), **QUICK)
    weights = package_weights("robust")
    assert result.provenance["pretrained"] == {"weights": str(path), "sha256": weights.sha256, "compared": {}}


@pytest.mark.parametrize(
    ("preset", "file", "message"),
    [
        ("upscale", "denoise", "weights are for denoise, and the task needs one of enlarge, microscope, robust"),
        ("denoise", "enlarge", "weights are for enlarge, and the task needs one of denoise, microscope"),
        ("upscale", "nothing", r"there is no such file\. Choose auto, general, microscope, None, or a file"),
    ],
)
def test_wrong_files_are_refused(preset: str, file: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ns.fit(PICTURE, preset=preset, pretrained=str(WEIGHTS / f"{file}.safetensors"), **QUICK)


def test_the_metadata_name_the_weights(tmp_path: Path) -> None:
    result = ns.fit(smaller(part(100, 160, 48, 48), (24, 24)), preset="denoise", **QUICK)
    metadata = result.provenance["pretrained"]
    assert metadata["sha256"] == package_weights(metadata["weights"]).sha256
    assert set(metadata["compared"]) == {"denoise", "microscope"}
    loaded = ns.load(result.save(tmp_path / "model.safetensors"))
    assert loaded.provenance["pretrained"] == metadata


def test_a_state_belongs_to_its_weights() -> None:
    values, layout = torch.zeros(1, 16, 16), Samples.from_array(PICTURE[:16, :16]).layout
    noise = [NoiseModel(0.0, 0.01, 0.01)]
    first, second = (PretrainedRestorer(values, layout, package_weights(n), noise) for n in ("denoise", "microscope"))
    first.load(first.state())
    with pytest.raises(StorageError, match="other pretrained weights"):
        second.load(first.state())


@pytest.mark.full_length
@pytest.mark.parametrize("representation", ["samples", "tiles"])
@pytest.mark.parametrize("preset", ["upscale", "denoise"])
@pytest.mark.parametrize("stop", [1, 5, 8, 25])
def test_a_saved_fit_goes_on_to_the_same_bits(tmp_path: Path, preset: str, stop: int, representation: str) -> None:
    if representation == "samples" and stop >= PASSES:
        pytest.skip("the fit has no further steps")
    image = smaller(part(100, 160, 48, 48), (24, 24))
    path = tmp_path / "model.safetensors"
    steps = ns.fit_iter(image, preset=preset, task_steps=3, representation=representation, **QUICK)
    for number, _ in enumerate(steps, 1):
        if number == stop:
            steps.snapshot().save(path, resumable=True)
    resumed = ns.fit(image, resume=path)
    np.testing.assert_array_equal(resumed.render(scale=2), steps.result.render(scale=2))


def test_a_state_of_other_weights_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    shutil.copyfile(WEIGHTS / "robust.safetensors", own)
    image = smaller(part(100, 160, 48, 48), (24, 24))
    result = ns.fit(image, preset="upscale", pretrained=str(own), **QUICK)
    path = result.save(tmp_path / "model.safetensors", resumable=True)
    shutil.copyfile(WEIGHTS / "enlarge.safetensors", own)
    with pytest.raises(StorageError, match="other pretrained weights"):
        ns.fit(image, resume=path, max_steps=50)


@pytest.mark.full_length
@pytest.mark.parametrize(("representation", "tile_steps"), [("samples", 0), ("tiles", QUICK["max_steps"])])
def test_each_pass_is_a_step(representation: str, tile_steps: int) -> None:
    image = smaller(part(100, 160, 48, 48), (24, 24))
    steps = ns.fit_iter(image, preset="upscale", task_steps=1500, representation=representation, **QUICK)
    numbers = [(progress.step, progress.max_steps) for progress in steps]
    total = PASSES + tile_steps
    assert numbers == [(number, total) for number in range(1, total + 1)]
    assert steps.result.field.refinement == (2, 2)
    assert steps.result.field.has_tiles == bool(tile_steps)
    assert steps.result.provenance["steps_before_tiles"] == PASSES
    assert (steps.result.metrics.consistency or 0) > 25


@pytest.mark.full_length
def test_a_preview_improves_with_each_pass() -> None:
    truth = part(160, 420, 96, 96)
    steps = ns.fit_iter(smaller(truth, (48, 48)), preset="upscale", adapt="off")
    previews = [progress.preview(scale=2) for progress in steps]
    errors = [mse(preview, truth) for preview in previews]
    assert len(errors) == PASSES
    assert errors[-1] < errors[0]
    assert decibels(previews[0], truth) > decibels(np.kron(smaller(truth, (48, 48)), np.ones((2, 2, 1))), truth) + 1


@pytest.mark.full_length
@pytest.mark.usefixtures("clock")
def test_a_time_limit_ends_the_passes() -> None:
    result = ns.fit(smaller(part(100, 160, 48, 48), (24, 24)), preset="upscale", max_seconds=3)
    passes = int((result.state or pytest.fail("no state")).tensors["restorer.passes"])
    assert 1 <= passes < PASSES
    assert result.render(scale=2).shape == (48, 48, 3)


def test_the_passes_can_be_cancelled_between_blocks() -> None:
    restorer, _ = restorer_of(smaller(part(100, 160, 48, 48), (24, 24)))
    restorer.cancellation.request()
    with pytest.raises(Cancelled):
        restorer.step(0.0)


def test_restorers_do_not_share_a_network() -> None:
    """Each has a copy, so that a fit on another device does not move the network of this one."""
    samples = Samples.from_array(np.random.default_rng(0).random((16, 20), dtype=np.float32))
    config = FitConfig.preset("upscale")
    first, second = (enlarger(samples, config, torch.device("cpu")) for _ in range(2))
    assert first._model.network is not second._model.network
    assert first._model.network is not first.weights.network


def test_the_network_is_first_applied_at_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """`fit_iter` returns before, so that the fit can be cancelled."""
    passes: list[tuple[int, int]] = []
    add_pass = Prediction.add_pass

    def counted(self: Prediction) -> None:
        passes.append(self.shape)
        add_pass(self)

    image = np.random.default_rng(0).random((16, 20), dtype=np.float32)
    monkeypatch.setattr(Prediction, "add_pass", counted)
    steps = ns.fit_iter(image, preset="upscale", detail=3)
    assert (48, 60) not in passes
    next(steps)
    assert passes[-1] == (48, 60)


def test_changed_settings_of_the_tiles_are_in_the_provenance() -> None:
    image = np.random.default_rng(0).random((16, 20), dtype=np.float32)
    result = ns.fit(image, preset="upscale", max_steps=2, hidden_layers=2, representation="tiles")
    assert result.provenance["tile_settings"] == {"pixels_per_step": "half", "parameters_per_value": 1.0}
    assert result.field.siren.spec.hidden_layers == 2


def test_weights_that_do_not_apply_are_reported() -> None:
    profile = np.random.default_rng(0).random(40, dtype=np.float32)
    result = ns.fit(profile, axes="X", preset="upscale", pretrained="microscope", task_steps=2, max_steps=2)
    assert any("pretrained networks do not apply" in note for note in result.provenance["notes"])


def test_adaptation_that_cannot_run_is_noted() -> None:
    result = ns.fit(np.eye(12, dtype=np.float32), preset="upscale", adapt=64, max_steps=5)
    assert any("no network was adapted" in note for note in result.provenance["notes"])
