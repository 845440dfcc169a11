"""The training of the weights that enlarging begins with, at sizes that take seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training import export, judging, photographs, resampling, run, sines, storage
from training.lesson import Lesson
from training.network import Enlarger, Shape
from training.optimizer import Optimizer
from training.photographs import Photographs
from training.settings import Settings, read
from training.trainer import CHECKPOINT, LOG, Plan, Trainer

SET5 = Path(__file__).parents[2] / "shared" / "data" / "sr" / "Set5"
CPU = torch.device("cpu")
TINY = Settings().with_changes(
    {
        "network": {"features": 16, "dilations": [1], "width": 16},
        "crop": 16,
        "batch": 4,
        "outputs": [[32, 1.0], [40, 0.2]],
        "warm_up": 5,
        "chunk": 5,
        "averaging": 0.9,
        "held_out": ["b.png"],
        "validation_crop": 48,
    }
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pictures(count: int, side: int = 112) -> list[np.ndarray]:
    """Discs with sharp edges, which interpolation blurs."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    images = []
    for _ in range(count):
        image = np.full((side, side, 3), 40.0)
        for _ in range(30):
            row, column, radius = [*rng.uniform(0, side, 2).tolist(), rng.uniform(3, 15)]
            image[(y - row) ** 2 + (x - column) ** 2 < radius**2] = rng.uniform(0, 255, 3)
        images.append(image.astype(np.uint8))
    return images


def trainer(out: Path, steps: int, settings: Settings = TINY) -> Trainer:
    plan = Plan(1.0, steps, CPU, torch.float32, 0, out)
    images = pictures(4)
    return Trainer(settings, plan, images[1:], images[:1])


def test_a_short_training_beats_bicubic_interpolation(tmp_path: Path) -> None:
    one = trainer(tmp_path, 200, TINY.with_changes({"muon_rate": 0.03, "batch": 8, "chunk": 20}))
    one.train()
    assert min(one.gains.values()) > 0.5
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert lines[-1]["step"] == 200
    assert lines[-1]["samples"] == 1600


