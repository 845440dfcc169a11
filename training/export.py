"""The trained weights as a file of their own, and a card that says what they are."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import torch

from training import storage
from training.network import Enlarger, Shape

WEIGHTS, CARD = "enlarge.safetensors", "enlarge.md"

_CARD = """# Weights that enlarge images

A network that adds detail to images enlarged by bicubic interpolation, by any factor from 1.5 to 4; of luminance
(BT.601, 0 black to 1 white). `enlarge.safetensors`: {parameters} parameters in float16; configuration in its metadata.

- Data: {photographs} photographs, {megapixels:.0f} megapixels, {held_out} more held out; free licences, see the list
  beside them. Names and contents have the SHA-256 `{data}`.
- Made coarser as MATLAB's imresize does it (antialiased bicubic, 8 bits): images whose blur is another, or with noise
  or traces of compression, are not what it learned from, and it may sharpen these.
- Training: {minutes:.1f} minutes, {steps} steps of {batch} crops of {crop} x {crop}, {rate:.0f} crops a second, by
  {how}; seed {seed}; {date}; {device}; PyTorch {torch}.
- Detail is likely, not certain: it is what such photographs have had at such places, and measurements should not be
  made on it.

## Figures

PSNR of Y in 8 bits, in dB, without a border as wide as the factor; gains are over bicubic interpolation.

{figures}
"""


def save(network: Enlarger, folder: Path, facts: dict[str, Any]) -> None:
    """Write weights in float16, with facts."""
    tensors = {name: parameter.detach().half() for name, parameter in network.named_parameters()}
    storage.save_tensors(folder / WEIGHTS, tensors, {"network": network.shape.__dict__, **facts})


def load(path: Path) -> Enlarger:
    """Load a network that `save` wrote, in float32."""
    tensors, facts = storage.load_tensors(path)
    shape = Shape(**{k: tuple(v) if isinstance(v, list) else v for k, v in facts["network"].items()})
    network = Enlarger(shape, torch.Generator())
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return network


def table(gains: dict[str, float], sets: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Give the lines of a table: gains on photographs that were held out, and what was found on test sets."""
    lines = ["held-out photographs, gain: " + ", ".join(f"{k} {v:+.3f}" for k, v in gains.items())]
    for name, scales in sets.items():
        ways = list(next(iter(scales.values()), {}))
        lines += ["", f"| {name} | {' | '.join(ways)} |", f"|---{'|---:' * len(ways)}|"]
        lines += [f"| {scale} | {' | '.join(f'{row[way]:.2f}' for way in ways)} |" for scale, row in scales.items()]
    return lines


def write_card(folder: Path, facts: dict[str, Any], figures: list[str]) -> None:
    """Write the card."""
    storage.write(folder / CARD, _CARD.format(**facts, figures="\n".join(figures)).encode())


def today() -> str:
    """Give the date, in UTC."""
    return datetime.datetime.now(tz=datetime.UTC).date().isoformat()
