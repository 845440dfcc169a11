"""The sections of the study about what a SIREN is, and about what goes wrong on the pixels."""

from __future__ import annotations

import numpy as np

import napari_siren as ns
from benchmarks.interpolators import bicubic, nearest, to_bytes
from benchmarks.study_pictures import Plot, panels, plots, spectra
from benchmarks.study_tools import (
    DETAIL,
    HEAD,
    PHOTO,
    Section,
    Study,
    Table,
    beyond,
    grid_of,
    network,
    plain,
    psnr,
    smaller,
    spectrum,
    wrapped,
)
from napari_siren.core.progress import History

# Of the photograph that the paper's network memorises: 192 x 128.
REDUCED = 4
# Part of it that is shown, in its pixels.
SHOWN = (slice(30, 94), slice(20, 84))
# Of a layer, those that are drawn.
WAVES = (1, 2, 3)
# Samples per pixel of a curve.
FINE = 20


def what_it_is(study: Study) -> Section:
    """Draw what the layers of a SIREN make of a position: a row of pixels as the sum of waves."""
    row = smaller(HEAD, 8)[9, :, 1]
    result = study.fit(row, tile="whole", hidden_layers=2, hidden_features=24, max_steps=300)
    x = (np.arange(len(row) * FINE) + 0.5) / FINE
    first, second = layers(result, x)
    pixels = (np.arange(len(row)) + 0.5, row.astype(np.float64))
    at = "position, pixels"
    fitted = {"fitted": (x, result.field(x[:, np.newaxis]))}
    plots(
        study.out / "siren.png",
        Plot("first layer", at, "value", _waves(x, first), legend=False),
        Plot("second layer", at, "value", _waves(x, second), legend=False),
        Plot("sum, and the pixels", at, "grey level", fitted, pixels, legend=False),
    )
    return Section(notes={"psnr": result.metrics.psnr})


def layers(result: ns.FitResult, x: np.ndarray) -> list[np.ndarray]:
    """Give what each sine layer of a fit of one axis and one tile makes of positions in pixels, (features, n) each."""
    siren, blend = result.field.siren, result.field.blend
    weights, biases = (
        [tensor[0].numpy().astype(np.float64) for tensor in tensors]
        for tensors in (siren.spec.weights(siren.theta), siren.spec.biases(siren.theta))
    )
    h = (x[np.newaxis] - blend.tiling.centres[0, 0]) * blend.coordinate_scale[0]
    found = []
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        h = np.sin(siren.omega_0 * (weight @ h + bias))
        found.append(h)
    return found


def memorise(study: Study) -> Section:
    """Memorise a photograph by the paper's settings, and by ours."""
    small = smaller(PHOTO, REDUCED)
    columns = ["parameters per value", "steps", "PSNR on the pixels", f"PSNR at x{REDUCED}", "beyond π"]
    table = Table(["", *columns], ["", ".2f", "", ".1f", ".1f", ".1f"])
    pictures = {"the photograph": PHOTO, "bicubic": bicubic(small, REDUCED)}
    for name, picture in pictures.items():
        table.add(name, None, None, None, psnr(picture, PHOTO), beyond(picture, REDUCED))
    on_pixels, curves = {f"{small.shape[1]} x {small.shape[0]} pixels": small}, {}
    fits = {"preset paper": {"preset": "paper", "max_seconds": study.seconds}, "preset faithful": {}}
    for name, options in fits.items():
        result = study.fit(small, **options)
        pictures[name] = found = result.render(scale=REDUCED)
        history, share = result.history, result.field.siren.theta.numel() / small.size
        values = [result.metrics.psnr, psnr(found, PHOTO), beyond(found, REDUCED)]
        table.add(name, share, f"{history.step[-1]} in {history.seconds[-1]:.0f} s", *values)
        on_pixels[f"{name}: {result.metrics.psnr:.1f} dB"] = result.reconstruction
        curves[name] = when_looked_at(history)
    shown = {name: nearest(picture[SHOWN], REDUCED) for name, picture in on_pixels.items()}
    shown |= {
        name if name not in fits else f"{name}, x{REDUCED}": picture[_enlarged(SHOWN)]
        for name, picture in pictures.items()
        if name != "bicubic"
    }
    panels(study.out / "memorise.webp", shown)
    powers = {name: spectrum(picture, REDUCED) for name, picture in pictures.items()}
    course = Plot("on the pixels", "seconds", "PSNR, dB", curves, log_x=True)
    plots(study.out / "memorise_plot.png", course, spectra(f"rendered at x{REDUCED}", powers))
    return Section({"memorise": table}, {"memorise": plain(powers)})


