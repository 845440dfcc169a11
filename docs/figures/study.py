"""The figures and tables of docs/study.md, from the sample photograph; about a minute on one core.

python docs/figures/study.py
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont

import napari_siren as ns
from napari_siren.sources import read_image, sample_path

FOLDER = Path(__file__).parent
PHOTO = read_image(sample_path()).array
HEAD = PHOTO[150:406, 64:320]  # 256 x 256; eight times smaller it is 32 x 32, the size of a CIFAR image
EYE = PHOTO[170:298, 130:258]  # 128 x 128; two times smaller it is 64 x 64
DETAIL = PHOTO[170:234, 130:194]  # 64 x 64

Picture = npt.NDArray[np.uint8]

# The images are so small that a second thread only costs.
torch.set_num_threads(1)


def main() -> None:
    small = smaller(HEAD, 8)
    between_pixels(small)
    wrapping(small)
    bands()
    convergence()
    views()


def between_pixels(small: Picture) -> None:
    """What lies between the pixels of an image of 32 x 32, eight times enlarged."""
    paper = {"preset": "paper", "max_steps": 800}
    whole = {"tile": "whole", "hidden_features": 64, "max_steps": 300}
    fits = {
        "paper: 5 x 256, omega_0 30, rate 1e-4": {**paper, "max_steps": 1000},
        "omega_0 30, 3 x 128, rate 1e-4": {**paper, **network(3, 128), "max_steps": 3000},
        "omega_0 30, 3 x 128, rate 1e-3": {**paper, **network(3, 128), "learning_rate": 1e-3},
        "omega_0 60, 3 x 64, rate 5e-4": {**paper, **network(3, 64), "omega_0": 60.0, "learning_rate": 5e-4},
        "omega_0 30, 1 x 1, rate 1e-3": {**paper, **network(1, 1), "learning_rate": 1e-3},
        "pixel coordinates, band 1.9": {**whole, "band": 1.9},
        "pixel coordinates, band 0.4": {**whole, "band": 0.4},
        "preset faithful": {},
        "preset upscale": {"preset": "upscale"},
    }
    shown = {"32 x 32 pixels": enlarge(small, 8)}
    rows = [["bicubic", "", "", decibels(psnr(bicubic(small, 8), HEAD)), ""]]
    for name, options in fits.items():
        result = ns.fit(small, **options)
        found = result.render(scale=8)
        shown[name] = found
        values = [result.metrics.psnr, psnr(found, HEAD), psnr(clipped(at_ends(result.field, 8)), HEAD)]
        rows.append([name, f"{first_layer(result):.2f}", *map(decibels, values)])
    table("x8", ["", "first layer, rad/pixel", "PSNR on pixels", "x8", "x8, end points"], rows)
    panels(
        "between_pixels.png",
        {
            "32 x 32 pixels": shown["32 x 32 pixels"],
            "omega_0 30, 3 x 128, rate 1e-3": shown["omega_0 30, 3 x 128, rate 1e-3"],
            "omega_0 60, 3 x 64, rate 5e-4": shown["omega_0 60, 3 x 64, rate 5e-4"],
            "bicubic": bicubic(small, 8),
            "band 0.4 rad/pixel": shown["pixel coordinates, band 0.4"],
            'preset "upscale"': shown["preset upscale"],
        },
    )


def wrapping(small: Picture) -> None:
    """The same values between the pixels, made 8-bit in two ways."""
    result = ns.fit(small, preset="paper", **network(3, 128), learning_rate=1e-3, max_steps=150)
    values = result.field(grid_of(small, 8))
    wrapped = np.rint(values).astype(np.int64).astype(np.uint8)  # modulo 256
    changed = (wrapped != clipped(values)).any(axis=-1).mean()
    table(
        "clipping",
        ["", "PSNR on pixels", "x8"],
        [
            ["wrapped around", decibels(result.metrics.psnr), decibels(psnr(wrapped, HEAD))],
            ["clipped", decibels(result.metrics.psnr), decibels(psnr(clipped(values), HEAD))],
        ],
    )
    print(f"values from {values.min():.0f} to {values.max():.0f}; {100 * changed:.1f} % of the pixels differ\n")
    panels("wrapping.png", {"wrapped around": wrapped, "clipped": clipped(values)})


def bands() -> None:
    """What the band of the first layer does to what lies between the pixels."""
    small = smaller(EYE, 2)
    shown: dict[str, Picture] = {"64 x 64 pixels": enlarge(small, 4)}
    rows = [["bicubic", "", decibels(psnr(bicubic(small, 2), EYE))]]
    for band in (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.6, 2.4, 3.2):
        results = [ns.fit(small, band=band, seed=seed) for seed in range(3)]
        found = [result.render(scale=2) for result in results]
        on_pixels = np.mean([result.metrics.psnr for result in results])
        rows.append([f"{band:g}", decibels(on_pixels), decibels(np.mean([psnr(f, EYE) for f in found]))])
        if band in (0.6, 1.2, 2.4):
            shown[f"band {band:g} rad/pixel"] = enlarge(found[0], 2)
    result = ns.fit(small, preset="upscale")
    rows.append(["upscale", decibels(result.metrics.psnr), decibels(psnr(result.render(scale=2), EYE))])
    table("x2", ["band, rad/pixel", "PSNR on pixels", "x2"], rows)
    shown["the photograph"] = enlarge(EYE, 2)
    shown['preset "upscale"'] = enlarge(result.render(scale=2), 2)
    panels("bands.png", shown)


def convergence() -> None:
    """The error that is left, as many steps as it takes."""
    # As many parameters for each value as the network of 5 x 256 has on a photograph of 768 x 512.
    classic = {"preset": "paper", **network(3, 36)}
    fits = {
        "classic, 1,500 steps": {**classic, "max_steps": 1500},
        "classic, 15,000 steps": classic,
        'preset "faithful", 400 steps': {},
    }
    rows, shown = [], {"64 x 64 pixels": enlarge(DETAIL, 4)}
    for name, options in fits.items():
        result = ns.fit(DETAIL, **options)
        share = result.field.siren.theta.numel() / DETAIL.size
        seconds = result.history.seconds[-1]
        rows.append([name, f"{share:.2f}", decibels(result.metrics.psnr), f"{seconds:.1f} s"])
        shown[f"{name}: {result.metrics.psnr:.1f} dB"] = enlarge(clipped(128 + 8 * result.error), 4)
    table("convergence", ["", "parameters per value", "PSNR on pixels", "time"], rows)
    panels("convergence.png", shown, columns=4)


def views() -> None:
    """What a field answers: the picture of the first page."""
    result = ns.fit(smaller(EYE, 2), preset="upscale")
    magnitude = result.render(scale=3, derivative="gradient_magnitude").mean(axis=-1)
    laplacian = result.render(scale=3, derivative="laplacian").mean(axis=-1)
    limit = np.percentile(np.abs(laplacian), 99)
    panels(
        "field.png",
        {
            "64 x 64 pixels": enlarge(smaller(EYE, 2), 3),
            "the field, x3": result.render(scale=3),
            "size of its gradient": grey(255 * magnitude / np.percentile(magnitude, 99.5)),
            "its Laplacian": grey(127.5 + 127.5 * laplacian / limit),
        },
        columns=4,
    )


# ---- images -------------------------------------------------------------------------------------


def smaller(image: Picture, factor: int) -> Picture:
    """The mean of factor x factor pixels, which is free of aliasing."""
    size = (image.shape[1] // factor, image.shape[0] // factor)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))


def bicubic(image: Picture, factor: int) -> Picture:
    size = (image.shape[1] * factor, image.shape[0] * factor)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def enlarge(image: Picture, factor: int) -> Picture:
    """Every pixel as a square."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def grey(values: npt.NDArray[np.floating]) -> Picture:
    return clipped(np.repeat(values[..., None], 3, axis=-1))


