"""The sections of the study about what lies between the pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.interpolators import bicubic, nearest, to_bytes
from benchmarks.study_pictures import Plot, panels, plots, spectra
from benchmarks.study_tools import (
    EYE,
    HEAD,
    Section,
    Study,
    Table,
    at_ends,
    beyond,
    drawn_from,
    first_layer,
    network,
    plain,
    psnr,
    smaller,
    spectrum,
    with_noise,
)
from benchmarks.upscale_sets import consistency
from napari_siren.core.settings.config import detail_for

PAPER = "omega_0 30, 5 x 256"
NAIVE = "omega_0 30, first layer U(-1, 1), 3 x 128"
NAIVE_60 = "omega_0 60, 3 x 64"
# Row of the 32 x 32 pixels that is drawn as a curve: it goes through beak, eye and cheek.
ROW = 12
BANDS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.6, 2.4, 3.2)
SEEDS = 3
# Share of 255.
NOISE = 0.05


def naive(size: int) -> dict[str, Any]:
    """Give naive settings: omega_0 30 on coordinates from -1 to 1, the first weights from U(-1, 1), large steps."""
    return {**network(3, 128, 1e-3, 800), **drawn_from(1.0, size)}


def upscaling(scale: int, **options: Any) -> dict[str, Any]:
    """Give the settings of `ns.upscale`."""
    return {"preset": "upscale", "detail": detail_for(scale), **options}


def between(study: Study) -> Section:
    """Query an image of 32 x 32 on a grid that is eight times denser."""
    small = smaller(HEAD, 8)
    whole = {"tile": "whole", "hidden_features": 64, "max_steps": 300}
    fits = {
        PAPER: ("; Adam 1e-4, 1,000 steps", {"preset": "paper", "max_steps": 1000}),
        "omega_0 30, 3 x 128": ("; Adam 1e-4, 1,500 steps", network(3, 128, 1e-4, 1500)),
        "the same": ("; Adam 1e-3, 800 steps", network(3, 128, 1e-3, 800)),
        NAIVE: ("; Adam 1e-3, 800 steps", naive(32)),
        NAIVE_60: ("; Adam 5e-4, 800 steps", {**network(3, 64, 5e-4, 800), "omega_0": 60.0}),
        "pixel coordinates, 3 x 64": ("; Muon, 300 steps", {**whole, "band": 1.9}),
        "the same, band 0.4": ("; Muon, 300 steps", {**whole, "band": 0.4}),
        "preset faithful": ("", {}),
        "preset upscale": ("", upscaling(8)),
    }
    columns = ["first layer, rad/pixel", "PSNR on the pixels", "PSNR at x8", "on end points", "beyond π"]
    table = Table(["", *columns], ["", ".2f", ".1f", ".1f", ".1f", ".1f"])
    pictures = {"the photograph": HEAD, "bicubic": bicubic(small, 8)}
    for name, picture in pictures.items():
        table.add(name, None, None, psnr(picture, HEAD), None, beyond(picture, 8))
    for name, (how, options) in fits.items():
        result = study.fit(small, **options)
        pictures[name] = result.render(scale=8)
        values = [psnr(pictures[name], HEAD), psnr(at_ends(result.field, 8), HEAD), beyond(pictures[name], 8)]
        table.add(f"{name}{how}", first_layer(result), result.metrics.psnr, *values)
    shown = {name: pictures[name] for name in (NAIVE, NAIVE_60, "bicubic", "preset faithful", "preset upscale")}
    panels(study.out / "between.webp", {"32 x 32 pixels": nearest(small, 8), **shown})
    chosen = {name: pictures[name] for name in ("the photograph", NAIVE_60, "bicubic", "preset upscale")}
    plots(study.out / "between_row.png", profile(small, {name: chosen[name] for name in (NAIVE_60, "preset upscale")}))
    section = Section({"between": table})
    draw_spectra(study, section, "between", chosen, HEAD, 8)
    return section


def profile(small: np.ndarray, pictures: dict[str, np.ndarray]) -> Plot:
    """Plot a row of pixels, and what renders at x8 have between them; green."""
    row = 8 * ROW + 4  # the sample just below the pixels' centres
    x = (np.arange(small.shape[1] * 8) + 0.5) / 8
    curves = {name: (x, picture[row, :, 1].astype(np.float64)) for name, picture in pictures.items()}
    pixels = (np.arange(small.shape[1]) + 0.5, small[ROW, :, 1].astype(np.float64))
    return Plot("a row of the pixels, green", "position, pixels", "grey level", curves, pixels)


def cifar(study: Study) -> Section:
    """Query CIFAR images on the denser grid, of which no truth is known."""
    images = machine.images(study.data, "cifar")
    columns = ["PSNR on the pixels", "x8, made small again", "beyond π"]
    table = Table([f"medians of {len(images)} images", *columns], ["", ".1f", ".1f", ".1f"])
    if not images:
        print(f"no images in {study.data / 'cifar'}: left out; say where they are with --data")
    rows: dict[str, list[list[float]]] = {}
    for image in images.values():
        found = {"bicubic": (math.nan, bicubic(image, 8))}
        for name, options in {NAIVE: naive(32), "preset faithful": {}, "preset upscale": upscaling(8)}.items():
            result = study.fit(image, **options)
            found[name] = result.metrics.psnr, result.render(scale=8)
        for name, (on_pixels, fine) in found.items():
            rows.setdefault(name, []).append([on_pixels, consistency(fine, image, 8), beyond(fine, 8)])
    for name, values in rows.items():
        table.add(name, *np.median(values, axis=0))
    return Section({"cifar": table})


def width_one(study: Study) -> Section:
    """Make the network smaller, down to one neuron."""
    small = smaller(HEAD, 8)
    fits = {
        "width one": network(1, 1, 1e-3, 800),
        "1 x 16": network(1, 16, 1e-3, 800),
        "1 x 256": network(1, 256, 1e-3, 1500),
        "1 x 256, omega_0 60": {**network(1, 256, 1e-3, 1500), "omega_0": 60.0},
        "2 x 32, omega_0 60": {**network(2, 32, 1e-3, 1500), "omega_0": 60.0},
    }
    columns = ["parameters", "PSNR on the pixels", "PSNR at x8", "beyond π"]
    table = Table(["layers x width", *columns], ["", ",.0f", ".1f", ".1f", ".1f"])
    powers, shown = {"the photograph": spectrum(HEAD, 8)}, {}
    for name, options in fits.items():
        result = study.fit(small, **options)
        found = result.render(scale=8)
        table.add(name, result.field.siren.theta.numel(), result.metrics.psnr, psnr(found, HEAD), beyond(found, 8))
        if name in ("width one", "1 x 256", "2 x 32, omega_0 60"):
            shown[name], powers[name] = found, spectrum(found, 8)
    panels(study.out / "width_one.webp", shown)
    plots(study.out / "width_one_plot.png", spectra("rendered at x8", powers))
    return Section({"width_one": table}, {"width_one": plain(powers)})


def bands(study: Study) -> Section:
    """Measure what the band of the first layer does to what lies between the pixels."""
    small = smaller(EYE, 2)
    table = Table(["band, rad/pixel", "PSNR on the pixels", "PSNR at x2", "beyond π"], ["", ".1f", ".1f", ".1f"])
    pictures = {"the photograph": EYE, "bicubic": bicubic(small, 2)}
    table.add("bicubic", None, psnr(pictures["bicubic"], EYE), beyond(pictures["bicubic"], 2))
    for band in BANDS:
        results = [study.fit(small, band=band, seed=seed) for seed in range(SEEDS)]
        found = [result.render(scale=2) for result in results]
        values = [[r.metrics.psnr, psnr(f, EYE), beyond(f, 2)] for r, f in zip(results, found, strict=True)]
        table.add(f"**{band:g}** (`faithful`)" if band == 0.6 else f"{band:g}", *np.mean(values, axis=0))
        if band in (0.6, 1.2, 2.4):
            pictures[f"band {band:g} rad/pixel"] = found[0]
    result = study.fit(small, **upscaling(2))
    pictures["preset upscale"] = fine = result.render(scale=2)
    table.add("preset `upscale`", result.metrics.psnr, psnr(fine, EYE), beyond(fine, 2))
    names = [name for name in pictures if name not in ("bicubic", "the photograph")] + ["the photograph"]
    shown = {name: nearest(pictures[name], 2) for name in names}
    panels(study.out / "bands.webp", {"64 x 64 pixels": nearest(small, 4), **shown})
    section = Section({"bands": table})
    draw_spectra(study, section, "bands", pictures, EYE, 2)
    return section


def upscaled(study: Study) -> Section:
    """Upscale photographs whose large original is known."""
    table = Table(["", "x2", "beyond π", "x4", "beyond π"], ["", ".1f", ".1f", ".1f", ".1f"])
    section = Section({"upscaled": table})
    rows: dict[str, list[float]] = {}
    for scale, truth in ((2, EYE), (4, HEAD)):
        small = smaller(truth, scale)
        fits = {
            NAIVE: naive(small.shape[0]),
            "preset faithful": {},
            "tiles alone": upscaling(scale, task_steps=0),
            "preset upscale": upscaling(scale),
        }
        pictures = rendered(study, fits, small, truth, scale)
        for name, picture in pictures.items():
            rows.setdefault(name, []).extend([psnr(picture, truth), beyond(picture, scale)])
    for name, values in rows.items():
        table.add(name, *values)
    del pictures["tiles alone"]  # of which `regularised` tells
    draw_spectra(study, section, "upscaled", pictures, truth, scale)
    shown = {name: pictures[name] for name in (NAIVE, "bicubic", "preset faithful", "preset upscale")}
    panels(study.out / "upscaled.webp", {"64 x 64 pixels": nearest(small, 4), **shown, "the photograph": truth})
    return section


def regularised(study: Study) -> Section:
    """Fit with and without what is known of pixels, of images and of this image; without noise and with 5 %."""
    alone = {"task_steps": 0}
    fits = {
        "value at a point": upscaling(2, observation="point", total_variation=0.0, **alone),
        "mean over the area": upscaling(2, observation="box", total_variation=0.0, **alone),
        "the same, total variation": upscaling(2, observation="box", **alone),
        "learned from itself, box": upscaling(2, observation="box"),
        "learned from itself (preset upscale)": upscaling(2),
    }
    small = smaller(EYE, 2)
    noisy = with_noise(small, NOISE)
    columns = ["x2", "beyond π", f"{NOISE:.0%} noise, on the pixels", "x2", "beyond π"]
    table = Table(["", *columns], ["", *[".1f"] * 5])
    section = Section({"regularised": table})
    rows: dict[str, list[Any]] = {}
    for image in (small, noisy):
        pictures = rendered(study, fits, image, EYE, 2)
        for name, picture in pictures.items():
            row = rows.setdefault(name, [])
            if image is noisy:
                row.append(study.fit(image, **fits[name]).metrics.psnr if name in fits else None)
            row += [psnr(picture, EYE), beyond(picture, 2)]
    for name, values in rows.items():
        table.add(name, *values)
    del pictures["learned from itself, box"]
    draw_spectra(study, section, "regularised", pictures, EYE, 2)
    shown = {name: nearest(picture, 2) for name, picture in pictures.items() if name != "the photograph"}
    panels(study.out / "regularised.webp", {f"64 x 64 pixels, {NOISE:.0%} noise": nearest(noisy, 4), **shown})
    return section


def rendered(
    study: Study, fits: dict[str, dict[str, Any]], small: np.ndarray, truth: np.ndarray, scale: int
) -> dict[str, np.ndarray]:
    """Give the truth, the bicubic, and what fits of a small image are when they are rendered."""
    found = {name: study.fit(small, **options).render(scale=scale) for name, options in fits.items()}
    return {"the photograph": truth, "bicubic": bicubic(small, scale), **found}


def draw_spectra(
    study: Study, section: Section, name: str, pictures: dict[str, np.ndarray], truth: np.ndarray, scale: int
) -> None:
    """Plot spectra of renders, and what share of the truth's power is wrong in each.

    A share of 1 is as wrong as a picture that has nothing there.
    """
    powers = {title: spectrum(picture, scale) for title, picture in pictures.items()}
    shares = {
        title: spectrum(picture.astype(np.float64) - truth, scale) / spectrum(truth, scale)
        for title, picture in pictures.items()
        if picture is not truth
    }
    plots(
        study.out / f"{name}_plot.png",
        spectra(f"rendered at x{scale}", powers),
        spectra("error over the photograph", shares, "share of the power"),
    )
    section.spectra |= {name: plain(powers), f"{name}, error": plain(shares)}


def views(study: Study) -> Section:
    """Draw what a field answers: the picture of the documentation's first page."""
    small = smaller(EYE, 2)
    result = study.fit(small, **upscaling(2))
    magnitude = result.render(scale=3, derivative="gradient_magnitude").mean(axis=-1)
    laplacian = result.render(scale=3, derivative="laplacian").mean(axis=-1)
    limit = np.percentile(np.abs(laplacian), 99)
    panels(
        study.out / "field.png",
        {
            "64 x 64 pixels": nearest(small, 3),
            "the field, x3": result.render(scale=3),
            "size of its gradient": grey(255 * magnitude / np.percentile(magnitude, 99.5)),
            "its Laplacian": grey(127.5 + 127.5 * laplacian / limit),
        },
        columns=4,
    )
    return Section()


def grey(values: np.ndarray) -> np.ndarray:
    """Give grey levels as a picture in colours."""
    return to_bytes(np.repeat(values[..., np.newaxis], 3, axis=-1))
