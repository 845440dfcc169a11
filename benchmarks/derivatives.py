"""How well an image comes back from its derivatives alone, beside a plain SIREN that is supervised by them.

    python -m benchmarks.derivatives [--data FOLDER] [--device cpu] [--json FILE] [--seconds S] [--pictures FOLDER]

For three images of different kinds: PSNR and seconds of the preset "faithful", fitted to the gradient as numpy.gradient
gives it, to forward differences, and to the Laplacian of scipy.ndimage, the constant fixed by the image's mean
afterwards; beside them the same fit to the pixels. Then, on grey copies of 128 x 128, a plain SIREN whose own gradient
is fitted to the image's (Sitzmann et al. 2020, section 4.1), for so many seconds each. The pictures are those of
docs/guide/derivatives.md.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.ndimage import laplace
from skimage.io import imread
from skimage.transform import resize

import napari_siren as ns
from benchmarks import machine
from benchmarks.derivatives_pictures import draw
from benchmarks.peer_networks import plain_siren
from napari_siren.core.image.dtypes import cast_values
from napari_siren.core.image.metrics import peak_of, psnr_of
from napari_siren.core.image.samples import Samples

IMAGES = ("kodak/kodim23.png", "div2k16/04.png", "microscopy/neubias_xy_16bit__rat_hippocampal_neuron.tif")
REQUIRED = 30.0  # dB, from the gradient
SMALL = 128
RATE = 1e-4  # of Adam, as in the paper's code


def numpy_gradient(image: np.ndarray) -> np.ndarray:
    """Give (2, rows, columns, ...)."""
    return np.stack(np.gradient(image.astype(np.float64), axis=(0, 1)))


def forward_differences(image: np.ndarray) -> np.ndarray:
    """Give (2, rows, columns, ...), 0 at the last."""
    values = image.astype(np.float64)
    return np.stack([np.diff(values, axis=axis, append=np.take(values, [-1], axis)) for axis in (0, 1)])


def laplacian(image: np.ndarray) -> np.ndarray:
    """Give the sum of second differences along rows and columns."""
    return laplace(image.astype(np.float64), axes=(0, 1))


WAYS = {
    "numpy.gradient": ("gradient", numpy_gradient),
    "forward differences": ("gradient", forward_differences),
    "Laplacian": ("laplacian", laplacian),
}


def psnr(found: np.ndarray, image: np.ndarray) -> float:
    """PSNR once the mean of each channel is the image's, rounded and clipped as the image is, in dB."""
    shift = image.mean(axis=(0, 1)) - found.mean(axis=(0, 1), dtype=np.float64)
    seen = cast_values(found + shift, image.dtype)
    mse = float(np.mean(np.square(seen.astype(np.float64) - image)))
    return psnr_of(mse, peak_of(Samples.from_array(image)))


def ours(image: np.ndarray, way: str, device: str) -> dict[str, float]:
    """Fit a field to derivatives alone: nothing of the image's values is told, not even the mean."""
    kind, derive = WAYS[way]
    data = derive(image)
    begin = time.perf_counter()
    result = ns.fit(data, supervision=kind, device=device)
    seconds = time.perf_counter() - begin
    return {"psnr": psnr(result.reconstruction, image), "seconds": seconds}


def from_values(image: np.ndarray, device: str) -> dict[str, float]:
    """Fit a field to the image itself."""
    begin = time.perf_counter()
    result = ns.fit(image, device=device)
    return {"psnr": psnr(result.reconstruction, image), "seconds": time.perf_counter() - begin}