def test_a_killed_training_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = trainer(tmp_path, 20)
    whole.train()
    killed = trainer(tmp_path, 20)
    take = killed._take

    def take_and_die(drawn):
        if killed.step == 10:
            killed.save()
            raise KeyboardInterrupt
        return take(drawn)

    killed._take = take_and_die
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    again = trainer(tmp_path, 20)
    assert again.resume()
    assert again.step == 10
    again.train()
    assert again.step == 20
    for one, other in zip(whole._tensors(), again._tensors(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path, 5).save()
    with pytest.raises(ValueError, match="other settings"):
        trainer(tmp_path, 5, TINY.with_changes({"batch": 3})).resume()


def test_after_a_mishap_it_goes_back_and_takes_smaller_steps(tmp_path: Path) -> None:
    one = trainer(tmp_path, 5)
    good = [tensor.detach().clone() for tensor in one._tensors()]
    one.network.kernels.data.fill_(float("nan"))
    one._after(float("nan"), 1.0, 5)
    assert one.factor == 0.5
    for tensor, was in zip(one._tensors(), good, strict=True):
        torch.testing.assert_close(tensor.detach(), was)


def test_the_command_writes_weights_that_load_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    data, out, test = tmp_path / "data", tmp_path / "out", tmp_path / "set"
    for folder in (data, test / "image_SRF_2"):
        folder.mkdir(parents=True)
    for name, image in zip("abcd", pictures(4), strict=True):
        Image.fromarray(image).save(data / f"{name}.png")
    image = Image.open(data / "a.png")
    image.save(test / "image_SRF_2" / "1_HR.png")
    image.resize((56, 56), Image.Resampling.BICUBIC).save(test / "image_SRF_2" / "1_LR.png")
    config = tmp_path / "tiny.toml"
    config.write_text(
        'crop = 16\nbatch = 2\noutputs = [[32, 1.0]]\nchunk = 4\nheld_out = ["b.png"]\nvalidation_crop = 48\n'
        "[network]\nfeatures = 8\ndilations = [1]\nwidth = 8\n"
    )
    command = ["enlarge", "--data", str(data), "--steps", "8", "--out", str(out), "--config", str(config)]
    found = run.enlarge(run._parser().parse_args([*command, "--device", "cpu", "--test", str(test)]))
    assert found["steps"] == 8
    assert set(found["sets"]["set"]["x2"]) == set(judging.WAYS)
    printed = capsys.readouterr().out
    assert "samples/s" in printed
    assert len(printed.splitlines()) < 30
    assert found["data"] in (out / export.CARD).read_text()

    network = export.load(out / export.WEIGHTS)
    tensors, facts = storage.load_tensors(out / export.WEIGHTS)
    assert facts["steps"] == 8
    assert all(tensor.dtype == torch.float16 for tensor in tensors.values())
    saved, _ = storage.load_tensors(out / CHECKPOINT)
    assert len(saved) > len(tensors)
    again = tmp_path / "again"
    again.mkdir()
    export.save(network, again, {})
    image = torch.rand(1, 9, 11)
    torch.testing.assert_close(export.load(again / export.WEIGHTS)(image, (20, 30)), network(image, (20, 30)))


def test_settings_are_those_of_the_class() -> None:
    assert read(Path(run.__file__).with_name("enlarge.toml")) == Settings()
    with pytest.raises(ValueError, match="no such settings: batches"):
        Settings().with_changes({"batches": 1})


def test_crops_are_turned_parts_of_the_photographs() -> None:
    images = [np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)]
    store = Photographs(images, 0.0, 20, CPU)
    drawn = store.draw(np.random.default_rng(1), 32, 20, 1)
    whole = torch.from_numpy(images[0]).permute(2, 0, 1).float() / 255
    places = whole.unfold(1, 20, 1).unfold(2, 20, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
    turns = set()
    for crop in store.crops(torch.from_numpy(drawn), 20):
        eight = [f(torch.rot90(crop, k, (1, 2))) for k in range(4) for f in (lambda x: x, lambda x: x.flip(2))]
        found = [turn for turn, one in enumerate(eight) if (places == one).flatten(1).all(1).any()]
        assert len(found) == 1
        turns.add(found[0])
    assert len(turns) == 8


def test_crops_with_more_gradient_are_taken() -> None:
    image = np.zeros((64, 256, 3), dtype=np.uint8)
    image[:, 192:] = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    store = Photographs([image], 0.0, 32, CPU)

    def share(candidates: int) -> float:
        drawn = store.draw(np.random.default_rng(1), 200, 32, candidates)
        return float((store.crops(torch.from_numpy(drawn), 32).flatten(1).amax(1) > 0).float().mean())

    assert share(3) > share(1) + 0.2


def test_what_a_crop_is_made_of_is_what_the_whole_image_would_be() -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    settings = TINY.with_changes({"crop": 16, "outputs": [[32, 1.0]], "batch": 1})
    network = Enlarger(settings.network, torch.Generator())
    optimizer = Optimizer(network.hidden(), [network.kernel_in], 0.01, 1e-3, 0.9, 1.0)
    lesson = Lesson(network, optimizer, Photographs([image], 0.0, 40, CPU), settings, CPU, torch.float32)
    margin = (lesson.sides[32] - 32) // 2
    first = 20 - margin
    lesson._drawn.copy_(torch.tensor([[first * 96 + first, 96, 1]]))
    coarse, fine = lesson.pair(32)
    whole = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    matrix = resampling.coarser(96, 48)
    torch.testing.assert_close(coarse[0], resampling.luminance(resampling.shrunk(matrix, matrix, whole))[10:26, 10:26])
    torch.testing.assert_close(fine[0], resampling.luminance(whole)[20:52, 20:52])


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.skipif(not SET5.exists(), reason="the test images are not here")
def test_images_are_made_coarser_as_matlab_does(scale: int) -> None:
    for path in sorted((SET5 / f"image_SRF_{scale}").glob("*_HR.png")):
        fine, coarse = (
            torch.from_numpy(photographs.load(p)).permute(2, 0, 1).float() / 255
            for p in (path, path.with_name(path.name.replace("_HR", "_LR")))
        )
        rows, columns = (resampling.coarser(n, m) for n, m in zip(fine.shape[1:], coarse.shape[1:], strict=True))
        difference = (resampling.shrunk(rows, columns, fine) - coarse).abs() * 255
        assert difference.max() < 1.01
        assert (difference > 0.5).float().mean() < 0.002


def test_the_network_tells_any_size_and_is_interpolation_where_it_says_nothing() -> None:
    network = Enlarger(Shape(8, (1, 2), 8, 3, "cubic"), torch.Generator().manual_seed(0))
    image = torch.rand(2, 9, 12, generator=torch.Generator().manual_seed(0))
    assert network(image, (13, 40)).shape == (2, 13, 40)
    network.weight_out.data.zero_()
    rows, columns = resampling.finer(9, 13), resampling.finer(12, 40)
    torch.testing.assert_close(network(image, (13, 40)), resampling.apply(rows, columns, image))


def test_turns_are_undone() -> None:
    class Sharp(Enlarger):
        def forward(self, luminance, size, dtype=torch.float32, fused=False):
            return super().forward(luminance, size, dtype) * 0 + luminance.repeat_interleave(2, 1).repeat_interleave(
                2, 2
            )

    network = Sharp(Shape(8, (1,), 8), torch.Generator())
    image = torch.rand(1, 5, 7)
    torch.testing.assert_close(
        judging.turned(network, image, (10, 14), torch.float32), network(image, (10, 14)), rtol=0, atol=1e-5
    )


def test_an_image_that_agrees_gives_what_it_was_made_of() -> None:
    coarse = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))
    matrix = resampling.coarser(32, 16)

    def missed(rounds: int) -> float:
        fine = judging.agree(torch.full((1, 32, 32), 0.5), coarse, rounds)
        return float((resampling.apply(matrix, matrix, fine) - coarse).square().mean())

    assert missed(6) < 0.1 * missed(1)


def test_sines_in_pytorch_are_sines() -> None:
    values, phases = torch.randn(2, 5, 4), torch.randn(5, 4)
    torch.testing.assert_close(sines.sine(values, phases), torch.sin(values + phases))
    weight = torch.randn(4)
    torch.testing.assert_close(sines.head(values, phases[0], weight), torch.sin(values + phases[0]) @ weight)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_the_kernels_agree_with_pytorch() -> None:
    assert sines.kernels_agree(torch.device("cuda"))
