"""`notes_on_settings`: settings that had no effect, and a PSF that is probably not meant as it is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from napari_siren.core.settings.config import FitConfig

# Share of the largest value of a PSF above which its edge is bright. Computed PSFs have at most 0.01 there. The darkest
# twentieth of the edge counts, so that it is not bright by noise, and a smaller PSF has no dark edge.
_BRIGHT, _DARKEST, _LEAST_SIDE = 0.05, 5, 7
# Largest distance of the centroid of the bright part of a PSF from its middle, in pixels.
_OFF_CENTRE = 1.0


def notes_on_settings(config: FitConfig) -> Iterator[str]:
    """Yield a sentence for each setting without an effect, and for a PSF with a background or beside its middle.

    Parameters
    ----------
    config
        Settings of a fit.
    """
    task = config.restoration
    if task is None:
        return
    if config.camera_gain == "auto":
        # The removal of a blur uses the offset as the value of a pixel without light.
        names = [
            name
            for name in ("camera_offset", "read_noise")
            if getattr(config, name) and (name == "read_noise" or task.removes != "blur")
        ]
        if names:
            yield f"{' and '.join(names)} had no effect: the noise was estimated from the image; set camera_gain too"
    if config.psf is not None and config.observation == "measured":
        yield from _notes_on_psf(np.asarray(config.psf, dtype=np.float64))


def _notes_on_psf(psf: npt.NDArray[np.float64]) -> Iterator[str]:
    edges = [np.take(psf, [0, -1], axis=axis).ravel() for axis, n in enumerate(psf.shape) if n >= _LEAST_SIDE]
    share = float(np.percentile(np.concatenate(edges), _DARKEST) / psf.max()) if edges else 0.0
    # A box has no background, although its edge is bright.
    if _BRIGHT < share < 0.5:
        yield (
            f"the edge of the psf has {share:.0%} of its largest value; if this is background, subtract it, or use "
            "psf_from_bead (on the command line --bead)"
        )
    core = np.where(psf > psf.max() / 2, psf, 0)
    grids = np.meshgrid(*(np.arange(n) - n // 2 for n in psf.shape), indexing="ij")
    centre = [float((grid * core).sum() / core.sum()) for grid in grids]
    if max(abs(c) for c in centre) > _OFF_CENTRE:
        yield (
            f"the middle of the psf is {', '.join(f'{c:.1f}' for c in centre)} pixels from index n // 2, which shifts "
            "the result; psf_from_bead (on the command line --bead) moves it there"
        )
