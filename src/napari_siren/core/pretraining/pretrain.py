"""`pretrain`: train a network on a folder of photographs, and write its weights, a card and a log."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from napari_siren.core.pretrained_network import weights
from napari_siren.core.pretraining import evaluation, photographs
from napari_siren.core.pretraining.settings import Settings
from napari_siren.core.pretraining.trainer import Plan, Trainer
from napari_siren.core.storage.atomic import prepare_folder
from napari_siren.errors import InputError

_LOG = logging.getLogger(__name__)


def pretrain(
    settings: Settings,
    plan: Plan,
    folder: Path,
    tests: Sequence[Path] = (),
    *,
    resume: bool = False,
    until: float | None = None,
) -> dict[str, Any]:
    """Train a network on a folder of photographs.

    The weights (safetensors), their card (md), the log (jsonl) and the checkpoint are written to the folder of the
    plan, the weights also after each validation.

    Parameters
    ----------
    settings, plan
        Settings, length and device of the training.
    folder
        Folder of photographs, which includes those held out.
    tests
        Folders of test sets, for the table in the card. The training does not depend on them.
    resume
        Whether to continue from the checkpoint, if there is one.
    until
        Time at which the training ends in any case, in seconds since 1970.

    Returns
    -------
    dict
        Metadata of the weights: number of parameters, photographs, length, settings, scores and figures on test sets.

    Raises
    ------
    InputError
        The folder has no photographs, too few or too small ones, or lacks one of those held out.
    ConfigError
        The checkpoint is from a training with other settings.
    StorageError
        A file cannot be written, or the checkpoint cannot be read.
    """
    begin = time.monotonic()
    prepare_folder(plan.out)
    if not resume:
        for suffix in ("checkpoint", "jsonl"):
            plan.file(suffix).unlink(missing_ok=True)
    paths = photographs.find_images(folder)
    images = dict(zip([path.name for path in paths], photographs.load_images(paths), strict=True))
    absent = [name for name in settings.held_out if name not in images]
    if absent:
        raise InputError(
            f"the folder {folder} lacks the held-out photographs {', '.join(absent)}. Name others in held_out."
        )
    held_out = [images.pop(name) for name in settings.held_out]
    data = {"photographs": len(images), "held_out": len(held_out), "data": photographs.fingerprint(paths)}
    trainer = Trainer(settings, plan, list(images.values()), held_out, lambda one: _save(one, data))
    resumed = resume and trainer.resume()
    if until is not None:
        remaining = max(0.0, until - time.time()) + trainer.seconds
        trainer.plan = replace(plan, minutes=max(0.01, min(plan.minutes, remaining / 60)))
    _LOG.info(
        "%s: %d photographs, %.0f megapixels; %d parameters; %s; ready after %.0f s%s",
        plan.name,
        len(images),
        trainer.photographs.megapixels,
        sum(p.numel() for p in trainer.network.parameters()),
        weights.describe(plan.device),
        time.monotonic() - begin,
        f", from step {trainer.step}" if resumed else "",
    )
    before = ", ".join(f"{case} {figure:.2f} dB" for case, figure in trainer.validation.before.items())
    _LOG.info("held-out photographs before restoration: %s", before)
    trainer.train()

    metadata = _save(trainer, data)
    sets = _test(plan, settings, tests)
    network = weights.load_network(plan.file("safetensors"))
    weights.save_network(network, plan.file("safetensors"), {**metadata, "sets": sets})
    lines = weights.table(settings.kind, metadata["scores"], sets)
    weights.write_card(plan.file("md"), settings.kind, metadata, lines)
    _LOG.info("%s", "\n".join(line for line in lines if line and not line.startswith("|---")))
    _LOG.info(
        "%d steps, %.0f samples/s by %s; %.2f min of training, %.0f s in all; %.2f MB",
        metadata["steps"],
        metadata["rate"],
        metadata["how"],
        metadata["minutes"],
        time.monotonic() - begin,
        plan.file("safetensors").stat().st_size / 1e6,
    )
    if plan.device.type == "cuda":
        _LOG.info("%.1f GiB of GPU memory", torch.cuda.max_memory_reserved(plan.device) / 2**30)
    return {**metadata, "sets": sets}


def _save(trainer: Trainer, data: dict[str, Any]) -> dict[str, Any]:
    """Write the current weights, and a card without figures on test sets; return the metadata."""
    plan, settings = trainer.plan, trainer.settings
    network = trainer.result()
    metadata = {
        "parameters": sum(p.numel() for p in network.parameters()),
        **data,
        "megapixels": trainer.photographs.megapixels,
        "minutes": trainer.seconds / 60,
        "steps": trainer.step,
        "best_step": trainer.best_step,
        "batch": settings.batch,
        "crop": settings.crop,
        "rate": trainer.step * settings.batch / max(trainer.seconds, 1e-9),
        "how": trainer.stepper.how,
        "seed": plan.seed,
        "date": weights.today(),
        "device": weights.describe(plan.device),
        "torch": torch.__version__,
        "settings": settings.record(),
        "scores": trainer.best_scores if trainer.best_step else trainer.scores,
    }
    weights.save_network(network, plan.file("safetensors"), metadata)
    weights.write_card(plan.file("md"), settings.kind, metadata, weights.table(settings.kind, metadata["scores"], {}))
    return metadata


def _test(plan: Plan, settings: Settings, folders: Sequence[Path]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the figures on test sets. A failure is only logged, since the weights are more important."""
    network = weights.load_network(plan.file("safetensors")).to(plan.device)
    tests = [(folder.name, folder, torch.float32) for folder in folders]
    if plan.device.type == "cuda":
        tests += [(f"{folder.name}, bfloat16", folder, torch.bfloat16) for folder in folders[:1]]
    sets = {}
    for name, folder, dtype in tests:
        try:
            sets[name] = evaluation.evaluate(network, settings.kind, folder, plan.device, dtype)
        except Exception as error:  # A missing folder, an unsuitable image, a device without memory.
            _LOG.warning("%s: fails (%s: %.300s)", name, type(error).__name__, error)
    return sets
