"""Images for training: all pixels are on the device, and crops of them are drawn on the host."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from napari_siren.errors import InputError

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]

# File name suffixes of images.
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff"}
# Side in pixels of the squares over which gradients are summed.
_CELL = 8


def find_images(folder: Path) -> list[Path]:
    """Return the paths of the images of a folder, sorted by name.

    Raises
    ------
    InputError
        The folder does not exist, or has no images.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES) if folder.is_dir() else []
    if not paths:
        raise InputError(
            f"the folder {folder} has no images. Choose a folder of photographs ({', '.join(sorted(_SUFFIXES))})."
        )
    return paths


def load_image(path: Path) -> Pixels:
    """Load an image in RGB of 8 bits: (rows, columns, 3).

    Raises
    ------
    InputError
        The file cannot be read as an image.
    """
    try:
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read {path} as an image: {error}. Remove the file from the folder.") from error


def is_grey(path: Path) -> bool:
    """Return whether the file of an image has one channel."""
    with Image.open(path) as image:
        return image.mode in ("1", "L", "I", "I;16", "F")


def load_images(paths: Sequence[Path]) -> list[Pixels]:
    """Load images with as many threads as CPUs.

    Raises
    ------
    InputError
        A file cannot be read as an image.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(load_image, paths))


def fingerprint(paths: Sequence[Path]) -> str:
    """Return the SHA-256 of names and contents of files."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class Photographs:
    """A set of images with all their pixels on a device.

    Parameters
    ----------
    images
        Images (rows, columns, 3) of 8 bits, or (rows, columns, channels) of float32.
    halves
        Share of the crops from the images at half their size. It is 0 for images of float32.
    side
        Side of the largest crop in pixels; smaller images are left out.
    device
        Device of the pixels.
    parameters
        Numbers that belong to each image, (images, numbers). None is no numbers.

    Raises
    ------
    InputError
        No image has enough pixels for a crop.
    """

    def __init__(
        self,
        images: Sequence[Array],
        halves: float,
        side: int,
        device: torch.device,
        parameters: Sequence[Sequence[float]] | None = None,
    ) -> None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            smaller = list(pool.map(_half, images)) if halves else []
            levels = [[image for image in level if _side(image) >= side] for level in (images, smaller)]
            gradients = list(pool.map(_gradient_sums, [*levels[0], *levels[1]]))
        if not levels[0]:
            raise InputError(f"no image has {side} x {side} pixels. Choose larger images, or smaller crops.")
        everything = [*levels[0], *levels[1]]
        sizes = np.array([image.shape[:2] for image in everything], dtype=np.int64)
        pixels = sizes.prod(1)
        starts, cells = pixels.cumsum() - pixels, np.array([sums.size for sums in gradients])
        # For each image: its first pixel, its rows and columns, the first of its sums, and their rows and columns.
        shapes = np.array([sums.shape for sums in gradients])
        self._table = np.column_stack([starts, sizes, cells.cumsum() - cells, shapes])
        self._sums = np.concatenate([sums.ravel() for sums in gradients])
        self._white = 255.0 if everything[0].dtype == np.uint8 else 1.0
        self._pixels = torch.cat([torch.from_numpy(image.reshape(-1, image.shape[2])) for image in everything])
        self._pixels = self._pixels.T.contiguous().to(device)
        numbers = [()] * len(images) if parameters is None else parameters
        chosen = [numbers[i] for level in (images, smaller) for i, image in enumerate(level) if _side(image) >= side]
        self._parameters = torch.tensor(chosen, dtype=torch.float32, device=device)
        self._starts = torch.from_numpy(starts).to(device)
        first, shares = len(levels[0]), pixels.astype(float)
        shares[:first] *= (1 - halves if levels[1] else 1) / shares[:first].sum()
        if levels[1]:
            shares[first:] *= halves / shares[first:].sum()
        self._bounds = shares.cumsum()[:-1] / shares.sum()
        self.megapixels = float(pixels[:first].sum()) / 1e6

    def draw(self, rng: np.random.Generator, batch: int, side: int, candidates: int) -> npt.NDArray[np.int64]:
        """Draw positions of crops for `crops`.

        Parameters
        ----------
        rng
            Generator of random numbers.
        batch
            Number of crops.
        side
            Rows and columns of a crop.
        candidates
            Number of candidates for each crop; the one with the most gradient is chosen.

        Returns
        -------
        Array
            First pixel of each crop, and the steps to the next row and to the next column: (batch, 3). They include
            one of eight turns and flips.
        """
        number = np.searchsorted(self._bounds, rng.random((batch, candidates)), side="right")
        positions = rng.random((batch, candidates, 2))
        turn = rng.integers(8, size=batch)
        start, rows, columns = (self._table[number, i] for i in range(3))
        row = (positions[..., 0] * (rows - side + 1)).astype(np.int64)
        column = (positions[..., 1] * (columns - side + 1)).astype(np.int64)
        best = self._gradient_within(number, row, column, side).argmax(1)
        start, row, column, down = (values[np.arange(batch), best] for values in (start, row, column, columns))
        start, right = start + row * down + column, np.ones(batch, dtype=np.int64)
        upside, mirrored, turned = (turn & bit > 0 for bit in (1, 2, 4))
        start, down = np.where(upside, start + (side - 1) * down, start), np.where(upside, -down, down)
        start, right = np.where(mirrored, start + (side - 1) * right, start), np.where(mirrored, -right, right)
        return np.stack([start, np.where(turned, right, down), np.where(turned, down, right)], axis=1)

    def crops(self, positions: Tensor, side: int) -> Tensor:
        """Return crops on the device, from the positions of `draw`: (batch, channels, side, side), 8 bits as 0 to 1."""
        steps = torch.arange(side, device=positions.device)
        start, down, right = positions[:, :, None, None].unbind(1)
        pixels = start + down * steps[:, None] + right * steps
        return self._pixels[:, pixels].transpose(0, 1).float() / self._white

    def parameters(self, positions: Tensor) -> Tensor:
        """Return the numbers that belong to the images of crops, from the positions of `draw`: (batch, numbers)."""
        return self._parameters[torch.searchsorted(self._starts, positions[:, 0].contiguous(), right=True) - 1]

    def _gradient_within(self, number: Array, row: Array, column: Array, side: int) -> Array:
        start, rows, columns = (self._table[number, i] for i in (3, 4, 5))
        top, left = row // _CELL, column // _CELL
        bottom, right = np.minimum((row + side) // _CELL, rows - 1), np.minimum((column + side) // _CELL, columns - 1)
        corners = [self._sums[start + y * columns + x] for y in (top, bottom) for x in (left, right)]
        sums: Array = corners[3] - corners[1] - corners[2] + corners[0]
        return sums


def _side(image: Array) -> int:
    return int(min(image.shape[:2]))


def _half(image: Pixels) -> Pixels:
    size = (image.shape[1] // 2, image.shape[0] // 2)
    return np.array(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _gradient_sums(image: Array) -> npt.NDArray[np.float64]:
    grey = image.astype(np.float32).mean(2)
    size = np.abs(np.diff(grey, axis=0, append=grey[-1:])) + np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    rows, columns = (n // _CELL for n in grey.shape)
    cells = size[: rows * _CELL, : columns * _CELL].reshape(rows, _CELL, columns, _CELL).sum((1, 3), dtype=float)
    return np.pad(cells.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
