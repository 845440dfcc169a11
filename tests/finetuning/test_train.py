"""Training on one's own images: it helps where images are special, and keeps the general weights where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import napari_siren as ns
from napari_siren.core.degradation.camera import deviation
from napari_siren.core.pretrained_network.weights import load_network, load_tensors
from napari_siren.core.pretraining.planes import noise_parameters
from napari_siren.core.pretraining.trainer import Plan, Trainer
from napari_siren.core.restoration.pretrained.weights import package_weights
from napari_siren.finetuning import train as module
from napari_siren.io.images import write_image


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that sets the number of steps, so that results do not depend on the load of the machine."""

    def set_steps(count: int) -> None:
        monkeypatch.setattr(module, "Plan", lambda minutes, _, *rest, **named: Plan(minutes, count, *rest, **named))

    return set_steps


def stripes(number: int, side: int = 64) -> np.ndarray:
    """Return sharp stripes of a random direction and period, 0 to 1."""
    rng = np.random.default_rng(number)
    angle, period, phase = rng.uniform(0, np.pi), rng.uniform(5, 9), rng.uniform(0, 6)
    y, x = np.mgrid[:side, :side]
    wave = np.sin(2 * np.pi / period * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    return 1 / (1 + np.exp(-12 * wave))


def write_stripes(folder: Path, count: int = 6, noise: float = 0.0, side: int = 64) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        image = 1000 + 20000 * stripes(number, side)
        image += 20000 * noise * np.random.default_rng(number).normal(size=image.shape)
        write_image(folder / f"{number}.tif", image.clip(0).astype(np.uint16), "YX")
    return folder


@pytest.mark.parametrize(("task", "count", "side", "gain"), [("enlarge", 40, 64, 0.8), ("denoise", 14, 48, 0.3)])
def test_training_on_special_images_helps(
    task: Any, count: int, side: int, gain: float, tmp_path: Path, steps: Any
) -> None:
    steps(count)
    folder, out = write_stripes(tmp_path / "stripes", side=side), tmp_path / "mine.safetensors"
    result = ns.train(folder, out, task=task, noisy=False)
    assert result.gain > gain
    assert result.helped
    assert (result.steps, result.noisy, result.stopped) == (count, False, False)
    assert (len(result.images), len(result.held_out)) == (5, 1)
    assert all(path.is_file() for path in result.files.values())
    assert not (tmp_path / "mine.checkpoint").exists()
    _, metadata = load_tensors(out)
    assert metadata["scores"] == result.scores
    assert metadata["general"]["sha256"] == package_weights(result.general).sha256

    image = stripes(99, 40)
    preset, other = ("upscale", "denoise") if task == "enlarge" else ("denoise", "upscale")
    fitted = ns.fit(image, preset=preset, pretrained=str(out), max_steps=8)
    assert fitted.provenance["pretrained"]["weights"] == str(out)
    with pytest.raises(ns.ConfigError, match="these weights are for"):
        ns.fit(image, preset=other, pretrained=str(out), max_steps=8)


def threads(number: int, side: int = 64) -> np.ndarray:
    """Return bright straight threads on a dark background, 0.05 to 1."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:side, :side]
    image = np.full((side, side), 0.05)
    for _ in range(6):
        angle, row, column, height = rng.uniform((0, 0, 0, 0.5), (np.pi, side, side, 1))
        distance = (x - column) * np.cos(angle) + (y - row) * np.sin(angle)
        image = np.maximum(image, np.exp(-((distance / 1.2) ** 2)) * height)
    return image


def test_noisy_images_alone_are_enough(tmp_path: Path, steps: Any) -> None:
    """The estimated gain is a real one: unseen images are closer to the truth, which is in no file."""
    steps(15)
    photons = [np.random.default_rng(n).poisson(20 * threads(n)).astype(np.float32) for n in range(9)]
    for number, image in enumerate(photons[:6]):
        write_image(tmp_path / f"{number}.tif", image, "YX")
    result = ns.train(tmp_path, tmp_path / "mine.safetensors", task="denoise")
    assert (result.noisy, list(result.scores)) == (True, ["noisy"])
    assert result.gain > 0.1
    assert "The images are noisy" in result.files["card"].read_text()
    errors = {"own": 0.0, "general": 0.0}
    for name, network in (("own", load_network(result.path)), ("general", package_weights(result.general).network)):
        for number in range(6, 9):
            low, high = np.percentile(photons[number], (0.1, 99.9))
            plane = torch.from_numpy((photons[number] - low) / (high - low)).float()[None]
            model = torch.tensor(noise_parameters(plane[0].numpy()))[:, None]
            with torch.no_grad():
                output = network(torch.stack([plane, deviation(plane, *model)], dim=1), (64, 64))[0]
            errors[name] += float(np.square(output.numpy() - (20 * threads(number) - low) / (high - low)).mean())
    assert errors["own"] < 0.97 * errors["general"]


def test_the_general_weights_are_kept_if_the_training_does_not_help(
    tmp_path: Path, steps: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps(5)
    # Steps that are much too large.
    monkeypatch.setattr(Trainer, "rate", lambda self, step: 100.0)
    result = ns.train(write_stripes(tmp_path / "stripes", 3), tmp_path / "mine.safetensors")
    assert (result.helped, result.gain) == (False, 0.0)
    kept, general = load_network(result.path), package_weights("enlarge").network
    for one, other in zip(kept.parameters(), general.parameters(), strict=True):
        assert torch.equal(one, other)
    assert "better than the general weights" in result.files["card"].read_text()


def test_a_stopped_training_goes_on(tmp_path: Path, steps: Any) -> None:
    steps(10)
    folder, out = write_stripes(tmp_path / "stripes", 3), tmp_path / "mine.safetensors"
    seen: list[ns.TrainProgress] = []

    def stop(progress: ns.TrainProgress) -> str | None:
        seen.append(progress)
        return "stop" if progress.step >= 5 else None

    first = ns.train(folder, out, on_progress=stop)
    assert (first.stopped, first.steps) == (True, 5)
    assert out.is_file()
    assert [progress.phase for progress in seen] == ["read", "prepare", "train", "train"]
    second = ns.train(folder, out, on_progress=seen.append)
    assert (second.stopped, second.steps) == (False, 10)
    assert seen[-1].general_score == pytest.approx(second.general_score)
    assert not (tmp_path / "mine.checkpoint").exists()


def test_a_killed_training_goes_on(tmp_path: Path, steps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    steps(10)
    folder, out = write_stripes(tmp_path / "stripes", 3), tmp_path / "mine.safetensors"
    whole = ns.train(folder, out)
    weights = load_tensors(out)[0]
    out.unlink()
    monkeypatch.setattr("napari_siren.core.pretraining.trainer._SAVE_EVERY", 0.0)

    def die(progress: ns.TrainProgress) -> None:
        if progress.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ns.train(folder, out, on_progress=die)
    assert not out.exists()
    again = ns.train(folder, out)
    assert again.scores == pytest.approx(whole.scores, abs=1e-3)
    for name, tensor in load_tensors(out)[0].items():
        torch.testing.assert_close(tensor, weights[name])


def test_a_checkpoint_of_other_images_is_refused(tmp_path: Path, steps: Any) -> None:
    steps(10)
    folder, out = write_stripes(tmp_path / "stripes", 3), tmp_path / "mine.safetensors"
    ns.train(folder, out, on_progress=lambda progress: "stop")
    ns.train(folder, out, on_progress=lambda progress: "stop" if progress.step else None)
    write_stripes(folder, 4)
    with pytest.raises(ns.ConfigError, match="other settings or images"):
        ns.train(folder, out)
    assert ns.train(folder, out, resume=False).steps == 10


def test_a_single_image_is_enough(tmp_path: Path, steps: Any, capsys: pytest.CaptureFixture[str]) -> None:
    steps(5)
    result = ns.train(write_stripes(tmp_path / "stripes", 1, side=96), tmp_path / "mine.safetensors", progress=True)
    assert "train: 100%" in capsys.readouterr().err
    assert result.images == result.held_out == ("0.tif",)
    assert "a quarter of 0.tif" in result.files["card"].read_text()
    assert result.files["picture"].is_file()


def test_without_matplotlib_there_is_no_picture(
    tmp_path: Path, steps: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    steps(2)
    monkeypatch.setattr("napari_siren.finetuning.train.can_plot", lambda: False)
    result = ns.train(write_stripes(tmp_path / "stripes", 1, side=96), tmp_path / "mine.safetensors")
    assert sorted(result.files) == ["card", "log", "weights"]
    assert not list(tmp_path.glob("*.png"))
    assert 'pip install "napari-siren[plots]"' in caplog.text


def test_the_state_of_generators_is_left_alone(tmp_path: Path, steps: Any) -> None:
    steps(5)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    ns.train(write_stripes(tmp_path / "stripes", 2), tmp_path / "mine.safetensors")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"task": "sharpen"}, ns.ConfigError, "task='sharpen' is unknown. Choose 'enlarge' or 'denoise'"),
        ({"minutes": 0}, ns.ConfigError, "positive number"),
        ({"minutes": float("nan")}, ns.ConfigError, "positive number"),
        ({"noisy": True}, ns.ConfigError, "noisy=True is for task='denoise'"),
        ({"out": "mine.pt"}, ns.InputError, "ending in .safetensors"),
        ({"out": "missing/mine.safetensors"}, ns.StorageError, "Create it first"),
        ({"folder": "missing"}, ns.InputError, "has no images"),
        ({"device": "cuda:99"}, ns.DeviceError, "not available"),
    ],
)
def test_wrong_arguments_are_reported_before_the_training(
    arguments: dict[str, Any], error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_stripes(tmp_path / "stripes", 2))
    with pytest.raises(error, match=message):
        ns.train(**{"folder": ".", "out": "mine.safetensors", **arguments})
    assert not list(Path().glob("mine*"))