def clipped(values: npt.NDArray[np.floating]) -> Picture:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def grid_of(image: Picture, factor: int) -> npt.NDArray[np.float64]:
    """Positions of a finer grid by pixel centres: (j + 0.5) / factor."""
    axes = [(np.arange(n * factor) + 0.5) / factor for n in image.shape[:2]]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


def at_ends(field: ns.Field, factor: int) -> npt.NDArray[np.floating]:
    """Values on a finer grid laid from the first pixel's centre to the last one's, as linspace(-1, 1, n) does."""
    axes = [np.linspace(0.5, n - 0.5, n * factor) for n in field.format.spatial_shape]
    return field(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1))


# ---- numbers ------------------------------------------------------------------------------------


def network(layers: int, width: int) -> dict[str, int]:
    return {"hidden_layers": layers, "hidden_features": width}


def first_layer(result: ns.FitResult) -> float:
    """Bound along an axis of the frequencies that the first layer is drawn from, in radians per pixel."""
    config = result.config
    if config.coordinates == "pixel":
        return config.band
    return config.omega_0 / result.field.dimensions * max(result.field.blend.coordinate_scale)


def psnr(found: Picture, truth: Picture) -> float:
    mse = np.square(found.astype(np.float64) - truth).mean()
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def decibels(value: float) -> str:
    return "exact" if math.isinf(value) else f"{value:.1f}"


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    print(f"{title}\n")
    for row in [head, ["---"] * len(head), *rows]:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def panels(name: str, pictures: dict[str, Picture], columns: int = 3) -> None:
    """Put pictures of one size side by side, pixel for pixel, each under its title."""
    font, line, gap = ImageFont.load_default(14), 22, 6
    height, width = next(iter(pictures.values())).shape[:2]
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + line + gap) - gap), "white")
    draw = ImageDraw.Draw(sheet)
    for k, (title, picture) in enumerate(pictures.items()):
        left, top = k % columns * (width + gap), k // columns * (height + line + gap)
        draw.text((left, top + 2), title, fill="black", font=font)
        sheet.paste(Image.fromarray(picture), (left, top + line))
    sheet.save(FOLDER / name, optimize=True)
    print(f"{name}: {(FOLDER / name).stat().st_size // 1000} kB\n", flush=True)


if __name__ == "__main__":
    main()
