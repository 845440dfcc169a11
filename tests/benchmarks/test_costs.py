"""What the benchmarks count, against counts by hand and by PyTorch; and that they run."""

# ruff: noqa: E402 (the benchmarks are modules of the project's folder, not of the package)

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.io import imread
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("the benchmarks are not part of this copy", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks import proportion, roofline
from benchmarks.ceilings import QUICK, lower_quartile
from benchmarks.costs import count_step, orthogonalisation_operations, product_operations
from napari_siren.core.engines import TorchEngine
from napari_siren.core.network.optimizer import Optimizer
from napari_siren.core.network.siren import NetworkSpec, Siren
from napari_siren.core.settings.config import FitConfig
from napari_siren.io.images import sample_path

CPU = torch.device("cpu")
# Layers of 2 x 4, 4 x 4 and 4 x 3: 8, 16 and 12 weights, and 4, 4 and 3 biases; 16 weights move by Muon.
TINY = NetworkSpec(inputs=2, outputs=3, hidden_layers=2, hidden_features=4)


def test_a_step_is_counted_as_by_hand() -> None:
    costs = count_step(FitConfig(), TINY, tiles=5, samples=6, pixels=6)
    assert costs.evaluations == 30
    assert costs.products == 30 * (2 * 36 + 2 * 36 + 2 * 28)
    assert costs.sine_pairs == 30 * 8
    # Three iterations of three products of 4 x 4 x 4.
    assert costs.orthogonalisation == 5 * 3 * 3 * 2 * 64
    assert costs.elementwise == 5 * (13 * 31 + 8 * 16 + 3 * 47)
    # Each way: parameters, gradient, mean weights; two means of 31, a momentum of 16. Then 3 targets and a weight.
    assert costs.memory == 4 * (5 * (2 * (3 * 47 + 2 * 31 + 16) + 6 * 4) + 2 * 6)


def test_adam_alone_orthogonalises_nothing() -> None:
    costs = count_step(FitConfig(optimizer="adam"), TINY, tiles=1, samples=6, pixels=6)
    assert costs.orthogonalisation == 0
    assert costs.elementwise == 13 * 47 + 3 * 47


def test_one_layer_has_nothing_to_orthogonalise() -> None:
    assert orthogonalisation_operations(FitConfig(), NetworkSpec(2, 3, 1, 4)) == 0


def test_samples_within_a_pixel_cost_products_but_no_targets() -> None:
    one, four = (count_step(FitConfig(), TINY, tiles=5, samples=6 * k, pixels=6) for k in (1, 4))
    assert four.products == 4 * one.products
    assert four.memory - one.memory == 4 * 2 * 18


@pytest.mark.parametrize("shape", [TINY, NetworkSpec(3, 1, 1, 7), NetworkSpec(1, 2, 4, 5)])
def test_products_are_those_that_pytorch_counts(shape: NetworkSpec) -> None:
    siren = Siren(shape, torch.ones(3, shape.parameters, requires_grad=True), 1.0)
    with FlopCounterMode(display=False) as counter:
        siren.forward(torch.ones(1, shape.inputs, 11)).sum().backward()
    assert counter.get_total_flops() == 3 * 11 * product_operations(shape)


def test_orthogonalisation_is_what_pytorch_counts() -> None:
    shape = NetworkSpec(2, 3, 4, 6)
    with FlopCounterMode(display=False) as counter:
        TorchEngine(CPU).orthogonalise(torch.ones(3, 3, 6, 6))
    assert counter.get_total_flops() == 3 * orthogonalisation_operations(FitConfig(), shape)


@pytest.mark.parametrize("kind", ["muon", "adam"])
def test_the_memory_is_that_of_the_tensors(kind: str) -> None:
    config = FitConfig(optimizer=kind)
    theta = torch.zeros(5, TINY.parameters)
    state = Optimizer(config, TINY, theta).state()
    each_way = 3 * theta.nbytes + sum(tensor.nbytes for name, tensor in state.items() if name != "count")
    once = sum(torch.zeros(shape).nbytes for shape in ((5, 3, 6), (5, 6), (2, 6)))
    assert count_step(config, TINY, tiles=5, samples=6, pixels=6).memory == 2 * each_way + once


@pytest.mark.parametrize("preset", roofline.SUBJECTS)
def test_a_strip_stands_for_the_whole_image(preset: str) -> None:
    image = imread(sample_path())[:64, :96]
    subject = roofline.Subject.from_preset(preset, image, CPU, QUICK)
    whole = roofline.TileTrainer(roofline.Samples.from_array(image), FitConfig.preset(preset), CPU, 0)
    assert subject.costs.evaluations == whole.siren.tiles * whole.batches[0].x.shape[2]
    assert (subject.scale > 1) == (preset == "paper")


def test_a_prediction_is_work_over_ceilings() -> None:
    costs = count_step(FitConfig(), TINY, tiles=5, samples=6, pixels=6)
    found = roofline.predict(costs, product=100.0, sines={"forward": 24.0, "pairs": 10.0}, copy=1000.0)
    assert found["products"] == 60
    assert found["sines"] == 10
    assert found["back"] == 14
    assert found["memory"] == costs.memory / 1000
    verdict = roofline.judge(costs, {"gradient": 120.0, "step": 240.0}, found, width=100.0)
    assert verdict["share"]["width"]["gradient"] == 0.5
    assert verdict["bounded_by"] == max(found, key=lambda part: found[part])
    assert verdict["floor"] == pytest.approx(verdict["sum"] - 14)


def test_the_lower_quartile_leaves_out_what_was_disturbed() -> None:
    assert lower_quartile([9.0, 1.0, 50.0, 2.0, 3.0]) == 2.0
    assert lower_quartile([4.0]) == 4.0


def test_a_mosaic_is_of_the_photographs() -> None:
    lying, standing = np.full((4, 6, 3), 100, np.uint8), np.full((6, 4, 3), 200, np.uint8)
    picture = proportion.mosaic([lying, standing], (7, 11))
    assert picture.shape == (7, 11, 3)
    assert picture.dtype == np.uint8
    # Panels of 4 x 6 in turn, each darker by up to 30 %.
    for panel, value in (
        (picture[:4, :6], 100),
        (picture[:4, 6:], 200),
        (picture[4:, :6], 100),
        (picture[4:, 6:], 200),
    ):
        assert 0.7 * value - 1 <= panel.min() <= panel.max() <= value
    assert (picture == proportion.mosaic([lying, standing], (7, 11))).all()


@pytest.mark.parametrize("megapixels", proportion.SIZES)
def test_sizes_are_three_to_two(megapixels: float) -> None:
    rows, columns = proportion.shape_of(megapixels)
    assert rows * columns == pytest.approx(megapixels * 1e6, rel=2e-3)
    assert columns == pytest.approx(1.5 * rows, abs=0.5)


def test_ratios_are_to_the_reference() -> None:
    seconds = {0.1: 1.0, 0.4: 2.0, 4.0: 40.0}
    rows: list[dict[str, Any]] = [
        {"megapixels": size, "seconds": dict.fromkeys(proportion.PHASES, time)} for size, time in seconds.items()
    ]
    proportion.compare(rows)
    assert [row["ratio"]["step"] for row in rows] == pytest.approx([2.0, 1.0, 2.0])


def test_the_roofline_runs(tmp_path: Path) -> None:
    out = tmp_path / "new" / "roofline.json"
    roofline.main(["--quick", "--json", str(out)])
    report = json.loads(out.read_text())
    assert set(report["presets"]) == set(roofline.SUBJECTS)
    for row in report["presets"].values():
        assert "float32" in row["precisions"]
        for part in row["precisions"].values():
            assert all(value > 0 for value in part["seconds"].values())
            assert part["seconds"]["step"] >= part["seconds"]["update"]


def test_the_growth_runs(tmp_path: Path) -> None:
    out = tmp_path / "proportion.json"
    proportion.main(["--quick", "--data", str(tmp_path), "--json", str(out)])
    report = json.loads(out.read_text())
    assert report["refused"] == {}
    small, large = report["sizes"]
    assert small["megapixels"] < large["megapixels"]
    assert small["photographs"] == 1
    assert large["ratio"]["step"] == 1
    assert large["peak_bytes"] >= large["bytes_before"] > 0
    assert report["rendering"]["fast"]["4"]["megapixels"] == pytest.approx(16 * 32 * 48 / 1e6)


def test_a_fit_that_is_refused_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(job: proportion.Job) -> dict[str, Any]:
        if job.megapixels > 0.003:
            raise proportion.SirenError("too large")
        return measure(job)

    measure = proportion.measure
    monkeypatch.setattr(proportion, "measure", refuse)
    proportion.main(["--quick", "--data", str(tmp_path), "--json", str(tmp_path / "out.json")])
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["refused"] == {"0.004": "too large"}
    assert len(report["sizes"]) == 1


@pytest.mark.slow
def test_a_size_has_a_process_of_its_own(tmp_path: Path) -> None:
    ballast = np.ones(100_000_000, np.uint8)
    found = proportion.measure_apart(proportion.Job(0.002, "fast", 2, "cpu", tmp_path))
    assert found["peak_bytes"] - found["bytes_before"] < ballast.nbytes
