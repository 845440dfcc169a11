"""Settings without an effect, and point spread functions with a background or beside their middle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import napari_siren as ns
from napari_siren.core.settings.config import FitConfig
from napari_siren.core.settings.notes import notes_on_settings

OBJECTIVE: dict[str, Any] = {"numerical_aperture": 1.4, "wavelength": 0.52, "refractive_index": 1.515}


def bell(shift: float = 0.0, background: float = 0.0) -> Any:
    rows, columns = np.mgrid[-8:9, -8:9]
    return background + np.exp(-((rows - shift) ** 2 + columns**2) / 8)


def notes(preset: Any, **options: Any) -> list[str]:
    return list(notes_on_settings(FitConfig.preset(preset, **options)))


@pytest.mark.parametrize(
    ("preset", "options", "names"),
    [
        ("denoise", {"read_noise": 3}, "read_noise"),
        ("denoise", {"camera_offset": 100, "read_noise": 3}, "camera_offset and read_noise"),
        ("deblur", {"camera_offset": 100, "read_noise": 3}, "read_noise"),
    ],
)
def test_numbers_of_a_camera_without_its_gain(preset: str, options: dict[str, float], names: str) -> None:
    sentence = f"{names} had no effect: the noise was estimated from the image; set camera_gain too"
    assert notes(preset, **options) == [sentence]
    assert notes(preset, camera_gain=2, **options) == []


def test_the_note_is_in_the_result() -> None:
    image = np.random.default_rng(0).normal(100, 5, (16, 16))
    result = ns.fit(image, preset="denoise", read_noise=5)
    assert result.provenance["notes"] == notes("denoise", read_noise=5)


@pytest.mark.parametrize(
    ("psf", "texts"),
    [
        (bell(), []),
        (np.ones((9, 9)), []),
        (np.ones((4, 4)), []),
        (bell(background=0.1), ["the edge of the psf has 9% of its largest value"]),
        (bell(shift=3), ["the middle of the psf is 3.0, 0.0 pixels from index n // 2"]),
        (bell(shift=-2, background=0.2), ["the edge of the psf", "the middle of the psf is -2.0, 0.0 pixels"]),
        (ns.psf_from_objective((0.5, 0.1, 0.1), **OBJECTIVE), []),
        (ns.psf_from_bead(np.random.default_rng(0).normal(100 + 900 * bell(2.3), 5)), []),
    ],
)
def test_a_psf_with_background_or_beside_its_middle(psf: Any, texts: list[str]) -> None:
    found = notes("deblur", psf=psf)
    assert len(found) == len(texts)
    assert all(note.startswith(text) for note, text in zip(found, texts, strict=True))
