"""`napari-siren doctor`: the devices of this machine, the expected speed, and the missing packages."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import psutil
import torch

import napari_siren
from napari_siren.core.cost.estimate import estimate
from napari_siren.core.device import available_devices, describe_device, free_memory, resolve_device
from napari_siren.core.engines import kernel, verdict_on
from napari_siren.core.settings.config import FitConfig

# Rows and columns of the images for the trial fit and for the expected time, in pixels; and their number of channels.
_SMALL, _PHOTO = (256, 256), (512, 768)
_COLOURS = 3
# Qt bindings that napari can use.
_QT = ("PyQt6", "PySide6", "PyQt5", "PySide2")


def examine() -> Iterator[tuple[str, str]]:
    """Yield a name and a sentence for each finding. The last one needs a short trial fit."""
    yield "napari-siren", napari_siren.__version__
    yield "Python", f"{platform.python_version()} on {platform.platform()}"
    yield "PyTorch", torch.__version__
    for name in available_devices():
        device = resolve_device(name)
        yield "device", f"{describe_device(device)}, {_gigabytes(free_memory(device))} free"
        if device.type != "cpu":
            yield "self-check", "; ".join(verdict_on(device).events()) or "passed: the results agree with the CPU"
    yield "memory", f"{_gigabytes(psutil.virtual_memory().total)} in total"
    built = kernel()
    yield "compiled kernel", f"{'yes' if built.library is not None else 'no'}; {built.message}"
    yield "napari", _napari()
    yield "compressed TIFF", _imagecodecs()
    yield "speed", _speed()


def _speed() -> str:
    config = FitConfig.preset("faithful")
    small, photo = (estimate(shape, _COLOURS, config) for shape in (_SMALL, _PHOTO))
    assert small.seconds_per_step is not None  # a trial fit was run
    return (
        f"{1000 * small.seconds_per_step:.1f} ms per step for a {_SMALL[1]} x {_SMALL[0]} colour image on "
        f"{small.device}; about {photo.seconds:.0f} s for a {_PHOTO[1]} x {_PHOTO[0]} colour photo (preset faithful, "
        f"{config.max_steps} steps)"
    )


def _napari() -> str:
    installed = _version_of("napari")
    if installed is None:
        return 'not installed; install it for the plugin: pip install "napari-siren[all]"'
    qt = next((name for name in _QT if importlib.util.find_spec(name)), None)
    if qt is None:
        return f'{installed}, but no window opens without a Qt binding; install one: pip install "napari[all]"'
    return f"{installed}, with {qt}"


def _imagecodecs() -> str:
    installed = _version_of("imagecodecs")
    if installed is None:
        return "uncompressed and deflate only; for LZW, JPEG and others: pip install imagecodecs"
    return f"yes, with imagecodecs {installed}"


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gigabytes(n: int) -> str:
    return f"{n / 1e9:.1f} GB"
