"""Tests of the previews of a running fit: the right pixels at the right place, within the available time."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from napari_siren import fit_iter
from napari_siren.core.field.tiling import RenderGrid
from napari_siren.core.progress import Progress
from napari_siren.layers.spec import LayerSpec
from napari_siren.ui.logic import previews
from napari_siren.ui.logic.previews import Preview, Previewer, box_slices, coarse_preview

TINY = {"preset": "fast", "hidden_features": 8, "hidden_layers": 1, "engine": "torch"}


def spec_of(*shape: int, **options: Any) -> LayerSpec:
    """Return the spec of a layer of noise. A wrong preview cannot agree with noise by chance."""
    arguments = {name: options.pop(name) for name in ("region", "plane") if name in options}
    pixels = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return LayerSpec.from_layer(SimpleNamespace(data=pixels, **options), **arguments)


def progress_of(spec: LayerSpec) -> Progress:
    steps = fit_iter(**spec.fit_arguments(), max_steps=100, **TINY)
    return [next(steps) for _ in range(3)][-1]


def values_at(progress: Progress, positions: Sequence[np.ndarray]) -> np.ndarray:
    """Return the field's values at a grid of positions in pixels, of shape (*positions) or (*positions, channels)."""
    field = progress.field()
    spacing = np.array(field.layout.spacing)
    return field(np.stack(np.meshgrid(*positions, indexing="ij"), axis=-1) * spacing)


