"""Crops of photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from training_cases import CPU

from napari_siren.core.pretraining.photographs import Photographs, find_images, load_image
from napari_siren.errors import InputError


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


def test_folders_and_files_without_images_are_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match=r"has no images\. Choose a folder of photographs"):
            find_images(folder)
    wrong = tmp_path / "a.png"
    wrong.write_text("no image")
    assert find_images(tmp_path) == [wrong]
    with pytest.raises(InputError, match="as an image"):
        load_image(wrong)


def test_photographs_smaller_than_crops_are_refused() -> None:
    with pytest.raises(InputError, match="no image has 20 x 20 pixels"):
        Photographs([np.zeros((19, 40, 3), np.uint8)], 0.0, 20, CPU)
