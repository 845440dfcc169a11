"""The images of a folder: their depth, their planes, those held out, and those that cannot be used."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from napari_siren.core.pretraining.planes import Plane
from napari_siren.errors import InputError
from napari_siren.finetuning import images as module
from napari_siren.finetuning.images import Images, read_images
from napari_siren.io.images import write_image


def ramp(rows: int, columns: int, top: float = 1.0) -> np.ndarray:
    """Return an image whose values are all different."""
    return np.linspace(0, top, rows * columns).reshape(rows, columns)


def read(folder: Path, seed: int = 0) -> Images:
    return read_images(folder, seed, folder / "mine.png")


def test_images_of_16_bits_keep_their_depth(tmp_path: Path) -> None:
    for name in "ab":
        write_image(tmp_path / f"{name}.tif", ramp(60, 70, 4199).round().astype(np.uint16), "YX")
    plane = read(tmp_path).training[0]
    assert len(np.unique(plane.values)) == 4200
    assert (plane.black, plane.contrast) == (0, 1)
    # The robust range is 0 to 1, and nothing beyond it is clipped.
    assert np.quantile(plane.values, (0.001, 0.999)) == pytest.approx((0, 1), abs=1e-6)
    assert plane.values.min() < 0 < 1 < plane.values.max()


def test_images_of_8_bits_are_shares_of_white_if_wanted(tmp_path: Path) -> None:
    image = ramp(60, 70, 200).round().astype(np.uint8)
    for name in "ab":
        write_image(tmp_path / f"{name}.png", image, "YX")
    plane = read(tmp_path).training[0]
    np.testing.assert_allclose(plane.array(True), image / 255, atol=1e-6)
    assert plane.limits(True) == pytest.approx((0, 200 / 255), abs=1e-3)
    assert plane.limits(False) == (0, 1)


def test_colours_are_one_plane_and_other_channels_one_each(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (50, 60, 3), np.uint8)
    write_image(tmp_path / "a.png", colours, "YXC")
    write_image(tmp_path / "b.tif", rng.integers(0, 5000, (2, 50, 60)).astype(np.uint16), "CYX")
    folder = read(tmp_path)
    by_name = {folder.held_out_names[0]: folder.held_out, folder.names[1]: folder.training}
    assert len(by_name["b.tif"]) == 2
    (luminance,) = by_name["a.png"]
    np.testing.assert_allclose(luminance.array(True), colours @ (0.299, 0.587, 0.114) / 255, atol=1e-5)


def test_transparency_and_constant_channels_are_no_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    seen = np.dstack([rng.integers(0, 256, (50, 60, 3), np.uint8), np.full((50, 60), 255, np.uint8)])
    write_image(tmp_path / "a.png", seen, "YXC")
    write_image(tmp_path / "b.tif", np.stack([ramp(50, 60), np.ones((50, 60))]).astype(np.float32), "CYX")
    folder = read(tmp_path)
    assert (len(folder.training), len(folder.held_out)) == (1, 1)


def test_each_slice_and_each_frame_is_an_image(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).normal(100, 10, (3, 2, 50, 60)).astype(np.float32)
    write_image(tmp_path / "a.ome.tif", stack, "TZYX")
    write_image(tmp_path / "b.tif", stack[:, 0], "ZYX")
    folder = read(tmp_path)
    assert {len(folder.training), len(folder.held_out)} == {6, 3}
    planes = max(folder.training, folder.held_out, key=len)
    low, high = np.percentile(stack, (0.1, 99.9))
    np.testing.assert_allclose(planes[1].values, (stack[0, 1] - low) / (high - low), atol=1e-4)


def test_too_many_slices_are_thinned_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_PIXELS", 4 * 90 * 60)
    write_image(tmp_path / "a.tif", np.random.default_rng(0).random((10, 90, 60)).astype(np.float32), "ZYX")
    assert len(read(tmp_path).training) == 4


def test_no_more_images_are_read_than_fit_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_PIXELS", 2 * 50 * 60)
    for name in "abcd":
        write_image(tmp_path / f"{name}.tif", ramp(50, 60).astype(np.float32), "YX")
    folder = read(tmp_path)
    assert len(folder.names) == 2
    assert set(folder.skipped.values()) == {"there are enough images without it"}


def test_one_in_eight_is_held_out_by_the_seed(tmp_path: Path) -> None:
    for number in range(16):
        write_image(tmp_path / f"{number}.tif", ramp(50, 60, 1 + number).astype(np.float32), "YX")
    first, again, other = (read(tmp_path, seed) for seed in (0, 0, 1))
    assert len(first.held_out_names) == 2
    assert first.held_out_names == again.held_out_names != other.held_out_names
    assert len(first.training) == 14


def test_a_part_of_a_single_image_is_held_out(tmp_path: Path) -> None:
    image = ramp(60, 200)
    write_image(tmp_path / "a.tif", image.astype(np.float32), "YX")
    folder = read(tmp_path)
    assert (folder.names, folder.held_out_names) == (("a.tif",), ("a.tif",))
    assert (folder.training[0].values.shape, folder.held_out[0].values.shape) == ((60, 150), (60, 50))
    joined = np.hstack([folder.training[0].values, folder.held_out[0].values])
    assert np.corrcoef(joined.ravel(), image.ravel())[0, 1] == pytest.approx(1)


def test_files_that_cannot_be_used_are_skipped_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a", "sub/b"):
        write_image(tmp_path / f"{name}.tif", ramp(60, 60).astype(np.float32), "YX")
    (tmp_path / "damaged.png").write_bytes(b"no image")
    write_image(tmp_path / "small.tif", ramp(20, 60).astype(np.float32), "YX")
    write_image(tmp_path / "empty.tif", np.ones((60, 60), np.float32), "YX")
    write_image(tmp_path / "holes.tif", np.where(ramp(60, 60) > 0.9, np.nan, ramp(60, 60)).astype(np.float32), "YX")
    np.save(tmp_path / "line.npy", np.arange(100.0))
    (tmp_path / "notes.txt").write_text("no image at all")
    # The picture of an earlier training.
    write_image(tmp_path / "mine.png", np.eye(60, dtype=np.uint8), "YX")
    with caplog.at_level(logging.WARNING):
        folder = read(tmp_path)
    assert set(folder.names) == {"a.tif", "sub/b.tif"}
    assert set(folder.skipped) == {"damaged.png", "small.tif", "empty.tif", "holes.tif", "line.npy"}
    assert "20 x 60 pixels. At least 48 x 48" in folder.skipped["small.tif"]
    assert "same value" in folder.skipped["empty.tif"]
    assert all(name in caplog.text for name in folder.skipped)


def test_a_folder_without_usable_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no images"):
        read(tmp_path / "missing")
    with pytest.raises(InputError, match="has no images"):
        read(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"no image of the folder .* can be used. .*a\.png"):
        read(tmp_path)


def test_a_single_image_needs_room_for_both_parts(tmp_path: Path) -> None:
    write_image(tmp_path / "a.tif", ramp(50, 70).astype(np.float32), "YX")
    with pytest.raises(InputError, match=r"only image, and has 50 x 70 pixels\. .*48 x 80"):
        read(tmp_path)


def test_noisy_images_among_clean_ones_are_skipped(tmp_path: Path) -> None:
    """A network that is trained on them as if they were clean would learn to keep noise."""
    smooth = ramp(60, 70)
    noise = np.random.default_rng(0).normal(0, 0.1, smooth.shape)
    for name, image in {"a": smooth, "b": smooth, "c": smooth + noise, "d": smooth}.items():
        write_image(tmp_path / f"{name}.tif", image.astype(np.float32), "YX")
    assert len(read(tmp_path).names) == 4
    folder = read_images(tmp_path, 0, tmp_path / "mine.png", noisy=None)
    assert not folder.noisy
    assert set(folder.names) == {"a.tif", "b.tif", "d.tif"}
    assert "it is noisy, unlike most" in folder.skipped["c.tif"]
    for name in "ab":
        write_image(tmp_path / f"{name}.tif", (smooth + noise).astype(np.float32), "YX")
    folder = read_images(tmp_path, 0, tmp_path / "mine.png", noisy=None)
    assert folder.noisy
    assert len(folder.names) == 4


def test_other_images_have_another_fingerprint(tmp_path: Path) -> None:
    for name in "ab":
        write_image(tmp_path / f"{name}.tif", ramp(60, 60).astype(np.float32), "YX")
    first = read(tmp_path).data
    assert read(tmp_path).data == first
    write_image(tmp_path / "b.tif", (ramp(60, 60) ** 2).astype(np.float32), "YX")
    assert read(tmp_path).data != first


def test_a_part_keeps_the_conversion_to_shares_of_white() -> None:
    plane = Plane(ramp(4, 6).astype(np.float32), 0.1, 0.5)
    part = plane.part(slice(0, 2), slice(1, 3))
    np.testing.assert_allclose(part.array(True), 0.1 + 0.5 * plane.values[:2, 1:3])
