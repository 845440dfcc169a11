"""Hostile descriptions of models: every field with values of the wrong kind or range is refused before it is used."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from napari_siren.core.fit import fit
from napari_siren.core.result import FitResult, load
from napari_siren.core.storage.tensors import content_hash
from napari_siren.errors import StorageError

# Values of the wrong kind or range for most fields.
HOSTILE: tuple[Any, ...] = (None, -1, 0, 2.5, 10**30, 1e308, "inf", "nan", "\x1b[2J" * 50, [], [[]], {}, [-1, 0], ["a"])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = np.random.default_rng(0).random((20, 24, 3)).astype(np.float32)
    result = fit(image, tile=8, hidden_features=8, hidden_layers=2, max_steps=4)
    provenance = {"unit": "µm", "channel_names": ["a", "b", "c"], "details": {"origin": [1.0, 2.0]}, "image": "x.tif"}
    result = FitResult(**{**vars(result), "provenance": {**result.provenance, **provenance}})
    return result.save(tmp_path_factory.mktemp("model") / "model.safetensors", resumable=True)


def contents(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the position of every entry of nested lists and objects; of a list, only the first and the last."""
    items = value.items() if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    for key, item in list(items)[:1] + list(items)[-1:] if isinstance(value, list) else items:
        yield (*path, key)
        yield from paths_of(item, (*path, key))


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    copy = json.loads(json.dumps(value))
    target = copy
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = new
    return copy


def test_every_field_of_a_hostile_model_loads_or_is_refused(saved: Path, tmp_path: Path) -> None:
    tensors, metadata = contents(saved)
    header, path, messages = json.loads(metadata["model"]), tmp_path / "model.safetensors", []
    for position in paths_of(header):
        for value in HOSTILE:
            metadata["model"] = json.dumps(changed(header, position, value))
            metadata["sha256"] = content_hash(tensors, metadata["model"])
            save_file(tensors, path, metadata)
            try:
                load(path)
            except StorageError as error:
                messages.append(str(error))
    assert len(messages) > 500
    assert all(message.isprintable() for message in messages)


@pytest.mark.parametrize(
    ("position", "value", "reason"),
    [
        (("network", "inputs"), 3, "different numbers of axes"),
        (("network", "outputs"), 4, "another number of outputs"),
        (("network", "hidden_features"), 2048, "less than or equal to 1024"),
        (("format", "shape"), [10**9, 10**9, 3], "too many pixels"),
        (("format", "shape"), [20, 30, 3], "does not fit the image"),
        (("format", "spacing"), [1.0, "inf"], "spacing"),
        (("tiling", 0, "borders"), [0, 30, 20], "do not ascend"),
        (("tiling", 0, "overlap"), 50.0, "wider than a tile"),
        (("history", "loss"), [1.0], "different lengths"),
        (("provenance", "details"), {"origin": ["x"]}, "origin"),
        (("provenance", "array_form"), {"axes": "ZYXC", "singletons": [3]}, "does not fit its axes"),
        (("config", "psf_width"), {"a": 1}, "psf_width"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_the_reason_is_named(saved: Path, tmp_path: Path, position: tuple[Any, ...], value: Any, reason: str) -> None:
    tensors, metadata = contents(saved)
    metadata["model"] = json.dumps(changed(json.loads(metadata["model"]), position, value))
    metadata["sha256"] = content_hash(tensors, metadata["model"])
    save_file(tensors, tmp_path / "model.safetensors", metadata)
    with pytest.raises(StorageError, match=reason):
        load(tmp_path / "model.safetensors")


def test_deep_nesting_is_refused(saved: Path, tmp_path: Path) -> None:
    tensors, metadata = contents(saved)
    metadata.pop("sha256")
    for depth in (40, 100_000):
        metadata["model"] = "[" * depth + "]" * depth
        save_file(tensors, tmp_path / "model.safetensors", metadata)
        with pytest.raises(StorageError, match="nested more than 32 times"):
            load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("name", ["theta", "offset", "scale"])
@pytest.mark.parametrize("change", ["float64", "nan", "absent"])
def test_tensors_of_another_kind_are_refused(saved: Path, tmp_path: Path, name: str, change: str) -> None:
    tensors, metadata = contents(saved)
    if change == "float64":
        tensors[name] = tensors[name].double()
    elif change == "nan":
        tensors[name].view(-1)[0] = torch.nan
    else:
        del tensors[name]
    metadata["sha256"] = content_hash(tensors, metadata["model"])
    save_file(tensors, tmp_path / "model.safetensors", metadata)
    with pytest.raises(StorageError, match=name):
        load(tmp_path / "model.safetensors")


def test_a_changed_byte_is_noticed(saved: Path, tmp_path: Path) -> None:
    data, path, random = saved.read_bytes(), tmp_path / "model.safetensors", np.random.default_rng(0)
    for position in random.integers(0, len(data), 100).tolist():
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        try:
            loaded = load(path)
        except StorageError:
            continue
        np.testing.assert_array_equal(loaded.reconstruction, load(saved).reconstruction)


def test_a_state_of_another_kind_is_refused(saved: Path, tmp_path: Path) -> None:
    tensors, metadata = contents(saved)
    image = np.random.default_rng(0).random((20, 24, 3)).astype(np.float32)
    for name, new in (("looks", torch.zeros(3)), ("theta", tensors["state.theta"].double()), ("best", torch.zeros(0))):
        hostile = {**tensors, f"state.{name}": new}
        metadata["sha256"] = content_hash(hostile, metadata["model"])
        save_file(hostile, tmp_path / "model.safetensors", metadata)
        with pytest.raises(StorageError, match="saved state is damaged"):
            fit(image, tile=8, hidden_features=8, hidden_layers=2, max_steps=8, resume=tmp_path / "model.safetensors")
