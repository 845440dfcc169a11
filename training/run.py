"""Train from the command line: `python -m training.run enlarge --data FOLDER --minutes M`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from training import export, judging, photographs, settings, storage
from training.trainer import CHECKPOINT, LOG, Plan, Trainer

_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; once more, without what makes a GPU fast, where that breaks something."""
    given = _parser().parse_args(arguments)
    # Others of this machine come first.
    os.nice(10)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    try:
        enlarge(given)
    except Exception as error:
        if given.plain or not given.device.startswith("cuda") or isinstance(error, OSError | ValueError):
            raise
        print(f"{type(error).__name__}: {error}\ngoing on without graphs and own kernels", flush=True)
        argv = [*(sys.argv[1:] if arguments is None else arguments), "--plain", "--resume"]
        os.execv(sys.executable, [sys.executable, "-m", "training.run", *argv])


def enlarge(given: argparse.Namespace) -> dict[str, Any]:
    """Train a network to enlarge, and write its weights; give what was found."""
    begin = time.monotonic()
    config, device = settings.read(given.config), torch.device(given.device)
    dtype = _DTYPES[given.dtype or ("bfloat16" if device.type == "cuda" else "float32")]
    given.out.mkdir(parents=True, exist_ok=True)
    if not given.resume:
        for name in (CHECKPOINT, LOG):
            (given.out / name).unlink(missing_ok=True)
    paths = photographs.find(given.data)
    images = dict(zip([path.name for path in paths], photographs.load_all(paths), strict=True))
    held_out = [images.pop(name) for name in config.held_out]
    plan = Plan(given.minutes, given.steps, device, dtype, given.seed, given.out, given.plain)
    trainer = Trainer(config, plan, list(images.values()), held_out)
    going_on = given.resume and trainer.resume()
    print(
        f"{len(images)} photographs, {trainer.photographs.megapixels:.0f} megapixels; "
        f"{sum(p.numel() for p in trainer.network.parameters())} parameters; {storage.describe(device)}; "
        f"ready after {time.monotonic() - begin:.0f} s{f', from step {trainer.step}' if going_on else ''}",
        flush=True,
    )
    print("bicubic on what is held out: " + str(trainer.validation.bicubic), flush=True)
    trainer.train()

    facts = {
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "photographs": len(images),
        "held_out": len(held_out),
        "megapixels": trainer.photographs.megapixels,
        "data": photographs.fingerprint(paths),
        "minutes": trainer.seconds / 60,
        "steps": trainer.step,
        "batch": config.batch,
        "crop": config.crop,
        "rate": trainer.step * config.batch / max(trainer.seconds, 1e-9),
        "how": trainer.lesson.how,
        "seed": given.seed,
        "date": export.today(),
        "device": storage.describe(device),
        "torch": torch.__version__,
    }
    record = {**facts, "settings": config.record(), "gains": trainer.gains}
    network = trainer.use_average()
    # Once before the figures, which may take a while.
    export.save(network, given.out, record)
    network = export.load(given.out / export.WEIGHTS).to(device)
    sets = {folder.name: judging.test(network, folder, device, torch.float32) for folder in given.test}
    if device.type == "cuda":
        sets |= {
            f"{folder.name}, bfloat16": judging.test(network, folder, device, torch.bfloat16)
            for folder in given.test[:1]
        }
    export.save(network, given.out, {**record, "sets": sets})
    lines = export.table(trainer.gains, sets)
    export.write_card(given.out, facts, lines)
    print("\n".join(line for line in lines if line and not line.startswith("|---")))
    print(
        f"{facts['steps']} steps, {facts['rate']:.0f} samples/s by {facts['how']}; {facts['minutes']:.2f} min of "
        f"training, {time.monotonic() - begin:.0f} s in all; {(given.out / export.WEIGHTS).stat().st_size / 1e6:.2f} MB"
    )
    if device.type == "cuda":
        print(f"{torch.cuda.max_memory_reserved(device) / 2**30:.1f} GiB of GPU memory")
    return {**facts, "gains": trainer.gains, "sets": sets}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.run", description=__doc__)
    parser.add_argument("what", choices=["enlarge"])
    parser.add_argument("--data", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--minutes", type=float, default=4.0, help="of training, beside loading and testing")
    parser.add_argument("--steps", type=int, help="so many steps instead")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=list(_DTYPES), help="bfloat16 on a GPU, float32 on a CPU")
    parser.add_argument("--out", type=Path, default=Path("out/training"), help="folder of what is written")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint there")
    parser.add_argument("--plain", action="store_true", help="without CUDA graphs and kernels of our own")
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("enlarge.toml"))
    parser.add_argument("--test", type=Path, action="append", default=[], help="a test set, in the end; repeatable")
    return parser


if __name__ == "__main__":
    main()
