from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import fit, peers
from benchmarks import peer as peer_module
from benchmarks.ceilings import QUICK
from benchmarks.curve import PUBLISHED, TARGETS, Curve, mean_curve
from benchmarks.peer import PLAIN, RECIPES, Peer, fit_peer, seconds_per_step
from benchmarks.peer_networks import MixedPrecision, Unavailable, plain_siren, siren_pytorch
from benchmarks.peers_plot import plot

RECIPE = {recipe.name: recipe for recipe in RECIPES}
EAGER = [recipe for recipe in RECIPES if not recipe.fast and not recipe.cuda_only]


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    rows, columns = np.indices((16, 16))
    waves = [np.sin(rows / 3), np.cos(columns / 4), np.sin((rows + columns) / 5)]
    return np.stack([127 + 100 * wave for wave in waves], axis=-1).astype(np.uint8)


def curve(*moments: tuple[float, float], name: str = "some", step: float = 1.0) -> Curve:
    made = Curve(name, f"image {len(moments)}", parameters=10, steps=3, step_seconds=step)
    for seconds, psnr in moments:
        made.add(seconds, psnr)
    return made


# ---- what is read off a curve ------------------------------------------------------------------------------


def test_seconds_to_a_psnr_and_psnr_at_a_moment() -> None:
    some = curve((1, 20), (2, math.nan), (3, 35), (4, 31), (5, math.inf))
    assert some.seconds == [1, 3, 4, 5]  # nan is no measurement
    assert [some.seconds_to(target) for target in (20, 30, 36, 101)] == [1, 3, 5, None]
    assert [some.psnr_at(moment) for moment in (0.5, 1, 4.5)] == [None, 20, 35]


def test_the_mean_over_images_begins_where_all_have_begun() -> None:
    seconds, psnr = mean_curve([curve((1, 10), (4, 30)), curve((2, 20), (3, 40))])
    assert seconds == [2, 3, 4]
    assert psnr == [15, 25, 35]


def test_a_target_that_one_image_misses_has_no_time() -> None:
    curves = [curve((2, 31), (8, 45)), curve((4, 30), (6, 43)), curve((9, 9), name=PLAIN.name, step=4.0)]
    some, plain = peers.summarise(curves, limit=5.0)
    assert some["seconds_to"]["30"] == 3
    assert some["seconds_to"]["44"] is None
    assert some["psnr_at"]["5"] == 30.5
    assert some["seconds"] == 7
    assert some["plain_steps_to_44"] is None
    assert plain["psnr_at"]["5"] is None
    alone = peers.summarise([curves[0], curves[2]], limit=5.0)[0]
    assert alone["plain_steps_to_44"] == 2


# ---- peers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", EAGER, ids=lambda recipe: recipe.name)
def test_a_peer_learns(recipe: peer_module.Recipe, image: np.ndarray) -> None:
    if recipe.name == "siren-pytorch":
        pytest.importorskip("siren_pytorch")
    peer = Peer(recipe, image, "cpu")
    before = peer.psnr()
    for _ in range(40):
        peer.step()
    assert peer.psnr() > before + 5


