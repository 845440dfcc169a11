"""The files of a training on one's own images: the weights, their card, and a picture of the held-out images."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from napari_siren.core.pretrained_network import weights
from napari_siren.core.pretrained_network.network import PretrainedNetwork
from napari_siren.core.pretraining.trainer import Trainer
from napari_siren.finetuning.images import Images, megapixels
from napari_siren.finetuning.result import TrainResult
from napari_siren.finetuning.start import General

# Largest number of crops in the picture, and size of each in inches.
_ROWS, _INCHES = 3, 2.6

_CARD = """# Weights for one's own images

Weights of napari-siren for `{preset}`, trained on {images} files ({pixels:.1f} megapixels), starting from the weights
`{general}` of the package. Use them with `pretrained="{name}.safetensors"` and the preset `{preset}`.

- Training: {minutes:.1f} minutes, {steps} steps of {batch} crops of {crop} x {crop}; seed {seed}; {date}; {device};
  PyTorch {torch}.
- Held out: {held_out}.
- {outcome}
- The images have the SHA-256 `{data}`.

## Held-out score

{measure} These weights were chosen by this score, so it is slightly too good.

| | general weights | these weights | gain |
|---|---:|---:|---:|
{rows}
"""
_PSNR = "PSNR in dB, for the range of each image without outliers."
_BLIND = (
    "PSNR in dB, for the range of each image without outliers. The images are noisy, so it is estimated: each pixel is "
    "predicted from the others only, and the variance of the noise is subtracted."
)


def save_weights(
    result: TrainResult, network: PretrainedNetwork, trainer: Trainer, general: General, images: Images
) -> None:
    """Write the weights, with the record of their training as metadata."""
    metadata = {
        "settings": trainer.settings.record(),
        "scores": dict(result.scores),
        "general_scores": dict(result.general_scores),
        "general": {"name": general.weights.name, "sha256": general.weights.sha256},
        "best_step": trainer.best_step,
        "data": images.data,
        **_facts(result, trainer),
    }
    weights.save_network(network, result.path, metadata)


def write_card(result: TrainResult, trainer: Trainer, images: Images) -> None:
    """Write the description of the weights, in Markdown."""
    settings = trainer.settings
    means = ("mean", result.general_score, result.score)
    rows = [*((name, result.general_scores[name], score) for name, score in result.scores.items()), means]
    best = f"The weights are the running mean of step {trainer.best_step}, the best on the held-out images."
    text = _CARD.format(
        **_facts(result, trainer),
        preset="upscale" if result.task == "enlarge" else "denoise",
        images=len(result.images),
        pixels=megapixels(images.training),
        general=result.general,
        name=result.path.stem,
        batch=settings.batch,
        crop=settings.crop,
        held_out=", ".join(result.held_out) if len(images.names) > 1 else f"a quarter of {images.names[0]}",
        outcome=best if result.helped else "No step was better than the general weights, so these are in the file.",
        data=images.data,
        measure=_BLIND if result.noisy else _PSNR,
        rows="\n".join(
            f"| {name} | {before:.2f} | {after:.2f} | {after - before:+.2f} |" for name, before, after in rows
        ),
    )
    weights.write_bytes(result.files["card"], text.encode())


def write_picture(path: Path, general: General, network: PretrainedNetwork, dtype: torch.dtype) -> None:
    """Draw held-out crops: the input, the outputs of both networks, and the truth if it is known.

    It needs matplotlib, as `reporting.plots.can_plot` tests.
    """
    from matplotlib.figure import Figure

    from napari_siren.reporting.figures import save_figure

    validation = general.validation
    name = list(validation.inputs)[len(validation.inputs) // 2]
    device, count = validation.truth.device, min(_ROWS, len(validation.truth))
    chosen = torch.linspace(0, len(validation.truth) - 1, count).round().long()
    inputs = validation.inputs[name]
    columns: dict[str, Tensor] = {f"input, {name}": inputs if inputs.ndim == 3 else inputs[:, 0]}
    for title, one in (("general weights", general.weights.network), ("own weights", network)):
        columns[title] = validation.restored(copy.deepcopy(one).to(device), name, dtype)
    if not validation.noisy:
        columns["held-out image"] = validation.truth
    figure = Figure(figsize=(_INCHES * len(columns), _INCHES * count + 0.3))
    figure.set_layout_engine("constrained")
    panels = figure.subplots(count, len(columns), squeeze=False)
    for number, (row, crop) in enumerate(zip(panels, chosen.tolist(), strict=True)):
        # The same black and white in all columns: those of the clean output.
        clean = columns["general weights" if validation.noisy else "held-out image"][crop]
        low, high = (float(clean.quantile(q)) for q in (0.001, 0.999))
        for axes, (title, pictures) in zip(row, columns.items(), strict=True):
            axes.imshow(pictures[crop].cpu().numpy(), cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
            axes.set(xticks=[], yticks=[])
            if number == 0:
                axes.set_title(title, fontsize=9)
    save_figure(figure, path)


def _facts(result: TrainResult, trainer: Trainer) -> dict[str, Any]:
    plan = trainer.plan
    return {
        "minutes": result.seconds / 60,
        "steps": result.steps,
        "seed": plan.seed,
        "date": weights.today(),
        "device": weights.describe(plan.device),
        "torch": torch.__version__,
    }
