"""Photographs to learn from: all pixels on the device, and crops of them, drawn on the host."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff"}
# Side of the squares whose gradients are summed.
_CELL = 8


def find(folder: Path) -> list[Path]:
    """Find the images of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)


def load(path: Path) -> np.ndarray:
    """Load an image in RGB of 8 bits: (rows, columns, 3)."""
    with Image.open(path) as image:
        return np.array(image.convert("RGB"))


def is_grey(path: Path) -> bool:
    """Tell whether an image's file holds one channel."""
    with Image.open(path) as image:
        return image.mode in ("1", "L", "I", "I;16", "F")


def load_all(paths: Sequence[Path]) -> list[np.ndarray]:
    """Load images, many at a time."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(load, paths))


def fingerprint(paths: Sequence[Path]) -> str:
    """Give a hash of names and contents."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Photographs:
    """Images whose pixels are all on a device.

    Parameters
    ----------
    images
        (rows, columns, 3), 8 bits each.
    halves
        Share of the crops that come from the images at half their size.
    side
        Of the largest crop; smaller images are left out.
    device
        Where their pixels are to be.
    """

    def __init__(self, images: Sequence[np.ndarray], halves: float, side: int, device: torch.device) -> None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            smaller = list(pool.map(_half, images)) if halves else []
            levels = [[image for image in level if min(image.shape[:2]) >= side] for level in (images, smaller)]
            gradients = list(pool.map(_gradient_sums, [*levels[0], *levels[1]]))
        if not levels[0]:
            raise ValueError(f"no image has {side} x {side} pixels")
        everything = [*levels[0], *levels[1]]
        sizes = np.array([image.shape[:2] for image in everything], dtype=np.int64)
        pixels = sizes.prod(1)
        starts, cells = pixels.cumsum() - pixels, np.array([sums.size for sums in gradients])
        # Of each image: where it begins, its rows and columns, where its sums begin, and their rows and columns.
        shapes = np.array([sums.shape for sums in gradients])
        self._table = np.column_stack([starts, sizes, cells.cumsum() - cells, shapes])
        self._sums = np.concatenate([sums.ravel() for sums in gradients])
        self._pixels = torch.cat([torch.from_numpy(image.reshape(-1, 3)) for image in everything])
        self._pixels = self._pixels.T.contiguous().to(device)
        first, shares = len(levels[0]), pixels.astype(float)
        shares[:first] *= (1 - halves if levels[1] else 1) / shares[:first].sum()
        if levels[1]:
            shares[first:] *= halves / shares[first:].sum()
        self._bounds = shares.cumsum()[:-1] / shares.sum()
        self.megapixels = float(pixels[:first].sum()) / 1e6

    def draw(self, rng: np.random.Generator, batch: int, side: int, candidates: int) -> np.ndarray:
        """Draw crops: (batch, 3), where each begins and the steps to the next row and column, for `crops`.

        Of so many candidates that with the most gradient is taken; each is in one of eight turns and flips.
        """
        number = np.searchsorted(self._bounds, rng.random((batch, candidates)), side="right")
        places = rng.random((batch, candidates, 2))
        turn = rng.integers(8, size=batch)
        start, rows, columns = (self._table[number, i] for i in range(3))
        row = (places[..., 0] * (rows - side + 1)).astype(np.int64)
        column = (places[..., 1] * (columns - side + 1)).astype(np.int64)
        best = self._gradient_within(number, row, column, side).argmax(1)
        start, row, column, down = (values[np.arange(batch), best] for values in (start, row, column, columns))
        start, right = start + row * down + column, np.ones(batch, dtype=np.int64)
        upside, mirrored, turned = (turn & bit > 0 for bit in (1, 2, 4))
        start, down = np.where(upside, start + (side - 1) * down, start), np.where(upside, -down, down)
        start, right = np.where(mirrored, start + (side - 1) * right, start), np.where(mirrored, -right, right)
        return np.stack([start, np.where(turned, right, down), np.where(turned, down, right)], axis=1)

    def crops(self, drawn: Tensor, side: int) -> Tensor:
        """Give drawn crops on the device: (batch, 3, side, side), 0 to 1."""
        steps = torch.arange(side, device=drawn.device)
        start, down, right = drawn[:, :, None, None].unbind(1)
        at = start + down * steps[:, None] + right * steps
        return self._pixels[:, at].transpose(0, 1).float() / 255

    def _gradient_within(self, number: np.ndarray, row: np.ndarray, column: np.ndarray, side: int) -> np.ndarray:
        start, rows, columns = (self._table[number, i] for i in (3, 4, 5))
        top, left = row // _CELL, column // _CELL
        bottom, right = np.minimum((row + side) // _CELL, rows - 1), np.minimum((column + side) // _CELL, columns - 1)
        corners = [self._sums[start + y * columns + x] for y in (top, bottom) for x in (left, right)]
        return corners[3] - corners[1] - corners[2] + corners[0]


def _half(image: np.ndarray) -> np.ndarray:
    size = (image.shape[1] // 2, image.shape[0] // 2)
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _gradient_sums(image: np.ndarray) -> np.ndarray:
    grey = image.astype(np.float32).mean(2)
    size = np.abs(np.diff(grey, axis=0, append=grey[-1:])) + np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    rows, columns = (n // _CELL for n in grey.shape)
    cells = size[: rows * _CELL, : columns * _CELL].reshape(rows, _CELL, columns, _CELL).sum((1, 3), dtype=float)
    return np.pad(cells.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
