"""What a benchmark ran on, and where its images are."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.io import imread

from napari_siren.core.device import describe_device
from napari_siren.core.engines import kernel

DATA = Path(__file__).parents[2] / "shared" / "data"


def describe(device: str) -> dict[str, Any]:
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = f"{names[0]} x {len(names)}"
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "device": describe_device(torch.device(device)),
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "native": kernel().library is not None,
    }


def images(data: Path, folder: str) -> dict[str, np.ndarray]:
    return {path.stem: imread(path) for path in sorted((data / folder).glob("*.png"))}
