"""The command `python -m training.run`, at sizes that take seconds."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from training_cases import pictures, tiny

from napari_siren.core.pretrained_network.weights import load_network, load_tensors, save_network
from napari_siren.core.pretraining import evaluation
from napari_siren.errors import InputError
from training import run


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_the_command_writes_weights_that_load_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from PIL import Image

    caplog.set_level(logging.INFO)
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
    found = run.train(run.parser().parse_args([*command, "--device", "cpu", "--test", str(test)]))
    assert found["steps"] == 8
    assert set(found["sets"]["set"]["x2"]) == set(evaluation.WAYS)
    printed = caplog.text
    assert "samples/s" in printed
    assert len(printed.splitlines()) < 30
    assert found["data"] in (out / "enlarge.md").read_text()

    network = load_network(out / "enlarge.safetensors")
    tensors, facts = load_tensors(out / "enlarge.safetensors")
    assert facts["steps"] == 8
    assert all(tensor.dtype == torch.float16 for tensor in tensors.values())
    saved, _ = load_tensors(out / "enlarge.checkpoint")
    assert len(saved) > len(tensors)
    again = tmp_path / "again.safetensors"
    save_network(network, again, {})
    image = torch.rand(1, 9, 11)
    torch.testing.assert_close(load_network(again)(image, (20, 30)), network(image, (20, 30)))


@pytest.mark.parametrize("kind", ["denoise", "microscope", "robust"])
def test_the_command_trains_each_kind_and_keeps_its_weights_when_a_test_fails(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from PIL import Image

    caplog.set_level(logging.INFO)
    data, out, test = tmp_path / "data", tmp_path / "out", tmp_path / "set"
    for folder in (data, test):
        folder.mkdir(parents=True)
    for name, image in zip("abcd", pictures(4), strict=True):
        Image.fromarray(image).save(data / f"{name}.png")
    Image.fromarray(pictures(1, 300)[0]).save(test / "a.png")
    own = tiny(kind)
    config = tmp_path / "tiny.toml"
    outputs = [list(pair) for pair in own.outputs]
    config.write_text(
        f'kind = "{kind}"\nloss = "{own.loss}"\nkeep_best = true\ncrop = 16\nbatch = 2\noutputs = {outputs}\n'
        'chunk = 4\nheld_out = ["b.png"]\nvalidation_crop = 66\n'
        f"[network]\ninputs = {own.network.inputs}\nfeatures = 8\ndilations = [1]\nwidth = 8\n"
    )
    command = [kind, "--data", str(data), "--steps", "8", "--out", str(out), "--config", str(config)]
    tests = ["--test", str(test), "--test", str(tmp_path / "missing")]
    found = run.train(run.parser().parse_args([*command, "--device", "cpu", *tests]))
    assert set(found["sets"]) == {"set"}
    assert found["sets"]["set"].keys() == found["scores"].keys()
    assert "missing: fails" in caplog.text
    network = load_network(out / f"{kind}.safetensors")
    assert network.shape.inputs == own.network.inputs
    assert found["data"] in (out / f"{kind}.md").read_text()
    assert json.loads((out / f"{kind}.jsonl").read_text().splitlines()[-1])["step"] == 8


def test_the_command_reports_a_wrong_folder(tmp_path: Path) -> None:
    from PIL import Image

    with pytest.raises(InputError, match="has no images"):
        run.train(run.parser().parse_args(["enlarge", "--data", str(tmp_path), "--out", str(tmp_path / "out")]))
    Image.fromarray(pictures(1)[0]).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="lacks the held-out photographs p19"):
        run.train(run.parser().parse_args(["enlarge", "--data", str(tmp_path), "--out", str(tmp_path / "out")]))