def when_looked_at(history: History) -> tuple[np.ndarray, np.ndarray]:
    """Give seconds and PSNR of the steps after which the PSNR was measured; it stays as it is until the next."""
    seconds, values = np.array(history.seconds), np.array(history.psnr)
    new = np.flatnonzero(np.diff(values, prepend=np.nan) != 0)
    return seconds[new], values[new]


def noise(study: Study) -> Section:
    """Look at the error that is left after as many steps as the original experiment had."""
    # As many parameters for each value as the network of 5 x 256 has on a photograph of 768 x 512.
    classic = network(3, 36, 1e-4, 15_000)
    fits = {
        "omega_0 30, 3 x 36, 1,500 steps": {**classic, "max_steps": 1500},
        "the same, 15,000 steps": classic,
        "preset faithful, 400 steps": {},
    }
    table = Table(["", "parameters per value", "PSNR on the pixels", "seconds"], ["", ".2f", ".1f", ".1f"])
    shown, powers = {"64 x 64 pixels": nearest(DETAIL, 4)}, {"the photograph": spectrum(DETAIL, 1)}
    for name, options in fits.items():
        result = study.fit(DETAIL, **options)
        table.add(name, result.field.siren.theta.numel() / DETAIL.size, result.metrics.psnr, result.history.seconds[-1])
        shown[f"{name.rpartition('3 x 36, ')[2]}: {result.metrics.psnr:.1f} dB"] = nearest(
            to_bytes(128 + 8 * result.error), 4
        )
        powers[f"error, {name}"] = spectrum(result.error, 1)
    panels(study.out / "noise.webp", shown, columns=4)
    plots(study.out / "noise_plot.png", spectra("the photograph, and what is missing of it", powers))
    return Section({"noise": table}, {"noise": plain(powers)})


def wrapping(study: Study) -> Section:
    """Make the same values 8-bit in two ways."""
    small = smaller(HEAD, 8)
    table = Table(
        ["steps", "lowest and highest value", "", "PSNR on the pixels", "PSNR at x8", "beyond π"],
        ["", "", "", ".1f", ".1f", ".1f"],
    )
    section = Section({"wrapping": table})
    for steps in (50, 150):
        result = study.fit(small, **network(3, 128, 1e-3, steps))
        pixels, values = (result.field(grid_of(small, factor)) for factor in (1, 8))
        ends = f"{values.min():.0f} to {values.max():.0f}"
        found = {}
        for name, convert in {"wrapped": wrapped, "clipped": to_bytes}.items():
            found[name] = convert(values)
            scores = [psnr(convert(pixels), small), psnr(found[name], HEAD), beyond(found[name], 8)]
            table.add(str(steps), ends, name, *scores)
        section.notes[f"differing pixels at x8, {steps} steps"] = float(
            (found["wrapped"] != found["clipped"]).any(axis=-1).mean()
        )
        if steps == 50:
            panels(
                study.out / "wrapping.webp",
                {
                    "wrapped, on the pixels": nearest(wrapped(pixels), 8),
                    "wrapped, x8": found["wrapped"],
                    "clipped, x8": found["clipped"],
                },
            )
            powers = {"the photograph": spectrum(HEAD, 8), **{name: spectrum(p, 8) for name, p in found.items()}}
            plots(study.out / "wrapping_plot.png", spectra("rendered at x8", powers))
            section.spectra["wrapping"] = plain(powers)
    return section


def _waves(x: np.ndarray, values: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {f"wave {k}": (x, values[k]) for k in WAVES}


def _enlarged(window: tuple[slice, slice]) -> tuple[slice, slice]:
    down, across = (slice(REDUCED * part.start, REDUCED * part.stop) for part in window)
    return down, across
