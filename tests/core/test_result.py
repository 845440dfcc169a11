"""Tests of the result of a fit: reconstruction, error, renders, and provenance."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from matplotlib import pyplot

import napari_siren as ns
from napari_siren.core.result import FitResult
from napari_siren.errors import InputError

QUICK = {"tile": 8, "hidden_features": 12, "hidden_layers": 2, "max_steps": 30}


@pytest.fixture(scope="module")
def result(photo: npt.NDArray[np.uint8]) -> FitResult:
    return ns.fit(photo, spacing=(0.5, 2), seed=3, **QUICK)


def test_the_reconstruction_is_the_render_at_scale_one(result: FitResult, photo: npt.NDArray[np.uint8]) -> None:
    assert (result.reconstruction.shape, result.reconstruction.dtype) == (photo.shape, photo.dtype)
    np.testing.assert_array_equal(result.reconstruction, result.render(scale=1))
    np.testing.assert_array_equal(result.reconstruction, result.render(shape=photo.shape))
    np.testing.assert_array_equal(result.reconstruction, result.render(spacing=(0.5, 2)))


def test_the_error_is_signed_and_in_the_images_units(result: FitResult, photo: npt.NDArray[np.uint8]) -> None:
    assert result.error.dtype == np.float32
    np.testing.assert_array_equal(result.error, result.reconstruction.astype(int) - photo)
    assert result.error.min() < 0 < result.error.max()


def test_the_metrics_are_those_of_the_error(result: FitResult) -> None:
    assert result.metrics.rmse == pytest.approx(np.sqrt(np.square(result.error).mean()))
    assert result.metrics.psnr == pytest.approx(20 * np.log10(255 / result.metrics.rmse))
    assert result.metrics.max_abs == np.abs(result.error).max()


def test_missing_pixels_have_no_error(smooth: npt.NDArray[np.float32]) -> None:
    missing = np.random.default_rng(0).random(smooth.shape) < 0.2
    result = ns.fit(np.where(missing, np.nan, smooth), missing=missing, **QUICK)
    assert not result.error[missing].any()
    assert result.error[~missing].any()


@pytest.mark.parametrize(
    ("options", "shape", "dtype"),
    [
        ({"scale": 2}, (48, 40), "uint8"),
        ({"scale": (1, 3)}, (24, 60), "uint8"),
        ({"shape": (7, 9)}, (7, 9), "uint8"),
        ({"spacing": 1}, (12, 40), "uint8"),
        ({"scale": 2, "region": [(2, 5), (0, 20)]}, (6, 40), "uint8"),
        ({"dtype": "float32"}, (24, 20), "float32"),
        ({"derivative": "gradient"}, (2, 24, 20), "float32"),
        ({"derivative": "gradient_magnitude", "scale": 2}, (48, 40), "float32"),
        ({"derivative": "laplacian", "dtype": "float64"}, (24, 20), "float64"),
    ],
    ids=repr,
)
def test_shapes_and_dtypes_of_renders(
    result: FitResult, options: dict[str, object], shape: tuple[int, ...], dtype: str
) -> None:
    render = result.render(**options)
    assert (render.shape, render.dtype) == (shape, dtype)


def test_a_region_is_cut_out_of_the_whole(result: FitResult) -> None:
    whole = result.render(scale=2, dtype="float32")
    part = result.render(scale=2, region=[(3, 10), (5, 20)], dtype="float32")
    np.testing.assert_allclose(part, whole[6:20, 10:40], rtol=1e-4, atol=1e-3)


def test_a_zarr_array_is_filled(result: FitResult) -> None:
    out = zarr.create_array(store={}, shape=(48, 40), chunks=(16, 16), dtype="uint8")
    assert result.render(scale=2, out=out) is out
    np.testing.assert_array_equal(out[:], result.render(scale=2))


def test_the_field_is_in_the_images_units_and_physical_lengths(result: FitResult, photo: npt.NDArray[np.uint8]) -> None:
    values = result.field(np.array([[0.25, 1.0], [5.75, 21.0]]))
    np.testing.assert_allclose(values, [photo[0, 0], photo[11, 10]], atol=3 * result.metrics.max_abs)
    np.testing.assert_allclose(np.rint(values), [result.reconstruction[0, 0], result.reconstruction[11, 10]])


def test_the_gradient_is_per_physical_length() -> None:
    """Test a ramp of 3 per pixel along y and -5 along x, with pixels 0.5 and 2 units long."""
    y, x = np.mgrid[:16, :16]
    ramp = (3.0 * y - 5.0 * x).astype(np.float32)
    result = ns.fit(ramp, spacing=(0.5, 2), **{**QUICK, "max_steps": 150})
    gradient = result.render(derivative="gradient")[:, 4:-4, 4:-4]
    assert np.median(gradient[0]) == pytest.approx(6, rel=0.05)
    assert np.median(gradient[1]) == pytest.approx(-2.5, rel=0.05)


def test_more_than_one_of_scale_shape_and_spacing_is_refused(result: FitResult) -> None:
    with pytest.raises(InputError, match="scale, shape and spacing exclude each other"):
        result.render(scale=2, shape=(3, 3))


def test_the_receipt_says_what_was_fitted_and_with_what(result: FitResult, photo: npt.NDArray[np.uint8]) -> None:
    provenance = result.provenance
    digest = hashlib.sha256(f"{photo.dtype.str} {photo.shape} ".encode() + photo.tobytes()).hexdigest()
    assert provenance["data_sha256"] == digest
    assert provenance["seed"] == 3
    assert provenance["engine"] in ("torch", "native")
    # Builds for CUDA add a suffix to `torch.__version__`, but not to their metadata.
    assert provenance["versions"]["torch"] == version("torch")
    assert provenance["versions"]["napari-siren"] == ns.__version__


def test_the_history_has_an_entry_for_every_step(result: FitResult) -> None:
    history = result.history
    assert history.step == list(range(1, 31))
    assert len(history.seconds) == len(history.loss) == len(history.psnr) == 30
    assert sorted(history.seconds) == history.seconds
    assert history.loss[-1] < history.loss[0]
    assert history.stopped == "max_steps"


def test_a_result_is_an_array_without_its_state() -> None:
    image = np.random.default_rng(0).integers(0, 255, (16, 20), dtype=np.uint8)
    result = ns.fit(image, preset="fast", max_steps=4)
    np.testing.assert_array_equal(np.asarray(result), result.reconstruction)
    assert np.asarray(result, dtype=np.float32).dtype == np.float32
    assert (result in [result], len({result, result.without_state()})) == (True, 2)
    plain = result.without_state()
    assert (plain.state, plain.field is result.field) == (None, True)
    assert len(pickle.dumps(plain)) < len(pickle.dumps(result)) / 2


def test_results_and_their_parts_are_one_screen_and_are_compared_by_identity() -> None:
    image = np.random.default_rng(0).integers(0, 255, (16, 20), dtype=np.uint8)
    tiles, samples = (ns.fit(image, preset="upscale", representation=r, max_steps=2) for r in ("tiles", "samples"))
    assert repr(tiles.field) == f"Field(uint8 YX (16, 20), {tiles.field.representation.size})"
    assert repr(samples.field) == f"Field(uint8 YX (16, 20), {samples.field.representation.parameters:,} samples)"
    assert all(repr(result.field)[len("Field") : -1] in repr(result) for result in (tiles, samples))
    assert (tiles.field == replace(tiles.field), {tiles.field} == {tiles.field}) == (False, True)


def test_a_history_as_a_table_and_a_plot() -> None:
    history = ns.fit(np.eye(16, dtype=np.float32), preset="fast", max_steps=4).history
    table = pytest.importorskip("pandas") and history.to_dataframe()
    assert list(table.columns) == ["step", "seconds", "loss", "psnr"]
    assert table["step"].tolist() == [1, 2, 3, 4]
    # Windows of toolkits must not be made, or destroyed, in the threads of tests.
    pyplot.switch_backend("agg")
    axes = history.plot()
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), history.psnr)
    assert history.plot(axes) is axes
    pyplot.close(axes.figure)


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), 3])
def test_seeds_of_numpy(seed: int) -> None:
    result = ns.fit(np.eye(16, dtype=np.float32), max_steps=2, seed=seed)
    assert result.provenance["seed"] == 3


def test_a_drawn_seed_is_recorded() -> None:
    image = np.eye(16, dtype=np.float32)
    drawn = ns.fit(image, max_steps=2, seed=None)
    again = ns.fit(image, max_steps=2, seed=drawn.provenance["seed"])
    np.testing.assert_array_equal(drawn.reconstruction, again.reconstruction)
    assert drawn.provenance["seed"] != ns.fit(image, max_steps=2, seed=None).provenance["seed"]


def test_the_steps_of_a_fit_say_what_they_are() -> None:
    steps = ns.fit_iter(np.eye(16, dtype=np.float32), max_steps=2)
    assert repr(steps).startswith("FitSteps(not started")
    next(steps)
    assert repr(steps).startswith("FitSteps(running")
    steps.stop()
    assert repr(steps).startswith("FitSteps(ended")
