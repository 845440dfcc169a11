"""`train`: train the pretrained networks on one's own images."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from napari_siren.core.device import resolve_device
from napari_siren.core.engines import has_bfloat16
from napari_siren.core.pretraining.trainer import Plan, Trainer
from napari_siren.core.progress import share_done
from napari_siren.core.progress_bar import progress_bar
from napari_siren.core.steps import STOP
from napari_siren.core.storage.atomic import check_writable
from napari_siren.errors import ConfigError, InputError
from napari_siren.finetuning.images import Images, read_images
from napari_siren.finetuning.report import save_weights, write_card, write_picture
from napari_siren.finetuning.result import TrainProgress, TrainResult, mean_of
from napari_siren.finetuning.start import TASKS, General
from napari_siren.reporting.plots import can_plot, left_out

_LOG = logging.getLogger("napari_siren")

Task = Literal["enlarge", "denoise"]
_SUFFIX = ".safetensors"


def train(
    folder: str | Path,
    out: str | Path,
    *,
    task: Task = "enlarge",
    minutes: float = 20.0,
    noisy: bool | None = None,
    device: str = "auto",
    seed: int = 0,
    resume: bool = True,
    progress: bool = False,
    on_progress: Callable[[TrainProgress], object] | None = None,
) -> TrainResult:
    """Train a pretrained network on one's own images, starting from the weights of the package.

    Afterwards ``fit(image, preset="upscale", pretrained=out)``, or "denoise", uses the new weights. Some of the images
    are held out. The weights with the best score on these are kept. If none are better than those of the package, these
    are kept, and the result reports so.

    Parameters
    ----------
    folder
        Folder of images, with its subfolders. Each channel that is not a colour, each slice and each frame is an image.
        The images should be like those to restore later: of the same camera, magnification and kind of object.
    out
        File of the weights, .safetensors. A card (.md), a log (.jsonl) and a picture of the held-out images (.png) are
        written beside it. An interrupted training also leaves a .checkpoint.
    task
        What to learn: "enlarge" for the preset "upscale", or "denoise".
    minutes
        Length of the training in minutes, without reading the images.
    noisy
        For "denoise": whether the images are noisy. They are then denoised with the general weights first, and the
        network learns to remove such noise from the result. The noise must be independent from pixel to pixel. None
        decides it by an estimate of the noise. If most images are clean, the noisy ones are skipped.
    device
        Device: "auto", "cpu", "cuda", "cuda:1". "auto" is a CUDA GPU, or the CPU.
    seed
        Seed of the choice of the held-out images and of the training.
    resume
        Whether to continue an interrupted training with the same images and settings.
    progress
        Whether to show a progress bar, in a terminal or a notebook.
    on_progress
        Function to call with a `TrainProgress` during the training. If it returns ``"stop"``, the training ends and
        keeps the best weights so far.

    Returns
    -------
    TrainResult
        Scores of the new and of the general weights, and the files.

    Raises
    ------
    InputError
        The folder does not exist, or has no images that can be used.
    ConfigError
        A setting is wrong, or the interrupted training had other images or settings.
    DeviceError
        The device is not available.
    StorageError
        A file cannot be written.

    Examples
    --------
    >>> import numpy as np, napari_siren as ns
    >>> from pathlib import Path
    >>> Path("stripes").mkdir()
    >>> for angle in range(3):
    ...     y, x = np.indices((48, 48))
    ...     np.save(f"stripes/{angle}.npy", np.sin(x * np.cos(angle) + y * np.sin(angle)))
    >>> result = ns.train("stripes", "mine.safetensors", minutes=0.001)
    >>> result.gain >= 0
    True
    >>> sorted(path.name for path in result.files.values())
    ['mine.jsonl', 'mine.md', 'mine.png', 'mine.safetensors']
    """
    target = _check(Path(out), task, minutes, noisy)
    chosen = _device(device)
    dtype = torch.bfloat16 if has_bfloat16(chosen) else torch.float32
    with progress_bar("train", shown=progress) as bar:

        def report(state: TrainProgress) -> object:
            bar.show(share_done(state), state.phase)
            return None if on_progress is None else on_progress(state)

        report(TrainProgress("read"))
        images = read_images(Path(folder), seed, target.with_suffix(".png"), noisy if task == "denoise" else False)
        report(TrainProgress("prepare"))
        general = General.best(task, images.noisy, images.held_out, chosen, dtype)
        plan = Plan(minutes, None, chosen, dtype, seed, target.parent, name=target.stem)
        trainer = _trainer(plan, general, images, resume)
        # The training sets the state of PyTorch's generators.
        with torch.random.fork_rng(devices=[chosen] if chosen.type == "cuda" else []):
            stopped = _run(trainer, report)
    return _finish(trainer, general, images, target, stopped)


def _check(out: Path, task: str, minutes: float, noisy: bool | None) -> Path:
    """Return the path of the weights, if all arguments are possible."""
    if task not in TASKS:
        raise ConfigError(f"task={task!r} is unknown. Choose {' or '.join(map(repr, TASKS))}.")
    if not 0 < minutes < math.inf:
        raise ConfigError(f"minutes={minutes!r} should be a positive number. The default is 20.")
    if noisy and task != "denoise":
        raise ConfigError(f"noisy=True is for task='denoise', not for {task!r}. Leave it out.")
    if out.suffix != _SUFFIX:
        raise InputError(f"the weights cannot be written to {out}. Choose a name ending in {_SUFFIX}.")
    check_writable(out)
    return out


def _device(name: str) -> torch.device:
    """Return the device. The training was not tried on Apple's GPUs, so "auto" does not choose them."""
    device = resolve_device(name)
    return torch.device("cpu") if name == "auto" and device.type == "mps" else device


