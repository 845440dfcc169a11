"""`napari-siren doctor`: what is there, how fast it is, what is missing, and how to get it."""

from __future__ import annotations

import importlib.util
import math
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import psutil
import torch

import napari_siren
from napari_siren.core.accel import kernel
from napari_siren.core.config import FitConfig
from napari_siren.core.device import available_devices, describe_device, free_memory, resolve_device
from napari_siren.core.fit import fit_iter

_TRIAL = (256, 256, 3)
_TRIAL_STEPS = 12
# The first steps warm up.
_WARM = 3
_PHOTO = (512, 768, 3)
_QT = ("PyQt6", "PySide6", "PyQt5", "PySide2")


def examine() -> Iterator[tuple[str, str]]:
    """Give what is found, a name and a sentence each; the last come after a short trial fit."""
    yield "napari-siren", napari_siren.__version__
    yield "Python", f"{platform.python_version()} on {platform.platform()}"
    yield "PyTorch", torch.__version__
    for name in available_devices():
        device = resolve_device(name)
        yield "device", f"{describe_device(device)}, {_gigabytes(free_memory(device))} free"
    yield "memory", f"{_gigabytes(psutil.virtual_memory().total)} in all"
    built = kernel()
    yield "compiled kernel", f"{'yes' if built.library is not None else 'no'}; {built.message}"
    yield "napari", _napari()
    yield "compressed TIFF", _imagecodecs()
    yield "speed", _speed()


def seconds_per_step() -> float:
    """Measure a step of the preset "faithful" on a synthetic colour image of 256 x 256, on the best device."""
    y, x, c = np.ogrid[: _TRIAL[0], : _TRIAL[1], : _TRIAL[2]]
    waves = np.sin(x / 5 + c) * np.cos(y / 7 - c)
    noise = np.random.default_rng(0).normal(0, 8, _TRIAL)
    image = np.clip(128 + 100 * waves + noise, 0, 255).astype(np.uint8)
    seconds = [progress.seconds for progress in fit_iter(image, "YXC", max_steps=_TRIAL_STEPS)]
    return (seconds[-1] - seconds[_WARM - 1]) / (_TRIAL_STEPS - _WARM)


def _speed() -> str:
    step = seconds_per_step()
    steps = FitConfig.preset("faithful").max_steps
    expected = step * steps * math.prod(_PHOTO) / math.prod(_TRIAL)
    where = describe_device(resolve_device("auto"))
    return (
        f"{1000 * step:.1f} ms a step of a {_TRIAL[1]} x {_TRIAL[0]} colour image on {where}; expect about "
        f"{expected:.0f} s for a {_PHOTO[1]} x {_PHOTO[0]} colour photo (preset faithful, {steps} steps)"
    )


def _napari() -> str:
    found = _version_of("napari")
    if found is None:
        return 'not installed; for the plugin: pip install "napari-siren[all]"'
    qt = next((name for name in _QT if importlib.util.find_spec(name)), None)
    if qt is None:
        return f'{found}, without a Qt binding, so that no window opens; get one: pip install "napari[all]"'
    return f"{found}, with {qt}"


def _imagecodecs() -> str:
    found = _version_of("imagecodecs")
    if found is None:
        return "uncompressed and deflate only; for LZW, JPEG and others: pip install imagecodecs"
    return f"yes, by imagecodecs {found}"


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gigabytes(n: int) -> str:
    return f"{n / 1e9:.1f} GB"
