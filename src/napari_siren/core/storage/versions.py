"""Versions of installed packages, and the data to reproduce a fit."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import numpy.typing as npt


def version_of(package: str) -> str:
    """Return the version of a package, or "unknown" if it is not installed, for example if run from its sources."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def make_provenance(image: npt.NDArray[Any], device: str, seed: int, engine: str) -> dict[str, Any]:
    """Return the data to reproduce a fit, beside its configuration.

    Parameters
    ----------
    image
        The image; its hash is the SHA-256 of dtype, shape and bytes.
    device, seed, engine
        Device, seed and engine of the fit.
    """
    image = np.ascontiguousarray(image)
    digest = hashlib.sha256(f"{image.dtype.str} {image.shape} ".encode())
    digest.update(image.data if image.size else b"")
    packages = ("napari-siren", "torch", "numpy", "scikit-image")
    return {
        "seed": seed,
        "device": device,
        "engine": engine,
        "data_sha256": digest.hexdigest(),
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in packages}},
        "platform": platform.platform(),
    }
