"""Train from the command line: `python -m training.run NAME --data FOLDER --minutes M`, with a NAME.toml here."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any

import torch

from napari_siren.core.pretraining.pretrain import pretrain
from napari_siren.core.pretraining.settings import read_settings
from napari_siren.core.pretraining.trainer import Plan
from napari_siren.errors import SirenError

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_LOG = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. After an exception on a GPU, continue without CUDA graphs and kernels."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    if hasattr(os, "nice"):
        # Other programs on this machine have priority.
        os.nice(10)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    try:
        train(options)
    except SirenError as error:
        sys.exit(f"{error}")
    except Exception:
        if options.plain or not options.device.startswith("cuda"):
            raise
        _LOG.exception("the training continues without CUDA graphs and kernels")
        argv = [*(sys.argv[1:] if arguments is None else arguments), "--plain", "--resume"]
        os.execv(sys.executable, [sys.executable, "-m", "training.run", *argv])


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Train a network with the options of the command line, and return the metadata of its weights."""
    settings = read_settings(options.config or Path(__file__).with_name(f"{options.name}.toml"))
    device = torch.device(options.device)
    dtype = _DTYPES[options.dtype or ("bfloat16" if device.type == "cuda" else "float32")]
    plan = Plan(options.minutes, options.steps, device, dtype, options.seed, options.out, options.plain, options.name)
    return pretrain(settings, plan, options.data, options.test, resume=options.resume, until=options.until)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(prog="python -m training.run", description=__doc__)
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.toml"))
    result.add_argument("name", choices=names, help="name of the settings in this folder, and of the written files")
    result.add_argument("--data", type=Path, required=True, help="folder of photographs")
    result.add_argument("--minutes", type=float, default=4.0, help="length of the training, without loading and tests")
    result.add_argument("--steps", type=int, help="length of the training in steps, instead of minutes")
    result.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cuda or cpu")
    result.add_argument("--dtype", choices=list(_DTYPES), help="default: bfloat16 on a GPU, float32 on a CPU")
    result.add_argument("--out", type=Path, default=Path("out/training"), help="folder of the written files")
    result.add_argument("--seed", type=int, default=0, help="seed of the initialisation and of the crops")
    result.add_argument("--resume", action="store_true", help="continue from the checkpoint in the folder")
    result.add_argument("--plain", action="store_true", help="use neither CUDA graphs nor the kernels in Triton")
    result.add_argument("--until", type=float, help="time at which training ends in any case, seconds since 1970")
    result.add_argument("--config", type=Path, help="another file of settings")
    result.add_argument("--test", type=Path, action="append", default=[], help="folder of a test set; repeatable")
    return result


if __name__ == "__main__":
    main()