def _trainer(plan: Plan, general: General, images: Images, resume: bool) -> Trainer:
    if not (resume and plan.file("checkpoint").exists()):
        for suffix in ("checkpoint", "jsonl"):
            plan.file(suffix).unlink(missing_ok=True)
    settings = general.settings(images, plan.device.type == "cuda")
    arrays, noise = general.training_images(images.training, plan.device, plan.dtype)
    trainer = Trainer(settings, plan, arrays, start=general.start(images, plan.dtype), parameters=noise)
    trainer.resume()
    return trainer


def _run(trainer: Trainer, report: Callable[[TrainProgress], object]) -> bool:
    """Train to the end, and return whether the training was stopped before."""
    assert trainer.start is not None
    general = mean_of(trainer.start.scores)

    def show(trainer: Trainer) -> None:
        seconds = trainer.seconds
        left = max(0.0, 60 * trainer.plan.minutes - seconds)
        if report(TrainProgress("train", trainer.step, seconds, left, mean_of(trainer.best_scores), general)) == STOP:
            trainer.stop()

    show(trainer)
    trainer.train(show)
    return trainer.done < 1


def _finish(trainer: Trainer, general: General, images: Images, target: Path, stopped: bool) -> TrainResult:
    """Write the files, and return the result."""
    plan, network = trainer.plan, trainer.result()
    picture = {"picture": plan.file("png")} if can_plot() else {}
    result = TrainResult(
        target,
        next(task for task, kinds in TASKS.items() if general.weights.kind in kinds),
        general.weights.name,
        general.validation.noisy,
        trainer.best_scores,
        general.scores,
        tuple(name for name in images.names if name not in images.held_out_names or len(images.names) == 1),
        images.held_out_names,
        images.skipped,
        trainer.step,
        trainer.seconds,
        stopped,
        {"weights": target, "card": plan.file("md"), "log": plan.file("jsonl"), **picture},
    )
    save_weights(result, network, trainer, general, images)
    write_card(result, trainer, images)
    if picture:
        write_picture(picture["picture"], general, network, plan.dtype)
    else:
        _LOG.warning("%s", left_out("the picture of the held-out images was"))
    if not stopped:
        plan.file("checkpoint").unlink(missing_ok=True)
    return result