def test_a_step_over_chunks_is_a_step_over_every_pixel(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(PLAIN, fast=True)
    whole = Peer(recipe, image, "cpu")
    losses = [whole.step() for _ in range(3)]
    monkeypatch.setattr(peer_module, "CPU_CHUNK", 100)  # 256 pixels: the last chunk is shorter
    chunked = Peer(recipe, image, "cpu")
    assert [chunked.step() for _ in range(3)] == pytest.approx(losses, rel=1e-2)
    assert chunked.psnr() == pytest.approx(whole.psnr(), abs=0.1)


def test_random_batches_see_every_pixel_once_a_pass(image: np.ndarray) -> None:
    peer = Peer(replace(PLAIN, batch=100), image, "cpu")
    seen: list[torch.Tensor] = []
    network = peer.forward
    peer.forward = lambda x: (seen.append(x), network(x))[1]
    for _ in range(3):
        peer.step()
    assert [len(x) for x in seen] == [100, 100, 56]
    assert len(torch.cat(seen).unique(dim=0)) == 256


def test_the_rate_follows_the_passes_and_the_batch(image: np.ndarray) -> None:
    peer = Peer(replace(RECIPE["WIRE"], batch=64, decay_epochs=1), image, "cpu")
    rates = []
    for _ in range(6):
        peer.step()
        rates.append(peer.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([5e-3 / 4 * 0.1 ** min(1, step / 4) for step in range(6)])


@pytest.mark.parametrize("make", [plain_siren, siren_pytorch])
def test_half_precision_is_the_same_network(make) -> None:
    if make is siren_pytorch:
        pytest.importorskip("siren_pytorch")
    network, x = make(3), torch.rand(50, 2)
    with torch.no_grad():
        exact, low_precision = network(x), MixedPrecision(network)(x)
    assert low_precision.dtype == torch.float32
    assert not torch.equal(exact, low_precision)
    assert (exact - low_precision).abs().max() < 0.1 * exact.std()


def test_neither_measuring_nor_compiling_is_counted(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def takes(seconds: float, result: float):
        def method(self: Peer) -> float:
            now[0] += seconds
            return result

        return method

    monkeypatch.setattr("napari_siren.core.clock.time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(Peer, "compile", takes(1000.0, 7.0))
    monkeypatch.setattr(Peer, "step", takes(2.0, 0.0))
    monkeypatch.setattr(Peer, "psnr", takes(500.0, 33.0))
    found = fit_peer(PLAIN, "image", image, "cpu", limit=101.0)
    assert found.steps == 51
    assert found.step_seconds == 2
    assert found.compile_seconds == 7
    assert found.seconds[:3] == [2, 4, 6]
    assert found.seconds[-1] == 102  # the last is always measured
    gaps = np.diff(found.seconds)
    assert gaps[-2] == 6  # later ones more rarely
    assert (gaps <= np.maximum(2, 2 + 0.05 * np.array(found.seconds[:-1]))).all()


def test_a_peer_that_is_not_there_says_what_to_do(image: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "siren_pytorch", None)
    with pytest.raises(Unavailable, match="pip install"):
        Peer(RECIPE["siren-pytorch"], image, "cpu")
    with pytest.raises(Unavailable, match="GPU"):
        Peer(RECIPE["hash grid"], image, "cpu")


def test_seconds_of_the_first_steps(image: np.ndarray) -> None:
    assert len(seconds_per_step(image, "cpu", steps=2)) == 2


# ---- all together --------------------------------------------------------------------------------------------


def test_a_run_is_written_and_drawn(
    image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out" / "peers.json"
    pictures = {"one": image, "two": image[:, ::-1]}
    # Compiling takes long.
    monkeypatch.setattr(peers, "RECIPES", (PLAIN, RECIPE["hash grid"]))
    peers.run(pictures, "cpu", 0.05, "", path)
    report = json.loads(path.read_text(encoding="utf-8"))
    rows = {row["contender"]: row for row in report["contenders"]}
    assert {"ours, faithful", "ours, paper", PLAIN.name} <= set(rows)
    assert set(rows[PLAIN.name]["seconds_to"]) == {f"{target:g}" for target in TARGETS}
    assert rows["ours, fast"]["psnr"] > rows[PLAIN.name]["psnr"]
    assert "GPU" in report["skipped"]["hash grid"]
    told = capsys.readouterr().out
    assert all(f"{entry['name']} (published, V100)" in told for entry in PUBLISHED)

    plot(report, tmp_path / "figures" / "peers.png")
    with Image.open(tmp_path / "figures" / "peers.png") as drawn:
        assert drawn.size == (1600, 1000)
        assert len(drawn.convert("RGB").getcolors(1600 * 1000)) > 50


def test_nothing_to_fit_is_an_error(image: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "RECIPES", (RECIPE["hash grid"],))
    with pytest.raises(SystemExit, match="hash grid"):
        peers.run({"one": image}, "cpu", 0.05, "hash grid", tmp_path / "peers.json")


# ---- the fitting benchmark -----------------------------------------------------------------------------------


def test_the_benchmark_of_fits_tells_how_near_a_step_is_to_its_floor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for size, folder in ((96, "kodak"), (80, "div2k16")):
        rows, columns = np.indices((size, size))
        picture = np.stack([127 + 100 * np.sin(rows / n + columns / 5) for n in (3, 4, 5)], axis=-1).astype(np.uint8)
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            Image.fromarray(picture).save(tmp_path / folder / f"{name}.png")
    monkeypatch.setattr(fit, "EFFORT", QUICK)
    monkeypatch.setattr(fit, "import_milliseconds", lambda: 1.0)
    out = tmp_path / "new" / "fit.json"
    fit.main(["--data", str(tmp_path), "--json", str(out), "--images", "1"])
    report, told = json.loads(out.read_text(encoding="utf-8")), capsys.readouterr().out
    assert list(report["kodak"]["images"]) == list(report["div2k16"]["images"]) == ["a"]
    assert report["kodak"]["mean"]["seconds_in_peer_steps"] > 0
    floor = report["floor"]
    assert floor["floor_share_of_step"] == pytest.approx(floor["floor_seconds"] / floor["step_seconds"])
    assert f"{floor['floor_share_of_step']:.0%} of it ({report['machine']['cpu']})" in told
