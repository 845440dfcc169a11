"""How well a network enlarges: on photographs that were held out, and on published test sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training import resampling
from training.network import Enlarger
from training.photographs import is_grey, load

# Rounds of `agree`.
_ROUNDS = 6
WAYS = ("bicubic", "plain", "turned", "turned, agreeing")


def turned(network: Enlarger, luminance: Tensor, size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """Enlarge one image (1, rows, columns) in its eight turns and flips, and give the mean."""
    total = torch.zeros(1, *size, device=luminance.device)
    for turn in range(4):
        for flip in (False, True):
            seen = torch.rot90(luminance, turn, (1, 2))
            seen = seen.flip(2) if flip else seen
            told = network(seen, size[::-1] if turn % 2 else size, dtype)
            told = told.flip(2) if flip else told
            total += torch.rot90(told, -turn, (1, 2))
    return total / 8


def agree(fine: Tensor, coarse: Tensor, rounds: int = _ROUNDS) -> Tensor:
    """Make an enlarged image give, when it is made coarser, the image that it was made of."""
    (rows, columns), (fine_rows, fine_columns) = coarse.shape[1:], fine.shape[1:]
    device = fine.device
    down = [resampling.coarser(fine_rows, rows).to(device), resampling.coarser(fine_columns, columns).to(device)]
    up = [resampling.finer(rows, fine_rows).to(device), resampling.finer(columns, fine_columns).to(device)]
    for _ in range(rounds):
        fine = fine + resampling.apply(*up, coarse - resampling.apply(*down, fine))
    return fine


class Validation:
    """Crops of photographs that the network does not learn from, at some scales.

    Parameters
    ----------
    images
        (rows, columns, 3), 8 bits each.
    side
        Of the crops, a multiple of all scales.
    device
        Where they are to be.
    scales
        Whole numbers.
    """

    def __init__(
        self, images: Sequence[np.ndarray], side: int, device: torch.device, scales: Sequence[int] = (2, 3, 4)
    ) -> None:
        crops = [crop for image in images for crop in _detailed(image, side)]
        pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).to(device).float() / 255
        self.fine = resampling.luminance(pixels)
        self.coarse: dict[int, Tensor] = {}
        self.bicubic: dict[int, float] = {}
        for scale in scales:
            matrix = resampling.coarser(side, side // scale).to(device)
            self.coarse[scale] = resampling.luminance(resampling.shrunk(matrix, matrix, pixels))
            up = resampling.finer(side // scale, side).to(device)
            self.bicubic[scale] = self._decibels(resampling.apply(up, up, self.coarse[scale]), scale)

    @torch.no_grad()
    def gains(self, network: Enlarger, dtype: torch.dtype) -> dict[str, float]:
        """Give, for each scale, by how many decibels the network is better than bicubic interpolation."""
        size = self.fine.shape[1:]
        return {
            f"x{scale}": round(self._decibels(network(coarse, size, dtype), scale) - self.bicubic[scale], 4)
            for scale, coarse in self.coarse.items()
        }

    def _decibels(self, found: Tensor, border: int) -> float:
        pairs = zip(found, self.fine, strict=True)
        return float(np.mean([resampling.decibels(told, true, border) for told, true in pairs]))


def _detailed(image: np.ndarray, side: int, count: int = 3) -> list[np.ndarray]:
    """Give those crops on a grid that have the most gradient."""
    rows, columns = (n // side for n in image.shape[:2])
    crops = [
        image[row * side : (row + 1) * side, column * side : (column + 1) * side]
        for row in range(rows)
        for column in range(columns)
    ]
    steps = [np.abs(np.diff(crop.astype(np.float32).mean(2), axis=0)).mean() for crop in crops]
    return [crops[i] for i in np.argsort(steps)[::-1][:count]]


@torch.no_grad()
def test(network: Enlarger, folder: Path, device: torch.device, dtype: torch.dtype) -> dict[str, dict[str, float]]:
    """Give the mean PSNR (Y, 8 bits, without a border) on a set laid out as image_SRF_2/*_HR.png, *_LR.png.

    Returns
    -------
    dict
        For each scale ("x2"), for each of `WAYS`.
    """
    found: dict[str, dict[str, float]] = {}
    for scale in (2, 3, 4):
        rows = []
        for path in sorted((folder / f"image_SRF_{scale}").glob("*_HR.png")):
            pair = [load(place) for place in (path, path.with_name(path.name.replace("_HR.", "_LR.")))]
            grey = is_grey(path)
            fine, coarse = (
                resampling.luminance(torch.from_numpy(image).permute(2, 0, 1)[None].to(device).float() / 255)
                for image in pair
            )
            size = (fine.shape[1], fine.shape[2])
            up = [resampling.finer(n, m).to(device) for n, m in zip(coarse.shape[1:], size, strict=True)]
            eight = turned(network, coarse, size, dtype)
            told = [
                resampling.apply(*up, coarse), network(coarse, size, dtype), eight, agree(eight, coarse)
            ]  # fmt: skip
            rows.append([resampling.decibels(image[0], fine[0], scale, grey) for image in told])
        if rows:
            found[f"x{scale}"] = dict(zip(WAYS, np.mean(rows, axis=0).round(3).tolist(), strict=True))
    return found
