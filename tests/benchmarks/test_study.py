"""The study's measures against known cases, its sections in short, and that its page has the numbers of its report."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.io import imread, imsave

import napari_siren as ns
from benchmarks import study
from benchmarks.interpolators import nearest, to_bytes
from benchmarks.study_between import draw_spectra, naive
from benchmarks.study_pictures import Plot, panels, plots
from benchmarks.study_pixels import layers, when_looked_at
from benchmarks.study_tools import (
    BIN,
    EYE,
    HEAD,
    Section,
    Study,
    Table,
    at_ends,
    beyond,
    drawn_from,
    first_layer,
    frequencies,
    grid_of,
    network,
    psnr,
    smaller,
    spectrum,
    wrapped,
)
from napari_siren.core.field.tiling import RenderGrid
from napari_siren.core.progress import History

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def short(tmp_path: Path) -> Study:
    """Give a study of two steps a fit."""
    return Study(tmp_path, tmp_path, seconds=1.0, most_steps=2)


def plane_wave(frequency: float, angle: float, factor: int, size: int = 32, amplitude: float = 50.0) -> np.ndarray:
    """Give a wave of so many radians per pixel, on a grid `factor` times denser than size x size pixels."""
    down, across = np.indices((size * factor, size * factor)) / factor
    return 100 + amplitude * np.sin(frequency * (math.cos(angle) * down + math.sin(angle) * across))


# ---- measures --------------------------------------------------------------------------------------------------------


@given(frequency=st.floats(1.0, 11.5), angle=st.floats(0.0, math.pi))
def test_a_plane_wave_peaks_at_its_frequency(frequency: float, angle: float) -> None:
    power = spectrum(plane_wave(frequency, angle, factor=4), 4)
    assert abs(frequencies(len(power))[power.argmax()] - frequency) <= 1.5 * BIN


def test_a_spectrum_ends_at_the_limit_of_its_grid() -> None:
    power = spectrum(HEAD, 8)
    assert frequencies(len(power))[-1] + BIN / 2 == pytest.approx(8 * math.pi)


@pytest.mark.parametrize("channels", [0, 3])
def test_a_spectrum_integrates_to_the_variance(channels: int) -> None:
    wave = plane_wave(5.0, 0.4, factor=4)
    image = np.stack([wave] * channels, axis=-1) if channels else wave
    power = spectrum(image, 4)
    rings = 2 * math.pi * frequencies(len(power)) * BIN
    assert (power * rings).sum() == pytest.approx(50**2 / 2, rel=0.15)


@pytest.mark.parametrize(("frequency", "expected"), [(2.0, 0.0), (6.0, 50 / math.sqrt(2))])
def test_beyond_the_limit_is_what_pixels_cannot_hold(frequency: float, expected: float) -> None:
    assert beyond(plane_wave(frequency, 0.3, factor=4), 4) == pytest.approx(expected, rel=0.05, abs=0.5)


def test_squares_have_more_beyond_than_the_bicubic_that_made_them_small() -> None:
    small = smaller(HEAD, 8)
    assert beyond(nearest(small, 8), 8) > 3 * beyond(np.asarray(Image.fromarray(small).resize((256, 256))), 8)


def test_wrapping_differs_from_clipping_beyond_the_range_only() -> None:
    values = np.array([-3.0, -0.2, 0.0, 128.4, 255.3, 258.0])
    assert wrapped(values).tolist() == [253, 0, 0, 128, 255, 2]
    assert to_bytes(values).tolist() == [0, 0, 0, 128, 255, 255]


def test_psnr_is_that_of_all_values() -> None:
    assert psnr(EYE, EYE) == math.inf
    assert psnr(EYE // 2, EYE // 2 + 1) == pytest.approx(20 * math.log10(255))


def test_grids_differ_by_half_a_pixel_at_the_ends() -> None:
    small = smaller(EYE, 8)
    field = ns.fit(small, max_steps=2).field
    centres = to_bytes(field(grid_of(small, 4)))
    assert (centres == field.render(RenderGrid.from_shape((16, 16), (1.0, 1.0), scale=4))).mean() > 0.99
    corner = to_bytes(field([[0.5, 0.5], [15.5, 15.5]]))
    assert (at_ends(field, 4)[[0, -1], [0, -1]] == corner).all()


def test_frequencies_are_those_of_the_papers_initialisation() -> None:
    small = smaller(HEAD, 8)
    paper = ns.fit(small, **network(2, 64, 1e-4, 1))
    assert first_layer(paper) == pytest.approx(30 / 2 * 2 / 31)
    wide = ns.fit(small, **network(2, 64, 1e-4, 1), **drawn_from(1.0, 32))
    assert first_layer(wide) == pytest.approx(2 * first_layer(paper))
    siren, unit = wide.field.siren, wide.field.blend.coordinate_scale[0]
    largest = siren.omega_0 * float(siren.spec.weights(siren.theta)[0].abs().max()) * unit
    assert 0.9 * first_layer(wide) < largest < 1.05 * first_layer(wide)


def test_layers_are_those_of_the_network() -> None:
    row = smaller(HEAD, 8)[9, :, 1]
    result = ns.fit(row, tile="whole", hidden_layers=2, hidden_features=8, max_steps=5)
    x = np.linspace(0.2, 31.8, 7)
    first, second = layers(result, x)
    assert first.shape == second.shape == (8, 7)
    siren, blend = result.field.siren, result.field.blend
    weight, bias = siren.spec.weights(siren.theta)[-1][0], siren.spec.biases(siren.theta)[-1][0]
    output = blend.offset.numpy() + blend.scale.numpy() * (weight.numpy() @ second + bias.numpy())
    layout = result.field.layout
    assert output[0] * layout.scale + layout.offset == pytest.approx(result.field(x[:, np.newaxis]), abs=0.01)


def test_a_curve_has_a_point_where_it_was_looked_at() -> None:
    history = History(seconds=[1.0, 2.0, 3.0, 4.0], psnr=[10.0, 10.0, 20.0, 20.0])
    seconds, values = when_looked_at(history)
    assert seconds.tolist() == [1.0, 3.0]
    assert values.tolist() == [10.0, 20.0]


# ---- tables, pictures, sections --------------------------------------------------------------------------------------


def test_a_table_is_written_into_its_place() -> None:
    table = Table(["", "a", "b"], ["", ".1f", ",.0f"])
    table.add("x", math.inf, 1500)
    table.add("y", 2.25, math.nan)
    assert table.markdown() == "|  | a | b |\n|---|---|---|\n| x | exact | 1,500 |\n| y | 2.2 |  |"
    page = "before\n\n<!-- one -->\nold\n<!-- end -->\n\n<!-- two -->\n<!-- end -->\n"
    filled = study.fill(page, {"one": table})
    assert filled == page.replace("old\n", f"\n{table.markdown()}\n\n")
    assert study.fill(filled, {"one": table}) == filled
    with pytest.raises(ValueError, match="three"):
        study.fill(page, {"three": table})


def test_panels_stand_side_by_side(tmp_path: Path) -> None:
    panels(tmp_path / "a.png", {"red": np.full((8, 10, 3), (255, 0, 0), np.uint8), "eye": EYE[:8, :10]}, columns=2)
    sheet = imread(tmp_path / "a.png")
    assert sheet.shape == (30, 26, 3)
    assert (sheet[22:, :10] == (255, 0, 0)).all()
    assert (sheet[22:, 16:] == EYE[:8, :10]).all()


def test_plots_are_drawn(tmp_path: Path) -> None:
    x = np.arange(1.0, 5.0)
    plot = Plot("title", "x", "y", {"bicubic": (x, x)}, dots=(x, x), log_x=True)
    plots(tmp_path / "a.png", plot, plot)
    assert imread(tmp_path / "a.png").shape[:2] == (360, 800)


def test_a_fit_that_is_asked_for_twice_is_done_once(short: Study) -> None:
    first = short.fit(EYE[:16, :16], seed=1)
    assert short.fit(EYE[:16, :16], seed=1) is first
    assert short.fit(EYE[:16, :16], seed=2) is not first
    assert first.history.step[-1] == 2


@pytest.mark.parametrize("name", ["siren", "noise", "wrapping", "cifar", "width_one"])
def test_sections_run(name: str, short: Study) -> None:
    (short.data / "cifar").mkdir()
    imsave(short.data / "cifar" / "a.png", smaller(HEAD, 8), check_contrast=False)
    report: dict[str, dict[str, object]] = {}
    tables = study.run(short, [name], report)
    page = "".join(f"<!-- {table} -->\n<!-- end -->\n" for table in tables)
    assert all(len(row) == len(table.head) for table in tables.values() for row in table.rows)
    assert study.fill(page, tables).count("\n|---|") == len(tables)
    assert report[name]["machine"]["threads"] == 1
    assert name == "cifar" or list(short.out.glob("*.png"))


def test_what_is_wrong_is_a_share_of_the_truth(short: Study) -> None:
    section = Section()
    pictures = {"the photograph": EYE, "half": EYE // 2, "all": EYE.copy()}
    draw_spectra(short, section, "picture", pictures, EYE, 2)
    assert list(section.spectra) == ["picture", "picture, error"]
    assert section.spectra["picture, error"]["half"] == pytest.approx([0.25] * 16, rel=0.05)
    assert section.spectra["picture, error"]["all"] == [0] * 16
    assert (short.out / "picture_plot.png").is_file()


def test_a_naive_network_is_free_between_the_pixels() -> None:
    small = smaller(HEAD, 8)
    wild, calm = (ns.fit(small, **options) for options in (naive(32) | {"max_steps": 100}, {"max_steps": 100}))
    assert beyond(wild.render(scale=8), 8) > 2 * beyond(calm.render(scale=8), 8)


def test_the_page_has_the_tables_of_the_report() -> None:
    report = json.loads((ROOT / "docs/benchmarks/study-cpu.json").read_text(encoding="utf-8"))
    tables = {name: Table(**table) for section in report.values() for name, table in section["tables"].items()}
    page = (ROOT / "docs/study.md").read_text(encoding="utf-8")
    assert set(report) == set(study.SECTIONS)
    assert study.fill(page, tables) == page
