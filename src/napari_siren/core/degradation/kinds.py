"""The degradation of each kind of training."""

from __future__ import annotations

from napari_siren.core.degradation.base import Degradation, Noisy, Robust
from napari_siren.core.degradation.micrographs import Micrographs, OwnNoise, PlaneMicrographs, PlaneReduction, Stacks

KINDS: dict[str, type[Degradation]] = {
    "enlarge": Degradation,
    "denoise": Noisy,
    "microscope": Micrographs,
    "stack": Stacks,
    "robust": Robust,
}
# Degradations of planes for each kind.
_OF_PLANES: dict[str, type[Degradation]] = {
    "enlarge": PlaneReduction,
    "denoise": Noisy,
    "microscope": PlaneMicrographs,
}


def degradation_for(kind: str, source: str) -> type[Degradation]:
    """Return the degradation of a kind of training, for a source of images in `pretraining.settings.SOURCES`."""
    if source == "noisy planes":
        return OwnNoise
    return KINDS[kind] if source == "photographs" else _OF_PLANES[kind]
