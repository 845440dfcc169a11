"""The error model: errors with a known rule along any number of axes, and no errors at all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import spearmanr

from napari_siren.core.uncertainty import error_model
from napari_siren.core.uncertainty.error_model import ErrorModel, _strips

Array = npt.NDArray[np.float32]


def uneven(shape: tuple[int, ...], seed: int) -> tuple[Array, Array, Array]:
    """Return a picture with a rough side, its every second pixel, and errors that grow with the roughness."""
    rng = np.random.default_rng(seed)
    low_precision = np.linspace(0, 1, shape[-1], dtype=np.float32) ** 2 * np.ones(shape, np.float32)
    render = (0.5 * low_precision * rng.standard_normal(shape, dtype=np.float32))[np.newaxis]
    error = (0.3 * low_precision * np.abs(rng.standard_normal(shape, dtype=np.float32)))[np.newaxis] + np.float32(0.001)
    return render, render[(slice(None), *(slice(None, None, 2),) * len(shape))], error


@pytest.mark.parametrize("shape", [(600,), (64, 80), (12, 20, 24)])
def test_it_tells_where_errors_are_and_how_large(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_model, "_STEPS", 100)
    render, image, error = uneven(shape, 0)
    model = ErrorModel(len(shape))
    model.learn(render, image, error, np.ones(shape, bool))
    render, image, error = uneven(shape, 1)
    found = model.predict(render, image)
    assert found.shape == render.shape
    assert found.dtype == np.float32
    assert (found >= 0).all()
    assert spearmanr(found.ravel(), error.ravel()).statistic > 0.5
    assert found.mean() == pytest.approx(error.mean(), rel=0.25)


def test_pixels_without_weight_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_model, "_STEPS", 60)
    render, image, error = uneven((64, 64), 0)
    known = np.ones((64, 64), bool)
    known[:20] = False
    wrong = error.copy()
    wrong[:, :20] = 100
    models = [ErrorModel(2, seed=3) for _ in range(2)]
    models[0].learn(render, image, error, known)
    models[1].learn(render, image, wrong, known)
    np.testing.assert_array_equal(*(model.predict(render, image) for model in models))


def test_without_errors_none_are_expected() -> None:
    render, image, error = uneven((32, 32), 0)
    model = ErrorModel(2)
    model.learn(render, image, 0 * error, np.ones((32, 32), bool))
    assert (model.predict(render, image) == 0).all()


def test_strips_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_model, "_STEPS", 10)
    render, image, error = uneven((40, 30), 0)
    model = ErrorModel(2)
    model.learn(render, image, error, np.ones((40, 30), bool))
    whole = model.predict(render, image)
    monkeypatch.setattr(error_model, "_BLOCK", 200)
    assert len(list(_strips((40, 30), 2))) == 7
    np.testing.assert_allclose(model.predict(render, image), whole, rtol=1e-4)
