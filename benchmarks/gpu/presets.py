"""Part of `benchmarks.gpu`: every task on the device and on the CPU, with the difference of their results."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, shift

import napari_siren as ns
from benchmarks import machine
from benchmarks.gpu.parts import Found, Options, Save

# Photons of the brightest pixel of noisy images.
_PHOTONS = 100
_SPACING = (3.0, 1.0, 1.0)

Task = Callable[[str], np.ndarray]


def presets(options: Options, save: Save) -> Found:
    """Compute each task on both devices: seconds, and the root mean square of the difference as a share of the range.

    The first use on the device compiles, so the seconds are those of the second call.
    """
    found: Found = {"tasks": {}}
    for name, task in _tasks(_picture(options), options.rehearse).items():
        try:
            row = _compared(task, options.device)
        except Exception as error:  # a task that fails must not stop the others
            row = {"failure": f"{type(error).__name__}: {error}"[:300], "trace": traceback.format_exc()[-1500:]}
        found["tasks"][name] = row
        save(found)
    return found


def presets_lines(found: Mapping[str, Any]) -> list[str]:
    def told(row: Mapping[str, Any]) -> str:
        if "failure" in row:
            return f"FAILED, {row['failure'][:100]}"
        return f"{row['device']:.2f} s, CPU {row['cpu']:.2f} s, difference {row['difference']:.1e}"

    rows = [f"{name}: {told(row)}" for name, row in found["tasks"].items()]
    return ["; ".join(rows[i : i + 2]) for i in range(0, len(rows), 2)]


def _compared(task: Task, device: str) -> dict[str, float]:
    task(device)
    result, seconds = _timed(task, device)
    expected, cpu_seconds = _timed(task, "cpu")
    difference = float(np.sqrt(np.square(result - expected).mean()) / np.ptp(expected))
    return {"device": seconds, "cpu": cpu_seconds, "difference": difference}


def _timed(task: Task, device: str) -> tuple[np.ndarray, float]:
    begin = time.perf_counter()
    result = np.asarray(task(device), np.float64)
    return result, time.perf_counter() - begin


def _tasks(picture: np.ndarray, rehearse: bool) -> dict[str, Task]:
    steps = {"max_steps": 3} if rehearse else {"max_steps": 60}
    few = {"task_steps": 3 if rehearse else 60, **steps}
    noisy, stack = _noisy(picture[..., 1]), _stack(picture[..., 1])
    missing = np.zeros(noisy.shape, bool)
    missing[8:12, 8:12] = True
    frames = np.stack([shift(noisy, (0.3 * i, 0.2 * i), mode="nearest") for i in range(4)])

    def fitted(image: np.ndarray, device: str, **settings: Any) -> np.ndarray:
        return ns.fit(image, device=device, **settings).reconstruction

    return {
        "upscale": lambda device: ns.upscale(picture, 2, device=device, adapt="off"),
        "upscale, adapted": lambda device: ns.upscale(picture, 2, device=device, adapt=30),
        "upscale, tiles": lambda d: ns.upscale(picture, 2, device=d, adapt="off", representation="tiles", **steps),
        "upscale, learned here": lambda device: ns.upscale(picture, 2, device=device, pretrained=None, **few),
        "denoise": lambda device: ns.denoise(noisy, device=device),
        "denoise, missing": lambda device: fitted(noisy, device, preset="denoise", missing=missing),
        "denoise a stack": lambda device: ns.denoise(stack, axes="ZYX", device=device, **few),
        "isotropic": lambda device: ns.isotropic(stack, axes="ZYX", spacing=_SPACING, device=device, **few),
        "deblur": lambda device: ns.deblur(noisy, psf_width=2.5, device=device, **few),
        "burst": lambda device: ns.fit_burst(frames, axes="TYX", device=device, **few).reconstruction,
        "series": partial(_series, frames, steps),
        "blocks": partial(_blocks, picture, steps),
        "module": partial(_module, picture, steps),
    }


def _series(frames: np.ndarray, steps: dict[str, Any], device: str) -> np.ndarray:
    return np.asarray(ns.fit_series(frames, axes="TYX", device=device, **steps).reconstruction)


def _blocks(picture: np.ndarray, steps: dict[str, Any], device: str) -> np.ndarray:
    import zarr  # an extra

    with TemporaryDirectory() as folder:
        path = f"{folder}/out.ome.zarr"
        ns.fit_blocks(picture, path, 1, device=device, **steps)
        return np.asarray(zarr.open_group(path, mode="r")["0"])


def _module(picture: np.ndarray, steps: dict[str, Any], device: str) -> np.ndarray:
    """Return values and gradients of the module of a field that is fitted on the CPU."""
    module = ns.fit(picture, device="cpu", **steps).field.module().to(device)
    rng = np.random.default_rng(0)
    points = rng.uniform(0, min(picture.shape[:2]) - 1, (500, 2)).astype(np.float32)
    coordinates = torch.from_numpy(points).to(device).requires_grad_()
    values = module(coordinates)
    (slopes,) = torch.autograd.grad(values.sum(), coordinates)
    return np.concatenate([values.detach().cpu().numpy().ravel(), slopes.cpu().numpy().ravel()])


def _picture(options: Options) -> np.ndarray:
    """Return a part of a photograph, or waves if there is none."""
    size = 40 if options.rehearse else 192
    for image in machine.images(options.data, "kodak").values():
        return image[:size, :size]
    y, x = np.mgrid[:size, :size] / 10
    waves = np.stack([np.sin(x) * np.cos(y), np.sin(x * y / 3), np.cos(x - 2 * y)], axis=-1)
    return np.rint(127.5 * (1 + waves)).astype(np.uint8)


def _noisy(plane: np.ndarray) -> np.ndarray:
    counts = np.random.default_rng(0).poisson(plane.astype(np.float64) * (_PHOTONS / 255))
    return (counts * (255 / _PHOTONS)).astype(np.float32)


def _stack(plane: np.ndarray) -> np.ndarray:
    """Return slices with another blur each."""
    part = plane[:72, :72].astype(np.float64)
    return np.stack([_noisy(np.clip(gaussian_filter(part, 0.3 * i), 0, 255)) for i in range(6)])