def plain(image: np.ndarray, device: str, limit: float, most_steps: float = math.inf) -> dict[str, float]:
    """Fit a plain SIREN (5 x 256, omega_0 30) by the loss |grad f - grad u|^2 over every pixel, for so many seconds."""
    torch.manual_seed(0)
    network = plain_siren(1).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    half = np.array(image.shape) / 2
    grid = [(np.arange(n) + 0.5) / n * 2 - 1 for n in image.shape]
    x = torch.tensor(np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1).reshape(-1, 2), dtype=torch.float32)
    x = x.to(device).requires_grad_()
    unit = peak_of(Samples.from_array(image)) / 2
    slopes = numpy_gradient(image) * half[:, None, None] / unit
    wanted = torch.tensor(slopes.reshape(2, -1).T, dtype=torch.float32, device=device)
    steps, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < limit and steps < most_steps:
        (found,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
        loss = (found - wanted).square().sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
        loss.item()  # a GPU is waited for
    seconds = time.perf_counter() - begin
    with torch.no_grad():
        values = network(x).reshape(image.shape).double().cpu().numpy() * unit
    return {"psnr": psnr(values, image), "seconds": seconds, "steps": steps}


def small_copy(image: np.ndarray, side: int = SMALL) -> np.ndarray:
    """Give the middle square in grey, with so many pixels along each side, of the image's dtype."""
    grey = image.astype(np.float64) if image.ndim == 2 else image.mean(axis=2)
    edge = min(grey.shape)
    top, left = ((n - edge) // 2 for n in grey.shape)
    square = grey[top : top + edge, left : left + edge]
    small: np.ndarray = cast_values(resize(square, (side, side), anti_aliasing=True), image.dtype)
    return small


def measure(image: np.ndarray, device: str, limit: float) -> dict[str, Any]:
    small = small_copy(image)
    return {
        "shape": list(image.shape),
        "ours": {**{way: ours(image, way, device) for way in WAYS}, "its pixels": from_values(image, device)},
        "small": {
            "ours": ours(small, "numpy.gradient", device),
            "plain SIREN": plain(small, device, limit),
        },
    }


def tables(rows: dict[str, Any]) -> tuple[Table, Table]:
    """Lay out what was measured."""
    whole = Table("image", *WAYS, "its pixels", title="PSNR in dB, seconds; fitted to")
    small = Table("image", "ours", "plain SIREN", "steps", title=f"{SMALL} x {SMALL}, grey, from numpy.gradient")
    for name, row in rows.items():
        whole.add_row(name, *(cell(figures) for figures in row["ours"].values()))
        steps = f"{row['small']['plain SIREN']['steps']}"
        small.add_row(name, *(cell(figures) for figures in row["small"].values()), steps)
    return whole, small


def cell(figures: dict[str, float]) -> str:
    return f"{figures['psnr']:.2f} / {figures['seconds']:.2g} s"


def main(options: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=machine.DATA, help="folder with kodak/, div2k16/ and microscopy/")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=100.0, help="of the plain SIREN, for each image")
    parser.add_argument("--json", type=Path, default=Path("out/benchmark-derivatives.json"))
    parser.add_argument("--pictures", type=Path, default=None, help="folder for the pictures of the guide")
    arguments = parser.parse_args(options)
    images = {Path(name).stem: imread(arguments.data / name) for name in IMAGES if (arguments.data / name).is_file()}
    if not images:
        raise SystemExit(f"none of {', '.join(IMAGES)} is in {arguments.data}; say where they are with --data")
    if arguments.pictures is not None:
        draw(arguments.data, arguments.pictures, arguments.device)
    # The first use compiles the kernel, or starts the device; that is not the fit's time.
    ns.fit(np.eye(32, dtype=np.float32), device=arguments.device, max_steps=3)
    rows = {name: measure(image, arguments.device, arguments.seconds) for name, image in images.items()}
    console = Console(width=160)
    for table in tables(rows):
        console.print(table)
    least = min(row["ours"][way]["psnr"] for row in rows.values() for way in WAYS if WAYS[way][0] == "gradient")
    console.print(f"least from a gradient: {least:.2f} dB; required: {REQUIRED:g} dB")
    report = {"machine": machine.describe(arguments.device), "images": rows, "least_from_gradient": least}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {arguments.json}")


if __name__ == "__main__":
    main()
