"""Values far outside the range of an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import napari_siren as ns
from napari_siren.core.image.outliers import exact_values, far_values, outlier_notes, pixels_apart, without_pixels
from napari_siren.core.image.samples import Samples
from napari_siren.core.training.checkpoint import fingerprint


def noise(shape: tuple[int, ...] = (64, 64), dtype: str = "uint16") -> npt.NDArray[Any]:
    return (200 + 4 * np.random.default_rng(0).normal(size=shape)).round().astype(dtype)


def with_spikes(image: npt.NDArray[Any], *positions: tuple[int, ...], value: float = 65535) -> npt.NDArray[Any]:
    spiked = image.copy()
    for position in positions:
        spiked[position] = value
    return spiked


def mask_of(image: npt.NDArray[Any], **options: Any) -> npt.NDArray[np.bool_] | None:
    samples = Samples.from_array(image, **options)
    return pixels_apart(samples, far_values(samples))


ORDINARY: list[npt.NDArray[Any]] = [
    noise(),
    with_spikes(noise(), (32, 32), value=240),
    np.eye(64),
    np.pad(np.ones((1, 1)), 30),
    np.full((8, 8), 7, np.uint8),
    np.random.default_rng(0).random((40, 40)) < 0.01,
]


@pytest.mark.parametrize("image", ORDINARY)
def test_ordinary_images_have_no_outliers(image: npt.NDArray[Any]) -> None:
    assert not far_values(Samples.from_array(image)).any()
    assert mask_of(image) is None


def test_few_pixels_in_small_groups_are_kept_apart() -> None:
    image = noise((128, 128))
    for spiked, count in ((image, 0), (with_spikes(image, (5, 5)), 1), (with_spikes(image, (5, 5), (6, 6), (0, 9)), 3)):
        mask = mask_of(spiked)
        assert count == (0 if mask is None else mask.sum())
        assert mask is None or np.array_equal(mask, spiked > 60000)
    # Larger groups are spots, and more outliers are a part of the picture.
    assert mask_of(with_spikes(image, *((4, x) for x in range(10)))) is None
    assert mask_of(with_spikes(image, *((4, 4 * x) for x in range(16)))) is not None
    assert mask_of(with_spikes(image, *((4, 4 * x) for x in range(17)))) is None


def test_missing_and_held_out_pixels_are_no_outliers() -> None:
    image = with_spikes(noise(), (32, 32))
    assert not far_values(Samples.from_array(image, missing=image > 60000)).any()
    samples = Samples.from_array(image, heldout=0.5)
    assert far_values(samples).any() == samples.used[32, 32]


def test_the_values_of_the_pixels_are_exact_and_interpolated() -> None:
    image = with_spikes(noise(dtype="uint32"), (3, 4), (0, 0), value=20_000_001)
    assert abs(int(ns.fit(image, max_steps=5).reconstruction[3, 4]) - 20_000_001) <= 1
    samples = Samples.from_array(image)
    apart = mask_of(image)
    assert apart is not None
    units = exact_values(samples, apart) * samples.layout.scale + np.array(samples.layout.offset)
    np.testing.assert_allclose(units, 20_000_001, rtol=1e-15)
    inner = without_pixels(samples, apart)
    assert np.abs(inner.values).max() < 2
    assert np.array_equal(inner.values[:, ~apart], samples.values[:, ~apart])
    around = samples.values[0, [2, 4, 3, 3], [4, 4, 3, 5]].mean()
    assert inner.values[0, 3, 4] == pytest.approx(around, abs=0.01)


def test_the_notes_count_values() -> None:
    far = np.zeros((2, 4, 4), bool)
    far[:, 0, 0] = far[0, 3, 3] = True
    apart = far.any(axis=0) & (np.arange(4) < 2)
    assert list(outlier_notes(far & False, None)) == []
    assert [note[:15] for note in outlier_notes(far, None)] == ["3 values are fa"]
    kept, others = outlier_notes(far, apart)
    assert kept == "2 values are far outside the range of the others; they are kept exactly, apart from the tiles"
    assert others.startswith("1 value is far")
    assert others.endswith("mark such pixels as missing to fit the others well")


CASES: dict[str, tuple[Callable[[], npt.NDArray[Any]], list[tuple[int, ...]], float, str | None]] = {
    "centre": (noise, [(32, 32)], 65535, "YX"),
    "several": (noise, [(7, 50), (32, 30), (60, 5), (33, 40)], 65535, "YX"),
    "border": (noise, [(0, 20), (40, 63)], 65535, "YX"),
    "corner": (noise, [(0, 0), (63, 63)], 65535, "YX"),
    "adjacent": (noise, [(20, 20), (20, 21), (50, 50), (51, 51)], 65535, "YX"),
    "colours": (lambda: noise((64, 64, 3)), [(32, 32, 1), (10, 10)], 65535, "YXC"),
    "float32": (lambda: noise(dtype="float32"), [(32, 32)], 1e6, "YX"),
    "negative": (lambda: noise(dtype="float32"), [(32, 32)], -65535, "YX"),
    "stack": (lambda: noise((12, 24, 24)), [(6, 12, 12), (0, 0, 3)], 65535, "ZYX"),
    "signal": (lambda: noise((4000,)), [(1000,), (1001,)], 65535, "X"),
}


@pytest.mark.parametrize("preset", ["faithful", "fast"])
@pytest.mark.parametrize("case", CASES)
def test_outliers_have_no_influence_on_the_other_pixels(case: str, preset: Any) -> None:
    make, positions, value, axes = CASES[case]
    plain = make()
    image = with_spikes(plain, *positions, value=value)
    spikes = image != plain
    results = [ns.fit(x, axes=axes, preset=preset) for x in (plain, image)]
    assert results[0].provenance["notes"] == []
    assert "kept exactly" in results[1].provenance["notes"][0]
    errors = [result.reconstruction.astype(float) - x for result, x in zip(results, (plain, image), strict=True)]
    before, after = (np.sqrt(np.square(error[~spikes]).mean()) for error in errors)
    assert after < 1.15 * before + 0.05
    # The pixels around, which the tiles interpolate from others.
    near = np.zeros_like(spikes)
    for position in np.argwhere(spikes):
        near[tuple(slice(max(0, i - 2), i + 3) for i in position)] = True
    around = near & ~spikes
    assert np.sqrt(np.square(errors[1][around]).mean()) < 1.6 * before + 0.5
    assert np.abs(errors[1][spikes]).max() <= 1


def test_a_larger_render_has_no_ringing() -> None:
    image = with_spikes(noise(), (32, 32))
    result = ns.fit(image)
    render = result.render(scale=2, dtype="float32")
    assert render.min() > 150
    assert render.max() <= 65536
    outside = np.ones(render.shape, bool)
    outside[62:68, 62:68] = False
    assert render[outside].max() < 250
    for derivative in ("gradient", "gradient_magnitude", "laplacian"):
        assert np.isfinite(result.render(scale=2, derivative=derivative)).all()
    smaller = result.render(scale=0.5, dtype="float32")
    assert smaller[16, 16] == pytest.approx(65535 / 4, rel=0.1)


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (with_spikes(noise((128, 128)), *((4, x) for x in range(10))), {}),
        (with_spikes(noise(), (4, 4)), {"observation": "box"}),
        (with_spikes(noise(), (4, 4)), {"preset": "denoise", "task_steps": 2}),
    ],
    ids=["group", "area", "task"],
)
def test_elsewhere_a_note_advises_missing_pixels(image: npt.NDArray[Any], options: dict[str, Any]) -> None:
    result = ns.fit(image, max_steps=2, **options)
    assert result.field.outliers is None
    assert any("mark such pixels as missing" in note for note in result.provenance["notes"])
    assert ns.fit(image, max_steps=2, missing=image > 230, **options).provenance["notes"] == []


def test_a_resumed_fit_has_the_same_outliers(tmp_path: Path) -> None:
    image = with_spikes(noise(), (32, 32), (0, 5))
    whole, steps = ns.fit(image, max_steps=20), ns.fit_iter(image, max_steps=20)
    for progress in steps:
        if progress.step == 10:
            steps.stop()
    half = steps.result
    resumed = ns.fit(image, max_steps=20, resume=half.save(tmp_path / "x.safetensors", resumable=True))
    assert np.array_equal(resumed.reconstruction, whole.reconstruction)
    assert resumed.provenance["notes"] == whole.provenance["notes"]
    # The state of a fit with the outliers in its tiles belongs to other tiles.
    plain = Samples.from_array(image)
    assert half.state is not None
    older = replace(half, state=replace(half.state, fingerprint=fingerprint(plain, half.config)))
    with pytest.raises(ns.InputError, match="belongs to another image or to other settings"):
        ns.fit(image, max_steps=20, resume=older)


def test_previews_have_the_outliers() -> None:
    image = with_spikes(noise(), (32, 32))
    for progress in ns.fit_iter(image, max_steps=3):
        assert progress.field().reconstruct()[32, 32] == 65535


def test_the_uncertainty_does_not_spread_an_outlier() -> None:
    image = with_spikes(noise((32, 32)), (16, 16))
    uncertainty = ns.fit(image, max_steps=60).uncertainty(2)
    assert np.isfinite(uncertainty).all()
    assert np.median(uncertainty) < 20
    assert uncertainty.max() < 1000