def middles(start: int, stop: int, stride: int) -> np.ndarray:
    """Return for each pixel the middle of its block of `stride` pixels. The last block may have more or fewer."""
    block = np.minimum(np.arange(stop - start) // stride, max(1, round((stop - start) / stride)) - 1)
    return start + (block + 0.5) * stride


# ---- the pixels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [((0, 12), (0, 16)), ((3, 11), (5, 12)), ((4, 5), (0, 16))])
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_every_block_has_the_value_of_its_middle(box: tuple[tuple[int, int], ...], stride: int) -> None:
    spec = spec_of(12, 16, scale=(0.5, 2))
    progress = progress_of(spec)
    found = coarse_preview(progress, box, stride, spec)
    assert found.dtype == np.float32
    assert found.shape == tuple(stop - start for start, stop in box)
    # An axis that is shorter than a block is one block.
    positions = [middles(start, stop, min(stride, stop - start)) for start, stop in box]
    wanted = values_at(progress, [np.minimum(p, n) for p, n in zip(positions, (12, 16), strict=True)])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_at_full_resolution_it_is_the_reconstruction() -> None:
    spec = spec_of(12, 16)
    progress = progress_of(spec)
    np.testing.assert_array_equal(coarse_preview(progress, ((0, 12), (0, 16)), 1, spec), progress.preview())


@pytest.mark.parametrize(
    ("shape", "options", "box", "size"),
    [
        ((12, 16, 3), {"rgb": True}, ((2, 9), (0, 16)), (7, 16, 3)),
        ((2, 12, 16), {"axis_labels": ("c", "y", "x")}, ((2, 9), (0, 16)), (2, 7, 16)),
        ((5, 12, 16), {}, ((3, 4), (0, 12), (8, 16)), (1, 12, 8)),
        ((5, 12, 16), {"axis_labels": ("t", "y", "x")}, ((3, 4), (0, 12), (8, 16)), (1, 12, 8)),
        ((5, 12, 16), {"plane": (3, None, None)}, ((0, 12), (8, 16)), (12, 8)),
        (
            (4, 2, 5, 6),
            {"axis_labels": ("z", "c", "y", "x"), "plane": (1, None, None, None)},
            ((0, 5), (1, 6)),
            (2, 5, 5),
        ),
    ],
)
@pytest.mark.parametrize("stride", [1, 3])
def test_all_kinds_of_layers(
    shape: tuple[int, ...], options: dict[str, Any], box: Any, size: tuple[int, ...], stride: int
) -> None:
    spec = spec_of(*shape, **options)
    progress = progress_of(spec)
    found = coarse_preview(progress, box, stride, spec)
    assert found.shape == size
    positions = [middles(start, stop, min(stride, stop - start)) for start, stop in box]
    wanted = values_at(progress, positions)
    if "C" in spec.axes:
        wanted = np.moveaxis(wanted, -1, spec.axes.index("C"))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_outside_of_the_region_it_is_empty(stride: int) -> None:
    inside = np.zeros((12, 16), dtype=np.bool_)
    inside[2:9, 3:7] = inside[4:6, 7:15] = True
    spec = spec_of(12, 16, region=inside)
    progress = progress_of(spec)
    # The region begins at pixel (2, 3).
    box = ((1, 6), (2, 10))
    found = coarse_preview(progress, box, stride, spec)
    seen = inside[3:8, 5:13]
    assert not found[~seen].any()
    assert found[seen].all()


def test_a_box_lies_where_it_should_in_the_layer() -> None:
    spec = spec_of(3, 4, 12, 16, 2, axis_labels=("t", "z", "y", "x", "c"), plane=(1, 2, None, None, None))
    assert (spec.axes, spec.held) == ("YXC", (0, 1))
    data, _, _ = spec.like(np.zeros((12, 16, 2)), "preview")
    data[box_slices(((3, 5), (8, 16)), spec)] = 1
    assert data.shape == (1, 1, 12, 16, 2)
    wanted = np.zeros(data.shape)
    wanted[:, :, 3:5, 8:16, :] = 1
    np.testing.assert_array_equal(data, wanted)
    channels_first = spec_of(2, 12, 16, axis_labels=("c", "y", "x"))
    assert box_slices(((3, 5), (8, 16)), channels_first) == (slice(None), slice(3, 5), slice(8, 16))


# ---- the resolution --------------------------------------------------------------------------------------


class Fit:
    """A stand-in for a fit of one channel. Each pixel takes `seconds` of the clock of the previews."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], seconds: float) -> None:
        self.shape, self.seconds, self.now = shape, seconds, 0.0
        self.strides: list[int] = []
        self.took: list[float] = []
        monkeypatch.setattr(previews, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def preview(self, scale: float, region: Any, antialias: bool) -> np.ndarray:
        assert not antialias
        grid = RenderGrid.from_shape(self.shape, (1.0,) * len(self.shape), scale=scale, region=region)
        self.strides.append(round(1 / scale))
        self.took.append(self.seconds * float(np.prod(grid.shape)))
        self.now += self.took[-1]
        return np.zeros(grid.shape)


def preview_of(previewer: Previewer, fit: Fit, view: Any) -> Preview:
    """Return a preview, after as much time as it needs."""
    fit.now += 1e6
    preview = previewer.look(fit, view)  # type: ignore[arg-type]
    assert preview is not None
    return preview


IN_VIEW = ((100, 400), (200, 700))


def test_the_first_look_is_at_everything_and_the_next_at_what_is_in_view(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Fit(monkeypatch, (1000, 1000), 1e-7)
    previewer = Previewer(spec_of(1000, 1000), 0.3)
    looks = [preview_of(previewer, fit, view) for view in (IN_VIEW, IN_VIEW, None)]
    whole = ((0, 1000), (0, 1000))
    assert [look.box for look in looks] == [whole, IN_VIEW, whole]
    assert [look.data.shape for look in looks] == [(1000, 1000), (300, 500), (1000, 1000)]


@pytest.mark.parametrize("shape", [(1000, 1000), (100, 100, 100)])
@pytest.mark.parametrize("seconds", [1e-7, 1e-6, 1e-5, 1e-4])
def test_a_look_takes_no_more_than_its_share_of_the_time(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], seconds: float
) -> None:
    fit = Fit(monkeypatch, shape, seconds)
    previewer = Previewer(spec_of(*shape), interval=1.0)
    start = fit.now
    for _ in range(200):
        fit.now += 1.0
        previewer.look(fit, None)  # type: ignore[arg-type]
    # The first preview does not know the speed yet.
    assert sum(fit.took[1:]) < 0.2 * (fit.now - start)
    # It is also not coarser than needed: half the stride would take too long, and 128 pixels a side are the least.
    assert all(fit.strides[-1] == 1 or seconds * 1e6 / (stride / 2) ** len(shape) > 0.15 for stride in fit.strides[1:])
    assert max(fit.strides) <= max(1, max(shape) // 128)


def test_the_speed_is_that_of_the_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Fit(monkeypatch, (1000, 1000), 1e-7)
    previewer = Previewer(spec_of(1000, 1000), interval=1.0)
    for seconds in (1e-7, 1e-7, 1e-4, 1e-4, 1e-7, 1e-7):
        fit.seconds = seconds
        preview_of(previewer, fit, None)
    first, fast, still_fast, slow, still_slow, fast_again = fit.strides
    assert fast == still_fast == fast_again == 1
    assert 1 < first < slow == still_slow


def test_what_is_in_view_is_seen_more_finely_than_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Fit(monkeypatch, (1000, 1000), 1e-6)
    previewer = Previewer(spec_of(1000, 1000), interval=1.0)
    for view in (None, None, IN_VIEW):
        preview_of(previewer, fit, view)
    assert fit.strides[-1] == 1 < fit.strides[-2]


def test_however_slow_the_fit_there_is_something_to_see(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Fit(monkeypatch, (40, 80), 1.0)
    previewer = Previewer(spec_of(40, 80), interval=0.1)
    looks = [preview_of(previewer, fit, view) for view in (None, None, ((3, 4), (5, 8)))]
    # A preview is not coarser than 128 pixels a side.
    assert fit.strides == [1, 1, 1]
    assert [look.data.shape for look in looks] == [(40, 80), (40, 80), (1, 3)]
