"""Small trainings, and images for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import napari_siren
from napari_siren.core.pretraining.settings import Settings, read_settings
from napari_siren.core.pretraining.trainer import Plan, Trainer

# Folders of the published settings, and of the weights of the package.
TRAINING = Path(__file__).parents[1] / "training"
WEIGHTS = Path(napari_siren.__file__).parent / "weights"
CPU = torch.device("cpu")
TINY = Settings().with_changes(
    {
        "network": {"features": 16, "dilations": [1], "width": 16},
        "crop": 16,
        "batch": 4,
        "outputs": [[32, 1.0], [40, 0.2]],
        "warm_up": 5,
        "chunk": 5,
        "averaging": 0.9,
        "held_out": ["b.png"],
        "validation_crop": 48,
    }
)


def pictures(count: int, side: int = 112) -> list[np.ndarray]:
    """Return images of discs with sharp edges, which interpolation blurs."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    images = []
    for _ in range(count):
        image = np.full((side, side, 3), 40.0)
        for _ in range(30):
            row, column, radius = [*rng.uniform(0, side, 2).tolist(), rng.uniform(3, 15)]
            image[(y - row) ** 2 + (x - column) ** 2 < radius**2] = rng.uniform(0, 255, 3)
        images.append(image.astype(np.uint8))
    return images


def make_trainer(out: Path, steps: int, settings: Settings = TINY) -> Trainer:
    """Return a training of discs on the CPU."""
    plan = Plan(1.0, steps, CPU, torch.float32, 0, out, name=settings.kind)
    images = pictures(4)
    return Trainer(settings, plan, images[1:], images[:1])


def tiny(kind: str, changes: dict[str, Any] | None = None) -> Settings:
    """Return the settings of the file of a kind, at the size of TINY."""
    own = read_settings(TRAINING / f"{kind}.toml")
    outputs = {"enlarge": [[32, 1.0], [40, 0.2]], "robust": [[32, 1.0], [16, 0.5]]}.get(kind, [[16, 1.0]])
    common = {"kind": kind, "loss": own.loss, "keep_best": own.keep_best, "outputs": outputs, "validation_crop": 66}
    return TINY.with_changes({**common, "network": {"inputs": own.network.inputs}, **(changes or {})})
