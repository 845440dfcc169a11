"""Noise2Void of CAREamics (Krull, Buchholz and Jug 2019, arXiv 1811.10980) in another Python.

A U-Net learns to predict single pixels from those around them, from the noisy image alone. CAREamics 0.3.5 wants
torchvision 0.26 or older, so it is not among the requirements of this project. `denoise` runs this file by a Python
with the package, as `PYTHON noise2void.py IMAGE RESULT SECONDS`. It then uses nothing else of the project.

All settings are CAREamics' defaults, 30 epochs among them. The patches and the batch have no default: the patches are
those of its examples, and the batch is small, for many steps an epoch. The data are loaded in the same process, so that
the seconds of the processor are complete.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

import numpy as np

# Side of a patch in pixels, and patches of a step.
PATCH, BATCH = 64, 8
SEED = 1


def usable(python: Path | None) -> bool:
    """Return True if a Python is given and has CAREamics."""
    search = "import importlib.util, sys; sys.exit(importlib.util.find_spec('careamics') is None)"
    return python is not None and subprocess.run([python, "-c", search], check=False).returncode == 0


def denoise(image: np.ndarray, python: Path, seconds: float | None = None) -> tuple[np.ndarray, dict[str, Any]]:
    """Denoise an image by a network, trained on this image alone.

    Parameters
    ----------
    image
        Image, (rows, columns).
    python
        A Python that has CAREamics.
    seconds
        Seconds of the processor after which the training stops, instead of a number of epochs. None is for CAREamics'
        default number.

    Returns
    -------
    tuple
        The result, in the units of the image; and "seconds" and "processor_seconds" of training and prediction,
        "epochs" begun, and "steps".
    """
    with tempfile.TemporaryDirectory() as folder:
        noisy, result = Path(folder) / "image.npy", Path(folder) / "result.npy"
        np.save(noisy, image.astype(np.float32))
        command = [python, __file__, noisy, result, str(seconds or np.inf)]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=folder).stdout
        denoised: np.ndarray = np.load(result)
    # CAREamics and Lightning print before it.
    figures: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return denoised, figures


def main(image: str, result: str, seconds: str) -> None:
    """Read an image, train, and write the result. The last printed line is JSON."""
    if importlib.util.find_spec("torchvision") is None:
        _do_without_torchvision()
    from careamics import CAREamist
    from careamics.config import create_advanced_n2v_config
    from lightning.pytorch import Callback

    class Clock(Callback):  # type: ignore[misc]
        """Count epochs and steps, and stop the training after its time."""

        def __init__(self) -> None:
            self.begin = time.process_time()
            self.counts = {"epochs": 0, "steps": 0}

        def on_train_batch_end(self, trainer: Any, *unused: Any) -> None:
            self.counts = {"epochs": trainer.current_epoch + 1, "steps": trainer.global_step}
            trainer.should_stop = time.process_time() - self.begin > float(seconds)

    values = np.load(image)
    begin, clock = time.perf_counter(), Clock()
    # Only one of time and epochs is limited.
    epochs = {} if float(seconds) == np.inf else {"num_epochs": sys.maxsize}
    config = create_advanced_n2v_config(
        "noise2void", "array", "YX", (PATCH, PATCH), batch_size=BATCH, num_workers=0, seed=SEED, **epochs
    )
    network = CAREamist(config, callbacks=[clock], work_dir=Path(result).parent, enable_progress_bar=False)
    network.train(train_data=values)
    predictions, _ = network.predict(values)
    used = {"seconds": time.perf_counter() - begin, "processor_seconds": time.process_time() - clock.begin}
    np.save(result, np.reshape(predictions[0], values.shape))
    print("\n" + json.dumps({**used, **clock.counts}))


def _do_without_torchvision() -> None:
    """Provide empty modules instead of torchvision.

    CAREamics imports it for other networks and for the export of models. Noise2Void does not use it.
    """
    # Imported later, torchmetrics would use the empty modules.
    import torchmetrics  # noqa: F401

    names = ["torchvision", "torchvision.transforms", "torchvision.transforms.functional"]
    modules = [types.ModuleType(name) for name in names]
    modules[0].__version__ = "0"  # type: ignore[attr-defined]
    modules[1].functional = modules[2]  # type: ignore[attr-defined]
    sys.modules.update(zip(names, modules, strict=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
