"""Tests of model files: saved models load unchanged, and other files are rejected."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from napari_siren.core.fit import fit
from napari_siren.core.model_file import file as storage
from napari_siren.core.result import FitResult, load
from napari_siren.core.storage.tensors import content_hash
from napari_siren.errors import DeviceError, InputError, StorageError

QUICK = {"tile": 8, "hidden_features": 10, "hidden_layers": 2, "max_steps": 20}


@pytest.fixture(scope="module")
def result(photo: npt.NDArray[np.uint8]) -> FitResult:
    return fit(photo, spacing=(0.5, 2), **QUICK)


@pytest.fixture
def saved(result: FitResult, tmp_path: Path) -> Path:
    return result.save(tmp_path / "model.safetensors")


@pytest.fixture
def alter(saved: Path) -> Callable[..., Path]:
    """Rewrite the saved file with changed metadata, description or tensors."""

    def rewrite(
        metadata: dict[str, str] | None = None,
        header: Callable[[dict[str, Any]], object] | None = None,
        tensors: Callable[[dict[str, torch.Tensor]], object] | None = None,
    ) -> Path:
        with safe_open(saved, framework="pt") as file:
            kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            described = dict(file.metadata())
        model = json.loads(described["model"])
        if header:
            header(model)
            described["model"] = json.dumps(model)
        if tensors:
            tensors(kept)
        described |= metadata or {}
        # A hostile file has a valid hash.
        described["sha256"] = content_hash(kept, described["model"])
        save_file(kept, saved, described)
        return saved

    return rewrite


@pytest.mark.parametrize("options", [{}, {"scale": 2}, {"scale": 0.5}, {"derivative": "gradient"}], ids=repr)
def test_a_loaded_model_renders_as_the_saved_one(result: FitResult, saved: Path, options: dict[str, Any]) -> None:
    np.testing.assert_array_equal(load(saved).render(**options), result.render(**options))


def test_everything_known_of_the_fit_comes_back(result: FitResult, saved: Path) -> None:
    loaded = load(str(saved))
    assert loaded.config == result.config
    assert loaded.metrics == result.metrics
    assert loaded.provenance == result.provenance
    assert loaded.field.layout == result.field.layout
    assert loaded.history.loss == result.history.loss
    assert loaded.history.stopped == "max_steps"


def test_models_of_version_1_load(result: FitResult, alter: Callable[..., Path]) -> None:
    def as_version_1(header: dict[str, Any]) -> None:
        header["receipt"] = header.pop("provenance")
        header["config"]["engine"] = "plain"

    loaded = load(alter({"format_version": "1"}, as_version_1))
    assert loaded.provenance == result.provenance
    assert loaded.config.engine == "torch"
    np.testing.assert_array_equal(loaded.render(scale=2), result.render(scale=2))


def test_events_come_back_as_they_were(photo: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    again = fit(photo, resume=fit(photo, **QUICK), **{**QUICK, "max_steps": 25})
    assert again.history.events
    assert load(again.save(tmp_path / "model.safetensors")).history == again.history


@pytest.mark.parametrize(
    "image",
    [
        np.random.default_rng(0).random((9, 8, 3)).astype(np.float32),
        np.random.default_rng(0).random((5, 9, 8)) > 0.5,
        np.random.default_rng(0).integers(-99, 99, 50).astype(np.int16),
    ],
    ids=["channels", "stack", "signal"],
)
def test_images_of_any_kind_come_back(image: npt.NDArray[np.generic], tmp_path: Path) -> None:
    result = fit(image, **QUICK)
    loaded = load(result.save(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(loaded.reconstruction, result.reconstruction)
    assert loaded.reconstruction.dtype == image.dtype


@pytest.mark.parametrize(("preset", "fields"), [("upscale", {"task_steps": 3}), ("paper", {})])
def test_models_of_any_preset_come_back(
    photo: npt.NDArray[np.uint8], preset: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    result = fit(photo, preset=preset, hidden_features=6, hidden_layers=2, max_steps=3, **fields)
    loaded = load(result.save(tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(loaded.render(scale=1.5), result.render(scale=1.5))
    np.testing.assert_array_equal(loaded.reconstruction, result.reconstruction)


def test_infinite_psnr_comes_back(tmp_path: Path) -> None:
    result = fit(np.full((9, 9), 7, np.uint8), **QUICK)
    loaded = load(result.save(tmp_path / "model.safetensors"))
    assert loaded.metrics.psnr == result.metrics.psnr == math.inf
    assert loaded.history.psnr == result.history.psnr


def test_a_loaded_model_knows_no_error_and_says_so(saved: Path) -> None:
    with pytest.raises(InputError, match="no image"):
        _ = load(saved).error


def test_a_loaded_model_can_be_saved_again(saved: Path, tmp_path: Path) -> None:
    again = load(saved).save(tmp_path / "again.safetensors")
    np.testing.assert_array_equal(load(again).reconstruction, load(saved).reconstruction)


def test_a_resumable_file_holds_the_state_bit_for_bit(result: FitResult, tmp_path: Path) -> None:
    loaded = load(result.save(tmp_path / "model.safetensors", resumable=True))
    assert loaded.state is not None
    assert result.state is not None
    assert (loaded.state.step, loaded.state.seed) == (result.state.step, result.state.seed) == (20, 0)
    assert loaded.state.tensors.keys() == result.state.tensors.keys()
    for name, tensor in result.state.tensors.items():
        assert torch.equal(loaded.state.tensors[name], tensor)


def test_a_file_holds_no_state_unless_asked(saved: Path) -> None:
    assert load(saved).state is None
    with pytest.raises(StorageError, match="no state"):
        load(saved).save(saved, resumable=True)


def test_a_device_that_is_not_there_is_refused(saved: Path) -> None:
    with pytest.raises(DeviceError):
        load(saved, device="banana")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_model_is_evaluated_and_resumed_on_a_gpu(photo: npt.NDArray[np.uint8], tmp_path: Path) -> None:
    path = fit(photo, **QUICK).save(tmp_path / "model.safetensors", resumable=True)
    here, there = load(path), load(path, device="cuda")
    points = np.random.default_rng(0).random((50, 2)) * 20
    for evaluate in ("__call__", "gradient", "laplacian"):
        expected = getattr(here.field, evaluate)(points)
        np.testing.assert_allclose(getattr(there.field, evaluate)(points), expected, rtol=1e-3, atol=1e-2)
    for derivative in (None, "gradient", "laplacian"):
        render = {"scale": 1.5, "derivative": derivative, "dtype": "float32"}
        np.testing.assert_allclose(there.render(**render), here.render(**render), rtol=1e-2, atol=0.1)
    assert fit(photo, device="cuda", resume=path, **{**QUICK, "max_steps": 25}).history.step[0] == 21


# ---- files without a model ------------------------------------------------------------------------------


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no model file"):
        load(tmp_path / "nowhere.safetensors")
    with pytest.raises(StorageError, match="there is no model file"):
        load(tmp_path)


@pytest.mark.parametrize("share", [0, 0.001, 0.02, 0.5, 0.99])
def test_a_file_cut_short(saved: Path, share: float) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(StorageError, match="cut short"):
        load(saved)


@pytest.mark.parametrize("content", [b"plain text, and not short", b"\x80\x02}q\x00.", b"\xff" * 100])
def test_a_file_of_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="not a complete napari-siren model"):
        load(path)


def test_a_safetensors_file_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"theta": torch.zeros(3)}, path)
    with pytest.raises(StorageError, match="another program"):
        load(path)


def test_a_file_of_a_later_version(alter: Callable[..., Path]) -> None:
    with pytest.raises(StorageError, match=r"later version.*Update napari-siren"):
        load(alter({"format_version": str(storage.FORMAT_VERSION + 1)}))


@pytest.mark.parametrize(
    "metadata",
    [{"model": "{"}, {"model": "[]"}, {"model": "null"}, {"model": "{}"}, {"format_version": "new"}],
    ids=repr,
)
def test_a_damaged_description(alter: Callable[..., Path], metadata: dict[str, str]) -> None:
    with pytest.raises(StorageError):
        load(alter(metadata))


STRUCTURED = ["config", "format", "tiling", "network", "metrics", "history"]
SIMPLE = ["omega_0", "coordinate_scale", "samples_per_pixel", "provenance"]


@pytest.mark.parametrize("key", [*STRUCTURED, *SIMPLE])
def test_a_description_with_a_part_absent(alter: Callable[..., Path], key: str) -> None:
    with pytest.raises(StorageError, match="damaged"):
        load(alter(header=lambda model: model.pop(key)))


@pytest.mark.parametrize("key", STRUCTURED)
@pytest.mark.parametrize("value", ["nonsense", None, {"a": 1}], ids=repr)
def test_a_description_with_a_part_damaged(alter: Callable[..., Path], key: str, value: object) -> None:
    with pytest.raises(StorageError, match="damaged"):
        load(alter(header=lambda model: model.update({key: value})))


@pytest.mark.parametrize("name", ["theta", "offset", "scale"])
@pytest.mark.parametrize(
    "change",
    [lambda _: None, lambda t: t[1:], lambda t: t[:, :0], torch.flatten],
    ids=["absent", "fewer tiles", "fewer columns", "flat"],
)
def test_tensors_that_do_not_fit_the_description(
    alter: Callable[..., Path], name: str, change: Callable[[torch.Tensor], torch.Tensor | None]
) -> None:
    def damage(tensors: dict[str, torch.Tensor]) -> None:
        changed = change(tensors.pop(name))
        if changed is not None:
            tensors[name] = changed.contiguous()

    with pytest.raises(StorageError):
        load(alter(tensors=damage))


# ---- outliers ------------------------------------------------------------------------------------------


@pytest.fixture
def spiked(tmp_path: Path) -> tuple[FitResult, Path]:
    """A result with two outliers in an image of two channels, and its file."""
    image = np.random.default_rng(0).normal(size=(40, 40, 2)).astype(np.float32)
    image[3, 4, 1], image[39, 39] = 1e4, -1e4
    result = fit(image, axes="YXC", **QUICK)
    return result, result.save(tmp_path / "spiked.safetensors")


def test_outliers_come_back(spiked: tuple[FitResult, Path], tmp_path: Path) -> None:
    result, path = spiked
    loaded = load(path)
    np.testing.assert_array_equal(loaded.reconstruction, result.reconstruction)
    for options in ({"scale": 2}, {"scale": 0.5}, {"scale": 1.5, "derivative": "laplacian"}):
        np.testing.assert_array_equal(loaded.render(**options), result.render(**options))
    again = load(loaded.without_state().save(tmp_path / "again.safetensors"))
    np.testing.assert_array_equal(again.reconstruction, result.reconstruction)


def test_only_files_with_outliers_have_the_version_of_outliers(spiked: tuple[FitResult, Path], saved: Path) -> None:
    versions = []
    for path in (saved, spiked[1]):
        with safe_open(path, framework="pt") as file:
            versions.append(file.metadata()["format_version"])
    assert versions == ["4", "5"]


@pytest.mark.parametrize(
    "change",
    [
        {"outlier_numbers": None},
        {"outlier_amounts": None},
        {"outlier_numbers": torch.tensor([0, 1, 2])},
        {"outlier_numbers": torch.tensor([0, 1600])},
        {"outlier_numbers": torch.tensor(2)},
        {"outlier_amounts": torch.zeros(2, 1, dtype=torch.float64)},
        {"outlier_amounts": torch.zeros(2, 2)},
    ],
    ids=lambda change: "-".join(f"{name} {value}" for name, value in change.items()),
)
def test_hostile_outliers_are_refused(spiked: tuple[FitResult, Path], change: dict[str, torch.Tensor | None]) -> None:
    path = spiked[1]
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata())
    tensors = {name: tensor for name, tensor in {**tensors, **change}.items() if tensor is not None}
    metadata["sha256"] = content_hash(tensors, metadata["model"])
    save_file(tensors, path, metadata)
    with pytest.raises(StorageError, match="outliers"):
        load(path)


# ---- writing -------------------------------------------------------------------------------------------


def test_saving_gives_the_path_and_leaves_nothing_beside_it(result: FitResult, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    assert result.save(path) == path
    assert result.save(str(path)) == path
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("where", ["nowhere/model.safetensors", "file/model.safetensors", "folder"])
def test_a_place_that_cannot_be_written_is_named_and_left_clean(result: FitResult, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StorageError, match="cannot write"):
        result.save(tmp_path / where)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_without_permission_is_named(
    result: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StorageError, match="Permission denied"):
        result.save(tmp_path / "model.safetensors")


def test_a_disk_that_fills_up_leaves_the_old_file_whole(
    result: FitResult, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, write = saved.read_bytes(), Path.write_bytes

    def fail(path: Path, data: bytes) -> int:
        write(path, data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(StorageError, match="No space left"):
        result.save(saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_file_appears_whole_or_not_at_all(result: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write, seen = tmp_path / "model.safetensors", Path.write_bytes, []

    def watch(aside: Path, data: bytes) -> int:
        written = write(aside, data)
        seen.append((path.exists(), aside.stat().st_ino))
        return written

    monkeypatch.setattr(Path, "write_bytes", watch)
    result.save(path)
    assert seen == [(False, path.stat().st_ino)]  # moved, which is atomic, and not copied
    load(path)
