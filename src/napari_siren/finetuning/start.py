"""The general weights to start from, and the settings of their training on one's own images."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from napari_siren.core.degradation import camera
from napari_siren.core.pretrained_network import resampling
from napari_siren.core.pretrained_network.network import restore
from napari_siren.core.pretraining.planes import Array, Plane, PlaneValidation, is_absolute, noise_parameters
from napari_siren.core.pretraining.settings import Settings
from napari_siren.core.pretraining.trainer import Start
from napari_siren.core.restoration.pretrained.weights import Weights, package_weights
from napari_siren.errors import ConfigError
from napari_siren.finetuning.images import Images
from napari_siren.finetuning.result import mean_of

# General weights for each task. Those with the better score on the held-out images are used.
TASKS = {"enlarge": ("enlarge",), "denoise": ("denoise", "microscope")}
# Largest number of rows and columns of the crops for validation.
_VALIDATION_SIDE = 192
# Rows and columns of the crops of input. The largest one with room for all scales is used.
_CROPS = {"enlarge": (48, 40, 32, 24, 16), "denoise": (64, 56, 48, 40)}
# Scales for enlarging, and how often each is drawn: those of the general weights.
_SCALES = {2.0: 0.36, 3.0: 0.26, 4.0: 0.26, 1.5: 0.06, 2.5: 0.06}
# Step sizes of Muon and Adam: a fifth and a seventh of those of the general weights. On stripes of 64 x 64 pixels the
# gains after 60 steps were 1.2, 1.7, 2.5 and 3.6 dB with 0.001, 0.002, 0.004 and 0.008 (Muon; Adam a tenth of it).
_MUON_RATE, _ADAM_RATE = 0.003, 3e-4
# Margin around a crop for the filter of correlated noise, at both ends.
_MARGIN = 8
# Largest number of pixels of noisy planes. They are denoised before the training: 40 s on one thread with AMX.
_MOST_NOISY = 1 << 24


@dataclass(frozen=True, eq=False)
class General:
    """The general weights for some images.

    Parameters
    ----------
    weights
        The weights.
    validation
        Their validation on the held-out images.
    scores
        Their scores.
    """

    weights: Weights
    validation: PlaneValidation
    scores: dict[str, float]

    @classmethod
    def best(cls, task: str, noisy: bool, planes: Sequence[Plane], device: torch.device, dtype: torch.dtype) -> General:
        """Return the general weights with the best mean score on held-out planes.

        Parameters
        ----------
        task
            A name in `TASKS`.
        noisy
            Whether the planes have noise.
        planes
            The held-out planes.
        device, dtype
            Device of the networks, and dtype of their convolutions.

        Raises
        ------
        ConfigError
            There is no such task.
        """
        if task not in TASKS:
            raise ConfigError(f"task={task!r} is unknown. Choose {' or '.join(map(repr, TASKS))}.")
        candidates = []
        for name in TASKS[task]:
            weights = package_weights(name)
            validation = PlaneValidation(planes, weights.kind, noisy, _VALIDATION_SIDE, device)
            network = copy.deepcopy(weights.network).to(device)
            candidates.append(cls(weights, validation, validation.scores(network, dtype)))
        return max(candidates, key=lambda candidate: candidate.score)

    @property
    def score(self) -> float:
        """Mean score in dB."""
        return mean_of(self.scores)

    def training_images(
        self, planes: Sequence[Plane], device: torch.device, dtype: torch.dtype
    ) -> tuple[list[Array], list[tuple[float, float, float]] | None]:
        """Return the images to train on, (rows, columns, 1) each, and the noise of each of them if they are noisy.

        Noisy planes are denoised. The network learns to remove noise of the same kind from the result.
        """
        arrays = [plane.array(is_absolute(self.weights.kind)) for plane in planes]
        if not self.validation.noisy:
            return [array[..., np.newaxis] for array in arrays], None
        arrays = arrays[:: -(-sum(array.size for array in arrays) // _MOST_NOISY)]
        parameters = [noise_parameters(array) for array in arrays]
        network = copy.deepcopy(self.weights.network).to(device)
        clean = []
        for array, numbers in zip(arrays, parameters, strict=True):
            noisy = torch.from_numpy(array)[None].to(device)
            inputs = torch.stack(
                [noisy, camera.deviation(noisy, *torch.tensor(numbers, device=device)[:, None])], dim=1
            )
            clean.append(
                restore(network, inputs, (array.shape[0], array.shape[1]), dtype).cpu().numpy()[0, ..., np.newaxis]
            )
        return clean, parameters

    def start(self, images: Images, dtype: torch.dtype) -> Start:
        """Return the start of a training on images."""
        origin = hashlib.sha256(f"{self.weights.sha256} {images.data}".encode()).hexdigest()
        return Start(self.weights.network, self.validation, self.scores, dtype, origin)

    def settings(self, images: Images, on_gpu: bool) -> Settings:
        """Return the settings of a training on images."""
        noisy, kind = self.validation.noisy, self.weights.kind
        # At least half of the planes are large enough for the crops.
        side = int(np.median([plane.side for plane in images.training]))
        crop, outputs = _enlarged_crops(side) if kind == "enlarge" else _crops(side)
        return Settings(
            kind=kind,
            source="noisy planes" if noisy else "planes",
            loss="absolute" if kind == "enlarge" else "square",
            keep_best=True,
            network=self.weights.network.shape,
            crop=crop,
            batch=32 if on_gpu else 8,
            outputs=outputs,
            candidates=1 if noisy else 2,
            halves=0.0,
            muon_rate=_MUON_RATE,
            adam_rate=_ADAM_RATE,
            warm_up=20,
            averaging=0.99,
            # Steps on a CPU are so slow that progress is reported after a few.
            chunk=50 if on_gpu else 5,
            held_out=images.held_out_names,
            validation_crop=_VALIDATION_SIDE,
        )


def _enlarged_crops(side: int) -> tuple[int, tuple[tuple[int, float], ...]]:
    """Return the crops for enlarging, and the sides of their outputs, for planes with a number of rows and columns."""

    def fits(crop: int, scale: float) -> bool:
        return scale * crop + 2 * resampling.margin_of(scale) <= side

    sizes = _CROPS["enlarge"]
    crop = next((crop for crop in sizes if all(fits(crop, scale) for scale in _SCALES)), sizes[-1])
    return crop, tuple((round(scale * crop), share) for scale, share in _SCALES.items() if fits(crop, scale))


def _crops(side: int) -> tuple[int, tuple[tuple[int, float], ...]]:
    crop = next(crop for crop in _CROPS["denoise"] if crop + _MARGIN <= side)
    return crop, ((crop, 1.0),)
